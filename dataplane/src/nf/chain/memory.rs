//! What functions keep of the streams of flows: how much that is, and what becomes of it when it is
//! more than an instance may keep.

use super::{Chain, FlowState, FunctionConfig};
use crate::nf::{assets, ids};

impl FunctionConfig {
    /// Bytes that what the function knows of a flow takes at most, beside what it keeps of streams.
    pub(crate) fn bytes_of_flow(&self) -> usize {
        size_of::<FlowState>()
            + match self {
                Self::Firewall(_) | Self::Nat(_) => 0,
                Self::Ids(_) => ids::CONNECTION_BYTES,
                Self::Assets(_) => assets::CONNECTION_BYTES,
            }
    }

    /// Bytes that the function of one instance keeps of streams at most.
    pub(crate) fn memory_max(&self) -> usize {
        match self {
            Self::Firewall(_) | Self::Assets(_) | Self::Nat(_) => 0,
            Self::Ids(config) => config.memory_max,
        }
    }
}

impl FlowState {
    /// Bytes that are kept of the streams of the flow, beside what is kept of any flow.
    pub(crate) fn kept(&self) -> usize {
        match self {
            Self::Firewall(_) | Self::Assets(_) | Self::Nat(_) => 0,
            Self::Ids(connection) => connection.as_ref().map_or(0, |known| known.kept()),
        }
    }
}

impl Chain {
    /// Looks whether there is memory for what functions keep of a flow since they have seen a packet
    /// of it: before it was `before`, and of all other flows it is `others`. Where it has grown and
    /// is too much in all, it is given up.
    pub(crate) fn fit(&mut self, states: &mut [FlowState], before: usize, others: usize) {
        let kept = kept(states);
        if kept > before && self.excess(others + kept) > 0 {
            self.give_up(states);
        }
    }

    /// By how many bytes what is kept of all flows is more than it may be.
    pub(crate) fn excess(&self, kept: usize) -> usize {
        self.functions.iter().map(|function| function.excess(kept)).max().unwrap_or(0)
    }

    /// Gives up what functions keep of the streams of a flow; they go on without.
    pub(crate) fn give_up(&mut self, states: &mut [FlowState]) {
        for (function, state) in self.functions.iter_mut().zip(states) {
            function.give_up(state);
        }
    }
}

/// Bytes that are kept of the streams of a flow.
pub(crate) fn kept(states: &[FlowState]) -> usize {
    states.iter().map(FlowState::kept).sum()
}
