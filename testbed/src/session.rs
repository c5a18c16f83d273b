//! A session of its own for a program whose result must not depend on what else the terminal runs.

use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Builder;

/// Tells the program that it has been started again.
const MARK: &str = "WEIR_TESTBED_SESSION";

/// Runs this program again, with the same arguments, in a session of its own that has the largest
/// share of the CPU (sched(7), autogroup), and passes an interrupt on to it. Returns the exit code
/// of that run; none when this is already it.
///
/// # Errors
/// When it cannot be started again.
pub fn run_again() -> Result<Option<ExitCode>> {
    if std::env::var_os(MARK).is_some() {
        // Kernels without autogroups have no such file, and share by process anyway.
        let _no_autogroups = fs::write("/proc/self/autogroup", "-20");
        return Ok(None);
    }
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let child = command.env(MARK, "1").stdin(Stdio::null()).spawn().context("starting setsid")?;
    wait(child).map(Some)
}

/// Waits for the end of the child; each interrupt or termination of this process goes to it.
fn wait(mut child: Child) -> Result<ExitCode> {
    use tokio::signal::unix::{SignalKind, signal};
    let pid = Pid::from_child(&child);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        let status = loop {
            tokio::select! {
                status = &mut ended => break status??,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // It may have ended in this moment.
            let _gone = kill_process(pid, Signal::INT);
        };
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    })
}
