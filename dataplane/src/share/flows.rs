//! Flows of which packets wait at ends of shares.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use weir_state_transfer::share::Slot;
use weir_state_transfer::{FlowKey, ShareId};

/// Where packets of a flow wait, by [`FlowKey::both_ways`]: at one end, in one slot.
#[derive(Debug, Default)]
pub(super) struct WaitingFlows(HashMap<FlowKey, Place, RandomState>);

#[derive(Debug)]
struct Place {
    share: ShareId,
    slot: Slot,
    packets: usize,
}

impl WaitingFlows {
    pub(super) fn find(&self, flow: &FlowKey) -> Option<(ShareId, Slot)> {
        self.0.get(flow).map(|place| (place.share, place.slot))
    }

    pub(super) fn add(&mut self, flow: FlowKey, share: ShareId, slot: Slot) {
        self.0.entry(flow).or_insert(Place { share, slot, packets: 0 }).packets += 1;
    }

    pub(super) fn remove(&mut self, flow: &FlowKey) {
        if let Some(place) = self.0.get_mut(flow) {
            place.packets -= 1;
            if place.packets == 0 {
                self.0.remove(flow);
            }
        }
    }

    pub(super) fn forget(&mut self, share: ShareId) {
        self.0.retain(|_, place| place.share != share);
    }
}
