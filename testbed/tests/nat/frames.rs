//! Frames, and a naive way to make a packet of one flow one of another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{PacketBuilder, PacketBuilderStep};
use weir_dataplane::nf::nat::flow_key;
use weir_dataplane::packet::{Flags, Meta, Parsed, parse};
use weir_state_transfer::{FlowKey, ServiceId, protocol};

pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
pub(crate) const EXTERNAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
/// A router outside, and one inside.
const ROUTERS: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 9), Ipv4Addr::new(10, 254, 0, 9)];
const ROUTERS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 9), Ipv6Addr::new(0xfd00, 0, 0, 9, 0, 0, 0, 9)];
/// What all frames have, so that what a router takes off does not count.
const TTL: u8 = 64;

pub(crate) fn meta(frame: &[u8]) -> Option<Meta> {
    match parse(frame, ServiceId(0)) {
        Ok(Parsed::Ip(meta)) => Some(meta),
        Ok(Parsed::Arp) | Err(_) => None,
    }
}

/// The flow of a frame that has one.
pub(crate) fn flow(frame: &[u8]) -> FlowKey {
    flow_key(frame, &meta(frame).unwrap())
}

/// The frame with a TTL that lasts, and without Ethernet addresses and padding.
pub(crate) fn with_ttl(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..12].fill(0);
    if frame[12] == 8 {
        frame[22] = TTL;
        mend_header(&mut frame, 14);
    } else {
        frame[21] = TTL;
    }
    let end = meta(&frame).map_or(frame.len(), |meta| usize::from(meta.end));
    frame.truncate(end);
    frame
}

/// The packet of a captured frame, if both NATs can be asked about it.
///
/// The kernel puts fragments together first, does not forward what is of a link or a group, and
/// tracks questions of ICMP that are no echoes; it drops errors with a wrong checksum itself.
pub(crate) fn comparable(frame: &[u8]) -> Option<Vec<u8>> {
    meta(frame)?;
    let frame = with_ttl(frame);
    let meta = meta(&frame)?;
    let (src, dst) = meta.addresses(&frame)?;
    let kind = meta.l4_bytes(&frame).and_then(|bytes| bytes.first().copied());
    let known = match meta.protocol {
        protocol::TCP | protocol::UDP => true,
        protocol::ICMP | protocol::ICMPV6 => {
            let is_error = meta.flags.has(Flags::KEY_OF_QUOTED) && icmp_is_right(&frame, &meta);
            is_error || matches!(kind, Some(0 | 8 | 128 | 129))
        }
        _ => false,
    };
    let whole = !meta.flags.has(Flags::FRAGMENT) && !meta.flags.has(Flags::HAS_OPTIONS);
    let fits = frame.len() <= 1514 && is_far(src) && is_far(dst);
    (known && whole && fits).then_some(frame)
}

fn is_far(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            !address.is_multicast() && first != 127 && (1..240).contains(&first)
        }
        IpAddr::V6(address) => {
            let near = address.is_loopback() || address.is_unspecified();
            !near && !address.is_multicast() && !address.is_unicast_link_local()
        }
    }
}

/// An ICMP error about a frame as it arrived, from a router on its way.
pub(crate) fn error_about(frame: &[u8], inside: bool) -> Vec<u8> {
    let (meta, mut error) = (meta(frame).unwrap(), Vec::new());
    let step = PacketBuilder::ethernet2([0; 6], [0; 6]);
    let quoted = &frame[14..frame.len().min(14 + 200)];
    match meta.key.src() {
        IpAddr::V4(to) => {
            let step = step.ipv4(ROUTERS[usize::from(inside)].octets(), to.octets(), TTL);
            step.icmpv4_raw(3, 1, [0; 4]).write(&mut error, quoted).unwrap();
        }
        IpAddr::V6(to) => {
            let step = step.ipv6(ROUTERS6[usize::from(inside)].octets(), to.octets(), TTL);
            step.icmpv6_raw(1, 4, [0; 4]).write(&mut error, quoted).unwrap();
        }
    }
    error
}

/// The frame made one of another flow, the slow way.
pub(crate) fn renamed(frame: &[u8], to: &FlowKey) -> Vec<u8> {
    let meta = meta(frame).unwrap();
    let mut frame = frame.to_vec();
    let (l3, l4) = (usize::from(meta.l3), usize::from(meta.l4));
    if !meta.flags.has(Flags::KEY_OF_QUOTED) {
        rename(&mut frame, l3, Some(to.src()), to);
        return frame;
    }
    let from = flow_key(&frame, &meta);
    rename(&mut frame, l4 + 8, Some(to.dst()), &to.reversed());
    let src = (from.src() != to.src()).then_some(to.src());
    set_addresses(&mut frame, l3, src, to.dst());
    frame[l4 + 2..l4 + 4].fill(0);
    let sum = !folded(sum_of(&frame[l4..]) + pseudo(&frame, l3, l4));
    frame[l4 + 2..l4 + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn rename(frame: &mut [u8], l3: usize, src: Option<IpAddr>, to: &FlowKey) {
    let is_v4 = to.is_v4();
    let (number, l4) = if is_v4 { (frame[l3 + 9], l3 + 20) } else { (frame[l3 + 6], l3 + 40) };
    let addresses = if is_v4 { l3 + 12..l3 + 20 } else { l3 + 8..l3 + 40 };
    let before = sum_of(&frame[addresses.clone()]);
    set_addresses(frame, l3, src, to.dst());
    let after = sum_of(&frame[addresses]);
    let (place, numbers) = match number {
        protocol::TCP => (16, 0..4),
        protocol::UDP => (6, 0..4),
        _ => (2, 4..6),
    };
    let at = l4 + numbers.start..l4 + numbers.end;
    let Some(bytes) = frame.get_mut(at) else { return };
    let old = sum_of(bytes);
    bytes[..2].copy_from_slice(&to.src_port().to_be_bytes());
    if bytes.len() == 4 {
        bytes[2..].copy_from_slice(&to.dst_port().to_be_bytes());
    }
    let new = sum_of(bytes);
    let covers_addresses = number != protocol::ICMP;
    let Some(field) = frame.get_mut(l4 + place..l4 + place + 2) else { return };
    let checksum = u16::from_be_bytes([field[0], field[1]]);
    if number == protocol::UDP && checksum == 0 {
        return;
    }
    // As in RFC 1624, with the complement of a sum of words as one word.
    let change = |old, new| u32::from(!folded(old)) + u32::from(folded(new));
    let mut sum = u32::from(!checksum) + change(old, new);
    if covers_addresses {
        sum += change(before, after);
    }
    let checksum = match !folded(sum) {
        0 if number == protocol::UDP => 0xffff,
        checksum => checksum,
    };
    field.copy_from_slice(&checksum.to_be_bytes());
}

fn set_addresses(frame: &mut [u8], l3: usize, src: Option<IpAddr>, dst: IpAddr) {
    for (number, address) in [src, Some(dst)].into_iter().enumerate() {
        match address {
            Some(IpAddr::V4(address)) => {
                let at = l3 + 12 + 4 * number;
                frame[at..at + 4].copy_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                let at = l3 + 8 + 16 * number;
                frame[at..at + 16].copy_from_slice(&address.octets());
            }
            None => {}
        }
    }
    if dst.is_ipv4() {
        mend_header(frame, l3);
    }
}

fn mend_header(frame: &mut [u8], l3: usize) {
    let end = l3 + usize::from(frame[l3] & 0xf) * 4;
    frame[l3 + 10..l3 + 12].fill(0);
    let sum = !folded(sum_of(&frame[l3..end]));
    frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
}

fn icmp_is_right(frame: &[u8], meta: &Meta) -> bool {
    let (l3, l4) = (usize::from(meta.l3), usize::from(meta.l4));
    folded(sum_of(&frame[l4..]) + pseudo(frame, l3, l4)) == 0xffff
}

/// The sum of the pseudo-header of ICMPv6; ICMP has none.
fn pseudo(frame: &[u8], l3: usize, l4: usize) -> u32 {
    if frame[12] == 8 {
        return 0;
    }
    // The cast holds: a frame has at most 1,514 bytes.
    sum_of(&frame[l3 + 8..l3 + 40]) + (frame.len() - l4) as u32 + u32::from(protocol::ICMPV6)
}

fn sum_of(bytes: &[u8]) -> u32 {
    let word =
        |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    bytes.chunks(2).map(word).sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet between two ends, of TCP with these flags or, without any, of UDP.
pub(crate) fn packet(src: (IpAddr, u16), dst: (IpAddr, u16), flags: &str, seq: u32) -> Vec<u8> {
    let (step, mut frame) = (PacketBuilder::ethernet2([0; 6], [0; 6]), Vec::new());
    let step: PacketBuilderStep<etherparse::IpHeaders> = match (src.0, dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => step.ipv4(src.octets(), dst.octets(), TTL),
        (IpAddr::V6(src), IpAddr::V6(dst)) => step.ipv6(src.octets(), dst.octets(), TTL),
        other => panic!("{other:?}"),
    };
    if flags.is_empty() {
        step.udp(src.1, dst.1).write(&mut frame, b"payload").unwrap();
        return frame;
    }
    let mut step = step.tcp(src.1, dst.1, seq, 1_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'F' => step.fin(),
            'A' => step.ack(1),
            other => panic!("{other}"),
        };
    }
    step.write(&mut frame, b"").unwrap();
    frame
}

/// An echo of ICMPv6, from an end whose port is its identifier.
pub(crate) fn echo6(src: (IpAddr, u16), dst: IpAddr, asks: bool) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (src.0, dst) else { panic!("{src:?}, {dst}") };
    let ([high, low], mut frame) = (src.1.to_be_bytes(), Vec::new());
    let step = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv6(from.octets(), to.octets(), TTL);
    let step = step.icmpv6_raw(if asks { 128 } else { 129 }, 0, [high, low, 0, 1]);
    step.write(&mut frame, b"ping").unwrap();
    frame
}
