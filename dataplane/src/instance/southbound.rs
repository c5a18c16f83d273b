//! An instance as a network function whose state can be taken out and put in.

#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;
use weir_state_transfer::bucket::{BUCKETS, Bucket};
use weir_state_transfer::southbound::{
    Action, Cursor, Event, EventsError, Get, More, Note, PutError, Southbound, StateKind,
    SubscriptionId,
};
use weir_state_transfer::state_filter::StateFilter;
use weir_state_transfer::{Chunk, FlowId, FlowKey, MoveId, Nanos};

use super::copies::CopiesCursor;
use super::states::Newer;
use super::{FlowStates, FlowTable, Instance, StatesCursor};
use crate::nf::{self, FUNCTIONS_MAX, FlowState};
use crate::steering::{FlowHash, Steering};

/// Places of the tables that one call of a get looks at, at most.
const LOOKED_AT: usize = 256;
/// Bytes of chunks of flows after which one call of a get has given enough.
const BYTES: usize = 64 << 10;

/// An instance between two packets, for whoever asks for its state.
pub(crate) struct AsFunction<'a> {
    pub(crate) instance: &'a mut Instance,
    /// Divides flows into buckets.
    pub(crate) hash: &'a FlowHash,
    /// Which instance gets the packets of a flow.
    pub(crate) steering: &'a Steering,
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

    fn changes(&self) -> Option<u64> {
        Some(self.instance.flows.changes())
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        let Instance { flows, chain, .. } = &*self.instance;
        let mut at = FlowCursor::of(*cursor);
        let (first, mut looked_at, mut bytes) = (out.len(), 0, 0);
        while !at.is_done() && looked_at < LOOKED_AT && bytes < BYTES {
            let before = at;
            looked_at += 1;
            let Some((known, changed)) = at.next(flows) else { continue };
            if get.since != 0 && changed <= get.since {
                continue;
            }
            let chunks = (0..known.states.len())
                .filter_map(|place| chain.chunk_of_flow(place, &known.states, get, self.now))
                .map(|chunk| Chunk { version: known.written(), ..chunk });
            let chunks: ArrayVec<_, FUNCTIONS_MAX> = chunks.collect();
            // A flow is given as a whole: a place is no way to remember half of one.
            if out.len() > first && out.len() + chunks.len() > first + get.max {
                at = before;
                break;
            }
            bytes += chunks.iter().map(|chunk| chunk.body.len()).sum::<usize>();
            out.extend(chunks);
        }
        *cursor = at.into();
        if at.is_done() { More::No } else { More::Yes }
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        let (place, state) = self.instance.chain.flow_of(&chunk, self.now)?;
        let key = chunk.id.key().ok_or_else(|| PutError::wrong_id(&chunk))?;
        let bucket = self.hash.bucket(&key);
        self.check_names(&chunk, &key, &state)?;
        if !self.owns(&key, bucket) {
            return self.put_copy(&chunk, (&key, bucket), (place, state));
        }
        // What was put before the instance owned it.
        self.instance.adopt_copy(&key, bucket, self.now);
        let Instance { flows, chain, .. } = &mut *self.instance;
        let others = flows.kept();
        if !flows.knows(&key, bucket) {
            let mut known = FlowStates::new(chain.unknown(), 0);
            let put = known.put(place, state, chunk.version);
            debug_assert!(put.is_ok(), "nothing is known");
            chain.fit(&mut known.states, 0, others);
            known.recount();
            chain.kept(&known.states);
            let kept = flows.keep(key, bucket, known);
            return kept.map_err(|left| {
                chain.lost(&left.states);
                PutError::full(&chunk, "flows", flows.room(bucket))
            });
        }
        let change = flows.change();
        let put = flows.change_states(&key, bucket, |known| {
            let before = known.kept();
            let replaced = known.put(place, state, chunk.version)?;
            chain.replaced(place, &replaced, &known.states[place]);
            known.set_changed(change);
            chain.fit(&mut known.states, before, others - before);
            Ok(known.written())
        });
        let written =
            put.unwrap_or(Ok(0)).map_err(|Newer(known)| PutError::older(&chunk, known))?;
        flows.see_written(written);
        Ok(())
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        let Self { instance, hash, .. } = self;
        let keys = ids.iter().filter_map(FlowId::key);
        let deleted = keys.filter(|key| instance.flows.forget(key, hash.bucket(key))).count();
        instance.settle();
        deleted
    }

    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        // Any change since may be one of it.
        if get.since != 0 && self.instance.flows.changes() <= get.since {
            return More::No;
        }
        self.instance.chain.get_multi_flow(get, cursor, out, self.now)
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.instance.chain.put_multi_flow(&chunk, self.now)?;
        self.instance.flows.change();
        Ok(())
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        self.instance.chain.del_multi_flow(ids)
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        self.instance.chain.get_all_flows()
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.instance.chain.put_all_flows(&chunk)?;
        self.instance.flows.change();
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
        if let (Action::Buffer, Some(share)) = (action, self.instance.shares.first()) {
            return Err(EventsError::Sharing(share));
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
    /// Whether the instance owns a flow, as far as it can know: it has something of it, or the bucket,
    /// and no rule gives the flow to another. A bucket that is on its way here brings its flows.
    fn owns(&mut self, key: &FlowKey, bucket: Bucket) -> bool {
        let Self { instance: Instance { id, flows, .. }, hash, steering, .. } = self;
        flows.has_flow(key, bucket, |_| true)
            || (flows.owns(bucket) && steering.owner(key, hash.hash(key)) == *id)
    }

    /// Takes in what one function knows elsewhere of a flow that the instance does not own. What all
    /// copies keep of streams is half of what an instance may keep at most.
    fn put_copy(
        &mut self,
        chunk: &Chunk,
        (key, bucket): (&FlowKey, Bucket),
        (place, state): (usize, FlowState),
    ) -> Result<(), PutError> {
        let Instance { flows, chain, .. } = &mut *self.instance;
        let first = key.both_ways();
        // One that is over, or of another flow that had this name, is of no use any more.
        let known = flows.copies.remove(key, bucket);
        let known = known
            .filter(|known| known.first == first && !chain.is_over(&known.states.states, self.now));
        let known = known.map(|known| known.states);
        let mut known = known.unwrap_or_else(|| FlowStates::new(chain.unknown(), 0));
        let before = known.kept();
        let older = known.put(place, state, chunk.version).err();
        if older.is_none() {
            flows.see_written(known.written());
            known.set_changed(flows.change());
        }
        let others = flows.kept_of_copies();
        chain.fit(&mut known.states, before, flows.kept() + others);
        let twice = 2 * others + nf::kept(&known.states);
        chain.fit(&mut known.states, before, twice);
        known.recount();
        let put = flows.copies.put(first, bucket, known);
        put.map_err(|_| PutError::full(chunk, "copies of flows of others", flows.copies.most()))?;
        older.map_or(Ok(()), |Newer(known)| Err(PutError::older(chunk, known)))
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
}

/// How far a get of per-flow state has come: over copies first, which become flows of the table and
/// never the other way.
#[derive(Clone, Copy, Debug)]
enum FlowCursor {
    Copies(CopiesCursor),
    States(StatesCursor),
}

/// Where the parts of a cursor lie: the bucket of copies or behind all of these the part of the
/// table, and the places ahead plus one.
const PART_SHIFT: u32 = 48;

impl FlowCursor {
    fn of(Cursor(number): Cursor) -> Self {
        let part = (number >> PART_SHIFT) as usize;
        let ahead = ((number & ((1 << PART_SHIFT) - 1)) as usize).checked_sub(1);
        match part.checked_sub(BUCKETS) {
            None => Self::Copies(CopiesCursor { bucket: part, ahead }),
            Some(part) => Self::States(StatesCursor { part, ahead }),
        }
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::States(cursor) if cursor.is_done())
    }

    /// What is known of the next flow, and the number of its last change; none when a part has no more.
    fn next<'a>(&mut self, flows: &'a FlowTable) -> Option<(&'a FlowStates, u64)> {
        match self {
            Self::Copies(cursor) => {
                let Some((key, bucket)) = flows.copies.next(cursor) else {
                    *self = Self::States(StatesCursor::default());
                    return None;
                };
                flows.copies.get(&key, bucket).map(|known| (known, known.changed()))
            }
            Self::States(cursor) => {
                let place = flows.next_place(cursor)?;
                flows.states_at(cursor, place)
            }
        }
    }
}

impl From<FlowCursor> for Cursor {
    fn from(cursor: FlowCursor) -> Self {
        let (part, ahead) = match cursor {
            FlowCursor::Copies(CopiesCursor { bucket, ahead }) => (bucket, ahead),
            FlowCursor::States(StatesCursor { part, ahead }) => (BUCKETS + part, ahead),
        };
        let ahead = ahead.map_or(0, |ahead| ahead as u64 + 1);
        Self((part as u64) << PART_SHIFT | ahead)
    }
}
