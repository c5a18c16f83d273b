//! Workers in trouble, stepped over memory ports: one that panics at any stage of a packet's way,
//! one that is too slow for those that it transmits for, and one that is not there yet. Every packet is accounted for.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod functions;
mod homes;
mod panics;
mod slow;
mod threads;
mod translated;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_state_transfer::PortId;
use weir_testbed::memory_node::{MemoryNode, host, host_mac, port_mac};

/// A UDP packet from the host at port 0; `payload` tells it from others.
fn packet(source_port: u16, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (host_mac(0).0, port_mac(0).0);
    let ip = PacketBuilder::ethernet2(from, to).ipv4(host(0).octets(), destination.octets(), 64);
    let mut packet = Vec::new();
    ip.udp(source_port, 53).write(&mut packet, payload).unwrap();
    packet
}

/// Puts a packet on a wire, which must take it.
fn inject(stepped: &mut MemoryNode, place: (PortId, u16), packet: &[u8]) {
    let wire = stepped.wires.get_mut(&place).unwrap();
    assert!(wire.inject(packet), "the port has frames to receive into");
}

/// Takes what has been sent by a port, in the order of each queue.
fn take(stepped: &mut MemoryNode, port: PortId) -> Vec<Vec<u8>> {
    let queues: Vec<_> = stepped.wires.keys().filter(|place| place.0 == port).copied().collect();
    let mut taken = Vec::new();
    for (port, queue) in queues {
        taken.extend(std::iter::from_fn(|| stepped.take(port, queue)));
    }
    taken
}

/// Comes to rest; what a port has sent until then.
fn settle(stepped: &mut MemoryNode, port: PortId) -> Vec<Vec<u8>> {
    let mut taken = Vec::new();
    loop {
        stepped.settle();
        let more = take(stepped, port);
        if more.is_empty() {
            return taken;
        }
        taken.extend(more);
    }
}

/// What was dropped, by reason, at rest.
///
/// # Errors
///
/// When a packet or a frame is nowhere, or where it should not be at rest.
fn drops_at_rest(stepped: &MemoryNode) -> Result<BTreeMap<String, u64>, String> {
    let api::GetCountersResponse { balance, drops, frames, .. } = stepped.node.counters();
    let balance = balance.unwrap();
    if (balance.held, balance.in_rings, balance.unaccounted) != (0, 0, 0) {
        return Err(format!("{balance:?}"));
    }
    let all: u64 = frames.iter().map(|place| place.frames).sum();
    if all != u64::from(stepped.node.show(stepped.now).frames) {
        return Err(format!("{frames:?}"));
    }
    Ok(drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect())
}
