//! Whether all that was sent to a next hop has been taken.

use std::time::Duration;

use etherparse::{PacketBuilder, PacketHeaders};
use weir_api::dataplane::v1 as api;
use weir_dataplane::port::BURST;
use weir_dataplane::worker::PROBE_LIFE;
use weir_state_transfer::{PortId, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

use crate::by_hand::{HERE, inject, left, node, plan};
use crate::function::{answer, packet};
use crate::world::spread;

const NONCE: u64 = 0x0123_4567_89ab_cdef;

fn hop(port: u8) -> api::NextHop {
    api::NextHop { via: host(port).to_string(), port: format!("sap{port}") }
}

/// The numbers of workers that have not answered, or are behind.
fn left_over(node: &MemoryNode) -> Vec<(u32, bool)> {
    let unanswered = node.node.unanswered(NONCE).unwrap();
    unanswered.into_iter().map(|one| (one.worker, one.next_hop.is_some())).collect()
}

#[test]
fn an_echo_leaves_behind_all_that_was_sent_before_and_its_answer_says_that_it_was_taken() {
    let mut node = node(&plan());
    for payload in 1..=3 {
        inject(&mut node, (0, 1), 1_000, payload);
    }
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.step_worker(HERE);
    assert_eq!(left_over(&node), [(0, true)]);
    let sent: Vec<_> = std::iter::from_fn(|| node.take(PortId(1), 0)).collect();
    let [.., last] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(sent.len(), 4);
    let reply = answer(1, last).expect("the last is the request");
    assert!(node.wires.get_mut(&(PortId(1), 0)).unwrap().inject(&reply));
    node.settle();
    assert_eq!(left_over(&node), []);
    node.node.end_probe(NONCE);
    assert!(node.node.unanswered(NONCE).is_none());
    let balance = node.node.counters().balance.unwrap();
    assert_eq!((balance.unaccounted, balance.dropped), (0, 0), "{balance:?}");
}

#[test]
fn every_worker_asks_by_its_own_way_and_is_asked_again_until_it_has_an_answer() {
    let mut node = node(&Plan { workers: 2, queues: 2, port_ring: 64, ..plan() });
    spread(&mut node, 2);
    node.node.begin_probe(&[hop(1), hop(2)], NONCE, node.now).unwrap();
    node.settle();
    let mut requests = Vec::new();
    for (port, queue) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        let request =
            node.take(PortId(port), queue).expect("each worker has sent by its own queue");
        requests.push((port, queue, answer(port, &request).unwrap()));
    }
    // One is lost.
    requests.pop();
    for (port, _, reply) in &requests {
        // Any worker may have the answer.
        assert!(node.wires.get_mut(&(PortId(*port), 0)).unwrap().inject(reply));
    }
    node.settle();
    assert_eq!(left_over(&node), [(1, true)]);
    node.node.repeat_probe(NONCE);
    node.settle();
    assert!(node.take(PortId(1), 0).is_none() && node.take(PortId(2), 0).is_none());
    let request = node.take(PortId(2), 1).unwrap();
    let reply = answer(2, &request).unwrap();
    assert!(node.wires.get_mut(&(PortId(2), 1)).unwrap().inject(&reply));
    node.settle();
    assert_eq!(left_over(&node), []);
}

#[test]
fn an_answer_that_was_not_asked_for_says_nothing() {
    let mut node = node(&plan());
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.settle();
    let request = node.take(PortId(1), 0).unwrap();
    let mut other = request.clone();
    // Its nonce is another, and its checksum right for that.
    let headers = PacketHeaders::from_ethernet_slice(&request).unwrap();
    let mut body = headers.payload.slice().to_vec();
    body[0] ^= 0x80;
    body[2] ^= 0x80;
    let length = other.len();
    other[length - body.len()..].copy_from_slice(&body);
    let reply = answer(1, &other).unwrap();
    assert!(node.wires.get_mut(&(PortId(1), 0)).unwrap().inject(&reply));
    node.settle();
    assert_eq!(left_over(&node), [(0, true)]);
    let _nothing_else_leaves = left(&mut node, 1);
}

#[test]
fn a_worker_that_has_more_than_a_burst_is_behind_until_it_has_taken_it() {
    let mut node = node(&Plan { port_ring: 512, ..plan() });
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.step_worker(HERE);
    let request = node.take(PortId(1), 0).unwrap();
    let reply = answer(1, &request).unwrap();
    assert!(node.wires.get_mut(&(PortId(1), 0)).unwrap().inject(&reply));
    node.step_worker(HERE);
    // Its answer has come; more than one burst comes now.
    for _ in 0..200 {
        let wire = node.wires.get_mut(&(PortId(0), 0)).unwrap();
        assert!(wire.inject(&request_to_nobody()));
    }
    node.step_node();
    node.step_worker(HERE);
    node.step_node();
    assert_eq!(left_over(&node), [(0, false)], "it is behind");
    node.settle();
    assert_eq!(left_over(&node), []);
}

#[test]
fn a_worker_whose_queue_is_never_empty_has_caught_up_when_it_has_taken_as_much_as_that_holds() {
    const RING: usize = 4 * BURST;
    let mut node = node(&Plan { port_ring: RING, ..plan() });
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.step_worker(HERE);
    let reply = answer(1, &node.take(PortId(1), 0).unwrap()).unwrap();
    assert!(node.wires.get_mut(&(PortId(1), 0)).unwrap().inject(&reply));
    node.step_worker(HERE);
    node.step_node();
    let has_caught_up = |node: &mut MemoryNode| {
        while node.wires.get_mut(&(PortId(0), 0)).unwrap().inject(&request_to_nobody()) {}
        node.step_worker(HERE);
        node.step_node();
        left_over(node).is_empty()
    };
    let rounds = (1..=2 * RING / BURST).find(|_| has_caught_up(&mut node));
    assert_eq!(rounds, Some(RING / BURST));
}

#[test]
fn what_came_before_the_last_answer_is_in_no_ring_when_all_is_done() {
    let there = WorkerId(1);
    let mut node = node(&Plan { workers: 2, queues: 2, port_ring: 64, ..plan() });
    spread(&mut node, 2);
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.settle();
    for queue in 0..2 {
        let request = node.take(PortId(1), queue).unwrap();
        let reply = answer(1, &request).unwrap();
        assert!(node.wires.get_mut(&(PortId(1), queue)).unwrap().inject(&reply));
    }
    for worker in [HERE, there] {
        node.step_worker(worker);
    }
    node.step_node();
    // One worker looks at its rings before the other has steered to it what waits in its queue.
    node.step_worker(there);
    let before = node.node.counters().handover_packets;
    for flow in 1_000..1_016 {
        let wire = node.wires.get_mut(&(PortId(0), 0)).unwrap();
        assert!(wire.inject(&packet(0, flow, 1)));
    }
    node.step_worker(HERE);
    assert!(node.node.counters().handover_packets > before, "some go to the other worker");
    node.step_node();
    assert_eq!(left_over(&node), [(0, false)]);
    node.step_worker(there);
    node.step_node();
    assert_eq!(left_over(&node), []);
    let out =
        |node: &mut MemoryNode, queue| std::iter::from_fn(|| node.take(PortId(1), queue)).count();
    assert_eq!(out(&mut node, 0) + out(&mut node, 1), 16);
}

#[test]
fn a_question_without_next_hops_is_refused() {
    let mut node = node(&plan());
    let said = node.node.begin_probe(&[], NONCE, node.now).unwrap_err().to_string();
    assert!(said.contains("next_hops: is empty"), "{said}");
    assert!(node.node.unanswered(NONCE).is_none());
}

#[test]
fn a_question_that_nobody_waits_for_any_more_is_forgotten_by_the_node_and_by_workers() {
    let mut node = node(&plan());
    node.node.begin_probe(&[hop(1)], NONCE, node.now).unwrap();
    node.settle();
    let request = node.take(PortId(1), 0).unwrap();
    let reply = answer(1, &request).unwrap();
    let mut says = |after: Duration| {
        node.settle();
        node.now = node.now + after;
        node.step_node();
        let _earlier = node.workers.get_mut(&HERE).unwrap().take_told();
        assert!(node.wires.get_mut(&(PortId(1), 0)).unwrap().inject(&reply));
        node.step_worker(HERE);
        let is_told = node.workers.get_mut(&HERE).unwrap().take_told();
        (is_told, node.node.unanswered(NONCE).is_some())
    };
    assert_eq!(says(PROBE_LIFE / 2), (true, true));
    assert_eq!(says(PROBE_LIFE), (false, false));
    let balance = node.node.counters().balance.unwrap();
    assert_eq!((balance.unaccounted, balance.dropped), (0, 0), "{balance:?}");
}

fn request_to_nobody() -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(host_mac(0).0, port_mac(0).0)
        .ipv4(host(0).octets(), [10, 0, 1, 9], 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    packet.write(&mut frame, &[0]).unwrap();
    frame
}
