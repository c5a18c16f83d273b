//! Four kernel hosts around one router namespace.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use socket2::SockFilter;

use crate::command::{self, ip};
use crate::flow::{self, DESTINATION_PORTS};
use crate::namespace::Namespace;
use crate::packet_socket::PacketSocket;
use crate::udp::{HOST, ROUTER, mac};
use crate::veth::{End, Veth};
use crate::way_out::WayOut;

/// Hosts of a topology, one for each SAP.
pub const HOSTS: usize = 4;
/// Name of the only device of a host.
pub const HOST_DEVICE: &str = "eth0";
/// Packets that a host queues while the router's end takes none (veth has room for 256).
const HOST_QUEUE: u32 = 4096;

/// A router namespace with devices `sap1` to `sap4`, each joined by a cable to a host of its own.
///
/// Host `n` is at `10.0.<n>.2/24` and `fd00:<n>::2/64` with its default route to the other end
/// of its cable, where the router is expected at `.1` and `::1`. The kernel of the router
/// namespace itself answers to nothing.
#[derive(Debug)]
pub struct Topology {
    /// Where the router is to run.
    pub router: Namespace,
    /// The hosts, in the order of the SAPs.
    pub hosts: Vec<Host>,
    _cables: Vec<Veth>,
}

/// A kernel host in a namespace of its own.
#[derive(Debug)]
pub struct Host {
    /// Where it is.
    pub namespace: Namespace,
    sap: usize,
}

impl Topology {
    /// Builds it with `queues` rx and tx queues at each end of each cable.
    ///
    /// # Errors
    /// Without root.
    pub fn new(queues: u32) -> Result<Self> {
        Self::with_way_out(queues, WayOut::of_run()?)
    }

    /// The same with hosts that take what leaves by a way.
    ///
    /// # Errors
    /// Without root.
    pub fn with_way_out(queues: u32, way_out: WayOut) -> Result<Self> {
        let router = Namespace::new()?;
        router.set("net/ipv6/conf/default/disable_ipv6", "1")?;
        let mut hosts = Vec::with_capacity(HOSTS);
        let mut cables = Vec::with_capacity(HOSTS);
        for sap in 0..HOSTS {
            let host = Host { namespace: Namespace::new()?, sap };
            cables.push(host.connect(&router, way_out.queues(queues))?);
            host.prepare(way_out)?;
            hosts.push(host);
        }
        Ok(Self { router, hosts, _cables: cables })
    }

    /// Makes the kernel of the router namespace the router: what Weir is compared with, and what
    /// shows that the testbed itself loses nothing. See [`Self::without_host_queues`].
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn forward_by_kernel(&self) -> Result<()> {
        self.router.set("net/ipv4/ip_forward", "1")?;
        self.router.set("net/ipv6/conf/all/disable_ipv6", "0")?;
        self.router.set("net/ipv6/conf/all/forwarding", "1")?;
        let name = self.router.name();
        for sap in 0..HOSTS {
            for address in addresses(sap, ROUTER) {
                ip(&format!("-n {name} address add {address} dev {}", device(sap)))?;
            }
        }
        Ok(())
    }

    /// Takes the queues of the hosts away, where the kernel forwards and order matters.
    ///
    /// Without an XDP program the router's ends have no ring that fills, so the hosts need no
    /// queue; and what a queue holds is sent by whichever core happens to use it, so that packets
    /// of a flow would overtake each other in the per-core backlogs of such ends.
    ///
    /// # Errors
    /// When they have been taken away before.
    pub fn without_host_queues(&self) -> Result<()> {
        for host in &self.hosts {
            host.namespace.run(&format!("tc qdisc del dev {HOST_DEVICE} root"))?;
        }
        Ok(())
    }
}

impl Host {
    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        flow::ipv4(self.sap, HOST)
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        flow::ipv6(self.sap, HOST)
    }

    /// Opens a socket for raw frames on its device.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn socket(&self, filter: &[SockFilter]) -> Result<PacketSocket> {
        PacketSocket::open(&self.namespace, HOST_DEVICE, filter)
    }

    fn connect(&self, router: &Namespace, queues: u32) -> Result<Veth> {
        let (host_mac, router_mac) = (mac_text(self.sap, HOST), mac_text(self.sap, ROUTER));
        let host = End {
            namespace: &self.namespace,
            device: HOST_DEVICE,
            mac: &host_mac,
            addresses: &addresses(self.sap, HOST),
        };
        let router =
            End { namespace: router, device: &device(self.sap), mac: &router_mac, addresses: &[] };
        Veth::new(host, router, queues)
    }

    /// Routes everything to the router, queues rather than drops, and leaves the generator's
    /// packets to the sink.
    fn prepare(&self, way_out: WayOut) -> Result<()> {
        let name = self.namespace.name();
        let (ipv4, ipv6) = (flow::ipv4(self.sap, ROUTER), flow::ipv6(self.sap, ROUTER));
        ip(&format!("-n {name} route add default via {ipv4}"))?;
        ip(&format!("-6 -n {name} route add default via {ipv6}"))?;
        way_out.prepare(&self.namespace, HOST_DEVICE)?;
        queue_at_host(&self.namespace)?;
        drop_behind_sink(&self.namespace)
    }
}

/// Has a host queue rather than drop while the other end takes nothing.
pub(crate) fn queue_at_host(host: &Namespace) -> Result<()> {
    host.run(&format!("tc qdisc add dev {HOST_DEVICE} root pfifo limit {HOST_QUEUE}"))?;
    Ok(())
}

/// Drops the generator's packets behind the sink, so that the kernel of a host does not answer
/// that nobody listens.
pub(crate) fn drop_behind_sink(host: &Namespace) -> Result<()> {
    let (first, last) = (DESTINATION_PORTS.start(), DESTINATION_PORTS.end());
    command::run(host.command("nft").arg(format!(
        "add table netdev weir; \
         add chain netdev weir in {{ type filter hook ingress device {HOST_DEVICE} priority 0; }}; \
         add rule netdev weir in udp dport {first}-{last} drop"
    )))?;
    Ok(())
}

/// Name of the router's device at a SAP, counted from 0.
pub fn device(sap: usize) -> String {
    format!("sap{}", sap + 1)
}

/// The addresses of one end of a SAP's cable, with prefix length.
pub fn addresses(sap: usize, end: u8) -> [String; 2] {
    [format!("{}/24", flow::ipv4(sap, end)), format!("{}/64", flow::ipv6(sap, end))]
}

/// The link-layer address of one end of a SAP's cable, as `ip` takes it.
pub(crate) fn mac_text(sap: usize, end: u8) -> String {
    let octets = mac(sap, end).map(|octet| format!("{octet:02x}"));
    octets.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root"]
    fn all_hosts_reach_each_other_through_the_kernel() {
        let topology = Topology::new(2).unwrap();
        topology.forward_by_kernel().unwrap();
        for from in &topology.hosts {
            for to in topology.hosts.iter().filter(|to| to.sap != from.sap) {
                from.namespace.run(&format!("ping -c 1 -W 5 {}", to.ipv4())).unwrap();
                from.namespace.run(&format!("ping -c 1 -W 5 {}", to.ipv6())).unwrap();
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn nothing_answers_in_the_router_namespace_by_itself() {
        let topology = Topology::new(1).unwrap();
        let host = &topology.hosts[0].namespace;
        assert!(host.run("ping -c 1 -W 1 10.0.1.1").is_err());
        assert!(host.run("ping -c 1 -W 1 fd00:1::1").is_err());
    }
}
