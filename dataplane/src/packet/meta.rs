//! The descriptor of a parsed packet.

use std::net::{IpAddr, Ipv4Addr};

use weir_state_transfer::{FlowKey, ServiceId};

use super::header::header_at;
use super::ipv4::Ipv4Header;
use super::ipv6::Ipv6Header;

/// What parsing found out about an IP packet: small, and copied with its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The flow that the packet belongs to.
    ///
    /// Ports are set only for TCP and UDP packets that are whole. A fragment has none (later ones
    /// do not carry them, and all must go the same way), nor has ICMP echo: its identifier stands
    /// in no fixed direction, and addresses alone keep request and reply together. An ICMP error
    /// has the key of the packet that it quotes, reversed: the direction that it travels in.
    ///
    /// Where there is a NAT, steering gives echoes their identifier in the place of both ports, and
    /// the NAT puts the key of a translated packet in the place of that it came with.
    pub key: FlowKey,
    /// The steering hash of the key; 0 until steering has set it.
    pub hash: u32,
    /// Where the IP header begins, in bytes from the start of the frame.
    pub l3: u16,
    /// Where the transport header begins; 0 when there is none to read, as in a fragment.
    pub l4: u16,
    /// Where the packet ends by its own IP length; Ethernet padding may follow.
    pub end: u16,
    /// The protocol of the payload. Differs from that of `key` in an ICMP error.
    pub protocol: u8,
    /// What else is special about the packet.
    pub flags: Flags,
}

impl Meta {
    /// The descriptor that goes with an ARP message, which belongs to no flow.
    pub fn of_arp() -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self {
            key: FlowKey::v4(none, none, (0, 0), 0, ServiceId(0)),
            hash: 0,
            l3: 0,
            l4: 0,
            end: 0,
            protocol: 0,
            flags: Flags::ARP,
        }
    }

    /// The length of the IP packet, header included, in bytes.
    #[inline]
    pub fn ip_len(&self) -> u16 {
        self.end.saturating_sub(self.l3)
    }

    /// Source and destination as the IP header says. They differ from those of `key` in an ICMP
    /// error, whose source is not that of the flow.
    pub fn addresses(&self, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
        let l3 = usize::from(self.l3);
        if self.key.is_v4() {
            let header: &Ipv4Header = header_at(frame, l3)?;
            Some((header.source().into(), header.destination().into()))
        } else {
            let header: &Ipv6Header = header_at(frame, l3)?;
            Some((header.source().into(), header.destination().into()))
        }
    }

    /// The transport header and its payload, if there is a header to read.
    #[inline]
    pub fn l4_bytes<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        if self.l4 == 0 {
            return None;
        }
        frame.get(usize::from(self.l4)..usize::from(self.end))
    }
}

/// A set of facts about a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// It is a fragment, the first included.
    pub const FRAGMENT: Self = Self(1);
    /// It is a fragment that is not the first.
    pub const LATER_FRAGMENT: Self = Self(1 << 1);
    /// It has IPv4 options or IPv6 extension headers.
    pub const HAS_OPTIONS: Self = Self(1 << 2);
    /// It ends inside its transport header.
    pub const L4_TRUNCATED: Self = Self(1 << 3);
    /// It is an ICMP error or redirect, about another packet.
    pub const ICMP_ERROR: Self = Self(1 << 4);
    /// `key` is that of the quoted packet, reversed.
    pub const KEY_OF_QUOTED: Self = Self(1 << 5);
    /// Its Ethernet destination is a group address.
    pub const GROUP_FRAME: Self = Self(1 << 6);
    /// It is an ARP message and no packet.
    pub const ARP: Self = Self(1 << 7);
    /// A NAT has translated it: its sender knows it by another key.
    pub const TRANSLATED: Self = Self(1 << 8);
    /// It is an ICMP error of the router itself about a packet that a NAT has translated.
    pub const OWN_ERROR: Self = Self(1 << 9);

    /// Whether all of `flags` are set.
    #[inline]
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The set with `flags` added when `condition` holds.
    #[inline]
    #[must_use]
    pub fn with(self, flags: Self, condition: bool) -> Self {
        if condition { Self(self.0 | flags.0) } else { self }
    }
}
