//! Why a network function refuses.

use crate::chunk::{BodyError, Chunk, ChunkError, Schema, Scope};
use crate::flow_id::FlowId;
use crate::id::{MoveId, ShareId};

use super::{Action, SubscriptionId};

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
    /// Another flow has what this one would need.
    #[error("the state of {id} clashes with that of another flow: {with}")]
    Clash {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// The other flow, and what both have.
        with: String,
    },
    /// What is known of the flow is newer. Who copies may go on; who moves has moved nothing.
    #[error("the state of {id} is of version {version}, and what is known here of {known}")]
    Older {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// Its version.
        version: u64,
        /// The version of what is known.
        known: u64,
    },
    /// The state is well-formed, and this network function can not have it.
    #[error("the state of {id} can not be taken in here: {what}")]
    Unsupported {
        /// What the chunk is about.
        id: Box<FlowId>,
        /// The part that can not be taken in, by name.
        what: String,
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

    /// Another flow has what that of a chunk would need.
    pub fn clash(chunk: &Chunk, with: String) -> Self {
        Self::Clash { id: Box::new(chunk.id.clone()), with }
    }

    /// What is known is of a later version than a chunk.
    pub fn older(chunk: &Chunk, known: u64) -> Self {
        Self::Older { id: Box::new(chunk.id.clone()), version: chunk.version, known }
    }

    /// A part of what is in a chunk can not be taken in.
    pub fn unsupported(chunk: &Chunk, what: String) -> Self {
        Self::Unsupported { id: Box::new(chunk.id.clone()), what }
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
    /// A move is in the way, which takes along what such a subscription would keep.
    #[error("move {0} takes part of the state: enable when it has ended")]
    Moving(MoveId),
    /// A share is in the way: what is released late would pass by its order.
    #[error("share {0} has an order of its own: enable when it has ended")]
    Sharing(ShareId),
    /// The network function can not do that with packets, whoever asks.
    #[error("this network function has no packets to {0}")]
    NotOffered(Action),
}
