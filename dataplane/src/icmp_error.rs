//! ICMP and ICMPv6 errors: telling a sender what became of its packet.

use std::net::{IpAddr, Ipv4Addr};

use weir_frame::Frame;
use weir_state_transfer::protocol;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::local::PortAddresses;
use crate::local::echo::TTL;
use crate::packet::checksum::{self, Sum, pseudo_header};
use crate::packet::ethernet::{self, EthernetHeader};
use crate::packet::header::header_at;
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::{self, Ipv4Header};
use crate::packet::ipv6::{self, Ipv6Header};
use crate::packet::{DropReason, Flags, Meta, scope};

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its TTL or hop limit ran out here.
    TtlExpired,
    /// No route leads to its destination.
    NoRoute,
    /// The last hop does not answer.
    HostUnreachable,
    /// Nothing listens on its UDP port.
    PortUnreachable,
    /// A rule forbids it (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
    Prohibited,
    /// It is longer than the MTU (in bytes) of the link it would leave by, and may not be cut.
    TooBig(u16),
}

/// What an error may quote: with its headers it has at most 576 bytes for IPv4 (RFC 1812, section
/// 4.3.2.3) and 1,280 for IPv6 (RFC 4443, section 2.4(c)).
const IPV4_QUOTE_MAX: usize = 576 - ipv4::HEADER_LEN - icmp::HEADER_LEN;
const IPV6_QUOTE_MAX: usize = 1280 - ipv6::HEADER_LEN - icmp::HEADER_LEN;
/// Internetwork control (RFC 1812, section 4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;

impl Kind {
    /// What the sender of a packet is told when it is dropped for `reason`, if anything.
    /// [`Kind::TooBig`] is not among them, since it needs the MTU.
    pub fn of(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::TtlExpired => Some(Self::TtlExpired),
            DropReason::NoRoute => Some(Self::NoRoute),
            DropReason::NeighbourUnresolved => Some(Self::HostUnreachable),
            _ => None,
        }
    }
}

/// Whether an error about the packet is allowed (RFC 1812, section 4.3.2.7; RFC 4443, section
/// 2.4(e)). To be asked before the rate limit, so that what is forbidden takes nothing from it.
pub fn may_be_sent(frame: &[u8], meta: &Meta) -> bool {
    let Some((src, dst)) = meta.addresses(frame) else { return false };
    // Whether it is an error itself cannot be seen in a fragment or a stump.
    let is_icmp = protocol::is_icmp(meta.protocol);
    let may_be_error = meta.flags.has(Flags::ICMP_ERROR)
        || (is_icmp && (meta.l4 == 0 || meta.flags.has(Flags::L4_TRUNCATED)));
    let no_host = src.is_unspecified()
        || match src {
            IpAddr::V4(v4) => scope::is_martian_source_v4(v4),
            IpAddr::V6(v6) => scope::is_martian_source_v6(v6),
        };
    let broadcast = matches!(dst, IpAddr::V4(v4) if v4.is_broadcast());
    let group = dst.is_multicast() || broadcast || meta.flags.has(Flags::GROUP_FRAME);
    !may_be_error && !no_host && !group && !meta.flags.has(Flags::LATER_FRAGMENT)
}

/// Writes into `error`, a free frame, what is wrong with the packet `about`, a frame with the MAC
/// addresses that it came in with. The error goes to the station that the packet came from, by
/// `port`, which it came in by.
///
/// False, and `error` is of no use, when the port has no address to send from or the frame no
/// room.
#[must_use]
pub fn write(
    error: &mut Frame,
    about: &[u8],
    meta: &Meta,
    port: &PortAddresses,
    kind: Kind,
) -> bool {
    compose(error, about, meta, port, kind).is_some()
}

fn compose(
    error: &mut Frame,
    about: &[u8],
    meta: &Meta,
    port: &PortAddresses,
    kind: Kind,
) -> Option<()> {
    let came: &EthernetHeader = header_at(about, 0)?;
    let packet = about.get(usize::from(meta.l3)..usize::from(meta.end))?;
    let (to, _) = meta.addresses(about)?;
    let back = |ethertype: u16| EthernetHeader {
        destination: came.source,
        source: port.mac(),
        ethertype: U16::new(ethertype),
    };
    match (port.source_for(to)?, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => {
            let quoted = packet.get(..IPV4_QUOTE_MAX).unwrap_or(packet);
            let icmp = icmp_v4(kind, quoted);
            let length = size_of::<Ipv4Header>() + size_of::<IcmpHeader>() + quoted.len();
            // The cast holds: the quote is short.
            let ip = ipv4_header(source, to, length as u16);
            put(error, Headers { ethernet: back(ethernet::IPV4), ip, icmp }.as_bytes(), quoted)
        }
        (IpAddr::V6(source), IpAddr::V6(to)) => {
            let quoted = packet.get(..IPV6_QUOTE_MAX).unwrap_or(packet);
            let length = (size_of::<IcmpHeader>() + quoted.len()) as u16;
            let ip = Ipv6Header::new(source, to, protocol::ICMPV6, TTL, length);
            let icmp = icmp_v6(kind, &ip, quoted);
            put(error, Headers { ethernet: back(ethernet::IPV6), ip, icmp }.as_bytes(), quoted)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// The headers of an error.
#[derive(IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Headers<T: Unaligned> {
    ethernet: EthernetHeader,
    ip: T,
    icmp: IcmpHeader,
}

fn put(error: &mut Frame, headers: &[u8], quoted: &[u8]) -> Option<()> {
    error.set_len(headers.len() + quoted.len()).ok()?;
    let (front, back) = error.data_mut().split_at_mut_checked(headers.len())?;
    front.copy_from_slice(headers);
    back.copy_from_slice(quoted);
    Some(())
}

fn ipv4_header(source: Ipv4Addr, to: Ipv4Addr, length: u16) -> Ipv4Header {
    let mut header = Ipv4Header {
        version_length: 0x45,
        traffic_class: PRECEDENCE,
        total_length: U16::new(length),
        // With "don't fragment" the identification means nothing (RFC 6864).
        identification: U16::new(0),
        fragment: U16::new(ipv4::DONT_FRAGMENT),
        ttl: TTL,
        protocol: protocol::ICMP,
        checksum: U16::new(0),
        src: source.octets(),
        dst: to.octets(),
    };
    header.checksum.set(checksum::of(header.as_bytes()));
    header
}

fn icmp_v4(kind: Kind, quoted: &[u8]) -> IcmpHeader {
    let (kind, code, mtu) = match kind {
        Kind::TtlExpired => (icmp::v4::TIME_EXCEEDED, 0, 0),
        Kind::NoRoute => (icmp::v4::UNREACHABLE, 0, 0),
        Kind::HostUnreachable => (icmp::v4::UNREACHABLE, 1, 0),
        Kind::PortUnreachable => (icmp::v4::UNREACHABLE, 3, 0),
        Kind::Prohibited => (icmp::v4::UNREACHABLE, 13, 0),
        // RFC 1191, section 4.
        Kind::TooBig(mtu) => (icmp::v4::UNREACHABLE, 4, mtu),
    };
    let rest = u32::from(mtu).to_be_bytes();
    let mut header = IcmpHeader { kind, code, checksum: U16::new(0), rest };
    header.checksum.set(Sum::default().with(header.as_bytes()).with(quoted).checksum());
    header
}

fn icmp_v6(kind: Kind, ip: &Ipv6Header, quoted: &[u8]) -> IcmpHeader {
    let (kind, code, mtu) = match kind {
        Kind::TtlExpired => (icmp::v6::TIME_EXCEEDED, 0, 0),
        Kind::NoRoute => (icmp::v6::UNREACHABLE, 0, 0),
        Kind::HostUnreachable => (icmp::v6::UNREACHABLE, 3, 0),
        Kind::PortUnreachable => (icmp::v6::UNREACHABLE, 4, 0),
        Kind::Prohibited => (icmp::v6::UNREACHABLE, 1, 0),
        Kind::TooBig(mtu) => (icmp::v6::TOO_BIG, 0, mtu),
    };
    let rest = u32::from(mtu).to_be_bytes();
    let mut header = IcmpHeader { kind, code, checksum: U16::new(0), rest };
    let pseudo = pseudo_header(&ip.src, &ip.dst, protocol::ICMPV6, ip.payload_length.get());
    header.checksum.set(pseudo.with(header.as_bytes()).with(quoted).checksum());
    header
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use weir_frame::{FrameSize, Region};
    use weir_state_transfer::{PortId, ServiceId};

    use super::*;
    use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, HOST_B6};
    use crate::packet::{Parsed, parse};

    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    const KINDS: [Kind; 5] = [
        Kind::TtlExpired,
        Kind::NoRoute,
        Kind::HostUnreachable,
        Kind::PortUnreachable,
        Kind::TooBig(1400),
    ];

    fn port() -> PortAddresses {
        let nets = ["10.0.1.1/24", "2001:db8:1::1/64"].map(|net| net.parse().unwrap());
        PortAddresses::new(PortId(0), samples::MAC_B, nets).unwrap()
    }

    /// The error about a frame, or `None` when it is not allowed.
    fn error(kind: Kind, frame: &[u8]) -> Option<Vec<u8>> {
        let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { panic!() };
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        if !may_be_sent(frame, &meta) {
            return None;
        }
        assert!(write(&mut frames[0], frame, &meta, &port(), kind));
        Some(frames[0].data().to_vec())
    }

    /// The error of an independent library about the same packet.
    fn expected(kind: u8, code: u8, mtu: u16, packet: &[u8]) -> Vec<u8> {
        let [high, low] = mtu.to_be_bytes();
        let builder = etherparse::PacketBuilder::ethernet2(samples::MAC_B.0, samples::MAC_A.0);
        let mut frame = vec![];
        if packet[0] >> 4 == 4 {
            let step = builder.ipv4(ROUTER.octets(), HOST_A.octets(), 64);
            step.icmpv4_raw(kind, code, [0, 0, high, low]).write(&mut frame, packet).unwrap();
        } else {
            let step = builder.ipv6(ROUTER6.octets(), HOST_A6.octets(), 64);
            step.icmpv6_raw(kind, code, [0, 0, high, low]).write(&mut frame, packet).unwrap();
        }
        frame
    }

    #[test]
    fn each_kind_is_told_as_an_independent_library_would() {
        let four = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        let six = samples::udp6(HOST_A6, HOST_B6, (1, 2), b"payload");
        let kinds_v4 = [(11, 0), (3, 0), (3, 1), (3, 3), (3, 4)];
        let kinds_v6 = [(3, 0), (1, 0), (1, 3), (1, 4), (2, 0)];
        for (kind, (v4, v6)) in KINDS.into_iter().zip(kinds_v4.into_iter().zip(kinds_v6)) {
            let mtu = if kind == Kind::TooBig(1400) { 1400 } else { 0 };
            let found = error(kind, &four).unwrap();
            let wanted = expected(v4.0, v4.1, mtu, &four[14..]);
            assert_eq!((&found[..14], &found[34..]), (&wanted[..14], &wanted[34..]), "{kind:?}");
            let headers = PacketHeaders::from_ethernet_slice(&found).unwrap();
            let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { panic!() };
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!((ip.source, ip.destination), (ROUTER.octets(), HOST_A.octets()));
            assert!(matches!(headers.transport, Some(TransportHeader::Icmpv4(_))));
            let found = error(kind, &six).unwrap();
            assert_eq!(found, expected(v6.0, v6.1, mtu, &six[14..]), "{kind:?}");
        }
    }

    #[test]
    fn the_quote_is_cut_and_leaves_ethernet_padding_out() {
        let long = samples::udp4(HOST_A, HOST_B, (1, 2), &[7; 1400]);
        assert_eq!(error(Kind::NoRoute, &long).unwrap().len(), 14 + 576);
        let long = samples::udp6(HOST_A6, HOST_B6, (1, 2), &[7; 1400]);
        assert_eq!(error(Kind::NoRoute, &long).unwrap().len(), 14 + 1280);
        let mut short = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
        short.resize(60, 0xee);
        assert_eq!(error(Kind::NoRoute, &short).unwrap().len(), 14 + 28 + 28);
    }

    #[test]
    fn the_error_steers_with_the_flow_that_it_is_about() {
        let frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        let error = error(Kind::TtlExpired, &frame).unwrap();
        let key = |frame: &[u8]| match parse(frame, ServiceId(0)) {
            Ok(Parsed::Ip(meta)) => meta.key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(&error), key(&frame).reversed());
    }

    #[test]
    fn errors_that_the_rfcs_forbid_are_withheld() {
        let quoted = samples::udp4(HOST_B, HOST_A, (1, 2), b"");
        let about_error = samples::icmp4(HOST_A, HOST_B, 11, &quoted[14..]);
        let quoted = samples::udp6(HOST_B6, HOST_A6, (1, 2), b"");
        let about_error6 = samples::icmp6(HOST_A6, HOST_B6, 3, &quoted[14..]);
        let about_redirect = samples::icmp6(HOST_A6, HOST_B6, 137, &quoted[14..]);
        let mut fragment = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        fragment[21] = 1;
        samples::mend_ipv4(&mut fragment);
        let mut first_of_icmp = samples::icmp4(HOST_A, HOST_B, 8, b"payload");
        first_of_icmp[20] |= 0x20;
        samples::mend_ipv4(&mut first_of_icmp);
        let group = samples::udp4(HOST_A, Ipv4Addr::new(224, 0, 0, 9), (1, 2), b"");
        let broadcast = samples::udp4(HOST_A, Ipv4Addr::BROADCAST, (1, 2), b"");
        let mut group_frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
        group_frame[0] |= 1;
        let nobody = samples::udp4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (1, 2), b"");
        let group6 = samples::udp6(HOST_A6, "ff0e::1".parse().unwrap(), (1, 2), b"");
        let cases = [
            &about_error,
            &about_error6,
            &about_redirect,
            &fragment,
            &first_of_icmp,
            &group,
            &broadcast,
            &group_frame,
            &nobody,
            &group6,
        ];
        for (number, frame) in cases.into_iter().enumerate() {
            assert_eq!(error(Kind::TtlExpired, frame), None, "{number}");
        }
        assert!(error(Kind::TtlExpired, &samples::icmp4(HOST_A, HOST_B, 8, b"ping")).is_some());
    }

    #[test]
    fn a_port_without_address_of_the_family_sends_nothing() {
        let frame = samples::udp4(HOST_A, HOST_B, (1, 2), b"payload");
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!() };
        let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
        let port = PortAddresses::new(PortId(0), samples::MAC_B, []).unwrap();
        assert!(!write(&mut frames[0], &frame, &meta, &port, Kind::NoRoute));
    }

    #[test]
    fn only_what_a_sender_can_mend_is_told() {
        let told: Vec<_> = DropReason::ALL.into_iter().filter_map(Kind::of).collect();
        assert_eq!(told, [Kind::TtlExpired, Kind::NoRoute, Kind::HostUnreachable]);
    }
}
