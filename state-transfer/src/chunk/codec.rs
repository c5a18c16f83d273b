//! Chunks as bytes, in network order, with a checksum at the end.
//!
//! ```text
//! magic 4 | format 1 | scope 1 | stage 1 | zero 1 | kind 2 | revision 2 | version 8 | age 8
//! | time left 8 | id length 2 | zero 2 | body length 4 | id | body | CRC-32C of all before 4
//! ```
//!
//! The stage is 1: the state as it is. One that asks for anything else, such as to forget a flow, is
//! refused, as nobody would carry it out.

use std::time::Duration;

use super::{BODY_MAX, Chunk, Schema, Scope};
use crate::flow_id::{FLOW_ID_MAX, FlowId};
use crate::wire::{Reader, WireError, Writer};

/// Bytes of an encoded chunk at most.
pub const CHUNK_MAX: usize = HEADER + FLOW_ID_MAX + BODY_MAX + size_of::<u32>();
const MAGIC: [u8; 4] = *b"WEIR";
const FORMAT: u8 = 1;
const HEADER: usize = 44;
/// The only stage: the state as it is.
const COPY: u8 = 1;
/// The time left of what does not end by itself.
const FOREVER: Duration = Duration::from_nanos(u64::MAX);

/// Why bytes are not a chunk, or a chunk can not be made to bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes do not begin like a chunk.
    #[error("the bytes do not begin like a chunk")]
    NotAChunk,
    /// The format is of a later version.
    #[error("the chunk is of format {found}, and only format {FORMAT} is known")]
    UnknownFormat {
        /// The format.
        found: u8,
    },
    /// The bytes end too early.
    #[error("the chunk is cut off after {length} bytes")]
    Truncated {
        /// How many there are.
        length: usize,
    },
    /// There are more bytes than the chunk says.
    #[error("{excess} bytes follow the chunk")]
    TooLong {
        /// How many.
        excess: usize,
    },
    /// A part is longer than it may be.
    #[error("the chunk has {length} {what}, and {most} are the most")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// How much of it there is.
        length: usize,
        /// How much there may be.
        most: usize,
    },
    /// The checksum is another.
    #[error(
        "the chunk is corrupted: its checksum is {found:#010x}, its bytes make {computed:#010x}"
    )]
    Corrupted {
        /// What stands there.
        found: u32,
        /// What it should be.
        computed: u32,
    },
    /// A field has a value that it can not have.
    #[error("the {what} of the chunk is none that there is")]
    BadField {
        /// The field.
        what: &'static str,
    },
}

impl Chunk {
    /// The chunk as bytes.
    ///
    /// # Errors
    /// [`ChunkError::TooLarge`] when a part is longer than it may be.
    pub fn encode(&self) -> Result<Vec<u8>, ChunkError> {
        bounded("bytes of state", self.body.len(), BODY_MAX)?;
        let id = Writer::bytes_of(|out| self.id.put(out));
        let mut out = Writer::default();
        out.raw(&MAGIC);
        out.raw(&[FORMAT, scope_to_byte(self.scope), COPY, 0]);
        out.u16(self.schema.kind);
        out.u16(self.schema.revision);
        out.u64(self.version);
        out.duration(self.age);
        match self.time_left {
            Some(left) => out.duration(left.min(FOREVER - Duration::from_nanos(1))),
            None => out.duration(FOREVER),
        }
        // Both are bounded by less than their fields hold.
        out.u16(id.len() as u16);
        out.u16(0);
        out.u32(self.body.len() as u32);
        out.raw(&id);
        out.raw(&self.body);
        let mut bytes = out.finish();
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        Ok(bytes)
    }

    /// The chunk that bytes are. Nothing is taken in of bytes that are none.
    ///
    /// # Errors
    /// What is wrong with them; the checksum is looked at before what it covers.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(bytes);
        let refused = |error| ChunkError::of(error, bytes.len());
        let magic = reader.array::<4>().map_err(refused)?;
        if magic != MAGIC {
            return Err(ChunkError::NotAChunk);
        }
        match reader.u8().map_err(refused)? {
            FORMAT => {}
            found => return Err(ChunkError::UnknownFormat { found }),
        }
        check_length(bytes)?;
        check_sum(bytes)?;
        decode_fields(&mut reader).map_err(refused)
    }
}

impl ChunkError {
    /// What is wrong with the bytes of a chunk, of which there are so many.
    fn of(error: WireError, length: usize) -> Self {
        match error {
            WireError::Cut => Self::Truncated { length },
            WireError::TooLong { excess } => Self::TooLong { excess },
            WireError::TooLarge { what, length, most } => Self::TooLarge { what, length, most },
            WireError::BadField { what } => Self::BadField { what },
        }
    }
}

/// Whether the lengths in the header are within their bounds and add up to that of the bytes.
fn check_length(bytes: &[u8]) -> Result<(), ChunkError> {
    let refused = |error| ChunkError::of(error, bytes.len());
    let mut lengths = Reader::new(bytes.get(HEADER - 8..HEADER).unwrap_or_default());
    let id = usize::from(lengths.u16().map_err(refused)?);
    lengths.u16().map_err(refused)?;
    let body = lengths.u32().map_err(refused)? as usize;
    bounded("bytes of flow id", id, FLOW_ID_MAX)?;
    bounded("bytes of state", body, BODY_MAX)?;
    let length = HEADER + id + body + size_of::<u32>();
    match bytes.len().checked_sub(length) {
        None => Err(ChunkError::Truncated { length: bytes.len() }),
        Some(0) => Ok(()),
        Some(excess) => Err(ChunkError::TooLong { excess }),
    }
}

fn check_sum(bytes: &[u8]) -> Result<(), ChunkError> {
    let Some((covered, checksum)) = bytes.split_last_chunk() else {
        return Err(ChunkError::Truncated { length: bytes.len() });
    };
    let (found, computed) = (u32::from_be_bytes(*checksum), crc32c::crc32c(covered));
    if found == computed { Ok(()) } else { Err(ChunkError::Corrupted { found, computed }) }
}

/// The fields behind the format.
fn decode_fields(reader: &mut Reader<'_>) -> Result<Chunk, WireError> {
    let bad = |what| WireError::BadField { what };
    let scope = scope_of_byte(reader.u8()?).ok_or(bad("scope"))?;
    if reader.u8()? != COPY {
        return Err(bad("stage"));
    }
    if reader.u8()? != 0 {
        return Err(bad("reserved byte"));
    }
    let schema = Schema { kind: reader.u16()?, revision: reader.u16()? };
    let version = reader.u64()?;
    let age = reader.duration()?;
    let time_left = Some(reader.duration()?).filter(|left| *left != FOREVER);
    let id_length = usize::from(reader.u16()?);
    if reader.u16()? != 0 {
        return Err(bad("reserved field"));
    }
    let body_length = reader.u32()? as usize;
    let id = Reader::whole(reader.raw(id_length)?, FlowId::take).map_err(|_| bad("flow id"))?;
    let body = reader.raw(body_length)?.to_vec();
    Ok(Chunk { id, scope, schema, version, age, time_left, body })
}

fn bounded(what: &'static str, length: usize, most: usize) -> Result<(), ChunkError> {
    if length > most { Err(ChunkError::TooLarge { what, length, most }) } else { Ok(()) }
}

fn scope_to_byte(scope: Scope) -> u8 {
    match scope {
        Scope::PerFlow => 1,
        Scope::MultiFlow => 2,
        Scope::AllFlows => 3,
    }
}

fn scope_of_byte(byte: u8) -> Option<Scope> {
    Scope::ALL.into_iter().find(|scope| scope_to_byte(*scope) == byte)
}
