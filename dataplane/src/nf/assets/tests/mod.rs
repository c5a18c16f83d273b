//! The asset detection as its users see it: packets in, records out.

mod bounds;
mod captures;
mod learning;
mod naive;
mod southbound;
mod transfer;

use std::collections::BTreeMap;
use std::path::Path;

use etherparse::{PacketBuilder, TcpHeader};
use weir_state_transfer::merge::Replica;
use weir_state_transfer::{FlowKey, ServiceId};

use super::*;
use crate::packet::{Parsed, parse};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [192, 0, 2, 80];
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// When test flows begin.
const START: u64 = 1_700_000_000 * SECOND;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A frame and when it came.
#[derive(Clone, Debug)]
struct Timed {
    at: Timestamp,
    frame: Vec<u8>,
}

/// An instance of the asset detection, and its connections by flow.
struct Node {
    assets: Assets,
    connections: BTreeMap<FlowKey, Option<Connection>>,
    records: Vec<Record>,
}

impl Node {
    fn new(instance: u32) -> Self {
        Self::with(Config::default(), instance)
    }

    fn with(config: Config, instance: u32) -> Self {
        let assets = Assets::new(config, Replica { instance, incarnation: 1 });
        Self { assets, connections: BTreeMap::new(), records: Vec::new() }
    }

    /// Processes a frame; the flow it is of, if it is of one.
    fn take(&mut self, timed: &Timed) -> Option<FlowKey> {
        let Ok(Parsed::Ip(meta)) = parse(&timed.frame, ServiceId(0)) else { return None };
        let key = meta.key.both_ways();
        let connection = self.connections.entry(key).or_default();
        self.assets.packet(connection, &meta, &timed.frame, timed.at);
        self.records.extend(std::iter::from_fn(|| self.assets.next_record()));
        Some(key)
    }

    fn take_all(&mut self, frames: &[Timed]) {
        frames.iter().for_each(|timed| _ = self.take(timed));
    }

    /// What is known of a host of IPv4.
    fn host(&self, address: [u8; 4]) -> &Host {
        self.assets.host(&host(address)).expect("a host that is known")
    }

    /// Lines of the log without their times.
    fn lines(&self) -> Vec<String> {
        self.records.iter().map(timeless).collect()
    }
}

fn host(address: [u8; 4]) -> HostId {
    HostId { service: ServiceId(0), address: address.into() }
}

/// The line of a record without its time.
fn timeless(record: &Record) -> String {
    let line = record.line();
    let (_, rest) = line.trim_end().split_once('\t').expect("a time");
    rest.replace('\t', " ")
}

/// Packets that a test writes, a millisecond apart.
#[derive(Clone, Default)]
struct Talk {
    frames: Vec<Timed>,
}

/// Who sends to whom, from which port to which.
type Ends = (([u8; 4], u16), ([u8; 4], u16));

impl Talk {
    fn push(&mut self, frame: Vec<u8>) {
        let at = Timestamp(START + self.frames.len() as u64 * MILLISECOND);
        self.frames.push(Timed { at, frame });
    }

    fn tcp(&mut self, ends: Ends, flags: u8, payload: &[u8]) {
        self.push(tcp(ends, flags, payload));
    }

    fn udp(&mut self, ((src, sport), (dst, dport)): Ends, payload: &[u8]) {
        let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src, dst, 60).udp(sport, dport);
        let mut frame = Vec::new();
        step.write(&mut frame, payload).unwrap();
        self.push(frame);
    }

    /// A connection in which each end says one thing.
    fn exchange(&mut self, port: u16, server: u16, asks: &[u8], answers: &[u8]) {
        let there = ((CLIENT, port), (SERVER, server));
        let back = (there.1, there.0);
        self.tcp(there, SYN, b"");
        self.tcp(back, SYN | ACK, b"");
        self.tcp(there, ACK, b"");
        self.tcp(there, ACK, asks);
        self.tcp(back, ACK, answers);
        self.tcp(there, FIN | ACK, b"");
        self.tcp(back, FIN | ACK, b"");
        self.tcp(there, ACK, b"");
    }
}

/// A segment; a SYN is that of Linux, which is 3 routers away, and a SYN+ACK that of Windows.
fn tcp(((src, sport), (dst, dport)): Ends, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (ttl, window, options): (_, _, &[u8]) = match flags & (SYN | ACK) {
        SYN => (61, 64_240, &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7]),
        18 => (128, 65_535, &[2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2]),
        _ => (60, 500, &[]),
    };
    let mut ip = etherparse::Ipv4Header::new(0, ttl, etherparse::ip_number::TCP, src, dst).unwrap();
    (ip.dont_fragment, ip.identification) = (true, 7);
    let mut header = TcpHeader::new(sport, dport, 1, window);
    header.acknowledgment_number = u32::from(flags & ACK != 0);
    header.fin = flags & FIN != 0;
    header.syn = flags & SYN != 0;
    header.rst = flags & RST != 0;
    header.ack = flags & ACK != 0;
    header.set_options_raw(options).unwrap();
    let ip = etherparse::IpHeaders::Ipv4(ip, Default::default());
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(ip).tcp_header(header);
    let mut frame = Vec::new();
    step.write(&mut frame, payload).unwrap();
    frame
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nUser-Agent: curl/8.5.0\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n";
const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";

/// Flows that use all of the state.
fn conversations() -> Talk {
    let mut talk = Talk::default();
    talk.exchange(1000, 80, GET, OK);
    talk.exchange(1001, 22, b"SSH-2.0-PuTTY\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n");
    talk.exchange(1002, 7, b"what", b"ever");
    talk.udp(((CLIENT, 2000), (SERVER, 53)), QUERY);
    talk.udp(((SERVER, 53), (CLIENT, 2000)), ANSWER);
    talk.udp(((CLIENT, 2001), (SERVER, 9)), b"hm");
    talk.udp(((SERVER, 9), (CLIENT, 2001)), b"hm");
    talk.exchange(1000, 80, GET, b"HTTP/1.1 200 OK\r\nServer: apache\r\n\r\n");
    talk
}

/// A hello of TLS 1.2, of a client or of a server.
fn tls_hello(kind: u8, rest: &[u8]) -> Vec<u8> {
    let head = [22, 3, 1, 0, 90, kind, 0, 0, 86, 3, 3];
    [&head[..], &[7; 32], &[0], rest].concat()
}

/// A hello that leaves the name of a server behind at its flow.
fn asks_for(server: &str) -> Vec<u8> {
    let length = server.len() as u8;
    let sni = [0, 0, 0, length + 5, 0, length + 3, 0, 0, length];
    tls_hello(1, &[&[0, 2, 19, 1, 1, 0, 0, length + 9][..], &sni, server.as_bytes()].concat())
}

/// The frames of a capture, if it is there.
fn capture(name: &str) -> Option<Vec<Timed>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces").join(name);
    if !path.exists() {
        println!("data test skipped: assets: {name}: ../shared/data/traces/{name} is absent");
        return None;
    }
    let mut reader = pcap_file::pcap::PcapReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let at = Timestamp(u64::try_from(packet.timestamp.as_nanos()).unwrap());
        frames.push(Timed { at, frame: packet.data.into_owned() });
    }
    Some(frames)
}
