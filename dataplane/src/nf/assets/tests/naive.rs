//! The same question asked in the simplest way: who has sent a packet, from which port came a
//! SYN+ACK, and which lines of text were sent.

use std::collections::BTreeSet;
use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// What a pass over frames has found, each packet by itself.
#[derive(Debug, Default)]
pub(super) struct Naive {
    /// Sources of packets.
    pub(super) hosts: BTreeSet<IpAddr>,
    /// Sources of SYN+ACKs.
    pub(super) services: BTreeSet<(IpAddr, u16)>,
    /// Sources of TCP payloads, with the first lines of each.
    pub(super) lines: BTreeSet<(IpAddr, u16, String)>,
}

impl Naive {
    /// Takes in a frame that the router takes for a packet.
    pub(super) fn take(&mut self, frame: &[u8]) {
        let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return };
        let source: IpAddr = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().source_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().source_addr().into(),
            _ => return,
        };
        let icmp = match &sliced.transport {
            Some(TransportSlice::Icmpv4(icmp)) => [3, 4, 5, 11, 12].contains(&icmp.type_u8()),
            Some(TransportSlice::Icmpv6(icmp)) => icmp.type_u8() < 128 || icmp.type_u8() == 137,
            _ => false,
        };
        if icmp {
            return;
        }
        self.hosts.insert(source);
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return };
        if tcp.syn() && tcp.ack() {
            self.services.insert((source, tcp.source_port()));
        }
        for line in String::from_utf8_lossy(tcp.payload()).lines().take(64) {
            self.lines.insert((source, tcp.source_port(), line.to_owned()));
        }
    }

    /// Whether a host has sent a line from a port that has this in it.
    pub(super) fn has_said(&self, host: IpAddr, port: u16, said: &str) -> bool {
        let from = (host, port, String::new());
        let lines = self.lines.range(from..).take_while(|(h, p, _)| (*h, *p) == (host, port));
        lines.into_iter().any(|(.., line)| line.contains(said))
    }
}
