//! Scans: what many connections of a source have in common.

use weir_state_transfer::merge::{Counter, Join};

use super::*;
use crate::nf::schema::IDS_SOURCE;

pub(super) const SOURCE: Origin = Origin {
    service: ServiceId(0),
    address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
};

/// A SYN to a port of the server that is rejected, at that second.
fn attempt(port: u16, second: u64) -> [Timed; 2] {
    let at = Timestamp(START + second * SECOND);
    let syn = tcp((CLIENT, SERVER), (999, port), (1, 0), SYN, b"");
    let rst = tcp((SERVER, CLIENT), (port, 999), (0, 2), RST | ACK, b"");
    [Timed { at, frame: syn }, Timed { at, frame: rst }]
}

pub(super) fn try_ports(node: &mut Node, ports: std::ops::Range<u16>, second: u64) {
    for port in ports {
        node.take_all(&attempt(port, second));
    }
    node.sweep(Timestamp(START + (second + 6) * SECOND));
}

/// Gives what is known of the source to another instance, twice.
fn move_source(from: &mut Node, to: &mut Node) {
    let source = from.ids.source(&SOURCE).unwrap();
    let chunk = IDS_SOURCE.chunk(SOURCE.flow_id(), source.encode());
    assert_eq!(from.ids.del_multi_flow(std::slice::from_ref(&chunk.id)), 1);
    (0..2).for_each(|_| to.ids.put_multi_flow(&chunk, Timestamp(u64::MAX)).unwrap());
}

fn scans(node: &Node) -> Vec<ScanRecord> {
    let scans = node.records.iter().filter_map(|record| match record {
        Record::Scan(scan) => Some(*scan),
        Record::Conn(_) | Record::Http(_) => None,
    });
    scans.collect()
}

#[test]
fn a_source_that_fails_at_many_ports_is_told_once_in_a_window() {
    let mut node = Node::new(1);
    try_ports(&mut node, 1..20, 0);
    assert_eq!(scans(&node), []);
    try_ports(&mut node, 1..20, 10);
    assert_eq!(scans(&node), [], "the same ports again");
    try_ports(&mut node, 20..60, 20);
    let [scan] = scans(&node)[..] else { panic!("{:?}", scans(&node)) };
    assert_eq!((scan.source, scan.distinct), (SOURCE.address, 25));
    assert!(scan.attempts >= 25 + 19);
    // Another window.
    try_ports(&mut node, 1..60, 600);
    assert_eq!(scans(&node).len(), 2);
}

#[test]
fn connections_that_come_about_are_no_scan() {
    let mut node = Node::new(1);
    for port in 1000..1100 {
        node.take_all(&Talk::open(port).frames);
    }
    node.sweep(Timestamp(START + 1000 * SECOND));
    assert_eq!((scans(&node).len(), node.ids.sources().len()), (0, 0));
    assert_eq!(node.ids.totals().failed.value(), 0);
}

#[test]
fn what_two_instances_have_seen_of_a_source_is_a_scan_together() {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    try_ports(&mut one, 1..20, 0);
    try_ports(&mut two, 20..40, 0);
    assert_eq!((scans(&one), scans(&two)), (vec![], vec![]));
    move_source(&mut one, &mut two);
    two.records.extend(two.ids.drain());
    let [scan] = scans(&two)[..] else { panic!("{:?}", scans(&two)) };
    assert_eq!(scan.attempts, 39);
    // It travels with the state that it has been told.
    move_source(&mut two, &mut one);
    try_ports(&mut one, 60..90, 20);
    assert_eq!(scans(&one), []);
}

#[test]
fn a_source_that_moves_in_the_middle_is_told_as_by_one_instance() {
    let mut single = Node::new(1);
    try_ports(&mut single, 1..15, 0);
    try_ports(&mut single, 15..40, 10);
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    try_ports(&mut one, 1..15, 0);
    move_source(&mut one, &mut two);
    try_ports(&mut two, 15..40, 10);
    assert_eq!((scans(&two).len(), scans(&two)), (1, scans(&single)));
    assert_eq!(one.ids.sources().len(), 0);
}

#[test]
fn a_source_that_has_moved_away_and_tries_again_loses_no_attempt() {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    try_ports(&mut one, 1..15, 0);
    move_source(&mut one, &mut two);
    try_ports(&mut one, 15..25, 10);
    move_source(&mut one, &mut two);
    try_ports(&mut two, 25..26, 20);
    let [scan] = scans(&two)[..] else { panic!("{:?}", scans(&two)) };
    assert_eq!(scan.attempts, 25, "what was counted anew is not taken for an older copy");
}

#[test]
fn joining_sources_is_idempotent_commutative_and_associative() {
    let source = |instance, ports, second| {
        let mut node = Node::new(instance);
        try_ports(&mut node, ports, second);
        node.ids.source(&SOURCE).unwrap().clone()
    };
    let all = [source(1, 1..9, 0), source(2, 5..20, 1), source(3, 1..40, 0), source(1, 1..9, 900)];
    let join = |one: &Source, two: &Source| {
        let mut joined = one.clone();
        joined.join(two);
        joined
    };
    for a in &all {
        assert_eq!(join(a, a), *a);
        for b in &all {
            assert_eq!(join(a, b), join(b, a));
            for c in &all {
                assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
            }
        }
    }
}

#[test]
fn sources_are_bounded_and_those_of_earlier_windows_make_room() {
    let scan = ScanConfig { sources_max: 3, ..ScanConfig::default() };
    let mut node = Node::with(Config { scan, ..Config::default() }, 1);
    for (last, second) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 600)] {
        let at = Timestamp(START + second * SECOND);
        let frame = tcp(([10, 0, 0, last], SERVER), (999, 1), (1, 0), SYN, b"");
        node.take(&Timed { at, frame });
        node.sweep(Timestamp(at.0 + 6 * SECOND));
    }
    let sources: Vec<_> = node.ids.sources().map(|id| id.address.to_string()).collect();
    assert_eq!(sources, ["10.0.0.5"]);
    assert_eq!(node.ids.totals().unwatched.value(), 1);
    assert_eq!(node.ids.totals().failed.value(), 5);
}

#[test]
fn totals_travel_and_join_by_replica() {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    try_ports(&mut one, 1..10, 0);
    try_ports(&mut two, 1..5, 0);
    for chunk in two.ids.get_all_flows() {
        (0..2).for_each(|_| one.ids.put_all_flows(&chunk).unwrap());
    }
    let totals = one.ids.totals();
    let value = |counter: &Counter| counter.value();
    assert_eq!((value(&totals.packets), value(&totals.failed)), (26, 13));
    assert_eq!((value(&totals.connections), value(&totals.ended)), (13, 13));
}
