//! What a network function must offer so that its state can be moved, copied and shared: the
//! southbound API of OpenNF (section 4.2).
//!
//! A network function in an instance implements [`Southbound`]; one in a process of its own
//! offers the same over gRPC.

mod error;
mod events;
mod queue;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use crate::chunk::{Chunk, Schema, Scope};
use crate::flow_id::{Extent, FlowId};
use crate::merge::MergeRule;
use crate::state_filter::StateFilter;

pub use error::{EventsError, PutError};
pub use events::{Action, Arrival, EventLimits, Events, Marks, SubscriptionId};
pub use queue::{Cause, Event, Note};

/// A kind of state that a network function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKind {
    /// How many flows a piece of it applies to.
    pub scope: Scope,
    /// What its chunks are marked with.
    pub schema: Schema,
    /// Its name, for people.
    pub name: &'static str,
    /// By which rules its parts are merged with what is known where they are put.
    pub merge_rules: &'static [MergeRule],
}

impl StateKind {
    /// A copy of state of this kind. What is not in its body is for the caller to say: version and
    /// age, which who counts packets knows of a flow; merged state has none.
    pub fn chunk(&self, id: FlowId, body: Vec<u8>) -> Chunk {
        Chunk {
            id,
            scope: self.scope,
            schema: self.schema,
            version: 0,
            age: Duration::ZERO,
            time_left: None,
            body,
        }
    }

    /// Whether a chunk is of this kind. State of all flows is about any flow.
    ///
    /// # Errors
    /// When its scope or its schema is another, or it is of all flows and about some.
    pub fn check(&self, chunk: &Chunk) -> Result<(), PutError> {
        let (scope, schema) = (chunk.scope, chunk.schema);
        if (scope, schema) != (self.scope, self.schema) {
            return Err(PutError::UnknownSchema { scope, schema });
        }
        if scope == Scope::AllFlows && chunk.id != FlowId::default() {
            return Err(PutError::wrong_id(chunk));
        }
        Ok(())
    }
}

/// Where a get goes on: the network function's own business, but for its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(pub u64);

/// Whether a get has found all that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It goes on at the cursor.
    Yes,
    /// That was all.
    No,
}

/// A network function whose state can be taken out and put in.
///
/// It is called on the thread that processes its packets, between two of them. A get gives so
/// many chunks at most that packets do not wait for long, and is called again. A put is
/// idempotent: the same chunk twice is the same as once. What is deleted leaves without the
/// records that the end of a flow would make, since the flow goes on elsewhere.
pub trait Southbound {
    /// The kinds of state that it has.
    fn kinds(&self) -> &[StateKind];

    /// Changes of its state until now, of whatever kind it is and whatever has made them: a packet, a
    /// put, a move, an end. Then `since` of a get is compared with the count at which a piece has
    /// changed last, by the function itself. None where it does not count them so: versions of
    /// chunks are compared then, by who serves it.
    fn changes(&self) -> Option<u64> {
        None
    }

    /// What it has counted, for people: 64 counters at most, each with a name in snake_case of 64
    /// bytes at most that no other has.
    fn counters(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        Vec::new()
    }

    /// Per-flow state of the flows that a filter picks. One in use that has to finish here is passed
    /// over: see [`Self::take_in_use`].
    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More;

    /// Takes in the state of a flow, in the place of what it has of that flow. A chunk of version 0
    /// is of who counts none, and as new as anything.
    ///
    /// # Errors
    /// Why the state can not be taken in, as when what is known is newer; nothing has changed then.
    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError>;

    /// Forgets flows, silently; how many it knew. One that is in use, or has been since it was given,
    /// may stay: see [`Self::take_in_use`].
    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize;

    /// Multi-flow state that a filter picks.
    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More;

    /// Merges multi-flow state with what it has: see [`crate::merge`].
    ///
    /// # Errors
    /// Why the state can not be taken in; nothing has changed then.
    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError>;

    /// Forgets multi-flow state, silently; of how many ids it had some, of whatever kinds.
    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize;

    /// All-flows state: it is never deleted, as it always applies.
    fn get_all_flows(&mut self) -> Vec<Chunk>;

    /// Merges all-flows state with what it has.
    ///
    /// # Errors
    /// Why the state can not be taken in; nothing has changed then.
    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError>;

    /// From here on packets that match raise events, and are processed, kept or dropped. An event
    /// has `snap` bytes of its packet at most.
    ///
    /// # Errors
    /// When there are too many subscriptions, or one of that number, or the action is none that
    /// it can offer.
    fn enable_events(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError>;

    /// Ends a subscription. Packets that were kept for it alone are processed, oldest first.
    ///
    /// # Errors
    /// When there is none of that number.
    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError>;

    /// The next thing that a subscriber is to be told: see [`Events::poll`].
    fn poll_event(&mut self, id: SubscriptionId) -> Option<Note>;

    /// A subscriber has dealt with an event: see [`Events::give_back`].
    fn give_back(&mut self, event: Event);

    /// Which flows the last call has passed over, or not forgotten, because they are in use and
    /// finish here; told once. None where all state can go at any time, between two packets.
    fn take_in_use(&mut self) -> Vec<FlowId> {
        Vec::new()
    }

    /// Why the last call was not carried out, told once: what that call gave is no answer then.
    /// Only a function whose state is elsewhere, such as in a kernel, can fail so.
    fn take_failure(&mut self) -> Option<String> {
        None
    }
}

/// What a get asks for.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// Which state.
    pub filter: &'a StateFilter,
    /// How much of what a piece is about the filter must name.
    pub extent: Extent,
    /// Only what has changed after so many [`Southbound::changes`], where these are counted; 0 for
    /// all.
    pub since: u64,
    /// Chunks at most in one call, unless there are more of one flow.
    pub max: usize,
}
