//! What a move is asked to do.

use super::{Guarantee, Refused};
use crate::chunk::Scope;
use crate::filter::{Filter, Selection};
use crate::id::InstanceId;

/// A request to change the owner of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The source: the instance that owns the flows.
    pub from: InstanceId,
    /// The destination.
    pub to: InstanceId,
    /// Which flows.
    pub selection: Selection,
    /// What is promised of their packets.
    pub guarantee: Guarantee,
    /// Whether the flows go, with the state of each. If not, they stay with their owner, and
    /// nothing but the state of several flows goes.
    pub per_flow: bool,
    /// The state of several flows that goes along, and is at the destination before any flow is:
    /// what this filter names as a whole.
    pub multi_flow: Option<Filter>,
}

impl Request {
    /// A request that keeps the order of packets and takes the state of single flows along.
    pub fn new(from: InstanceId, to: InstanceId, selection: Selection) -> Self {
        let guarantee = Guarantee::default();
        Self { from, to, selection, guarantee, per_flow: true, multi_flow: None }
    }

    /// The same request for state of these scopes; of none, it stays as it is.
    ///
    /// # Errors
    /// When state of all flows is among it, or that of several and buckets are selected, which name
    /// no such state.
    pub fn scoped(mut self, scopes: &[Scope]) -> Result<Self, Refused> {
        if scopes.is_empty() {
            return Ok(self);
        }
        if scopes.contains(&Scope::AllFlows) {
            return Err(Refused::AllFlows);
        }
        self.per_flow = scopes.contains(&Scope::PerFlow);
        self.multi_flow = match (&self.selection, scopes.contains(&Scope::MultiFlow)) {
            (_, false) => None,
            (Selection::Filter(filter), true) => Some(*filter),
            (Selection::Buckets(_), true) => return Err(Refused::BucketsMultiFlow),
        };
        Ok(self)
    }

    /// The scopes of the state that goes, in their order.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
        let per_flow = self.per_flow.then_some(Scope::PerFlow);
        per_flow.into_iter().chain(self.multi_flow.is_some().then_some(Scope::MultiFlow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::BucketSet;

    fn request(selection: Selection) -> Request {
        Request::new(InstanceId(1), InstanceId(2), selection)
    }

    #[test]
    fn state_of_several_flows_goes_by_filter_and_that_of_all_never() {
        let filter: Filter = "src=10.0.0.0/8".parse().unwrap();
        let by_filter = request(Selection::Filter(filter));
        let scopes = |request: Request| request.scopes().collect::<Vec<_>>();
        assert_eq!(scopes(by_filter.clone().scoped(&[]).unwrap()), [Scope::PerFlow]);
        let only = by_filter.clone().scoped(&[Scope::MultiFlow]).unwrap();
        assert_eq!((only.per_flow, only.multi_flow.as_ref()), (false, Some(&filter)));
        let both = [Scope::PerFlow, Scope::MultiFlow];
        assert_eq!(scopes(by_filter.clone().scoped(&[both[1], both[0]]).unwrap()), both);
        assert_eq!(by_filter.scoped(&Scope::ALL), Err(Refused::AllFlows));
        let by_bucket = request(Selection::Buckets(BucketSet::all()));
        assert_eq!(scopes(by_bucket.clone().scoped(&[Scope::PerFlow]).unwrap()), [Scope::PerFlow]);
        assert_eq!(by_bucket.scoped(&both), Err(Refused::BucketsMultiFlow));
    }
}
