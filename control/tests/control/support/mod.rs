//! What the tests share: a naive data plane, a fake of its API, and a sidecar in a thread.

pub(crate) mod fake;
pub(crate) mod gate;
pub(crate) mod model;
pub(crate) mod nf;
pub(crate) mod node;
pub(crate) mod peers;
mod policies;
mod shares;
pub(crate) mod source;
pub(crate) mod spoiling;
pub(crate) mod stalls;
pub(crate) mod state;

/// A seed that is printed, so that a failure can be repeated with `WEIR_TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("WEIR_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed} (repeat with WEIR_TEST_SEED={seed})");
    seed
}
