//! Shares of the shipped node, workers and rings over memory ports: instances that share limits of
//! sources judge as one firewall does, in every schedule; and broken shares that are noticed.
//!
//! `WEIR_SCHEDULES` says how many (1,000 unless set), `WEIR_SEED` repeats one.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and tell")]

mod by_hand;
mod judge;
mod relays;
mod scans;
mod setup;
mod subscriptions;
mod translations;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use weir_testbed::memory_node;

use judge::Total;
use world::{Broken, World};

/// Schedules in which each fault must have been noticed.
const CONTROLS: u64 = 100;

thread_local! {
    /// Whether a panic on this thread is a finding that was hoped for.
    static HOPED_FOR: Cell<bool> = const { Cell::new(false) };
}

/// Panics that were asked for, or hoped for, are not worth a message each.
fn mute_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let asked_for = panic.payload().downcast_ref::<&str>() == Some(&memory_node::FAULT);
            if !asked_for && !HOPED_FOR.get() {
                before(panic);
            }
        }));
    });
}

/// Runs one schedule; what is wrong with it, if anything.
fn run(seed: u64, broken: Broken) -> Result<Total, String> {
    let walk = AssertUnwindSafe(|| World::new(seed, broken).walk());
    catch_unwind(walk).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        Err(what.unwrap_or_default())
    })
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

fn must_hold(broken: Broken, count: u64) -> Total {
    mute_panics();
    let seeds = match number("WEIR_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = fastrand::u64(..1 << 48);
            first..first + number("WEIR_SCHEDULES").unwrap_or(count)
        }
    };
    println!("seeds {seeds:?}");
    let mut total = Total::default();
    for seed in seeds {
        total += run(seed, broken).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    println!("{total:?}");
    total
}

#[test]
fn instances_that_share_judge_as_one_and_lose_and_reorder_nothing() {
    let total = must_hold(Broken::Nothing, 1_000);
    // What the schedules are for does happen in them.
    assert!(total.refused > total.schedules && total.admitted > total.schedules);
    assert!(total.waited > total.schedules && total.changes > total.schedules / 4);
}

#[test]
fn splices_without_a_fault_change_nothing() {
    must_hold(Broken::Spliced, 100);
}

#[test]
fn workers_that_panic_let_no_source_begin_too_much() {
    let total = must_hold(Broken::Panics, 300);
    assert!(total.panics > total.schedules / 2);
}

/// The fault is noticed within some schedules.
#[track_caller]
fn is_noticed(broken: Broken) {
    mute_panics();
    let found = (0..CONTROLS).find_map(|seed| {
        HOPED_FOR.set(true);
        let result = run(seed, broken);
        HOPED_FOR.set(false);
        Some((seed, result.err()?))
    });
    let Some((seed, what)) = found else {
        panic!("{broken:?} is not noticed in {CONTROLS} schedules");
    };
    println!("{broken:?} shows in schedule {seed}: {what}");
}

#[test]
fn notices_that_nothing_is_shared() {
    is_noticed(Broken::NotShared);
}

#[test]
fn notices_that_a_share_is_not_strict() {
    is_noticed(Broken::OnlyStrong);
}

#[test]
fn notices_messages_that_are_lost() {
    is_noticed(Broken::Lost);
}

#[test]
fn notices_messages_that_overtake_each_other() {
    is_noticed(Broken::Swapped);
}
