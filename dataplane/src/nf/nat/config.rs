//! What a NAT is told.

use std::time::Duration;

use super::rules::Rules;
use crate::nf::connection::Settings;

/// What a NAT is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it translates: nothing by default.
    pub rules: Rules,
    /// How connections are tracked. Translations last as long as their connections.
    ///
    /// By default for as long as is recommended for a NAT, where that is longer than is usual
    /// else: UDP 300 s (RFC 4787, REQ-5), echoes 60 s (RFC 5508, REQ-2), TCP connections that are
    /// not yet or no more established 240 s (RFC 5382, REQ-5), those that were reset too (RFC 7857,
    /// section 2.2).
    pub tracking: Settings,
}

impl Default for Config {
    fn default() -> Self {
        let mut tracking = Settings::default();
        let timeouts = &mut tracking.timeouts;
        (timeouts.udp_unreplied, timeouts.udp_replied) = (UDP, UDP);
        timeouts.icmp = ECHO;
        let mut config = Self { rules: Rules::default(), tracking };
        config.set_transitory(TRANSITORY);
        config
    }
}

impl Config {
    /// Sets how long TCP connections stay that are not yet or no more established.
    pub fn set_transitory(&mut self, timeout: Duration) {
        let tcp = &mut self.tracking.timeouts.tcp;
        (tcp.syn_sent, tcp.syn_received) = (timeout, timeout);
        (tcp.fin_wait, tcp.close_wait, tcp.last_ack) = (timeout, timeout, timeout);
        (tcp.time_wait, tcp.closed) = (timeout, timeout);
    }
}

const UDP: Duration = Duration::from_secs(300);
const ECHO: Duration = Duration::from_secs(60);
const TRANSITORY: Duration = Duration::from_secs(240);
