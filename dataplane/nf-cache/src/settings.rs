//! What the proxy is told at its start, and the bounds of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use weir_state_transfer::Prefix;
use weir_state_transfer::chunk::BODY_MAX;

/// Bytes of the body of an object at most: with its head it fits in one chunk.
const OBJECT_MAX: usize = BODY_MAX - HEAD_MAX;
/// Bytes of a head that may be asked for at most, and at least: hyper needs that much.
const HEAD_MAX: usize = 128 << 10;
const HEAD_MIN: usize = 8 << 10;
/// Client connections that may be asked for at most.
const CONNECTIONS_MAX: usize = 16_384;
/// A time-out is within these.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3_600));

/// What the proxy is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect to. Port 0 is any that is free.
    pub listen: SocketAddr,
    /// The Unix socket on which `weir.nf.v1` is served, if it is.
    pub southbound: Option<PathBuf>,
    /// Its number among the instances that share state: no two have the same.
    pub instance: u32,
    /// Clients that may use it.
    pub clients: Vec<Prefix>,
    /// Ports that CONNECT may go to.
    pub connect_ports: Vec<u16>,
    /// Whether requests may go to this machine itself: loopback, unspecified and link-local
    /// addresses, also by a name.
    pub to_local: bool,
    /// Its bounds.
    pub limits: Limits,
}

/// Bounds of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all objects together, with what is kept about them. What is used longest ago goes.
    pub store: usize,
    /// Bytes of the body of an object; larger ones pass and are not kept.
    pub object: usize,
    /// Bytes of the head of a request or a response; larger ones are refused.
    pub head: usize,
    /// Client connections at one time; further ones are closed.
    pub connections: usize,
    /// How long a connection may be without a request, and a peer take no byte of an answer.
    pub idle: Duration,
    /// How long the head of a request may take from its first byte on.
    pub head_time: Duration,
    /// How long an origin may take to connect, to begin to answer, and between two parts of a body.
    pub upstream: Duration,
}

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number is out of its bounds.
    #[error("{what} is {value}: expected {least} to {most}")]
    OutOfBounds {
        /// The setting.
        what: &'static str,
        /// What it is set to.
        value: String,
        /// The least that it may be.
        least: String,
        /// The most that it may be.
        most: String,
    },
    /// Nobody may use it.
    #[error("there is no client that may use the proxy: name a network, such as 10.0.0.0/8")]
    NoClients,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store: 256 << 20,
            object: OBJECT_MAX,
            head: 32 << 10,
            connections: 1_024,
            idle: Duration::from_secs(60),
            head_time: Duration::from_secs(10),
            upstream: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// Settings with all defaults: of instance 1, for clients on this machine.
    pub fn new(listen: SocketAddr) -> Self {
        let local =
            [([127, 0, 0, 0], 8)].map(|(address, length)| Prefix::new(address.into(), length));
        let clients =
            local.into_iter().flatten().chain([Prefix::host([0u16, 0, 0, 0, 0, 0, 0, 1].into())]);
        Self {
            listen,
            southbound: None,
            instance: 1,
            clients: clients.collect(),
            connect_ports: vec![443],
            to_local: false,
            limits: Limits::default(),
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first that is not kept.
    pub fn check(&self) -> Result<(), SettingsError> {
        let limits = &self.limits;
        within("the size of an object", limits.object, (0, OBJECT_MAX))?;
        within("the size of a head", limits.head, (HEAD_MIN, HEAD_MAX))?;
        within("the size of the store", limits.store, (4 * BODY_MAX, usize::MAX >> 8))?;
        within("the number of connections", limits.connections, (1, CONNECTIONS_MAX))?;
        for (what, time) in [
            ("the idle time-out", limits.idle),
            ("the time-out of a head", limits.head_time),
            ("the time-out of an origin", limits.upstream),
        ] {
            if !(TIMEOUTS.0..=TIMEOUTS.1).contains(&time) {
                let [value, least, most] = [time, TIMEOUTS.0, TIMEOUTS.1].map(|t| format!("{t:?}"));
                return Err(SettingsError::OutOfBounds { what, value, least, most });
            }
        }
        if self.clients.is_empty() { Err(SettingsError::NoClients) } else { Ok(()) }
    }

    /// Whether a client may use it.
    pub(crate) fn lets_in(&self, client: IpAddr) -> bool {
        self.clients.iter().any(|network| network.covers(&Prefix::host(client)))
    }
}

fn within(
    what: &'static str,
    value: usize,
    (least, most): (usize, usize),
) -> Result<(), SettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let [value, least, most] = [value, least, most].map(|number| number.to_string());
    Err(SettingsError::OutOfBounds { what, value, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(([127, 0, 0, 1], 0).into())
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(settings().check(), Ok(()));
        assert!(settings().lets_in([127, 1, 2, 3].into()));
        assert!(!settings().lets_in([10, 0, 0, 1].into()));
    }

    #[test]
    fn a_bound_that_is_not_kept_is_named_with_what_it_may_be() {
        type Spoil = fn(&mut Settings);
        let cases: [(Spoil, &str); 5] = [
            (
                |s| s.limits.object = 1 << 20,
                "the size of an object is 1048576: expected 0 to 917504",
            ),
            (|s| s.limits.head = 100, "the size of a head is 100: expected 8192 to 131072"),
            (|s| s.limits.connections = 0, "the number of connections is 0: expected 1 to 16384"),
            (
                |s| s.limits.idle = Duration::ZERO,
                "the idle time-out is 0ns: expected 10ms to 3600s",
            ),
            (|s| s.clients.clear(), "there is no client that may use the proxy: name a network"),
        ];
        for (spoil, why) in cases {
            let mut spoilt = settings();
            spoil(&mut spoilt);
            let error = spoilt.check().expect_err(why).to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
