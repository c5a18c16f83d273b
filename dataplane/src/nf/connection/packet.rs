//! A packet as connection tracking sees it.

use weir_state_transfer::state_filter::PacketFields;
use weir_state_transfer::{FlowKey, PortId, protocol};

use super::invalid::Invalid;
use super::segment::Segment;
use crate::packet::header::header_at;
use crate::packet::icmp::{self, IcmpHeader};
use crate::packet::ipv4::Ipv4Header;
use crate::packet::ipv6::{self, Ipv6Header, walk_extensions};
use crate::packet::l4::UdpHeader;
use crate::packet::{Flags, Meta};

/// A parsed packet and where it came in.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    meta: &'a Meta,
    /// The transport header and its payload; empty when there is none to read.
    l4: &'a [u8],
    in_port: PortId,
}

/// An echo request or reply (RFC 792, RFC 4443 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Its identifier.
    pub(super) id: u16,
    /// Whether it is a request.
    pub(super) asks: bool,
}

impl<'a> Packet<'a> {
    /// The packet in a frame that parsing has described.
    pub fn new(frame: &'a [u8], meta: &'a Meta, in_port: PortId) -> Self {
        Self { meta, l4: meta.l4_bytes(frame).unwrap_or_default(), in_port }
    }

    /// The flow that it belongs to.
    #[inline]
    pub fn key(&self) -> &FlowKey {
        &self.meta.key
    }

    /// What a filter compares of it.
    pub fn fields(&self) -> PacketFields<'_> {
        let flags = self.segment().ok().map(|segment| segment.flags);
        PacketFields { key: self.key(), tcp_flags: flags, in_port: self.in_port }
    }

    /// Whether it is an ICMP error about a packet of the flow.
    pub(super) fn is_error(&self) -> bool {
        self.meta.flags.has(Flags::KEY_OF_QUOTED)
    }

    /// The protocol of its payload.
    pub(super) fn protocol(&self) -> u8 {
        self.meta.protocol
    }

    /// The TCP segment in it.
    #[inline]
    pub(super) fn segment(&self) -> Result<Segment<'a>, Invalid> {
        self.check_whole()?;
        if self.meta.protocol != protocol::TCP {
            return Err(Invalid::BadHeader);
        }
        Segment::read(self.l4)
    }

    /// The echo request or reply in it.
    pub(super) fn query(&self) -> Result<Query, Invalid> {
        self.check_whole()?;
        if self.meta.flags.has(Flags::ICMP_ERROR) {
            return Err(Invalid::UnrelatedError);
        }
        Query::read(self.l4, self.meta.protocol)
    }

    /// The echo request or reply that an ICMP error quotes.
    pub(super) fn quoted_query(&self) -> Result<Query, Invalid> {
        let quoted = self.l4.get(icmp::HEADER_LEN..).ok_or(Invalid::BadHeader)?;
        let (protocol, offset) = if self.meta.key.is_v4() {
            let header: &Ipv4Header = header_at(quoted, 0).ok_or(Invalid::BadHeader)?;
            (header.protocol, header.header_len())
        } else {
            let header: &Ipv6Header = header_at(quoted, 0).ok_or(Invalid::BadHeader)?;
            let upper = walk_extensions(quoted, header.next_header, ipv6::HEADER_LEN)
                .map_err(|_| Invalid::BadHeader)?;
            (upper.protocol, upper.offset)
        };
        let message = quoted.get(offset..).ok_or(Invalid::BadHeader)?;
        Query::read(message, protocol).map_err(|_| Invalid::UnrelatedError)
    }

    /// Refuses what is no whole packet of a protocol other than TCP and ICMP.
    pub(super) fn check_datagram(&self) -> Result<(), Invalid> {
        self.check_whole()?;
        if self.meta.protocol != protocol::UDP {
            return Ok(());
        }
        let header: &UdpHeader = header_at(self.l4, 0).ok_or(Invalid::BadHeader)?;
        let length = usize::from(header.length.get());
        let fits = (size_of::<UdpHeader>()..=self.l4.len()).contains(&length);
        if fits { Ok(()) } else { Err(Invalid::BadHeader) }
    }

    fn check_whole(&self) -> Result<(), Invalid> {
        if self.meta.flags.has(Flags::FRAGMENT) {
            Err(Invalid::Fragment)
        } else if self.meta.flags.has(Flags::L4_TRUNCATED) {
            Err(Invalid::BadHeader)
        } else {
            Ok(())
        }
    }
}

impl Query {
    /// The query that a message begins with.
    fn read(message: &[u8], protocol: u8) -> Result<Self, Invalid> {
        let header: &IcmpHeader = header_at(message, 0).ok_or(Invalid::BadHeader)?;
        let asks = match (protocol, header.kind) {
            (protocol::ICMP, icmp::v4::ECHO_REQUEST)
            | (protocol::ICMPV6, icmp::v6::ECHO_REQUEST) => true,
            (protocol::ICMP, icmp::v4::ECHO_REPLY) | (protocol::ICMPV6, icmp::v6::ECHO_REPLY) => {
                false
            }
            _ => return Err(Invalid::UnsupportedIcmp),
        };
        let [high, low, ..] = header.rest;
        Ok(Self { id: u16::from_be_bytes([high, low]), asks })
    }
}
