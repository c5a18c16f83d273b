//! Local traffic, with packets built by an independent library.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use weir_frame::{FrameSize, Region};
use weir_state_transfer::{PortId, ServiceId};
use zerocopy::IntoBytes;

use super::*;
use crate::packet::neighbour_discovery::solicited_node;
use crate::packet::samples::{self, HOST_A, HOST_A6, HOST_B, MAC_A};
use crate::packet::{MacAddr, Parsed, checksum, ethernet, parse};

const MAC: MacAddr = samples::MAC_B;
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

fn ports() -> [PortAddresses; 2] {
    let nets = ["10.0.1.1/24", "2001:db8:1::1/64"].map(|net| net.parse().unwrap());
    let far = "10.0.2.1/24".parse().unwrap();
    [
        PortAddresses::new(PortId(0), MAC, nets).unwrap(),
        PortAddresses::new(PortId(1), MacAddr([2, 0, 0, 0, 0, 99]), [far]).unwrap(),
    ]
}

/// What becomes of a frame at the first port: verdict, neighbour, and the frame.
fn handle(bytes: &[u8]) -> (Verdict, Option<Heard>, Vec<u8>) {
    let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
    frames[0].write(bytes).unwrap();
    let ports = ports();
    let meta = match parse(bytes, ServiceId(0)).unwrap() {
        Parsed::Arp => Meta::of_arp(),
        Parsed::Ip(meta) => meta,
    };
    let (verdict, heard) =
        answer(&mut frames[0], &meta, &ports[0], &LocalAddresses::new(&ports, &Default::default()));
    (verdict, heard, frames[0].data().to_vec())
}

fn arp(operation: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let message = ArpMessage::new(operation, (MAC_A, sender), (MacAddr::default(), target));
    let mut frame = MacAddr::BROADCAST.0.to_vec();
    frame.extend_from_slice(&MAC_A.0);
    frame.extend_from_slice(&ethernet::ARP.to_be_bytes());
    frame.extend_from_slice(message.as_bytes());
    frame.resize(60, 0);
    frame
}

fn solicitation(src: Ipv6Addr, target: Ipv6Addr, link_address: Option<MacAddr>) -> Vec<u8> {
    let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
    let dst = solicited_node(target);
    let message =
        NeighbourMessage { src, dst, is_advertisement: false, flags: 0, target, link_address };
    message.write(&mut frames[0], group_mac(dst), MAC_A).unwrap();
    let mut bytes = frames[0].data().to_vec();
    if link_address.is_none() {
        bytes.truncate(78);
        bytes[19] = 24;
        bytes[56..58].fill(0);
        let sum = checksum::pseudo_header(&bytes[22..38], &bytes[38..54], 58, 24);
        let sum = sum.with(&bytes[54..]).checksum();
        bytes[56..58].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn from_a(kind: HeardKind) -> Option<Heard> {
    Some(Heard { address: HOST_A.into(), mac: MAC_A, kind })
}

#[test]
fn arp_for_our_address_is_answered_and_the_asker_learned() {
    let (verdict, heard, frame) = handle(&arp(REQUEST, HOST_A, OURS));
    assert_eq!((verdict, heard), (Verdict::Reply, from_a(HeardKind::Request)));
    let reply = ArpMessage::read(&frame).unwrap();
    let expected = ArpMessage::new(REPLY, (MAC, OURS), (MAC_A, HOST_A));
    assert_eq!((reply, frame.len()), (expected, 42));
    assert_eq!((&frame[..6], &frame[6..12]), (&MAC_A.0[..], &MAC.0[..]));
}

#[test]
fn arp_for_others_is_consumed_and_nobody_learned() {
    let consumed = Verdict::Consumed(Consumed::Arp);
    let (verdict, heard, _) = handle(&arp(REQUEST, HOST_A, Ipv4Addr::new(10, 0, 1, 77)));
    assert_eq!((verdict, heard), (consumed, None));
    let (verdict, _, _) = handle(&arp(REQUEST, HOST_A, FAR));
    assert_eq!(verdict, consumed, "the address of another port is not on this link");
    let (verdict, heard, _) = handle(&arp(REQUEST, HOST_A, HOST_A));
    assert_eq!((verdict, heard), (consumed, from_a(HeardKind::Unsolicited)));
    let (verdict, heard, _) = handle(&arp(REPLY, HOST_A, OURS));
    assert_eq!((verdict, heard), (consumed, from_a(HeardKind::Answer)));
}

#[test]
fn arp_from_outside_the_network_is_answered_but_not_believed() {
    let (verdict, heard, _) = handle(&arp(REQUEST, HOST_B, OURS));
    assert_eq!((verdict, heard), (Verdict::Reply, None));
    let (verdict, heard, _) = handle(&arp(REQUEST, Ipv4Addr::UNSPECIFIED, OURS));
    assert_eq!((verdict, heard), (Verdict::Reply, None), "a probe before taking an address");
}

#[test]
fn whoever_claims_our_address_is_dropped() {
    let (verdict, heard, _) = handle(&arp(REQUEST, OURS, HOST_A));
    assert_eq!((verdict, heard), (Verdict::Dropped(DropReason::OwnSource), None));
    let (verdict, _, _) = handle(&samples::icmp4(OURS, OURS, 8, b"ping"));
    assert_eq!(verdict, Verdict::Dropped(DropReason::OwnSource));
}

#[test]
fn a_solicitation_is_answered_with_and_without_link_address() {
    for link_address in [Some(MAC_A), None] {
        let (verdict, heard, frame) = handle(&solicitation(HOST_A6, OURS6, link_address));
        assert_eq!(verdict, Verdict::Reply);
        let learned = Heard { address: HOST_A6.into(), mac: MAC_A, kind: HeardKind::Request };
        assert_eq!(heard, link_address.map(|_| learned));
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!() };
        let reply = NeighbourMessage::read(&frame, &meta).unwrap();
        assert_eq!((reply.src, reply.dst, reply.target), (OURS6, HOST_A6, OURS6));
        assert_eq!(reply.flags, ROUTER | SOLICITED | OVERRIDE);
        assert_eq!((reply.link_address, &frame[..6]), (Some(MAC), &MAC_A.0[..]));
    }
}

#[test]
fn a_host_that_tries_our_address_is_told_by_all_nodes() {
    let (verdict, heard, frame) = handle(&solicitation(Ipv6Addr::UNSPECIFIED, OURS6, None));
    assert_eq!((verdict, heard), (Verdict::Reply, None));
    let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!() };
    let reply = NeighbourMessage::read(&frame, &meta).unwrap();
    assert_eq!(reply.dst, "ff02::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!((reply.flags, &frame[..6]), (ROUTER | OVERRIDE, &[0x33, 0x33, 0, 0, 0, 1][..]));
}

#[test]
fn neighbour_discovery_that_came_through_a_router_is_dropped() {
    let mut frame = solicitation(HOST_A6, OURS6, Some(MAC_A));
    frame[21] = 64;
    let (verdict, heard, _) = handle(&frame);
    assert_eq!((verdict, heard), (Verdict::Dropped(DropReason::BadNeighbourDiscovery), None));
}

#[test]
fn echo_to_any_port_of_ours_is_answered_as_an_independent_library_would() {
    for target in [OURS, FAR] {
        let mut request = samples::icmp4(HOST_A, target, 8, b"some payload");
        request.resize(request.len() + 6, 0);
        let (verdict, heard, frame) = handle(&request);
        assert_eq!((verdict, heard), (Verdict::Reply, None));
        let expected = samples::icmp4(target, HOST_A, 0, b"some payload");
        let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let Some(NetHeaders::Ipv4(ip, _)) = packet.net else { panic!() };
        assert_eq!((ip.time_to_live, ip.header_checksum), (64, ip.calc_header_checksum()));
        assert_eq!(frame[34..expected.len()], expected[34..]);
        assert_eq!((&frame[..6], &frame[6..12]), (&MAC_A.0[..], &MAC.0[..]));
    }
    let (verdict, _, frame) = handle(&samples::icmp6(HOST_A6, OURS6, 128, b"some payload"));
    assert_eq!(verdict, Verdict::Reply);
    let expected = samples::icmp6(OURS6, HOST_A6, 129, b"some payload");
    assert_eq!(frame[14..], expected[14..]);
    let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
    assert!(matches!(packet.transport, Some(TransportHeader::Icmpv6(_))));
}

#[test]
fn frames_for_another_station_are_not_answered() {
    let mut frame = samples::icmp4(HOST_A, OURS, 8, b"ping");
    frame[5] ^= 1;
    assert_eq!(handle(&frame).0, Verdict::Dropped(DropReason::NotForUs));
}

#[test]
fn what_the_router_does_not_serve_ends_by_name() {
    let mut broken = samples::icmp4(HOST_A, OURS, 8, b"some payload");
    broken[45] ^= 1;
    let mut fragment = samples::icmp4(HOST_A, OURS, 8, b"some payload");
    fragment[20] |= 0x20;
    samples::mend_ipv4(&mut fragment);
    let mut for_all = samples::udp4(HOST_A, HOST_B, (1, 2), b"");
    for_all[..6].fill(0xff);
    let all = Ipv4Addr::new(224, 0, 0, 1);
    let reserved = Ipv4Addr::new(241, 0, 0, 1);
    let cases = [
        (samples::udp4(HOST_A, OURS, (1, 33434), b""), Verdict::PortUnreachable),
        (samples::udp6(HOST_A6, OURS6, (1, 33434), b""), Verdict::PortUnreachable),
        (samples::tcp4(HOST_A, OURS, (1, 22), b""), Verdict::Consumed(Consumed::NoListener)),
        (samples::icmp4(HOST_A, OURS, 0, b"pong"), Verdict::Consumed(Consumed::Icmp)),
        (samples::icmp4(HOST_A, all, 8, b"ping"), Verdict::Consumed(Consumed::Group)),
        (
            samples::udp4(HOST_A, [10, 0, 1, 255].into(), (1, 2), b""),
            Verdict::Consumed(Consumed::Group),
        ),
        (fragment, Verdict::Consumed(Consumed::Fragment)),
        (broken, Verdict::Dropped(DropReason::BadL4Checksum)),
        (for_all, Verdict::Dropped(DropReason::MulticastUnsupported)),
        (
            samples::udp4(HOST_A, reserved, (1, 2), b""),
            Verdict::Dropped(DropReason::MartianDestination),
        ),
    ];
    for (number, (frame, expected)) in cases.iter().enumerate() {
        let (verdict, _, after) = handle(frame);
        assert_eq!(verdict, *expected, "case {number}");
        assert_eq!(after, *frame, "case {number}: left as it was");
    }
}
