//! Random schedules: each is run by its seed, many on all cores, and broken ones must be noticed.

mod failure;

use std::cell::Cell;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

pub use failure::{Failure, Kind};

use crate::memory_node::FAULT;

/// Schedules in which a fault must have been noticed: the rarest shows in one of ten.
const CONTROLS: u64 = 100;

thread_local! {
    /// Whether a panic on this thread is a finding that was hoped for.
    static HOPED_FOR: Cell<bool> = const { Cell::new(false) };
}

/// Panics that were asked for, or hoped for, are not worth a message each.
pub fn mute_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let asked_for = panic.payload().downcast_ref::<&str>() == Some(&FAULT);
            if !asked_for && !HOPED_FOR.get() {
                before(panic);
            }
        }));
    });
}

/// Walks through a schedule; a panic of the shipped code is a failure.
///
/// # Errors
/// What is wrong.
pub fn walk<T>(schedule: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(schedule)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        Err(Kind::Panicked.at(what.unwrap_or_default()))
    })
}

/// Runs the schedules of these seeds on all cores.
///
/// # Errors
/// A seed of one that has failed, to be repeated and shown.
///
/// # Panics
/// Never: schedules that panic have failed.
pub fn all<S: Default + AddAssign + Send>(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<S, Failure> + Sync,
) -> Result<S, u64> {
    let next = AtomicU64::new(seeds.start);
    let (total, failed) = (Mutex::new(S::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        HOPED_FOR.set(true);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Ok(summary) = run(seed) {
                *total.lock().expect("nobody panics with it") += summary;
            } else {
                *failed.lock().expect("nobody panics with it") = Some(seed);
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().expect("nobody panics with it");
    failed.map_or_else(|| Ok(total.into_inner().expect("nobody panics with it")), Err)
}

/// A fault must be noticed within some schedules, as one of these kinds.
///
/// # Panics
/// When it is not.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a test says what it has found")]
pub fn must_notice<S>(
    fault: impl std::fmt::Debug,
    kinds: &[Kind],
    run: impl Fn(u64) -> Result<S, Failure>,
) {
    mute_panics();
    let found = (0..CONTROLS).find_map(|seed| {
        HOPED_FOR.set(true);
        let result = run(seed);
        HOPED_FOR.set(false);
        Some((seed, result.err()?))
    });
    let Some((seed, failure)) = found else {
        panic!("{fault:?} is not noticed in {CONTROLS} schedules");
    };
    println!("{fault:?} shows in schedule {seed}: {failure}");
    assert!(kinds.contains(&failure.kind), "{fault:?} shows as {failure}");
}
