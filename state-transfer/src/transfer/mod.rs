//! A transfer of state from a node to another: what both ends say to each other, and when the
//! source may forget.
//!
//! The source opens, and sends the chunks in order as the destination gives credit for them. At the
//! end it says how many there were and what their digest is. The destination puts each message
//! before it gives credit for more. When it has put all, and the digest is that of what came, it
//! gives a receipt, and *holds*: it undoes nothing any more by itself. The source compares the
//! receipt, deletes, and gives its verdict.
//!
//! Whatever breaks, nothing is lost. Without a receipt the source deletes nothing and its verdict is
//! to undo; a destination that has given none undoes by itself when the stream breaks. One that
//! holds waits for the verdict, which comes by another connection then; when none comes for
//! [`HELD_LIMIT`], it keeps what it has, as the source may have deleted it.

mod destination;
mod digest;
mod message;
mod source;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::chunk::CHUNK_MAX;

pub use destination::{Destination, DestinationCommand, Opened, Piece};
pub use digest::{Digest, Hasher};
pub use message::{Amount, Message, Outcome, Refusal, Reply, Summary, Verdict};
pub use source::{Ended, Source, SourceCommand};

/// What may be on its way and not put yet. What is on the line at one time is bounded by the
/// connection too; the rest is what has come and waits to be put.
pub const WINDOW: Amount = Amount { chunks: 4_096, bytes: 4 << 20 };
/// Chunks of one message at most.
pub const MESSAGE_CHUNKS_MAX: usize = 256;
/// Bytes of the chunks of one message together at most, unless it is one chunk.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Chunks of one transfer at most.
pub const CHUNKS_MAX: u64 = 1 << 18;
/// How long a source that may send can say nothing.
pub const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// How long a verdict is on its way at most, with what the other end does upon it: it ends a put
/// that it has begun, and then undoes.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(70);
/// How long a destination that has given its receipt waits for the verdict: longer than a source
/// takes to notice that the stream broke, to delete, and to settle.
pub const HELD_LIMIT: Duration = Duration::from_secs(150);
/// From a verdict that did not arrive to the next try, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

// A chunk always fits, and so does a message of several.
const _: () = assert!(CHUNK_MAX as u64 <= WINDOW.bytes);
const _: () = assert!(MESSAGE_CHUNKS_MAX as u64 <= WINDOW.chunks);
