//! Packets that wait for a next hop or for a worker that transmits, and moves that do not.

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Fault, FaultStage, Item, Message};
use weir_state_transfer::{PortId, WorkerId};

use super::{
    DESTINATION, IN, OUT, SOURCE, inject, node_of, packet, pass, phase, start, start_by_port, step,
    take,
};
use crate::memory_node::{MemoryNode, Plan};

#[test]
fn a_packet_that_waits_for_its_next_hop_holds_up_no_move_and_goes_with_it() {
    let plan = Plan { port_ring: 1024, frames: 16_384, hosts_known: false, ..Plan::default() };
    for selection in ["buckets", "filter"] {
        let (mut node, destinations) = node_of(&plan, 1, DESTINATION);
        for payload in 1..=60 {
            inject(&mut node, 0, 1000, payload);
        }
        step(&mut node, 100);
        let id = match selection {
            "buckets" => start(&mut node, destinations[0], "0-4095"),
            _ => start_by_port(&mut node, FIRST, destinations[0], 1000),
        };
        let before = node.now;
        for payload in 61..=64 {
            inject(&mut node, 1, 1000, payload);
        }
        step(&mut node, 100);
        assert_eq!((phase(&node, id), node.now), (api::MovePhase::Done, before), "{selection}");

        let asked = (0..2).find_map(|queue| node.take(OUT, queue)).unwrap();
        assert_eq!(asked[12..14], [8, 6], "{selection}: {asked:02x?}");
        assert!(node.answer(OUT, 0));
        node.settle();
        let left: Vec<_> = std::iter::from_fn(|| take(&mut node, 1)).collect();
        assert_eq!(left, Vec::from_iter(1..=64), "{selection}");
        node.settle();
        let counters = node.node.counters();
        assert!(counters.drops.is_empty(), "{selection}: {:?}", counters.drops);
        assert_eq!(counters.balance.unwrap().unaccounted, 0, "{selection}");
    }
}

#[test]
fn what_is_released_waits_for_a_late_worker_that_transmits_it() {
    let mut plan = Plan { queues: 1, port_ring: 1024, frames: 16_384, ..Plan::default() };
    (plan.limits.ring, plan.limits.hold) = (64, 4096);
    let (mut node, destinations) = node_of(&plan, 1, DESTINATION);
    // On its wire, so that the source has not drained.
    inject(&mut node, 0, 1000, 0);
    step(&mut node, 1);
    let id = start(&mut node, destinations[0], "0-4095");
    step(&mut node, 20);
    assert_eq!(phase(&node, id), api::MovePhase::Draining);
    for packet in 0..800_u16 {
        inject(&mut node, 0, 1000, packet as u8);
        step(&mut node, 1);
    }
    assert_eq!(take(&mut node, 0), Some(0));
    let mut splice = node.workers.get_mut(&DESTINATION).unwrap().splice(SOURCE, 8192).unwrap();
    // Everything is exported, and arrives, before the source's worker has another turn.
    let mut exported = Vec::new();
    while !exported.iter().any(|item| matches!(item, Item::Move(_, Message::End))) {
        step(&mut node, 1);
        exported.extend(std::iter::from_fn(|| splice.take()));
        assert!(exported.len() < 5000, "no end");
    }
    exported.into_iter().for_each(|item| splice.pass(item));
    splice.flush();
    for _ in 0..200 {
        node.step_worker(DESTINATION);
    }
    for _ in 0..200 {
        step(&mut node, 1);
        pass(&mut splice);
    }
    assert_eq!(phase(&node, id), api::MovePhase::Done);
    let left: Vec<_> = std::iter::from_fn(|| take(&mut node, 0)).collect();
    let counters = node.node.counters();
    assert!(counters.drops.is_empty(), "{:?}", counters.drops);
    assert_eq!(left, Vec::from_iter((0..800_u16).map(|packet| packet as u8)));
}

#[test]
fn a_worker_that_can_not_keep_up_with_transmitting_holds_up_no_move_for_ever() {
    let mut plan = Plan { workers: 3, port_ring: 1024, frames: 65_536, ..Plan::default() };
    (plan.limits.ring, plan.limits.hold) = (64, 1024);
    let third = WorkerId(2);
    for (slow, steerer) in [(WorkerId(0), WorkerId(1)), (WorkerId(1), WorkerId(0))] {
        let (mut node, destinations) = node_of(&plan, 1, third);
        let id = start(&mut node, destinations[0], "0-4095");
        for round in 0.. {
            assert!(round < 20_000, "{:?}", node.node.show_move(id));
            (0..4).for_each(|_| inject(&mut node, steerer.0.into(), 1000, 0));
            node.step_node();
            node.step_worker(steerer);
            node.step_worker(third);
            if round % 40 == 0 {
                node.step_worker(slow);
            }
            (0..2).for_each(|queue| while node.take(OUT, queue).is_some() {});
            if phase(&node, id) == api::MovePhase::Done {
                break;
            }
        }
        node.settle();
        let shown = node.node.show_move(id).unwrap();
        assert_eq!(shown.hold_full_drops, 0, "{shown:?}");
        assert_eq!(node.node.counters().balance.unwrap().unaccounted, 0);
    }
}

#[test]
fn a_panic_with_a_packet_that_goes_along_loses_that_packet_and_no_other() {
    let plan = Plan { port_ring: 1024, frames: 16_384, hosts_known: false, ..Plan::default() };
    let (mut node, destinations) = node_of(&plan, 1, DESTINATION);
    for payload in 1..=10 {
        inject(&mut node, 0, 1000, payload);
    }
    step(&mut node, 100);
    // The fourth that the destination's worker takes after its source has processed it.
    let fault = Fault { stage: FaultStage::Transmitted, packets: 4 };
    node.node.panic_worker(DESTINATION, fault).unwrap();
    let id = start(&mut node, destinations[0], "0-4095");
    step(&mut node, 100);
    assert_eq!(phase(&node, id), api::MovePhase::Done);
    let asked = (0..2).filter_map(|queue| node.take(OUT, queue)).count();
    assert_eq!(asked, 1);
    assert!(node.answer(OUT, 0));
    node.settle();
    let left: Vec<_> = std::iter::from_fn(|| take(&mut node, 1)).collect();
    assert_eq!(left, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    let counters = node.node.counters();
    let drops: Vec<_> =
        counters.drops.iter().map(|drop| (drop.reason.as_str(), drop.packets)).collect();
    assert_eq!(drops, [("worker_panic", 1)]);
    assert_eq!(counters.balance.unwrap().unaccounted, 0);
}

/// Traffic is there when the router starts: what it hears first must not be lost on workers that
/// have not been told yet whose the ports are.
#[test]
fn a_neighbour_that_is_heard_before_a_worker_has_been_told_all_is_known() {
    let plan = Plan { ports: 12, hosts_known: false, frames: 8192, ..Plan::default() };
    for (port, queue) in (0..12).flat_map(|port| [(PortId(port), 0), (PortId(port), 1)]) {
        let mut node = MemoryNode::just_booted(&plan, 7);
        node.step_node();
        assert!(node.ask(port, queue), "{port} {queue}");
        for _ in 0..3 {
            node.step_worker(WorkerId(queue as u8));
        }
        node.settle();
        while node.take(port, 0).is_some() || node.take(port, 1).is_some() {}
        node.settle();
        let came_by = if port == IN { OUT } else { IN };
        let packet = packet((came_by, port), 1000, 9);
        assert!(node.wires.get_mut(&(came_by, 0)).unwrap().inject(&packet));
        node.settle();
        let left: Vec<_> = (0..2).filter_map(|queue| node.take(port, queue)).collect();
        assert_eq!(left.len(), 1, "{port} {queue}");
        assert_eq!(left[0][12..14], [8, 0], "{port} {queue}: it is not asked for again");
    }
}
