//! Makes the packet of one flow one of another: addresses, ports, identifiers, and every checksum
//! that covers them, by increment (RFC 1624).
//!
//! A checksum that was wrong stays wrong, and the receiver finds out. What a packet, or a quoted
//! one, is too short for is left out.

use weir_state_transfer::{FlowKey, protocol};

use super::flow::Headers;
use crate::packet::checksum::{Sum, update_by};
use crate::packet::header::header_at_mut;
use crate::packet::l4::checksum_offset;
use crate::packet::{Flags, Meta};

/// Rewrites a packet of flow `from` to one of flow `to`, of the same family and protocol.
///
/// An ICMP error is about a packet in the other direction, which is translated back (RFC 5508,
/// section 4.2). Its own source becomes that of the flow where that is translated: so a router
/// inside speaks with the external address.
pub(super) fn rewrite(frame: &mut [u8], meta: &Meta, from: &FlowKey, to: &FlowKey) {
    let Some(packet) = frame.get_mut(..usize::from(meta.end)) else { return };
    if !meta.flags.has(Flags::KEY_OF_QUOTED) {
        readdress(packet, &Headers::of(meta), to);
        return;
    }
    let Some(quoted) = Headers::quoted(packet, meta) else { return };
    let inner = readdress(packet, &quoted, &to.reversed());
    let src = (from.src() != to.src()).then_some(to.src_octets());
    let both = [src, Some(to.dst_octets())];
    let (outer, _) = set_addresses(packet, usize::from(meta.l3), to.is_v4(), both);
    let covered = if to.is_v4() { inner } else { inner.with_sum(outer) };
    mend(packet, usize::from(meta.l4) + ICMP_CHECKSUM, covered);
}

const IPV4_CHECKSUM: usize = 10;
const ICMP_CHECKSUM: usize = 2;
const ICMP_IDENTIFIER: usize = 4;

/// Makes the packet at these headers one of a flow; the sum of all changes.
fn readdress(packet: &mut [u8], headers: &Headers, to: &FlowKey) -> Sum {
    let both = [Some(to.src_octets()), Some(to.dst_octets())];
    let (addresses, header) = set_addresses(packet, headers.l3, to.is_v4(), both);
    let Some(l4) = headers.l4 else { return header };
    let (own, place) = match headers.protocol {
        protocol::TCP | protocol::UDP => {
            let src = set(packet, l4, &to.src_port().to_be_bytes());
            let own = src.with_sum(set(packet, l4 + 2, &to.dst_port().to_be_bytes()));
            (own, checksum_offset(headers.protocol))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let id = to.src_port().to_be_bytes();
            (set(packet, l4 + ICMP_IDENTIFIER, &id), Some(ICMP_CHECKSUM))
        }
        _ => (Sum::default(), None),
    };
    let Some(place) = place else { return header };
    // ICMP alone has no pseudo-header.
    let covered = if headers.protocol == protocol::ICMP { own } else { own.with_sum(addresses) };
    let mended = if headers.protocol == protocol::UDP {
        mend_udp(packet, l4 + place, covered)
    } else {
        mend(packet, l4 + place, covered)
    };
    header.with_sum(own).with_sum(mended)
}

/// Sets source and destination of an IP header; the sum of their changes, and that of all changes
/// of the header.
fn set_addresses(
    packet: &mut [u8],
    l3: usize,
    is_v4: bool,
    new: [Option<&[u8; 16]>; 2],
) -> (Sum, Sum) {
    let mut changes = Sum::default();
    for (place, address) in (0..).zip(new) {
        let Some(address) = address else { continue };
        let change = if is_v4 {
            let [.., a, b, c, d] = *address;
            set(packet, l3 + 12 + 4 * place, &[a, b, c, d])
        } else {
            set(packet, l3 + 8 + 16 * place, address)
        };
        changes = changes.with_sum(change);
    }
    let mended = if is_v4 { mend(packet, l3 + IPV4_CHECKSUM, changes) } else { Sum::default() };
    (changes, changes.with_sum(mended))
}

/// Replaces bytes at an even place; the sum of the change.
fn set<const N: usize>(packet: &mut [u8], place: usize, new: &[u8; N]) -> Sum {
    let Some(bytes) = header_at_mut::<[u8; N]>(packet, place) else { return Sum::default() };
    let change = Sum::of_change(bytes, new);
    *bytes = *new;
    change
}

/// Changes a checksum by what it covers has changed; the sum of its own change.
fn mend(packet: &mut [u8], place: usize, changes: Sum) -> Sum {
    match header_at_mut::<[u8; 2]>(packet, place) {
        Some(field) => {
            let checksum = update_by(u16::from_be_bytes(*field), changes);
            set(packet, place, &checksum.to_be_bytes())
        }
        None => Sum::default(),
    }
}

/// In UDP, 0 says that there is no checksum, and stands for none that was computed (RFC 768).
fn mend_udp(packet: &mut [u8], place: usize, changes: Sum) -> Sum {
    match header_at_mut::<[u8; 2]>(packet, place) {
        Some([0, 0]) | None => Sum::default(),
        Some(field) => {
            let checksum = match update_by(u16::from_be_bytes(*field), changes) {
                0 => 0xffff,
                checksum => checksum,
            };
            set(packet, place, &checksum.to_be_bytes())
        }
    }
}
