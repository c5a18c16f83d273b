//! Ports at addresses: which service is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::rule::{RuleError, Service};
use super::rules::End;
use crate::address_map::AddressMap;

/// Ranges of ports at addresses, none of which have a port in common, each with the number of its
/// service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(AddressMap<Box<[Range]>>);

/// Of one address, in the order of these fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    protocol: u8,
    first: u16,
    last: u16,
    service: usize,
}

impl Ranges {
    /// Where services are: each with one of its ends, from which on it has as many ports as it has,
    /// and its number.
    ///
    /// # Errors
    /// When two have a port in common.
    pub(super) fn new<'a>(
        ends: impl IntoIterator<Item = (&'a Service, End, usize)>,
    ) -> Result<Self, RuleError> {
        let mut at = BTreeMap::<IpAddr, BTreeMap<(u8, u16), Range>>::new();
        for (service, (address, first), number) in ends {
            let (protocol, last) = (service.protocol, first + service.further());
            let ranges = at.entry(address).or_default();
            let below = ranges.range(..=(protocol, last)).next_back();
            if let Some((_, below)) = below
                && below.protocol == protocol
                && below.last >= first
            {
                return Err(RuleError::Twice { address, port: first.max(below.first) });
            }
            ranges.insert((protocol, first), Range { protocol, first, last, service: number });
        }
        let sorted = |ranges: BTreeMap<_, Range>| ranges.into_values().collect();
        Ok(Self(AddressMap::new(at.into_iter().map(|(address, of)| (address, sorted(of))))))
    }

    /// Whether an address is worth looking for: false for most at which there is nothing.
    #[inline]
    pub(super) fn may_have(&self, address: &[u8; 16]) -> bool {
        self.0.may_have(address)
    }

    /// Whether there is anything at an address.
    pub(super) fn has(&self, address: &IpAddr) -> bool {
        self.0.has(address)
    }

    /// Which service a port belongs to, and how far behind its first port it is.
    pub(super) fn find(&self, protocol: u8, (address, port): End) -> Option<(usize, u16)> {
        let ranges = self.0.get(&address)?;
        let behind = ranges.partition_point(|r| (r.protocol, r.first) <= (protocol, port));
        let range = ranges.get(behind.checked_sub(1)?)?;
        let found = range.protocol == protocol && port <= range.last;
        found.then(|| (range.service, port - range.first))
    }

    /// Whether a port belongs to a service, or is 0, which stands for one that is not known, and one
    /// at the address does.
    pub(super) fn may_be_at(&self, protocol: u8, end: End) -> bool {
        let (address, port) = end;
        if port != 0 {
            return self.find(protocol, end).is_some();
        }
        let Some(ranges) = self.0.get(&address) else { return false };
        let first = ranges.partition_point(|range| range.protocol < protocol);
        ranges.get(first).is_some_and(|range| range.protocol == protocol)
    }
}
