//! What forwarding changes in a packet: the TTL and the MAC addresses.

use super::MacAddr;
use super::checksum;
use super::ethernet::EthernetHeader;
use super::header::header_at_mut;
use super::ipv4::Ipv4Header;
use super::ipv6::Ipv6Header;
use super::meta::Meta;
use super::reason::DropReason;

/// Takes one off the TTL or hop limit; the IPv4 header checksum follows by increment (RFC 1624).
///
/// # Errors
/// [`DropReason::TtlExpired`] when the packet may go no further: it is left as it is, for the
/// ICMP error that quotes it.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], meta: &Meta) -> Result<(), DropReason> {
    let l3 = usize::from(meta.l3);
    if meta.key.is_v4() {
        let header: &mut Ipv4Header = header_at_mut(frame, l3).ok_or(DropReason::TruncatedIpv4)?;
        if header.ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let word = |ttl: u8| u16::from_be_bytes([ttl, header.protocol]);
        let sum = checksum::update(header.checksum.get(), word(header.ttl), word(header.ttl - 1));
        header.checksum.set(sum);
        header.ttl -= 1;
    } else {
        let header: &mut Ipv6Header = header_at_mut(frame, l3).ok_or(DropReason::TruncatedIpv6)?;
        if header.hop_limit <= 1 {
            return Err(DropReason::TtlExpired);
        }
        header.hop_limit -= 1;
    }
    Ok(())
}

/// Addresses the frame from this router's port to the next hop.
#[inline]
pub fn rewrite_macs(frame: &mut [u8], destination: MacAddr, source: MacAddr) {
    if let Some(header) = header_at_mut::<EthernetHeader>(frame, 0) {
        header.destination = destination;
        header.source = source;
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, SlicedPacket};
    use weir_state_transfer::ServiceId;

    use super::*;
    use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6, MAC_A, MAC_B};
    use crate::packet::{Parsed, parse};

    fn meta(frame: &[u8]) -> Meta {
        match parse(frame, ServiceId(0)) {
            Ok(Parsed::Ip(meta)) => meta,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_ttl_and_checksum_change_and_an_independent_library_agrees() {
        let mut rng = weir_seed::rng();
        for _ in 0..2_000 {
            let mut frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
            rng.fill(&mut frame[26..34]);
            rng.fill(&mut frame[18..20]);
            (frame[22], frame[26]) = (rng.u8(2..), 10);
            samples::mend_ipv4(&mut frame);
            let before = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
            let payload = frame[34..].to_vec();
            let meta = meta(&frame);
            decrement_ttl(&mut frame, &meta).unwrap();
            let after = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
            let mut expected = before.clone();
            expected.time_to_live -= 1;
            expected.header_checksum = expected.calc_header_checksum();
            assert_eq!(after, expected);
            assert_eq!(frame[34..], payload);
        }
    }

    #[test]
    fn the_hop_limit_of_ipv6_falls_by_one() {
        let mut frame = samples::udp6(HOST_A6, HOST_B6, (1, 2), b"payload");
        let meta = meta(&frame);
        decrement_ttl(&mut frame, &meta).unwrap();
        assert_eq!(Ipv6HeaderSlice::from_slice(&frame[14..]).unwrap().hop_limit(), 63);
    }

    #[test]
    fn a_packet_at_its_last_hop_is_left_as_it_is() {
        for ttl in [0, 1] {
            let mut four = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
            four[22] = ttl;
            samples::mend_ipv4(&mut four);
            let mut six = samples::udp6(HOST_A6, HOST_B6, (1, 2), b"");
            six[21] = ttl;
            for frame in [four, six] {
                let (meta, mut changed) = (meta(&frame), frame.clone());
                assert_eq!(decrement_ttl(&mut changed, &meta), Err(DropReason::TtlExpired));
                assert_eq!(changed, frame);
            }
        }
    }

    #[test]
    fn the_frame_is_readdressed_and_nothing_else() {
        let frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        let mut changed = frame.clone();
        rewrite_macs(&mut changed, MAC_A, MAC_B);
        let sliced = SlicedPacket::from_ethernet(&changed).unwrap();
        let Some(etherparse::LinkSlice::Ethernet2(link)) = sliced.link else { panic!() };
        assert_eq!((link.destination(), link.source()), (MAC_A.0, MAC_B.0));
        assert_eq!(changed[12..], frame[12..]);
        rewrite_macs(&mut [0; 5], MAC_A, MAC_B);
    }
}
