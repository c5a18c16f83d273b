//! What network functions know of the flows of one part.

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use weir_state_transfer::{FlowKey, MoveId};

use super::part::Part;

use crate::nf::{self, FlowState};

/// The states of flows by [`FlowKey::both_ways`], so many at most.
///
/// It has its memory from the start and never grows, so that a packet never waits for it.
#[derive(Debug)]
pub(super) struct States {
    flows: IndexMap<FlowKey, FlowStates, FixedState>,
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
    /// The count of updates of its instance when it last changed.
    version: u64,
    /// It was put here and no packet of the flow has come since: another may own the flow.
    is_copy: bool,
    /// Bytes that functions keep of its streams, as they were counted last.
    kept: usize,
}

impl FlowStates {
    /// What is known of a flow that began here.
    pub(crate) fn new(states: Box<[FlowState]>, version: u64) -> Self {
        let kept = nf::kept(&states);
        Self { states, moved: MoveId(0), version, is_copy: false, kept }
    }

    /// What is put of a flow that has not been seen here.
    pub(crate) fn copy(states: Box<[FlowState]>, version: u64) -> Self {
        Self { is_copy: true, ..Self::new(states, version) }
    }

    /// Takes in what one function knows elsewhere, unless what is known here is newer.
    pub(crate) fn put(&mut self, function: usize, state: FlowState, version: u64) {
        if version < self.version && !self.states[function].is_unknown() {
            return;
        }
        self.states[function] = state;
        self.version = self.version.max(version);
    }

    /// It has come, or is as new as all that has come with it.
    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = self.version.max(version);
    }

    /// A packet of the flow is about to change it.
    #[inline]
    pub(crate) fn touch(&mut self, version: u64) {
        (self.version, self.is_copy) = (version, false);
    }

    /// The count of updates of its instance when it last changed.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether it was put here and no packet of the flow has come since: its end makes no record.
    pub(crate) fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Bytes that functions keep of the streams of the flow.
    pub(crate) fn kept(&self) -> usize {
        self.kept
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
    pub(super) fn new(most: usize, hasher: FixedState) -> Self {
        Self { flows: IndexMap::with_capacity_and_hasher(most, hasher), most, kept: 0 }
    }

    /// Bytes that the table of so many flows takes: their places, and twice as many for their
    /// hashes at most.
    pub(super) fn bytes(most: usize) -> usize {
        let place = size_of::<usize>() + size_of::<(FlowKey, FlowStates)>();
        most * (place + 4 * (size_of::<usize>() + 1))
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

    pub(super) fn get(&self, key: &FlowKey) -> Option<&FlowStates> {
        self.flows.get(key)
    }

    /// Changes what is known of a flow, and counts what is kept of it.
    pub(super) fn change<R>(
        &mut self,
        key: &FlowKey,
        change: impl FnOnce(&mut FlowStates) -> R,
    ) -> Option<R> {
        let known = self.flows.get_mut(key)?;
        let answer = change(known);
        let before = std::mem::replace(&mut known.kept, nf::kept(&known.states));
        self.kept = self.kept - before + known.kept;
        Some(answer)
    }

    /// Keeps what is known of a flow; what there is no room for comes back.
    pub(super) fn put(&mut self, key: FlowKey, states: FlowStates) -> Result<(), FlowStates> {
        if self.flows.len() >= self.most && !self.flows.contains_key(&key) {
            return Err(states);
        }
        self.kept += states.kept;
        if let Some(before) = self.flows.insert(key, states) {
            debug_assert!(before.is_copy(), "what is known of a flow is in one place");
            self.kept -= before.kept;
        }
        Ok(())
    }

    /// Forgets copies of what is known of flows of a part, which has come.
    pub(super) fn forget_copies(&mut self, of: &Part) {
        let Some(of) = of.states() else { return };
        for key in of.flows.keys() {
            if self.get(key).is_some_and(FlowStates::is_copy) {
                self.remove(key);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<FlowStates> {
        let removed = self.flows.swap_remove(key)?;
        self.kept -= removed.kept;
        Some(removed)
    }

    /// The flow at a place under [`Self::len`]. Places change when flows are removed: the last one
    /// takes the place. A walk from the end to the beginning misses none that stays.
    pub(super) fn at(&self, place: usize) -> Option<&FlowKey> {
        self.flows.get_index(place).map(|(key, _)| key)
    }
}
