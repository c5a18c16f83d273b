//! A check of every checksum in a frame.

use super::*;
use crate::nf::nat::flow::Headers;
use crate::packet::Flags;
use crate::packet::checksum::{Sum, is_valid, pseudo_header};

/// Whether every checksum in a frame is what it is when computed from nothing: that of the header,
/// that of what it carries, and those of the packet that an ICMP error quotes.
pub(super) fn are_right(frame: &[u8]) -> bool {
    let meta = meta_of(frame);
    let packet = &frame[..usize::from(meta.end)];
    let own = Headers::of(&meta);
    let quoted = meta.flags.has(Flags::KEY_OF_QUOTED).then(|| Headers::quoted(packet, &meta));
    [Some(own), quoted.flatten()].into_iter().flatten().all(|headers| {
        header_is_right(packet, &headers, meta.key.is_v4())
            && (meta.flags.has(Flags::FRAGMENT) || payload_is_right(packet, &headers, &meta))
    })
}

fn header_is_right(packet: &[u8], headers: &Headers, is_v4: bool) -> bool {
    let end = headers.l4.unwrap_or(headers.l3 + 20);
    !is_v4
        || with_zero(&packet[headers.l3..end], 10, Sum::default())
            == word_at(packet, headers.l3 + 10)
}

fn payload_is_right(packet: &[u8], headers: &Headers, meta: &Meta) -> bool {
    let Some(l4) = headers.l4 else { return true };
    let is_v4 = meta.key.is_v4();
    let place = match headers.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMP | protocol::ICMPV6 => 2,
        _ => return true,
    };
    // A quoted packet may be cut off: its checksum covers what is not there.
    let length = if is_v4 {
        usize::from(word_at(packet, headers.l3 + 2)) - (l4 - headers.l3)
    } else {
        usize::from(word_at(packet, headers.l3 + 4)) + 40 - (l4 - headers.l3)
    };
    let Some(payload) = packet.get(l4..l4 + length) else { return true };
    if payload.len() < place + 2 {
        return true;
    }
    let at = headers.l3 + if is_v4 { 12 } else { 8 };
    let size = if is_v4 { 4 } else { 16 };
    let addresses = (&packet[at..at + size], &packet[at + size..at + 2 * size]);
    let pseudo = match headers.protocol {
        protocol::ICMP => Sum::default(),
        number => pseudo_header(addresses.0, addresses.1, number, length as u16),
    };
    let found = word_at(packet, l4 + place);
    match (headers.protocol, with_zero(payload, place, pseudo)) {
        (protocol::UDP, _) if found == 0 => true,
        (protocol::UDP, 0) => found == 0xffff,
        (_, computed) => found == computed,
    }
}

/// The checksum of bytes in which a place is 0.
fn with_zero(bytes: &[u8], place: usize, more: Sum) -> u16 {
    let mut bytes = bytes.to_vec();
    bytes[place..place + 2].fill(0);
    more.with(&bytes).checksum()
}

fn word_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

/// The negative control of the check.
#[test]
fn a_checksum_that_is_not_mended_is_found() {
    let hash = SteeringHash::new(0x6d5a);
    for frame in [udp((INSIDE, 4000), (OUTSIDE, 53)), syn((INSIDE, 4000), (OUTSIDE, 80))] {
        assert!(are_right(&frame));
        let mut changed = frame.clone();
        changed[35] ^= 1;
        assert!(!are_right(&changed), "a port");
        let mut instance = Instance::new(config(vec![source_rule(&[EXTERNAL])], vec![]), &hash, 1);
        instance.translate(&mut changed, NOW);
        assert!(!are_right(&changed), "what was wrong stays wrong");
    }
    let mut header = echo(INSIDE, OUTSIDE, true, 1);
    header[37] ^= 1;
    assert!(!are_right(&header));
    assert!(is_valid(&header[14..34]), "the header is right");
    assert!(!are_right(&header), "the message is not");
}
