//! The sources that a function knows, by the slots of a share.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use weir_state_transfer::ShareId;
use weir_state_transfer::share::{Slot, SlotSet};

use super::Sharing;
use crate::nf::firewall::Origin;

/// Which of the sources that a function knows are in which slot.
///
/// They have the numbers of [`Numbered`](crate::nf::numbered::Numbered), so that a slot can be
/// walked in pieces while sources come and go.
#[derive(Clone, Debug)]
pub(in crate::nf) struct Groups {
    sharing: Arc<Sharing>,
    slots: Box<[BTreeMap<u64, Origin>]>,
    occupied: SlotSet,
    /// The number of the source behind which the first look at them goes on; none when it is over.
    hand: Option<u64>,
}

impl Groups {
    pub(in crate::nf) fn new(sharing: &Arc<Sharing>) -> Self {
        let slots = (0..sharing.slots.max(1)).map(|_| BTreeMap::new()).collect();
        Self { sharing: sharing.clone(), slots, occupied: SlotSet::default(), hand: Some(0) }
    }

    pub(in crate::nf) fn share(&self) -> ShareId {
        self.sharing.id
    }

    /// Whether a source is shared.
    pub(in crate::nf) fn has(&self, origin: &Origin) -> bool {
        self.sharing.has(origin)
    }

    /// A source is known, by this number.
    pub(in crate::nf) fn add(&mut self, number: u64, origin: Origin) {
        if self.sharing.has(&origin) {
            let slot = self.sharing.slot(&origin);
            self.slots[usize::from(slot.0)].insert(number, origin);
            self.occupied.insert(slot);
        }
    }

    /// A source is not known any more.
    pub(in crate::nf) fn remove(&mut self, number: u64, origin: &Origin) {
        if self.sharing.has(origin) {
            let slot = self.sharing.slot(origin);
            let sources = &mut self.slots[usize::from(slot.0)];
            sources.remove(&number);
            if sources.is_empty() {
                self.occupied.remove(slot);
            }
        }
    }

    /// Where the first look at what was known before the share goes on, until it is over.
    pub(in crate::nf) fn hand(&self) -> Option<u64> {
        self.hand
    }

    pub(in crate::nf) fn set_hand(&mut self, hand: Option<u64>) {
        self.hand = hand;
    }

    /// Slots in which sources are.
    pub(in crate::nf) fn occupied(&self) -> &SlotSet {
        &self.occupied
    }

    /// The sources of a slot whose numbers are behind one.
    pub(in crate::nf) fn after(
        &self,
        slot: Slot,
        number: u64,
    ) -> impl Iterator<Item = (u64, Origin)> + '_ {
        let sources = self.slots.get(usize::from(slot.0)).into_iter();
        let behind = (Bound::Excluded(number), Bound::Unbounded);
        sources.flat_map(move |of| of.range(behind).map(|(number, origin)| (*number, *origin)))
    }
}
