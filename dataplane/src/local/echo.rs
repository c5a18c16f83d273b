//! ICMP and ICMPv6 echo to the router's own addresses.

use weir_state_transfer::protocol;

use super::{Consumed, Verdict};
use crate::packet::checksum::{self, Sum, pseudo_header};
use crate::packet::ethernet::EthernetHeader;
use crate::packet::header::{header_at, header_at_mut};
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::Ipv4Header;
use crate::packet::ipv6::Ipv6Header;
use crate::packet::{DropReason, MacAddr, Meta};

/// The TTL and hop limit of what the router makes (RFC 1122, section 3.2.1.7).
pub(crate) const TTL: u8 = 64;

/// Turns an echo request in place into its reply, to the station that sent the frame.
pub(super) fn answer(frame: &mut [u8], meta: &Meta, mac: MacAddr) -> Verdict {
    let is_v4 = meta.key.is_v4();
    let Some(kind) = meta.l4_bytes(frame).and_then(|bytes| bytes.first().copied()) else {
        return Verdict::Dropped(DropReason::TruncatedL4);
    };
    let (request, reply) = match is_v4 {
        true => (icmp::v4::ECHO_REQUEST, icmp::v4::ECHO_REPLY),
        false => (icmp::v6::ECHO_REQUEST, icmp::v6::ECHO_REPLY),
    };
    if kind != request {
        return Verdict::Consumed(Consumed::Icmp);
    }
    if !sums_up(frame, meta) {
        return Verdict::Dropped(DropReason::BadL4Checksum);
    }
    match turn_round(frame, meta, reply, mac) {
        Some(()) => Verdict::Reply,
        None => Verdict::Dropped(DropReason::TruncatedL4),
    }
}

fn sums_up(frame: &[u8], meta: &Meta) -> bool {
    let Some(bytes) = meta.l4_bytes(frame) else { return false };
    let sum = if meta.key.is_v4() {
        Sum::default()
    } else {
        let Some(header) = header_at::<Ipv6Header>(frame, usize::from(meta.l3)) else {
            return false;
        };
        // The casts hold: a frame is at most 2^16 - 1 bytes long.
        pseudo_header(&header.src, &header.dst, protocol::ICMPV6, bytes.len() as u16)
    };
    sum.with(bytes).fold() == 0xffff
}

/// Swaps the addresses and sets type and TTL, with the checksums they change.
fn turn_round(frame: &mut [u8], meta: &Meta, reply: u8, mac: MacAddr) -> Option<()> {
    let (l3, l4) = (usize::from(meta.l3), usize::from(meta.l4));
    let header: &mut IcmpHeader = header_at_mut(frame, l4)?;
    let old = u16::from_be_bytes([header.kind, header.code]);
    header.kind = reply;
    let new = u16::from_be_bytes([header.kind, header.code]);
    header.checksum.set(checksum::update(header.checksum.get(), old, new));
    // Swapping addresses changes no sum.
    if meta.key.is_v4() {
        let header: &mut Ipv4Header = header_at_mut(frame, l3)?;
        std::mem::swap(&mut header.src, &mut header.dst);
        let old = u16::from_be_bytes([header.ttl, header.protocol]);
        header.ttl = TTL;
        let new = u16::from_be_bytes([header.ttl, header.protocol]);
        header.checksum.set(checksum::update(header.checksum.get(), old, new));
    } else {
        let header: &mut Ipv6Header = header_at_mut(frame, l3)?;
        std::mem::swap(&mut header.src, &mut header.dst);
        header.hop_limit = TTL;
    }
    let ethernet: &mut EthernetHeader = header_at_mut(frame, 0)?;
    // The frame may have come to a group, which cannot be the sender of the reply.
    (ethernet.destination, ethernet.source) = (ethernet.source, mac);
    Some(())
}
