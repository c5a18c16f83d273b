//! Whether all that was sent to a next hop has been taken.

use etherparse::{Icmpv4Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use weir_api::dataplane::v1 as api;
use weir_state_transfer::PortId;
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

use crate::by_hand::{HERE, inject, left, node, plan};
use crate::world::spread;

const NONCE: u64 = 0x0123_4567_89ab_cdef;

fn hop(port: u8) -> api::NextHop {
    api::NextHop { via: host(port).to_string(), port: format!("sap{port}") }
}

/// The answer of the host at a port to an echo request, if a frame is one.
fn answer(port: u8, request: &[u8]) -> Option<Vec<u8>> {
    let headers = PacketHeaders::from_ethernet_slice(request).unwrap();
    let Some(TransportHeader::Icmpv4(icmp)) = headers.transport else { return None };
    let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type else { return None };
    let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { return None };
    assert_eq!(
        (ip.destination, request[..6].to_vec()),
        (host(port).octets(), host_mac(port).0.to_vec())
    );
    let reply = PacketBuilder::ethernet2(host_mac(port).0, port_mac(port).0)
        .ipv4(ip.destination, ip.source, 64)
        .icmpv4_echo_reply(echo.id, echo.seq);
    let mut frame = Vec::new();
    reply.write(&mut frame, headers.payload.slice()).unwrap();
    Some(frame)
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
    node.node.begin_probe(&[hop(1)], NONCE).unwrap();
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
    node.node.begin_probe(&[hop(1), hop(2)], NONCE).unwrap();
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
    node.node.begin_probe(&[hop(1)], NONCE).unwrap();
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
    node.node.begin_probe(&[hop(1)], NONCE).unwrap();
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

fn request_to_nobody() -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(host_mac(0).0, port_mac(0).0)
        .ipv4(host(0).octets(), [10, 0, 1, 9], 64)
        .udp(1, 2);
    let mut frame = Vec::new();
    packet.write(&mut frame, &[0]).unwrap();
    frame
}
