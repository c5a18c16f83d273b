//! Moving state of several flows: it goes first, and what is refused comes back.

use super::{Budget, HoldReport};
use crate::instance::Instance;
use crate::nf::{MultiFlow, MultiFlowCursor};
use crate::worker::{Forwarder, Item, Message, MoveSpec};

/// Pieces that go in one message.
const PIECES: usize = 16;
/// Pieces that a function looks at to find these, at most.
const LOOKED_AT: usize = 256;

/// How far the export of state of several flows has come.
#[derive(Debug, Default)]
pub(super) struct MultiFlowExport {
    cursor: MultiFlowCursor,
    sent_all: bool,
}

impl MultiFlowExport {
    /// Sends the next pieces, as far as there is room; whether there are more.
    pub(super) fn export(
        &mut self,
        spec: &MoveSpec,
        budget: &mut Budget,
        instance: &mut Instance,
        forwarder: &mut Forwarder,
        report: &mut HoldReport,
    ) -> bool {
        let Some(filter) = spec.multi_flow.as_ref().filter(|_| !self.sent_all) else {
            return false;
        };
        while budget.pieces > 0 && budget.looks > 0 && forwarder.rings.to(spec.to_worker).has_room()
        {
            budget.looked_at(LOOKED_AT);
            let (max, left) = (budget.pieces.min(PIECES), &mut report.left_behind);
            forwarder.fault_of_state(instance);
            let taken =
                instance.chain.take_multi_flow(&mut self.cursor, filter, max, forwarder.now, left);
            report.panics += forwarder.note_caught(instance);
            // Whoever is being taken over changes it too.
            instance.flows.change();
            let Some((state, lost)) = taken else {
                self.sent_all = true;
                return false;
            };
            report.multi_flow_lost += lost;
            if !state.pieces.is_empty() {
                budget.pieces -= state.pieces.len();
                let message = Message::MultiFlow(state);
                forwarder.hand_out(spec.to_worker, Item::Move(spec.id, message));
            }
        }
        true
    }
}

/// Joins what the other end has sent with what an instance knows. What there is no room for comes
/// back, with how many pieces are lost: those at which a function has panicked, which is noted.
pub(super) fn join(
    state: MultiFlow,
    instance: &mut Instance,
    forwarder: &mut Forwarder,
    report: &mut HoldReport,
) -> (MultiFlow, u64) {
    instance.flows.change();
    forwarder.fault_of_state(instance);
    let joined = instance.chain.join_multi_flow(state, forwarder.now);
    report.panics += forwarder.note_caught(instance);
    joined
}

/// Puts what the destination has no room for back; what there is no room for here either is lost.
pub(super) fn take_back(
    refused: MultiFlow,
    instance: Option<&mut Instance>,
    forwarder: &mut Forwarder,
    report: &mut HoldReport,
) {
    report.multi_flow_refused += refused.pieces.len() as u64;
    let (left, lost) = match instance {
        Some(instance) => join(refused, instance, forwarder, report),
        None => (refused, 0),
    };
    report.multi_flow_lost += left.pieces.len() as u64 + lost;
}
