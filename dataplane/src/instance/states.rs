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
}

impl FlowStates {
    /// What is known of a flow that began here.
    pub(crate) fn new(states: Box<[FlowState]>) -> Self {
        Self { states, moved: MoveId(0) }
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
        debug_assert!(before.is_none(), "what is known of a flow is in one place");
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
