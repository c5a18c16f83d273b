//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the header and the kinds of messages.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of an ICMP or ICMPv6 header, in bytes.
pub const HEADER_LEN: usize = 8;

/// The first 8 bytes of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// What kind of message it is.
    pub kind: u8,
    /// Details of the kind.
    pub code: u8,
    /// RFC 1071 checksum; over the pseudo-header too in ICMPv6.
    pub checksum: U16,
    /// Identifier and sequence number, MTU or flags, by kind.
    pub rest: [u8; 4],
}

/// Message types of ICMP.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Whether messages of the type quote the packet that caused them.
    #[inline]
    pub fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

/// Message types of ICMPv6.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation (RFC 4861), the first type of neighbour discovery.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect (RFC 4861), the last type of neighbour discovery.
    pub const REDIRECT: u8 = 137;

    /// Whether messages of the type quote the packet that caused them.
    #[inline]
    pub fn is_error(kind: u8) -> bool {
        kind < 128
    }
}
