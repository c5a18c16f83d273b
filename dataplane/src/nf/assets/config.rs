//! What can be set of the asset detection.

use std::time::Duration;

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When flows are forgotten.
    pub timeouts: Timeouts,
    /// Hosts that are known at once, at most. Default 16,384.
    pub hosts_max: usize,
    /// A host that was not seen for so long is forgotten. Default 1 day.
    pub forget: Duration,
    /// Records that wait to be fetched at most; further ones are counted, and lost.
    pub records_max: usize,
}

/// How long flows are known without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP; default 5 min.
    pub tcp: Duration,
    /// TCP, when it is over; default 5 s.
    pub closed: Duration,
    /// UDP and other protocols; default 1 min.
    pub other: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            hosts_max: 16_384,
            forget: Duration::from_hours(24),
            records_max: 65_536,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: Duration::from_mins(5),
            closed: Duration::from_secs(5),
            other: Duration::from_mins(1),
        }
    }
}
