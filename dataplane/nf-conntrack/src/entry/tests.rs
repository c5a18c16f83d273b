//! Entries as Linux 6.18 gave them, of traffic and of requests made by hand, from the header of
//! netfilter on.

use proptest::prelude::*;
use weir_state_transfer::Chunk;
use weir_state_transfer::southbound::PutError;

use super::*;
use crate::body;
use crate::tuple::Ends;

/// TCP over IPv4: both source and destination are translated.
const TCP: &str = "\
020000003400018014000180080001000a010002080002000a0100011c000280050001000600000006000200926c0000060003001f900000\
340002801400018008000100cb00710208000200cb0071011c0002800500010006000000060002001389000006000300926c000008000300\
000001be080008000000000008000c007b3a4f0008000b0000000001080007000006977f300004802c000180050001000300000005000200\
0a000000050003000a000000060004002300000006000500230000001c0009800c00010000000000000000040c00020000000000000000dd\
1c000a800c00010000000000000000030c00020000000000000000a9";
/// UDP over IPv6 that nobody has answered.
const UDP: &str = "\
0a0000004c0001802c00018014000300fd01000000000000000000000000000214000400fd0200000000000000000000000000021c000280\
050001001100000006000200e930000006000300003500004c0002802c00018014000300fd02000000000000000000000000000214000400\
fd0200000000000000000000000000011c0002800500010011000000060002000035000006000300e9300000080003000000019808000800\
0000000008000c003315fded08000b0000000001080007000000001d1c0009800c00010000000000000000010c0002000000000000000031\
1c000a800c00010000000000000000000c0002000000000000000000";
/// ICMP over IPv4 whose exchange has another number behind the translation.
const ICMP: &str = "\
020000003c00018014000180080001000a010002080002000a09000224000280050001000100000006000400000700000500050008000000\
05000600000000003c00028014000180080001000a09000208000200cb007101240002800500010001000000060004000063000005000500\
000000000500060000000000080003000000019a080008000000000008000c00308206f808000b0000000001080007000000001e";
/// TCP in a zone, with a mark, labels, adjusted numbers and a promise of a proxy: put together of
/// parts of several.
const ALL: &str = "\
020000003400018014000180080001000a010004080002000a0900021c0002800500010006000000060002000fa000000600030000500000\
3400028014000180080001000a090002080002000a0100041c00028005000100060000000600020000500000060003000fa0000008000300\
0000004e080008000000002a08000c0013747b940600120000070000140016000100000000000000000000000000000008000b0000000001\
080007000000012b300004802c000180050001000300000005000200070000000500030007000000060004002b000000060005002b000000\
1c000f800800010000000064080002000000000108000300000000021c001080080001000000000008000200000000000800030000000000\
1c001880080001000000000508000200000000060800030000000007";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn ports(src: u16, dst: u16) -> Ends {
    Ends::Ports { src, dst }
}

#[test]
fn what_the_kernel_says_of_a_connection_is_understood() {
    let entry = Entry::parse(&bytes(TCP)).unwrap();
    let tuple = |src: [u8; 4], dst: [u8; 4], ends| Tuple {
        src: src.into(),
        dst: dst.into(),
        protocol: 6,
        ends,
    };
    assert_eq!(entry.original, tuple([10, 1, 0, 2], [10, 1, 0, 1], ports(37_484, 8080)));
    assert_eq!(entry.reply, tuple([203, 0, 113, 2], [203, 0, 113, 1], ports(5001, 37_484)));
    assert_eq!((entry.status, entry.timeout), (SEEN_REPLY | ASSURED, Some(431_999)));
    let state = ProtocolState::Tcp { state: 3, scales: [10, 10], flags: [3, 3] };
    assert_eq!(entry.protocol_state, state);
    let counted = |packets, bytes| Counters { packets, bytes };
    assert_eq!(entry.counters, [counted(4, 221), counted(3, 169)]);
    assert_eq!((entry.id, entry.zone, entry.mark), (0x7b3a_4f00, 0, 0));
    assert_eq!((entry.sequence, entry.proxy, entry.labels), (None, None, None));
}

#[test]
fn other_protocols_and_families_are_understood() {
    let udp = Entry::parse(&bytes(UDP)).unwrap();
    assert_eq!((udp.status, udp.protocol_state), (0, ProtocolState::None));
    assert_eq!(udp.original.src, "fd01::2".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(udp.original.ends, ports(59_696, 53));
    let icmp = Entry::parse(&bytes(ICMP)).unwrap();
    assert_eq!(icmp.original.ends, Ends::Echo { id: 7, kind: 8, code: 0 });
    assert_eq!(icmp.reply.ends, Ends::Echo { id: 99, kind: 0, code: 0 });
}

/// What is put is, attribute by attribute, what made the kernel have such an entry.
#[test]
fn what_is_put_has_the_tuple_before_translation_and_both_translations() {
    let entry = Entry::parse(&bytes(TCP)).unwrap();
    let mut out = Writer::default();
    entry.put(&mut out);
    let encoded = encoded(&out);
    let all = Attributes::parse(&encoded).unwrap();
    let reply = Tuple::parse(&all.within(cta::REPLY, "it").unwrap()).unwrap();
    assert_eq!((reply.src, reply.dst), (entry.original.dst, entry.original.src));
    assert_eq!(reply.ends, ports(8080, 37_484));
    assert_eq!(all.u32(cta::STATUS), Ok(Some(SEEN_REPLY | ASSURED | CONFIRMED)));
    let address = |kind| {
        let end = all.within(kind, "it").unwrap();
        let port = end.within(3, "it").unwrap();
        (end.array::<4>(1).unwrap(), end.array::<4>(2).unwrap(), port.u16(1), port.u16(2))
    };
    let public = Some([203, 0, 113, 1]);
    assert_eq!(address(cta::SOURCE), (public, public, Ok(Some(37_484)), Ok(Some(37_484))));
    let server = Some([203, 0, 113, 2]);
    assert_eq!(address(cta::DESTINATION), (server, server, Ok(Some(5001)), Ok(Some(5001))));
    // Windows are not known, so what they do not explain passes.
    let tcp = all.within(cta::PROTOCOL, "it").unwrap().within(1, "it").unwrap();
    assert_eq!(tcp.get(4), Some(&[0x0b, 0x8f][..]));
}

#[test]
fn every_part_goes_through_a_chunk() {
    for hex in [TCP, UDP, ICMP, ALL] {
        let entry = Entry::parse(&bytes(hex)).unwrap();
        let chunk = body::chunk(&entry).unwrap();
        let chunk = Chunk::decode(&chunk.encode().unwrap()).unwrap();
        assert_eq!(body::entry(&chunk), Ok(Entry { id: 0, ..entry.clone() }));
        assert_eq!(chunk.version, entry.packets().max(1));
        for length in 0..chunk.body.len() {
            let cut = Chunk { body: chunk.body[..length].to_vec(), ..chunk.clone() };
            assert!(matches!(body::entry(&cut), Err(PutError::BadBody { .. })), "{length}");
        }
    }
    let all = Entry::parse(&bytes(ALL)).unwrap();
    assert_eq!((all.zone, all.mark), (7, 42));
    let adjusted = Adjustment { position: 100, before: 1, after: 2 };
    assert_eq!(all.sequence, Some([adjusted, Adjustment::default()]));
    assert_eq!(all.proxy, Some([5, 6, 7]));
    assert_eq!(all.labels.map(|labels| labels[0]), Some(1));
}

#[test]
fn what_can_not_be_moved_is_named() {
    let extra = |put: fn(&mut Writer)| {
        let mut out = Writer::default();
        put(&mut out);
        let entry = [bytes(UDP), encoded(&out)].concat();
        Entry::parse(&entry).unwrap().obstacle
    };
    assert_eq!(extra(|_| {}), None);
    let helper = extra(|out| out.nest(cta::HELPER, |out| out.bytes(1, b"ftp\0")));
    assert_eq!(helper.as_deref(), Some("the helper ftp"));
    let long = extra(|out| out.nest(cta::HELPER, |out| out.bytes(1, &[0xff; 300])));
    assert!(long.unwrap().len() <= OBSTACLE_MAX);
    let offloaded = extra(|out| out.u32(cta::STATUS, 1 << 14));
    assert!(offloaded.unwrap().contains("flow table"));
    let expected = extra(|out| out.nest(cta::MASTER, |_| {})).unwrap();
    assert!(expected.contains("expected") && expected.len() <= OBSTACLE_MAX);
}

fn encoded(out: &Writer) -> Vec<u8> {
    out.as_bytes().to_vec()
}

proptest! {
    #![proptest_config(crate::seeded())]

    #[test]
    fn no_message_breaks_it(
        which in 0_usize..4,
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        cut in 0_usize..400,
    ) {
        let mut message = bytes([TCP, UDP, ICMP, ALL][which]);
        for (place, byte) in flips {
            let place = place % message.len();
            message[place] = byte;
        }
        message.truncate(cut);
        if let Ok(entry) = Entry::parse(&message) {
            let mut out = Writer::default();
            entry.put(&mut out);
            entry.put_name(&mut out);
            if let Some(chunk) = body::chunk(&entry) {
                let _taken = body::entry(&chunk);
            }
        }
    }

    #[test]
    fn no_body_breaks_it(
        which in 0_usize..4,
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let entry = Entry::parse(&bytes([TCP, UDP, ICMP, ALL][which])).unwrap();
        let mut chunk = body::chunk(&entry).unwrap();
        for (place, byte) in flips {
            let place = place % chunk.body.len();
            chunk.body[place] = byte;
        }
        let _taken = body::entry(&chunk);
        chunk.body = rest;
        let _taken = body::entry(&chunk);
    }
}
