//! What network functions know of the flows of a table: finding it, and walking over all of it.

use weir_state_transfer::{Bucket, FlowKey, Nanos};

use super::part::Part;
use super::states::{Renamed, States};
use super::table::OWN;
use super::{Entry, FlowStates, FlowTable};

/// By how much the count of changes is raised at one time by what was written elsewhere: more than
/// there are in ten years, and little of what can be counted, so that one wrong version does not
/// leave none for what is written here later.
const RAISE_MAX: u64 = 1 << 52;

impl FlowTable {
    /// Flows that network functions know.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Whether there is room for what network functions know of another flow.
    pub(crate) fn has_room(&self, bucket: Bucket) -> bool {
        self.parts[bucket.index()].as_deref().unwrap_or(&self.own).has_room()
    }

    /// Bytes that network functions keep of the streams of all flows; see also
    /// [`Self::kept_of_copies`].
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// Flows at most that network functions may know beside one of this bucket.
    pub(super) fn room(&self, bucket: Bucket) -> usize {
        self.parts[bucket.index()].as_deref().unwrap_or(&self.own).room()
    }

    /// Changes of what network functions know: packets, and what has come, was put or has ended. What
    /// changes later has a greater number. It says nothing to other instances.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// State has come that was written elsewhere: what is written here from now on is newer, also of
    /// a flow that begins anew where an older one was copied from.
    pub(super) fn see_written(&mut self, written: u64) {
        let most = self.changes.saturating_add(RAISE_MAX);
        self.changes = self.changes.max(written.min(most));
    }

    /// One more change; its number.
    #[inline]
    pub(crate) fn change(&mut self) -> u64 {
        self.changes = self.changes.saturating_add(1);
        self.changes
    }

    /// Keeps what network functions know of a flow; what there is no room for comes back.
    pub(crate) fn keep(
        &mut self,
        key: FlowKey,
        bucket: Bucket,
        mut states: FlowStates,
    ) -> Result<(), FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let here = self.part(part).and_then(Part::states);
        let second = here.and_then(|here| here.second_key(&states));
        self.see_written(states.written());
        states.set_changed(self.change());
        std::iter::once(&key).chain(&second).for_each(|name| self.forget_copy(name, bucket));
        let mut left = Some(states);
        self.in_states(part, |here| {
            left = left.take().and_then(|states| here.put(key, states).err());
        });
        self.forget_decisions(second, bucket);
        left.map_or(Ok(()), Err)
    }

    /// Whether network functions know a flow by this name.
    pub(super) fn knows(&self, key: &FlowKey, bucket: Bucket) -> bool {
        self.known_states(key, bucket).is_some()
    }

    /// The first name of the flow that network functions know by this name.
    pub(super) fn first_name(&self, key: &FlowKey, bucket: Bucket) -> Option<FlowKey> {
        let key = key.both_ways();
        let states = self.part(self.part_of_states(&key, bucket))?.states()?;
        states.get(&key).map(|_| states.first_name(&key))
    }

    /// What network functions know of a flow, if they know it.
    pub(crate) fn known_states(&self, key: &FlowKey, bucket: Bucket) -> Option<&FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        self.part(part)?.states()?.get(&key)
    }

    /// Where what network functions know of a flow is, if they know it.
    #[inline]
    pub(super) fn place_of_states(&self, key: &FlowKey, bucket: Bucket) -> Option<StatesPlace> {
        let key = key.both_ways();
        if let Some(place) = self.own.states().and_then(|own| own.find(&key)) {
            return Some(StatesPlace { part: OWN, place });
        }
        let part = bucket.index();
        let place = self.parts[part].as_deref()?.states()?.find(&key)?;
        Some(StatesPlace { part, place })
    }

    /// What network functions know of the flow at a place.
    #[inline]
    pub(super) fn known_at(&self, at: StatesPlace) -> Option<&FlowStates> {
        self.part(at.part)?.states()?.known_at(at.place)
    }

    /// The first name of the flow at a place.
    pub(super) fn name_at(&self, at: StatesPlace) -> Option<FlowKey> {
        self.part(at.part)?.states()?.at(at.place).copied()
    }

    /// Changes what network functions know of a flow, if they know it. It is found under the second
    /// name that it has then.
    pub(crate) fn change_states<R>(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        change: impl FnOnce(&mut FlowStates) -> R,
    ) -> Option<R> {
        let at = self.place_of_states(key, bucket)?;
        self.change_at(at, bucket, change)
    }

    /// Changes what network functions know of the flow at a place, which is in a bucket. It is found
    /// under the second name that it has then.
    #[inline]
    pub(super) fn change_at<R>(
        &mut self,
        at: StatesPlace,
        bucket: Bucket,
        change: impl FnOnce(&mut FlowStates) -> R,
    ) -> Option<R> {
        let (answer, renamed) =
            self.in_states(at.part, |states| states.change(at.place, change))??;
        self.renamed(renamed, bucket);
        Some(answer)
    }

    /// Forgets what was decided for the flow that had a name before, and notes a flow that was given
    /// up.
    #[inline]
    fn renamed(&mut self, renamed: Renamed, bucket: Bucket) {
        match renamed {
            Renamed::No => {}
            Renamed::To(second) => self.forget_decisions(Some(second), bucket),
            Renamed::GivenUp(known) => {
                self.clashes += 1;
                self.given_up.push(known);
            }
        }
    }

    /// Takes what is known of flows that have been given up since the last time, and how many were
    /// because another had their second name.
    pub(super) fn take_given_up(&mut self) -> (Vec<FlowStates>, u64) {
        (std::mem::take(&mut self.given_up), std::mem::take(&mut self.clashes))
    }

    /// Forgets what was decided for the flow that had a name before: who has it now may be
    /// elsewhere.
    #[inline]
    fn forget_decisions(&mut self, second: Option<FlowKey>, bucket: Bucket) {
        let Some(second) = second else { return };
        for name in [second, second.reversed()] {
            if let Some(place) = self.find(&name, bucket) {
                self.entry_mut(place).undecide();
            }
        }
    }

    /// Does something with what network functions know of the flows of a part. What they keep is
    /// counted as it changes, whatever comes and goes; after a panic it is as it was.
    pub(super) fn in_states<R>(
        &mut self,
        part: usize,
        work: impl FnOnce(&mut States) -> R,
    ) -> Option<R> {
        let states = self.part_mut(part)?.states_mut()?;
        let before = (states.len(), states.kept());
        let answer = work(states);
        let after = (states.len(), states.kept());
        self.known = self.known - before.0 + after.0;
        self.kept = self.kept - before.1 + after.1;
        if after.0 > before.0 {
            self.occupy(part);
        }
        Some(answer)
    }

    /// Forgets what network functions know of a flow, or its copy; whether there was anything.
    pub(super) fn forget(&mut self, key: &FlowKey, bucket: Bucket) -> bool {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let known = self.in_states(part, |states| states.remove(&key)).flatten();
        let was_known = known.is_some();
        let known = known.map(|known| known.states);
        self.given_up.extend(known.filter(|known| known.functions() > 0));
        self.copies.remove(&key, bucket).is_some() || was_known
    }

    /// Gives a flow up: a packet of it has made a stage panic. What network functions knew of it
    /// may be half of what it should be, and is forgotten.
    pub(crate) fn poison(&mut self, key: FlowKey, bucket: Bucket, now: Nanos) {
        let place = self.find(&key, bucket);
        let place = place.or_else(|| self.insert(Entry::new(key, now), bucket));
        if let Some(place) = place {
            self.entry_mut(place).poison();
        }
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let known = self.in_states(part, |states| states.remove_half_changed(&key)).flatten();
        self.given_up.extend(known);
    }

    /// Whether a flow was given up in a panic.
    pub(super) fn is_poisoned(&self, key: &FlowKey, bucket: Bucket) -> bool {
        let place = self.find(key, bucket);
        place.is_some_and(|place| self.entry(place).is_poisoned())
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
            let Some(place) = self.next_place(cursor) else { continue };
            self.in_states(cursor.part, |states| {
                // What ends has no second name then, and nobody gets one.
                let Some(key) = states.at(place).copied() else { return };
                if states.change(place, &mut over).is_some_and(|(over, _)| over) {
                    states.remove(&key);
                }
            });
        }
    }

    /// What is known of the flow at a place of a walk, and the number of its last change.
    pub(super) fn states_at(
        &self,
        cursor: &StatesCursor,
        place: usize,
    ) -> Option<(&FlowStates, u64)> {
        let part = self.part(cursor.part)?;
        let states = part.states()?;
        let known = states.get(states.at(place)?)?;
        Some((known, known.changed().max(part.came)))
    }

    /// The next place of a walk, in the part that it is in; none when the part has no more. The walk
    /// is past it at once: it does not come back to one that makes a function panic.
    pub(super) fn next_place(&self, cursor: &mut StatesCursor) -> Option<usize> {
        let ahead = cursor.ahead.unwrap_or(usize::MAX);
        let states = self.part(cursor.part).and_then(Part::states);
        let next = states.and_then(|states| ahead.min(states.len()).checked_sub(1));
        *cursor = match next {
            Some(place) => StatesCursor { ahead: Some(place), ..*cursor },
            None => StatesCursor { part: self.next_part(cursor.part + 1), ahead: None },
        };
        next
    }

    /// The part that has what network functions know of a flow, or that would have it.
    pub(super) fn part_of_states(&self, key: &FlowKey, bucket: Bucket) -> usize {
        let in_own = self.own.states().is_some_and(|own| own.get(key).is_some());
        if in_own || !self.owns(bucket) { OWN } else { bucket.index() }
    }
}

/// Where what network functions know of a flow is, until one is put or removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatesPlace {
    pub(super) part: usize,
    pub(super) place: usize,
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
