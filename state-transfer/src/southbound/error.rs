//! Why a network function refuses.

use crate::chunk::{BodyError, Chunk, ChunkError, Schema, Scope};
use crate::flow_id::FlowId;
use crate::flow_key::FlowKey;

use super::SubscriptionId;

/// Why state is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The bytes are not a chunk.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The network function has no such kind of state, or not in that layout.
    #[error("{scope} state of schema {schema} is not known here")]
    UnknownSchema {
        /// How many flows it applies to.
        scope: Scope,
        /// Its schema.
        schema: Schema,
    },
    /// The chunk is about something else than state of its kind is.
    #[error("{scope} state can not be about {id}")]
    WrongId {
        /// How many flows it applies to.
        scope: Scope,
        /// What the chunk is about.
        id: Box<FlowId>,
    },
    /// The body is not what its schema says.
    #[error("the state of {id} is malformed: {why}")]
    BadBody {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// What is wrong with it.
        why: String,
    },
    /// There is no room.
    #[error("there is no room for the state of {id}: {most} {what} are the most")]
    Full {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// What there is no room for.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
    /// It takes what belongs to another flow here.
    #[error("the state of {id} can not be here: another flow has {taken}")]
    Taken {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// The flow that it would be the second with.
        taken: Box<FlowKey>,
    },
}

impl PutError {
    /// State of the kind of a chunk can not be about what the chunk is.
    pub fn wrong_id(chunk: &Chunk) -> Self {
        Self::WrongId { scope: chunk.scope, id: Box::new(chunk.id.clone()) }
    }

    /// The body of a chunk is malformed.
    pub fn bad_body(chunk: &Chunk, why: &BodyError) -> Self {
        Self::BadBody { id: Box::new(chunk.id.clone()), why: why.to_string() }
    }

    /// There is no room for what is in a chunk.
    pub fn full(chunk: &Chunk, what: &'static str, most: usize) -> Self {
        Self::Full { id: Box::new(chunk.id.clone()), what, most }
    }

    /// A flow that the state in a chunk takes is another's.
    pub fn taken(chunk: &Chunk, taken: &FlowKey) -> Self {
        Self::Taken { id: Box::new(chunk.id.clone()), taken: Box::new(*taken) }
    }
}

/// Why events are not enabled or disabled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// There is a subscription of that number.
    #[error("subscription {0} is there already: disable it first")]
    Exists(SubscriptionId),
    /// There is none of that number.
    #[error("there is no subscription {0}")]
    Unknown(SubscriptionId),
    /// There are as many as there may be.
    #[error("{0} subscriptions are the most: disable one first")]
    TooMany(usize),
}
