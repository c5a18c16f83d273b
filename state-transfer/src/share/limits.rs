//! The bounds of a share.

use std::time::Duration;

use super::slot::SLOTS_MAX;

/// The bounds of a share, the same at all its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Slots that the groups are divided into, at most [`SLOTS_MAX`]. Default 1,024.
    pub slots: usize,
    /// Workers that stamp packets of a strict share, at most 256: memory for how far an instance has
    /// seen the order of each is there from the start, and for others from their first packet on.
    /// Default 0.
    pub steerers: usize,
    /// Packets and operations that wait at an instance: one more is refused. Default 1,024.
    pub waiting: usize,
    /// Places of a steerer's order, from the one that is waited for on, in which operations wait
    /// at the home, and how many do there or between: when one comes behind them, or one more, the
    /// gap is given up. Default 1,024.
    pub window: usize,
    /// How long a packet waits for its answer. An operation waits half as long for those in front
    /// of it, so that when one of them was lost its own packet still has its answer. Default 10 ms.
    pub patience: Duration,
}

impl Limits {
    /// How long a home waits for a place in the order of a steerer.
    pub(super) fn gap(&self) -> Duration {
        self.patience / 2
    }

    /// The same limits with each at least 1, and no more slots than there may be.
    pub(super) fn in_bounds(self) -> Self {
        Self {
            slots: self.slots.clamp(1, SLOTS_MAX),
            steerers: self.steerers.min(256),
            waiting: self.waiting.max(1),
            window: self.window.max(1),
            patience: self.patience,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let patience = Duration::from_millis(10);
        Self { slots: 1024, steerers: 0, waiting: 1024, window: 1024, patience }
    }
}
