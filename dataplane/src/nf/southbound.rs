//! What the southbound API takes of a chain: the state of its functions, one after the other.

use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, Nanos};

use super::chain::Chain;
use super::function::FlowState;

/// Bits of a cursor that are the function's own; those above are its place in the chain.
const CURSOR_BITS: u32 = 56;

impl Chain {
    /// The kinds of state that its functions have.
    pub(crate) fn kinds(&self) -> Vec<StateKind> {
        self.functions.iter().flat_map(|function| function.kinds()).copied().collect()
    }

    /// What one function knows of a flow, if a get asks for it by any of its names. `place` is that
    /// of the function.
    pub(crate) fn chunk_of_flow(
        &self,
        place: usize,
        states: &[FlowState],
        get: &Get<'_>,
        now: Nanos,
    ) -> Option<Chunk> {
        let (function, state) = (self.functions.get(place)?, states.get(place)?);
        let second = states.last().and_then(FlowState::translated).map(FlowId::flow);
        let mut names = state.id().into_iter().flat_map(|id| [Some(id), second.clone()]).flatten();
        let is_picked = names.any(|id| get.filter.picks(&id, get.extent));
        is_picked.then(|| function.chunk_of(state, self.moment(now))).flatten()
    }

    /// The state of a flow that a chunk is, with the place of the function that it is of.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn flow_of(
        &self,
        chunk: &Chunk,
        now: Nanos,
    ) -> Result<(usize, FlowState), PutError> {
        let place = self.place_of(chunk)?;
        let state = self.functions[place].state_of(chunk, self.moment(now))?;
        Ok((place, state))
    }

    /// Whether all that is known of a flow has been idle for too long: of a copy, whose end makes no
    /// record.
    pub(crate) fn is_over(&self, states: &[FlowState], now: Nanos) -> bool {
        let now = self.moment(now);
        self.functions.iter().zip(states).all(|(function, state)| function.is_over(state, now))
    }

    /// What several flows have in common, function by function.
    pub(crate) fn get_multi_flow(
        &mut self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Nanos,
    ) -> More {
        let (place, now) = (cursor.0 >> CURSOR_BITS, self.moment(now));
        let Ok(at) = usize::try_from(place) else { return More::No };
        let Some(function) = self.functions.get(at) else { return More::No };
        let mut own = Cursor(cursor.0 & ((1 << CURSOR_BITS) - 1));
        self.faults.begin(at);
        let more = function.get_multi_flow(get, &mut own, out, now);
        self.faults.done();
        if more == More::Yes {
            *cursor = Cursor(place << CURSOR_BITS | own.0);
            return More::Yes;
        }
        *cursor = Cursor((place + 1) << CURSOR_BITS);
        if place + 1 < self.functions.len() as u64 { More::Yes } else { More::No }
    }

    /// Joins what several flows have in common elsewhere with what is known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn put_multi_flow(&mut self, chunk: &Chunk, now: Nanos) -> Result<(), PutError> {
        let (place, now) = (self.place_of(chunk)?, self.moment(now));
        self.faults.begin(place);
        let put = self.functions[place].put_multi_flow(chunk, now);
        self.faults.done();
        put
    }

    /// Forgets what flows have in common; of how many ids there was something, at whichever functions.
    pub(crate) fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let Self { functions, faults, .. } = self;
        let is_known = |id: &&FlowId| {
            let id = std::slice::from_ref(*id);
            // Every function has to forget it, so none is passed over once one has known it.
            let pieces = functions.iter_mut().enumerate().map(|(place, function)| {
                faults.begin(place);
                function.del_multi_flow(id)
            });
            pieces.sum::<usize>() > 0
        };
        let known = ids.iter().filter(is_known).count();
        faults.done();
        known
    }

    /// What is known of all flows together.
    pub(crate) fn get_all_flows(&self) -> Vec<Chunk> {
        self.functions.iter().flat_map(|function| function.get_all_flows()).collect()
    }

    /// Joins what is known of all flows elsewhere with what is known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        let place = self.place_of(chunk)?;
        self.functions[place].put_all_flows(chunk)
    }

    /// The place of the function whose state a chunk is.
    fn place_of(&self, chunk: &Chunk) -> Result<usize, PutError> {
        let (scope, schema) = (chunk.scope, chunk.schema);
        let is_of = |kind: &StateKind| (kind.scope, kind.schema) == (scope, schema);
        let place = self.functions.iter().position(|function| function.kinds().iter().any(is_of));
        place.ok_or(PutError::UnknownSchema { scope, schema })
    }
}
