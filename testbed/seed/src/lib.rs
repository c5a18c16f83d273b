//! The seed of a random test, which is printed and can be given back: `WEIR_SEED=n cargo test ...`
//! makes the same run again. For tests alone: nothing that is shipped uses it.
//!
//! All tests of a process have one seed, so that a test that asks more than once, or by way of what
//! helps it, is given back whole. Who needs different numbers derives them from it.
//!
//! - [`rng`] or [`seed`]: a test that is one run.
//! - [`seeds`] or [`schedules`], and [`each`]: a test of many, each of which follows from a seed of
//!   its own; `WEIR_SEED` repeats one.
//! - [`any`]: a number that decides nothing.
#![forbid(unsafe_code)]

use std::env;
use std::ops::Range;
use std::sync::OnceLock;
use std::thread;

/// Names the seed that is given back.
const SEED: &str = "WEIR_SEED";
/// Names how many schedules are run.
const SCHEDULES: &str = "WEIR_SCHEDULES";
/// Seeds are drawn below: there is room to count on from each.
const DRAWN_END: u64 = 1 << 48;

/// The seed of this process: what `WEIR_SEED` says, or one that is drawn at the first call. It is
/// printed at each call, so that every test that fails shows it.
///
/// # Panics
/// When the variable is not a number.
pub fn seed() -> u64 {
    let seed = given().unwrap_or_else(drawn);
    eprintln!("{SEED}={seed}");
    seed
}

/// Random numbers that follow from [`seed`], the same at each call.
///
/// # Panics
/// When the variable is not a number.
pub fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(seed())
}

/// What `WEIR_SEED` says, if it is set: then a test of many schedules runs one, and does not judge
/// what is in all of them.
///
/// # Panics
/// When it is not a number.
pub fn given() -> Option<u64> {
    number(SEED)
}

/// The seeds of so many schedules, others in each process; the one that `WEIR_SEED` says, if it is
/// set. Whoever runs them says which has failed, as [`each`] does.
///
/// # Panics
/// When the variable is not a number.
pub fn seeds(count: u64) -> Range<u64> {
    let (first, count) = given().map_or_else(|| (drawn(), count), |seed| (seed, 1));
    eprintln!("{count} schedules, the first is that of {SEED}={first}");
    first..first + count
}

/// The [`seeds`] of as many schedules as `WEIR_SCHEDULES` says, `count` unless it is set.
///
/// # Panics
/// When a variable is not a number.
pub fn schedules(count: u64) -> Range<u64> {
    seeds(number(SCHEDULES).unwrap_or(count))
}

/// Runs a schedule after the other, and says which it was when one panics.
pub fn each(seeds: impl IntoIterator<Item = u64>, mut run: impl FnMut(u64)) {
    for seed in seeds {
        let _shown = Shown(seed);
        run(seed);
    }
}

/// Any number, another at each call: for names and ids, of which a test needs only that they are
/// different. Nothing that a test decides may follow from it, as nobody can give it back. A program
/// that shows its seed and takes it back itself may draw that here.
pub fn any() -> u64 {
    fastrand::u64(..)
}

/// Shows the seed of a schedule that panics.
struct Shown(u64);

impl Drop for Shown {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat it with {SEED}={}", self.0);
        }
    }
}

/// The seed of a process that is given none.
fn drawn() -> u64 {
    static DRAWN: OnceLock<u64> = OnceLock::new();
    *DRAWN.get_or_init(|| fastrand::u64(..DRAWN_END))
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var_os(variable)?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{variable}={} is not a number", value.display())))
}

#[cfg(test)]
mod tests;
