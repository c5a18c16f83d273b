//! Moves of flows that nothing comes of, on nodes as small as can be, and between workers that stand
//! still: all of them end.

use std::time::Duration;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::{Guarantee, Request};
use weir_state_transfer::{MoveId, Selection, WorkerId};

use super::{DESTINATION, IN, SOURCE, inject, node, node_of, phase, rest, start, start_any, step};
use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

/// Longer than a step of a move may take.
const TOO_LONG: Duration = Duration::from_secs(2);

#[track_caller]
fn assert_at_rest(node: &MemoryNode) {
    let counters = node.node.counters();
    assert!(counters.drops.is_empty(), "{:?}", counters.drops);
    let balance = counters.balance.unwrap();
    assert_eq!((balance.unaccounted, balance.held, balance.in_rings), (0, 0, 0), "{balance:?}");
}

#[test]
fn a_move_ends_though_no_packet_comes_and_no_time_passes() {
    let filter = |text: &str| Selection::Filter(text.parse().unwrap());
    let selections = [
        (Selection::Buckets("0-4095".parse().unwrap()), 3),
        (Selection::Buckets("none".parse().unwrap()), 0),
        (filter("proto=udp"), 3),
        (filter("sport=1001,symmetric=false"), 1),
        (filter("src=192.0.2.0/24"), 0),
        (filter("src=2001:db8::/32,proto=tcp"), 0),
    ];
    for (guarantee, (selection, flows)) in
        Guarantee::ALL.into_iter().flat_map(|g| selections.clone().map(|selection| (g, selection)))
    {
        let (mut node, destinations) = node(1);
        (0..3).for_each(|n| inject(&mut node, 0, 1000 + n, 1));
        assert_eq!(rest(&mut node), [1; 3]);

        let before = node.now;
        let request = Request::new(FIRST, destinations[0], selection.clone());
        let request = Request { guarantee, ..request };
        let begun = node.node.start_move(&api::Change::default(), request, true, before).unwrap();
        step(&mut node, 200);
        let shown = node.node.show_move(MoveId(begun.id)).unwrap();
        assert_eq!((shown.phase(), shown.flows), (api::MovePhase::Done, flows), "{shown:?}");
        assert_eq!((node.now, shown.packets_during), (before, 0), "{shown:?}");
        assert_at_rest(&node);
    }
}

/// A packet from a neighbour of the only host to it.
fn hairpin(node: &mut MemoryNode, payload: u8) {
    let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
        .ipv4([10, 0, IN.0, 77], host(IN.0).octets(), 64)
        .udp(1000, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[payload]).unwrap();
    assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&packet));
}

#[test]
fn a_node_of_one_worker_one_port_and_one_queue_moves_flows_too() {
    let plan = Plan { workers: 1, ports: 1, queues: 1, ..Plan::default() };
    let (mut node, destinations) = node_of(&plan, 1, SOURCE);
    for buckets in ["0-4095", "0-2047"] {
        (1..=3).for_each(|payload| hairpin(&mut node, payload));
        step(&mut node, 5);
        // What has been sent lies on the wire, and what comes is held.
        let there = start(&mut node, destinations[0], buckets);
        step(&mut node, 20);
        (4..=6).for_each(|payload| hairpin(&mut node, payload));
        step(&mut node, 20);
        let mut out = Vec::new();
        for _ in 0..200 {
            let taken = std::iter::from_fn(|| node.take(IN, 0));
            out.extend(taken.map(|packet| *packet.last().unwrap()));
            step(&mut node, 1);
        }
        assert_eq!(out, [1, 2, 3, 4, 5, 6]);
        assert_eq!(phase(&node, there), api::MovePhase::Done);
        let everything = Selection::Buckets("0-4095".parse().unwrap());
        let back = start_any(&mut node, destinations[0], FIRST, everything);
        node.settle();
        assert_eq!(phase(&node, back), api::MovePhase::Done);
    }
    assert_at_rest(&node);
}

/// Time passes while only the node and another worker have their turns.
fn stand_still(node: &mut MemoryNode, other: WorkerId) {
    for _ in 0..4 {
        node.now = node.now + TOO_LONG;
        for _ in 0..20 {
            node.step_node();
            node.step_worker(other);
        }
    }
}

#[test]
fn a_move_whose_end_stands_still_before_it_is_prepared_is_undone_in_time() {
    for (stands, other) in [(SOURCE, DESTINATION), (DESTINATION, SOURCE)] {
        let (mut node, destinations) = node(1);
        let id = start(&mut node, destinations[0], "0-4095");
        stand_still(&mut node, other);
        let shown = node.node.show_move(id).unwrap();
        assert_eq!(shown.phase(), api::MovePhase::Undone, "without {stands}: {shown:?}");
        assert!(shown.reason.contains("longer than its limit"), "{shown:?}");
        // Nothing of it is in the way: neither of packets nor of the next move.
        inject(&mut node, 0, 1000, 1);
        let id = start(&mut node, destinations[0], "0-4095");
        assert_eq!(rest(&mut node), [1]);
        assert_eq!(phase(&node, id), api::MovePhase::Done);
        assert_at_rest(&node);
    }
}

#[test]
fn a_move_whose_end_stands_still_on_the_way_ends_when_it_is_back_and_loses_nothing() {
    for (stands, other) in [(SOURCE, DESTINATION), (DESTINATION, SOURCE)] {
        let (mut node, destinations) = node(1);
        (1..=3).for_each(|payload| inject(&mut node, other.0.into(), 1000, payload));
        step(&mut node, 5);
        let id = start(&mut node, destinations[0], "0-4095");
        step(&mut node, 20);
        assert_eq!(phase(&node, id), api::MovePhase::Draining, "packets lie on the wire");
        (4..=6).for_each(|payload| inject(&mut node, other.0.into(), 1000, payload));
        stand_still(&mut node, other);
        let shown = node.node.show_move(id).unwrap();
        assert!(shown.reason.contains("longer than its limit"), "without {stands}: {shown:?}");

        assert_eq!(rest(&mut node), [1, 2, 3, 4, 5, 6], "without {stands}");
        assert_eq!(phase(&node, id), api::MovePhase::Undone);
        let again = start(&mut node, destinations[0], "0-4095");
        node.settle();
        assert_eq!(phase(&node, again), api::MovePhase::Done);
        assert_at_rest(&node);
    }
}
