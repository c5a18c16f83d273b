//! All rules together: what becomes of a flow, and how it is steered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir_state_transfer::steering_hash::address_word;
use weir_state_transfer::{FlowKey, protocol};

use super::rule::{RuleError, SERVICES_MAX, SOURCES_MAX, Service, SourceRule, at_most};

/// The rules of a NAT, checked: what steering and translating share. They know no flow, so every
/// steerer and every instance comes to the same result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    sources: Vec<SourceRule>,
    services: Vec<Service>,
    /// External ends of services.
    fronts: Ranges,
    /// Ends of their backends.
    backs: Ranges,
    external: BTreeSet<IpAddr>,
}

/// An address and a port of TCP or UDP.
pub(super) type End = (IpAddr, u16);

impl Rules {
    /// Checks rules. The first source rule that matches counts; no two services have an end in
    /// common, so the order of services does not matter.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(sources: Vec<SourceRule>, services: Vec<Service>) -> Result<Self, RuleError> {
        at_most("source rules", sources.len(), SOURCES_MAX)?;
        at_most("services", services.len(), SERVICES_MAX)?;
        let mut rules = Self { sources, services, ..Self::default() };
        for rule in &rules.sources {
            rule.check()?;
            rules.external.extend(&rule.pool);
        }
        for (number, service) in rules.services.iter().enumerate() {
            service.check()?;
            rules.fronts.add(service, (service.address, *service.ports.start()), number)?;
            for backend in &service.backends {
                rules.backs.add(service, (backend.ip(), backend.port()), number)?;
            }
        }
        let fronts: BTreeSet<IpAddr> = rules.services.iter().map(|s| s.address).collect();
        let backends = rules.services.iter().flat_map(|service| &service.backends);
        let mut addresses = backends.map(SocketAddr::ip);
        match addresses.find(|a| rules.external.contains(a) || fronts.contains(a)) {
            Some(address) => Err(RuleError::External { address }),
            None => Ok(rules),
        }
    }

    /// The key by which a flow is steered: both directions of a flow, before and behind its
    /// translation, are in the bucket of the same key, or of keys that have one bucket.
    ///
    /// * TCP and UDP: a backend is steered as the service that it belongs to. Ports of source
    ///   rules are chosen so that the bucket stays what it is.
    /// * Everything else has no port to choose, so a host inside is steered as the external
    ///   address that it gets.
    #[inline]
    #[must_use]
    pub fn steering_key(&self, key: &FlowKey) -> FlowKey {
        if has_ports(key.protocol()) {
            if self.services.is_empty() {
                return *key;
            }
            let [src, dst] = ends(key);
            let front_of = |end| self.front_of(key.protocol(), end);
            between(key, front_of(src), front_of(dst))
        } else {
            let (src, dst) = (key.src(), key.dst());
            if self.is_external(&src) || self.is_external(&dst) {
                return *key;
            }
            let ports = (key.src_port(), key.dst_port());
            if let Some(external) = self.paired(&src, &dst) {
                between(key, (external, ports.0), (dst, ports.1))
            } else if let Some(external) = self.paired(&dst, &src) {
                between(key, (src, ports.0), (external, ports.1))
            } else {
                *key
            }
        }
    }

    /// The addresses that the pools of source rules have.
    pub fn external(&self) -> &BTreeSet<IpAddr> {
        &self.external
    }

    pub(super) fn is_external(&self, address: &IpAddr) -> bool {
        self.external.contains(address)
    }

    /// The external addresses for a flow, that of its host first; none if it keeps its source.
    pub(super) fn pool(
        &self,
        src: &IpAddr,
        dst: &IpAddr,
    ) -> Option<impl Iterator<Item = IpAddr> + '_> {
        if self.is_external(src) {
            return None;
        }
        let pool = &self.sources.iter().find(|rule| rule.matches(src, dst))?.pool;
        let first = usize::from(word(src)).checked_rem(pool.len())?;
        Some(pool[first..].iter().chain(&pool[..first]).copied())
    }

    /// The external address of a host (RFC 4787, REQ-2: "paired"); none if it keeps its own.
    fn paired(&self, src: &IpAddr, dst: &IpAddr) -> Option<IpAddr> {
        self.pool(src, dst)?.next()
    }

    /// The service at an end, and which of its ports that is.
    pub(super) fn service(&self, protocol: u8, end: End) -> Option<(&Service, u16)> {
        let (number, offset) = self.fronts.find(protocol, end)?;
        Some((&self.services[number], offset))
    }

    /// The end that an end of a flow is steered as.
    pub(super) fn front_of(&self, protocol: u8, end: End) -> End {
        match self.backs.find(protocol, end) {
            Some((number, offset)) => {
                let service = &self.services[number];
                (service.address, service.ports.start() + offset)
            }
            None => end,
        }
    }

    /// Whether any rule is about a flow, in either direction. All others pass as they are.
    pub(super) fn concern(&self, key: &FlowKey) -> bool {
        let [src, dst] = ends(key);
        let at = |end: End| {
            self.is_external(&end.0)
                || self.fronts.find(key.protocol(), end).is_some()
                || self.backs.find(key.protocol(), end).is_some()
        };
        let is_inside = |one: End, other: End| self.paired(&one.0, &other.0).is_some();
        at(src) || at(dst) || is_inside(src, dst) || is_inside(dst, src)
    }
}

/// Ranges of ports at addresses, none of which have a port in common: by protocol, address and
/// first port, with the last port and the number of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<(u8, IpAddr, u16), (u16, usize)>);

impl Ranges {
    fn add(&mut self, service: &Service, at: End, number: usize) -> Result<(), RuleError> {
        let (address, first) = at;
        let (protocol, last) = (service.protocol, first + service.further());
        let below = self.0.range(..=(protocol, address, last)).next_back();
        if let Some(((known, at, start), (end, _))) = below
            && (*known, *at) == (protocol, address)
            && *end >= first
        {
            return Err(RuleError::Twice { address, port: first.max(*start) });
        }
        self.0.insert((protocol, address, first), (last, number));
        Ok(())
    }

    /// Which service a port belongs to, and how far behind its first port it is.
    fn find(&self, protocol: u8, (address, port): End) -> Option<(usize, u16)> {
        let ((known, at, first), (last, number)) =
            self.0.range(..=(protocol, address, port)).next_back()?;
        let found = (*known, *at) == (protocol, address) && port <= *last;
        found.then(|| (*number, port - first))
    }
}

/// Whether the steering hash takes the ports of a protocol in.
#[inline]
pub(super) fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP)
}

/// Whether flows of a protocol are echoes, which are told apart by their identifiers.
#[inline]
pub(super) fn is_icmp(number: u8) -> bool {
    matches!(number, protocol::ICMP | protocol::ICMPV6)
}

/// Source and destination of a flow.
#[inline]
pub(super) fn ends(key: &FlowKey) -> [End; 2] {
    [(key.src(), key.src_port()), (key.dst(), key.dst_port())]
}

/// A flow like another, between other ends.
pub(super) fn between(key: &FlowKey, src: End, dst: End) -> FlowKey {
    FlowKey::new(src.0, dst.0, (src.1, dst.1), key.protocol(), key.service())
        .expect("a rule has addresses of one family, and matches those alone")
}

/// The word that stands for an address in the steering hash.
pub(super) fn word(address: &IpAddr) -> u16 {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => *address,
    };
    address_word(&address.octets())
}
