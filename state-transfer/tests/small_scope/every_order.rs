//! Every interleaving of two steerers, two flows and up to five packets.

use weir_state_transfer::mark::Guarantee;

use crate::explore::{Report, explore};
use crate::scope::{Change, Grouping, Room, Scope};

/// Five packets, divided among two flows and two steerers.
const FIVE: [&[&[u8]]; 4] = [
    &[&[0, 1, 0], &[0, 1]],
    &[&[0, 0, 0], &[0, 0]],
    &[&[1, 0, 1], &[1, 1]],
    &[&[0, 0, 1, 1], &[0]],
];

fn search(scope: Scope) -> Report {
    let shown = scope.clone();
    explore(scope).unwrap_or_else(|failure| panic!("{failure}in {shown:?}"))
}

/// Searches scopes in which nothing may be lost.
fn search_all(scopes: impl IntoIterator<Item = Scope>) {
    for scope in scopes {
        let undos = scope.undos;
        let (script, homes, by) = (scope.script.clone(), scope.homes.clone(), scope.by);
        let report = search(scope);
        println!("{script:?} on {homes:?} by {by:?}, {undos} undos: {report}");
        assert_eq!((report.lossy, report.reordered), (0, 0), "the hold has room for all");
        assert!(report.done > 0 && (undos == 0 || report.undone > 0), "{report}");
    }
}

#[test]
fn a_move_loses_and_reorders_nothing() {
    search_all(FIVE.map(Scope::small));
    let by = [Grouping::Bucket(1), Grouping::Bucket(2)];
    search_all(by.map(|by| Scope { by, ..Scope::small(FIVE[0]) }));
}

#[test]
fn a_move_can_be_undone_at_any_moment() {
    search_all([Scope { undos: 1, ..Scope::small(FIVE[0]) }]);
    search_all([Scope { undos: 1, by: Grouping::Bucket(2), ..Scope::small(FIVE[3]) }]);
}

#[test]
fn a_step_that_takes_too_long_is_undone_at_any_moment() {
    search_all([Scope { undos: 1, timeout: true, ..Scope::small(&[&[0, 1], &[0, 1]]) }]);
}

#[test]
fn a_full_hold_undoes_the_move_and_counts_what_it_loses() {
    for (undos, script) in [(0, FIVE[0]), (0, FIVE[1]), (0, FIVE[3]), (1, &[&[0, 1], &[0, 1]])] {
        let report = search(Scope { hold: 2, undos, ..Scope::small(script) });
        println!("{script:?}, {undos} undos: {report}");
        assert!(report.done > 0 && report.undone > 0 && report.lossy > 0, "{report}");
    }
}

#[test]
fn steerers_may_run_the_instances() {
    let script: &[&[u8]] = &[&[0, 1, 0], &[0, 1]];
    let shorter: &[&[u8]] = &[&[0, 1], &[0, 1]];
    for (source, destination) in [(0, 1), (0, 2), (2, 0), (0, 0), (2, 2)] {
        search_all([Scope::small(script).on(source, destination)]);
        search_all([Scope { undos: 1, ..Scope::small(shorter).on(source, destination) }]);
    }
}

#[test]
fn moves_of_the_same_flows_follow_each_other() {
    let there = Change { from: 0, to: 1, flows: (0, 1) };
    let back = Change { from: 1, to: 0, flows: (0, 1) };
    let again = Change { from: 0, to: 1, flows: (0, 0) };
    let slow = vec![2, 3];
    let moves = vec![there.clone(), back];
    search_all([Scope { moves, slow: slow.clone(), ..Scope::small(&[&[0, 1], &[0]]) }]);
    let moves = vec![there, again];
    search_all([Scope { moves, slow, undos: 1, ..Scope::small(&[&[0], &[0]]) }]);
}

#[test]
fn a_move_that_is_undone_lets_the_next_begin() {
    let change = Change { from: 0, to: 1, flows: (0, 1) };
    let moves = vec![change.clone(), change];
    for timeout in [false, true] {
        let scope = Scope { undos: 1, timeout, reduce: false, ..Scope::small(&[&[0]]) };
        search_all([Scope { moves: moves.clone(), ..scope }]);
    }
}

/// Searches scopes of moves that promise less than order.
fn search_promising(guarantee: Guarantee, scopes: impl IntoIterator<Item = Scope>) -> Vec<Report> {
    let shown = |scope: Scope| {
        let (script, by, undos) = (scope.script.clone(), scope.by, scope.undos);
        let report = search(Scope { guarantee, ..scope });
        println!("{guarantee}: {script:?} by {by:?}, {undos} undos: {report}");
        assert!(report.done > 0 && (undos == 0 || report.undone > 0), "{report}");
        report
    };
    scopes.into_iter().map(shown).collect()
}

/// Scopes that differ in what moves and where.
fn various() -> [Scope; 5] {
    [
        Scope::small(FIVE[0]),
        Scope { by: Grouping::Bucket(2), ..Scope::small(FIVE[3]) },
        Scope { undos: 1, ..Scope::small(&[&[0, 1], &[0, 1]]) },
        Scope::small(FIVE[0]).on(0, 1),
        Scope { undos: 1, ..Scope::small(&[&[0, 1], &[0, 1]]).on(2, 2) },
    ]
}

#[test]
fn a_loss_free_move_loses_nothing_and_may_reorder() {
    let reports = search_promising(Guarantee::LossFree, various());
    assert!(reports.iter().all(|report| report.lossy == 0));
    assert!(reports[..4].iter().all(|report| report.reordered > 0), "{reports:?}");
}

#[test]
fn a_move_that_promises_nothing_loses_packets_which_it_counts_and_has_one_owner() {
    let reports = search_promising(Guarantee::None, various());
    assert!(reports.iter().all(|report| report.lossy > 0), "{reports:?}");
}

#[test]
fn moves_of_the_same_flows_follow_each_other_whatever_they_promise() {
    let there = Change { from: 0, to: 1, flows: (0, 1) };
    let back = Change { from: 1, to: 0, flows: (0, 1) };
    let moves = vec![there, back];
    for guarantee in [Guarantee::None, Guarantee::LossFree] {
        let scope = Scope::small(&[&[0, 1], &[0]]);
        search_promising(guarantee, [Scope { moves: moves.clone(), slow: vec![2, 3], ..scope }]);
    }
}

#[test]
fn state_of_several_flows_is_there_before_any_packet_that_is_released() {
    for multi_flow in [Some(Room::Ample), Some(Room::Full)] {
        let four: &[&[u8]] = &[&[0, 1], &[0, 1]];
        let scopes = || {
            let undone = Scope { undos: 1, ..Scope::small(four) };
            let bucket = Scope { by: Grouping::Bucket(2), ..Scope::small(four) };
            [Scope::small(four), bucket, undone].map(|scope| Scope { multi_flow, ..scope })
        };
        search_all(scopes());
        let reports = search_promising(Guarantee::LossFree, scopes());
        assert!(reports.iter().all(|report| report.lossy == 0));
        search_promising(Guarantee::None, scopes());
    }
}

#[test]
fn reduction_leaves_out_no_outcome_whatever_is_promised() {
    for guarantee in [Guarantee::None, Guarantee::LossFree] {
        for multi_flow in [None, Some(Room::Full)] {
            let scope = Scope { guarantee, multi_flow, undos: 1, ..Scope::small(&[&[0, 1], &[0]]) };
            let all = search(Scope { reduce: false, ..scope.clone() });
            let reduced = search(scope);
            println!("{guarantee}: {all}; reduced: {reduced}");
            assert_eq!(all.observed, reduced.observed);
            assert!(reduced.states < all.states);
        }
    }
}

#[test]
fn reduction_leaves_out_no_outcome() {
    for (hold, undos) in [(16, 1), (1, 0)] {
        let scope = Scope { hold, undos, ..Scope::small(&[&[0, 1], &[0]]) };
        let all = search(Scope { reduce: false, ..scope.clone() });
        let reduced = search(scope);
        println!("hold {hold}: {all}; reduced: {reduced}");
        assert_eq!(all.observed, reduced.observed);
        assert!(reduced.states < all.states);
    }
}
