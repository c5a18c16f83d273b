//! A capture of our own: a TCP conversation, UDP, ICMP, fragments and IPv6, and what a router
//! must refuse.

use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder, PacketBuilderStep};

const CLIENT: [u8; 4] = [10, 1, 0, 1];
const SERVER: [u8; 4] = [198, 18, 0, 1];
const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SERVER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The frames, in the order of the wire.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for client in 1..40 {
        frames.extend(conversation(client));
        frames.extend(datagrams(client));
        frames.extend(fragments(client));
    }
    frames.extend(refused());
    frames
}

/// Handshake, data both ways with a retransmission, and the end.
fn conversation(client: u8) -> Vec<Vec<u8>> {
    let from = [10, 1, 0, client];
    let up =
        |seq| PacketBuilder::ethernet2(MAC, MAC).ipv4(from, SERVER, 64).tcp(40_000, 80, seq, 9_000);
    let down =
        |seq| PacketBuilder::ethernet2(MAC, MAC).ipv4(SERVER, from, 60).tcp(80, 40_000, seq, 9_000);
    vec![
        built(up(100).syn(), b""),
        built(down(500).syn().ack(101), b""),
        built(up(101).ack(501), b""),
        built(up(101).ack(501).psh(), b"GET / HTTP/1.1\r\n\r\n"),
        built(up(101).ack(501).psh(), b"GET / HTTP/1.1\r\n\r\n"),
        built(down(501).ack(119), &[client; 1400]),
        built(down(1901).ack(119).psh(), &[client; 300]),
        built(up(119).ack(2201).fin(), b""),
        built(down(2201).ack(120).fin(), b""),
        built(up(120).ack(2202), b""),
    ]
}

fn datagrams(client: u8) -> Vec<Vec<u8>> {
    let (from, mut from6) = ([10, 1, 0, client], CLIENT6);
    from6[15] = client;
    let four = || PacketBuilder::ethernet2(MAC, MAC).ipv4(from, SERVER, 64);
    let six = || PacketBuilder::ethernet2(MAC, MAC).ipv6(from6, SERVER6, 64);
    let mut frames = vec![
        built_udp(four().udp(5_000, 53), &[client; 40]),
        built_udp(four().udp(5_000, 53), b""),
        built_udp(six().udp(5_000, 53), &[client; 700]),
        built_udp(six().udp(5_000, 53), &[client; 3]),
    ];
    for n in 0..3u16 {
        let mut frame = Vec::new();
        four().icmpv4_echo_request(u16::from(client), n).write(&mut frame, &[7; 56]).unwrap();
        frames.push(frame);
        let mut frame = Vec::new();
        six().icmpv6_echo_request(u16::from(client), n).write(&mut frame, &[7; 56]).unwrap();
        frames.push(frame);
    }
    // An ICMP error about the flow to port 53: it goes back the way of that flow.
    let quoted = frames[0][14..42].to_vec();
    let error = PacketBuilder::ethernet2(MAC, MAC).ipv4([203, 0, 113, 9], from, 64);
    let mut frame = Vec::new();
    error.icmpv4_raw(3, 3, [0; 4]).write(&mut frame, &quoted).unwrap();
    frames.push(frame);
    frames
}

/// A datagram in three fragments.
fn fragments(client: u8) -> Vec<Vec<u8>> {
    let fragment = |n: u16| {
        let mut header = Ipv4Header::new(800, 64, 17.into(), [10, 1, 0, client], SERVER).unwrap();
        header.identification = u16::from(client);
        header.more_fragments = n < 2;
        header.fragment_offset = IpFragOffset::try_new(n * 100).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut frame = [&MAC[..], &MAC, &[8, 0]].concat();
        header.write(&mut frame).unwrap();
        frame.extend([client.wrapping_add(n as u8); 800]);
        frame
    };
    (0..3).map(fragment).collect()
}

/// At the last hop, to a group, from nobody, too long to leave, and broken.
fn refused() -> Vec<Vec<u8>> {
    let four = |from, to, ttl| PacketBuilder::ethernet2(MAC, MAC).ipv4(from, to, ttl).udp(1, 2);
    let six = |ttl| PacketBuilder::ethernet2(MAC, MAC).ipv6(CLIENT6, SERVER6, ttl).udp(1, 2);
    let mut bad_checksum = built_udp(four(CLIENT, SERVER, 64), b"checksum");
    bad_checksum[24] ^= 1;
    let mut cut = built_udp(four(CLIENT, SERVER, 64), b"a good deal longer than this");
    cut.truncate(50);
    vec![
        built_udp(four(CLIENT, SERVER, 1), b"last hop"),
        built_udp(six(1), b"last hop"),
        built_udp(four(CLIENT, [224, 0, 0, 5], 64), b"to a group"),
        built_udp(four([127, 0, 0, 1], SERVER, 64), b"from nobody"),
        built_udp(four(CLIENT, SERVER, 64), &[1; 1600]),
        built_udp(six(64), &[1; 1600]),
        bad_checksum,
        cut,
        vec![1, 2, 3],
        [&MAC[..], &MAC, &[0x88, 0xcc, 2, 7, 4]].concat(),
    ]
}

fn built(step: PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    step.write(&mut frame, payload).unwrap();
    frame
}

fn built_udp(step: PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    step.write(&mut frame, payload).unwrap();
    frame
}

/// Readdressed before it is used.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
