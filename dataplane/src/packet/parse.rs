//! Reads a packet once, into the small descriptor that the rest of its way needs.

use weir_state_transfer::{FlowKey, ServiceId, protocol};

use super::arp::ArpMessage;
use super::checksum;
use super::ethernet::{self, EthernetHeader};
use super::header::header_at;
use super::icmp::{self, IcmpHeader};
use super::ipv4::{self, Ipv4Header};
use super::ipv6::{self, Ipv6Header, Upper, walk_extensions};
use super::l4::{Ports, header_len_min};
use super::meta::{Flags, Meta};
use super::reason::DropReason;
use super::scope;

/// The longest frame that is parsed, in bytes: offsets fit in 16 bits.
pub const FRAME_LEN_MAX: usize = 0xffff;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An ARP message, well formed; [`ArpMessage::read`] gives it.
    Arp,
    /// An IPv4 or IPv6 packet.
    Ip(Meta),
}

/// Parses a frame that came in on a port of `service`.
///
/// Checks what RFC 1812, section 5.2.2 and RFC 8200 ask of a router, and that the source may be
/// one. Does not check the TTL (forwarding does) nor whose MAC address the frame is for.
///
/// # Errors
/// The reason to drop the frame.
#[inline]
pub fn parse(frame: &[u8], service: ServiceId) -> Result<Parsed, DropReason> {
    if frame.len() > FRAME_LEN_MAX {
        return Err(DropReason::RxTooLong);
    }
    let ethernet: &EthernetHeader = header_at(frame, 0).ok_or(DropReason::TruncatedEthernet)?;
    if ethernet.source.is_multicast() {
        return Err(DropReason::MulticastSourceMac);
    }
    let flags = Flags::default().with(Flags::GROUP_FRAME, ethernet.destination.is_multicast());
    match ethernet.ethertype.get() {
        ethernet::IPV4 => parse_ipv4(frame, flags, service).map(Parsed::Ip),
        ethernet::IPV6 => parse_ipv6(frame, flags, service).map(Parsed::Ip),
        ethernet::ARP => ArpMessage::read(frame).map(|_| Parsed::Arp),
        ethernet::VLAN | ethernet::PROVIDER_VLAN => Err(DropReason::VlanUnsupported),
        _ => Err(DropReason::UnsupportedEthertype),
    }
}

fn parse_ipv4(frame: &[u8], flags: Flags, service: ServiceId) -> Result<Meta, DropReason> {
    let l3 = ethernet::HEADER_LEN;
    let header: &Ipv4Header = header_at(frame, l3).ok_or(DropReason::TruncatedIpv4)?;
    if header.version() != 4 {
        return Err(DropReason::BadVersion);
    }
    let header_len = header.header_len();
    let options = frame.get(l3..l3 + header_len).ok_or(DropReason::BadHeaderLength)?;
    if header_len < ipv4::HEADER_LEN {
        return Err(DropReason::BadHeaderLength);
    }
    if !checksum::is_valid(options) {
        return Err(DropReason::BadHeaderChecksum);
    }
    let total = usize::from(header.total_length.get());
    let packet = frame.get(..l3 + total).ok_or(DropReason::BadTotalLength)?;
    if total < header_len {
        return Err(DropReason::BadTotalLength);
    }
    let (src, dst) = (header.source(), header.destination());
    if scope::is_martian_source_v4(src) || (src.is_unspecified() && !dst.is_broadcast()) {
        return Err(DropReason::MartianSource);
    }
    let upper = Upper {
        protocol: header.protocol,
        offset: l3 + header_len,
        has_extensions: header_len > ipv4::HEADER_LEN,
        fragment: header.is_fragment(),
        later_fragment: header.is_later_fragment(),
    };
    Ok(describe(packet, l3, upper, flags, |ports, protocol| {
        FlowKey::v4(src, dst, ports, protocol, service)
    }))
}

fn parse_ipv6(frame: &[u8], flags: Flags, service: ServiceId) -> Result<Meta, DropReason> {
    let l3 = ethernet::HEADER_LEN;
    let header: &Ipv6Header = header_at(frame, l3).ok_or(DropReason::TruncatedIpv6)?;
    if header.version() != 6 {
        return Err(DropReason::BadVersion);
    }
    let upper_start = l3 + ipv6::HEADER_LEN;
    let payload = usize::from(header.payload_length.get());
    let packet = frame.get(..upper_start + payload).ok_or(DropReason::BadPayloadLength)?;
    let (src, dst) = (header.source(), header.destination());
    if scope::is_martian_source_v6(src) || (src.is_unspecified() && !dst.is_multicast()) {
        return Err(DropReason::MartianSource);
    }
    let upper = walk_extensions(packet, header.next_header, upper_start)?;
    Ok(describe(packet, l3, upper, flags, |ports, protocol| {
        FlowKey::v6(src, dst, ports, protocol, service)
    }))
}

/// The descriptor of a packet that ends where its IP length says.
#[inline]
fn describe(
    packet: &[u8],
    l3: usize,
    upper: Upper,
    flags: Flags,
    key: impl Fn((u16, u16), u8) -> FlowKey,
) -> Meta {
    let has_l4 = !upper.fragment && upper.protocol != ipv6::NO_NEXT_HEADER;
    let truncated = has_l4 && packet.len() < upper.offset + header_len_min(upper.protocol);
    let mut flags = flags
        .with(Flags::FRAGMENT, upper.fragment)
        .with(Flags::LATER_FRAGMENT, upper.later_fragment)
        .with(Flags::HAS_OPTIONS, upper.has_extensions)
        .with(Flags::L4_TRUNCATED, truncated);
    let mut ports = (0, 0);
    let mut quoted = None;
    if has_l4 && !truncated {
        ports = ports_at(packet, upper.offset, upper.protocol);
        quoted = quoted_offset(packet, &upper, key((0, 0), 0).is_v4());
        flags = flags.with(Flags::ICMP_ERROR, quoted.is_some());
    }
    let mut key = key(ports, upper.protocol);
    if let Some(reversed) = quoted.and_then(|offset| key_of_quoted(packet, offset, &key)) {
        key = reversed;
        flags = flags.with(Flags::KEY_OF_QUOTED, true);
    }
    // The casts hold: `parse` refuses frames longer than 16 bits can say.
    Meta {
        key,
        hash: 0,
        l3: l3 as u16,
        l4: if has_l4 { upper.offset as u16 } else { 0 },
        end: packet.len() as u16,
        protocol: upper.protocol,
        flags,
    }
}

#[inline]
fn ports_at(packet: &[u8], offset: usize, protocol: u8) -> (u16, u16) {
    match protocol {
        protocol::TCP | protocol::UDP => header_at::<Ports>(packet, offset)
            .map_or((0, 0), |ports| (ports.src.get(), ports.dst.get())),
        _ => (0, 0),
    }
}

/// Where the packet that an ICMP error quotes begins, or `None` when it is no ICMP error.
#[inline]
fn quoted_offset(packet: &[u8], upper: &Upper, is_v4: bool) -> Option<usize> {
    let is_error: fn(u8) -> bool = match (upper.protocol, is_v4) {
        (protocol::ICMP, true) => icmp::v4::is_error,
        (protocol::ICMPV6, false) => |kind| icmp::v6::is_error(kind) || kind == icmp::v6::REDIRECT,
        _ => return None,
    };
    let header: &IcmpHeader = header_at(packet, upper.offset)?;
    is_error(header.kind).then_some(upper.offset + icmp::HEADER_LEN)
}

/// The key of the quoted packet reversed, so that an error goes the way of the flow that it is
/// about. `None` when the quoted packet did not come from where the error goes to: then a decision
/// made for one would be wrong for the other.
///
/// Only 8 bytes of the quoted transport header are certain (RFC 792), so no length of the quoted
/// packet is believed.
fn key_of_quoted(packet: &[u8], offset: usize, own: &FlowKey) -> Option<FlowKey> {
    let service = own.service();
    let key = if own.is_v4() {
        let header: &Ipv4Header = header_at(packet, offset)?;
        if header.version() != 4 || header.header_len() < ipv4::HEADER_LEN {
            return None;
        }
        let l4 = offset + header.header_len();
        let ports =
            if header.is_fragment() { (0, 0) } else { ports_at(packet, l4, header.protocol) };
        FlowKey::v4(header.source(), header.destination(), ports, header.protocol, service)
    } else {
        let header: &Ipv6Header = header_at(packet, offset)?;
        if header.version() != 6 {
            return None;
        }
        let upper = walk_extensions(packet, header.next_header, offset + ipv6::HEADER_LEN).ok()?;
        let ports =
            if upper.fragment { (0, 0) } else { ports_at(packet, upper.offset, upper.protocol) };
        FlowKey::v6(header.source(), header.destination(), ports, upper.protocol, service)
    };
    (key.src_octets() == own.dst_octets()).then(|| key.reversed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6};

    const SERVICE: ServiceId = ServiceId(3);

    fn meta(frame: &[u8]) -> Meta {
        match parse(frame, SERVICE) {
            Ok(Parsed::Ip(meta)) => meta,
            other => panic!("{other:?}"),
        }
    }

    /// Changes one byte of an IPv4 header and mends its checksum.
    fn with_ipv4_byte(place: usize, value: u8) -> Vec<u8> {
        let mut frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        frame[14 + place] = value;
        samples::mend_ipv4(&mut frame);
        frame
    }

    #[test]
    fn tcp_and_udp_of_both_families_give_key_and_offsets() {
        let udp = samples::udp4(HOST_A, HOST_B, (1234, 53), b"payload");
        let expected = FlowKey::v4(HOST_A, HOST_B, (1234, 53), protocol::UDP, SERVICE);
        let meta4 = meta(&udp);
        assert_eq!((meta4.key, meta4.l3, meta4.l4, meta4.end), (expected, 14, 34, 49));
        assert_eq!((meta4.ip_len(), meta4.protocol, meta4.flags), (35, 17, Flags::default()));
        let tcp = samples::tcp6(HOST_A6, HOST_B6, (80, 4096), b"x");
        let expected = FlowKey::v6(HOST_A6, HOST_B6, (80, 4096), protocol::TCP, SERVICE);
        let meta6 = meta(&tcp);
        assert_eq!((meta6.key, meta6.l4, meta6.end), (expected, 54, 75));
    }

    #[test]
    fn ethernet_padding_is_not_part_of_the_packet() {
        let mut frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
        let len = frame.len();
        frame.resize(60, 0xaa);
        assert_eq!(usize::from(meta(&frame).end), len);
        assert_eq!(meta(&frame).l4_bytes(&frame).map(<[u8]>::len), Some(8));
    }

    #[test]
    fn each_broken_header_has_its_reason() {
        let good = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        let mut bad_sum = good.clone();
        bad_sum[24] ^= 1;
        let mut vlan = good.clone();
        vlan[12..14].copy_from_slice(&[0x81, 0]);
        let mut llc = good.clone();
        llc[12..14].copy_from_slice(&[0, 38]);
        let mut group = good.clone();
        group[6] |= 1;
        let mut six = samples::udp6(HOST_A6, HOST_B6, (1, 2), b"");
        let six_short = six[..six.len() - 1].to_vec();
        six[14] = 0x45;
        let cases: [(Vec<u8>, DropReason); 14] = [
            (good[..13].to_vec(), DropReason::TruncatedEthernet),
            (good[..33].to_vec(), DropReason::TruncatedIpv4),
            (good[..40].to_vec(), DropReason::BadTotalLength),
            (with_ipv4_byte(0, 0x65), DropReason::BadVersion),
            (with_ipv4_byte(0, 0x44), DropReason::BadHeaderLength),
            (with_ipv4_byte(0, 0x4f), DropReason::BadHeaderLength),
            (with_ipv4_byte(3, 19), DropReason::BadTotalLength),
            (bad_sum, DropReason::BadHeaderChecksum),
            (with_ipv4_byte(12, 127), DropReason::MartianSource),
            (vlan, DropReason::VlanUnsupported),
            (llc, DropReason::UnsupportedEthertype),
            (group, DropReason::MulticastSourceMac),
            (six_short, DropReason::BadPayloadLength),
            (six, DropReason::BadVersion),
        ];
        for (number, (frame, reason)) in cases.iter().enumerate() {
            assert_eq!(parse(frame, SERVICE), Err(*reason), "case {number}");
        }
    }

    #[test]
    fn fragments_the_first_too_have_no_ports() {
        for (fragment, later) in [(0x20, false), (0x01, true)] {
            let meta = meta(&with_ipv4_byte(6, fragment));
            assert_eq!((meta.key.src_port(), meta.key.dst_port(), meta.l4), (0, 0, 0));
            assert!(meta.flags.has(Flags::FRAGMENT));
            assert_eq!(meta.flags.has(Flags::LATER_FRAGMENT), later);
        }
    }

    #[test]
    fn a_packet_that_ends_in_its_transport_header_is_marked() {
        let mut frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
        frame[17] = 27;
        samples::mend_ipv4(&mut frame);
        let meta = meta(&frame);
        assert!(meta.flags.has(Flags::L4_TRUNCATED));
        assert_eq!((meta.key.src_port(), meta.end), (0, 41));
    }

    #[test]
    fn an_icmp_error_has_the_key_of_the_flow_that_it_is_about() {
        let quoted = samples::udp4(HOST_A, HOST_B, (1234, 53), b"payload");
        let router = [10, 9, 9, 9].into();
        let error = samples::icmp4(router, HOST_A, 11, &quoted[14..14 + 28]);
        let meta4 = meta(&error);
        assert_eq!(meta4.key, meta(&quoted).key.reversed());
        assert!(meta4.flags.has(Flags::ICMP_ERROR) && meta4.flags.has(Flags::KEY_OF_QUOTED));
        assert_eq!((meta4.protocol, meta4.key.protocol()), (protocol::ICMP, protocol::UDP));
        let quoted = samples::tcp6(HOST_A6, HOST_B6, (80, 4096), b"x");
        let error = samples::icmp6(HOST_B6, HOST_A6, 3, &quoted[14..]);
        assert_eq!(meta(&error).key, meta(&quoted).key.reversed());
    }

    #[test]
    fn an_icmp_error_about_somebody_elses_packet_keeps_its_own_key() {
        let quoted = samples::udp4(HOST_A, HOST_B, (1234, 53), b"payload");
        let error = samples::icmp4(HOST_A, HOST_B, 11, &quoted[14..]);
        let meta = meta(&error);
        assert_eq!(meta.key, FlowKey::v4(HOST_A, HOST_B, (0, 0), protocol::ICMP, SERVICE));
        assert!(meta.flags.has(Flags::ICMP_ERROR) && !meta.flags.has(Flags::KEY_OF_QUOTED));
    }

    #[test]
    fn echo_is_no_error_and_has_no_ports() {
        let meta = meta(&samples::icmp4(HOST_A, HOST_B, 8, b"ping"));
        assert!(!meta.flags.has(Flags::ICMP_ERROR));
        assert_eq!((meta.key.src_port(), meta.key.dst_port(), meta.l4), (0, 0, 34));
    }

    #[test]
    fn truncating_anywhere_ends_in_a_reason() {
        for frame in [
            samples::udp4(HOST_A, HOST_B, (1, 2), b"payload"),
            samples::tcp6(HOST_A6, HOST_B6, (1, 2), b"payload"),
        ] {
            for len in 0..frame.len() {
                assert!(parse(&frame[..len], SERVICE).is_err(), "{len} of {}", frame.len());
            }
        }
    }
}
