//! Filters over flows, and the selections that a move can name.

mod parse;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use crate::bucket::{Bucket, BucketSet};
use crate::flow_key::FlowKey;
use crate::id::ServiceId;
use crate::prefix::Prefix;
use crate::protocol;

pub use parse::{FIELDS, FIELDS_OF_PACKETS, FILTER_MAX, FilterError};
pub(crate) use parse::{Item, Seen, bounded, items};

/// What a flow has to look like; fields that are absent match everything.
///
/// A symmetric filter also matches the flow whose reverse it matches: addresses and ports swapped
/// together, never one alone (OpenNF, section 4.2). Ports match flows of TCP, UDP and SCTP only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The source end.
    pub src: Endpoint,
    /// The destination end.
    pub dst: Endpoint,
    /// The IP protocol number.
    pub protocol: Option<u8>,
    /// The service.
    pub service: Option<ServiceId>,
    /// Whether both directions of a flow match when one does.
    pub symmetric: bool,
}

impl Filter {
    /// Whether the flow matches.
    #[inline]
    pub fn matches(&self, key: &FlowKey) -> bool {
        let src = (key.src_octets(), key.src_port());
        let dst = (key.dst_octets(), key.dst_port());
        self.protocol.is_none_or(|protocol| protocol == key.protocol())
            && self.service.is_none_or(|service| service == key.service())
            && (!self.names_ports() || protocol::has_ports(key.protocol()))
            && ((self.src.matches(key, src) && self.dst.matches(key, dst))
                || (self.symmetric && self.src.matches(key, dst) && self.dst.matches(key, src)))
    }

    /// The flow that the filter names, if it names one only: hosts, ports, protocol and service
    /// are all given. A symmetric filter names the reverse of that flow as well.
    pub fn exact(&self) -> Option<FlowKey> {
        let (src, src_port) = self.src.exact()?;
        let (dst, dst_port) = self.dst.exact()?;
        let protocol = self.protocol.filter(|protocol| protocol::has_ports(*protocol))?;
        FlowKey::new(src, dst, (src_port, dst_port), protocol, self.service?)
    }

    /// Whether every flow matches.
    pub fn is_any(&self) -> bool {
        Self { symmetric: true, ..*self } == Self::default()
    }

    /// Whether some flow matches both filters.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.check().is_ok()
            && other.check().is_ok()
            && agree(self.service, other.service)
            && agree(self.v4(), other.v4())
            && match (self.protocol, other.protocol) {
                (Some(one), Some(two)) => one == two,
                (Some(one), None) => !other.names_ports() || protocol::has_ports(one),
                (None, Some(two)) => !self.names_ports() || protocol::has_ports(two),
                (None, None) => true,
            }
            && ((self.src.overlaps(&other.src) && self.dst.overlaps(&other.dst))
                || ((self.symmetric || other.symmetric)
                    && self.src.overlaps(&other.dst)
                    && self.dst.overlaps(&other.src)))
    }

    /// Whether every flow that matches the other filter matches this one.
    ///
    /// May be false where that holds, when the two directions of this filter cover one direction
    /// of the other only together.
    pub fn covers(&self, other: &Self) -> bool {
        if other.check().is_err() {
            return true;
        }
        let protocols = match (self.protocol, other.protocol) {
            (Some(own), theirs) => theirs == Some(own),
            (None, _) if !self.names_ports() => true,
            (None, Some(theirs)) => protocol::has_ports(theirs),
            (None, None) => other.names_ports(),
        };
        let straight = self.src.covers(&other.src) && self.dst.covers(&other.dst);
        let crossed = self.src.covers(&other.dst) && self.dst.covers(&other.src);
        self.check().is_ok()
            && protocols
            && (self.service.is_none() || self.service == other.service)
            && (self.v4().is_none() || self.v4() == other.v4())
            && (straight || (self.symmetric && crossed))
            && (!other.symmetric || crossed || (self.symmetric && straight))
    }

    /// The flows from and to the hosts that it names; all, if it names none. What is known of a
    /// host as a whole has no ports and no protocol, and does not depend on the other end, so this
    /// is what operations on it are about.
    pub fn of_hosts(&self) -> Vec<Self> {
        let of = |prefix| {
            let src = Endpoint { prefix, ports: None };
            Self { src, service: self.service, ..Self::default() }
        };
        match (self.src.prefix, self.dst.prefix) {
            (Some(src), Some(dst)) => vec![of(Some(src)), of(Some(dst))],
            (one, other) => vec![of(one.or(other))],
        }
    }

    /// Refuses a filter that no flow can match.
    ///
    /// # Errors
    /// [`FilterError::MixedFamilies`] or [`FilterError::NoPorts`].
    pub fn check(&self) -> Result<(), FilterError> {
        if let (Some(src), Some(dst)) = (self.src.prefix, self.dst.prefix)
            && src.is_v4() != dst.is_v4()
        {
            return Err(FilterError::MixedFamilies { src, dst });
        }
        match self.protocol {
            Some(protocol) if self.names_ports() && !protocol::has_ports(protocol) => {
                Err(FilterError::NoPorts { protocol })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn names_ports(&self) -> bool {
        self.src.ports.is_some() || self.dst.ports.is_some()
    }

    /// Whether it matches IPv4 only or IPv6 only, if it does either.
    fn v4(&self) -> Option<bool> {
        self.src.prefix.or(self.dst.prefix).map(|prefix| prefix.is_v4())
    }
}

impl Default for Filter {
    /// The filter that every flow matches.
    fn default() -> Self {
        Self {
            src: Endpoint::default(),
            dst: Endpoint::default(),
            protocol: None,
            service: None,
            symmetric: true,
        }
    }
}

/// One end of the flows that a filter matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where the address has to be.
    pub prefix: Option<Prefix>,
    /// Where the port has to be.
    pub ports: Option<PortRange>,
}

impl Endpoint {
    #[inline]
    fn matches(&self, key: &FlowKey, (octets, port): (&[u8; 16], u16)) -> bool {
        self.prefix.is_none_or(|prefix| prefix.matches(key, octets))
            && self.ports.is_none_or(|ports| ports.contains(port))
    }

    fn exact(&self) -> Option<(std::net::IpAddr, u16)> {
        let prefix = self.prefix.filter(Prefix::is_host)?;
        let ports = self.ports.filter(|ports| ports.first == ports.last)?;
        Some((prefix.address(), ports.first))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let prefixes = self.prefix.zip(other.prefix);
        let ports = self.ports.zip(other.ports);
        prefixes.is_none_or(|(one, two)| one.overlaps(&two))
            && ports.is_none_or(|(one, two)| one.first <= two.last && two.first <= one.last)
    }

    /// Among flows of the same family and of protocols with ports, if either names any.
    fn covers(&self, other: &Self) -> bool {
        let prefixes = self.prefix.is_none_or(|own| match other.prefix {
            Some(theirs) => own.covers(&theirs),
            None => own.is_any(),
        });
        let ports = self.ports.is_none_or(|own| {
            let theirs = other.ports.unwrap_or(PortRange::ALL);
            own.first <= theirs.first && theirs.last <= own.last
        });
        prefixes && ports
    }
}

/// An inclusive range of ports, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The range, or `None` when it ends before it starts.
    pub fn new(ports: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = ports.into_inner();
        (first <= last).then_some(Self { first, last })
    }

    /// The range of one port.
    pub fn exactly(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Its ports.
    pub fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    #[inline]
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// The flows that a move names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those of a set of steering buckets.
    Buckets(BucketSet),
    /// Those that match a filter.
    Filter(Filter),
}

impl Selection {
    /// Whether a flow that falls into that bucket is selected.
    #[inline]
    pub fn matches(&self, key: &FlowKey, bucket: Bucket) -> bool {
        match self {
            Self::Buckets(buckets) => buckets.contains(bucket),
            Self::Filter(filter) => filter.matches(key),
        }
    }

    /// Whether some flow may be in both. A filter may meet any bucket, since which buckets its
    /// flows fall into depends on the key of the steering hash.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Buckets(one), Self::Buckets(two)) => one.intersects(two),
            (Self::Filter(one), Self::Filter(two)) => one.overlaps(two),
            (Self::Buckets(buckets), Self::Filter(filter))
            | (Self::Filter(filter), Self::Buckets(buckets)) => {
                !buckets.is_empty() && filter.check().is_ok()
            }
        }
    }

    /// Whether some flow is selected that is from or to a host that a filter names.
    pub fn meets_hosts_of(&self, filter: &Filter) -> bool {
        filter.of_hosts().into_iter().any(|flows| self.overlaps(&Self::Filter(flows)))
    }
}

impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Buckets(buckets) => write!(f, "buckets {buckets}"),
            Self::Filter(filter) => write!(f, "filter {filter}"),
        }
    }
}

fn agree<T: PartialEq>(one: Option<T>, two: Option<T>) -> bool {
    one.zip(two).is_none_or(|(one, two)| one == two)
}
