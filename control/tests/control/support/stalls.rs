//! Whether the machine stood still meanwhile: a thread that does nothing but sleep wakes late then.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long the thread sleeps.
const TICK: Duration = Duration::from_millis(10);

/// Watches until it is asked, or dropped.
pub(crate) struct Stalls {
    stop: Sender<()>,
    thread: JoinHandle<Duration>,
}

impl Stalls {
    pub(crate) fn watch() -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let (mut longest, mut before) = (Duration::ZERO, now());
            loop {
                let ended = stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
                let woken = now();
                longest = longest.max((woken - before).saturating_sub(TICK));
                before = woken;
                if ended {
                    return longest;
                }
            }
        });
        Self { stop, thread }
    }

    /// The longest time in which nothing has run.
    pub(crate) fn longest(self) -> Duration {
        drop(self.stop);
        self.thread.join().expect("it does not panic")
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine")]
fn now() -> Instant {
    Instant::now()
}
