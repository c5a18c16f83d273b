//! The clock of the drivers: sockets, bodies and tasks. What they drive is told the time.
#![expect(clippy::disallowed_methods, reason = "the drivers' clock, and the one place it is read")]

use std::time::{Instant, SystemTime};

/// This instant.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time by the calendar.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
