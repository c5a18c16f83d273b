//! What functions are told of flows that come to be kept, and that are lost: who counts what there is
//! of something does so by that.

use super::Chain;
use crate::nf::function::FlowState;

impl Chain {
    /// What functions know of a flow is kept from here on, and was not. What comes with a move is not
    /// told.
    pub(crate) fn kept(&mut self, states: &[FlowState]) {
        self.functions.iter_mut().zip(states).for_each(|(function, state)| function.kept(state));
    }

    /// What the NAT knows of a flow is kept from here on, and was not; others knew the flow.
    pub(crate) fn kept_by_nat(&mut self, states: &[FlowState]) {
        if let Some((nat, state)) = self.functions.last_mut().zip(states.last()) {
            nat.kept(state);
        }
    }

    /// What functions knew of a flow is not kept any more, and did not end.
    pub(crate) fn lost(&mut self, states: &[FlowState]) {
        self.functions.iter_mut().zip(states).for_each(|(function, state)| function.lost(state));
    }

    /// What one function knows of a flow was put in the place of what it knew.
    pub(crate) fn replaced(&mut self, function: usize, before: &FlowState, now: &FlowState) {
        if let Some(function) = self.functions.get_mut(function) {
            function.lost(before);
            function.kept(now);
        }
    }
}
