//! Random schedules of the shipped node, workers and rings over memory ports, beside a naive
//! reference; and broken protocols that the same schedules must notice.
//!
//! `WEIR_SCHEDULES` says how many (10,000 unless set), `WEIR_SEED` repeats one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a test prints its seed and what it did")]

mod action;
mod by_hand;
mod failure;
mod faults;
mod judge;
mod reference;
mod selection;
mod shape;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use weir_testbed::memory_node;

use action::Action;
use failure::{Failure, Kind};
use faults::Fault;
use judge::Summary;
use shape::Shape;
use world::World;

/// Schedules in which every fault must have been noticed.
const CONTROLS: u64 = 100;
/// Schedules that found a defect once, as long as the walk stays as it is: a next hop asked for
/// while its port changes hands; a move, and a second change of the workers, while a worker
/// leaves; an answer for a source whose move was undone meanwhile.
const REGRESSIONS: [u64; 6] = [37, 110, 147, 219, 223, 374];

/// Runs one schedule; what happened until it failed is in `log`.
fn run(seed: u64, fault: Option<Fault>, log: &mut Vec<Action>) -> Result<Summary, Failure> {
    let walk = AssertUnwindSafe(|| {
        let (mut world, mut rng) = World::new(seed, fault)?;
        for _ in 0..world.shape.steps {
            let action = action::choose(&world, &mut rng);
            log.push(action.clone());
            world.apply(&action)?;
        }
        world.finish()
    });
    catch_unwind(walk).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        Err(Kind::Panicked.at(what.unwrap_or_default()))
    })
}

/// Runs a schedule that must not fail.
fn must_hold(seed: u64, fault: Option<Fault>) -> Summary {
    let mut log = Vec::new();
    run(seed, fault, &mut log).unwrap_or_else(|failure| {
        for (n, action) in log.iter().enumerate() {
            println!("{n:4} {action:?}");
        }
        println!("{:?}", Shape::new(&mut fastrand::Rng::with_seed(seed), seed));
        panic!("WEIR_SEED={seed}: after {} actions: {failure}", log.len());
    })
}

/// Runs schedules with these seeds on all cores; the first that fails is repeated to be shown.
fn must_all_hold(seeds: std::ops::Range<u64>, fault: Option<Fault>) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let (total, failed) = (Mutex::new(Summary::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let walk = || {
        HOPED_FOR.set(true);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Ok(summary) = run(seed, fault, &mut Vec::new()) {
                total.lock().expect("nobody panics with it").add(&summary);
            } else {
                *failed.lock().expect("nobody panics with it") = Some(seed);
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(walk))));
    if let Some(seed) = failed.into_inner().expect("nobody panics with it") {
        must_hold(seed, fault);
    }
    total.into_inner().expect("nobody panics with it")
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

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

#[test]
fn random_schedules_lose_duplicate_and_reorder_nothing() {
    mute_panics();
    if let Some(seed) = number("WEIR_SEED") {
        println!("{:?}", must_hold(seed, None));
        return;
    }
    let count = number("WEIR_SCHEDULES").unwrap_or(10_000);
    let first = fastrand::u64(..1 << 48);
    println!("{count} schedules from seed {first}");
    let total = must_all_hold(first..first + count, None);
    println!("{total:?}");
    assert_eq!(total.schedules, count);
    // What the schedules are for does happen in them.
    assert!(total.done > count && total.undone > count / 10 && total.held > count);
    assert!(total.unresolved > count / 10);
    assert!(total.in_transit > count / 10 && total.reordered > count / 100);
    assert!(total.multi_flow > count / 10);
}

#[test]
fn schedules_that_found_a_defect_hold() {
    mute_panics();
    for seed in REGRESSIONS {
        must_hold(seed, None);
    }
}

#[test]
fn splices_without_a_fault_change_nothing() {
    mute_panics();
    must_all_hold(0..200, Some(Fault::None));
}

/// The fault is noticed within some schedules, as one of these kinds.
#[track_caller]
fn is_noticed(fault: Fault, kinds: &[Kind]) {
    mute_panics();
    let found = (0..CONTROLS).find_map(|seed| {
        HOPED_FOR.set(true);
        let result = run(seed, Some(fault), &mut Vec::new());
        HOPED_FOR.set(false);
        Some((seed, result.err()?))
    });
    let Some((seed, failure)) = found else {
        panic!("{fault:?} is not noticed in {CONTROLS} schedules");
    };
    println!("{fault:?} shows in schedule {seed}: {failure}");
    assert!(kinds.contains(&failure.kind), "{fault:?} shows as {failure}");
}

#[test]
fn notices_that_nothing_is_held() {
    is_noticed(Fault::NoHold, &[Kind::Reordered, Kind::State, Kind::Stray, Kind::Owner]);
}

#[test]
fn notices_a_marker_one_packet_early() {
    is_noticed(Fault::MarkerEarly, &[Kind::Reordered, Kind::State, Kind::Stray]);
}

#[test]
fn notices_an_export_before_the_last_marker() {
    is_noticed(Fault::MarkerForged, &[Kind::Reordered, Kind::State, Kind::Stray, Kind::Owner]);
}

#[test]
fn notices_a_destination_that_transmits_before_the_source_has_drained() {
    is_noticed(Fault::CompletedEarly, &[Kind::Reordered]);
}

#[test]
fn notices_a_hold_released_out_of_order() {
    is_noticed(Fault::ReleasedOutOfOrder, &[Kind::Reordered]);
}

#[test]
fn notices_state_that_is_deleted_instead_of_moved() {
    is_noticed(Fault::Deleted, &[Kind::State]);
}

#[test]
fn notices_what_network_functions_know_left_behind() {
    is_noticed(Fault::StatesForgotten, &[Kind::State]);
}

#[test]
fn notices_ports_that_do_not_keep_a_flow_in_its_bucket() {
    // The answer to a stranger leaves in the place of what came back.
    is_noticed(Fault::PortsAstray, &[Kind::Dropped, Kind::Corrupted, Kind::Collided]);
}

#[test]
fn notices_a_packet_counted_twice() {
    is_noticed(Fault::CountedTwice, &[Kind::State]);
}

#[test]
fn notices_an_end_before_the_last_piece() {
    is_noticed(Fault::EndEarly, &[Kind::State, Kind::Stray, Kind::Owner, Kind::Stuck]);
}

#[test]
fn notices_a_packet_that_waits_for_its_next_hop_behind_its_state() {
    is_noticed(Fault::ParkedLate, &[Kind::Reordered]);
}

#[test]
fn notices_state_of_several_flows_left_behind() {
    is_noticed(Fault::MultiFlowForgotten, &[Kind::State]);
}

#[test]
fn notices_a_move_that_keeps_no_order() {
    is_noticed(Fault::OnlyLossFree, &[Kind::Reordered]);
}

#[test]
fn notices_a_move_that_promises_nothing() {
    is_noticed(Fault::NoGuarantee, &[Kind::Dropped, Kind::Reordered]);
}
