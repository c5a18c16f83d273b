//! Our connection tracking, with a table of connections.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use weir_dataplane::nf::connection::{Connection, Packet, Settings, TcpTimeouts, Tracked};
use weir_dataplane::packet::{Flags, Meta, Parsed, parse};
use weir_state_transfer::{FlowKey, Nanos, PortId, ServiceId, protocol};

/// What a packet is to its connection, in the words of nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Invalid,
    New,
    Established,
    Related,
}

/// The connections of a firewall that accepts all that is valid.
pub(crate) struct Model {
    settings: Settings,
    connections: HashMap<FlowKey, Connection>,
}

/// Where a time-out stands in our settings.
type Place = fn(&mut TcpTimeouts) -> &mut Duration;

/// Time-outs of TCP for both, with the kernel's names for them: far enough from each other that a
/// slow machine does not blur them.
pub(crate) const TIMEOUTS: [(&str, u64, Place); 10] = [
    ("close", 1_000, |tcp| &mut tcp.closed),
    ("last_ack", 2_000, |tcp| &mut tcp.last_ack),
    ("syn_recv", 3_000, |tcp| &mut tcp.syn_received),
    ("close_wait", 4_000, |tcp| &mut tcp.close_wait),
    // As it is: the kernel has another of this length, for SYNs of both ends, that nobody can set.
    ("syn_sent", 120, |tcp| &mut tcp.syn_sent),
    ("fin_wait", 6_000, |tcp| &mut tcp.fin_wait),
    ("time_wait", 7_000, |tcp| &mut tcp.time_wait),
    ("max_retrans", 8_000, |tcp| &mut tcp.retransmitting),
    ("unacknowledged", 9_000, |tcp| &mut tcp.unacknowledged),
    ("established", 100_000, |tcp| &mut tcp.established),
];

/// No time passes: the packets follow each other faster than any time-out.
const NOW: Nanos = Nanos(1);

/// How connections are tracked, with the time-outs that the kernel is told too.
pub(crate) fn settings(pick_up: bool) -> Settings {
    let mut settings = Settings { pick_up, ..Settings::default() };
    for (_, seconds, timeout) in TIMEOUTS {
        *timeout(&mut settings.timeouts.tcp) = Duration::from_secs(seconds);
    }
    settings
}

impl Model {
    pub(crate) fn new(pick_up: bool) -> Self {
        Self { settings: settings(pick_up), connections: HashMap::new() }
    }

    /// What the packet in a frame is here. The connection is encoded and decoded behind it.
    pub(crate) fn see(&mut self, frame: &[u8], meta: &Meta) -> Answer {
        let packet = Packet::new(frame, meta, PortId(0));
        let key = meta.key.both_ways();
        let (tracked, connection) = match self.connections.remove(&key) {
            None => match Connection::open(&packet, NOW, &self.settings) {
                Ok(opened) => (Tracked::New, opened),
                Err(reason) => return Answer(Tracked::Invalid(reason)),
            },
            Some(mut known) => {
                let tracked = known.track(&packet, NOW, &self.settings);
                if tracked == Tracked::Begins {
                    known.begin(&packet, NOW, &self.settings).unwrap();
                }
                (tracked, known)
            }
        };
        let chunk = connection.to_chunk(NOW);
        let connection = Connection::from_chunk(&chunk, NOW).unwrap();
        if !connection.is_over(NOW) {
            self.connections.insert(key, connection);
        }
        Answer(tracked)
    }
}

impl Model {
    /// The TCP connections, with what is left of their time.
    pub(crate) fn tcp(&self) -> BTreeMap<FlowKey, Duration> {
        let tcp = self.connections.iter().filter(|(key, _)| key.protocol() == protocol::TCP);
        tcp.map(|(key, connection)| (*key, connection.deadline().since(NOW))).collect()
    }
}

/// What a packet is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer(Tracked);

impl Answer {
    pub(crate) fn seen(self) -> Seen {
        match self.0 {
            Tracked::New | Tracked::Begins => Seen::New,
            Tracked::Established => Seen::Established,
            Tracked::Related => Seen::Related,
            Tracked::Invalid(_) => Seen::Invalid,
        }
    }
}

/// Why a packet is kept out of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOut {
    /// No packet, or none that a router forwards.
    Malformed,
    /// The kernel puts fragments together first.
    Fragment,
    /// The kernel also tracks questions of ICMP that are no echoes, and does not track neighbour
    /// discovery.
    OtherIcmp,
    /// The kernel has a tracker of its own for it.
    OtherProtocol,
    /// The kernel does not forward what is of a link or a group.
    NotForwarded,
    /// It fits no device.
    TooLong,
}

/// The frame with a TTL that lasts, if both can track its packet.
pub(crate) fn fit_for_both(frame: &[u8]) -> Result<(Vec<u8>, Meta), LeftOut> {
    let mut frame = frame.to_vec();
    let Ok(Parsed::Ip(_)) = parse(&frame, ServiceId(0)) else { return Err(LeftOut::Malformed) };
    if frame[12] == 8 {
        // One word of the header changes, so its checksum does by as much (RFC 1624).
        let before = u32::from(u16::from_be_bytes([frame[22], frame[23]]));
        frame[22] = 64;
        let after = u32::from(u16::from_be_bytes([frame[22], frame[23]]));
        let sum = u32::from(!u16::from_be_bytes([frame[24], frame[25]]));
        let sum = sum + (0xffff - before) + after;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    } else {
        frame[21] = 64;
    }
    let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { return Err(LeftOut::Malformed) };
    let (src, dst) = meta.addresses(&frame).ok_or(LeftOut::Malformed)?;
    if !is_forwarded(src) || !is_forwarded(dst) {
        return Err(LeftOut::NotForwarded);
    }
    if meta.flags.has(Flags::FRAGMENT) {
        return Err(LeftOut::Fragment);
    }
    match meta.protocol {
        protocol::TCP | protocol::UDP => {}
        protocol::ICMP | protocol::ICMPV6 => {
            let kind = meta.l4_bytes(&frame).and_then(|bytes| bytes.first().copied());
            if !meta.flags.has(Flags::ICMP_ERROR) && !matches!(kind, Some(0 | 8 | 128 | 129)) {
                return Err(LeftOut::OtherIcmp);
            }
        }
        protocol if TRACKED_APART.contains(&protocol) => return Err(LeftOut::OtherProtocol),
        _ => {}
    }
    if frame.len() > 1514 { Err(LeftOut::TooLong) } else { Ok((frame, meta)) }
}

/// DCCP, GRE, SCTP and UDP-Lite (IANA's protocol numbers).
const TRACKED_APART: [u8; 4] = [33, 47, 132, 136];

/// Whether the kernel forwards what is from or to an address.
fn is_forwarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback()
                || address.is_unspecified()
                || address.octets()[0] == 0
                || address.octets()[0] >= 240)
        }
        IpAddr::V6(address) => {
            !(address.is_multicast()
                || address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local())
        }
    }
}

/// The flow of a packet, the same for both directions.
pub(crate) fn flow(meta: &Meta) -> String {
    meta.key.both_ways().to_string()
}

/// A packet in a line.
pub(crate) fn shown(frame: &[u8], meta: &Meta) -> String {
    let Some(tcp) = meta.l4_bytes(frame).filter(|_| meta.protocol == protocol::TCP) else {
        return format!("[{}] {}", flow(meta), meta.key);
    };
    let Some((header, _)) = tcp.split_first_chunk::<20>() else { return flow(meta) };
    let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| header[at + n]));
    let window = u16::from_be_bytes([header[14], header[15]]);
    let length = tcp.len().saturating_sub(usize::from(header[12] >> 4) * 4);
    let options = &tcp[20..tcp.len() - length];
    format!(
        "[{}] from {}: seq {} ack {} win {window} len {length} flags {:#04x} options {options:?}",
        flow(meta),
        meta.key.src_port(),
        word(4),
        word(8),
        header[13],
    )
}
