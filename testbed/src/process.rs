//! A child process that ends with its guard, and whose last words are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::wait::{self, Deadline};

/// Lines kept for [`Process::wait_for_line`]; older ones are in the log file only.
const LINES_KEPT: usize = 4096;
/// Lines shown when something failed.
const LINES_SHOWN: usize = 30;

/// A running program, killed when dropped. What it prints goes to a file, the last lines to memory.
///
/// It runs in a session of its own: Ctrl-C reaches the testbed alone, which then stops it in order,
/// and its share of the CPU does not depend on what else was started from the same terminal.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Becomes readable when the process ends.
    ended: OwnedFd,
    output: Arc<Output>,
}

impl Process {
    /// Starts `command`; what it prints to either stream is written to `log`.
    ///
    /// # Errors
    /// When the program or the log file cannot be opened.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut child =
            in_own_session(command).spawn().with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_child(&child);
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let output = Arc::new(Output::default());
        for stream in [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let (output, file) = (Arc::clone(&output), file.try_clone()?);
            output.open.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || output.collect(stream, file));
        }
        Ok(Self { name: name.to_owned(), child, ended, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it the largest share of the CPU that the scheduler knows (sched(7), autogroup).
    ///
    /// A router that waits behind a compiler for its core shows the scheduler, not itself. To be
    /// called when the program is known to run; without effect on kernels that have no autogroups.
    pub fn prefer(&self) {
        let _no_autogroups = std::fs::write(format!("/proc/{}/autogroup", self.pid()), "-20");
    }

    /// Waits for a line that contains `text`, printed at any time since the start.
    ///
    /// # Errors
    /// When the limit passes or the process ends first.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(line) = self.output.wait_for(text, deadline.left().min(LOOK_AT_CHILD)) {
                return Ok(line);
            }
            if let Some(status) = self.ended()? {
                let printed = self.output.wait_for(text, Duration::ZERO);
                return printed.ok_or_else(|| self.ended_by_itself(status));
            }
            if deadline.left().is_zero() {
                return Err(self.failure(&format!("did not print \"{text}\" within {limit:?}")));
            }
        }
    }

    /// Waits until the Unix socket at `path` takes connections.
    ///
    /// # Errors
    /// When the limit passes or the process ends first.
    pub fn wait_for_socket(&mut self, path: &Path, limit: Duration) -> Result<()> {
        let deadline = Deadline::after(limit);
        while UnixStream::connect(path).is_err() {
            let mut ended = [PollFd::new(&self.ended, PollFlags::IN)];
            wait::pause(&mut ended, Duration::from_millis(2))?;
            self.check_running()?;
            if deadline.left().is_zero() {
                let what = format!("did not open {} within {limit:?}", path.display());
                return Err(self.failure(&what));
            }
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it is still there at the limit.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Kills it (SIGKILL) and waits for its end. One that has ended already is no failure.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.output.wait_for_end();
        Ok(status)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.check_running()?;
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still there at the limit.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut ended = [PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN)];
        if !wait::pause(&mut ended, limit)? {
            return Err(self.failure(&format!("has not ended within {limit:?}")));
        }
        let status = self.child.wait()?;
        self.output.wait_for_end();
        Ok(status)
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// With its exit status and last words.
    pub fn check_running(&mut self) -> Result<()> {
        self.ended()?.map_or(Ok(()), |status| Err(self.ended_by_itself(status)))
    }

    /// How it has ended, if it has: then all that it has printed is among the lines.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.output.wait_for_end();
        }
        Ok(status)
    }

    /// The lines kept, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.output.lines().iter().cloned().collect()
    }

    /// An error that says how it ended, with its last words.
    pub fn ended_badly(&self, status: ExitStatus) -> anyhow::Error {
        self.failure(&format!("ended badly: {status}"))
    }

    fn ended_by_itself(&self, status: ExitStatus) -> anyhow::Error {
        self.failure(&format!("ended by itself: {status}"))
    }

    fn failure(&self, what: &str) -> anyhow::Error {
        let lines = self.lines();
        let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
        anyhow!("{} {what}; its last lines:\n{}", self.name, shown.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: it may have ended.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if thread::panicking() {
            let mut stderr = std::io::stderr();
            let _closed = writeln!(stderr, "{}", self.failure("was running when the test failed"));
        }
    }
}

/// The same command by way of setsid(1), which becomes the program: the process id stays.
fn in_own_session(command: &Command) -> Command {
    let mut wrapped = Command::new("setsid");
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wrapped
}

/// How often a waiter for a line looks whether the process has ended.
const LOOK_AT_CHILD: Duration = Duration::from_millis(50);

/// How long the last words of a process are waited for that has ended: others that it has started may
/// go on and hold its streams.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The last lines that a process printed.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<VecDeque<String>>,
    /// Streams that are read, and may have more.
    open: AtomicUsize,
    grown: Condvar,
}

impl Output {
    fn collect(&self, stream: impl Read, mut file: File) {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // A full disk must not stop the process that prints.
            let _full = writeln!(file, "{line}");
            let mut lines = self.lines();
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
            self.grown.notify_all();
        }
        let _lines = self.lines();
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.grown.notify_all();
    }

    /// Waits until all that was printed is among the lines.
    fn wait_for_end(&self) {
        let is_open = |_: &mut VecDeque<String>| self.open.load(Ordering::Relaxed) > 0;
        let waited = self.grown.wait_timeout_while(self.lines(), LAST_WORDS, is_open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn wait_for(&self, text: &str, limit: Duration) -> Option<String> {
        let find = |lines: &VecDeque<String>| lines.iter().find(|l| l.contains(text)).cloned();
        let lines = self.lines();
        let (lines, _timeout) = self
            .grown
            .wait_timeout_while(lines, limit, |lines| find(lines).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        find(&lines)
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path of a program of this workspace, beside the one that runs.
///
/// # Errors
/// When it has not been built.
pub fn sibling(program: &str) -> Result<std::path::PathBuf> {
    let own = std::env::current_exe()?;
    // Tests run from target/<profile>/deps, programs from target/<profile>.
    for folder in own.ancestors().skip(1).take(2) {
        let path = folder.join(program);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{program} is not built; `cargo build --workspace --bins` makes it (`make test` does)")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::wait::LIMIT;

    fn shell(script: &str, log: &str) -> (Process, PathBuf) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let path = std::env::temp_dir().join(format!("weir-{}-{log}.log", std::process::id()));
        (Process::spawn("shell", &command, &path).unwrap(), path)
    }

    #[test]
    fn a_line_is_found_whether_it_comes_before_or_after_the_wait() {
        let (mut process, log) = shell("echo one; echo two >&2; read never", "lines");
        // Standard input is closed, so `read` ends at once and the shell with it.
        assert_eq!(process.wait_for_line("two", LIMIT).unwrap(), "two");
        assert_eq!(process.wait_for_line("one", LIMIT).unwrap(), "one");
        assert!(!process.wait(LIMIT).unwrap().success());
        assert!(std::fs::read_to_string(&log).unwrap().contains("two"));
        std::fs::remove_file(log).unwrap();
    }

    /// One that it has started prints once the process is waited for, whose id is free then.
    #[test]
    fn a_line_is_found_that_comes_when_the_process_has_been_seen_to_end() {
        let late = "(while kill -0 $$ 2>&-; do :; done; echo late) & exit 7";
        let (mut process, log) = shell(late, "late");
        assert_eq!(process.wait_for_line("late", LIMIT).unwrap(), "late");
        std::fs::remove_file(log).unwrap();
        let (mut process, log) = shell(late, "late-words");
        let running = || process.check_running().err();
        let error = wait::until("its end", LIMIT, running).unwrap().to_string();
        assert!(error.contains("exit status: 7") && error.contains("late"), "{error}");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn all_that_a_process_has_printed_is_there_when_it_has_ended() {
        let (mut process, log) =
            shell("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done", "all");
        assert!(process.wait(LIMIT).unwrap().success());
        assert_eq!(process.lines().last().map(String::as_str), Some("3000"));
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let (mut process, log) = shell("echo my last words; exit 7", "early");
        process.wait_for_line("last words", LIMIT).unwrap();
        let error = process.wait_for_line("never", LIMIT).unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.contains("my last words"), "{error}");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_process_has_a_session_of_its_own_and_keeps_its_id() {
        let (mut process, log) =
            shell("cut -d ' ' -f 1,6 /proc/$$/stat; exec sleep 1000", "session");
        let pid = process.pid();
        process.wait_for_line(&format!("{pid} {pid}"), LIMIT).unwrap();
        drop(process);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let (process, log) = shell("exec sleep 1000", "dropped");
        let proc = format!("/proc/{}", process.pid());
        assert!(Path::new(&proc).exists());
        drop(process);
        assert!(!Path::new(&proc).exists());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_socket_is_waited_for_until_it_takes_connections() {
        let (mut process, log) = shell("exec sleep 1000", "socket");
        let path = std::env::temp_dir().join(format!("weir-{}.sock", std::process::id()));
        let short = Duration::from_millis(5);
        assert!(process.wait_for_socket(&path, short).is_err());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        process.wait_for_socket(&path, LIMIT).unwrap();
        drop(listener);
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(log).unwrap();
    }
}
