//! What can be set of the intrusion detection.

use std::time::Duration;

use crate::nf::connection::{TIMEOUT_MAX, TimeoutError};

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When connections end by themselves.
    pub timeouts: Timeouts,
    /// What is a scan.
    pub scan: ScanConfig,
    /// Bytes that are kept of all streams together, at most. A connection that would need more goes
    /// on without reassembly; its HTTP is not looked into any more.
    pub memory_max: usize,
    /// Records that wait to be fetched at most; further ones are counted, and lost.
    pub records_max: usize,
}

/// How long connections live without a packet. The defaults are Zeek's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, while nobody has answered.
    pub attempt: Duration,
    /// TCP.
    pub tcp: Duration,
    /// TCP, when both ends have ended the connection.
    pub closed: Duration,
    /// TCP, when an end has aborted it.
    pub reset: Duration,
    /// UDP.
    pub udp: Duration,
    /// ICMP and other protocols.
    pub other: Duration,
}

/// What is a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanConfig {
    /// Different destinations and ports, about, at which attempts of one source fail.
    pub threshold: u32,
    /// In which time.
    pub window: Duration,
    /// Sources that are watched at once, at most.
    pub sources_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            scan: ScanConfig::default(),
            memory_max: 32 << 20,
            records_max: 65_536,
        }
    }
}

impl Timeouts {
    /// Whether each is in its bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), TimeoutError> {
        let Self { attempt, tcp, closed, reset, udp, other } = *self;
        let all = [
            ("attempt", attempt),
            ("tcp", tcp),
            ("closed", closed),
            ("reset", reset),
            ("udp", udp),
            ("other", other),
        ];
        let bounds = Duration::from_millis(1)..=TIMEOUT_MAX;
        match all.into_iter().find(|(_, value)| !bounds.contains(value)) {
            Some((name, value)) => Err(TimeoutError { name, value }),
            None => Ok(()),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            tcp: Duration::from_mins(5),
            closed: Duration::from_secs(5),
            reset: Duration::from_secs(5),
            udp: Duration::from_mins(1),
            other: Duration::from_mins(1),
        }
    }
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self { threshold: 25, window: Duration::from_mins(5), sources_max: 4096 }
    }
}
