//! Completes the transport checksums that a kernel host left to its network card.
//!
//! A kernel sender on veth leaves the TCP or UDP checksum partial: the field holds the folded sum
//! of the pseudo-header, and the device, which is a wire in memory, adds the rest to nobody.

use super::checksum::{Sum, pseudo_header};
use super::header::{header_at, header_at_mut};
use super::ipv4::Ipv4Header;
use super::ipv6::Ipv6Header;
use super::l4::{UdpHeader, checksum_offset};
use super::meta::{Flags, Meta};
use weir_state_transfer::protocol;
use zerocopy::byteorder::network_endian::U16;

/// Completes a partial TCP or UDP checksum; says whether it did.
///
/// A packet whose checksum is right is never changed, even where the right checksum happens to
/// equal the sum of the pseudo-header. The cost on other packets is that sum: 12 or 36 bytes.
#[inline]
pub fn complete(frame: &mut [u8], meta: &Meta) -> bool {
    if meta.l4 == 0 || meta.flags.has(Flags::L4_TRUNCATED) {
        return false;
    }
    let Some(place) = checksum_offset(meta.protocol) else { return false };
    let (l4, end) = (usize::from(meta.l4), usize::from(meta.end));
    let Some(pseudo) = pseudo_sum(frame, meta) else { return false };
    let Some(segment) = frame.get(l4..end) else { return false };
    let Some(field) = header_at::<U16>(segment, place) else { return false };
    // The sum of a pseudo-header is never 0, so neither is a partial checksum: a UDP packet
    // without checksum is not taken for one.
    if field.get() != pseudo.fold() || !length_agrees(segment, meta.protocol) {
        return false;
    }
    let all = Sum::default().with(segment);
    if all.with_word(pseudo.fold()).fold() == 0xffff {
        return false;
    }
    // The field holds the pseudo-header's sum, so the sum of the segment includes it.
    let sum = match all.checksum() {
        0 if meta.protocol == protocol::UDP => 0xffff,
        sum => sum,
    };
    let Some(field) = header_at_mut::<U16>(frame, l4 + place) else { return false };
    field.set(sum);
    true
}

/// The sum of the packet's pseudo-header.
#[inline]
fn pseudo_sum(frame: &[u8], meta: &Meta) -> Option<Sum> {
    let (l3, l4_len) = (usize::from(meta.l3), meta.end.checked_sub(meta.l4)?);
    Some(if meta.key.is_v4() {
        let header: &Ipv4Header = header_at(frame, l3)?;
        pseudo_header(&header.src, &header.dst, meta.protocol, l4_len)
    } else {
        let header: &Ipv6Header = header_at(frame, l3)?;
        pseudo_header(&header.src, &header.dst, meta.protocol, l4_len)
    })
}

/// A UDP packet whose own length differs from that of IP is nothing that a kernel makes.
#[inline]
fn length_agrees(segment: &[u8], protocol: u8) -> bool {
    protocol != protocol::UDP
        || header_at::<UdpHeader>(segment, 0)
            .is_some_and(|udp| usize::from(udp.length.get()) == segment.len())
}

#[cfg(test)]
mod tests {
    use weir_state_transfer::ServiceId;

    use super::*;
    use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6};
    use crate::packet::{Parsed, parse};

    fn meta(frame: &[u8]) -> Meta {
        match parse(frame, ServiceId(0)) {
            Ok(Parsed::Ip(meta)) => meta,
            other => panic!("{other:?}"),
        }
    }

    /// Leaves the checksum of a frame as a kernel on veth does.
    fn make_partial(frame: &mut [u8]) {
        let meta = meta(frame);
        let place = usize::from(meta.l4) + checksum_offset(meta.protocol).unwrap();
        let sum = pseudo_sum(frame, &meta).unwrap().fold();
        frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn random_frame(rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut payload = vec![0; rng.usize(..1400)];
        rng.fill(&mut payload);
        let ports = (rng.u16(..), rng.u16(..));
        match rng.u8(..4) {
            0 => samples::udp4(HOST_A, HOST_B, ports, &payload),
            1 => samples::udp6(HOST_A6, HOST_B6, ports, &payload),
            2 => samples::tcp4(HOST_A, HOST_B, ports, &payload),
            _ => samples::tcp6(HOST_A6, HOST_B6, ports, &payload),
        }
    }

    #[test]
    fn a_partial_checksum_becomes_the_one_that_an_independent_library_computes() {
        let mut rng = weir_seed::rng();
        for _ in 0..2_000 {
            let right = random_frame(&mut rng);
            let mut frame = right.clone();
            make_partial(&mut frame);
            // One in 65,536 is the same.
            let is_partial = frame != right;
            frame.resize(frame.len() + rng.usize(..8), 0xee);
            let meta = meta(&frame);
            assert_eq!(complete(&mut frame, &meta), is_partial);
            assert_eq!(frame[..right.len()], right);
            assert!(!complete(&mut frame, &meta), "completed twice");
        }
    }

    #[test]
    fn a_right_checksum_is_left_alone_even_when_it_looks_partial() {
        let mut looked_partial = false;
        // One word of payload takes every value, so the right checksum does too.
        for word in 0..=u16::MAX {
            let right = samples::udp4(HOST_A, HOST_B, (1, 2), &word.to_be_bytes());
            let (meta, mut frame) = (meta(&right), right.clone());
            assert!(!complete(&mut frame, &meta));
            assert_eq!(frame, right);
            make_partial(&mut frame);
            looked_partial |= frame == right;
        }
        assert!(looked_partial, "no payload made the two equal");
    }

    #[test]
    fn udp_without_checksum_wrong_checksums_and_fragments_are_left_alone() {
        let mut none = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        none[40..42].fill(0);
        let mut wrong = samples::tcp4(HOST_A, HOST_B, (1, 2), b"payload");
        wrong[50] ^= 0x55;
        let mut fragment = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        make_partial(&mut fragment);
        fragment[20] |= 0x20;
        samples::mend_ipv4(&mut fragment);
        let mut short_length = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        short_length[39] -= 1;
        make_partial(&mut short_length);
        for frame in [none, wrong, fragment, short_length] {
            let (meta, mut changed) = (meta(&frame), frame.clone());
            assert!(!complete(&mut changed, &meta));
            assert_eq!(changed, frame);
        }
    }
}
