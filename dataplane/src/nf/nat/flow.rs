//! Which flow a packet belongs to, as a NAT tells flows apart, and where its headers are.

use weir_state_transfer::FlowKey;

use super::rules::{between, ends, has_ports, is_icmp};
use crate::packet::header::header_at;
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::Ipv4Header;
use crate::packet::ipv6::{self, Ipv6Header, walk_extensions};
use crate::packet::l4::Ports;
use crate::packet::{Flags, Meta};

/// The key under which the translation of a packet is found, made the same for both directions by
/// [`FlowKey::both_ways`].
///
/// It is that of [`Meta`] with what `Meta` leaves out: echoes, and errors about them, have their
/// identifier as both ports, and a first fragment of TCP or UDP has its ports. A later fragment
/// has none, unless it has got them already from somebody who has seen the first.
pub fn flow_key(frame: &[u8], meta: &Meta) -> FlowKey {
    let key = meta.key;
    let headers = if meta.flags.has(Flags::KEY_OF_QUOTED) {
        Headers::quoted(frame, meta)
    } else {
        Headers::of(frame, meta)
    };
    let Some(l4) = headers.and_then(|headers| headers.l4) else { return key };
    let ports = match key.protocol() {
        number if is_icmp(number) => identifier(frame, l4, key.is_v4()).map(|id| (id, id)),
        number if has_ports(number) && meta.flags.has(Flags::FRAGMENT) => {
            header_at::<Ports>(frame, l4).map(|ports| (ports.src.get(), ports.dst.get()))
        }
        _ => None,
    };
    let Some(ports) = ports else { return key };
    let [src, dst] = ends(&key);
    between(&key, (src.0, ports.0), (dst.0, ports.1))
}

/// The key that [`Meta`] has for a packet of a flow, which had one of its kind.
pub(super) fn meta_key(flow: &FlowKey, meta: &Meta) -> FlowKey {
    let had_none = (meta.key.src_port(), meta.key.dst_port()) == (0, 0);
    if has_ports(flow.protocol()) && !(had_none && meta.flags.has(Flags::FRAGMENT)) {
        *flow
    } else {
        let [src, dst] = ends(flow);
        between(flow, (src.0, 0), (dst.0, 0))
    }
}

/// Where the headers of a packet are, or of the packet that it quotes: in bytes from the start of
/// the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) l3: usize,
    /// None in later fragments.
    pub(super) l4: Option<usize>,
    pub(super) protocol: u8,
}

impl Headers {
    pub(super) fn of(frame: &[u8], meta: &Meta) -> Option<Self> {
        let (l3, protocol) = (usize::from(meta.l3), meta.protocol);
        if meta.flags.has(Flags::FRAGMENT) {
            return Self::read(frame, l3, meta);
        }
        Some(Self { l3, l4: (meta.l4 > 0).then_some(usize::from(meta.l4)), protocol })
    }

    /// Those of the packet that an ICMP error quotes.
    pub(super) fn quoted(frame: &[u8], meta: &Meta) -> Option<Self> {
        Self::read(frame, usize::from(meta.l4) + icmp::HEADER_LEN, meta)
    }

    fn read(frame: &[u8], l3: usize, meta: &Meta) -> Option<Self> {
        let packet = frame.get(..usize::from(meta.end))?;
        let (protocol, l4, later) = if meta.key.is_v4() {
            let header: &Ipv4Header = header_at(packet, l3)?;
            (header.protocol, l3 + header.header_len(), header.is_later_fragment())
        } else {
            let header: &Ipv6Header = header_at(packet, l3)?;
            let start = l3 + ipv6::HEADER_LEN;
            let upper = walk_extensions(packet, header.next_header, start).ok()?;
            (upper.protocol, upper.offset, upper.later_fragment)
        };
        Some(Self { l3, l4: (!later).then_some(l4), protocol })
    }
}

/// The identifier of an echo, if that is what a message is.
fn identifier(frame: &[u8], l4: usize, is_v4: bool) -> Option<u16> {
    let header: &IcmpHeader = header_at(frame, l4)?;
    let is_echo = if is_v4 {
        matches!(header.kind, icmp::v4::ECHO_REQUEST | icmp::v4::ECHO_REPLY)
    } else {
        matches!(header.kind, icmp::v6::ECHO_REQUEST | icmp::v6::ECHO_REPLY)
    };
    let [high, low, ..] = header.rest;
    is_echo.then_some(u16::from_be_bytes([high, low]))
}
