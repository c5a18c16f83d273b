//! The IPv4 header (RFC 791).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of an IPv4 header without options, in bytes.
pub const HEADER_LEN: usize = 20;
/// The bit of [`Ipv4Header::fragment`] that forbids fragmentation.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The bit of [`Ipv4Header::fragment`] that says that more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of [`Ipv4Header::fragment`] that hold the offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// An IPv4 header without its options.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4) in the upper half, header length in units of 4 bytes in the lower.
    pub version_length: u8,
    /// Differentiated services and congestion notification.
    pub traffic_class: u8,
    /// Header and payload, in bytes.
    pub total_length: U16,
    /// Tells the fragments of one packet from those of another.
    pub identification: U16,
    /// [`DONT_FRAGMENT`], [`MORE_FRAGMENTS`] and [`FRAGMENT_OFFSET`].
    pub fragment: U16,
    /// Routers that it may still pass, this one included.
    pub ttl: u8,
    /// The protocol of the payload.
    pub protocol: u8,
    /// RFC 1071 checksum of the header.
    pub checksum: U16,
    /// Where it comes from.
    pub src: [u8; 4],
    /// Where it goes.
    pub dst: [u8; 4],
}

impl Ipv4Header {
    /// The version that the header says.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_length >> 4
    }

    /// The length that the header says, 0 to 60 bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_length & 0xf) * 4
    }

    /// Whether it is a fragment, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Whether it is a fragment that is not the first.
    #[inline]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.get() & FRAGMENT_OFFSET != 0
    }

    /// Where it comes from.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// Where it goes.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        self.dst.into()
    }
}
