//! Flow ids: which flow, or set of flows, a piece of state is about.

mod codec;
mod field;

use std::fmt;
use std::net::IpAddr;

use crate::filter::{Filter, PortRange};
use crate::flow_key::FlowKey;
use crate::id::ServiceId;
use crate::prefix::Prefix;
use crate::protocol;

pub use codec::FLOW_ID_MAX;
pub use field::{EXTRAS_MAX, Extra, ExtraError, NAME_MAX, VALUE_MAX};

/// The header fields that describe exactly the flows that a piece of state is about (OpenNF,
/// section 4.1): one flow, a host, a network, or what only the network function knows, such as a
/// URL. A field that is absent says nothing about the flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    /// Where the flows go from and to.
    pub ends: Ends,
    /// The IP protocol number.
    pub protocol: Option<u8>,
    /// The service.
    pub service: Option<ServiceId>,
    /// Fields that only some network functions know, by name.
    extras: Vec<Extra>,
}

/// Where flows go from and to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ends {
    /// Anywhere.
    #[default]
    Any,
    /// From or to a host or network, whichever way a packet goes.
    Host(Prefix),
    /// From one end to the other.
    Pair {
        /// The source.
        src: End,
        /// The destination.
        dst: End,
    },
}

/// One end of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The host or network.
    pub prefix: Option<Prefix>,
    /// The port.
    pub port: Option<u16>,
}

/// How much of what a piece of state is about a filter must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Some of it: for get and copy, which leave the state where it is.
    Overlaps,
    /// All of it: for what is moved, whose other users would miss it.
    Contains,
}

impl FlowId {
    /// The id of the flows between these ends.
    pub fn new(ends: Ends, protocol: Option<u8>, service: Option<ServiceId>) -> Self {
        Self { ends, protocol, service, extras: Vec::new() }
    }

    /// The id of one flow. An echo whose key has its identifier in the place of both ports has it
    /// there too.
    pub fn flow(key: &FlowKey) -> Self {
        let is_named_echo = protocol::is_icmp(key.protocol()) && key.src_port() != 0;
        let has_ports = protocol::has_ports(key.protocol()) || is_named_echo;
        let end = |address, port| End {
            prefix: Some(Prefix::host(address)),
            port: has_ports.then_some(port),
        };
        let ends =
            Ends::Pair { src: end(key.src(), key.src_port()), dst: end(key.dst(), key.dst_port()) };
        Self::new(ends, Some(key.protocol()), Some(key.service()))
    }

    /// The id of all flows from or to a host.
    pub fn host(address: IpAddr, service: ServiceId) -> Self {
        Self::new(Ends::Host(Prefix::host(address)), None, Some(service))
    }

    /// The same id with another field that only some network functions know.
    ///
    /// # Errors
    /// When there are [`EXTRAS_MAX`] of them, or one of that name.
    pub fn with(mut self, extra: Extra) -> Result<Self, ExtraError> {
        Extra::add_to(&mut self.extras, extra)?;
        Ok(self)
    }

    /// The fields that only some network functions know, in the order of their names.
    pub fn extras(&self) -> &[Extra] {
        &self.extras
    }

    /// The one flow that the id is of, if it is of one.
    pub fn key(&self) -> Option<FlowKey> {
        let Ends::Pair { src, dst } = &self.ends else { return None };
        let protocol = self.protocol?;
        let address = |end: &End| Some(end.prefix.filter(Prefix::is_host)?.address());
        let ports = match (src.port, dst.port) {
            (Some(src), Some(dst)) if protocol::has_ports(protocol) => (src, dst),
            (None, None) if !protocol::has_ports(protocol) => (0, 0),
            (Some(src), Some(dst)) if src == dst && src != 0 && protocol::is_icmp(protocol) => {
                (src, dst)
            }
            _ => return None,
        };
        FlowKey::new(address(src)?, address(dst)?, ports, protocol, self.service?)
    }

    /// The same id for both directions of one flow; that of anything else as it is.
    #[must_use]
    pub fn one_way(&self) -> Self {
        match self.key() {
            Some(key) => Self { extras: self.extras.clone(), ..Self::flow(&key.both_ways()) },
            None => self.clone(),
        }
    }

    /// The one host whose flows the id is of, if it is as [`FlowId::host`] makes it.
    pub fn as_host(&self) -> Option<(IpAddr, ServiceId)> {
        let Ends::Host(prefix) = &self.ends else { return None };
        let (address, service) = (prefix.address(), self.service?);
        (*self == Self::host(address, service)).then_some((address, service))
    }

    /// Whether the fields that every network function knows let a filter pick this id.
    pub(crate) fn is_picked_by(&self, filter: &Filter, extent: Extent) -> bool {
        if let Some(key) = self.key() {
            return filter.matches(&key);
        }
        agree(self.protocol, filter.protocol)
            && agree(self.service, filter.service)
            && self.ends.are_picked_by(filter, extent)
    }
}

impl Ends {
    fn are_picked_by(&self, filter: &Filter, extent: Extent) -> bool {
        let one = |end: &End, filter: &crate::filter::Endpoint| {
            let prefix = end.prefix.zip(filter.prefix);
            let port = end.port.zip(filter.ports);
            prefix.is_none_or(|(own, named)| extent.holds(&named, &own))
                && port.is_none_or(|(own, named): (u16, PortRange)| named.ports().contains(&own))
        };
        match self {
            Self::Any => true,
            Self::Host(own) => {
                let named = [filter.src.prefix, filter.dst.prefix];
                let mut named = named.into_iter().flatten().peekable();
                named.peek().is_none() || named.any(|named| extent.holds(&named, own))
            }
            Self::Pair { src, dst } => {
                (one(src, &filter.src) && one(dst, &filter.dst))
                    || (filter.symmetric && one(src, &filter.dst) && one(dst, &filter.src))
            }
        }
    }
}

impl Extent {
    fn holds(self, named: &Prefix, own: &Prefix) -> bool {
        match self {
            Self::Overlaps => named.overlaps(own),
            Self::Contains => named.covers(own),
        }
    }
}

impl fmt::Display for FlowId {
    /// In the words of filters: `host=10.0.0.1,service=0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields: Vec<(&str, String)> = Vec::new();
        match &self.ends {
            Ends::Any => {}
            Ends::Host(prefix) => fields.push(("host", prefix.to_string())),
            Ends::Pair { src, dst } => {
                let prefix = |end: &End| end.prefix.map(|prefix| prefix.to_string());
                let port = |end: &End| end.port.map(|port| port.to_string());
                let named = [
                    ("src", prefix(src)),
                    ("dst", prefix(dst)),
                    ("sport", port(src)),
                    ("dport", port(dst)),
                ];
                fields.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
            }
        }
        let proto = self
            .protocol
            .map(|number| protocol::name(number).map_or_else(|| number.to_string(), str::to_owned));
        fields.extend(proto.map(|proto| ("proto", proto)));
        fields.extend(self.service.map(|service| ("service", service.to_string())));
        let extras = self.extras.iter().map(|extra| (extra.name(), extra.value_text()));
        fields.extend(extras);
        if fields.is_empty() {
            return f.write_str("any");
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&fields.join(","))
    }
}

/// Whether two fields are the same, where both are there.
fn agree<T: PartialEq>(one: Option<T>, two: Option<T>) -> bool {
    one.zip(two).is_none_or(|(one, two)| one == two)
}
