//! Every interleaving of two steerers, two or three instances, two slots and up to five packets.

use crate::explore::{Report, explore};
use crate::scope::{Act, Kind, Load, Scope, load};
use Kind::{Blind, Dropped, Lazy, Plain, Wait};

fn search(scope: Scope) -> Report {
    let shown = scope.clone();
    let report = explore(scope).unwrap_or_else(|failure| panic!("{failure}in {shown:?}"));
    println!("{:?} of {:?}, {:?}: {report}", shown.mode, shown.members, shown.acts);
    report
}

/// Strong and strict, where nothing may be lost.
fn search_both(scope: Scope) {
    for scope in [scope.clone(), scope.strict()] {
        let report = search(scope);
        assert_eq!(report.lossy, 0, "there is room for all");
        assert!(report.ends > 0, "{report}");
    }
}

/// All that packets may need, at both members, and of both slots.
const MIXED: [&[&[Load]]; 3] = [
    &[
        &[load(0, 0, Wait), load(1, 0, Wait), load(0, 0, Plain)],
        &[load(1, 0, Wait), load(0, 0, Wait)],
    ],
    &[
        &[load(1, 0, Lazy), load(1, 0, Wait), load(1, 0, Plain)],
        &[load(1, 0, Lazy), load(0, 0, Wait)],
    ],
    &[
        &[load(1, 0, Blind), load(1, 0, Wait), load(1, 1, Wait)],
        &[load(0, 0, Blind), load(0, 1, Blind)],
    ],
];

/// Fewer, for where much else happens.
const FEW: &[&[Load]] = &[&[load(1, 0, Wait), load(0, 0, Wait)], &[load(1, 0, Wait)]];
const TWO: &[&[Load]] = &[&[load(1, 0, Wait)], &[load(1, 0, Lazy)]];

/// While members change: of a strict share there are fewer packets, as it matters there when they
/// are received.
fn search_change(scope: Scope) {
    let script = TWO.iter().map(|loads| loads.to_vec()).collect();
    let fewer = Scope { script, ..scope.clone() }.strict();
    for scope in [scope, fewer] {
        assert_eq!(search(scope).lossy, 0, "there is room for all");
    }
}

fn at_home(script: &[&[Load]]) -> Scope {
    Scope::small(script).homes(&[(&[0, 1], [0, 1])])
}

#[test]
fn packets_of_a_share_are_processed_once_and_in_order() {
    MIXED.into_iter().for_each(|script| search_both(at_home(script)));
}

#[test]
fn the_home_may_be_an_instance_that_gets_no_packets() {
    let three = |script| {
        let scope = Scope { members: vec![0, 1, 2], ..Scope::small(script) };
        scope.homes(&[(&[0, 1, 2], [2, 2])])
    };
    search_both(three(MIXED[0]));
    search_both(three(&[&[load(1, 0, Lazy), load(1, 0, Wait)], &[load(0, 0, Lazy)]]));
}

#[test]
fn operations_that_come_twice_are_executed_once() {
    search_both(Scope { repeated: true, ..at_home(FEW) });
}

#[test]
fn packets_that_are_dropped_on_the_way_hold_up_nobody() {
    let script: &[&[Load]] =
        &[&[load(1, 0, Dropped), load(0, 0, Wait)], &[load(1, 0, Wait), load(0, 0, Dropped)]];
    search_both(at_home(script));
}

#[test]
fn a_share_starts_under_traffic() {
    search_both(Scope { started: false, ..at_home(&[&[load(1, 0, Wait), load(0, 0, Wait)]]) });
    search_both(Scope { started: false, ..at_home(&[&[load(1, 0, Wait)], &[load(0, 1, Wait)]]) });
}

#[test]
fn a_home_that_joins_takes_its_slots_over() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1], [0, 1]), (&[0, 1, 2], [2, 1])];
    let acts = vec![Act::Change(vec![0, 1, 2])];
    search_change(Scope { acts: acts.clone(), ..Scope::small(FEW).one_slot() }.homes(moves));
    let one: &[&[Load]] = &[&[load(1, 0, Wait), load(2, 0, Wait)]];
    search_both(Scope { acts, stepped: true, ..Scope::small(one).one_slot() }.homes(moves));
}

#[test]
fn a_home_that_leaves_hands_its_slots_over() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1, 2], [2, 1]), (&[0, 1], [0, 1])];
    let members = vec![0, 1, 2];
    let acts = vec![Act::Change(vec![0, 1])];
    search_change(Scope { members, acts, ..Scope::small(FEW).one_slot() }.homes(moves));
}

#[test]
fn a_member_that_leaves_takes_nothing_along() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1, 2], [0, 0]), (&[0, 1], [0, 0])];
    let acts = vec![Act::Change(vec![0, 1])];
    let script: &[&[Load]] = &[&[load(2, 0, Wait), load(2, 0, Lazy)], &[load(1, 0, Wait)]];
    search_both(
        Scope { members: vec![0, 1, 2], acts, ..Scope::small(script).one_slot() }.homes(moves),
    );
}

#[test]
fn every_member_keeps_a_replica_at_the_end() {
    search_change(Scope { acts: vec![Act::End], ..at_home(FEW) });
    let one: &[&[Load]] = &[&[load(1, 0, Wait)]];
    search_both(Scope { acts: vec![Act::End], stepped: true, ..at_home(one) });
}

#[test]
fn members_change_one_after_the_other() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1], [0, 1]), (&[0, 1, 2], [2, 1]), (&[1, 2], [2, 1])];
    let acts = vec![Act::Change(vec![0, 1, 2]), Act::Change(vec![1, 2])];
    search_both(
        Scope { acts, ..Scope::small(&[&[load(1, 0, Wait), load(0, 0, Wait)]]) }.homes(moves),
    );
}

/// With an instance that fails its packets are lost, and its state, and nothing else.
fn search_failure(scope: Scope) {
    for scope in [scope.clone(), scope.strict()] {
        let report = search(scope);
        assert!(report.ends > 0, "{report}");
    }
}

#[test]
fn the_others_go_on_when_a_home_fails() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1, 2], [2, 1]), (&[0, 1], [0, 1])];
    let scope = Scope { members: vec![0, 1, 2], acts: vec![Act::Fail(2)], ..Scope::small(FEW) };
    search_failure(scope.one_slot().homes(moves));
}

#[test]
fn a_member_that_fails_takes_no_state_of_other_homes_along() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1, 2], [0, 0]), (&[0, 1], [0, 0])];
    let script: &[&[Load]] = &[&[load(1, 0, Wait), load(2, 0, Wait)], &[load(0, 0, Wait)]];
    let scope = Scope { members: vec![0, 1, 2], acts: vec![Act::Fail(2)], ..Scope::small(script) };
    search_failure(scope.homes(moves));
}

#[test]
fn an_instance_may_fail_while_the_members_change() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1], [0, 1]), (&[0, 1, 2], [2, 1])];
    let one: &[&[Load]] = &[&[load(1, 0, Wait), load(1, 0, Wait)]];
    for failed in [0, 2] {
        let acts = vec![Act::Change(vec![0, 1, 2]), Act::Fail(failed)];
        search_failure(Scope { acts, ..Scope::small(one).one_slot() }.homes(moves));
    }
    let leaves: &[(&[u8], [u8; 2])] = &[(&[0, 1, 2], [2, 1]), (&[0, 1], [0, 1])];
    let acts = vec![Act::Change(vec![0, 1]), Act::Fail(2)];
    search_failure(
        Scope { members: vec![0, 1, 2], acts, ..Scope::small(one).one_slot() }.homes(leaves),
    );
}

#[test]
fn what_waits_where_a_slot_was_is_not_lost_with_who_has_taken_it_over() {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1], [0, 1]), (&[0, 1, 2], [2, 1])];
    // The home hands over what is asked for there and waits for the packet in front of it.
    let script: &[&[Load]] = &[&[load(0, 0, Plain), load(1, 0, Blind)]];
    let acts = vec![Act::Change(vec![0, 1, 2]), Act::Fail(2)];
    for stepped in [false, true] {
        let scope = Scope { acts: acts.clone(), stepped, ..Scope::small(script).one_slot() };
        search_failure(scope.homes(moves));
    }
}

#[test]
fn at_its_bounds_a_share_refuses_and_waits_for_nothing() {
    let scope = at_home(MIXED[0]);
    let limits = crate::scope::bounded(scope.limits, 1, 16);
    let report = search(Scope { limits, ..scope.clone() });
    assert!(report.lossy > 0 && report.lossy < report.ends, "{report}");
    let limits = crate::scope::bounded(scope.limits, 16, 1);
    let report = search(Scope { limits, ..scope }.strict());
    assert!(report.lossy > 0 && report.lossy < report.ends, "{report}");
}

#[test]
fn time_may_pass_at_any_moment() {
    let script: &[&[Load]] = &[&[load(1, 0, Wait), load(0, 0, Wait)], &[load(1, 0, Lazy)]];
    for scope in [at_home(script), at_home(script).strict()] {
        let report = search(Scope { timeouts: true, ..scope });
        assert!(report.lossy > 0, "{report}");
    }
}
