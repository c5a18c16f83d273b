//! What network functions know of the flows of a table: finding it, and walking over all of it.

use weir_state_transfer::{Bucket, FlowKey, Nanos};

use super::part::Part;
use super::states::States;
use super::table::OWN;
use super::{Entry, FlowStates, FlowTable};

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

    /// Keeps what network functions know of a flow; what there is no room for comes back.
    pub(crate) fn keep(
        &mut self,
        key: FlowKey,
        bucket: Bucket,
        states: FlowStates,
    ) -> Result<(), FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let second = states.second_key();
        let Self { parts, own, hasher, .. } = self;
        let part = if part == OWN { Some(own) } else { parts[part].as_deref_mut() };
        let kept = match part {
            Some(part) => part.states_or_new(hasher).put(key, states),
            None => Err(states),
        };
        self.forget_decisions(second, bucket);
        kept
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

    /// Whether network functions know a flow by this name.
    pub(crate) fn knows(&self, key: &FlowKey, bucket: Bucket) -> bool {
        let key = key.both_ways();
        let knows = |part: &Part| part.known_states().is_some_and(|states| states.has(&key));
        knows(&self.own) || self.parts[bucket.index()].as_deref().is_some_and(knows)
    }

    /// Changes what network functions know of a flow, if they know it; it is forgotten when `change`
    /// says so, and found under the second name that it has then.
    pub(crate) fn change_states(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        change: impl FnOnce(&mut FlowStates) -> bool,
    ) {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let Some(states) = self.part_mut(part).and_then(Part::states) else { return };
        let Some(known) = states.get_mut(&key) else { return };
        let second = if change(known) {
            states.remove(&key);
            None
        } else {
            states.rename(&key)
        };
        self.forget_decisions(second, bucket);
    }

    /// Forgets what was decided for the flow that had a name before: who has it now may be
    /// elsewhere.
    fn forget_decisions(&mut self, second: Option<FlowKey>, bucket: Bucket) {
        let Some(second) = second else { return };
        for name in [second, second.reversed()] {
            if let Some(place) = self.find(&name, bucket) {
                self.entry_mut(place).undecide();
            }
        }
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
            let Some((states, place)) = self.next_states(cursor) else { continue };
            let Some((key, known)) = states.at(place) else { continue };
            let key = *key;
            if over(known) {
                states.remove(&key);
            } else {
                states.rename(&key);
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
    pub(super) fn part_of_states(&self, key: &FlowKey, bucket: Bucket) -> usize {
        let in_own = self.own.known_states().is_some_and(|own| own.has(key));
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
