//! Shares of the shipped node, workers and rings over memory ports: instances that share limits of
//! sources judge as one firewall does, in every schedule; and broken shares that are noticed.
//!
//! `WEIR_SCHEDULES` says how many (1,000 unless set), `WEIR_SEED` repeats one.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell")]

mod anew;
mod by_hand;
mod counts;
mod full;
mod judge;
mod leaving;
mod relays;
mod scans;
mod setup;
mod strict;
mod subscriptions;
mod total;
mod translations;
mod world;

use std::fmt::Debug;
use std::ops::AddAssign;

use weir_testbed::schedule::{self, Failure, Kind, mute_panics, walk};

use total::Total;
use world::{Broken, World};

/// Schedules of workers that panic that have found something, and the secrets of their shares, tried
/// each time: an instance that waited for what one that had failed was going to hand over, ends of
/// connections that waited for a place which was lost, and ends that were handed over to an instance
/// that failed with them, so that the share did not end.
const FOUND: [(u64, u64); 4] = [
    (214_839_706_006_208, setup::KEY),
    (31_931_076_272_686, setup::KEY),
    (34_015_263_361_127, 34_015_263_361_127),
    (229_161_250_751_516, 229_161_250_751_516),
];

/// Runs one schedule.
fn run(seed: u64, broken: Broken) -> Result<Total, Failure> {
    run_by(seed, seed, broken)
}

/// Runs one schedule of a share with this secret.
fn run_by(seed: u64, key: u64, broken: Broken) -> Result<Total, Failure> {
    walk(|| World::new(seed, key, broken)?.walk())
}

/// Runs so many schedules, which must not fail.
fn must_hold<S: Default + AddAssign + Debug + Send>(
    count: u64,
    run: impl Fn(u64) -> Result<S, Failure> + Sync,
) -> S {
    mute_panics();
    let total = schedule::all(weir_seed::schedules(count), &run).unwrap_or_else(|seed| {
        let failure = run(seed).expect_err("it has failed");
        panic!("WEIR_SEED={seed}: {failure}")
    });
    println!("{total:?}");
    total
}

#[test]
fn instances_that_share_judge_as_one_and_lose_and_reorder_nothing() {
    let total = must_hold(1_000, |seed| run(seed, Broken::Nothing));
    assert_eq!(total.astray, 0);
    if weir_seed::given().is_some() {
        return;
    }
    // What the schedules are for does happen in them.
    assert!(total.refused > total.schedules && total.admitted > total.schedules);
    assert!(total.waited > total.schedules && total.changes > total.schedules / 2);
    assert!(total.busy_changes > total.schedules / 8);
    assert!(total.closed > total.again && total.again > total.schedules);
}

#[test]
fn splices_without_a_fault_change_nothing() {
    must_hold(100, |seed| run(seed, Broken::Spliced));
}

#[test]
fn workers_that_panic_let_no_source_begin_too_much() {
    let total = must_hold(300, |seed| run(seed, Broken::Panics));
    for (seed, key) in FOUND {
        let found = run_by(seed, key, Broken::Panics);
        found.unwrap_or_else(|failure| panic!("WEIR_SEED={seed}: {failure}"));
    }
    let count = total.schedules;
    if weir_seed::given().is_none() {
        assert!(total.panics > count && total.failed > count / 8);
        assert!(total.closed > count && total.again > count);
    }
}

/// The fault is noticed within some schedules, as one of these kinds.
#[track_caller]
fn is_noticed(broken: Broken, kinds: &[Kind]) {
    schedule::must_notice(broken, kinds, |seed| run(seed, broken));
}

#[test]
fn notices_that_nothing_is_shared() {
    is_noticed(Broken::NotShared, &[Kind::Excess]);
}

#[test]
fn notices_that_a_share_is_not_strict() {
    is_noticed(Broken::OnlyStrong, &[Kind::Reordered]);
}

#[test]
fn notices_that_a_share_is_not_strict_for_those_who_stay_while_others_join() {
    is_noticed(Broken::StrongAsOthersJoin, &[Kind::Reordered]);
}

#[test]
fn notices_what_is_refused_in_vain_while_others_join() {
    is_noticed(Broken::TooMuchAsOthersJoin, &[Kind::Denied]);
}

#[test]
fn notices_messages_that_are_lost() {
    is_noticed(Broken::Lost, &[Kind::Stuck, Kind::Counted]);
}

#[test]
fn notices_messages_that_overtake_each_other() {
    is_noticed(Broken::Swapped, &[Kind::Reordered]);
}

#[test]
fn notices_that_instances_forget_what_they_have_counted() {
    is_noticed(Broken::Forgetful, &[Kind::Counted]);
}
