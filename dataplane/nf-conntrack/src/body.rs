//! Entries as the bodies of chunks.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::decode_body;
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::wire::{Reader, WireError, Writer};

use crate::entry::{Adjustment, Connection, Counters, Entry, LABELS, OBSTACLE_MAX, STATUS_OWN};
use crate::protocol_state::ProtocolState;
use crate::schema::ENTRY;
use crate::tuple::Tuple;

/// The chunk of an entry: its id is the original tuple, its version the packets of both directions.
/// None when the kernel's tuple has no flow id.
pub(crate) fn chunk(entry: &Entry) -> Option<Chunk> {
    let id = entry.original.id(entry.zone)?;
    let body = Writer::bytes_of(|out| encode(entry, out));
    let mut chunk = ENTRY.chunk(id, body);
    chunk.version = entry.version();
    chunk.time_left = entry.timeout.map(|seconds| Duration::from_secs(seconds.into()));
    Some(chunk)
}

/// The entry of a chunk.
///
/// # Errors
/// When the chunk is of another kind, is not about one flow, or its body is malformed.
pub(crate) fn entry(chunk: &Chunk) -> Result<Entry, PutError> {
    ENTRY.check(chunk)?;
    let (original, zone) = Tuple::of_id(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
    let mut entry = decode_body(chunk.schema, ENTRY.schema, &chunk.body, |reader| {
        decode(original, zone, reader)
    })
    .map_err(|why| PutError::bad_body(chunk, &why))?;
    // A part of a second counts as a whole one, so that nothing ends early.
    let seconds = |left: Duration| left.as_secs() + u64::from(left.subsec_nanos() > 0);
    entry.timeout = chunk.time_left.map(|left| u32::try_from(seconds(left)).unwrap_or(u32::MAX));
    Ok(entry)
}

fn encode(entry: &Entry, out: &mut Writer) {
    entry.reply.encode(out);
    out.u32(entry.status);
    out.u32(entry.mark);
    entry.protocol_state.encode(out);
    for one in entry.counters {
        out.u64(one.packets);
        out.u64(one.bytes);
    }
    out.option(entry.sequence, |out, both| {
        for Adjustment { position, before, after } in both {
            [position, before, after].into_iter().for_each(|number| out.u32(number));
        }
    });
    out.option(entry.proxy, |out, numbers| numbers.into_iter().for_each(|number| out.u32(number)));
    out.option(entry.labels, |out, labels| out.raw(&labels));
    out.option(entry.obstacle.as_ref(), |out, name| out.bytes(name.as_bytes()));
    out.u64(entry.connection.kernel);
    out.u32(entry.connection.number);
    out.u64(entry.connection.began);
}

fn decode(original: Tuple, zone: u16, reader: &mut Reader<'_>) -> Result<Entry, WireError> {
    let bad = |what| WireError::BadField { what };
    let reply = Tuple::decode(reader)?;
    if !original.pairs_with(&reply) {
        return Err(bad("tuple of replies"));
    }
    let status = reader.u32()?;
    if status & !STATUS_OWN != 0 {
        return Err(bad("status"));
    }
    Ok(Entry {
        original,
        reply,
        zone,
        status,
        mark: reader.u32()?,
        timeout: None,
        protocol_state: ProtocolState::decode(reader, original.protocol)?,
        counters: {
            let mut one = || Ok(Counters { packets: reader.u64()?, bytes: reader.u64()? });
            [one()?, one()?]
        },
        sequence: reader.option("adjustments", |reader| {
            let mut one = || {
                let (position, before, after) = (reader.u32()?, reader.u32()?, reader.u32()?);
                Ok(Adjustment { position, before, after })
            };
            Ok([one()?, one()?])
        })?,
        proxy: reader.option("promises of a proxy", |reader| {
            Ok([reader.u32()?, reader.u32()?, reader.u32()?])
        })?,
        labels: reader.option("labels", Reader::array::<LABELS>)?,
        obstacle: reader
            .option("obstacle", |reader| reader.text("obstacle", OBSTACLE_MAX))?
            .map(str::to_owned),
        connection: Connection {
            kernel: reader.u64()?,
            number: reader.u32()?,
            began: reader.u64()?,
        },
        id: 0,
    })
}
