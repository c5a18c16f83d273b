//! Flows on their way from one instance to another, one by one.

use arrayvec::ArrayVec;
use weir_state_transfer::{Bucket, FlowKey, MoveId};

use super::known::StatesCursor;
use super::part::Part;
use super::table::OWN;
use super::{Cursor, Entry, FlowStates, FlowTable};

/// All that an instance keeps of a flow, both directions, on its way to another.
#[derive(Debug)]
pub struct MovedFlow {
    /// Which flow, by its first name: see [`FlowKey::both_ways`].
    pub key: FlowKey,
    /// The entries of its directions, under its first name and under that which a NAT gives it.
    pub entries: ArrayVec<Entry, 4>,
    /// What network functions know of it.
    pub states: Option<FlowStates>,
}

impl MovedFlow {
    fn new(key: &FlowKey) -> Self {
        Self { key: key.both_ways(), entries: ArrayVec::new(), states: None }
    }

    /// What it is found under.
    pub(crate) fn names(&self) -> ArrayVec<FlowKey, 2> {
        let second = self.states.as_ref().and_then(FlowStates::second_key);
        std::iter::once(self.key).chain(second).collect()
    }
}

impl FlowTable {
    /// Takes in a flow, with the move that it comes by: whether there was room for its entries, and
    /// what network functions know of it if there was none for that.
    pub(crate) fn put_flow(
        &mut self,
        flow: MovedFlow,
        bucket: Bucket,
        by: MoveId,
    ) -> (bool, Option<FlowStates>) {
        let mut has_room = true;
        flow.names().iter().for_each(|name| self.forget_copy(name, bucket));
        for mut entry in flow.entries {
            entry.set_move(by);
            has_room &= self.insert(entry, bucket).is_some();
        }
        let left = flow.states.and_then(|mut states| {
            states.set_move(by);
            self.keep(flow.key, bucket, states).err()
        });
        (has_room, left)
    }

    /// Whether anything of a flow came by a move.
    pub(crate) fn came_by(&mut self, key: &FlowKey, bucket: Bucket, by: MoveId) -> bool {
        let came = |table: &mut Self, key: &FlowKey| {
            let place = table.find(key, bucket);
            place.is_some_and(|place| table.entry_mut(place).came_by(by))
        };
        came(self, key)
            || came(self, &key.reversed())
            || self.known_states(key, bucket).is_some_and(|states| states.came_by(by))
    }

    /// Whether anything is kept of a flow, but for a direction that is not `wanted`.
    pub(crate) fn has_flow(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> bool {
        let back = key.reversed();
        self.find(key, bucket).is_some()
            || (wanted(&back) && self.find(&back, bucket).is_some())
            || self.known_states(key, bucket).is_some()
    }

    /// Takes out all that is kept of a flow, by either of its names, but for a direction that is not
    /// `wanted`; none if nothing is kept.
    pub(crate) fn take_flow(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> Option<MovedFlow> {
        let flow = self.take_rest(MovedFlow::new(key), bucket, wanted);
        (!flow.entries.is_empty() || flow.states.is_some()).then_some(flow)
    }

    /// Takes out what network functions know of a flow, and what entries it has under its names
    /// that have not been taken yet.
    fn take_rest(
        &mut self,
        mut flow: MovedFlow,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> MovedFlow {
        let part = self.part_of_states(&flow.key, bucket);
        let states = self.in_states(part, |states| states.remove(&flow.key)).flatten();
        if let Some((first, states)) = states {
            (flow.key, flow.states) = (first, Some(states));
        }
        for name in flow.names() {
            for key in [name, name.reversed()] {
                let place = self.find(&key, bucket).filter(|_| wanted(&key));
                flow.entries.extend(place.and_then(|place| self.remove(place)));
            }
        }
        flow
    }

    /// Takes out the flows that `wanted` gives a bucket for, by the entries of both directions and
    /// then by what network functions alone know: at most as many sets and places are looked at and
    /// flows taken as the two numbers allow, which become what is left of them.
    pub(crate) fn take_matching(
        &mut self,
        cursor: &mut TakeCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> Vec<MovedFlow> {
        let mut taken = Vec::new();
        'sets: while *looks > 0 && *flows > 0 {
            let Some(part) = self.part_at(&mut cursor.entries) else { break };
            *looks -= 1;
            let number = cursor.entries.part;
            for slot in part.in_set(cursor.entries.set) {
                if *flows == 0 {
                    break 'sets;
                }
                let Some(part) = self.part_mut(number) else { break };
                // Its other direction may just have taken it along.
                if !part.is_taken(slot) {
                    continue;
                }
                let Some(bucket) = wanted(&part.entry(slot).key) else { continue };
                let entry = part.remove(slot);
                self.len -= 1;
                let key = entry.key;
                let mut flow = MovedFlow::new(&key);
                flow.entries.push(entry);
                taken.push(self.take_rest(flow, bucket, |key| wanted(key).is_some()));
                *flows -= 1;
            }
            cursor.entries.set += 1;
        }
        if cursor.entries.is_done() {
            self.take_known(&mut cursor.states, (looks, flows), wanted, &mut taken);
        }
        taken
    }

    /// Takes out flows of which there was no entry. One may have come since, if their packets are
    /// still processed here.
    fn take_known(
        &mut self,
        cursor: &mut StatesCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
        taken: &mut Vec<MovedFlow>,
    ) {
        while *looks > 0 && *flows > 0 && !cursor.is_done() {
            *looks -= 1;
            let Some(place) = self.next_place(cursor) else { continue };
            let states = self.part(cursor.part).and_then(Part::states);
            let Some(key) = states.and_then(|states| states.at(place)).copied() else { continue };
            if let Some(bucket) = wanted(&key) {
                taken.extend(self.take_flow(&key, bucket, |key| wanted(key).is_some()));
                *flows -= 1;
            }
        }
    }
}

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
