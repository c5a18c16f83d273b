//! Panics, as lines of the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

/// Logs panics from now on, with their backtraces where `RUST_BACKTRACE` asks for them.
pub(crate) fn log() {
    panic::set_hook(Box::new(|panic| {
        // In no span: the thread may hold the lock of the one that it is in.
        tracing::error!(parent: None, "{}", told(panic, &Backtrace::capture()));
    }));
}

fn told(panic: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("<unnamed>");
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("Box<dyn Any>");
    let told = format!("thread '{thread}' panicked{place}: {message}");
    match backtrace.status() {
        BacktraceStatus::Captured => format!("{told}\n{backtrace}"),
        _ => told,
    }
}
