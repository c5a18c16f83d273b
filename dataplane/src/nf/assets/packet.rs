//! What asset detection reads of a packet.

use std::net::IpAddr;

use weir_state_transfer::{FlowKey, protocol};

use crate::packet::header::header_at;
use crate::packet::ipv4::Ipv4Header;
use crate::packet::ipv6::Ipv6Header;
use crate::packet::{Flags, Meta};

/// A packet of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) key: FlowKey,
    pub(super) ip: Ip<'a>,
    pub(super) transport: Transport<'a>,
}

/// The header of the network layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ip<'a> {
    V4(&'a Ipv4Header),
    V6(&'a Ipv6Header),
}

/// What is behind the IP header.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport<'a> {
    Tcp(Segment<'a>),
    /// The payload.
    Udp(&'a [u8]),
    /// Another protocol, or nothing that can be read: a fragment, or a header that is cut off.
    Opaque,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    header: &'a [u8; 20],
    pub(super) options: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn read(meta: &Meta, frame: &'a [u8]) -> Option<Self> {
        let l3 = usize::from(meta.l3);
        let ip = if meta.key.is_v4() {
            Ip::V4(header_at(frame, l3)?)
        } else {
            Ip::V6(header_at(frame, l3)?)
        };
        let transport = Transport::read(meta, frame).unwrap_or(Transport::Opaque);
        Some(Self { key: meta.key, ip, transport })
    }
}

impl Ip<'_> {
    /// Routers that the packet may still pass.
    pub(super) fn ttl(&self) -> u8 {
        match self {
            Self::V4(header) => header.ttl,
            Self::V6(header) => header.hop_limit,
        }
    }
}

impl<'a> Transport<'a> {
    fn read(meta: &Meta, frame: &'a [u8]) -> Option<Self> {
        if meta.flags.has(Flags::L4_TRUNCATED) {
            return None;
        }
        let bytes = meta.l4_bytes(frame)?;
        match meta.protocol {
            protocol::TCP => Segment::read(bytes).map(Self::Tcp),
            protocol::UDP => bytes.get(8..).map(Self::Udp),
            _ => None,
        }
    }
}

impl<'a> Segment<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; 20] = bytes.first_chunk()?;
        let length = usize::from(header[12] >> 4) * 4;
        let options = bytes.get(header.len()..length)?;
        let payload = bytes.get(length..)?;
        Some(Self { header, options, payload })
    }

    pub(super) fn seq(&self) -> u32 {
        self.number(4)
    }

    pub(super) fn ack(&self) -> u32 {
        self.number(8)
    }

    pub(super) fn window(&self) -> u16 {
        u16::from_be_bytes([self.header[14], self.header[15]])
    }

    pub(super) fn urgent_pointer(&self) -> u16 {
        u16::from_be_bytes([self.header[18], self.header[19]])
    }

    pub(super) fn fin(&self) -> bool {
        self.has(0x01)
    }

    pub(super) fn syn(&self) -> bool {
        self.has(0x02)
    }

    pub(super) fn rst(&self) -> bool {
        self.has(0x04)
    }

    pub(super) fn psh(&self) -> bool {
        self.has(0x08)
    }

    pub(super) fn has_ack(&self) -> bool {
        self.has(0x10)
    }

    pub(super) fn urg(&self) -> bool {
        self.has(0x20)
    }

    /// Whether a flag of explicit congestion notification is set (RFC 3168, section 6.1).
    pub(super) fn ecn(&self) -> bool {
        self.has(0xc0)
    }

    fn has(&self, flags: u8) -> bool {
        self.header[13] & flags != 0
    }

    fn number(&self, at: usize) -> u32 {
        let header = self.header;
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    }
}

/// Whether an address can be that of a host.
pub(super) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_longer_than_its_packet_or_shorter_than_it_may_be_is_none() {
        let mut bytes = [0; 28];
        for (words, fits) in [(0, false), (4, false), (5, true), (7, true), (8, false), (15, false)]
        {
            bytes[12] = words << 4;
            let segment = Segment::read(&bytes);
            assert_eq!(segment.is_some(), fits, "{words}");
            let lengths = segment.map(|segment| segment.options.len() + segment.payload.len());
            assert!(lengths.is_none_or(|length| length == 8));
        }
        assert!(Segment::read(&bytes[..19]).is_none());
    }

    #[test]
    fn an_address_of_nobody_or_of_many_is_no_host() {
        for text in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1"]
        {
            assert!(!is_host(text.parse().unwrap()), "{text}");
        }
        assert!(is_host([10, 0, 0, 1].into()) && is_host("fe80::1".parse().unwrap()));
    }
}
