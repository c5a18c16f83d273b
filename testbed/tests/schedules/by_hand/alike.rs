//! Packets that can not be told apart, and flows that have the same hash: each is itself all the same,
//! and no bit of a packet is used to mark it.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::instance::digest::digest;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{FlowQuery, FlowRecord};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{
    FlowKey, InstanceId, MoveId, Selection, ServiceId, SteeringHash, protocol,
};

use super::{DESTINATION, IN, OUT, SOURCE, node, rest_of};
use crate::memory_node::{MemoryNode, host, host_mac, port_mac};

const ETHERNET: usize = 14;
/// Packets of a flow in one schedule.
const PACKETS: u64 = 40;
/// Moves among them.
const MOVES: u32 = 4;
/// Turns in which all of that has happened.
const TURNS_MAX: u32 = 1_000_000;

/// A packet as it comes in, or as it leaves: the second byte of its IPv4 header is as given.
fn packet(tos: u8, ports: (u16, u16), leaves: bool) -> Vec<u8> {
    let (from, to, ttl) = if leaves {
        (port_mac(OUT.0), host_mac(OUT.0), 63)
    } else {
        (host_mac(IN.0), port_mac(IN.0), 64)
    };
    let mut packet = Vec::new();
    let headers = PacketBuilder::ethernet2(from.0, to.0)
        .ipv4(host(IN.0).octets(), host(OUT.0).octets(), ttl)
        .udp(ports.0, ports.1);
    headers.write(&mut packet, b"the same").unwrap();
    packet[ETHERNET + 1] = tos;
    packet[ETHERNET + 10..ETHERNET + 12].fill(0);
    let words = packet[ETHERNET..ETHERNET + 20].chunks(2);
    let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn key(ports: (u16, u16)) -> FlowKey {
    FlowKey::v4(host(IN.0), host(OUT.0), ports, protocol::UDP, ServiceId(0))
}

/// Packets in random turns, while their flows are moved to and fro; what has left.
fn run(
    node: &mut MemoryNode,
    to: InstanceId,
    selections: &[Selection],
    packets: &[Vec<u8>],
    rng: &mut fastrand::Rng,
) -> Vec<Vec<u8>> {
    let (mut out, mut ways) = (Vec::new(), [(FIRST, to), (to, FIRST)].into_iter().cycle());
    let mut waiting: Vec<_> = packets.iter().collect();
    rng.shuffle(&mut waiting);
    let (mut last, mut moves) = (None, 0);
    for turn in 0.. {
        if waiting.is_empty() && moves == MOVES {
            break;
        }
        assert!(turn < TURNS_MAX, "{:?}", last.and_then(|id| node.node.show_move(id).ok()));
        let over = |id: &MoveId| node.node.show_move(*id).unwrap().ended_ns > 0;
        if moves < MOVES && last.as_ref().is_none_or(over) {
            let (from, to) = ways.next().unwrap();
            let request = Request::new(from, to, rng.choice(selections).unwrap().clone());
            let begun = node.node.start_move(&api::Change::default(), request, true, node.now);
            last = Some(MoveId(begun.unwrap().id));
            moves += 1;
        }
        match rng.u8(..6) {
            0 => node.step_node(),
            1 | 2 => _ = node.step_worker(SOURCE),
            3 | 4 => _ = node.step_worker(DESTINATION),
            _ => {
                let queue = rng.u16(..2);
                if let Some(packet) = waiting.pop() {
                    assert!(node.wires.get_mut(&(IN, queue)).unwrap().inject(packet));
                }
                out.extend(std::iter::from_fn(|| node.take(OUT, rng.u16(..2))));
            }
        }
    }
    out.extend(rest_of(node));
    out
}

/// What instances know of the flows between the two hosts.
fn known(node: &mut MemoryNode) -> Vec<FlowRecord> {
    let (to, pieces) = channel();
    node.node.report_flows(FlowQuery { id: 0, filter: None, instance: None }, to);
    node.settle();
    pieces.try_iter().flatten().collect()
}

/// The state that one instance has when so many packets that are the same have passed it.
fn state_of(packet: &[u8], count: u64) -> (u64, u64, u64) {
    let packet = &packet[ETHERNET..];
    let state = (0..count).fold(0, |state, _| digest(state, packet));
    (count, count * packet.len() as u64, state)
}

#[test]
fn packets_that_are_the_same_each_leave_once_with_every_bit_of_their_tos_whatever_moves() {
    let mut rng = weir_seed::rng();
    let selections = [
        Selection::Buckets("0-4095".parse().unwrap()),
        Selection::Filter("dport=53".parse().unwrap()),
    ];
    let (mut node, destinations) = node(1);
    for tos in 0..=u8::MAX {
        let ports = (1000 + u16::from(tos), 53);
        let packets = vec![packet(tos, ports, false); PACKETS as usize];
        let out = run(&mut node, destinations[0], &selections, &packets, &mut rng);
        assert_eq!(out.len() as u64, PACKETS, "{tos:#04x}");
        let leaves = packet(tos, ports, true);
        assert!(out.iter().all(|packet| *packet == leaves), "{tos:#04x}: {out:02x?}");
        let of_flow = known(&mut node).into_iter().filter(|flow| flow.key == key(ports));
        let states: Vec<_> = of_flow.map(|flow| (flow.packets, flow.bytes, flow.digest)).collect();
        assert_eq!(states, [state_of(&leaves, PACKETS)], "{tos:#04x}");
    }
    let counters = node.node.counters();
    assert!(counters.drops.is_empty(), "{:?}", counters.drops);
    assert_eq!(counters.balance.unwrap().unaccounted, 0);
}

#[test]
fn flows_of_one_hash_are_moved_each_with_its_own_state_and_its_own_packets() {
    let mut rng = weir_seed::rng();
    // The steering hash is the same for both directions, and so it is when only ports change places.
    let pairs: Vec<_> = (0..8).map(|n| [(1000 + n, 2000 + n), (2000 + n, 1000 + n)]).collect();
    let hash = SteeringHash::new(weir_state_transfer::steering_hash::random_key(7));
    for [one, other] in &pairs {
        assert_eq!(hash.hash(&key(*one)), hash.hash(&key(*other)));
        assert_ne!(key(*one).both_ways(), key(*other).both_ways(), "they are two flows");
    }
    let flows: Vec<_> = pairs.into_iter().flatten().collect();
    let of_each = |n: usize| 5 + n as u64;
    let one_of_each = [Selection::Filter("sport=1000-1007,symmetric=false".parse().unwrap())];
    let all = [Selection::Buckets("0-4095".parse().unwrap())];
    let (mut node, destinations) = node(1);
    let mut sent = BTreeMap::new();
    // Some of one hash stay while others go; then all go.
    for selections in [&one_of_each, &all, &one_of_each] {
        let mut packets = Vec::new();
        for (n, ports) in flows.iter().enumerate() {
            packets.extend((0..of_each(n)).map(|_| packet(0, *ports, false)));
            *sent.entry(*ports).or_insert(0) += of_each(n);
        }
        let out = run(&mut node, destinations[0], selections, &packets, &mut rng);
        for (n, ports) in flows.iter().enumerate() {
            let leaves = packet(0, *ports, true);
            let left = out.iter().filter(|packet| **packet == leaves).count();
            assert_eq!(left as u64, of_each(n), "{ports:?}");
        }
        let found = known(&mut node);
        assert_eq!(found.len(), flows.len(), "each once: {found:?}");
        for flow in found {
            let ports = (flow.key.src_port(), flow.key.dst_port());
            let expected = state_of(&packet(0, ports, true), sent[&ports]);
            assert_eq!((flow.packets, flow.bytes, flow.digest), expected, "{ports:?}");
        }
    }
    assert!(node.node.counters().drops.is_empty());
}
