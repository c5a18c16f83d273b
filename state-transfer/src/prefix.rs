//! IP prefixes of either family, laid out for matching flow keys.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::flow_key::FlowKey;
use crate::quote::quoted;

/// An IPv4 or IPv6 prefix; it matches addresses of its own family only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Network address, IPv4 in mapped form.
    network: u128,
    /// Ones where an address has to equal the network.
    mask: u128,
    v4: bool,
}

impl Prefix {
    /// The prefix of that length.
    ///
    /// # Errors
    /// When the length exceeds 32 (IPv4) or 128 (IPv6), or the address has bits set beyond it.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let v4 = address.is_ipv4();
        let most = if v4 { 32 } else { 128 };
        if length > most {
            return Err(PrefixError::TooLong { length, most });
        }
        let host_bits = u32::from(most - length);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let bits = bits(address);
        let prefix = Self { network: bits & mask, mask, v4 };
        if prefix.network == bits { Ok(prefix) } else { Err(PrefixError::HostBits { prefix }) }
    }

    /// The prefix of a single address.
    pub fn host(address: IpAddr) -> Self {
        Self { network: bits(address), mask: u128::MAX, v4: address.is_ipv4() }
    }

    /// The network address.
    pub fn address(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.network);
        match address.to_ipv4_mapped() {
            Some(address) if self.v4 => IpAddr::V4(address),
            Some(_) | None => IpAddr::V6(address),
        }
    }

    /// Number of leading bits that an address has to share.
    pub fn length(&self) -> u8 {
        let shared = self.mask.count_ones() as u8;
        if self.v4 { shared - 96 } else { shared }
    }

    /// Whether it is an IPv4 prefix.
    pub fn is_v4(&self) -> bool {
        self.v4
    }

    /// Whether it names a single address.
    pub fn is_host(&self) -> bool {
        self.mask == u128::MAX
    }

    /// Whether it matches every address of its family.
    pub fn is_any(&self) -> bool {
        self.length() == 0
    }

    /// Whether every address that the other matches, this one matches too.
    pub fn covers(&self, other: &Self) -> bool {
        self.v4 == other.v4
            && self.mask & other.mask == self.mask
            && other.network & self.mask == self.network
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether it matches the address `octets` of a key (its source or its destination).
    #[inline]
    pub(crate) fn matches(&self, key: &FlowKey, octets: &[u8; 16]) -> bool {
        self.has(key.is_v4(), octets)
    }

    /// Whether it matches an address of a family as 16 bytes, IPv4 in mapped form.
    #[inline]
    pub fn has(&self, is_v4: bool, octets: &[u8; 16]) -> bool {
        self.v4 == is_v4 && u128::from_be_bytes(*octets) & self.mask == self.network
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Parses `10.0.0.0/8`, `2001:db8::/32` or a single address.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let address = |text: &str| {
            text.parse().map_err(|_| PrefixError::NotAnAddress { found: text.to_owned() })
        };
        match text.split_once('/') {
            None => Ok(Self::host(address(text)?)),
            Some((network, length)) => {
                let network = address(network)?;
                let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                match length.parse() {
                    Ok(length) if plain => Self::new(network, length),
                    Ok(_) | Err(_) => Err(PrefixError::NotALength { found: length.to_owned() }),
                }
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() {
            write!(f, "{}", self.address())
        } else {
            write!(f, "{}/{}", self.address(), self.length())
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text or a pair of values is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash is not an address.
    #[error("{} is not an IPv4 or IPv6 address", quoted(found))]
    NotAnAddress {
        /// What stands there.
        found: String,
    },
    /// The part after the slash is not a number up to 255.
    #[error("{} is not a prefix length", quoted(found))]
    NotALength {
        /// What stands there.
        found: String,
    },
    /// The length exceeds that of the address.
    #[error("prefix length {length} exceeds {most}")]
    TooLong {
        /// The length.
        length: u8,
        /// The longest of the family.
        most: u8,
    },
    /// The address has bits set that the length excludes.
    #[error("the address has bits set beyond the prefix length: did you mean {prefix}?")]
    HostBits {
        /// The prefix without them.
        prefix: Prefix,
    },
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::id::ServiceId;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prints_what_it_parsed() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "10.1.2.3", "::/0", "2001:db8::/32", "::1"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("10.1.2.3/32").to_string(), "10.1.2.3");
    }

    #[test]
    fn covers_longer_prefixes_of_its_own_family_only() {
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16")));
        assert!(prefix("10.0.0.0/8").covers(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.0.0.0/8").covers(&prefix("11.0.0.0/16")));
        assert!(prefix("0.0.0.0/0").covers(&prefix("1.2.3.4")));
        assert!(!prefix("::/0").covers(&prefix("1.2.3.4")));
        assert!(!prefix("::ffff:0:0/96").covers(&prefix("0.0.0.0/0")));
        assert!(prefix("10.1.0.0/16").overlaps(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.1.0.0/16").overlaps(&prefix("10.2.0.0/16")));
    }

    #[test]
    fn every_length_of_both_families_compares_just_so_many_bits() {
        for (text, bits) in [("198.51.100.170", 32), ("2001:db8:ffff::aaaa:5555", 128_u8)] {
            let address: IpAddr = text.parse().unwrap();
            let flipped = |bit: u8| match address {
                IpAddr::V4(v4) => {
                    IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() ^ (1 << 31) >> bit))
                }
                IpAddr::V6(v6) => {
                    IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() ^ (1 << 127) >> bit))
                }
            };
            let matches = |prefix: &Prefix, address: IpAddr| {
                let key = FlowKey::new(address, address, (1, 2), 6, ServiceId(0)).unwrap();
                prefix.matches(&key, key.src_octets())
            };
            for length in 0..=bits {
                let prefix = match Prefix::new(address, length) {
                    Ok(prefix) | Err(PrefixError::HostBits { prefix }) => prefix,
                    Err(error) => panic!("{error}"),
                };
                assert_eq!((prefix.length(), prefix.is_any()), (length, length == 0));
                assert!(matches(&prefix, address), "{prefix}");
                for bit in 0..bits {
                    assert_eq!(matches(&prefix, flipped(bit)), bit >= length, "{prefix} {bit}");
                }
            }
        }
        for (any, other) in [("0.0.0.0/0", "::1"), ("::/0", "10.0.0.1")] {
            let other = other.parse().unwrap();
            let key = FlowKey::new(other, other, (1, 2), 6, ServiceId(0)).unwrap();
            assert!(!prefix(any).matches(&key, key.src_octets()), "{any} is of one family");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err().to_string();
        assert_eq!(error("10.0.0/8"), "\"10.0.0\" is not an IPv4 or IPv6 address");
        assert_eq!(error("10.0.0.0/"), "\"\" is not a prefix length");
        assert_eq!(error("10.0.0.0/+8"), "\"+8\" is not a prefix length");
        assert_eq!(error("10.0.0.0/33"), "prefix length 33 exceeds 32");
        assert_eq!(error("::/129"), "prefix length 129 exceeds 128");
        assert_eq!(
            error("10.1.0.0/8"),
            "the address has bits set beyond the prefix length: did you mean 10.0.0.0/8?"
        );
    }
}
