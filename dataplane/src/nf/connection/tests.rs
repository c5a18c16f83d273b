//! Connections made by hand, and what tests of network functions share: a table of connections.

mod by_hand;
mod transfer;

use std::collections::HashMap;

use etherparse::{PacketBuilder, PacketBuilderStep};
use weir_state_transfer::{FlowKey, Nanos, PortId, ServiceId};

use super::*;
use crate::packet::samples::{HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

/// The packet that a frame holds, if it is one.
pub(crate) fn with_packet<T>(frame: &[u8], f: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
    let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { return None };
    Some(f(&Packet::new(frame, &meta, PortId(0))))
}

/// The connections of somebody who lets pass what is valid.
pub(crate) struct Table {
    settings: Settings,
    pub(crate) connections: HashMap<FlowKey, Connection>,
}

impl Table {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, connections: HashMap::new() }
    }

    /// What the packet in a frame is; none when there is no packet in it.
    pub(crate) fn see(&mut self, frame: &[u8], now: Nanos) -> Option<Tracked> {
        with_packet(frame, |packet| self.track(packet, now))
    }

    fn track(&mut self, packet: &Packet<'_>, now: Nanos) -> Tracked {
        let key = packet.key().both_ways();
        self.connections.retain(|_, known| !known.is_over(now));
        let Some(known) = self.connections.get_mut(&key) else {
            return match Connection::open(packet, now, &self.settings) {
                Ok(opened) => {
                    self.connections.insert(key, opened);
                    Tracked::New
                }
                Err(reason) => Tracked::Invalid(reason),
            };
        };
        let tracked = known.track(packet, now, &self.settings);
        if tracked == Tracked::Begins {
            known.begin(packet, now, &self.settings).expect("it begins");
        }
        tracked
    }
}

/// A TCP segment from host A (port 4000) to host B (port 80), or back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp4 {
    pub(crate) from_a: bool,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    /// As in `S`, `SA`, `FA`, `R`: an `A` makes the acknowledgement count.
    pub(crate) flags: &'static str,
    pub(crate) length: usize,
    pub(crate) window: u16,
    pub(crate) options: &'static [u8],
}

pub(crate) const TCP: Tcp4 =
    Tcp4 { from_a: true, seq: 0, ack: 0, flags: "A", length: 0, window: 1_000, options: &[] };

impl Tcp4 {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let (ends, ports) = match self.from_a {
            true => ((HOST_A, HOST_B), (4000, 80)),
            false => ((HOST_B, HOST_A), (80, 4000)),
        };
        let mut step = ethernet().ipv4(ends.0.octets(), ends.1.octets(), 64).tcp(
            ports.0,
            ports.1,
            self.seq,
            self.window,
        );
        for flag in self.flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'F' => step.fin(),
                'R' => step.rst(),
                'P' => step.psh(),
                'A' => step.ack(self.ack),
                _ => panic!("{flag}"),
            };
        }
        let mut frame = Vec::new();
        let step = step.options_raw(self.options).expect("options");
        step.write(&mut frame, &vec![b'x'; self.length]).expect("a frame");
        frame
    }
}

fn ethernet() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

/// An echo of ICMP with an identifier.
pub(crate) fn echo4(from_a: bool, asks: bool, id: u8) -> Vec<u8> {
    let (src, dst) = if from_a { (HOST_A, HOST_B) } else { (HOST_B, HOST_A) };
    let step = ethernet().ipv4(src.octets(), dst.octets(), 64);
    let mut frame = Vec::new();
    let kind = if asks { 8 } else { 0 };
    step.icmpv4_raw(kind, 0, [0, id, 0, 1]).write(&mut frame, b"ping").expect("a frame");
    frame
}

/// The frames of a capture with their times, or `None`, and a word about it, where it is absent.
pub(crate) fn capture(name: &str) -> Option<Vec<(Nanos, Vec<u8>)>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/traces")
        .join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        println!("data test skipped: connections of {name}: ../shared/data/traces is absent");
        return None;
    };
    let mut reader = pcap_file::pcap::PcapReader::new(file).expect("a capture");
    let loopback = reader.header().datalink == pcap_file::DataLink::NULL;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.expect("a packet");
        let time = Nanos(u64::try_from(packet.timestamp.as_nanos()).expect("a time"));
        let frame = match loopback {
            // Four bytes of address family instead of an Ethernet header.
            true => [&[2; 6][..], &[4; 6], &[8, 0], &packet.data[4..]].concat(),
            false => packet.data.into_owned(),
        };
        frames.push((time, frame));
    }
    // Captures of several devices are not quite in order.
    let mut latest = Nanos(0);
    for (time, _) in &mut frames {
        latest = latest.max(*time);
        *time = latest;
    }
    Some(frames)
}

/// Captures with something unusual in them.
pub(crate) const CAPTURES: [&str; 8] = [
    "zeek_zeek__ssh-dups.pcap",
    "zeek_zeek__handshake-reorder.pcap",
    "zeek_zeek__missing-syn.pcap",
    "zeek_zeek__fin_retransmission.pcap",
    "zeek_zeek__tcp-fast-open.pcap",
    "OISF_suricata-verify__tcp-session-syn-flood-drop-precedence__input.pcap",
    "http-489.pcap",
    "cisco_mercury__emix.pcap",
];
