//! The router's own addresses: of a port, and of all ports together.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arrayvec::ArrayVec;
use ipnet::IpNet;
use weir_state_transfer::{FlowKey, PortId};

use crate::address_map::AddressSet;
use crate::packet::MacAddr;
use crate::packet::ethernet::EthernetHeader;
use crate::packet::header::header_at;
use crate::packet::neighbour_discovery::link_local;
use crate::packet::{Flags, Meta};

/// Most addresses of a port, the link-local one included.
pub const PORT_ADDRESSES_MAX: usize = 16;

/// The link-layer address and the networks of a port.
#[derive(Clone, Debug)]
pub struct PortAddresses {
    port: PortId,
    mac: MacAddr,
    /// Addresses with the length of their network's prefix.
    nets: ArrayVec<IpNet, PORT_ADDRESSES_MAX>,
    /// Others on its networks that it answers for: those that flows have outside of a NAT.
    outside: Arc<BTreeSet<IpAddr>>,
}

/// A port cannot have these addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddresses {
    /// The MAC address is that of a group, or zero.
    #[error("{0} cannot be the MAC address of a port")]
    Mac(MacAddr),
    /// The address is not one that a host can have.
    #[error("{0} cannot be the address of a port")]
    Address(IpAddr),
    /// There are too many.
    #[error("a port has at most {PORT_ADDRESSES_MAX} addresses, its link-local one included")]
    TooMany,
}

impl PortAddresses {
    /// The addresses of a port; the link-local one of its MAC address joins them.
    ///
    /// # Errors
    /// [`BadAddresses`].
    pub fn new(
        port: PortId,
        mac: MacAddr,
        nets: impl IntoIterator<Item = IpNet>,
    ) -> Result<Self, BadAddresses> {
        if !mac.is_station() {
            return Err(BadAddresses::Mac(mac));
        }
        let mut all = ArrayVec::new();
        for net in nets {
            let address = net.addr();
            let reserved = matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240);
            if address.is_unspecified()
                || address.is_multicast()
                || address.is_loopback()
                || reserved
            {
                return Err(BadAddresses::Address(address));
            }
            all.try_push(net).map_err(|_| BadAddresses::TooMany)?;
        }
        if let Ok(net) = IpNet::new(link_local(mac).into(), 64) {
            all.try_push(net).map_err(|_| BadAddresses::TooMany)?;
        }
        Ok(Self { port, mac, nets: all, outside: Arc::default() })
    }

    /// The same, which answers also for those of some addresses that are on its networks.
    #[must_use]
    pub fn with_outside(self, addresses: &BTreeSet<IpAddr>) -> Self {
        let on_link = addresses.iter().copied().filter(|address| self.is_on_link(*address));
        Self { outside: Arc::new(on_link.collect()), ..self }
    }

    /// The port.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The port's address on the link.
    #[inline]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Its addresses with their networks.
    pub fn nets(&self) -> &[IpNet] {
        &self.nets
    }

    /// Whether a frame is for this port: addressed to it or to a group.
    #[inline]
    pub fn is_addressed(&self, frame: &[u8]) -> bool {
        header_at::<EthernetHeader>(frame, 0).is_some_and(|header| {
            header.destination == self.mac || header.destination.is_multicast()
        })
    }

    /// Whether the address is one of this port.
    pub fn has(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.addr() == address)
    }

    /// Whether it tells neighbours that the address is at its link address.
    pub fn answers_for(&self, address: IpAddr) -> bool {
        self.has(address) || self.outside.contains(&address)
    }

    /// Whether the address lies in one of the port's networks.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// The address of this port to send from to `destination`: the one on the same network, or
    /// the first of the family that reaches beyond the link, or any of the family.
    pub fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == destination.is_ipv4();
        let beyond =
            |net: &&IpNet| !matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        let family = || self.nets.iter().filter(same_family);
        family()
            .find(|net| net.contains(&destination))
            .or_else(|| family().find(beyond))
            .or_else(|| family().next())
            .map(IpNet::addr)
    }
}

/// The addresses of all ports, for a check on every packet; clones share one copy.
#[derive(Clone, Debug)]
pub struct LocalAddresses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: AddressSet,
    /// Our own, and the broadcast addresses of our networks.
    here: AddressSet,
    broadcasts: Box<[IpAddr]>,
}

impl LocalAddresses {
    /// The addresses of `ports`, bounded by ports and addresses of a port, and those that flows
    /// have `outside` of a NAT.
    pub fn new<'a>(
        ports: impl IntoIterator<Item = &'a PortAddresses>,
        outside: &BTreeSet<IpAddr>,
    ) -> Self {
        let nets: Vec<&IpNet> = ports.into_iter().flat_map(PortAddresses::nets).collect();
        let addresses = nets.iter().map(|net| net.addr());
        let own: BTreeSet<IpAddr> = addresses.chain(outside.iter().copied()).collect();
        let broadcast = |net: &&IpNet| match net {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(IpAddr::V4(net.broadcast())),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        let broadcasts: Box<[IpAddr]> = nets.iter().filter_map(broadcast).collect();
        let here = own.iter().chain(&broadcasts).copied();
        Self(Arc::new(Inner { here: AddressSet::of(here), own: AddressSet::of(own), broadcasts }))
    }

    /// Whether a packet is not to be forwarded but looked at here: it is for one of our addresses,
    /// for a group or broadcast, or it came in a frame for all.
    #[inline]
    pub fn is_local(&self, meta: &Meta) -> bool {
        let dst = meta.key.dst_octets();
        let group = if meta.key.is_v4() { dst[12] >= 224 } else { dst[0] == 0xff };
        group
            || meta.flags.has(Flags::GROUP_FRAME)
            || (self.0.here.may_have(dst) && self.is_here(&meta.key))
    }

    /// Whether the address is one of ours.
    #[inline]
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.own.has(&address.to_canonical())
    }

    /// Whether the packet claims to come from one of our addresses.
    ///
    /// `key` is that of the packet itself, not that of a packet that it quotes.
    #[inline]
    pub fn is_from_us(&self, key: &FlowKey) -> bool {
        self.0.own.may_have(key.src_octets()) && self.0.own.has(&key.src().to_canonical())
    }

    /// Whether the address is the broadcast address of one of our networks.
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        self.0.broadcasts.contains(&address.into())
    }

    /// Whether the destination is one of our own addresses, or a broadcast address of IPv4.
    fn is_here(&self, key: &FlowKey) -> bool {
        let dst = key.dst();
        self.0.own.has(&dst.to_canonical()) || self.0.here.has(&dst)
    }
}

#[cfg(test)]
mod tests {
    use weir_state_transfer::ServiceId;

    use super::*;
    use crate::packet::samples;
    use crate::packet::{Parsed, parse};

    fn port(nets: &[&str]) -> Result<PortAddresses, BadAddresses> {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        PortAddresses::new(PortId(1), mac, nets.iter().map(|net| net.parse().unwrap()))
    }

    fn is_local(all: &LocalAddresses, frame: &[u8]) -> bool {
        let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { panic!() };
        all.is_local(&meta)
    }

    #[test]
    fn packets_for_us_for_groups_and_for_broadcast_are_local_and_others_are_not() {
        let all = LocalAddresses::new(
            &[port(&["10.0.1.1/24", "2001:db8::1/64"]).unwrap()],
            &BTreeSet::new(),
        );
        for (dst, expected) in [
            ("10.0.1.1", true),
            ("10.0.1.255", true),
            ("224.0.0.5", true),
            ("255.255.255.255", true),
            ("10.0.1.2", false),
            ("10.0.2.1", false),
            ("10.0.2.255", false),
        ] {
            let frame = samples::udp4(samples::HOST_A, dst.parse().unwrap(), (1, 2), b"");
            assert_eq!(is_local(&all, &frame), expected, "{dst}");
        }
        for (dst, expected) in [
            ("2001:db8::1", true),
            ("fe80::ff:fe00:1", true),
            ("ff02::1", true),
            ("2001:db8::2", false),
        ] {
            let frame = samples::udp6(samples::HOST_A6, dst.parse().unwrap(), (1, 2), b"");
            assert_eq!(is_local(&all, &frame), expected, "{dst}");
        }
        let mut frame = samples::udp4(samples::HOST_A, samples::HOST_B, (1, 2), b"");
        frame[..6].fill(0xff);
        assert!(is_local(&all, &frame), "a frame for all is never forwarded");
        assert!(all.has("10.0.1.1".parse().unwrap()) && !all.has("10.0.1.255".parse().unwrap()));
        assert!(all.is_broadcast("10.0.1.255".parse().unwrap()));
    }

    /// An IPv6 address that stands for an IPv4 one is no broadcast address.
    #[test]
    fn addresses_of_a_pool_are_ours_and_no_others_are_by_that() {
        let pool = (0..=255).map(|last| Ipv4Addr::new(192, 0, 2, last).into()).collect();
        let all = LocalAddresses::new(&[port(&["10.0.1.1/24"]).unwrap()], &pool);
        for (dst, expected) in
            [("192.0.2.77", true), ("10.0.1.1", true), ("10.0.1.255", true), ("10.0.1.77", false)]
        {
            let frame = samples::udp4(samples::HOST_A, dst.parse().unwrap(), (1, 2), b"");
            assert_eq!(is_local(&all, &frame), expected, "{dst}");
            let back = samples::udp4(dst.parse().unwrap(), samples::HOST_A, (1, 2), b"");
            let Ok(Parsed::Ip(meta)) = parse(&back, ServiceId(0)) else { panic!() };
            assert_eq!(all.is_from_us(&meta.key), expected && dst != "10.0.1.255", "{dst}");
        }
        let frame =
            samples::udp6(samples::HOST_A6, "::ffff:10.0.1.255".parse().unwrap(), (1, 2), b"");
        assert!(!is_local(&all, &frame));
    }

    #[test]
    fn the_source_is_the_nearest_address_of_the_family() {
        let port = port(&["10.0.0.1/24", "10.9.0.1/24", "2001:db8::1/64"]).unwrap();
        for (to, from) in [
            ("10.9.0.7", "10.9.0.1"),
            ("8.8.8.8", "10.0.0.1"),
            ("2001:db8:ffff::1", "2001:db8::1"),
            ("fe80::7", "fe80::ff:fe00:1"),
        ] {
            assert_eq!(port.source_for(to.parse().unwrap()), Some(from.parse().unwrap()), "{to}");
        }
        assert!(port.is_on_link("10.9.0.7".parse().unwrap()));
        assert!(!port.is_on_link("10.8.0.7".parse().unwrap()));
    }

    #[test]
    fn impossible_addresses_are_refused() {
        let error = |net: &str| port(&[net]).unwrap_err();
        for bad in ["0.0.0.0/8", "224.0.0.1/24", "127.0.0.1/8", "255.255.255.255/32", "ff02::1/64"]
        {
            assert!(matches!(error(bad), BadAddresses::Address(_)), "{bad}");
        }
        assert_eq!(port(&["10.0.0.1/24"; 16]).unwrap_err(), BadAddresses::TooMany);
        let group = PortAddresses::new(PortId(1), MacAddr::BROADCAST, []);
        assert_eq!(group.unwrap_err(), BadAddresses::Mac(MacAddr::BROADCAST));
    }
}
