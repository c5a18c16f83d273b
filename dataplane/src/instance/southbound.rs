//! An instance as a network function whose state can be taken out and put in.

#[cfg(test)]
mod tests;

use weir_state_transfer::southbound::{
    Action, Cursor, Event, EventsError, Get, More, Note, PutError, Southbound, StateKind,
    SubscriptionId,
};
use weir_state_transfer::state_filter::StateFilter;
use weir_state_transfer::{Chunk, FlowId, FlowKey, MoveId, Nanos};

use super::{FlowStates, Instance, StatesCursor};
use crate::nf::FlowState;
use crate::steering::FlowHash;

/// Places of the tables that one call of a get looks at, at most.
const LOOKED_AT: usize = 256;

/// An instance between two packets, for whoever asks for its state.
pub(crate) struct AsFunction<'a> {
    pub(crate) instance: &'a mut Instance,
    /// Divides flows into buckets.
    pub(crate) hash: &'a FlowHash,
    pub(crate) now: Nanos,
    /// A move that the instance takes part in, if there is one.
    pub(crate) moving: Option<MoveId>,
    /// Bytes of a packet at most.
    pub(crate) packet_max: usize,
}

impl Southbound for AsFunction<'_> {
    fn kinds(&self) -> &[StateKind] {
        &self.instance.kinds
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        let Instance { flows, chain, .. } = &mut *self.instance;
        let mut at = FlowCursor::of(*cursor);
        let (mut looked_at, most) = (0, out.len() + get.max);
        while !at.walk.is_done() && looked_at < LOOKED_AT && out.len() < most {
            looked_at += 1;
            let before = at.walk;
            let Some(place) = flows.next_place(&mut at.walk) else {
                at.function = 0;
                continue;
            };
            let Some((known, version)) = flows.states_at(&at.walk, place) else { continue };
            let functions = known.states.len();
            while at.function < functions && out.len() < most {
                let chunk = chain.chunk_of_flow(at.function, &known.states, get, self.now);
                out.extend(chunk.map(|chunk| Chunk { version, ..chunk }));
                at.function += 1;
            }
            // With functions left, the next call goes on with them.
            if at.function < functions { at.walk = before } else { at.function = 0 }
        }
        *cursor = at.into();
        if at.walk.is_done() { More::No } else { More::Yes }
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        let (place, state) = self.instance.chain.flow_of(&chunk, self.now)?;
        let key = chunk.id.key().ok_or_else(|| PutError::wrong_id(&chunk))?;
        let bucket = self.hash.bucket(&key);
        self.check_names(&chunk, &key, &state)?;
        let Instance { flows, chain, .. } = &mut *self.instance;
        flows.see_version(chunk.version);
        if !flows.knows(&key, bucket) {
            let mut states = chain.unknown();
            states[place] = state;
            let kept = flows.keep(key, bucket, FlowStates::copy(states, chunk.version));
            return kept.map_err(|_| PutError::full(&chunk, "flows", flows.room(bucket)));
        }
        let of_part = flows.version_of_part(&key, bucket);
        flows.change_states(&key, bucket, |known| {
            known.set_version(of_part);
            known.put(place, state, chunk.version);
        });
        Ok(())
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        let Self { instance, hash, .. } = self;
        let keys = ids.iter().filter_map(FlowId::key);
        keys.filter(|key| instance.flows.forget(key, hash.bucket(key))).count()
    }

    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        let first = out.len();
        let more = self.instance.chain.get_multi_flow(get, cursor, out, self.now);
        self.number(&mut out[first..]);
        more
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.instance.chain.put_multi_flow(&chunk, self.now)?;
        self.joined(chunk.version);
        Ok(())
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        self.instance.chain.del_multi_flow(ids)
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        let mut chunks = self.instance.chain.get_all_flows();
        self.number(&mut chunks);
        chunks
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.instance.chain.put_all_flows(&chunk)?;
        self.joined(chunk.version);
        Ok(())
    }

    fn enable_events(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        if let (Action::Buffer, Some(moving)) = (action, self.moving) {
            return Err(EventsError::Moving(moving));
        }
        let snap = snap.min(self.packet_max);
        self.instance.subscriptions.enable(id, filter, action, snap)
    }

    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        self.instance.subscriptions.disable(id)
    }

    fn poll_event(&mut self, id: SubscriptionId) -> Option<Note> {
        self.instance.subscriptions.poll(id)
    }

    fn give_back(&mut self, event: Event) {
        self.instance.subscriptions.give_back(event);
    }
}

impl AsFunction<'_> {
    /// State of more than one flow has been joined with what is here: whoever copies it on is to
    /// see that.
    fn joined(&mut self, version: u64) {
        self.instance.flows.see_version(version);
        self.instance.flows.update();
    }

    /// Whether a flow may have the names that its state gives it.
    fn check_names(&self, chunk: &Chunk, key: &FlowKey, state: &FlowState) -> Result<(), PutError> {
        let (first, second) = (key.both_ways(), state.second_key());
        let bucket = self.hash.bucket(&first);
        if second.is_some_and(|second| self.hash.bucket(&second) != bucket) {
            let what = "translation, which leads to another bucket here".to_owned();
            return Err(PutError::unsupported(chunk, what));
        }
        for name in std::iter::once(first).chain(second) {
            let owner = self.instance.flows.first_name(&name, bucket);
            if let Some(owner) = owner.filter(|owner| *owner != first) {
                return Err(PutError::clash(chunk, format!("{owner} has {name}")));
            }
        }
        Ok(())
    }

    /// Gives state of more than one flow its version: any update since may have changed it.
    fn number(&self, chunks: &mut [Chunk]) {
        let version = self.instance.flows.version();
        chunks.iter_mut().for_each(|chunk| chunk.version = version);
    }
}

/// How far a get of per-flow state has come: flows, and functions of the next one.
#[derive(Clone, Copy, Debug)]
struct FlowCursor {
    walk: StatesCursor,
    function: usize,
}

/// Where the parts of a cursor lie: the part of the table, the places ahead plus one, the function.
const PART_SHIFT: u32 = 48;
const AHEAD_SHIFT: u32 = 8;

impl FlowCursor {
    fn of(Cursor(number): Cursor) -> Self {
        let part = (number >> PART_SHIFT) as usize;
        let ahead = (number >> AHEAD_SHIFT & ((1 << (PART_SHIFT - AHEAD_SHIFT)) - 1)) as usize;
        let walk = StatesCursor { part, ahead: ahead.checked_sub(1) };
        Self { walk, function: (number & ((1 << AHEAD_SHIFT) - 1)) as usize }
    }
}

impl From<FlowCursor> for Cursor {
    fn from(FlowCursor { walk, function }: FlowCursor) -> Self {
        let ahead = walk.ahead.map_or(0, |ahead| ahead as u64 + 1);
        Self((walk.part as u64) << PART_SHIFT | ahead << AHEAD_SHIFT | function as u64)
    }
}
