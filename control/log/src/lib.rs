//! The log of Weir's processes: lines on standard error that nobody who logs waits for.
//!
//! Who reads standard error may stand still: a pipe is full then, and a write to it takes as long as
//! that lasts. Lines are written by a thread of their own, so it holds up no other. Those that it has
//! no room for are lost, and counted: the next line that is written says how many.

#![forbid(unsafe_code)]

mod lines;
mod panics;

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// What is logged whatever a filter says: panics, and why the process ends.
const ALWAYS: &str = "weir_log=error";

/// The thread that writes, until the end of the log.
static WRITING: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// The log of a process, which has all of it written when it is dropped, as [`flush`] does.
#[derive(Debug)]
#[must_use = "what is logged when it was dropped is lost"]
pub struct Log(());

/// Begins to log what the filter lets through to standard error, in colours where that is a terminal.
/// Panics are logged too, in place of what the standard library writes of them.
///
/// # Errors
///
/// When the process has too many files open, or logs already.
pub fn start(filter: EnvFilter) -> io::Result<Log> {
    // Of its own, as the lock of `io::stderr` would be held by a write that takes for ever.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let ansi = stderr.is_terminal();
    let (lines, writing) = lines::start(stderr);
    tracing_subscriber::fmt()
        .with_env_filter(filter.add_directive(ALWAYS.parse().expect("it is a directive")))
        .with_writer(move || lines.clone())
        .with_ansi(ansi)
        .try_init()
        .map_err(io::Error::other)?;
    *WRITING.lock().unwrap_or_else(PoisonError::into_inner) = Some(writing);
    panics::log();
    Ok(Log(()))
}

/// Has all written that was logged before, for what ends without dropping its [`Log`]. It takes a
/// second at most: what nobody has read until then is lost, as is what is logged later.
pub fn flush() {
    let writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(writing);
}

impl Log {
    /// Ends the log of a process that has ended like this: logs the error, whatever the filter says.
    pub fn end<E: Display>(self, ended: Result<(), E>) -> ExitCode {
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}
