//! One end of a move, as it travels: made by the node, at work on a worker, and handed back.

use std::sync::Arc;

use hdrhistogram::Histogram;
use weir_state_transfer::{InstanceId, MoveId, Nanos};

use super::destination::DestinationEnd;
use super::source::SourceEnd;
use super::{Budget, Context};
use crate::nf::LeftBehind;
use crate::worker::MoveSpec;

/// One end of a move with all the memory that it needs, so that a worker neither allocates nor
/// frees it.
#[derive(Debug)]
pub struct MoveEnd(pub(super) End);

#[derive(Debug)]
pub(super) enum End {
    Source(Box<SourceEnd>),
    Destination(Box<DestinationEnd>),
}

/// How a move has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination has everything.
    Done,
    /// The source has everything back.
    Undone,
}

/// What one end of a move has counted.
#[derive(Debug, Default)]
pub(crate) struct HoldReport {
    /// Flows that arrived.
    pub(crate) flows: u64,
    /// Buckets that arrived.
    pub(crate) buckets: u64,
    /// Packets that were held at the destination.
    pub(crate) held: u64,
    /// The most at one time.
    pub(crate) held_max: u64,
    /// Packets lost because the hold was at its quota.
    pub(crate) full: u64,
    /// Packets lost because the state of their flow was on its way.
    pub(crate) in_transit: u64,
    /// Pieces of state of several flows that arrived.
    pub(crate) multi_flow: u64,
    /// Those that did not, and are at the source again.
    pub(crate) multi_flow_refused: u64,
    /// Those that are lost: the source had no room for them either, or a function has panicked.
    pub(crate) multi_flow_lost: u64,
    /// Panics of functions at what the move takes along. It goes on without that.
    pub(crate) panics: u64,
    /// State of several flows that has not gone along.
    pub(crate) left_behind: LeftBehind,
    /// Times that packets were held until they were released, in nanoseconds.
    pub(crate) hold_ns: Option<Histogram<u32>>,
}

impl MoveEnd {
    /// The source's end of a move.
    pub(crate) fn source(spec: Arc<MoveSpec>) -> Self {
        Self(End::Source(Box::new(SourceEnd::new(spec))))
    }

    /// The destination's end of a move.
    pub(crate) fn destination(spec: Arc<MoveSpec>) -> Self {
        Self(End::Destination(Box::new(DestinationEnd::new(spec))))
    }

    /// Whether it is the source or the destination that an instance is.
    pub(super) fn is_of(&self, instance: InstanceId) -> bool {
        match &self.0 {
            End::Source(end) => end.spec().from == instance,
            End::Destination(end) => end.spec().to == instance,
        }
    }

    /// Which move it is an end of.
    pub(crate) fn id(&self) -> MoveId {
        match &self.0 {
            End::Source(end) => end.id(),
            End::Destination(end) => end.id(),
        }
    }

    /// How the move has ended here; none while it goes on, and of one that was forgotten.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.0 {
            End::Source(end) => end.outcome(),
            End::Destination(end) => end.outcome(),
        }
    }

    /// Whether this end is over behind the other, so that the node has both when it has this one.
    pub(super) fn ends_last(&self) -> bool {
        match (&self.0, self.outcome()) {
            // It has sent END, which the destination has yet to take; unless it waits for an answer.
            (End::Source(end), Some(Outcome::Done)) => end.spec().multi_flow.is_some(),
            (End::Source(_), _) => true,
            // It has sent everything back, which the source has yet to take.
            (End::Destination(_), outcome) => outcome != Some(Outcome::Undone),
        }
    }

    /// What it has counted; the rest is freed.
    pub(crate) fn into_report(self) -> HoldReport {
        match self.0 {
            End::Source(end) => end.into_report(),
            End::Destination(end) => end.into_report(),
        }
    }

    /// Packets that wait here.
    pub(super) fn held(&self) -> usize {
        match &self.0 {
            End::Source(end) => end.kept(),
            End::Destination(end) => end.held(),
        }
    }

    /// Carries the end on within what is left of the round's budget; whether there is more to do
    /// at once.
    pub(super) fn step(
        &mut self,
        now: Nanos,
        budget: &mut Budget,
        context: &mut Context<'_>,
    ) -> bool {
        match &mut self.0 {
            End::Source(end) => end.step(budget, context),
            End::Destination(end) => end.step(now, budget, context),
        }
    }
}
