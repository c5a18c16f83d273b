//! How far an instance has seen the orders of steerers.

use super::slot::Slot;
use crate::id::WorkerId;

/// The last place of each slot that has come to an instance, by steerer. It takes 8 bytes for each
/// slot and steerer: of those that are known at the start, and of others that have stamped a packet.
#[derive(Clone, Debug, Hash)]
pub(super) struct Places {
    slots: usize,
    /// How many places there are up to the last that has come.
    by_steerer: Vec<Box<[u64]>>,
}

impl Places {
    pub(super) fn new(slots: usize, steerers: usize) -> Self {
        Self { slots, by_steerer: vec![vec![0; slots].into_boxed_slice(); steerers] }
    }

    /// A place has come.
    pub(super) fn see(&mut self, slot: Slot, steerer: WorkerId, sequence: u64) {
        let steerer = usize::from(steerer.0);
        if self.by_steerer.len() <= steerer {
            self.by_steerer.resize_with(steerer + 1, Box::default);
        }
        let places = &mut self.by_steerer[steerer];
        if places.is_empty() {
            *places = vec![0; self.slots].into_boxed_slice();
        }
        if let Some(count) = places.get_mut(slot.index()) {
            *count = (*count).max(sequence.saturating_add(1));
        }
    }

    /// The last place of a slot that has come, if any has.
    pub(super) fn last(&self, slot: Slot, steerer: WorkerId) -> Option<u64> {
        self.by_steerer.get(usize::from(steerer.0))?.get(slot.index())?.checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_known_of_each_slot_and_steerer() {
        let mut places = Places::new(4, 1);
        let (one, other) = (WorkerId(0), WorkerId(3));
        assert_eq!(places.last(Slot(1), other), None);
        for sequence in [5, 7, 6] {
            places.see(Slot(1), other, sequence);
        }
        places.see(Slot(2), other, 0);
        assert_eq!((places.last(Slot(1), other), places.last(Slot(2), other)), (Some(7), Some(0)));
        assert_eq!((places.last(Slot(1), one), places.last(Slot(0), other)), (None, None));
    }
}
