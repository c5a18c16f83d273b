//! What a router reads of transport headers: ports and checksum places.

use weir_state_transfer::protocol;
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// The port of the sender.
    pub src_port: U16,
    /// The port of the receiver.
    pub dst_port: U16,
    /// Header and data, in bytes.
    pub length: U16,
    /// 0 when the sender made none, which IPv4 allows.
    pub checksum: U16,
}

/// Source and destination port, where TCP and UDP have them.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ports {
    /// The port of the sender.
    pub src: U16,
    /// The port of the receiver.
    pub dst: U16,
}

/// The shortest header of the protocol, 0 for protocols that are not read.
#[inline]
pub fn header_len_min(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMP | protocol::ICMPV6 => 8,
        _ => 0,
    }
}

/// Where in its header TCP or UDP keeps the checksum.
#[inline]
pub fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        _ => None,
    }
}
