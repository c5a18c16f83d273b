//! Connections as bytes, in network order. What is left of their time travels, not when they end.
//!
//! ```text
//! flow key of the first packet | time left 8 (ns) | then by protocol:
//!
//! TCP:  state 1 | facts 1 | repetitions 1 | end 18 each | last 18
//!       end:  sent 4 | allowed 4 | largest window 4 | acknowledged 4 | shift 1 | facts 1
//!       last: kind 1 | facts 1 | sequence number 4 | acknowledgement 4 | end 4 | window 2
//!             | shift offered 1 | zero 1
//! ICMP: count 1 | then for each: identifier 2 | facts 1
//! else: facts 1
//! ```

use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::wire::{Reader, WireError, Writer};
use weir_state_transfer::{Nanos, protocol};

use super::echo::{ASKED_MAX, Asked, Echo};
use super::exchange::Exchange;
use super::segment::{Kind, Offer, SCALE_MAX};
use super::state::State;
use super::tcp::{Last, Tcp};
use super::window::{End, Ends};
use super::{Connection, Direction, Protocol};
use crate::nf::schema::CONNECTION;

/// Bytes of a connection at most.
pub const BODY_MAX: usize = HEAD_MAX + TCP;

const HEAD_MAX: usize = 1 + 2 + 2 * (1 + 16) + 2 * 2;
const TCP: usize = 3 + 2 * 18 + 18;
/// For no shift, and for no last segment.
const NONE: u8 = 0xff;

impl Connection {
    /// The connection as bytes, at most [`BODY_MAX`] of them. When it ends is not in them, as clocks
    /// differ.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.flow_key(&self.key);
            match &self.protocol {
                Protocol::Tcp(tcp) => put_tcp(tcp, out),
                Protocol::Echo(echo) => put_echo(echo, out),
                Protocol::Exchange(exchange) => out.bool(exchange.replied),
            }
        })
    }

    /// The connection that bytes of a schema are, which ends at `deadline` if no packet comes. Nothing
    /// is taken in of bytes that are none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], deadline: Nanos) -> Result<Self, BodyError> {
        decode_body(schema, CONNECTION.schema, bytes, |reader| take(reader, deadline))
    }
}

fn take(reader: &mut Reader<'_>, deadline: Nanos) -> Result<Connection, WireError> {
    let key = reader.flow_key()?;
    let protocol = match key.protocol() {
        protocol::TCP => Protocol::Tcp(take_tcp(reader)?),
        protocol::ICMP | protocol::ICMPV6 => Protocol::Echo(take_echo(reader)?),
        _ => Protocol::Exchange(Exchange { replied: reader.bool("mark of an answer")? }),
    };
    Ok(Connection { key, deadline, protocol })
}

fn put_echo(echo: &Echo, out: &mut Writer) {
    // At most `ASKED_MAX`, which fits.
    out.u8(echo.asked.len() as u8);
    for asked in &echo.asked {
        out.u16(asked.id);
        out.facts([asked.by == Direction::Reply, asked.replied]);
    }
}

fn take_echo(reader: &mut Reader<'_>) -> Result<Echo, WireError> {
    let count = usize::from(reader.u8()?);
    if !(1..=ASKED_MAX).contains(&count) {
        return Err(bad("number of echoes"));
    }
    let mut echo = Echo::default();
    for _ in 0..count {
        let id = reader.u16()?;
        let [reply, replied] = reader.facts("set of facts")?;
        let by = direction(reply);
        if echo.asked.iter().any(|asked| (asked.id, asked.by) == (id, by)) {
            return Err(bad("echo"));
        }
        echo.asked.push(Asked { id, by, replied });
    }
    Ok(echo)
}

fn put_tcp(tcp: &Tcp, out: &mut Writer) {
    out.u8(tcp.state as u8);
    out.facts([tcp.replied, tcp.assured, tcp.simultaneous]);
    out.u8(tcp.repetitions);
    for end in &tcp.ends.0 {
        out.u32(end.sent);
        out.u32(end.allowed);
        out.u32(end.window_max);
        out.u32(end.acked.unwrap_or(0));
        out.u8(end.scale);
        out.facts([
            end.acked.is_some(),
            end.scales,
            end.sack,
            end.unacknowledged,
            end.closed_first,
            end.liberal,
        ]);
    }
    let last = &tcp.last;
    out.u8(last.kind.map_or(NONE, |kind| kind as u8));
    out.facts([last.direction == Direction::Reply, last.offer.sack, last.challenges]);
    out.u32(last.seq);
    out.u32(last.ack);
    out.u32(last.end);
    out.u16(last.window);
    out.u8(last.offer.scale.unwrap_or(NONE));
    out.u8(0);
}

fn take_tcp(reader: &mut Reader<'_>) -> Result<Tcp, WireError> {
    let number = usize::from(reader.u8()?);
    let Some(state) = State::ALL.get(number).copied() else { return Err(bad("state")) };
    let [replied, assured, simultaneous] = reader.facts("set of facts")?;
    let repetitions = reader.u8()?;
    let ends = Ends([take_end(reader)?, take_end(reader)?]);
    let last = take_last(reader)?;
    Ok(Tcp { state, ends, last, replied, assured, simultaneous, repetitions })
}

fn take_end(reader: &mut Reader<'_>) -> Result<End, WireError> {
    let (sent, allowed, window_max) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (acked, scale) = (reader.u32()?, reader.u8()?);
    let [has_acked, scales, sack, unacknowledged, closed_first, liberal] =
        reader.facts("set of facts")?;
    if scale > SCALE_MAX {
        return Err(bad("shift"));
    }
    if !has_acked && acked != 0 {
        return Err(bad("acknowledgement"));
    }
    let acked = has_acked.then_some(acked);
    Ok(End {
        sent,
        allowed,
        window_max,
        acked,
        scale,
        scales,
        sack,
        unacknowledged,
        closed_first,
        liberal,
    })
}

fn take_last(reader: &mut Reader<'_>) -> Result<Last, WireError> {
    let kind = match reader.u8()? {
        NONE => None,
        number => match Kind::ALL.get(usize::from(number)) {
            Some(kind) => Some(*kind),
            None => return Err(bad("kind of the last segment")),
        },
    };
    let [reply, sack, challenges] = reader.facts("set of facts")?;
    let (seq, ack, end) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (window, scale) = (reader.u16()?, reader.u8()?);
    let scale = match scale {
        NONE => None,
        0..=SCALE_MAX => Some(scale),
        _ => return Err(bad("shift")),
    };
    if reader.u8()? != 0 {
        return Err(bad("reserved byte"));
    }
    let offer = Offer { scale, sack };
    let direction = direction(reply);
    Ok(Last { kind, direction, seq, ack, end, window, offer, challenges })
}

fn direction(reply: bool) -> Direction {
    if reply { Direction::Reply } else { Direction::Original }
}

fn bad(what: &'static str) -> WireError {
    WireError::BadField { what }
}
