//! What network functions know of the flows of a table: finding it, and walking over all of it.

use weir_state_transfer::{Bucket, FlowKey, Nanos};

use super::part::Part;
use super::states::States;
use super::table::OWN;
use super::{Entry, FlowStates, FlowTable};

/// The greatest version that is learnt from others: however long an instance lives, it counts on
/// from there.
const VERSION_MAX: u64 = u64::MAX >> 1;

impl FlowTable {
    /// Flows that network functions know.
    pub fn known(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.known()).sum::<usize>() + self.own.known()
    }

    /// Whether there is room for what network functions know of another flow.
    pub(crate) fn has_room(&self, bucket: Bucket) -> bool {
        let part = self.parts[bucket.index()].as_deref().unwrap_or(&self.own);
        part.known() < part.capacity()
    }

    /// Flows at most that network functions may know beside one of this bucket.
    pub(super) fn room(&self, bucket: Bucket) -> usize {
        self.parts[bucket.index()].as_deref().unwrap_or(&self.own).capacity()
    }

    /// Updates of what network functions know, here and wherever flows have come from: what
    /// changes later has a greater version.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// One more update; its version.
    #[inline]
    pub(crate) fn update(&mut self) -> u64 {
        self.version = self.version.saturating_add(1);
        self.version
    }

    /// State of a version has come.
    pub(crate) fn see_version(&mut self, version: u64) {
        self.version = self.version.max(version.min(VERSION_MAX));
    }

    /// Keeps what network functions know of a flow; what there is no room for comes back.
    pub(crate) fn keep(
        &mut self,
        key: FlowKey,
        bucket: Bucket,
        states: FlowStates,
    ) -> Result<(), FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let Self { parts, own, hasher, .. } = self;
        let part = if part == OWN { Some(own) } else { parts[part].as_deref_mut() };
        match part {
            Some(part) => part.states_or_new(hasher).put(key, states),
            None => Err(states),
        }
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

    /// Forgets what network functions know of a flow; whether they knew anything.
    pub(super) fn forget(&mut self, key: &FlowKey, bucket: Bucket) -> bool {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let states = self.part_mut(part).and_then(Part::states);
        states.is_some_and(|states| states.remove(&key).is_some())
    }

    /// Gives a flow up: a packet of it has made a stage panic. What network functions knew of it
    /// may be half of what it should be, and is forgotten.
    pub(crate) fn poison(&mut self, key: FlowKey, bucket: Bucket, now: Nanos) {
        let place = self.find(&key, bucket);
        let place = place.or_else(|| self.insert(Entry::new(key, now), bucket));
        if let Some(place) = place {
            self.entry_mut(place).poison();
        }
        self.forget(&key, bucket);
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
            let Some((states, place)) = self.next_states(cursor) else { continue };
            let Some((key, known)) = states.at(place) else { continue };
            let key = *key;
            if over(known) {
                states.remove(&key);
            }
        }
    }

    /// The next place of a walk and the states that it is in; none when the part has no more. The
    /// walk is past it at once: it does not come back to one that makes a function panic.
    pub(super) fn next_states(
        &mut self,
        cursor: &mut StatesCursor,
    ) -> Option<(&mut States, usize)> {
        let ahead = cursor.ahead.unwrap_or(usize::MAX);
        let here = self.part_mut(cursor.part).and_then(Part::states);
        let next = here.and_then(|states| Some((ahead.min(states.len()).checked_sub(1)?, states)));
        match next {
            Some((place, states)) => {
                cursor.ahead = Some(place);
                Some((states, place))
            }
            None => {
                *cursor = StatesCursor { part: cursor.part + 1, ahead: None };
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

/// How far a walk over what network functions know has come.
///
/// It goes from the last place of a part to the first. What is removed gives its place to the last,
/// which the walk has seen or which still lies ahead, and what is added comes behind it: so it
/// misses none that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatesCursor {
    pub(super) part: usize,
    /// Places of the part that are still ahead: all, before the first.
    pub(super) ahead: Option<usize>,
}

impl StatesCursor {
    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.part > OWN
    }
}
