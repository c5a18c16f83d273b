//! The intrusion detection as its users see it: packets in, records out.

mod captures;
mod connections;
mod hostile;
mod http;
mod logs;
mod memory;
mod scans;
mod southbound;
mod transfer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etherparse::{PacketBuilder, TcpHeader};
use weir_state_transfer::merge::Replica;
use weir_state_transfer::{FlowKey, ServiceId};

use super::record::{ConnRecord, HttpRecord};
use super::*;
use crate::packet::{Parsed, parse};

pub(super) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(super) const SERVER: [u8; 4] = [192, 0, 2, 80];
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// When test connections begin.
const START: u64 = 1_700_000_000 * SECOND;

/// A frame and when it came.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub(super) at: Timestamp,
    pub(super) frame: Vec<u8>,
}

/// Instances of the intrusion detection, and their connections by flow.
pub(super) struct Node {
    pub(super) ids: Ids,
    pub(super) connections: BTreeMap<FlowKey, Option<Connection>>,
    pub(super) records: Vec<Record>,
}

impl Node {
    pub(super) fn new(instance: u32) -> Self {
        Self::with(Config::default(), instance)
    }

    pub(super) fn with(config: Config, instance: u32) -> Self {
        let ids = Ids::new(config, Replica { instance, incarnation: 1 });
        Self { ids, connections: BTreeMap::new(), records: Vec::new() }
    }

    /// Processes a frame; the flow it is of, if it is of one.
    pub(super) fn take(&mut self, timed: &Timed) -> Option<FlowKey> {
        let Ok(Parsed::Ip(meta)) = parse(&timed.frame, ServiceId(0)) else { return None };
        let key = meta.key.both_ways();
        let connection = self.connections.entry(key).or_default();
        self.ids.packet(connection, &meta, &timed.frame, timed.at);
        self.records.extend(self.ids.drain());
        Some(key)
    }

    pub(super) fn take_all(&mut self, frames: &[Timed]) {
        frames.iter().for_each(|timed| {
            self.take(timed);
        });
    }

    /// Ends what has been idle for too long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        for connection in self.connections.values_mut() {
            self.ids.expire(connection, now);
        }
        self.records.extend(self.ids.drain());
    }

    /// Ends all connections.
    pub(super) fn finish(mut self) -> Vec<Record> {
        for connection in self.connections.values_mut() {
            self.ids.end(connection);
        }
        self.records.extend(self.ids.drain());
        self.records
    }
}

/// The records of frames that are processed by one instance.
pub(super) fn records(frames: &[Timed]) -> Vec<Record> {
    let mut node = Node::new(1);
    node.take_all(frames);
    node.finish()
}

/// The lines of records, in order of their text: it is theirs, not that of their coming, in which
/// logs are compared.
pub(super) fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<_> = records
        .iter()
        .map(|record| format!("{:?} {}", log::Log::of(record), log::line(record)))
        .collect();
    lines.sort();
    lines
}

pub(super) fn conns(records: &[Record]) -> Vec<&ConnRecord> {
    let conns = records.iter().filter_map(|record| match record {
        Record::Conn(record) => Some(&**record),
        Record::Http(_) | Record::Scan(_) => None,
    });
    conns.collect()
}

pub(super) fn https(records: &[Record]) -> Vec<&HttpRecord> {
    let https = records.iter().filter_map(|record| match record {
        Record::Http(record) => Some(&**record),
        Record::Conn(_) | Record::Scan(_) => None,
    });
    https.collect()
}

/// A TCP conversation that a test writes.
pub(super) struct Talk {
    pub(super) frames: Vec<Timed>,
    ports: (u16, u16),
    next: Both<u32>,
    now: u64,
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

impl Talk {
    /// One that has not begun. The sequence numbers wrap around after a few bytes.
    pub(super) fn new(port: u16) -> Self {
        let next = Both { orig: u32::MAX - 20, resp: u32::MAX - 10 };
        Self { frames: Vec::new(), ports: (port, 80), next, now: START }
    }

    /// One with its handshake.
    pub(super) fn open(port: u16) -> Self {
        let mut talk = Self::new(port);
        talk.send(Side::Orig, SYN, b"");
        talk.send(Side::Resp, SYN | ACK, b"");
        talk.send(Side::Orig, ACK, b"");
        talk
    }

    /// The next segment of an end.
    pub(super) fn send(&mut self, from: Side, flags: u8, payload: &[u8]) {
        self.send_at(from, 0, flags, payload);
        let length = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[from] = self.next[from].wrapping_add(length);
    }

    /// A segment so many bytes ahead of the next, which stays the next.
    pub(super) fn send_at(&mut self, from: Side, ahead: i32, flags: u8, payload: &[u8]) {
        let seq = self.next[from].wrapping_add_signed(ahead);
        let ack = if flags & ACK == 0 { 0 } else { self.next[from.other()] };
        let ((src, dst), ports) = match from {
            Side::Orig => ((CLIENT, SERVER), self.ports),
            Side::Resp => ((SERVER, CLIENT), (self.ports.1, self.ports.0)),
        };
        self.frames.push(Timed {
            at: Timestamp(self.now),
            frame: tcp((src, dst), ports, (seq, ack), flags, payload),
        });
        self.now += MILLISECOND;
    }

    /// Passes over bytes that nobody has seen.
    pub(super) fn lose(&mut self, from: Side, bytes: u32) {
        self.next[from] = self.next[from].wrapping_add(bytes);
    }

    /// Payload, and its acknowledgement.
    pub(super) fn say(&mut self, from: Side, payload: &[u8]) {
        for part in payload.chunks(1400) {
            self.send(from, ACK, part);
        }
        self.send(from.other(), ACK, b"");
    }

    /// Both ends close.
    pub(super) fn close(&mut self) {
        self.send(Side::Orig, FIN | ACK, b"");
        self.send(Side::Resp, FIN | ACK, b"");
        self.send(Side::Orig, ACK, b"");
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
    }

    pub(super) fn records(&self) -> Vec<Record> {
        records(&self.frames)
    }
}

/// A TCP segment between hosts of IPv4.
pub(super) fn tcp(
    (src, dst): ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    (seq, ack): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = TcpHeader::new(ports.0, ports.1, seq, 1000);
    header.acknowledgment_number = ack;
    header.fin = flags & FIN != 0;
    header.syn = flags & SYN != 0;
    header.rst = flags & RST != 0;
    header.ack = flags & ACK != 0;
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src, dst, 64).tcp_header(header);
    let mut frame = Vec::new();
    step.write(&mut frame, payload).unwrap();
    frame
}

/// The place of a capture, or `None`, and a word about it, where it is absent.
pub(super) fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces").join(name);
    if !path.exists() {
        println!("data test skipped: {name}: ../shared/data/traces/{name} is absent");
        return None;
    }
    Some(path)
}

/// The frames of a capture, if it is there.
pub(super) fn capture(name: &str) -> Option<Vec<Timed>> {
    let file = std::fs::File::open(data(name)?).unwrap();
    let mut reader = pcap_file::pcap::PcapReader::new(file).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let at = Timestamp(u64::try_from(packet.timestamp.as_nanos()).unwrap());
        frames.push(Timed { at, frame: packet.data.into_owned() });
    }
    Some(frames)
}
