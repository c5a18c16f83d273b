//! Every interleaving of two steerers, two flows and up to five packets.

use crate::explore::{Report, explore};
use crate::scope::{Change, Grouping, Scope};

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
        assert_eq!(report.lossy, 0, "the hold has room for all");
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
