//! Connections of TCP that close long before they are over, and begin anew in their places.

use etherparse::PacketBuilder;
use weir_state_transfer::{PortId, protocol};
use weir_testbed::memory_node::{host, host_mac, port_mac};
use weir_testbed::schedule::Failure;

use super::World;
use crate::setup::{IN, OUT};

/// Every second flow of each source is of TCP.
pub(super) fn protocol_of(flow: u16) -> u8 {
    if (flow / 6).is_multiple_of(2) { protocol::UDP } else { protocol::TCP }
}

/// Where the numbers of the far ends begin, and those of sources for a connection and the next.
const FAR: u32 = 500;
const FIRST: u32 = 100;
const AGAIN: u32 = 70_000;

impl World {
    /// Some connections of TCP close and some begin anew, while instances join and leave; which is
    /// judged.
    pub(super) fn close_connections(&mut self) -> Result<(), Failure> {
        let begun = self.judge.begun_flows();
        let of_tcp: Vec<_> =
            begun.into_iter().filter(|flow| protocol_of(*flow) == protocol::TCP).collect();
        // What nobody has answered would not be kept.
        for flow in &of_tcp {
            let (port, sport) = (OUT, 53);
            let headers = PacketBuilder::ethernet2(host_mac(port.0).0, port_mac(port.0).0)
                .ipv4(host(OUT.0).octets(), source(*flow), 1)
                .tcp(sport, 1000 + flow, FAR, 1_000);
            self.inject(port, *flow, headers.syn().ack(FIRST + 1));
        }
        self.settle();
        for _ in 0..if of_tcp.is_empty() { 0 } else { self.steps } {
            self.step(Some(&of_tcp));
        }
        let counts = self.come_to_rest()?;
        self.judge.check_closed(&self.node, counts, &mut self.total)
    }

    /// A connection is reset by who began it, or begins anew if it was.
    pub(super) fn close(&mut self, flow: u16) {
        if self.judge.has_closed(flow) {
            self.send_of(flow);
            return;
        }
        let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
            .ipv4(source(flow), host(OUT.0).octets(), 1)
            .tcp(1000 + flow, 53, FIRST + 1, 1_000);
        if self.inject(IN, flow, headers.rst()) {
            self.judge.closes(flow);
        }
    }

    /// What asks for a connection: the sequence number of the packet stands where what is acknowledged
    /// would.
    pub(super) fn syn(flow: u16, again: bool, sequence: u32) -> Vec<u8> {
        let first = if again { AGAIN } else { FIRST };
        let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
            .ipv4(source(flow), host(OUT.0).octets(), 64)
            .tcp(1000 + flow, 53, first, 1_000);
        let mut packet = Vec::new();
        headers.syn().write(&mut packet, &[]).unwrap();
        packet[42..46].copy_from_slice(&sequence.to_be_bytes());
        packet
    }

    /// A packet comes that the firewalls see and no host does: its TTL is over.
    fn inject(
        &mut self,
        port: PortId,
        flow: u16,
        headers: etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    ) -> bool {
        let mut packet = Vec::new();
        headers.write(&mut packet, &[]).unwrap();
        let queue = self.queue(flow);
        let came = self.node.wires.get_mut(&(port, queue)).unwrap().inject(&packet);
        self.judge.unseen(u64::from(came));
        came
    }
}

/// The address that a flow is from.
pub(super) fn source(flow: u16) -> [u8; 4] {
    [10, 0, IN.0, super::address(flow)]
}
