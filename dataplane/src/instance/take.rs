//! Taking the flows out of a table that a move is to hand over, a few at a time.

use arrayvec::ArrayVec;
use weir_state_transfer::{Bucket, FlowKey};

use super::known::StatesCursor;
use super::part::Part;
use super::table::OWN;
use super::{Cursor, FlowTable, MovedFlows, Place};

/// Entries that are found before they are taken, and parts that are fetched before they are looked at.
const AHEAD: usize = 16;
/// Sets without an entry that one look may go over.
const EMPTY_SETS: usize = 16;

/// How far the taking of flows has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakeCursor {
    entries: Cursor,
    states: StatesCursor,
}

impl TakeCursor {
    /// A walk over the own part only.
    pub(crate) fn own() -> Self {
        let states = StatesCursor { part: OWN, ..StatesCursor::default() };
        Self { entries: Cursor::own(), states }
    }

    /// A walk that is over.
    pub(crate) fn end() -> Self {
        let states = StatesCursor { part: OWN + 1, ..StatesCursor::default() };
        Self { entries: Cursor::end(), states }
    }

    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.entries.is_done() && self.states.is_done()
    }
}

impl FlowTable {
    /// Takes out the flows that `wanted` gives a bucket for, by the entries of both directions and
    /// then by what network functions alone know: so many at most, and as many sets and places are
    /// looked at as `looks` allows, which becomes what is left of it. A look may go over
    /// [`EMPTY_SETS`] that hold nothing.
    ///
    /// A move finds little of its flows in a cache. To take one after the other would wait for memory
    /// several times for each, so that some are found first, and all that is read of them is fetched
    /// at the same time: see `moves/cold` of the benches.
    pub(crate) fn take_matching(
        &mut self,
        cursor: &mut TakeCursor,
        looks: &mut usize,
        most: usize,
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> MovedFlows {
        let mut taken = MovedFlows::default();
        while *looks > 0 && taken.len() < most && !cursor.entries.is_done() {
            let left = most - taken.len();
            let found = self.find_matching(&mut cursor.entries, looks, left, &wanted);
            self.prefetch(&found);
            for (place, bucket) in found {
                // Its other direction may just have taken it along.
                if !self.part(place.part).is_some_and(|part| part.is_taken(place.slot)) {
                    continue;
                }
                let Some(entry) = self.remove(place) else { continue };
                let key = entry.key;
                taken.push(&key, Some(entry), left.min(self.len + 1));
                self.take_rest(&mut taken, Some(&key), bucket, |key| wanted(key).is_some());
                self.vacate(place.part);
            }
        }
        if cursor.entries.is_done() {
            self.take_known(&mut cursor.states, looks, most, wanted, &mut taken);
        }
        taken
    }

    /// The next entries that are wanted, so many at most, and their buckets.
    fn find_matching(
        &mut self,
        cursor: &mut Cursor,
        looks: &mut usize,
        most: usize,
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> ArrayVec<(Place, Bucket), AHEAD> {
        let mut found = ArrayVec::new();
        self.prefetch_parts(cursor.part);
        while *looks > 0 {
            let Some(part) = self.part_at(cursor) else { break };
            *looks -= 1;
            cursor.set = part.next_used(cursor.set, EMPTY_SETS);
            for slot in part.in_set(cursor.set) {
                if found.len() == most.min(AHEAD) {
                    return found;
                }
                if let Some(bucket) = wanted(&part.entry(slot).key) {
                    found.push((Place { part: cursor.part, slot }, bucket));
                }
            }
            cursor.set += 1;
        }
        found
    }

    /// Asks the processor for the parts behind one.
    fn prefetch_parts(&self, from: usize) {
        let mut next = from;
        for _ in 0..AHEAD {
            next = self.next_part(next + 1);
            let Some(part) = self.parts.get(next).and_then(Option::as_deref) else { return };
            part.prefetch();
        }
    }

    /// Brings all that there is of flows into the cache: one kind after the other, as looks of one
    /// kind do not depend on each other.
    fn prefetch(&self, found: &[(Place, Bucket)]) {
        for (place, _) in found {
            self.entry(*place).prefetch();
        }
        for (place, bucket) in found {
            let back = self.find(&self.entry(*place).key.reversed(), *bucket);
            back.iter().for_each(|back| self.entry(*back).prefetch());
        }
        let states = |(place, bucket): &(Place, Bucket)| {
            self.place_of_states(&self.entry(*place).key, *bucket)
        };
        let in_own = found.iter().filter_map(states).filter(|states| states.part == OWN).count();
        self.own.states().iter().for_each(|own| own.prefetch_last(in_own));
    }

    /// Takes out flows of which there was no entry. One may have come since, if their packets are
    /// still processed here.
    fn take_known(
        &mut self,
        cursor: &mut StatesCursor,
        looks: &mut usize,
        most: usize,
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
        taken: &mut MovedFlows,
    ) {
        while *looks > 0 && taken.len() < most && !cursor.is_done() {
            *looks -= 1;
            let part = cursor.part;
            let Some(place) = self.next_place(cursor) else { continue };
            let states = self.part(part).and_then(Part::states);
            let Some(key) = states.and_then(|states| states.at(place)).copied() else { continue };
            if let Some(bucket) = wanted(&key) {
                let left = most - taken.len();
                self.take_into(taken, &key, bucket, left, |key| wanted(key).is_some());
                self.vacate(part);
            }
        }
    }
}
