//! What single packets do, step by step.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_state_transfer::{PortId, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

pub(crate) const HERE: WorkerId = WorkerId(0);

pub(crate) fn node(plan: &Plan) -> MemoryNode {
    MemoryNode::new(plan, 7)
}

/// One worker between four hosts.
pub(crate) fn plan() -> Plan {
    Plan { workers: 1, ports: 4, queues: 1, port_ring: 256, frames: 8_192, ..Plan::default() }
}

/// A policy route to the host at a port.
pub(crate) fn to(name: &str, filter: &str, port: u8) -> api::PolicyRoute {
    api::PolicyRoute {
        name: name.to_owned(),
        filter: filter.to_owned(),
        via: host(port).to_string(),
        port: format!("sap{port}"),
        ..api::PolicyRoute::default()
    }
}

pub(crate) fn put(node: &mut MemoryNode, routes: &[api::PolicyRoute]) {
    node.node.put_policies(&api::Change::default(), routes, node.now).unwrap();
    node.settle();
}

/// Comes from the host at a port, for that at another.
pub(crate) fn inject(node: &mut MemoryNode, (from, to): (u8, u8), sport: u16, payload: u8) {
    let packet = packet((from, host(to)), sport, payload);
    assert!(node.wires.get_mut(&(PortId(from), 0)).unwrap().inject(&packet));
    node.step_worker(HERE);
}

pub(crate) fn packet((from, to): (u8, Ipv4Addr), sport: u16, payload: u8) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(from).0, port_mac(from).0)
        .ipv4(host(0).octets(), to.octets(), 64)
        .udp(sport, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[payload]).unwrap();
    packet
}

/// What has left by a port since the last look, by payload.
pub(crate) fn left(node: &mut MemoryNode, port: u8) -> Vec<u8> {
    let taken = std::iter::from_fn(|| node.take(PortId(port), 0));
    taken.map(|frame| *frame.last().unwrap()).collect()
}

pub(crate) fn drops(node: &MemoryNode) -> Vec<(String, u64)> {
    let drops = node.node.counters().drops;
    drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect()
}

pub(crate) fn state(node: &MemoryNode, place: usize) -> api::PolicyRouteState {
    node.node.list_policies().routes[place].clone()
}

#[test]
fn a_flow_follows_the_first_policy_that_it_matches_from_the_next_packet_on() {
    let mut node = node(&plan());
    inject(&mut node, (0, 1), 1_000, 1);
    assert_eq!(left(&mut node, 1), [1], "by its route");
    put(&mut node, &[to("all", "any", 2)]);
    inject(&mut node, (0, 1), 1_000, 2);
    assert_eq!((left(&mut node, 2), left(&mut node, 1)), (vec![2], vec![]));
    let first = api::PolicyRoute { before: "all".to_owned(), ..to("one", "sport=1000", 3) };
    put(&mut node, &[first]);
    inject(&mut node, (0, 1), 1_000, 3);
    inject(&mut node, (0, 1), 1_001, 4);
    assert_eq!((left(&mut node, 3), left(&mut node, 2)), (vec![3], vec![4]));
    put(&mut node, &[to("one", "sport=1000", 1)]);
    inject(&mut node, (0, 1), 1_000, 5);
    inject(&mut node, (0, 1), 1_000, 6);
    assert_eq!((left(&mut node, 3), left(&mut node, 1)), (vec![], vec![5, 6]));
    let both = ["one".to_owned(), "all".to_owned()];
    node.node.remove_policies(&api::Change::default(), &both).unwrap();
    node.settle();
    inject(&mut node, (0, 2), 1_000, 7);
    assert_eq!(left(&mut node, 2), [7], "by its route");
    assert_eq!(drops(&node), []);
}

#[test]
fn a_policy_counts_what_it_has_decided_for_and_keeps_that_when_it_is_changed() {
    let mut node = node(&plan());
    put(&mut node, &[to("one", "sport=1000", 2), to("all", "any", 3)]);
    for payload in 0..10 {
        inject(&mut node, (0, 1), 1_000, payload);
    }
    inject(&mut node, (0, 1), 1_001, 10);
    put(&mut node, &[to("one", "sport=1000", 3)]);
    inject(&mut node, (0, 1), 1_000, 11);
    assert_eq!((state(&node, 0).packets, state(&node, 1).packets), (11, 1));
    // An IPv4 header, one of UDP and a byte each.
    assert_eq!(state(&node, 0).bytes, 11 * 29);
    assert_eq!((left(&mut node, 2).len(), left(&mut node, 3).len()), (10, 2));
}

#[test]
fn a_flow_that_comes_by_two_ports_is_led_by_the_port_of_each_packet() {
    let mut node = node(&plan());
    let from_0 = api::PolicyRoute { from: "sap0".to_owned(), ..to("go", "any", 2) };
    put(&mut node, &[from_0]);
    // To the function, and back from it, as the same flow.
    for payload in 1..=3 {
        inject(&mut node, (0, 1), 1_000, payload);
        inject(&mut node, (2, 1), 1_000, 10 + payload);
    }
    assert_eq!((left(&mut node, 2), left(&mut node, 1)), (vec![1, 2, 3], vec![11, 12, 13]));
    assert_eq!(state(&node, 0).packets, 3);
}

#[test]
fn a_filter_is_for_one_direction_unless_it_is_for_both_ways() {
    let mut node = node(&plan());
    put(&mut node, &[to("web", "dport=1000", 2)]);
    inject(&mut node, (0, 1), 1_000, 1);
    assert_eq!((left(&mut node, 1), left(&mut node, 2)), (vec![1], vec![]));
    put(&mut node, &[api::PolicyRoute { both_ways: true, ..to("web", "dport=1000", 2) }]);
    inject(&mut node, (0, 1), 1_000, 2);
    assert_eq!((left(&mut node, 1), left(&mut node, 2)), (vec![], vec![2]));
    let shown = state(&node, 0).route.unwrap();
    assert_eq!((shown.filter.as_str(), shown.both_ways), ("dport=1000", true));
}

#[test]
fn what_a_policy_holds_leaves_by_its_new_next_hop_in_front_of_what_comes_later() {
    let mut node = node(&plan());
    put(&mut node, &[to("p", "any", 2)]);
    inject(&mut node, (0, 1), 1_000, 1);
    put(&mut node, &[api::PolicyRoute { holds: true, ..to("p", "any", 2) }]);
    for payload in 2..=100 {
        inject(&mut node, (0, 1), 1_000, payload);
    }
    let balance = node.node.counters().balance.unwrap();
    assert_eq!((state(&node, 0).holding, balance.held, balance.unaccounted), (99, 99, 0));
    assert_eq!(left(&mut node, 2), [1]);
    node.node.put_policies(&api::Change::default(), &[to("p", "any", 3)], node.now).unwrap();
    // The worker hears of it in the round in which these come, and one round is not enough.
    for payload in 101..=110 {
        let packet = packet((0, host(1)), 1_000, payload);
        assert!(node.wires.get_mut(&(PortId(0), 0)).unwrap().inject(&packet));
    }
    node.step_worker(HERE);
    let at_once = left(&mut node, 3);
    assert!(at_once.len() < 110, "{}", at_once.len());
    inject(&mut node, (0, 1), 1_000, 111);
    node.settle();
    let rest = left(&mut node, 3);
    assert_eq!([at_once, rest].concat(), Vec::from_iter(2..=111));
    assert_eq!((state(&node, 0).holding, left(&mut node, 2).len()), (0, 0));
    assert_eq!(drops(&node), []);
}

#[test]
fn a_hold_that_is_full_drops_by_name_and_the_rest_leaves_in_order() {
    let mut plan = plan();
    plan.limits.hold = 5;
    let mut node = node(&plan);
    put(&mut node, &[api::PolicyRoute { holds: true, ..to("p", "any", 2) }]);
    for payload in 1..=8 {
        inject(&mut node, (0, 1), 1_000, payload);
    }
    assert_eq!((state(&node, 0).holding, state(&node, 0).overflow), (5, 3));
    assert_eq!(drops(&node), [("policy_hold_full".to_owned(), 3)]);
    put(&mut node, &[to("p", "any", 2)]);
    assert_eq!(left(&mut node, 2), [1, 2, 3, 4, 5]);
    assert_eq!(node.node.counters().balance.unwrap().unaccounted, 0);
}
