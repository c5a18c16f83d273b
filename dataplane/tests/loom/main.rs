//! Every interleaving of the threads that share the lock-free pieces of the data plane.
//!
//! The pieces are compiled here a second time, from the same files, with the atomics of [`sync`].
//! They are not built with `--cfg loom`, as the crates below are: tokio has no signals under that
//! setting. Each model has negative controls, in which it must find the fault: with weaker
//! orderings than those of the code, or without what the code asks of its caller.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod adjacency;
mod route_table;
mod sleep_flag;
mod sync;

/// What the pieces use of the rest of the crate.
mod packet {
    pub(crate) use weir_dataplane::packet::MacAddr;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs a model in all interleavings with at most three preemptions, or `LOOM_MAX_PREEMPTIONS`.
#[expect(clippy::print_stdout, reason = "how much a test has covered")]
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    // A group of the route table is filled word by word.
    builder.max_branches = 10_000;
    let interleavings = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&interleavings);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} interleavings", interleavings.load(Ordering::Relaxed));
}
