//! A connection: the whole state of one flow, both directions.

use std::time::Duration;

use weir_state_transfer::FlowKey;
use weir_state_transfer::chunk::{BodyError, Schema, decode_body};
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::config::Timeouts;
use super::history::History;
use super::http::Transaction;
use super::note::{Note, Notes};
use super::packet::{Packet, Segment, Transport};
use super::record::{ConnId, ConnRecord, Uid};
use super::tcp::{Findings, Tcp};
use crate::nf::Timestamp;
use crate::nf::idle::Idle;
use crate::nf::schema::{IDS_CONNECTION, IDS_CONNECTION_1};
use crate::nf::side::{Both, Side};

/// Bytes that a connection takes beside its place and what is kept of its streams, at most.
pub(crate) const CONNECTION_BYTES: usize = size_of::<Tcp>();

/// All that is known of a connection.
///
/// It is processed alike wherever it is: what becomes of it follows from its own state and its
/// packets alone.
#[derive(Clone, Debug)]
pub struct Connection {
    /// From who began to who answers.
    key: FlowKey,
    start: Timestamp,
    /// When the last packet came that was part of the connection.
    last: Timestamp,
    /// When the last packet came at all. Unlike `last` it is no fact but a timer.
    idle: Idle,
    packets: Both<u64>,
    ip_bytes: Both<u64>,
    /// Bytes of payload, of protocols without sequence numbers.
    bytes: Both<u64>,
    history: History,
    notes: Notes,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Tcp(Box<Tcp>),
    Udp,
    /// With type and code of the first message.
    Icmp(u8, u8),
    /// What there is to say of it are packets and bytes.
    Other,
}

impl Connection {
    /// The connection that a packet begins.
    pub(super) fn begin(packet: &Packet<'_>, now: Timestamp) -> Self {
        let kind = match packet.transport {
            Transport::Tcp(_) => Kind::Tcp(Box::default()),
            Transport::Udp(_) => Kind::Udp,
            Transport::Icmp((kind, code), _) => Kind::Icmp(kind, code),
            Transport::Opaque => Kind::Other,
        };
        // Who answers a SYN did not begin.
        let is_answer = |segment: &Segment<'_>| segment.syn() && segment.has_ack();
        let swapped = packet.segment().is_some_and(is_answer);
        let mut history = History::default();
        if swapped {
            history.swapped();
        }
        Self {
            key: if swapped { packet.key.reversed() } else { packet.key },
            start: now,
            last: now,
            idle: Idle::new(now),
            packets: Both::default(),
            ip_bytes: Both::default(),
            bytes: Both::default(),
            history,
            notes: Notes::default(),
            kind,
        }
    }

    /// The flow, from who began to who answers.
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// Its name in the logs.
    pub fn uid(&self) -> Uid {
        Uid::of(&self.key, self.start)
    }

    /// How long ago its last packet came.
    pub(super) fn idle(&self, now: Timestamp) -> Duration {
        now.since(self.idle.active())
    }

    /// How long the connection still lives if no packet comes.
    pub fn time_left(&self, timeouts: &Timeouts, now: Timestamp) -> Duration {
        self.idle.left(self.timeout(timeouts), now)
    }

    /// What was left of it where it comes from.
    pub(super) fn resume(&mut self, left: Duration, timeouts: &Timeouts, now: Timestamp) {
        self.idle.resume(left, self.timeout(timeouts), now);
    }

    fn timeout(&self, timeouts: &Timeouts) -> Duration {
        match &self.kind {
            Kind::Tcp(tcp) if tcp.is_reset() => timeouts.reset,
            Kind::Tcp(tcp) if tcp.is_over() => timeouts.closed,
            Kind::Tcp(tcp) if tcp.is_attempt() => timeouts.attempt,
            Kind::Tcp(_) => timeouts.tcp,
            Kind::Udp => timeouts.udp,
            Kind::Icmp(..) | Kind::Other => timeouts.other,
        }
    }

    /// Whether the packet begins another connection with the same addresses and ports.
    pub(super) fn is_reused_by(&self, packet: &Packet<'_>) -> bool {
        match (&self.kind, packet.segment()) {
            (Kind::Tcp(tcp), Some(segment)) => tcp.is_reused_by(self.side(packet), segment),
            _ => false,
        }
    }

    /// Notes that an ICMP error was about a packet of it.
    pub(super) fn icmp_error(&mut self) {
        self.notes.add(Note::IcmpError);
    }

    /// Processes a packet. HTTP transactions that are complete with it go to `done`.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        now: Timestamp,
        done: &mut Vec<Transaction>,
    ) {
        let from = self.side(packet);
        self.packets[from] = self.packets[from].saturating_add(1);
        self.ip_bytes[from] = self.ip_bytes[from].saturating_add(packet.ip_len);
        self.notes.add_all(packet.notes);
        self.idle.packet(now);
        // What comes behind the end of both directions is not part of the connection.
        if !matches!(&self.kind, Kind::Tcp(tcp) if tcp.is_over()) {
            self.last = self.last.max(now);
        }
        match (&mut self.kind, packet.transport) {
            (Kind::Tcp(tcp), Transport::Tcp(segment)) => {
                let Self { history, notes, .. } = self;
                tcp.segment(from, &segment, &mut Findings { now, history, notes, done });
            }
            (Kind::Udp | Kind::Icmp(..), Transport::Udp(length) | Transport::Icmp(_, length)) => {
                self.bytes[from] = self.bytes[from].saturating_add(length);
                if length > 0 && matches!(self.kind, Kind::Udp) {
                    self.history.payload(from);
                }
            }
            _ => {}
        }
    }

    /// Bytes that are kept of its streams.
    pub(crate) fn kept(&self) -> usize {
        if let Kind::Tcp(tcp) = &self.kind { tcp.kept() } else { 0 }
    }

    /// Keeps nothing of its streams any more: what is counted goes on.
    pub(super) fn give_up(&mut self, done: &mut Vec<Transaction>) {
        let Self { kind, history, notes, last, .. } = self;
        if let Kind::Tcp(tcp) = kind {
            tcp.give_up(&mut Findings { now: *last, history, notes, done });
        }
    }

    /// Ends it: its record, and what HTTP transactions there still are.
    pub(super) fn end(mut self, done: &mut Vec<Transaction>) -> ConnRecord {
        let Self { kind, history, notes, last, .. } = &mut self;
        if let Kind::Tcp(tcp) = kind {
            tcp.close(&mut Findings { now: *last, history, notes, done });
            notes.add_all(tcp.http.notes());
        }
        let tcp = if let Kind::Tcp(tcp) = &self.kind { Some(tcp) } else { None };
        ConnRecord {
            ts: self.start,
            id: self.id(),
            protocol: self.key.protocol(),
            service: tcp.filter(|tcp| tcp.http.is_spoken()).map(|_| "http"),
            duration: self.last.since(self.start),
            bytes: match tcp {
                Some(tcp) => Both { orig: tcp.sent(Side::Orig), resp: tcp.sent(Side::Resp) },
                None => self.bytes.clone(),
            },
            state: self.state(),
            missed_bytes: tcp.map_or(0, |tcp| tcp.missed()),
            history: self.history.as_bytes().to_vec(),
            packets: self.packets,
            ip_bytes: self.ip_bytes,
            notes: self.notes,
        }
    }

    /// How it goes, as conn.log names it.
    pub fn state(&self) -> &'static str {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.conn_state(&self.history),
            Kind::Udp => match (self.packets.orig, self.packets.resp) {
                (1.., 1..) => "SF",
                (1.., 0) => "S0",
                (0, 1..) => "SHR",
                (0, 0) => "OTH",
            },
            Kind::Icmp(..) | Kind::Other => "OTH",
        }
    }

    /// What the records call it.
    pub(super) fn id(&self) -> ConnId {
        let ports = match self.kind {
            Kind::Icmp(kind, code) => (kind.into(), code.into()),
            _ => (self.key.src_port(), self.key.dst_port()),
        };
        let (orig, resp) = ((self.key.src(), ports.0), (self.key.dst(), ports.1));
        ConnId { uid: self.uid(), orig, resp }
    }

    /// When its first packet came; not later than the last, whatever it says of itself that was put
    /// here.
    pub(super) fn begun(&self) -> Timestamp {
        self.start.min(self.idle.active())
    }

    fn side(&self, packet: &Packet<'_>) -> Side {
        if packet.key == self.key { Side::Orig } else { Side::Resp }
    }
}

/// As bytes.
impl Connection {
    /// The connection as bytes: a few hundred kilobytes at most. When the last packet came, which is
    /// no fact but a timer, is not in them, as clocks differ.
    pub fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| {
            out.flow_key(&self.key);
            out.u64(self.start.0);
            out.u64(self.last.0);
            for counts in [&self.packets, &self.ip_bytes, &self.bytes] {
                Side::BOTH.into_iter().for_each(|side| out.u64(counts[side]));
            }
            self.history.put(out);
            self.notes.put(out);
            match &self.kind {
                Kind::Tcp(tcp) => {
                    out.u8(1);
                    tcp.put(out);
                }
                Kind::Udp => out.u8(2),
                Kind::Icmp(kind, code) => out.raw(&[3, *kind, *code]),
                Kind::Other => out.u8(4),
            }
        })
    }

    /// The connection that bytes of a schema are, whose last packet came when it was `active`.
    /// Nothing is taken in of bytes that are none.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(schema: Schema, bytes: &[u8], active: Timestamp) -> Result<Self, BodyError> {
        let is_before = schema == IDS_CONNECTION_1.schema;
        let known = if is_before { schema } else { IDS_CONNECTION.schema };
        decode_body(schema, known, bytes, |reader| take(reader, active))
    }
}

fn take(reader: &mut Reader<'_>, active: Timestamp) -> Result<Connection, WireError> {
    let key = reader.flow_key()?;
    let (start, last) = (Timestamp(reader.u64()?), Timestamp(reader.u64()?));
    let mut counts = || Ok(Both { orig: reader.u64()?, resp: reader.u64()? });
    let (packets, ip_bytes, bytes) = (counts()?, counts()?, counts()?);
    let idle = Idle::new(active);
    let (history, notes) = (History::take(reader)?, Notes::take(reader)?);
    let kind = match reader.u8()? {
        1 => Kind::Tcp(Box::new(Tcp::take(reader)?)),
        2 => Kind::Udp,
        3 => Kind::Icmp(reader.u8()?, reader.u8()?),
        4 => Kind::Other,
        _ => return Err(WireError::BadField { what: "kind of connection" }),
    };
    Ok(Connection { key, start, last, idle, packets, ip_bytes, bytes, history, notes, kind })
}
