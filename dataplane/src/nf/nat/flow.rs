//! Which flow a packet belongs to, as a NAT tells flows apart, and where its headers are.

use weir_state_transfer::{FlowKey, protocol};

use super::rules::{between, ends};
use crate::packet::header::header_at;
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::Ipv4Header;
use crate::packet::ipv6::{self, Ipv6Header, walk_extensions};
use crate::packet::{Flags, Meta};

/// The key by which a NAT knows the flow of a packet: that of [`Meta`], but that echoes, and errors
/// about them, have their identifier in the place of both ports.
pub fn flow_key(frame: &[u8], meta: &Meta) -> FlowKey {
    let key = meta.key;
    if !protocol::is_icmp(key.protocol()) {
        return key;
    }
    let headers = if meta.flags.has(Flags::KEY_OF_QUOTED) {
        Headers::quoted(frame, meta)
    } else {
        Some(Headers::of(meta))
    };
    let l4 = headers.and_then(|headers| headers.l4);
    match l4.and_then(|l4| identifier(frame, l4, key.is_v4())) {
        Some(id) => {
            let [src, dst] = ends(&key);
            between(&key, (src.0, id), (dst.0, id))
        }
        None => key,
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
    /// Those of a packet.
    pub(super) fn of(meta: &Meta) -> Self {
        let l4 = (meta.l4 > 0).then_some(usize::from(meta.l4));
        Self { l3: usize::from(meta.l3), l4, protocol: meta.protocol }
    }

    /// Those of the packet that an ICMP error quotes.
    pub(super) fn quoted(frame: &[u8], meta: &Meta) -> Option<Self> {
        let l3 = usize::from(meta.l4) + icmp::HEADER_LEN;
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

/// Whether a packet is the answer to an echo request.
pub(super) fn is_echo_reply(frame: &[u8], meta: &Meta) -> bool {
    let reply = if meta.key.is_v4() { icmp::v4::ECHO_REPLY } else { icmp::v6::ECHO_REPLY };
    kind(frame, meta) == Some(reply)
}

/// Whether a packet is an error about a packet of its flow, and no redirect.
pub(super) fn is_error(frame: &[u8], meta: &Meta) -> bool {
    let redirect = if meta.key.is_v4() { icmp::v4::REDIRECT } else { icmp::v6::REDIRECT };
    meta.flags.has(Flags::KEY_OF_QUOTED) && kind(frame, meta) != Some(redirect)
}

fn kind(frame: &[u8], meta: &Meta) -> Option<u8> {
    let header: &IcmpHeader = header_at(meta.l4_bytes(frame)?, 0)?;
    Some(header.kind)
}
