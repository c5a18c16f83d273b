//! Which addresses may be a sender's, and which may be forwarded to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reason::DropReason;

/// Whether no host can have sent from the address (RFC 1812, section 5.3.7; RFC 6890).
///
/// The unspecified address is not among them: whether it is allowed depends on the destination.
#[inline]
pub fn is_martian_source_v4(src: Ipv4Addr) -> bool {
    let [first, ..] = src.octets();
    first == 127 || first >= 224 || (first == 0 && !src.is_unspecified())
}

/// Whether no host can have sent from the address (RFC 4291, section 2.7; RFC 6890).
#[inline]
pub fn is_martian_source_v6(src: Ipv6Addr) -> bool {
    src.octets()[0] == 0xff || src.is_loopback() || src.to_ipv4_mapped().is_some()
}

/// Checks that a packet may be sent on by a router, whatever the routes say.
///
/// # Errors
/// [`DropReason::LinkScope`] when one of the addresses is link-local (RFC 3927, section 7;
/// RFC 4291, section 2.5.6), [`DropReason::MulticastUnsupported`] for groups and broadcast,
/// [`DropReason::MartianSource`] for a packet from the unspecified address,
/// [`DropReason::MartianDestination`] for destinations that no host has.
pub fn forwardable(src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
    if src.is_unspecified() {
        return Err(DropReason::MartianSource);
    }
    if dst.is_multicast() || dst == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(DropReason::MulticastUnsupported);
    }
    let (src_local, dst_martian, dst_local) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let first = dst.octets()[0];
            let martian = first == 127 || first == 0 || first >= 240;
            (src.is_link_local(), martian, dst.is_link_local())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let martian =
                dst.is_loopback() || dst.is_unspecified() || dst.to_ipv4_mapped().is_some();
            (src.is_unicast_link_local(), martian, dst.is_unicast_link_local())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => (false, true, false),
    };
    match () {
        () if dst_martian => Err(DropReason::MartianDestination),
        () if src_local || dst_local => Err(DropReason::LinkScope),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(src: &str, dst: &str) -> Result<(), DropReason> {
        forwardable(src.parse().unwrap(), dst.parse().unwrap())
    }

    #[test]
    fn ordinary_packets_may_be_forwarded() {
        assert_eq!(check("10.0.0.1", "10.1.0.1"), Ok(()));
        assert_eq!(check("2001:db8::1", "2001:db8:1::1"), Ok(()));
    }

    #[test]
    fn each_odd_address_has_its_reason() {
        assert_eq!(check("10.0.0.1", "127.0.0.1"), Err(DropReason::MartianDestination));
        assert_eq!(check("10.0.0.1", "0.0.0.0"), Err(DropReason::MartianDestination));
        assert_eq!(check("10.0.0.1", "240.0.0.1"), Err(DropReason::MartianDestination));
        assert_eq!(check("10.0.0.1", "224.0.0.5"), Err(DropReason::MulticastUnsupported));
        assert_eq!(check("10.0.0.1", "255.255.255.255"), Err(DropReason::MulticastUnsupported));
        assert_eq!(check("169.254.0.1", "10.1.0.1"), Err(DropReason::LinkScope));
        assert_eq!(check("10.0.0.1", "169.254.0.1"), Err(DropReason::LinkScope));
        assert_eq!(check("0.0.0.0", "10.1.0.1"), Err(DropReason::MartianSource));
        assert_eq!(check("fe80::1", "2001:db8::1"), Err(DropReason::LinkScope));
        assert_eq!(check("2001:db8::1", "::1"), Err(DropReason::MartianDestination));
        assert_eq!(check("2001:db8::1", "ff02::1"), Err(DropReason::MulticastUnsupported));
        assert_eq!(check("::", "2001:db8::1"), Err(DropReason::MartianSource));
    }

    #[test]
    fn martian_sources_are_told_from_hosts() {
        for src in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.1.2.3", "240.0.0.1"] {
            assert!(is_martian_source_v4(src.parse().unwrap()), "{src}");
        }
        for src in ["10.0.0.1", "0.0.0.0", "223.255.255.255"] {
            assert!(!is_martian_source_v4(src.parse().unwrap()), "{src}");
        }
        for src in ["::1", "ff02::1", "::ffff:10.0.0.1"] {
            assert!(is_martian_source_v6(src.parse().unwrap()), "{src}");
        }
        assert!(!is_martian_source_v6("2001:db8::1".parse().unwrap()));
    }
}
