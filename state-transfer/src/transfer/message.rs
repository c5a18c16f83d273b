//! What the two ends of a transfer say.

use super::{CHUNKS_MAX, Digest, MESSAGE_BYTES_MAX, MESSAGE_CHUNKS_MAX};
use crate::chunk::{ChunkError, Schema, Scope};

/// So many chunks, and the bytes that they have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// One chunk more.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.chunks += 1;
        self.bytes += chunk.len() as u64;
    }

    /// Whether it is no more than another, in chunks and in bytes.
    pub(super) fn within(self, other: Self) -> bool {
        self.chunks <= other.chunks && self.bytes <= other.bytes
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            chunks: self.chunks.saturating_add(other.chunks),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// All that was sent: how much, and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How much.
    pub amount: Amount,
    /// Its digest.
    pub digest: Digest,
}

/// What the source says once it has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The next chunks, encoded: [`MESSAGE_CHUNKS_MAX`] at most, of [`MESSAGE_BYTES_MAX`] together
    /// or one.
    Chunks {
        /// The place of the first of them among all, from 0 on.
        first: u64,
        /// The chunks.
        chunks: Vec<Vec<u8>>,
    },
    /// That was all.
    End(Summary),
    /// What becomes of it.
    Verdict(Verdict),
}

/// What the source decides, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has the receipt and has deleted: the state is the destination's.
    Keep,
    /// It has deleted nothing: the destination is to be as it was.
    Undo,
}

/// What the destination says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// How much may be sent in all. The first says that it is ready.
    Credit(Amount),
    /// It has put all, and this is what came.
    Receipt(Summary),
    /// How it has ended there; the last reply.
    Ended(Outcome),
}

/// How a transfer has ended at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has all that was sent.
    Kept,
    /// It is as it was before.
    Undone,
    /// It could not undo: some of what was put is there.
    Stuck,
}

/// Why the destination undoes a transfer by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such kind of state there, or not of that scope or in that layout.
    #[error("the destination has no {scope} state of schema {schema}")]
    UnknownSchema {
        /// The scope.
        scope: Scope,
        /// The schema.
        schema: Schema,
    },
    /// What was sent is no chunk.
    #[error("chunk {place} is none: {why}")]
    NotAChunk {
        /// Its place.
        place: u64,
        /// What is wrong with it.
        why: ChunkError,
    },
    /// It is of a scope, or about flows, that the transfer was not opened for.
    #[error("chunk {place} is not of what the transfer was opened for")]
    NotNamed {
        /// Its place.
        place: u64,
    },
    /// It came before.
    #[error("chunk {place} comes again: {expected} is the next")]
    Repeated {
        /// Its place.
        place: u64,
        /// The one that is due.
        expected: u64,
    },
    /// Those before it did not come.
    #[error("chunk {place} comes too early: {expected} is the next")]
    Missing {
        /// Its place.
        place: u64,
        /// The one that is due.
        expected: u64,
    },
    /// There was no credit for it.
    #[error("more was sent than there was credit for")]
    BeyondCredit,
    /// A message has too many chunks, or too much of them.
    #[error(
        "a message has more than {MESSAGE_CHUNKS_MAX} chunks or {MESSAGE_BYTES_MAX} bytes of them"
    )]
    MessageTooLarge,
    /// There are too many chunks.
    #[error("a transfer has {CHUNKS_MAX} chunks at most")]
    TooMuch,
    /// Less or more came than was sent.
    #[error("{} chunks of {} bytes came of {} of {}", came.chunks, came.bytes, sent.chunks, sent.bytes)]
    Truncated {
        /// What came.
        came: Amount,
        /// What the source says.
        sent: Amount,
    },
    /// What came is not what was sent.
    #[error("what came is not what was sent: its digest is another")]
    WrongDigest,
    /// It may not be said at this point.
    #[error("{0} is said out of turn")]
    OutOfTurn(&'static str),
    /// It is nothing that can be said.
    #[error("what was said is no message")]
    Malformed,
    /// The stream broke before all was there.
    #[error("the stream broke off")]
    BrokenOff,
    /// The source said nothing for too long.
    #[error("the source said nothing for {:?}", super::QUIET_LIMIT)]
    Quiet,
    /// The end that the state is put into does not take it, or the operation was told to end.
    #[error("the destination does not take it")]
    Destination,
}
