//! The source's part in moving state of several flows: it goes first, and what is refused comes
//! back.

use weir_state_transfer::Nanos;

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
            let taken =
                instance.chain.take_multi_flow(&mut self.cursor, filter, max, forwarder.now, left);
            // Whoever is being taken over changes it too.
            instance.flows.change();
            let Some(state) = taken else {
                self.sent_all = true;
                return false;
            };
            if !state.pieces.is_empty() {
                budget.pieces -= state.pieces.len();
                let message = Message::MultiFlow(state);
                forwarder.hand_out(spec.to_worker, Item::Move(spec.id, message));
            }
        }
        true
    }
}

/// Puts what the destination has no room for back; what there is no room for here either is lost.
pub(super) fn take_back(
    refused: MultiFlow,
    instance: Option<&mut Instance>,
    now: Nanos,
    report: &mut HoldReport,
) {
    report.multi_flow_refused += refused.pieces.len() as u64;
    let lost = match instance {
        Some(instance) => {
            instance.flows.change();
            instance.chain.join_multi_flow(refused, now)
        }
        None => refused,
    };
    report.multi_flow_lost += lost.pieces.len() as u64;
}
