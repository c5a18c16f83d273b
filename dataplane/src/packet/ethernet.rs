//! Ethernet II: MAC addresses and the frame header (IEEE 802.3).

use std::fmt;
use std::str::FromStr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The length of an Ethernet header without VLAN tag, in bytes.
pub const HEADER_LEN: usize = 14;
/// The Ethernet type of IPv4.
pub const IPV4: u16 = 0x0800;
/// The Ethernet type of ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// The Ethernet type of IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;
/// The Ethernet type of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// The Ethernet type of a provider's VLAN tag (IEEE 802.1ad).
pub const PROVIDER_VLAN: u16 = 0x88a8;

/// The header of an Ethernet frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    /// Where the frame goes.
    pub destination: MacAddr,
    /// Which station sent it.
    pub source: MacAddr,
    /// What it carries; values under 1,536 are lengths (IEEE 802.3).
    pub ethertype: U16,
}

/// A MAC address.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is a group address, broadcast included.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it may be the address of one station: no group address and not all zero.
    #[inline]
    pub fn is_station(self) -> bool {
        !self.is_multicast() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(BadMac)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() {
            return Err(BadMac);
        }
        Ok(Self(mac))
    }
}

/// A text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address is written as six pairs of hexadecimal digits, as in 02:00:00:00:00:01")]
pub struct BadMac;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_reads_what_it_prints() {
        let mac = MacAddr([2, 0, 0xab, 0, 0, 0x1f]);
        assert_eq!(mac.to_string(), "02:00:ab:00:00:1f");
        assert_eq!("02:00:AB:00:00:1f".parse(), Ok(mac));
    }

    #[test]
    fn a_text_that_is_no_mac_address_is_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "0g:00:00:00:00:01",
            "+1:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(BadMac), "{text}");
        }
    }

    #[test]
    fn group_and_zero_addresses_are_no_station() {
        assert!(!MacAddr::BROADCAST.is_station() && !MacAddr::default().is_station());
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_station());
    }
}
