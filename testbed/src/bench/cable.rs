//! Two hosts joined by one cable: what the traffic costs without a router.

use anyhow::Result;

use crate::flow::DESTINATION_PORTS;
use crate::namespace::Namespace;
use crate::packet_socket::{PacketSocket, arriving_udp};
use crate::topology::{HOST_DEVICE, addresses, drop_behind_sink, mac_text, queue_at_host};
use crate::udp::{HOST, ROUTER};
use crate::veth::{End, Veth};

/// The hosts of the first two SAPs, without the router between them.
#[derive(Debug)]
pub(super) struct Cable {
    hosts: [Namespace; 2],
    _cable: Veth,
}

impl Cable {
    /// Lays it.
    ///
    /// # Errors
    /// Without root.
    pub(super) fn new() -> Result<Self> {
        let hosts = [Namespace::new()?, Namespace::new()?];
        // Each host has the link address that the other takes for its router's.
        let macs = [mac_text(1, ROUTER), mac_text(0, ROUTER)];
        let nets = [addresses(0, HOST), addresses(1, HOST)];
        let end = |host: usize| End {
            namespace: &hosts[host],
            device: HOST_DEVICE,
            mac: &macs[host],
            addresses: &nets[host],
        };
        let cable = Veth::new(end(0), end(1), 1)?;
        for host in &hosts {
            queue_at_host(host)?;
            drop_behind_sink(host)?;
        }
        Ok(Self { hosts, _cable: cable })
    }

    /// The sockets of both hosts.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub(super) fn sockets(&self) -> Result<Vec<PacketSocket>> {
        let filter = arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
        let open = |host| PacketSocket::open(host, HOST_DEVICE, &filter);
        self.hosts.iter().map(open).collect()
    }
}
