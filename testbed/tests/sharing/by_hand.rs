//! Shares that are not left to chance.

use std::sync::mpsc::channel;

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::{FIRST, NodeError};
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::mark::Request;
use weir_state_transfer::share::Mode;
use weir_state_transfer::{BucketSet, InstanceId, Nanos, Selection, ShareId, WorkerId};
use weir_testbed::memory_node::MemoryNode;

use crate::setup::{
    SEED, asks, dropped, end_all, node, phase, plan, port_at, send, start_share, start_share_of,
};

/// Connections that a source may have open.
const OPEN: u32 = 3;

/// Sources that the firewall of an instance knows.
pub(crate) fn sources(node: &mut MemoryNode, instance: InstanceId) -> u64 {
    let (to, pieces) = channel();
    node.node.report_nfs(instance, to);
    node.settle();
    let report = pieces.try_iter().flatten().find(|nf| nf.instance == instance).unwrap();
    report.counters.into_iter().find(|(name, _)| name == "sources").unwrap().1
}

fn refusal<T: std::fmt::Debug>(result: Result<T, NodeError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_a_source_had_begun_everywhere_counts_together_and_stays_known_at_the_end() {
    let (mut node, ids) = node(&plan(2, OPEN), 2, SEED);
    // Alone each lets as many begin.
    assert!(asks(&mut node, ids[0], 9, 1000) && asks(&mut node, ids[0], 9, 2000));
    assert!(asks(&mut node, ids[1], 9, 3000));
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    assert_eq!(phase(&node, share), api::SharePhase::Steady);
    assert!(!asks(&mut node, ids[1], 9, 4000), "it has three");
    assert!(asks(&mut node, ids[1], 8, 4000), "another source has not");
    let known = sources(&mut node, ids[0]) + sources(&mut node, ids[1]);
    assert_eq!(known, 2, "each is known at its home alone");

    node.node.end_share(&api::Change::default(), share, node.now).unwrap();
    node.settle();
    assert_eq!(phase(&node, share), api::SharePhase::Ended);
    assert_eq!((sources(&mut node, ids[0]), sources(&mut node, ids[1])), (2, 2));
    for id in ids {
        assert!(!asks(&mut node, id, 9, 5000), "each has a replica");
    }
}

#[test]
fn what_ends_at_any_instance_makes_room_at_all() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    start_share(&mut node, &ids).unwrap();
    node.settle();
    for round in 0..3 {
        for n in 0..OPEN as usize {
            assert!(asks(&mut node, ids[n % ids.len()], 9, 1000 + 5000 * round));
        }
        for id in &ids {
            assert!(!asks(&mut node, *id, 9, 3000 + 5000 * round));
        }
        end_all(&mut node);
    }
}

#[test]
fn sources_that_the_filter_does_not_name_are_judged_by_each_instance_alone() {
    let (mut node, ids) = node(&plan(2, 1), 2, SEED);
    start_share_of(&mut node, &ids, "src=10.0.0.8/32", Mode::Strong).unwrap();
    node.settle();
    assert!(asks(&mut node, ids[0], 8, 1000) && !asks(&mut node, ids[1], 8, 1000));
    assert!(asks(&mut node, ids[0], 9, 1000) && asks(&mut node, ids[1], 9, 1000));
}

#[test]
fn what_contradicts_a_share_is_refused_and_names_it() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    let (change, two) = (api::Change::default(), [ids[0], ids[1]]);
    let share = start_share(&mut node, &two).unwrap();
    let moved = |node: &mut MemoryNode| {
        let selection = Selection::Buckets(BucketSet::all());
        let request = Request::new(FIRST, ids[1], selection);
        node.node.start_move(&change, request, true, node.now)
    };
    assert!(refusal(moved(&mut node)).starts_with("share 1 has flows of the move"));
    assert!(refusal(start_share(&mut node, &ids)).contains("share 1 is of the same flows"));
    node.settle();
    // Its flows are with the first, so nothing else keeps it.
    let request = Request::new(ids[2], FIRST, Selection::Buckets(BucketSet::all()));
    assert!(refusal(node.node.start_move(&change, request, true, node.now)).contains("share 1"));
    node.node.end_share(&change, share, node.now).unwrap();
    node.settle();
    moved(&mut node).unwrap();
    assert!(refusal(start_share(&mut node, &two)).contains("is in progress and concerns"));
}

#[test]
fn an_instance_is_removed_when_it_has_left() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    let change = api::Change::default();
    let buckets = Selection::Buckets(BucketSet::all());
    node.node.start_move(&change, Request::new(ids[2], FIRST, buckets), true, node.now).unwrap();
    node.settle();
    node.node.set_instance_state(&change, ids[2], api::InstanceState::Paused).unwrap();
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    let refused = refusal(node.node.remove_instance(&change, ids[2]));
    assert!(refused.contains("takes part in share 1"), "{refused}");
    node.node.change_share(&change, share, &ids[..2], node.now).unwrap();
    node.settle();
    node.node.remove_instance(&change, ids[2]).unwrap();
    node.settle();
    assert_eq!(node.node.list_instances(node.now).instances.len(), 2);
    assert_eq!(phase(&node, share), api::SharePhase::Steady);
}

#[test]
fn only_what_can_be_shared_is() {
    let mut unlimited = plan(2, OPEN);
    unlimited.limits.functions = weir_dataplane::nf::ChainConfig::default();
    let (mut bare, ids) = node(&unlimited, 2, SEED);
    assert!(refusal(start_share(&mut bare, &ids)).contains("have nothing to share"));
    let (mut node, ids) = node(&plan(2, OPEN), 2, SEED);
    assert!(refusal(start_share(&mut node, &ids[..1])).contains("two instances at least"));
    let flags = start_share_of(&mut node, &ids, "tcp_flags=syn", Mode::Strong);
    assert!(refusal(flags).contains("fields that sources do not have"));
}

#[test]
fn a_strict_share_counts_on_the_workers_that_there_are() {
    let (mut node, ids) = node(&plan(2, OPEN), 2, SEED);
    let change = api::Change::default();
    let share = start_share_of(&mut node, &ids, "any", Mode::Strict).unwrap();
    node.settle();
    assert_eq!(phase(&node, share), api::SharePhase::Steady);
    assert!(refusal(node.node.add_worker(&change, None)).contains("share 1 is strict"));
    node.node.end_share(&change, share, node.now).unwrap();
    node.settle();
    node.node.add_worker(&change, None).unwrap();
    // A strong one does not.
    start_share(&mut node, &ids).unwrap();
    node.settle();
    node.node.add_worker(&change, None).unwrap();
    node.settle();
}

#[test]
fn an_instance_that_has_left_may_join_again_at_once() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    let change = api::Change::default();
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    node.node.change_share(&change, share, &ids[..2], node.now).unwrap();
    // As soon as the node knows that it has left, its worker may not.
    while phase(&node, share) != api::SharePhase::Steady {
        let workers: Vec<_> = node.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| _ = node.step_worker(worker));
        node.step_node();
    }
    node.node.change_share(&change, share, &ids, node.now).unwrap();
    node.settle();
    assert_eq!(phase(&node, share), api::SharePhase::Steady);
    for id in &ids {
        assert!(asks(&mut node, *id, 9, 1000));
    }
    for id in &ids {
        assert!(!asks(&mut node, *id, 9, 5000), "it has three");
    }
}

/// Has sources ask until the second instance, which is the home of one of them, has panicked. The
/// other connections that they have begun are not to be minded.
fn lose_second(node: &mut MemoryNode, share: ShareId, at: InstanceId) {
    crate::mute_panics();
    let fault = Fault { stage: FaultStage::Executed, packets: 1 };
    node.node.panic_worker(WorkerId(1), fault).unwrap();
    node.settle();
    let mut address = 100;
    while node.node.show_share(share).unwrap().failed.is_empty() {
        asks(node, at, address, 1000);
        address += 1;
        assert!(address < 250, "some sources have their homes there");
    }
}

#[test]
fn a_flow_that_was_given_up_in_a_panic_asks_no_home() {
    crate::mute_panics();
    let (mut node, ids) = node(&plan(2, OPEN), 2, SEED);
    start_share(&mut node, &ids).unwrap();
    node.settle();
    for (n, source) in (1..).zip(10..30) {
        let fault = Fault { stage: FaultStage::Forwarding, packets: 1 };
        node.node.panic_worker(WorkerId(1), fault).unwrap();
        node.settle();
        let port = port_at(&node, ids[1], source, 1000);
        send(&mut node, source, port);
        node.settle();
        assert_eq!(dropped(&node, "worker_panic"), n);
        send(&mut node, source, port);
        node.step_worker(WorkerId(0));
        node.step_worker(WorkerId(1));
        assert_eq!(dropped(&node, "poisoned"), n, "it waits for no answer");
    }
}

/// Lets others share; the share is steady again.
fn have_members(node: &mut MemoryNode, share: ShareId, members: &[InstanceId]) {
    node.node.change_share(&api::Change::default(), share, members, node.now).unwrap();
    node.settle();
    assert_eq!(phase(node, share), api::SharePhase::Steady);
}

#[test]
fn a_home_that_panics_is_left_out_and_the_others_go_on() {
    let (mut node, ids) = node(&plan(3, 1), 3, SEED);
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    lose_second(&mut node, share, ids[0]);
    let shown = node.node.show_share(share).unwrap();
    assert_eq!(shown.phase(), api::SharePhase::Steady);
    assert_eq!(shown.failed, [u32::from(ids[1].0)]);
    assert_eq!(shown.instances.len(), 2);
    let rest: Vec<_> = ids.iter().filter(|id| shown.instances.contains(&u32::from(id.0))).collect();
    assert!(asks(&mut node, *rest[0], 8, 1000) && !asks(&mut node, *rest[1], 8, 1000));
    let balance = node.node.counters().balance.unwrap();
    assert_eq!((balance.unaccounted, balance.held), (0, 0));
}

#[test]
fn what_a_home_had_counted_that_has_panicked_counts_again_when_it_has_joined_again() {
    let sources = 10..40;
    for ends_before in [false, true] {
        let (mut node, ids) = node(&plan(3, OPEN), 3, SEED);
        let share = start_share(&mut node, &ids).unwrap();
        node.settle();
        let all_begin = |node: &mut MemoryNode, first: u16| {
            for (source, n) in sources.clone().flat_map(|s| (0..OPEN as u16).map(move |n| (s, n))) {
                assert!(asks(node, ids[0], source, first + 3000 * n), "{source}");
            }
        };
        all_begin(&mut node, 1000);
        lose_second(&mut node, share, ids[0]);
        if ends_before {
            end_all(&mut node);
        }
        have_members(&mut node, share, &ids);
        if !ends_before {
            for source in sources.clone() {
                assert!(
                    !asks(&mut node, ids[2], source, 1000),
                    "{source} has all that it may have"
                );
            }
            end_all(&mut node);
        }
        all_begin(&mut node, 11_000);
        for source in sources.clone() {
            assert!(!asks(&mut node, ids[2], source, 1000), "{source} has all that it may have");
        }
    }
}

#[test]
fn who_joins_again_tells_what_has_ended_since_it_has_left() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    for n in 0..OPEN as u16 {
        assert!(asks(&mut node, ids[2], 9, 1000 + 3000 * n));
    }
    have_members(&mut node, share, &ids[..2]);
    assert!(!asks(&mut node, ids[0], 9, 1000) && asks(&mut node, ids[2], 9, 20_000));
    end_all(&mut node);
    assert!(!asks(&mut node, ids[0], 9, 1000), "the others have not heard of it");
    have_members(&mut node, share, &ids);
    end_all(&mut node);
    let known: u64 = ids.iter().map(|id| sources(&mut node, *id)).sum();
    assert_eq!(known, 0, "nobody has anything open");
}

/// Time for all that is to be taken over of who is gone, and too little for connections to end.
fn take_over(node: &mut MemoryNode) {
    for _ in 0..100 {
        node.now = Nanos(node.now.0 + 1_000_000);
        node.settle();
    }
}

#[test]
fn what_sources_have_begun_counts_once_wherever_their_homes_move_and_whoever_is_removed() {
    let (mut node, ids) = node(&plan(2, OPEN), 3, SEED);
    let change = api::Change::default();
    let buckets = Selection::Buckets(BucketSet::all());
    node.node.start_move(&change, Request::new(ids[2], FIRST, buckets), true, node.now).unwrap();
    node.settle();
    node.node.set_instance_state(&change, ids[2], api::InstanceState::Paused).unwrap();
    let share = start_share(&mut node, &ids).unwrap();
    node.settle();
    let sources = 10..40;
    for source in sources.clone() {
        for n in 0..OPEN as u16 {
            assert!(asks(&mut node, ids[usize::from(n % 2)], source, 1000 + 5000 * n));
        }
    }
    let shares = |node: &mut MemoryNode, members: &[_]| have_members(node, share, members);
    let all_refused = |node: &mut MemoryNode, at: InstanceId, first: u16| {
        sources.clone().for_each(|source| assert!(!asks(node, at, source, first), "{source}"));
    };
    // The home of some of them leaves and ends, and who has taken it over gets them then.
    shares(&mut node, &ids[..2]);
    node.node.remove_instance(&change, ids[2]).unwrap();
    take_over(&mut node);
    let made = node.node.create_instance(&change, "new", 0).unwrap();
    node.settle();
    let new = InstanceId(u8::try_from(made.id).unwrap());
    shares(&mut node, &[ids[0], new]);
    all_refused(&mut node, ids[0], 20_000);
    shares(&mut node, &[ids[0], ids[1], new]);
    shares(&mut node, &ids[..2]);
    all_refused(&mut node, ids[1], 25_000);
    node.node.remove_instance(&change, new).unwrap();
    take_over(&mut node);
    end_all(&mut node);
    for source in sources {
        for n in 0..=OPEN as u16 {
            let begins = asks(&mut node, ids[usize::from(n % 2)], source, 30_000 + 5000 * n);
            assert_eq!(begins, u32::from(n) < OPEN, "{source}");
        }
    }
}
