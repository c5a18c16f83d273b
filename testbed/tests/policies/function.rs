//! A network function in a host of its own, which is slow: it takes packets in the order in which they
//! come, passes them on to the router as they were, and answers echo.

use std::collections::VecDeque;

use etherparse::{Icmpv4Type, NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use weir_state_transfer::PortId;
use weir_testbed::memory_node::{MemoryNode, host, host_mac, port_mac};

use crate::world::{Frame, IN, OUT};

#[derive(Debug)]
pub(crate) struct Function {
    /// The port that it is at.
    port: u8,
    queues: u16,
    waiting: VecDeque<Frame>,
}

impl Function {
    pub(crate) fn new(port: u8, queues: u16) -> Self {
        Self { port, queues, waiting: VecDeque::new() }
    }

    /// The router has sent it something.
    pub(crate) fn take(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Processes what came first, if there is any and the router has room for what comes of it.
    pub(crate) fn process(&mut self, node: &mut MemoryNode) -> Option<Frame> {
        let (queue, bytes) = match self.waiting.front()? {
            // Queues of two ports that have the same number are polled by different workers.
            Frame::Packet(flow, number) => (flow % self.queues, packet(self.port, *flow, *number)),
            Frame::Echo(reply) => (0, reply.clone()),
        };
        let wire = node.wires.get_mut(&(PortId(self.port), queue))?;
        if wire.inject(&bytes) { self.waiting.pop_front() } else { None }
    }
}

/// A numbered packet of a flow, between the hosts at two ports, as it comes in by a port.
pub(crate) fn packet(port: u8, flow: u16, number: u32) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(port).0, port_mac(port).0)
        .ipv4(host(IN).octets(), host(OUT).octets(), 64)
        .udp(flow, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &number.to_be_bytes()).expect("memory takes it");
    packet
}

/// The answer of the host at a port to an echo request, if a frame is one.
pub(crate) fn answer(port: u8, request: &[u8]) -> Option<Vec<u8>> {
    let headers = PacketHeaders::from_ethernet_slice(request).ok()?;
    let Some(TransportHeader::Icmpv4(icmp)) = headers.transport else { return None };
    let Icmpv4Type::EchoRequest(echo) = icmp.icmp_type else { return None };
    let Some(NetHeaders::Ipv4(ip, _)) = headers.net else { return None };
    assert_eq!(
        (ip.destination, request[..6].to_vec()),
        (host(port).octets(), host_mac(port).0.to_vec())
    );
    let reply = PacketBuilder::ethernet2(host_mac(port).0, port_mac(port).0)
        .ipv4(ip.destination, ip.source, 64)
        .icmpv4_echo_reply(echo.id, echo.seq);
    let mut frame = Vec::new();
    reply.write(&mut frame, headers.payload.slice()).expect("memory takes it");
    Some(frame)
}
