//! The owner of the node: carries out calls, takes the workers' events, lets time pass.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

use super::AgentError;
use super::handle::Call;
use super::logs::Logs;
use crate::driver::{Clock, Sleeper, Threads};
use crate::node::Node;

/// The node with what it lives on.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) node: Node,
    pub(super) threads: Threads,
    pub(super) clock: Clock,
    pub(super) calls: mpsc::Receiver<Call>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) logs: Option<Logs>,
    /// Lost records that the log has told of.
    pub(super) lost_told: u64,
}

/// How often time passes for a node with moves in progress, and for one without.
const ACTIVE: Duration = Duration::from_millis(1);
const QUIET: Duration = Duration::from_millis(100);
/// Longest time in which moves are drained or undone when the process ends.
const STOP_MAX: Duration = Duration::from_secs(10);

impl Owner {
    /// Runs until `stop` is sent, and then until moves in progress have ended. The node and its
    /// threads are given back.
    ///
    /// # Errors
    ///
    /// When the event file of the workers cannot be waited for, or a worker gets no thread.
    pub(super) async fn run(
        mut self,
        events: Sleeper,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(Node, Threads), AgentError> {
        #[expect(deprecated, reason = "the file is open as long as the sleeper, which it owns")]
        let events = AsyncFd::with_interest(EventFile(events), Interest::READABLE)
            .map_err(AgentError::Events)?;
        let mut give_up = None;
        let mut called = false;
        loop {
            events.get_ref().0.announce();
            // Whatever ended the pause: a call may have come together with events.
            let eventful = self.carry_on()?;
            if eventful || called {
                self.changes.send_modify(|changes| *changes += 1);
            }
            called = false;
            let now = self.clock.now();
            if let Some(limit) = give_up
                && (self.is_quiet() || now >= limit)
            {
                if !self.is_quiet() {
                    tracing::warn!("moves and flows did not end within {STOP_MAX:?}");
                }
                return Ok((self.node, self.threads));
            }
            let tick = if self.is_quiet() { QUIET } else { ACTIVE };
            tokio::select! {
                call = self.calls.recv() => called = self.carry_out(call),
                ready = events.readable() => ready.map_err(AgentError::Events)?.clear_ready(),
                () = tokio::time::sleep(tick) => {}
                _ = &mut stop, if give_up.is_none() => {
                    self.node.stop(self.clock.now());
                    give_up = Some(self.clock.now() + STOP_MAX);
                }
            }
            events.get_ref().0.stay_awake();
        }
    }

    /// Takes events, starts the threads of new workers and wakes those that were told something.
    /// Says whether anything had happened.
    fn carry_on(&mut self) -> Result<bool, AgentError> {
        let eventful = self.node.handle_events(self.clock.now());
        while let Some(spawn) = self.node.poll_spawn() {
            self.threads.spawn(spawn).map_err(AgentError::Thread)?;
        }
        for worker in self.node.take_pushed() {
            self.threads.wake(worker);
        }
        while let Some(gone) = self.node.poll_gone_port() {
            tracing::warn!("{gone}");
        }
        match &mut self.logs {
            Some(logs) => logs.take_from(&mut self.node),
            None => while self.node.poll_record().is_some() {},
        }
        let lost = self.node.lost_records();
        // Each time that they have doubled, so that a flood of records makes no flood of lines.
        if lost > 2 * self.lost_told {
            tracing::warn!(
                lost,
                "records of network functions are lost: the disk is full or too slow"
            );
            self.lost_told = lost;
        }
        Ok(eventful)
    }

    /// Whether nothing is in progress.
    fn is_quiet(&self) -> bool {
        self.node.is_quiet() && self.logs.as_ref().is_none_or(Logs::is_empty)
    }

    /// Whether the call may have changed something.
    fn carry_out(&mut self, call: Option<Call>) -> bool {
        match call {
            Some(Call::Read(look)) => {
                look(&self.node, self.clock.now());
                false
            }
            Some(Call::Change(change)) => {
                change(&mut self.node, self.clock.now());
                true
            }
            // The services hold the other end as long as they run.
            None => false,
        }
    }
}

/// The event file that workers write, for the runtime.
struct EventFile(Sleeper);

impl AsRawFd for EventFile {
    fn as_raw_fd(&self) -> RawFd {
        self.0.event().as_raw_fd()
    }
}
