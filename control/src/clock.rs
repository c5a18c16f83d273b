//! The one place where the sidecar reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Time since the sidecar started, and wall time for what is written down.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at this moment.
    #[expect(clippy::disallowed_methods, reason = "the driver's clock")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the start; never goes back.
    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Wall time in nanoseconds; for reports only, as it may jump.
    #[expect(clippy::disallowed_methods, reason = "the driver's clock")]
    pub fn unix_ns(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }
}
