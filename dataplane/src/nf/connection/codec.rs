//! Connections as bytes, in network order. What is left of their time travels, not when they end.
//!
//! ```text
//! family 1 | protocol 1 | service 2 | source 4 or 16 | destination 4 or 16 | ports 2 each
//! | time left 8 (ns) | then by protocol:
//!
//! TCP:  state 1 | facts 1 | repetitions 1 | end 18 each | last 18
//!       end:  sent 4 | allowed 4 | largest window 4 | acknowledged 4 | shift 1 | facts 1
//!       last: kind 1 | facts 1 | sequence number 4 | acknowledgement 4 | end 4 | window 2
//!             | shift offered 1 | zero 1
//! ICMP: count 1 | then for each: identifier 2 | facts 1
//! else: facts 1
//! ```

use std::net::IpAddr;
use std::time::Duration;

use weir_state_transfer::chunk::Schema;
use weir_state_transfer::{FlowKey, Nanos, ServiceId, protocol};

use super::echo::{ASKED_MAX, Asked, Echo};
use super::exchange::Exchange;
use super::segment::{Kind, Offer, SCALE_MAX};
use super::state::State;
use super::tcp::{Last, Tcp};
use super::timeout::TIMEOUT_MAX;
use super::window::{End, Ends};
use super::{Connection, Direction, Protocol};
use crate::nf::wire::{DecodeError, Fault, Reader, decode, facts};

/// What the bytes of a connection are.
pub const SCHEMA: Schema = Schema { kind: 1, revision: 1 };
/// Bytes of a connection at most.
pub const BODY_MAX: usize = HEAD_MAX + TCP;

const HEAD_MAX: usize = 1 + 1 + 2 + 16 + 16 + 2 + 2 + 8;
const TCP: usize = 3 + 2 * 18 + 18;
/// For no shift, and for no last segment.
const NONE: u8 = 0xff;

impl Connection {
    /// Appends the connection, as it is now, to bytes: at most [`BODY_MAX`] of them.
    pub fn encode(&self, now: Nanos, out: &mut Vec<u8>) {
        let key = &self.key;
        out.extend([if key.is_v4() { 4 } else { 6 }, key.protocol()]);
        out.extend(key.service().0.to_be_bytes());
        for address in [key.src_octets(), key.dst_octets()] {
            out.extend(if key.is_v4() { &address[12..] } else { &address[..] });
        }
        out.extend(key.src_port().to_be_bytes());
        out.extend(key.dst_port().to_be_bytes());
        let left = self.deadline.0.saturating_sub(now.0);
        out.extend(left.min(TIMEOUT_MAX.as_nanos() as u64).to_be_bytes());
        match &self.protocol {
            Protocol::Tcp(tcp) => put_tcp(tcp, out),
            Protocol::Echo(echo) => put_echo(echo, out),
            Protocol::Exchange(exchange) => out.push(facts([exchange.replied])),
        }
    }

    /// The connection that bytes of a schema are. Nothing is taken in of bytes that are none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], now: Nanos) -> Result<Self, DecodeError> {
        decode(schema, SCHEMA, bytes, |reader| take(reader, now))
    }
}

fn take(reader: &mut Reader<'_>, now: Nanos) -> Result<Connection, Fault> {
    let key = take_key(reader)?;
    let left = Duration::from_nanos(reader.u64()?);
    if left > TIMEOUT_MAX {
        return Err(Fault::Bad("time left"));
    }
    let protocol = match key.protocol() {
        protocol::TCP => Protocol::Tcp(take_tcp(reader)?),
        protocol::ICMP | protocol::ICMPV6 => Protocol::Echo(take_echo(reader)?),
        _ => {
            let [replied] = reader.facts()?;
            Protocol::Exchange(Exchange { replied })
        }
    };
    Ok(Connection { key, deadline: now + left, protocol })
}

fn take_key(reader: &mut Reader<'_>) -> Result<FlowKey, Fault> {
    let (family, number) = (reader.u8()?, reader.u8()?);
    let service = ServiceId(reader.u16()?);
    let mut address = || match family {
        4 => Ok(IpAddr::from(reader.array::<4>()?)),
        6 => Ok(IpAddr::from(reader.array::<16>()?)),
        _ => Err(Fault::Bad("family")),
    };
    let (src, dst) = (address()?, address()?);
    let ports = (reader.u16()?, reader.u16()?);
    if !protocol::has_ports(number) && ports != (0, 0) {
        return Err(Fault::Bad("ports"));
    }
    FlowKey::new(src, dst, ports, number, service).ok_or(Fault::Bad("family"))
}

fn put_echo(echo: &Echo, out: &mut Vec<u8>) {
    // At most `ASKED_MAX`, which fits.
    out.push(echo.asked.len() as u8);
    for asked in &echo.asked {
        out.extend(asked.id.to_be_bytes());
        out.push(facts([asked.by == Direction::Reply, asked.replied]));
    }
}

fn take_echo(reader: &mut Reader<'_>) -> Result<Echo, Fault> {
    let count = usize::from(reader.u8()?);
    if !(1..=ASKED_MAX).contains(&count) {
        return Err(Fault::Bad("count of echoes"));
    }
    let mut echo = Echo::default();
    for _ in 0..count {
        let id = reader.u16()?;
        let [reply, replied] = reader.facts()?;
        let by = direction(reply);
        if echo.asked.iter().any(|asked| (asked.id, asked.by) == (id, by)) {
            return Err(Fault::Bad("echo"));
        }
        echo.asked.push(Asked { id, by, replied });
    }
    Ok(echo)
}

fn put_tcp(tcp: &Tcp, out: &mut Vec<u8>) {
    out.push(tcp.state as u8);
    out.push(facts([tcp.replied, tcp.assured, tcp.simultaneous]));
    out.push(tcp.repetitions);
    for end in &tcp.ends.0 {
        out.extend(end.sent.to_be_bytes());
        out.extend(end.allowed.to_be_bytes());
        out.extend(end.window_max.to_be_bytes());
        out.extend(end.acked.unwrap_or(0).to_be_bytes());
        out.push(end.scale);
        out.push(facts([
            end.acked.is_some(),
            end.scales,
            end.sack,
            end.unacknowledged,
            end.closed_first,
            end.liberal,
        ]));
    }
    let last = &tcp.last;
    out.push(last.kind.map_or(NONE, |kind| kind as u8));
    let reply = last.direction == Direction::Reply;
    out.push(facts([reply, last.offer.sack, last.challenges]));
    out.extend(last.seq.to_be_bytes());
    out.extend(last.ack.to_be_bytes());
    out.extend(last.end.to_be_bytes());
    out.extend(last.window.to_be_bytes());
    out.extend([last.offer.scale.unwrap_or(NONE), 0]);
}

fn take_tcp(reader: &mut Reader<'_>) -> Result<Tcp, Fault> {
    let number = usize::from(reader.u8()?);
    let Some(state) = State::ALL.get(number).copied() else { return Err(Fault::Bad("state")) };
    let [replied, assured, simultaneous] = reader.facts()?;
    let repetitions = reader.u8()?;
    let ends = Ends([take_end(reader)?, take_end(reader)?]);
    let last = take_last(reader)?;
    Ok(Tcp { state, ends, last, replied, assured, simultaneous, repetitions })
}

fn take_end(reader: &mut Reader<'_>) -> Result<End, Fault> {
    let (sent, allowed, window_max) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (acked, scale) = (reader.u32()?, reader.u8()?);
    let [has_acked, scales, sack, unacknowledged, closed_first, liberal] = reader.facts()?;
    if scale > SCALE_MAX {
        return Err(Fault::Bad("shift"));
    }
    if !has_acked && acked != 0 {
        return Err(Fault::Bad("acknowledgement"));
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

fn take_last(reader: &mut Reader<'_>) -> Result<Last, Fault> {
    let kind = match reader.u8()? {
        NONE => None,
        number => match Kind::ALL.get(usize::from(number)) {
            Some(kind) => Some(*kind),
            None => return Err(Fault::Bad("kind of the last segment")),
        },
    };
    let [reply, sack, challenges] = reader.facts()?;
    let (seq, ack, end) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (window, scale) = (reader.u16()?, reader.u8()?);
    let scale = match scale {
        NONE => None,
        0..=SCALE_MAX => Some(scale),
        _ => return Err(Fault::Bad("shift")),
    };
    if reader.u8()? != 0 {
        return Err(Fault::Bad("reserved byte"));
    }
    let offer = Offer { scale, sack };
    let direction = direction(reply);
    Ok(Last { kind, direction, seq, ack, end, window, offer, challenges })
}

fn direction(reply: bool) -> Direction {
    if reply { Direction::Reply } else { Direction::Original }
}
