//! What network functions know of the flows of one part.

use std::hint::black_box;

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use weir_state_transfer::{FlowKey, MoveId, Nanos};

use crate::nf::{self, FlowState};

/// The states of flows by [`FlowKey::both_ways`], so many at most.
///
/// A flow that a NAT translates has two names, and is found by both. A name is of one flow only,
/// so that the names are what is taken of external ports too.
///
/// It has its memory from the start and never grows, so that a packet never waits for it.
#[derive(Debug)]
pub(super) struct States {
    flows: IndexMap<FlowKey, FlowStates, FixedState>,
    /// The first name of each second one.
    names: IndexMap<FlowKey, FlowKey, FixedState>,
    /// Whether any may have a second name.
    are_translated: bool,
    most: usize,
    /// Bytes that functions keep of the streams of all flows.
    kept: usize,
}

/// What each function of an instance knows of a flow, in their order. It moves as one.
#[derive(Debug)]
pub struct FlowStates {
    /// By function.
    pub states: Box<[FlowState]>,
    moved: MoveId,
    /// Which of the states of this flow, here and at other instances, is newer.
    written: u64,
    /// The count of changes of its instance when it last changed here.
    changed: u64,
    /// Bytes that functions keep of its streams, as they were counted last.
    kept: usize,
}

/// What is known is newer than what was put: as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newer(pub(crate) u64);

/// A flow that is forgotten.
#[derive(Debug)]
pub(super) struct Removed {
    /// Its first name.
    pub(super) first: FlowKey,
    /// Its second, if it has one.
    pub(super) second: Option<FlowKey>,
    /// What was known of it.
    pub(super) states: FlowStates,
}

/// What became of the second name of a flow.
#[derive(Debug)]
pub(super) enum Renamed {
    /// It has none, or that which it had.
    No,
    /// It has another than before.
    To(FlowKey),
    /// It would have that of another flow, and is not known any more.
    GivenUp(FlowStates),
}

/// The greatest version that is believed: however long a flow lives, it is counted on from there.
const WRITTEN_MAX: u64 = u64::MAX >> 1;

impl FlowStates {
    /// What is known of a flow, as it was `written`: 1 where it begins.
    pub(crate) fn new(states: Box<[FlowState]>, written: u64) -> Self {
        let kept = nf::kept(&states);
        Self { states, moved: MoveId(0), written, changed: 0, kept }
    }

    /// Takes in what one function knows elsewhere, and gives what it knew here back, unless that is
    /// newer: then that is the error. Who counts no versions, or beyond what may be counted, is as new as anything.
    pub(crate) fn put(
        &mut self,
        function: usize,
        state: FlowState,
        written: u64,
    ) -> Result<FlowState, Newer> {
        let written = if written > WRITTEN_MAX { 0 } else { written };
        if written != 0 && written < self.written && !self.states[function].is_unknown() {
            return Err(Newer(self.written));
        }
        self.written = self.written.max(written);
        Ok(std::mem::replace(&mut self.states[function], state))
    }

    /// How many functions know anything of it.
    pub(crate) fn functions(&self) -> usize {
        self.states.iter().filter(|state| !state.is_unknown()).count()
    }

    /// Counts again what is kept of its streams, as after a change outside of a table.
    pub(super) fn recount(&mut self) {
        self.kept = nf::kept(&self.states);
    }

    /// A packet of the flow is about to change it.
    #[inline]
    pub(crate) fn touch(&mut self, changed: u64) {
        (self.written, self.changed) = (self.written.saturating_add(1), changed);
    }

    /// It has changed without a packet: it has come, or some of it has ended.
    pub(crate) fn set_changed(&mut self, changed: u64) {
        self.changed = changed;
    }

    /// Which of the states of this flow is newer: it grows with each packet, and travels along.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The count of changes of its instance when it last changed here.
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }

    /// Bytes that functions keep of the streams of the flow.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// The second name of the flow, if it has one, made the same [both ways](FlowKey::both_ways).
    pub(crate) fn second_key(&self) -> Option<FlowKey> {
        self.states.last().and_then(FlowState::second_key)
    }

    /// What a NAT translates the flow to, in the direction of its first packet.
    #[inline]
    fn translated(&self) -> Option<&FlowKey> {
        self.states.last().and_then(FlowState::translated)
    }

    /// Whether the time of its translation is over.
    pub(super) fn is_translation_over(&self, now: Nanos) -> bool {
        self.states.last().is_some_and(|state| state.is_translation_over(now))
    }

    /// Whether a NAT may give it another second name with the next packet: it has none that takes a
    /// port, or none any more.
    #[inline]
    pub(super) fn may_be_renamed(&self, now: Nanos) -> bool {
        self.states.last().is_some_and(|state| state.may_translate_anew(now))
    }

    /// The move that the flow came by; none for a flow that began here.
    pub(crate) fn came_by(&self, id: MoveId) -> bool {
        self.moved == id
    }

    /// Notes the move that the flow came by.
    pub(crate) fn set_move(&mut self, id: MoveId) {
        self.moved = id;
    }
}

impl States {
    /// Room for so many flows, which may have second names if there `are_translated` ones.
    pub(super) fn new(most: usize, hasher: FixedState, are_translated: bool) -> Self {
        let second = if are_translated { most } else { 0 };
        let names = IndexMap::with_capacity_and_hasher(second, hasher.clone());
        let flows = IndexMap::with_capacity_and_hasher(most, hasher);
        Self { flows, names, are_translated, most, kept: 0 }
    }

    /// States that take memory as they come: of copies, which no packet waits for.
    pub(super) fn growing(hasher: FixedState) -> Self {
        Self { most: usize::MAX, are_translated: true, ..Self::new(0, hasher, false) }
    }

    /// Bytes that the table of so many flows takes: their places, those of their second names, and
    /// twice as many of each for their hashes at most.
    pub(super) fn bytes(most: usize, are_translated: bool) -> usize {
        let with_hashes = |place| size_of::<usize>() + place + 4 * (size_of::<usize>() + 1);
        let second = if are_translated { with_hashes(size_of::<[FlowKey; 2]>()) } else { 0 };
        most * (with_hashes(size_of::<(FlowKey, FlowStates)>()) + second)
    }

    /// Flows at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Bytes that functions keep of the streams of all flows.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// What is known of a flow, by either of its names.
    pub(super) fn get(&self, key: &FlowKey) -> Option<&FlowStates> {
        self.flows.get(&self.first_name(key))
    }

    /// The second name of what is known of a flow. Where none has one, it is not looked at: after a
    /// move it is in the cache of another core.
    pub(super) fn second_key(&self, states: &FlowStates) -> Option<FlowKey> {
        self.are_translated.then(|| states.second_key()).flatten()
    }

    /// The first name of a flow that has this name; the same, if none has it.
    #[inline]
    pub(super) fn first_name(&self, key: &FlowKey) -> FlowKey {
        if self.names.is_empty() { *key } else { *self.names.get(key).unwrap_or(key) }
    }

    /// The place of a flow under [`Self::len`], by either of its names. It stays until a flow is put or
    /// removed.
    #[inline]
    pub(super) fn find(&self, key: &FlowKey) -> Option<usize> {
        self.flows.get_index_of(&self.first_name(key))
    }

    /// What is known of the flow at a place.
    #[inline]
    pub(super) fn known_at(&self, place: usize) -> Option<&FlowStates> {
        self.flows.get_index(place).map(|(_, known)| known)
    }

    /// Changes what is known of the flow at a place, and counts what is kept of it. It is found under
    /// the second name that it has then; if another flow has that, it is given up.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        place: usize,
        change: impl FnOnce(&mut FlowStates) -> R,
    ) -> Option<(R, Renamed)> {
        let (first, known) = self.flows.get_index_mut(place)?;
        let (first, had) = (*first, known.translated().copied());
        let answer = change(known);
        let before = std::mem::replace(&mut known.kept, nf::kept(&known.states));
        self.kept = self.kept - before + known.kept;
        if known.translated() == had.as_ref() {
            return Some((answer, Renamed::No));
        }
        let (had, has) = (second_name(&first, had), known.second_key());
        Some((answer, if had == has { Renamed::No } else { self.rename(&first, had, has) }))
    }

    /// Keeps what is known of a flow, by its first name. What there is no room for, or that has a
    /// name of another flow, comes back.
    pub(super) fn put(&mut self, key: FlowKey, states: FlowStates) -> Result<(), FlowStates> {
        let second = self.second_key(&states);
        if self.flows.contains_key(&key) {
            debug_assert!(false, "what is known of a flow is in one place");
            self.remove(&key);
        }
        let is_taken = |name: &FlowKey| self.get(name).is_some();
        if self.flows.len() >= self.most || is_taken(&key) || second.as_ref().is_some_and(is_taken)
        {
            return Err(states);
        }
        self.kept += states.kept;
        self.flows.insert(key, states);
        self.names.extend(second.map(|second| (second, key)));
        Ok(())
    }

    /// Has a flow, by its first name, found under the second that it has now, and no more under that
    /// which it had.
    fn rename(&mut self, first: &FlowKey, had: Option<FlowKey>, has: Option<FlowKey>) -> Renamed {
        had.iter().for_each(|had| self.unname(first, had));
        let Some(second) = has else { return Renamed::No };
        if self.get(&second).is_some() {
            // What comes back would be led to the other flow.
            let known = self.flows.swap_remove(first);
            self.kept -= known.as_ref().map_or(0, FlowStates::kept);
            return known.map_or(Renamed::No, Renamed::GivenUp);
        }
        self.names.insert(second, *first);
        Renamed::To(second)
    }

    fn unname(&mut self, first: &FlowKey, second: &FlowKey) {
        if self.names.get(second) == Some(first) {
            self.names.swap_remove(second);
        }
    }

    /// Forgets a flow that may be half changed, by either of its names; what was known.
    pub(super) fn remove_half_changed(&mut self, key: &FlowKey) -> Option<FlowStates> {
        let first = self.first_name(key);
        let removed = self.remove(&first);
        self.names.retain(|_, of| *of != first);
        removed.map(|removed| removed.states)
    }

    /// Forgets flows that are known under one of their names in another place, of which `others` is
    /// what is known. They are `given_up`.
    pub(super) fn forget_those_of(&mut self, others: &Self, given_up: &mut Vec<FlowStates>) {
        if others.len() == 0 {
            return;
        }
        let mut place = self.len();
        while let Some(below) = place.min(self.len()).checked_sub(1) {
            place = below;
            let Some((key, known)) = self.flows.get_index(place) else { return };
            let key = *key;
            let mut names = std::iter::once(key).chain(known.second_key());
            if names.any(|name| others.get(&name).is_some()) {
                given_up.extend(self.remove(&key).map(|removed| removed.states));
            }
        }
    }

    /// Forgets a flow, by either of its names.
    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<Removed> {
        let first = self.first_name(key);
        let states = self.flows.swap_remove(&first)?;
        let second = self.second_key(&states);
        second.iter().for_each(|second| self.unname(&first, second));
        self.kept -= states.kept;
        Some(Removed { first, second, states })
    }

    /// Brings what a flow is found by into the cache: looks it up, though nobody wants to know, which
    /// the compiler must not see. Looks at several flows wait for memory at the same time.
    #[inline]
    pub(super) fn prefetch(&self, key: &FlowKey) {
        black_box(self.find(key));
    }

    /// The same for the last flows, so many: they take the places of those that are removed.
    pub(super) fn prefetch_last(&self, count: usize) {
        self.flows.keys().rev().take(count).for_each(|key| self.prefetch(key));
    }

    /// The flow at a place under [`Self::len`]. Places change when flows are removed: the last one
    /// takes the place. A walk from the end to the beginning misses none that stays.
    pub(super) fn at(&self, place: usize) -> Option<&FlowKey> {
        self.flows.get_index(place).map(|(key, _)| key)
    }
}

/// The second name of a flow that is translated, if it is another than the first.
fn second_name(first: &FlowKey, translated: Option<FlowKey>) -> Option<FlowKey> {
    translated.map(|translated| translated.both_ways()).filter(|second| second != first)
}
