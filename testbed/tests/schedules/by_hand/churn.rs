//! Flows that begin and end in the middle of a move, and those whose time is up there: each is
//! logged once, as if it had not moved.

use std::collections::BTreeMap;
use std::time::Duration;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Record, Timestamp, ids};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, MoveId, Selection};

use super::{DESTINATION, IN, OUT, node_of, step};
use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

/// Attempts of a scanner, as in a capture of one.
const SYNS: u16 = 1_994;
/// After so long without a packet a conversation over UDP is over.
const UDP: Duration = Duration::from_secs(30);

/// A node whose instances log connections, with another instance.
fn logging(timeouts: ids::Timeouts) -> (MemoryNode, InstanceId) {
    let ids = ids::Config { timeouts, ..ids::Config::default() };
    let functions = vec![FunctionConfig::Ids(ids)];
    let mut plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
    plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
    // The clock jumps while a move is in progress.
    plan.limits.step_timeout = Duration::from_hours(1);
    (plan.limits.hold, plan.limits.own_flows) = (4096, 8192);
    let (node, destinations) = node_of(&plan, 1, DESTINATION);
    (node, destinations[0])
}

/// The connections that are logged when the node has stopped.
fn logged(node: &mut MemoryNode) -> Vec<ids::record::ConnRecord> {
    node.node.stop(node.now);
    node.settle();
    let conns = node.records.drain(..).filter_map(|(_, record)| match record {
        Record::Ids(ids::Record::Conn(record)) => Some(*record),
        _ => None,
    });
    conns.collect()
}

fn start(node: &mut MemoryNode, ends: [InstanceId; 2], selection: &Selection) -> MoveId {
    let request = Request::new(ends[0], ends[1], selection.clone());
    let begun = node.node.start_move(&api::Change::default(), request, true, node.now);
    MoveId(begun.unwrap().id)
}

fn everything() -> Selection {
    Selection::Buckets("0-4095".parse().unwrap())
}

fn empty_wires(node: &mut MemoryNode) -> usize {
    let taken = std::iter::from_fn(|| {
        let places = [(IN, 0), (IN, 1), (OUT, 0), (OUT, 1)];
        places.into_iter().find_map(|(port, queue)| node.take(port, queue))
    });
    taken.count()
}

/// A segment without data, from the scanner or to it.
fn segment(sport: u16, flags: Flags) -> Vec<u8> {
    let (from, to) = if flags == Flags::Refusal { (OUT.0, IN.0) } else { (IN.0, OUT.0) };
    let ip = PacketBuilder::ethernet2(host_mac(from).0, port_mac(from).0).ipv4(
        host(from).octets(),
        host(to).octets(),
        64,
    );
    let tcp = match flags {
        Flags::Syn => ip.tcp(sport, 80, 1_000, 1_024).syn(),
        Flags::Refusal => ip.tcp(80, sport, 0, 0).rst().ack(1_001),
    };
    let mut packet = Vec::new();
    tcp.write(&mut packet, &[]).unwrap();
    packet
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flags {
    Syn,
    Refusal,
}

#[test]
fn a_storm_of_syns_half_of_them_refused_is_logged_once_each_whatever_moves_meanwhile() {
    let mut rng = weir_seed::rng();
    let hour = Duration::from_hours(1);
    let timeouts = ids::Timeouts { attempt: hour, reset: hour, ..ids::Timeouts::default() };
    let (mut node, other) = logging(timeouts);
    let selections = [everything(), Selection::Filter("proto=tcp,dport=80".parse().unwrap())];
    let mut ways = [[FIRST, other], [other, FIRST]].into_iter().cycle();
    let mut storm: Vec<_> = (0..SYNS).map(|n| (10_000 + n, Flags::Syn)).collect();
    rng.shuffle(&mut storm);
    let (mut moving, mut moved, mut left) = (None, 0, 0);
    let (mut packets, mut next) = (0, 0);
    while next < storm.len() {
        if moving.is_none() {
            let selection = rng.choice(&selections).unwrap();
            moving = Some(start(&mut node, ways.next().unwrap(), selection));
        }
        for _ in 0..rng.usize(..8) {
            let Some((sport, flags)) = storm.get(next).copied() else { break };
            let port = if flags == Flags::Syn { IN } else { OUT };
            let wire = node.wires.get_mut(&(port, rng.u16(..2))).unwrap();
            if !wire.inject(&segment(sport, flags)) {
                break;
            }
            (next, packets) = (next + 1, packets + 1);
            if flags == Flags::Syn && sport % 2 == 0 {
                // Somewhere behind it, so that it ends in this move or the next.
                let place = (next + rng.usize(20..60)).min(storm.len());
                storm.insert(place, (sport, Flags::Refusal));
            }
        }
        step(&mut node, rng.usize(1..4));
        left += empty_wires(&mut node);
        let ended = |id: &MoveId| node.node.show_move(*id).unwrap().ended_ns > 0;
        if moving.as_ref().is_some_and(ended) {
            (moving, moved) = (None, moved + 1);
        }
    }
    for _ in 0..4 {
        node.settle();
        left += empty_wires(&mut node);
    }
    assert_eq!((left, packets), (packets, usize::from(SYNS + SYNS / 2)));
    let mut conns = BTreeMap::new();
    for record in logged(&mut node) {
        let seen = (record.packets.orig, record.packets.resp);
        assert_eq!(conns.insert(record.id.orig.1, seen), None, "{record:?} is logged twice");
    }
    for n in 0..SYNS {
        let refused = u64::from((10_000 + n).is_multiple_of(2));
        assert_eq!(conns.remove(&(10_000 + n)), Some((1, refused)), "{n}");
    }
    assert!(conns.is_empty() && moved > 10, "{moved} moves, {conns:?}");
    println!("{moved} moves during {packets} packets");
    assert!(node.node.counters().drops.is_empty());
}

/// Three packets of a conversation over UDP, then so long a silence that it is over, then one more.
/// The silence is so many rounds after the beginning of a move; what is logged of it.
fn silence(after: Option<usize>, selection: &Selection) -> Vec<(u64, Timestamp, Duration)> {
    let (mut node, other) = logging(ids::Timeouts { udp: UDP, ..ids::Timeouts::default() });
    let begun = node.now;
    for _ in 0..3 {
        node.now.0 += 1_000_000;
        super::inject(&mut node, 0, 1000, 1);
        step(&mut node, 2);
    }
    // Two of them lie on the wire, so that the source has to wait.
    assert!(node.take(OUT, 0).is_some());
    let moving = after.map(|rounds| {
        let id = start(&mut node, [FIRST, other], selection);
        step(&mut node, rounds);
        empty_wires(&mut node);
        step(&mut node, rounds);
        id
    });
    node.now = begun + UDP + UDP;
    step(&mut node, 40);
    super::inject(&mut node, 1, 1000, 2);
    for _ in 0..4 {
        node.settle();
        empty_wires(&mut node);
    }
    if let Some(id) = moving {
        let shown = node.node.show_move(id).unwrap();
        assert_eq!(shown.phase(), api::MovePhase::Done, "{shown:?}");
    }
    let mut seen: Vec<_> = logged(&mut node)
        .into_iter()
        .map(|record| (record.packets.orig, record.ts, record.duration))
        .collect();
    seen.sort_by_key(|(_, begun, _)| begun.0);
    seen
}

#[test]
fn a_conversation_whose_time_is_up_in_the_middle_of_a_move_ends_once_and_as_it_would_elsewhere() {
    let selections = [everything(), Selection::Filter("proto=udp,sport=1000".parse().unwrap())];
    let alone = silence(None, &selections[0]);
    assert_eq!(alone.iter().map(|(packets, ..)| *packets).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(alone[0].2, Duration::from_millis(2), "from its first packet to its last");
    for selection in &selections {
        for rounds in 0..100 {
            let moved = silence(Some(rounds), selection);
            assert_eq!(moved[0], alone[0], "{rounds} rounds after the beginning of {selection:?}");
            assert_eq!((moved.len(), moved[1].0), (2, 1), "{rounds} rounds: {moved:?}");
        }
    }
}
