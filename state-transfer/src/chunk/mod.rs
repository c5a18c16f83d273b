//! Chunks: pieces of state on their way from one network function to another.

mod body;
mod codec;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::flow_id::FlowId;

pub use body::{BodyError, decode_body};
pub use codec::{CHUNK_MAX, ChunkError};

/// Bytes of the state in one chunk at most.
pub const BODY_MAX: usize = 1 << 20;

/// Related state of one flow, or of one set of flows (OpenNF, section 4.2).
///
/// Who carries it does not look into it: only network functions know what the body means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The flows that the state is about.
    pub id: FlowId,
    /// How many flows it applies to.
    pub scope: Scope,
    /// What the body is, and its layout.
    pub schema: Schema,
    /// Updates that the state has seen: of two chunks of one flow the one with more is newer.
    pub version: u64,
    /// How long ago the state was last updated.
    pub age: Duration,
    /// How long the state still lives if no packet comes; none when it does not end by itself.
    /// Clocks differ from process to process, so times travel as what is left of them.
    pub time_left: Option<Duration>,
    /// The state itself, [`BODY_MAX`] bytes at most.
    pub body: Vec<u8>,
}

/// What tells the state in a chunk from what it was before or is later: chunks about the same, of
/// the same schema, that are equal in this say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    version: u64,
    /// Of the body: that of state without a version changes as well.
    checksum: u32,
}

impl Chunk {
    /// What tells the state from what it was before or is later. How old it is says nothing.
    pub fn edition(&self) -> Edition {
        Edition { version: self.version, checksum: crc32c::crc32c(&self.body) }
    }
}

/// How many flows a piece of state applies to (OpenNF, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One flow.
    PerFlow,
    /// Several flows, such as those of a host.
    MultiFlow,
    /// Every packet.
    AllFlows,
}

/// The kind of a body, and the layout of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schema {
    /// The kind: a number that no other kind of state has.
    pub kind: u16,
    /// Its layout: one that a network function does not know, it refuses.
    pub revision: u16,
}

impl Scope {
    /// Every scope, from the smallest on.
    pub const ALL: [Self; 3] = [Self::PerFlow, Self::MultiFlow, Self::AllFlows];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerFlow => "per-flow",
            Self::MultiFlow => "multi-flow",
            Self::AllFlows => "all-flows",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind as documents and sources write it, in hexadecimal, and the revision: `0x8001.2`.
impl std::fmt::Display for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}.{}", self.kind, self.revision)
    }
}
