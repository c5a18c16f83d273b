//! What network functions know of the flows of one part.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use weir_state_transfer::{FlowKey, MoveId, Nanos};

use crate::nf::FlowState;

/// The states of flows by [`FlowKey::both_ways`], so many at most.
///
/// A flow that a NAT translates has two names, and is found by both. A name is of one flow only,
/// so that the names are what is taken of external ports too.
///
/// It has its memory from the first flow on and never grows, so that a packet never waits for it.
#[derive(Debug)]
pub(super) struct States {
    flows: IndexMap<FlowKey, FlowStates, FixedState>,
    /// The first name of each second one; it has its memory from the first of these on.
    names: HashMap<FlowKey, FlowKey, FixedState>,
    most: usize,
}

/// What each function of an instance knows of a flow, in their order. It moves as one.
#[derive(Debug)]
pub struct FlowStates {
    /// By function.
    pub states: Box<[FlowState]>,
    moved: MoveId,
    /// The second name under which it is found.
    second: Option<FlowKey>,
}

impl FlowStates {
    /// What is known of a flow that began here.
    pub(crate) fn new(states: Box<[FlowState]>) -> Self {
        Self { states, moved: MoveId(0), second: None }
    }

    /// The second name of the flow, if it has one, made the same [both ways](FlowKey::both_ways).
    pub(crate) fn second_key(&self) -> Option<FlowKey> {
        self.states.last().and_then(FlowState::second_key)
    }

    /// Whether the time of its translation is over.
    pub(crate) fn is_over(&self, now: Nanos) -> bool {
        self.states.last().is_some_and(|state| state.is_translation_over(now))
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
        let names = HashMap::with_hasher(hasher.clone());
        Self { flows: IndexMap::with_capacity_and_hasher(most, hasher), names, most }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether a flow has this name.
    pub(super) fn has(&self, key: &FlowKey) -> bool {
        self.flows.contains_key(key) || self.names.contains_key(key)
    }

    pub(super) fn get_mut(&mut self, key: &FlowKey) -> Option<&mut FlowStates> {
        if self.names.is_empty() {
            return self.flows.get_mut(key);
        }
        let first = self.names.get(key).unwrap_or(key);
        self.flows.get_mut(first)
    }

    /// Keeps what is known of a flow, by its first name; what there is no room for, or that has a
    /// name of another, comes back.
    pub(super) fn put(&mut self, key: FlowKey, states: FlowStates) -> Result<(), FlowStates> {
        let second = states.second_key();
        let is_full = self.flows.len() >= self.most && !self.flows.contains_key(&key);
        if is_full || second.is_some_and(|second| self.has(&second)) {
            return Err(states);
        }
        let before = self.flows.insert(key, states);
        debug_assert!(before.is_none(), "what is known of a flow is in one place");
        self.rename(&key);
        Ok(())
    }

    /// Has a flow, named by either of its names, found under the second that it has now, which comes
    /// back if it is another than before.
    pub(super) fn rename(&mut self, key: &FlowKey) -> Option<FlowKey> {
        let first = *self.names.get(key).unwrap_or(key);
        let known = self.flows.get_mut(&first)?;
        let second = known.second_key();
        if known.second == second {
            return None;
        }
        if let Some(old) = std::mem::replace(&mut known.second, second) {
            self.names.remove(&old);
        }
        if let Some(second) = second {
            if self.names.capacity() == 0 {
                self.names.reserve(self.most);
            }
            let before = self.names.insert(second, first);
            debug_assert!(before.is_none(), "a name is of one flow");
        }
        second
    }

    /// Forgets a flow, named by either of its names; its first name, and what was known.
    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<(FlowKey, FlowStates)> {
        let first = *self.names.get(key).unwrap_or(key);
        let states = self.flows.swap_remove(&first)?;
        if let Some(second) = states.second {
            self.names.remove(&second);
        }
        Some((first, FlowStates { second: None, ..states }))
    }

    /// The flow at a place under [`Self::len`]. Places change when flows are removed: the last one
    /// takes the place. A walk from the end to the beginning misses none that stays.
    pub(super) fn at(&mut self, place: usize) -> Option<(&FlowKey, &mut FlowStates)> {
        self.flows.get_index_mut(place)
    }
}
