//! A steering rule: some flows of some buckets go to an instance.

use arrayvec::ArrayVec;
use weir_state_transfer::{BucketSet, Filter, FlowKey, InstanceId};

use super::SteeringError;

/// Most filters that a rule combines.
pub const FILTERS_MAX: usize = 4;

/// Sends the flows of its buckets that match all of its filters to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    filters: ArrayVec<Filter, FILTERS_MAX>,
    buckets: BucketSet,
    to: InstanceId,
}

impl Rule {
    /// The rule for the flows of one filter.
    pub(super) fn new(filter: Filter, buckets: BucketSet, to: InstanceId) -> Self {
        Self { filters: std::iter::once(filter).collect(), buckets, to }
    }

    /// The part of this rule that one more filter leaves, with another instance; none if that
    /// matches no flow.
    pub(super) fn narrowed(
        &self,
        filter: Filter,
        to: InstanceId,
    ) -> Result<Option<Self>, SteeringError> {
        if self.filters.iter().any(|own| !own.overlaps(&filter)) {
            return Ok(None);
        }
        let mut narrowed = Self { to, ..self.clone() };
        if !self.filters.iter().any(|own| filter.covers(own)) {
            narrowed.filters.retain(|own| !own.covers(&filter));
            narrowed.filters.try_push(filter).map_err(|_| SteeringError::TooManyFilters)?;
        }
        Ok(Some(narrowed))
    }

    /// The same rule for other buckets, with another instance.
    pub(super) fn with(&self, buckets: BucketSet, to: InstanceId) -> Self {
        Self { filters: self.filters.clone(), buckets, to }
    }

    pub(super) fn buckets_mut(&mut self) -> &mut BucketSet {
        &mut self.buckets
    }

    /// Its filters, all of which a flow has to match.
    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Its buckets, never none.
    pub fn buckets(&self) -> &BucketSet {
        &self.buckets
    }

    /// The instance that its flows go to.
    pub fn to(&self) -> InstanceId {
        self.to
    }

    /// Whether a flow of one of its buckets matches.
    #[inline]
    pub(super) fn matches(&self, key: &FlowKey) -> bool {
        self.filters.iter().all(|filter| filter.matches(key))
    }

    /// Whether all flows that the other's filters match, these match too; false may mean unknown.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.filters.iter().all(|own| other.filters.iter().any(|theirs| own.covers(theirs)))
    }

    /// Whether no flow matches the filters of both; false may mean unknown.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        self.filters.iter().any(|own| other.filters.iter().any(|theirs| !own.overlaps(theirs)))
    }
}
