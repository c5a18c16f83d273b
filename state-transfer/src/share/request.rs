//! Requests for shares, and what they are refused for.

use super::limits::Limits;
use super::view::View;
use crate::chunk::Scope;
use crate::filter::Selection;
use crate::id::{InstanceId, MoveId, ShareId};
use crate::mark;
use crate::state_filter::StateFilter;

/// Instances of a share at most: as many as a node may have.
pub const MEMBERS_MAX: usize = 250;

/// A request that instances share state (OpenNF, section 5.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The instances.
    pub members: Vec<InstanceId>,
    /// The packets whose processing acts on the shared state.
    pub filter: StateFilter,
    /// Which state: multi-flow, all-flows, or both.
    pub scopes: Vec<Scope>,
    /// The order of operations.
    pub mode: Mode,
    /// The bounds.
    pub limits: Limits,
    /// The secret by which groups are divided into slots, and these among homes: drawn at random.
    pub key: u64,
}

/// The order in which operations on shared state are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// One order for all instances, that keeps the order in which packets come to each.
    Strong,
    /// The order in which each steerer received the packets.
    Strict,
}

/// What else goes on at a node.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Moves that have not ended.
    pub moves: &'a mark::Coordinator,
    /// Instances that are being removed.
    pub removing: &'a [InstanceId],
}

/// There is no such share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no share {0}")]
pub struct Unknown(pub ShareId);

/// Why a share is not begun, or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is nobody to share with.
    #[error("a share is of two instances at least")]
    TooFew,
    /// There are more instances than a node has.
    #[error("a share is of {MEMBERS_MAX} instances at most")]
    TooManyMembers,
    /// An instance is named twice.
    #[error("instance {0} is named twice")]
    Twice(InstanceId),
    /// There is nothing to share: the state of one flow is its owner's.
    #[error("multi-flow state, all-flows state or both are shared, and nothing else")]
    Scope,
    /// No packet matches the filter.
    #[error("no packet matches the filter")]
    Filter,
    /// The bound on shares is reached.
    #[error("{0} shares are in progress, which is the bound")]
    TooMany(usize),
    /// It overlaps a share at one of its instances.
    #[error("share {0} is of the same flows, at an instance of this one")]
    Share(ShareId),
    /// It is of flows that are being moved from or to one of its instances.
    #[error("move {0} is in progress and concerns the same flows")]
    Move(MoveId),
    /// One of its instances is being removed.
    #[error("instance {0} is being removed")]
    Removing(InstanceId),
    /// The share is starting, changing or ending.
    #[error("share {0} is being changed")]
    Changing(ShareId),
    /// There is no such share.
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

impl Request {
    /// Whether it makes sense by itself.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let mut members = self.members.clone();
        members.sort_unstable();
        let twice = members.windows(2).find(|pair| pair[0] == pair[1]);
        match (self.members.len(), twice) {
            (0 | 1, _) => return Err(Refused::TooFew),
            (_, Some(pair)) => return Err(Refused::Twice(pair[0])),
            (count, None) if count > MEMBERS_MAX => return Err(Refused::TooManyMembers),
            (_, None) => {}
        }
        if self.scopes.is_empty() || self.scopes.contains(&Scope::PerFlow) {
            return Err(Refused::Scope);
        }
        self.filter.flows.check().map_err(|_| Refused::Filter)
    }

    /// Whether a flow may be in both, if they are at one instance.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let mut flows = other.filter.flows.of_hosts().into_iter().map(Selection::Filter);
        flows.any(|flows| self.has_flows_of(&flows))
            && self.scopes.iter().any(|scope| other.scopes.contains(scope))
    }

    /// Whether flows that a move selects may be in the share. These are all of the hosts that its
    /// filter names.
    pub(super) fn has_flows_of(&self, selection: &Selection) -> bool {
        selection.meets_hosts_of(&self.filter.flows)
    }

    /// A view of the share.
    pub(super) fn view(&self, number: u64, members: &[InstanceId], leaving: &[InstanceId]) -> View {
        View::new(number, members, leaving, (self.limits.in_bounds().slots, self.key))
    }
}

impl Surroundings<'_> {
    /// Whether nothing else is in the way of a share at these instances.
    pub(super) fn allow(&self, request: &Request, at: &[InstanceId]) -> Result<(), Refused> {
        if let Some(removed) = at.iter().find(|member| self.removing.contains(member)) {
            return Err(Refused::Removing(*removed));
        }
        let in_the_way = self.moves.moves().find(|(_, moving)| {
            let ends = [moving.request.from, moving.request.to];
            ends.iter().any(|end| at.contains(end))
                && request.has_flows_of(&moving.request.selection)
        });
        in_the_way.map_or(Ok(()), |(id, _)| Err(Refused::Move(id)))
    }
}
