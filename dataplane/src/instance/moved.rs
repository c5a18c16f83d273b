//! Flows on their way from one instance to another, one by one.

use weir_state_transfer::{Bucket, FlowKey, MoveId};

use super::part::Part;
use super::states::Removed;
use super::{Entry, FlowStates, FlowTable};

/// All that an instance keeps of some flows, both directions of each, on its way to another.
#[derive(Debug, Default)]
pub struct MovedFlows {
    /// In the order of their entries.
    flows: Vec<MovedFlow>,
    /// Those of each flow behind those of the flow before it.
    entries: Vec<Entry>,
}

/// A flow on its way to another instance. Its entries are in the [`MovedFlows`] that it is in.
#[derive(Debug)]
pub struct MovedFlow {
    /// Which flow, by its first name: see [`FlowKey::both_ways`].
    pub key: FlowKey,
    /// The name that a NAT gives it.
    second: Option<FlowKey>,
    /// Entries of its directions, under both names: 4 at most.
    entries: usize,
    /// What network functions know of it.
    pub states: Option<FlowStates>,
}

impl MovedFlows {
    /// One flow.
    #[cfg(test)]
    pub(crate) fn one(key: FlowKey, entries: Vec<Entry>) -> Self {
        let flow = MovedFlow { key, second: None, entries: entries.len(), states: None };
        Self { flows: vec![flow], entries }
    }

    /// How many flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flows.
    pub fn flows(&self) -> &[MovedFlow] {
        &self.flows
    }

    /// What network functions know of each flow.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut Option<FlowStates>> {
        self.flows.iter_mut().map(|flow| &mut flow.states)
    }

    /// The entries of all flows.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of all flows.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// Gives each flow with its entries.
    pub(crate) fn each(self, mut take: impl FnMut(MovedFlow, &[Entry])) {
        let mut rest = &self.entries[..];
        for flow in self.flows {
            let (entries, behind) = rest.split_at(flow.entries);
            rest = behind;
            take(flow, entries);
        }
    }

    /// A flow of which an entry, if any, has been taken already. Room for `more` like it is made at
    /// the first.
    pub(super) fn push(&mut self, key: &FlowKey, entry: Option<Entry>, more: usize) {
        if self.flows.capacity() == 0 {
            self.flows.reserve(more);
            self.entries.reserve(2 * more);
        }
        let entries = usize::from(entry.is_some());
        self.entries.extend(entry);
        let key = key.both_ways();
        self.flows.push(MovedFlow { key, second: None, entries, states: None });
    }
}

impl MovedFlow {
    /// What it is found under.
    pub(crate) fn names(&self) -> impl Iterator<Item = FlowKey> + use<> {
        [Some(self.key), self.second].into_iter().flatten()
    }
}

impl FlowTable {
    /// Brings the places that flows are about to be put into into the cache: see
    /// [`Self::take_matching`].
    pub(crate) fn prefetch_places(&self, flows: &MovedFlows, bucket: impl Fn(&FlowKey) -> Bucket) {
        let of_bucket = |key| self.parts[bucket(key).index()].as_deref();
        let part = |key| of_bucket(key).unwrap_or(&self.own);
        for Entry { key, .. } in &flows.entries {
            part(key).prefetch_sets(self.hasher.hash(key));
        }
        for Entry { key, .. } in &flows.entries {
            part(key).prefetch_free(self.hasher.hash(key));
        }
        for MovedFlow { key, .. } in &flows.flows {
            let parts = [Some(&self.own), of_bucket(key)].into_iter().flatten();
            parts.filter_map(Part::states).for_each(|states| states.prefetch(key));
        }
    }

    /// Takes in a flow, with the move that it comes by: whether there was room for its entries, and
    /// what network functions know of it if there was none for that.
    pub(crate) fn put_flow(
        &mut self,
        flow: MovedFlow,
        entries: &[Entry],
        bucket: Bucket,
        by: MoveId,
    ) -> (bool, Option<FlowStates>) {
        let mut has_room = true;
        flow.names().for_each(|name| self.forget_copy(&name, bucket));
        for entry in entries {
            let mut entry = entry.clone();
            entry.set_move(by);
            has_room &= self.insert(entry, bucket).is_some();
        }
        let left = flow.states.and_then(|mut states| {
            states.set_move(by);
            self.keep(flow.key, bucket, states).err()
        });
        (has_room, left)
    }

    /// Takes in flows of a bucket, for which there is room.
    #[cfg(test)]
    pub(crate) fn put_flows(&mut self, flows: MovedFlows, bucket: Bucket, by: MoveId) {
        flows.each(|flow, entries| {
            let (has_room, left) = self.put_flow(flow, entries, bucket, by);
            assert!(has_room && left.is_none(), "there is room");
        });
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
    ) -> Option<MovedFlows> {
        let mut taken = MovedFlows::default();
        self.take_into(&mut taken, key, bucket, 1, wanted);
        (!taken.is_empty()).then_some(taken)
    }

    /// Takes out what is kept of a flow, if anything is.
    pub(super) fn take_into(
        &mut self,
        taken: &mut MovedFlows,
        key: &FlowKey,
        bucket: Bucket,
        more: usize,
        wanted: impl Fn(&FlowKey) -> bool,
    ) {
        taken.push(key, None, more);
        self.take_rest(taken, None, bucket, wanted);
        taken.flows.pop_if(|flow| flow.entries == 0 && flow.states.is_none());
    }

    /// Takes out what network functions know of the last flow of `taken`, and what entries it has
    /// under its names but for that of the direction that `is_taken`.
    pub(super) fn take_rest(
        &mut self,
        taken: &mut MovedFlows,
        is_taken: Option<&FlowKey>,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) {
        let Some(flow) = taken.flows.last_mut() else { return };
        let part = self.part_of_states(&flow.key, bucket);
        let states = self.in_states(part, |states| states.remove(&flow.key)).flatten();
        if let Some(Removed { first, second, states }) = states {
            (flow.key, flow.second, flow.states) = (first, second, Some(states));
        }
        for name in flow.names() {
            for key in [name, name.reversed()] {
                if is_taken == Some(&key) || !wanted(&key) {
                    continue;
                }
                let entry = self.find(&key, bucket).and_then(|place| self.remove(place));
                flow.entries += usize::from(entry.is_some());
                taken.entries.extend(entry);
            }
        }
    }
}
