//! The flow key: what makes two packets the same flow.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::id::ServiceId;
use crate::protocol;

/// A directional flow key: addresses, ports, protocol and service, 40 bytes without holes.
///
/// IPv4 addresses are kept in their IPv4-mapped form (RFC 4291, section 2.5.5.2); the family
/// tells them from an IPv6 packet that carries such an address. Protocols without ports have 0.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromZeros, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    src: [u8; 16],
    dst: [u8; 16],
    src_port: u16,
    dst_port: u16,
    service: ServiceId,
    protocol: u8,
    family: u8,
}

impl FlowKey {
    /// The key of an IPv4 flow; `ports` are (source, destination).
    #[inline]
    pub fn v4(
        src: Ipv4Addr,
        dst: Ipv4Addr,
        ports: (u16, u16),
        protocol: u8,
        service: ServiceId,
    ) -> Self {
        Self {
            src: src.to_ipv6_mapped().octets(),
            dst: dst.to_ipv6_mapped().octets(),
            src_port: ports.0,
            dst_port: ports.1,
            service,
            protocol,
            family: 4,
        }
    }

    /// The key of an IPv6 flow; `ports` are (source, destination).
    #[inline]
    pub fn v6(
        src: Ipv6Addr,
        dst: Ipv6Addr,
        ports: (u16, u16),
        protocol: u8,
        service: ServiceId,
    ) -> Self {
        Self {
            src: src.octets(),
            dst: dst.octets(),
            src_port: ports.0,
            dst_port: ports.1,
            service,
            protocol,
            family: 6,
        }
    }

    /// The key of a flow between two addresses, or `None` when they are of different families.
    pub fn new(
        src: IpAddr,
        dst: IpAddr,
        ports: (u16, u16),
        protocol: u8,
        service: ServiceId,
    ) -> Option<Self> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                Some(Self::v4(src, dst, ports, protocol, service))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                Some(Self::v6(src, dst, ports, protocol, service))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// One name for both directions of a flow.
    #[inline]
    #[must_use]
    pub fn both_ways(&self) -> Self {
        let end = |address: &[u8; 16], port| (u128::from_be_bytes(*address), port);
        let is_first = end(&self.src, self.src_port) <= end(&self.dst, self.dst_port);
        if is_first { *self } else { self.reversed() }
    }

    /// The key of the opposite direction: addresses and ports swapped together.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            ..*self
        }
    }

    /// The source address.
    pub fn src(&self) -> IpAddr {
        self.address(&self.src)
    }

    /// The destination address.
    pub fn dst(&self) -> IpAddr {
        self.address(&self.dst)
    }

    /// The source address as 16 bytes, IPv4 in mapped form.
    #[inline]
    pub fn src_octets(&self) -> &[u8; 16] {
        &self.src
    }

    /// The destination address as 16 bytes, IPv4 in mapped form.
    #[inline]
    pub fn dst_octets(&self) -> &[u8; 16] {
        &self.dst
    }

    /// The source port, 0 when the protocol has none.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.src_port
    }

    /// The destination port, 0 when the protocol has none.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.dst_port
    }

    /// The IP protocol number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The service that the flow belongs to.
    #[inline]
    pub fn service(&self) -> ServiceId {
        self.service
    }

    /// Whether the flow is IPv4; otherwise it is IPv6.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.family == 4
    }

    fn address(&self, octets: &[u8; 16]) -> IpAddr {
        let v6 = Ipv6Addr::from(*octets);
        match v6.to_ipv4_mapped() {
            Some(v4) if self.is_v4() => IpAddr::V4(v4),
            Some(_) | None => IpAddr::V6(v6),
        }
    }
}

impl Hash for FlowKey {
    /// One write of 40 bytes, where a derived hash would make seven.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match protocol::name(self.protocol) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "proto {}", self.protocol)?,
        }
        let (src, dst) = ((self.src(), self.src_port), (self.dst(), self.dst_port));
        match self.protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => {
                let (src, dst) = (SocketAddr::from(src), SocketAddr::from(dst));
                write!(f, " {src} > {dst}")?;
            }
            _ if (src.1, dst.1) == (0, 0) => write!(f, " {} > {}", src.0, dst.0)?,
            _ => write!(f, " {} > {} id {}/{}", src.0, dst.0, src.1, dst.1)?,
        }
        match self.service {
            ServiceId(0) => Ok(()),
            service => write!(f, " service {service}"),
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: ServiceId = ServiceId(7);

    fn v4_key() -> FlowKey {
        FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (1234, 53), protocol::UDP, DNS)
    }

    #[test]
    fn is_forty_bytes_without_padding() {
        assert_eq!(size_of::<FlowKey>(), 40);
        assert_eq!(v4_key().as_bytes().len(), 40);
    }

    #[test]
    fn gives_back_what_it_was_made_of() {
        let key = v4_key();
        assert_eq!(key.src(), IpAddr::from([10, 0, 0, 1]));
        assert_eq!(key.dst(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!((key.src_port(), key.dst_port()), (1234, 53));
        assert_eq!((key.protocol(), key.service()), (protocol::UDP, DNS));
        assert!(key.is_v4());
    }

    #[test]
    fn reversing_twice_is_the_same_key_and_once_is_not() {
        let key = v4_key();
        assert_eq!(key.reversed().src(), key.dst());
        assert_eq!(key.reversed().dst_port(), 1234);
        assert_ne!(key.reversed(), key);
        assert_eq!(key.reversed().reversed(), key);
    }

    #[test]
    fn a_mapped_address_in_an_ipv6_packet_is_another_flow() {
        let mapped = |last: u8| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped();
        let v6 = FlowKey::v6(mapped(1), mapped(2), (1234, 53), protocol::UDP, DNS);
        assert_ne!(v6, v4_key());
        assert!(v6.src().is_ipv6());
    }

    #[test]
    fn mixed_families_make_no_key() {
        let (v4, v6) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!(FlowKey::new(v4, v6, (0, 0), protocol::UDP, DNS), None);
        assert_eq!(FlowKey::new(v6, v4, (0, 0), protocol::UDP, DNS), None);
        assert_eq!(
            FlowKey::new(v4, IpAddr::from([10, 0, 0, 2]), (1234, 53), protocol::UDP, DNS),
            Some(v4_key())
        );
    }

    #[test]
    fn prints_as_a_person_would_write_it() {
        assert_eq!(v4_key().to_string(), "udp 10.0.0.1:1234 > 10.0.0.2:53 service 7");
        let (one, two) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let tcp = FlowKey::v6(one, two, (1, 2), protocol::TCP, ServiceId(0));
        assert_eq!(tcp.to_string(), "tcp [::1]:1 > [::]:2");
        let gre = FlowKey::v6(one, two, (0, 0), 47, ServiceId(0));
        assert_eq!(gre.to_string(), "proto 47 ::1 > ::");
    }
}
