//! What network functions know of the flows of one part.

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use weir_state_transfer::{FlowKey, MoveId};

use crate::nf::FlowState;

/// The states of flows by [`FlowKey::both_ways`], so many at most.
///
/// It has its memory from the first flow on and never grows, so that a packet never waits for it.
#[derive(Debug)]
pub(super) struct States {
    flows: IndexMap<FlowKey, FlowStates, FixedState>,
    most: usize,
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
}

impl FlowStates {
    /// What is known of a flow that began here.
    pub(crate) fn new(states: Box<[FlowState]>, version: u64) -> Self {
        Self { states, moved: MoveId(0), version, is_copy: false }
    }

    /// What is put of a flow that has not been seen here, before anything is.
    pub(crate) fn copy(unknown: Box<[FlowState]>) -> Self {
        Self { states: unknown, moved: MoveId(0), version: 0, is_copy: true }
    }

    /// Takes in what one function knows elsewhere, unless what is known here is newer.
    pub(crate) fn put(&mut self, function: usize, state: FlowState, version: u64) {
        if version < self.version && !self.states[function].is_unknown() {
            return;
        }
        self.states[function] = state;
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
        Self { flows: IndexMap::with_capacity_and_hasher(most, hasher), most }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut FlowStates> {
        self.flows.get_mut(key)
    }

    /// Keeps what is known of a flow; what there is no room for comes back.
    pub(super) fn put(&mut self, key: FlowKey, states: FlowStates) -> Result<(), FlowStates> {
        if self.flows.len() >= self.most && !self.flows.contains_key(&key) {
            return Err(states);
        }
        let before = self.flows.insert(key, states);
        let is_free = before.is_none_or(|before| before.is_copy());
        debug_assert!(is_free, "what is known of a flow is in one place");
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<FlowStates> {
        self.flows.swap_remove(key)
    }

    /// The flow at a place under [`Self::len`]. Places change when flows are removed: the last one
    /// takes the place. A walk from the end to the beginning misses none that stays.
    pub(super) fn at(&mut self, place: usize) -> Option<(&FlowKey, &mut FlowStates)> {
        self.flows.get_index_mut(place)
    }
}
