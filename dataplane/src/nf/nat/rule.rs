//! A rule: whose address is translated, or where a service is.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use weir_state_transfer::Prefix;

use super::rules::{has_ports, word};

/// Most source rules: they are tried one after the other, for packets that have no translation.
pub const SOURCES_MAX: usize = 64;
/// Most external addresses of a source rule.
pub const POOL_MAX: usize = 256;
/// Fewest external ports of a source rule. With a steering key that spreads, a bucket has one of any
/// 4,096 ports from a multiple of that on, so of these it has three at least.
pub(crate) const PORTS_MIN: u16 = 16_384;
/// Most services.
pub const SERVICES_MAX: usize = 1024;
/// Most backends of a service.
pub const BACKENDS_MAX: usize = 64;

/// Flows from these addresses get an external address as their source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRule {
    /// The addresses inside.
    pub from: Prefix,
    /// The destinations, as the sender wrote them: any if there is none.
    pub to: Option<Prefix>,
    /// The external addresses: one is what others call masquerading. If there is none, such flows
    /// keep their source, and no later rule is about them.
    pub pool: Vec<IpAddr>,
    /// The external ports that hosts may get. Of each external address a bucket has 16 ports for
    /// a remote end when these are all, and fewer in proportion when they are less.
    pub ports: RangeInclusive<u16>,
}

/// Flows to an external address and port go to a server inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The external address. It may be in the pool of a source rule, too.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: u8,
    /// The external ports.
    pub ports: RangeInclusive<u16>,
    /// The servers, each with the port that the first of `ports` becomes; the others follow it.
    pub backends: Vec<SocketAddr>,
}

/// Why rules are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is too much of something.
    #[error("there are {count} {what}, and {most} are the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// Addresses of one rule are of different families.
    #[error("{one} and {other} are of different families")]
    Families {
        /// An address, or a prefix.
        one: String,
        /// Another.
        other: String,
    },
    /// A service is of a protocol that has no ports.
    #[error("the service at {address} has protocol {protocol}: expected TCP or UDP")]
    Protocol {
        /// Its address.
        address: IpAddr,
        /// The protocol.
        protocol: u8,
    },
    /// Ports of a service, or those that they become, are none.
    #[error("the service at {address} has no ports {first} to {last}: expected 1 to 65535")]
    Ports {
        /// Its address, or that of a backend.
        address: IpAddr,
        /// The first port.
        first: u16,
        /// The last port, before it is cut to 16 bits.
        last: u32,
    },
    /// A service has no backend.
    #[error("the service at {address} has no backend")]
    NoBackend {
        /// Its address.
        address: IpAddr,
    },
    /// The ports that hosts may get are so few that buckets would have none.
    #[error(
        "bad external ports {first} to {last}: expected at least {PORTS_MIN} of 1 to 65535, so that \
         each bucket has some"
    )]
    FewPorts {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Two services, or two backends, have a port in common: it could not be told whose a packet
    /// is.
    #[error("{address} port {port} is there twice")]
    Twice {
        /// The address.
        address: IpAddr,
        /// The first port in common.
        port: u16,
    },
    /// A backend is at an external address, where no server is.
    #[error("the backend {address} is an external address")]
    External {
        /// Its address.
        address: IpAddr,
    },
}

/// Why flows can not be moved by a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterRefused {
    /// It names one of the ends that flows have on this side of the NAT.
    #[error(
        "names {named}, which flows have on one side of the NAT only: name addresses of remote \
         hosts, or move buckets"
    )]
    Inside {
        /// The addresses that it names.
        named: Prefix,
    },
    /// It names ports of no host in particular, which ends of either kind may have.
    #[error(
        "names ports without the address of a remote host, and flows have other ports behind the \
         NAT: add dst=ADDRESS, or move buckets"
    )]
    Ports,
}

impl SourceRule {
    /// The external addresses in the order in which those of a host are tried.
    pub(super) fn addresses(&self, src: &IpAddr) -> impl Iterator<Item = IpAddr> + '_ {
        let first = usize::from(word(src)).checked_rem(self.pool.len()).unwrap_or(0);
        self.pool[first..].iter().chain(&self.pool[..first]).copied()
    }

    /// Whether it is about flows between two addresses of one family, as 16 bytes each.
    #[inline]
    pub(super) fn matches(&self, is_v4: bool, [src, dst]: &[[u8; 16]; 2]) -> bool {
        self.from.has(is_v4, src) && self.to.as_ref().is_none_or(|to| to.has(is_v4, dst))
    }

    pub(super) fn check(&self) -> Result<(), RuleError> {
        at_most("external addresses of a rule", self.pool.len(), POOL_MAX)?;
        let other = |is_v4: bool| is_v4 != self.from.is_v4();
        let families =
            |other: String| Err(RuleError::Families { one: self.from.to_string(), other });
        if let Some(to) = self.to.filter(|to| other(to.is_v4())) {
            return families(to.to_string());
        }
        if let Some(address) = self.pool.iter().find(|address| other(address.is_ipv4())) {
            return families(address.to_string());
        }
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let few = first == 0 || last < first || last - first < PORTS_MIN - 1;
        if few { Err(RuleError::FewPorts { first, last }) } else { Ok(()) }
    }
}

impl Service {
    /// Where its first port is.
    pub(super) fn front(&self) -> (IpAddr, u16) {
        (self.address, *self.ports.start())
    }

    /// How many ports it has, less one.
    pub(super) fn further(&self) -> u16 {
        self.ports.end().saturating_sub(*self.ports.start())
    }

    pub(super) fn check(&self) -> Result<(), RuleError> {
        let Self { address, protocol, ports, backends } = self;
        let (address, protocol) = (*address, *protocol);
        at_most("backends of a service", backends.len(), BACKENDS_MAX)?;
        if !has_ports(protocol) {
            return Err(RuleError::Protocol { address, protocol });
        }
        if ports.is_empty() || *ports.start() == 0 {
            let (first, last) = (*ports.start(), u32::from(*ports.end()));
            return Err(RuleError::Ports { address, first, last });
        }
        if backends.is_empty() {
            return Err(RuleError::NoBackend { address });
        }
        for backend in backends {
            if backend.is_ipv4() != address.is_ipv4() {
                let (one, other) = (address.to_string(), backend.to_string());
                return Err(RuleError::Families { one, other });
            }
            let last = u32::from(backend.port()) + u32::from(self.further());
            if backend.port() == 0 || last > u32::from(u16::MAX) {
                let (address, first) = (backend.ip(), backend.port());
                return Err(RuleError::Ports { address, first, last });
            }
        }
        Ok(())
    }
}

pub(super) fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), RuleError> {
    if count > most { Err(RuleError::TooMany { what, count, most }) } else { Ok(()) }
}
