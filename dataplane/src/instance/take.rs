//! Taking the flows out of a table that a move is to hand over, a few at a time.

use std::hint::black_box;

use arrayvec::ArrayVec;
use weir_state_transfer::{Bucket, FlowKey};

use super::known::StatesCursor;
use super::part::{Part, Slot};
use super::table::OWN;
use super::{Cursor, FlowTable, MovedFlows};

/// Entries that are found before they are taken.
const AHEAD: usize = 16;
/// Sets without an entry that cost as much to look at as one with.
const EMPTY: usize = 16;

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

/// An entry that is about to be taken.
#[derive(Clone, Copy, Debug)]
struct Found {
    part: usize,
    slot: Slot,
    bucket: Bucket,
}

impl FlowTable {
    /// Takes out the flows that `wanted` gives a bucket for, by the entries of both directions and
    /// then by what network functions alone know: at most as many sets and places are looked at and
    /// flows taken as the two numbers allow, which become what is left of them.
    pub(crate) fn take_matching(
        &mut self,
        cursor: &mut TakeCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> MovedFlows {
        let mut taken = MovedFlows::default();
        while *looks > 0 && *flows > 0 && !cursor.entries.is_done() {
            let found = self.find_matching(&mut cursor.entries, (looks, *flows), &wanted);
            self.read_ahead(&found);
            for Found { part, slot, bucket } in found {
                let Some(part) = self.part_mut(part) else { break };
                // Its other direction may just have taken it along.
                if !part.is_taken(slot) {
                    continue;
                }
                let entry = part.remove(slot);
                self.len -= 1;
                let key = entry.key;
                taken.push(&key, Some(entry), (*flows).min(self.len + 1));
                self.take_rest(&mut taken, Some(&key), bucket, |key| wanted(key).is_some());
                *flows -= 1;
            }
        }
        if cursor.entries.is_done() {
            self.take_known(&mut cursor.states, (looks, flows), wanted, &mut taken);
        }
        taken
    }

    /// The next entries that are wanted, so many at most.
    fn find_matching(
        &mut self,
        cursor: &mut Cursor,
        (looks, most): (&mut usize, usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> ArrayVec<Found, AHEAD> {
        let mut found = ArrayVec::new();
        self.read_parts(cursor.part);
        while *looks > 0 {
            let Some(part) = self.part_at(cursor) else { break };
            *looks -= 1;
            cursor.set = part.next_used(cursor.set, EMPTY);
            for slot in part.in_set(cursor.set) {
                if found.len() == most.min(AHEAD) {
                    return found;
                }
                if let Some(bucket) = wanted(&part.entry(slot).key) {
                    found.push(Found { part: cursor.part, slot, bucket });
                }
            }
            cursor.set += 1;
        }
        found
    }

    /// Reads the first set of the parts that come next.
    fn read_parts(&self, from: usize) {
        let mut next = from;
        for _ in 0..AHEAD {
            next = self.next_part(next + 1);
            let Some(part) = self.parts.get(next).and_then(Option::as_deref) else { return };
            part.read();
        }
    }

    /// Reads what there is of flows that are about to be taken.
    ///
    /// A move finds little of it in a cache. To take one flow after the other would wait for memory
    /// several times for each; reads of many that do not depend on each other wait at the same time.
    fn read_ahead(&self, found: &[Found]) {
        let entry = |found: &Found| Some((self.part(found.part)?.entry(found.slot), found.bucket));
        for (entry, _) in found.iter().filter_map(entry) {
            entry.read();
        }
        for (entry, bucket) in found.iter().filter_map(entry) {
            if let Some(back) = self.find(&entry.key.reversed(), bucket) {
                self.entry(back).read();
            }
        }
        for (entry, bucket) in found.iter().filter_map(entry) {
            black_box(self.place_of_states(&entry.key, bucket));
        }
        if let Some(own) = self.own.states() {
            own.read_last(found.len());
        }
    }

    /// Takes out flows of which there was no entry. One may have come since, if their packets are
    /// still processed here.
    fn take_known(
        &mut self,
        cursor: &mut StatesCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
        taken: &mut MovedFlows,
    ) {
        while *looks > 0 && *flows > 0 && !cursor.is_done() {
            *looks -= 1;
            let Some(place) = self.next_place(cursor) else { continue };
            let states = self.part(cursor.part).and_then(Part::states);
            let Some(key) = states.and_then(|states| states.at(place)).copied() else { continue };
            if let Some(bucket) = wanted(&key) {
                self.take_into(taken, &key, bucket, *flows, |key| wanted(key).is_some());
                *flows -= 1;
            }
        }
    }
}
