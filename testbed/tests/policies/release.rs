//! What is held leaves as its next hop takes it, whatever is in the way.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_dataplane::port::BURST;
use weir_state_transfer::{PortId, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host};

use crate::by_hand::{HERE, drops, inject, left, node, packet, plan, put, state, to};
use crate::world::spread;

/// Holds what is sent with this source port.
fn held(plan: &Plan, payloads: std::ops::RangeInclusive<u8>) -> MemoryNode {
    let mut node = node(plan);
    put(&mut node, &[api::PolicyRoute { holds: true, ..to("p", "sport=1000", 2) }]);
    for payload in payloads {
        inject(&mut node, (0, 1), 1_000, payload);
    }
    node
}

/// Leads to the host at a port what was held.
fn release(node: &mut MemoryNode, port: u8) {
    let routes = [to("p", "sport=1000", port)];
    node.node.put_policies(&api::Change::default(), &routes, node.now).unwrap();
}

/// So much time passes, in rounds of everybody.
fn pass(node: &mut MemoryNode, time: Duration) {
    let end = node.now + time;
    while node.now < end {
        node.now = node.now + Duration::from_millis(20);
        node.step_node();
        let workers: Vec<_> = node.workers.keys().copied().collect();
        for worker in workers {
            node.step_worker(worker);
        }
    }
}

/// Answers requests for the link address of the host at a port, as many as have come.
fn answer(node: &mut MemoryNode, port: u8) -> usize {
    let requests = std::iter::from_fn(|| node.take(PortId(port), 0)).count();
    assert!(requests == 0 || node.answer(PortId(port), 0));
    requests
}

fn unaccounted(node: &MemoryNode) -> i64 {
    node.node.counters().balance.unwrap().unaccounted
}

#[test]
fn what_is_released_leaves_no_faster_than_its_port_takes_it() {
    let mut node = held(&Plan { port_ring: 16, ..plan() }, 0..=199);
    release(&mut node, 2);
    let mut all = Vec::new();
    for _ in 0..100 {
        node.step_worker(HERE);
        node.step_worker(HERE);
        let some = left(&mut node, 2);
        assert!(some.len() <= 16);
        all.extend(some);
    }
    assert_eq!(all, Vec::from_iter(0..200));
    assert_eq!(drops(&node), []);
}

#[test]
fn what_is_released_by_the_queue_of_another_worker_leaves_no_faster_than_that_takes_it() {
    let there = WorkerId(1);
    let mut node = node(&Plan { workers: 2, queues: 1, port_ring: 64, ..plan() });
    spread(&mut node, 2);
    put(&mut node, &[api::PolicyRoute { holds: true, ..to("p", "any", 2) }]);
    for payload in 0..50 {
        for sport in 1_000..1_008 {
            inject(&mut node, (0, 1), sport, payload);
            node.step_worker(there);
        }
    }
    let kept = |node: &MemoryNode, id| node.workers[&id].counters().frames.held.get();
    assert!(kept(&node, HERE) > 64 && kept(&node, there) > 64, "both workers hold");
    node.node.put_policies(&api::Change::default(), &[to("p", "any", 2)], node.now).unwrap();
    let mut came: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for _ in 0..1_000 {
        // The port takes a packet a round.
        if let Some(frame) = node.take(PortId(2), 0) {
            let sport = u16::from_be_bytes([frame[34], frame[35]]);
            came.entry(sport).or_default().push(*frame.last().unwrap());
        }
        node.step_worker(there);
        node.step_worker(HERE);
        node.step_node();
    }
    assert_eq!(drops(&node), []);
    let all = (1_000..1_008).map(|sport| (sport, Vec::from_iter(0..50)));
    assert_eq!(came, all.collect());
}

/// Others fill what is left of the port in each round. Where it keeps frames for long, half of it is
/// never free.
#[test]
fn what_is_released_leaves_beside_all_traffic_that_the_port_takes() {
    for (kept_by_port, rounds) in [(0, 10), (70, 120)] {
        let mut node = held(&Plan { port_ring: 128, ..plan() }, 0..=99);
        release(&mut node, 2);
        let (mut came, mut kept) = (Vec::<u8>::new(), VecDeque::new());
        for _ in 0..rounds {
            for port in [0, 1] {
                let other = packet((port, host(2)), 2_000, 255);
                let wire = node.wires.get_mut(&(PortId(port), 0)).unwrap();
                assert!((0..BURST).all(|_| wire.inject(&other)));
            }
            node.now = node.now + Duration::from_millis(1);
            node.step_worker(HERE);
            let wire = node.wires.get_mut(&(PortId(2), 0)).unwrap();
            while let Some(frame) = wire.take() {
                came.extend(frame.data().last().filter(|payload| **payload != 255));
                kept.push_back(frame);
            }
            while kept.len() > kept_by_port {
                wire.complete(kept.pop_front().unwrap());
            }
        }
        assert_eq!(came, Vec::from_iter(0..100), "{kept_by_port} kept");
        assert_eq!((drops(&node), state(&node, 0).holding), (vec![], 0));
        node.step_worker(HERE);
        let wire = node.wires.get_mut(&(PortId(2), 0)).unwrap();
        kept.into_iter().for_each(|frame| wire.complete(frame));
        node.settle();
        assert_eq!(unaccounted(&node), 0);
    }
}

#[test]
fn what_is_released_waits_for_its_next_hop_where_it_was_held() {
    let mut node = held(&Plan { hosts_known: false, parked: 2, ..plan() }, 1..=9);
    // Where others wait for their next hops there is no more room.
    for payload in 10..=11 {
        inject(&mut node, (0, 1), 2_000, payload);
    }
    release(&mut node, 3);
    pass(&mut node, Duration::from_millis(200));
    assert_eq!((state(&node, 0).holding, drops(&node)), (9, vec![]));
    assert_eq!(answer(&mut node, 3), 1, "it is asked for once a second");
    node.settle();
    assert_eq!(left(&mut node, 3), Vec::from_iter(1..=9));
    assert_eq!(answer(&mut node, 1), 1);
    node.settle();
    assert_eq!(left(&mut node, 1), [10, 11]);
    assert_eq!((drops(&node), unaccounted(&node)), (vec![], 0));
}

#[test]
fn a_next_hop_that_has_failed_is_asked_for_again_and_what_waits_leaves_when_it_answers() {
    let mut node = held(&Plan { hosts_known: false, ..plan() }, 1..=9);
    release(&mut node, 3);
    // Three requests, a second apart, are all that a neighbour is asked.
    pass(&mut node, Duration::from_secs(5));
    inject(&mut node, (0, 1), 1_000, 10);
    assert_eq!((state(&node, 0).holding, drops(&node)), (10, vec![]));
    assert!(answer(&mut node, 3) > 3);
    node.settle();
    assert_eq!(left(&mut node, 3), Vec::from_iter(1..=10));
    assert_eq!((drops(&node), state(&node, 0).undelivered), (vec![], 0));
}

#[test]
fn what_is_released_to_a_next_hop_that_never_answers_is_dropped_by_name_after_10_seconds() {
    let mut node = held(&Plan { hosts_known: false, ..plan() }, 1..=200);
    release(&mut node, 3);
    pass(&mut node, Duration::from_millis(9_900));
    assert_eq!((state(&node, 0).holding, drops(&node)), (200, vec![]));
    pass(&mut node, Duration::from_millis(200));
    let shown = state(&node, 0);
    assert_eq!((shown.holding, shown.undelivered, shown.overflow), (0, 200, 0));
    assert_eq!(drops(&node), [("neighbour_unresolved".to_owned(), 200)]);
    // It is as if it had never held: the next waits as all do.
    inject(&mut node, (0, 1), 1_000, 201);
    assert!(answer(&mut node, 3) > 3);
    node.settle();
    assert_eq!(left(&mut node, 3), [201]);
    assert_eq!(unaccounted(&node), 0);
}

#[test]
fn another_next_hop_has_all_of_the_time() {
    let mut node = held(&Plan { hosts_known: false, ..plan() }, 1..=9);
    release(&mut node, 3);
    pass(&mut node, Duration::from_secs(9));
    release(&mut node, 2);
    pass(&mut node, Duration::from_secs(9));
    assert!(answer(&mut node, 2) > 0);
    node.settle();
    assert_eq!((left(&mut node, 2), drops(&node)), (Vec::from_iter(1..=9), vec![]));
}

#[test]
fn what_is_held_outlasts_a_port_that_is_down_and_one_that_stays_down_drops_by_name() {
    for (away, comes_back) in [(Duration::from_secs(9), true), (Duration::from_secs(11), false)] {
        let mut node = held(&plan(), 1..=200);
        node.wires[&(PortId(3), 0)].set_down(true);
        release(&mut node, 3);
        node.settle();
        let waits = state(&node, 0).holding;
        assert!(waits > 0 && waits < 200, "{waits}: it is found out by what is sent");
        pass(&mut node, away);
        assert_eq!(state(&node, 0).holding, if comes_back { waits } else { 0 });
        node.wires[&(PortId(3), 0)].set_down(false);
        let mut came = Vec::new();
        for _ in 0..16 {
            came.extend(left(&mut node, 3));
            node.step_worker(HERE);
        }
        node.settle();
        if comes_back {
            assert_eq!((came, drops(&node)), (Vec::from_iter(1..=200), vec![]));
        } else {
            assert_eq!(came.len() as u64, 200 - waits, "what was queued leaves");
            assert_eq!(drops(&node), [("port_down".to_owned(), waits)]);
            assert_eq!(state(&node, 0).undelivered, waits);
        }
        assert_eq!(unaccounted(&node), 0);
    }
}

#[test]
fn a_release_that_waits_lets_others_leave_and_may_be_held_again() {
    let mut node = node(&Plan { hosts_known: false, ..plan() });
    let holding = |name, filter| api::PolicyRoute { holds: true, ..to(name, filter, 2) };
    put(&mut node, &[holding("p", "sport=1000"), holding("q", "sport=1001")]);
    for payload in 1..=5 {
        inject(&mut node, (0, 1), 1_000, payload);
        inject(&mut node, (0, 1), 1_001, 10 + payload);
    }
    let both = [to("p", "sport=1000", 3), to("q", "sport=1001", 2)];
    node.node.put_policies(&api::Change::default(), &both, node.now).unwrap();
    pass(&mut node, Duration::from_millis(100));
    assert!(answer(&mut node, 2) > 0);
    node.settle();
    assert_eq!(left(&mut node, 2), [11, 12, 13, 14, 15]);
    put(&mut node, &[holding("p", "sport=1000")]);
    pass(&mut node, Duration::from_secs(60));
    assert_eq!((state(&node, 0).holding, drops(&node)), (5, vec![]));
    release(&mut node, 2);
    node.settle();
    assert_eq!(left(&mut node, 2), [1, 2, 3, 4, 5]);
}

/// The packets that come in one round with the release are behind it.
#[test]
fn what_comes_while_a_release_waits_goes_behind_it() {
    let mut node = held(&Plan { hosts_known: false, ..plan() }, 1..=3);
    release(&mut node, 3);
    for payload in 4..=6 {
        let packet = packet((0, host(1)), 1_000, payload);
        assert!(node.wires.get_mut(&(PortId(0), 0)).unwrap().inject(&packet));
        node.step_worker(HERE);
    }
    assert_eq!(state(&node, 0).holding, 6);
    assert!(answer(&mut node, 3) > 0);
    node.step_worker(HERE);
    inject(&mut node, (0, 1), 1_000, 7);
    node.settle();
    assert_eq!(left(&mut node, 3), Vec::from_iter(1..=7));
}

/// Who has asked for it may be gone.
#[test]
fn what_is_held_for_a_time_goes_on_when_that_is_over_and_no_earlier() {
    let mut node = node(&plan());
    let hold_ns = 1_000_000_000;
    let route = api::PolicyRoute { holds: true, hold_ns, ..to("p", "sport=1000", 2) };
    put(&mut node, std::slice::from_ref(&route));
    (1..=3).for_each(|payload| inject(&mut node, (0, 1), 1_000, payload));
    for _ in 0..3 {
        pass(&mut node, Duration::from_millis(900));
        assert_eq!((left(&mut node, 2), state(&node, 0).holding), (vec![], 3));
        // Its time begins anew.
        put(&mut node, std::slice::from_ref(&route));
    }
    pass(&mut node, Duration::from_millis(1_100));
    assert_eq!(left(&mut node, 2), [1, 2, 3]);
    let shown = state(&node, 0);
    assert!(shown.holding == 0 && !shown.route.unwrap().holds && shown.lapsed);
    // It is told until it holds again, though it leads elsewhere.
    put(&mut node, &[to("p", "sport=1000", 3)]);
    assert!(state(&node, 0).lapsed);
    // One that was put so has no end.
    put(&mut node, &[api::PolicyRoute { hold_ns: 0, ..route }]);
    assert!(!state(&node, 0).lapsed);
    inject(&mut node, (0, 1), 1_000, 4);
    pass(&mut node, Duration::from_secs(3_600));
    assert_eq!((left(&mut node, 2), state(&node, 0).holding), (vec![], 1));
}
