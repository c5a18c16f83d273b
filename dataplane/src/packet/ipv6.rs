//! The IPv6 header and the walk over its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::header_at;
use super::reason::DropReason;

/// The length of an IPv6 header without extensions, in bytes.
pub const HEADER_LEN: usize = 40;
/// The most extension headers that a packet may have.
pub const EXTENSIONS_MAX: usize = 8;
/// The next-header value that says that nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// An IPv6 header without extensions.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (6) in the top 4 bits, traffic class and flow label.
    pub version_class_label: U32,
    /// What follows this header, in bytes.
    pub payload_length: U16,
    /// The protocol of what follows.
    pub next_header: u8,
    /// Routers that it may still pass, this one included.
    pub hop_limit: u8,
    /// Where it comes from.
    pub src: [u8; 16],
    /// Where it goes.
    pub dst: [u8; 16],
}

impl Ipv6Header {
    /// A header with traffic class and flow label 0.
    pub fn new(
        src: Ipv6Addr,
        dst: Ipv6Addr,
        next_header: u8,
        hop_limit: u8,
        payload_length: u16,
    ) -> Self {
        Self {
            version_class_label: U32::new(6 << 28),
            payload_length: U16::new(payload_length),
            next_header,
            hop_limit,
            src: src.octets(),
            dst: dst.octets(),
        }
    }

    /// The version that the header says.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.version_class_label.get() >> 28) as u8
    }

    /// Where it comes from.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        self.src.into()
    }

    /// Where it goes.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        self.dst.into()
    }
}

/// What stands behind the extension headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The protocol of the payload.
    pub protocol: u8,
    /// Where the payload begins, at most the end of the packet.
    pub offset: usize,
    /// Whether there was any extension header.
    pub has_extensions: bool,
    /// Whether the packet is a fragment, the first included; an atomic fragment is none
    /// (RFC 6946).
    pub fragment: bool,
    /// Whether it is a fragment that is not the first.
    pub later_fragment: bool,
}

/// Walks the extension headers of `packet`, which is cut at its IP end, from `offset` on.
///
/// # Errors
/// [`DropReason::TruncatedExtension`] when one runs over the end,
/// [`DropReason::ExtensionChainTooLong`] when there are more than [`EXTENSIONS_MAX`].
pub fn walk_extensions(packet: &[u8], next: u8, offset: usize) -> Result<Upper, DropReason> {
    let mut upper = Upper {
        protocol: next,
        offset,
        has_extensions: false,
        fragment: false,
        later_fragment: false,
    };
    for _ in 0..=EXTENSIONS_MAX {
        let [next, length] = match upper.protocol {
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY
            | HOST_IDENTITY | SHIM6 => {
                *header_at::<[u8; 2]>(packet, upper.offset).ok_or(DropReason::TruncatedExtension)?
            }
            _ => return Ok(upper),
        };
        let length = match upper.protocol {
            FRAGMENT => 8,
            // RFC 4302, section 2.2: units of 4 bytes, minus 2.
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if packet.len() < upper.offset + length {
            return Err(DropReason::TruncatedExtension);
        }
        if upper.protocol == FRAGMENT {
            let offset_flags =
                header_at::<U16>(packet, upper.offset + 2).ok_or(DropReason::TruncatedExtension)?;
            upper.fragment = offset_flags.get() & 0xfff9 != 0;
            upper.later_fragment = offset_flags.get() & 0xfff8 != 0;
        }
        upper.has_extensions = true;
        upper.protocol = next;
        upper.offset += length;
        // What follows in a later fragment is data of the packet, not a header.
        if upper.later_fragment {
            return Ok(upper);
        }
    }
    Err(DropReason::ExtensionChainTooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_without_extensions_is_left_where_it_is() {
        let upper = walk_extensions(&[0; 60], 17, 40).unwrap();
        assert_eq!((upper.protocol, upper.offset, upper.has_extensions), (17, 40, false));
    }

    #[test]
    fn eight_extensions_pass_and_nine_do_not() {
        for count in [1, EXTENSIONS_MAX, EXTENSIONS_MAX + 1] {
            let mut packet = vec![];
            for place in 0..count {
                let next = if place + 1 == count { 6 } else { DESTINATION_OPTIONS };
                packet.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
            }
            let upper = walk_extensions(&packet, DESTINATION_OPTIONS, 0);
            if count > EXTENSIONS_MAX {
                assert_eq!(upper, Err(DropReason::ExtensionChainTooLong));
            } else {
                assert_eq!(upper.map(|upper| (upper.protocol, upper.offset)), Ok((6, count * 8)));
            }
        }
    }

    #[test]
    fn an_extension_over_the_end_is_truncated() {
        let packet = [6, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(walk_extensions(&packet, HOP_BY_HOP, 0), Err(DropReason::TruncatedExtension));
        assert_eq!(walk_extensions(&[6], HOP_BY_HOP, 0), Err(DropReason::TruncatedExtension));
    }

    #[test]
    fn a_later_fragment_ends_the_walk_and_an_atomic_one_is_no_fragment() {
        let later = [HOP_BY_HOP, 0, 0, 8, 0, 0, 0, 1];
        let upper = walk_extensions(&later, FRAGMENT, 0).unwrap();
        assert!(upper.later_fragment && upper.fragment);
        assert_eq!(upper.protocol, HOP_BY_HOP);
        let atomic = [6, 0, 0, 0, 0, 0, 0, 1];
        let upper = walk_extensions(&atomic, FRAGMENT, 0).unwrap();
        assert!(!upper.fragment && !upper.later_fragment && upper.has_extensions);
    }
}
