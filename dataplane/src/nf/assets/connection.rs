//! What is known of a flow while it lasts: who serves whom, and what was looked at.

use std::time::Duration;

use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::wire::{Reader, WireError, Writer};
use weir_state_transfer::{FlowKey, protocol};

use super::Name;
use super::config::Timeouts;
use super::lowest::Kept;
use super::name::NAME_MAX;
use super::packet::{Packet, Segment, Transport};
use super::service::{self, Found, Payload, Role};
use crate::nf::idle::Idle;
use crate::nf::schema::ASSETS_CONNECTION;
use crate::nf::{Both, Side, Timestamp};

/// Bytes of payload that are looked at in one direction, at most.
pub const LOOKED_MAX: u16 = 4096;
/// A host that goes on sending is noted once in so long.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// Bytes that a flow takes at most beside its [`Connection`]: the name of what was asked for.
pub(crate) const CONNECTION_BYTES: usize = NAME_MAX;

/// All that is known of a flow. What becomes of it follows from its own state and its packets
/// alone, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// From who was seen first.
    key: FlowKey,
    /// When the last packet came: a timer.
    idle: Idle,
    /// Who serves, once that is known.
    server: Option<Side>,
    reset: bool,
    ends: Both<End>,
    /// What a client asked for by name, for the server that answers.
    asked: Option<Name>,
}

/// What is known of one end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct End {
    /// When the host was last noted. Whoever noted it first has also told of it.
    noted: Option<Timestamp>,
    /// Bytes of payload that were looked at.
    looked: u16,
    /// Whether what it says was recognised.
    recognised: bool,
    closed: bool,
}

/// Whether the host that a packet is from is to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// For the first time in this flow.
    First,
    /// It is still there.
    Again,
    /// It was noted of late.
    Enough,
}

impl Connection {
    /// The flow that a packet begins.
    pub(super) fn begin(key: FlowKey, now: Timestamp) -> Self {
        let ends = Both::default();
        Self { key, idle: Idle::new(now), server: None, reset: false, ends, asked: None }
    }

    /// The flow, from who was seen first.
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// How long ago its last packet came.
    pub(super) fn idle(&self, now: Timestamp) -> Duration {
        now.since(self.idle.active())
    }

    /// How long the flow is still known if no packet comes.
    pub fn time_left(&self, timeouts: &Timeouts, now: Timestamp) -> Duration {
        self.idle.left(self.timeout(timeouts), now)
    }

    /// What was left of it where it comes from. Hosts were noted there by a clock that may be ahead,
    /// which would leave them unnoted here until then: but not after its last packet.
    pub(super) fn resume(&mut self, left: Duration, timeouts: &Timeouts, now: Timestamp) {
        let active = self.idle.active();
        for end in [&mut self.ends.orig, &mut self.ends.resp] {
            end.noted = end.noted.map(|at| at.min(active));
        }
        self.idle.resume(left, self.timeout(timeouts), now);
    }

    fn timeout(&self, timeouts: &Timeouts) -> Duration {
        let over = self.reset || (self.ends.orig.closed && self.ends.resp.closed);
        match self.key.protocol() {
            protocol::TCP if over => timeouts.closed,
            protocol::TCP => timeouts.tcp,
            _ => timeouts.other,
        }
    }

    /// Takes note of a packet, and of what its headers say of who serves.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, now: Timestamp) {
        self.idle.packet(now);
        if let Transport::Tcp(segment) = &packet.transport {
            self.segment(self.side(packet), segment);
        }
    }

    fn segment(&mut self, from: Side, segment: &Segment<'_>) {
        if segment.syn() {
            // The ports may be used again: what was known of who talked over them is over.
            let fresh = |end: &End| End { noted: end.noted, ..End::default() };
            if !segment.has_ack() {
                self.ends = Both { orig: fresh(&self.ends.orig), resp: fresh(&self.ends.resp) };
                (self.reset, self.asked) = (false, None);
            }
            self.server = Some(if segment.has_ack() { from } else { from.other() });
        }
        self.ends[from].closed |= segment.fin();
        self.reset |= segment.rst();
    }

    /// Whether the host that a packet is from is to be noted now.
    pub(super) fn note(&self, packet: &Packet<'_>, now: Timestamp) -> Note {
        match self.ends[self.side(packet)].noted {
            None => Note::First,
            Some(at) if now.since(at) >= NOTED_EVERY => Note::Again,
            Some(_) => Note::Enough,
        }
    }

    /// The host that a packet is from was noted.
    pub(super) fn noted(&mut self, packet: &Packet<'_>, now: Timestamp) {
        let from = self.side(packet);
        self.ends[from].noted = Some(now);
    }

    /// When the host that a packet is from was last noted.
    pub(super) fn last_noted(&self, packet: &Packet<'_>) -> Option<Timestamp> {
        self.ends[self.side(packet)].noted
    }

    /// Looks at what the sender of a packet says, unless that was recognised or enough was looked
    /// at: whether it was looked at, and what it is recognised as if it is.
    pub(super) fn look(
        &mut self,
        packet: &Packet<'_>,
        payload: &[u8],
    ) -> (bool, Option<(Role, Name)>) {
        let from = self.side(packet);
        let Self { key, server, ends, asked, .. } = self;
        let end = &mut ends[from];
        let room = LOOKED_MAX - end.looked;
        if end.recognised || payload.is_empty() || room == 0 {
            return (false, None);
        }
        let bytes = &payload[..payload.len().min(room.into())];
        end.looked += bytes.len() as u16;
        let ports = (packet.key.src_port(), packet.key.dst_port());
        let found = service::recognise(key.protocol(), &Payload { bytes, ports });
        let Some(Found { role, name, asks }) = found else { return (true, None) };
        let known = server.map(|server| if server == from { Role::Server } else { Role::Client });
        // Where the headers have told who serves, what is said does not change it.
        let Some(role) = known.or(role).filter(|own| role.is_none_or(|role| role == *own)) else {
            return (true, None);
        };
        end.recognised = true;
        *server = Some(if role == Role::Server { from } else { from.other() });
        let name = match (role, asked.take()) {
            (Role::Server, Some(asked)) if name.is_of_tls() => {
                Name::new(name.as_str(), asked.as_str().as_bytes())
            }
            (Role::Server, _) => name,
            (Role::Client, before) => {
                *asked = asks.or(before);
                name
            }
        };
        (true, Some((role, name)))
    }

    /// Whether a packet answers the one that began the flow, as a server would: what was said
    /// tells so, or the answer is from a port that is no higher.
    pub(super) fn is_answer(&self, packet: &Packet<'_>) -> bool {
        let from_lower = packet.key.src_port() <= packet.key.dst_port();
        let serves = self.server.map_or(from_lower, |server| server == Side::Resp);
        serves && self.side(packet) == Side::Resp
    }

    fn side(&self, packet: &Packet<'_>) -> Side {
        if packet.key == self.key { Side::Orig } else { Side::Resp }
    }
}

/// As bytes.
impl Connection {
    /// The flow as bytes: fewer than 300. When the last packet came is not in them, as clocks differ.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.flow_key(&self.key);
            let server = |side| self.server == Some(side);
            out.facts([server(Side::Orig), server(Side::Resp), self.reset]);
            for end in [&self.ends.orig, &self.ends.resp] {
                out.option(end.noted, |out, at| out.u64(at.0));
                out.u16(end.looked);
                out.facts([end.recognised, end.closed]);
            }
            out.option(self.asked.as_ref(), |out, name| name.put(out));
        })
    }

    /// The flow that bytes of a schema are, whose last packet came when it was `active`. Nothing is
    /// taken in of bytes that are none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], active: Timestamp) -> Result<Self, BodyError> {
        decode_body(schema, ASSETS_CONNECTION.schema, bytes, |reader| take(reader, active))
    }
}

fn take(reader: &mut Reader<'_>, active: Timestamp) -> Result<Connection, WireError> {
    let key = reader.flow_key()?;
    let [orig, resp, reset] = reader.facts("set of facts")?;
    let server = match (orig, resp) {
        (false, false) => None,
        (true, false) => Some(Side::Orig),
        (false, true) => Some(Side::Resp),
        (true, true) => return Err(WireError::BadField { what: "pair of servers" }),
    };
    let ends = Both { orig: take_end(reader)?, resp: take_end(reader)? };
    let asked = reader.option("name", Name::take)?;
    Ok(Connection { key, idle: Idle::new(active), server, reset, ends, asked })
}

fn take_end(reader: &mut Reader<'_>) -> Result<End, WireError> {
    let noted = reader.option("time", Reader::u64)?.map(Timestamp);
    let looked = reader.u16()?;
    if looked > LOOKED_MAX {
        return Err(WireError::BadField { what: "number of bytes" });
    }
    let [recognised, closed] = reader.facts("set of facts")?;
    Ok(End { noted, looked, recognised, closed })
}
