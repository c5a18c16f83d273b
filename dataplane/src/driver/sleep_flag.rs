//! The agreement between a worker that goes to sleep and those that give it work.

use crate::sync::{AtomicBool, Ordering, fence};

/// Says whether a worker sleeps or is about to.
///
/// A sleeper announces itself, looks for work once more and only then sleeps. A producer gives
/// work and only then looks at the flag. The two fences order each side's write before its read
/// for everybody, so at least one of them sees the other's write: the sleeper the work, or the
/// producer the flag (Dekker). Without them both could miss, and the work would wait for the end
/// of the sleep.
///
/// Written by the worker; cleared by the producer that takes it upon itself to wake the worker, so
/// that it is woken once.
#[derive(Debug, Default)]
pub(crate) struct SleepFlag(AtomicBool);

impl SleepFlag {
    /// The worker is going to sleep; it looks for work once more after this.
    pub(crate) fn announce(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake, woken or not.
    pub(crate) fn retract(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the caller, who has just given work, has to wake the worker.
    #[inline]
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}
