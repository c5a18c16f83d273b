//! All rules together: what becomes of a flow, and how it is steered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weir_state_transfer::steering_hash::address_word;
use weir_state_transfer::{Filter, FlowKey, Prefix, protocol};

use super::flow::{is_echo_reply, is_error};
use super::is_translatable;
use super::ranges::Ranges;
use super::reason::Reason;
use super::rule::{
    FilterRefused, RuleError, SERVICES_MAX, SOURCES_MAX, Service, SourceRule, at_most,
};
use crate::address_map::{AddressSet, mapped};
use crate::packet::{Flags, Meta};

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
    /// The same, to look packets up in.
    externals: AddressSet,
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
        rules.externals = AddressSet::of(rules.external.iter().copied());
        rules.services.iter().try_for_each(Service::check)?;
        let numbered = || rules.services.iter().enumerate();
        let fronts = numbered().map(|(n, service)| (service, service.front(), n));
        let backs = numbered().flat_map(|(n, service)| {
            service.backends.iter().map(move |at| (service, (at.ip(), at.port()), n))
        });
        (rules.fronts, rules.backs) = (Ranges::new(fronts)?, Ranges::new(backs)?);
        let external = rules.backends().map(SocketAddr::ip).find(|at| rules.has_outside(at));
        match external {
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
            if !self.backs.may_have(key.src_octets()) && !self.backs.may_have(key.dst_octets()) {
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

    /// Why a packet whose flow is not known can not begin one, as far as rules tell; none if it may.
    pub(super) fn refusal(&self, key: &FlowKey) -> Option<Reason> {
        let [src, dst] = ends(key);
        let at_external = self.is_external(&dst.0) && self.service(key.protocol(), dst).is_none();
        if at_external || self.is_external(&src.0) {
            Some(Reason::Unsolicited)
        } else if !is_translatable(key.protocol()) && self.concern(key) {
            Some(Reason::Protocol)
        } else {
            None
        }
    }

    /// Whether a packet to an address that the router has too is for a flow behind it.
    ///
    /// What is asked of the router itself, by echo or as a neighbour, is not, nor is a redirect,
    /// which would name a router on the wrong side, nor what came in a frame for all, which is never
    /// forwarded (RFC 1812, section 5.3.4).
    pub fn claims(&self, frame: &[u8], meta: &Meta) -> bool {
        if meta.flags.has(Flags::GROUP_FRAME) {
            return false;
        }
        let [_, dst] = ends(&meta.key);
        if protocol::is_icmp(meta.protocol) {
            let about_flow = is_echo_reply(frame, meta) && self.is_external(&dst.0);
            return about_flow || (is_error(frame, meta) && self.has_outside(&dst.0));
        }
        self.is_external(&dst.0) || self.fronts.may_be_at(meta.protocol, dst)
    }

    /// Whether flows that a filter matches may be moved by it: whether a flow matches must not
    /// depend on which of its names a packet has, and flows that could take the same port must
    /// not part. Both hold where the filter is about remote ends alone.
    ///
    /// # Errors
    /// What is wrong with the filter.
    pub fn check_filter(&self, filter: &Filter) -> Result<(), FilterRefused> {
        for end in [&filter.src, &filter.dst] {
            match end.prefix.filter(|prefix| !prefix.is_any()) {
                Some(named) if self.has_near(&named) => {
                    return Err(FilterRefused::Inside { named });
                }
                None if end.ports.is_some() => return Err(FilterRefused::Ports),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// The addresses that it answers for beside those of the router: of pools and of services.
    pub fn outside(&self) -> BTreeSet<IpAddr> {
        let fronts = self.services.iter().map(|service| service.address);
        self.external.iter().copied().chain(fronts).collect()
    }

    /// Whether any address of a prefix may be an end on this side: inside, external, a service's or
    /// a backend's.
    fn has_near(&self, prefix: &Prefix) -> bool {
        let is_in = |address: &IpAddr| prefix.covers(&Prefix::host(*address));
        let inside = self.sources.iter().filter(|rule| !rule.pool.is_empty());
        inside.map(|rule| &rule.from).any(|from| from.overlaps(prefix))
            || self.external.iter().any(is_in)
            || self.services.iter().any(|service| {
                is_in(&service.address)
                    || service.backends.iter().any(|backend| is_in(&backend.ip()))
            })
    }

    /// Whether an address is of a pool or of a service.
    pub(super) fn has_outside(&self, address: &IpAddr) -> bool {
        self.is_external(address) || self.fronts.has(address)
    }

    /// The ends of all backends, each for the first port of its service.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &SocketAddr> {
        self.services.iter().flat_map(|service| &service.backends)
    }

    /// The addresses that the pools of source rules have.
    pub fn external(&self) -> &BTreeSet<IpAddr> {
        &self.external
    }

    pub(super) fn is_external(&self, address: &IpAddr) -> bool {
        self.externals.has(address)
    }

    /// The rule by which a flow gets an external address; none if it keeps its source.
    pub(super) fn source(&self, src: &IpAddr, dst: &IpAddr) -> Option<&SourceRule> {
        if self.is_external(src) {
            return None;
        }
        let (is_v4, octets) = (src.is_ipv4(), [mapped(src), mapped(dst)]);
        let rule = self.sources.iter().find(|rule| rule.matches(is_v4, &octets))?;
        (!rule.pool.is_empty()).then_some(rule)
    }

    /// The external address of a host (RFC 4787, REQ-2: "paired"); none if it keeps its own.
    pub(super) fn paired(&self, src: &IpAddr, dst: &IpAddr) -> Option<IpAddr> {
        self.source(src, dst)?.addresses(src).next()
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
                let (address, first) = self.services[number].front();
                (address, first + offset)
            }
            None => end,
        }
    }

    /// Whether any rule is about a flow, in either direction. All others pass as they are. A packet
    /// whose ports are not known, as of a fragment, may be of any service at its addresses.
    pub(crate) fn concern(&self, key: &FlowKey) -> bool {
        let [src, dst] = ends(key);
        let at = |end: End| {
            self.is_external(&end.0)
                || self.fronts.may_be_at(key.protocol(), end)
                || self.backs.may_be_at(key.protocol(), end)
        };
        let is_inside = |one: End, other: End| self.source(&one.0, &other.0).is_some();
        at(src) || at(dst) || is_inside(src, dst) || is_inside(dst, src)
    }
}

/// Whether the steering hash takes the ports of a protocol in.
#[inline]
pub(super) fn has_ports(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP)
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
