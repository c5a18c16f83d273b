//! What network functions know of the flows of a table: finding it, and walking over all of it.

use weir_state_transfer::{Bucket, FlowKey, Nanos};

use super::part::Part;
use super::states::States;
use super::table::OWN;
use super::{Entry, FlowStates, FlowTable};
use crate::nf::FlowState;

impl FlowTable {
    /// Flows that network functions know.
    pub fn known(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.known()).sum::<usize>() + self.own.known()
    }

    /// What network functions know of a flow: nothing of one that they have not seen, and none
    /// when there is no room for it.
    pub(crate) fn states(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        unknown: impl FnOnce() -> Box<[FlowState]>,
    ) -> Option<&mut FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let Self { parts, own, hasher, .. } = self;
        let part = if part == OWN { own } else { parts[part].as_deref_mut()? };
        part.states_or_new(hasher).get_or_insert(key, unknown)
    }

    /// What network functions know of a flow, if they know it.
    pub(crate) fn known_states(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
    ) -> Option<&mut FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        self.part_mut(part)?.states()?.get_mut(&key)
    }

    /// Gives a flow up: a packet of it has made a stage panic. What network functions knew of it
    /// may be half of what it should be, and is forgotten.
    pub(crate) fn poison(&mut self, key: FlowKey, bucket: Bucket, now: Nanos) {
        let place = self.find(&key, bucket);
        let place = place.or_else(|| self.insert(Entry::new(key, now), bucket));
        if let Some(place) = place {
            self.entry_mut(place).poison();
        }
        let part = self.part_of_states(&key.both_ways(), bucket);
        if let Some(states) = self.part_mut(part).and_then(Part::states) {
            states.remove(&key.both_ways());
        }
    }

    /// Shows what network functions know of flows, at most so many `places` further on. What `over`
    /// says is forgotten. `cursor` begins at its default, and is done behind the last.
    pub(crate) fn walk_states(
        &mut self,
        cursor: &mut StatesCursor,
        places: usize,
        mut over: impl FnMut(&mut FlowStates) -> bool,
    ) {
        for _ in 0..places {
            if cursor.is_done() {
                return;
            }
            let Some(states) = self.states_at(cursor) else { continue };
            let Some((key, known)) = states.at(cursor.place) else { continue };
            let key = *key;
            if over(known) {
                states.remove(&key);
            } else {
                cursor.seen += 1;
            }
        }
    }

    /// The states that the cursor is at, with their place; none when the part has no more.
    pub(super) fn states_at(&mut self, cursor: &mut StatesCursor) -> Option<&mut States> {
        let seen = cursor.seen;
        let here = self.part_mut(cursor.part).filter(|part| seen < part.known());
        match here.and_then(Part::states) {
            Some(states) => {
                cursor.place = states.len() - 1 - seen;
                Some(states)
            }
            None => {
                *cursor = StatesCursor { part: cursor.part + 1, ..StatesCursor::default() };
                None
            }
        }
    }

    /// The part that has what network functions know of a flow, or that would have it.
    pub(super) fn part_of_states(&mut self, key: &FlowKey, bucket: Bucket) -> usize {
        let in_own = self.own.states().is_some_and(|own| own.get_mut(key).is_some());
        if in_own || !self.owns(bucket) { OWN } else { bucket.index() }
    }
}

/// How far a walk over what network functions know has come. It goes from the last place of a part
/// to the first, so that what is removed and what is added on the way makes it miss none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatesCursor {
    pub(super) part: usize,
    /// Places of the part that have been seen, from its end.
    pub(super) seen: usize,
    /// The place that it is at.
    pub(super) place: usize,
}

impl StatesCursor {
    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.part > OWN
    }
}
