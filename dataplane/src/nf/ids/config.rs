//! What can be set of the intrusion detection.

use std::time::Duration;

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When connections end by themselves.
    pub timeouts: Timeouts,
    /// What is a scan.
    pub scan: ScanConfig,
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
        Self { timeouts: Timeouts::default(), scan: ScanConfig::default(), records_max: 65_536 }
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
