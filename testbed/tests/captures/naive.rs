//! A router of a few lines, one packet at a time: what the real one must agree with.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use weir_dataplane::instance::digest::digest;
use weir_dataplane::packet::{self, Parsed};
use weir_state_transfer::{FlowKey, ServiceId};
use weir_testbed::memory_node::{host_mac, port_mac};

/// The port that leads to everywhere.
pub(crate) const PORT_OUT: u8 = 1;
/// The longest packet that leaves by it, in bytes.
const MTU: usize = 1500;
const ETHERNET: usize = 14;

/// What is kept of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

/// What must come of a capture.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Frames as they leave, by flow, in order.
    pub(crate) forwarded: HashMap<FlowKey, Vec<Vec<u8>>>,
    pub(crate) states: HashMap<FlowKey, State>,
    /// Frames that are not forwarded.
    pub(crate) refused: u64,
}

impl Expected {
    /// Routes frames one by one.
    pub(crate) fn of(frames: &[Vec<u8>]) -> Self {
        let mut expected = Self::default();
        for frame in frames {
            let Some(out) = forwarded(frame) else {
                expected.refused += 1;
                continue;
            };
            let flow = flow_of(&out).expect("the model takes no packet that is none");
            let packet = &out[ETHERNET..];
            let state = expected.states.entry(flow).or_default();
            state.packets += 1;
            state.bytes += packet.len() as u64;
            state.digest = digest(state.digest, packet);
            if packet.len() > MTU {
                expected.refused += 1;
            } else {
                expected.forwarded.entry(flow).or_default().push(out);
            }
        }
        expected
    }
}

/// The flow that a frame belongs to.
pub(crate) fn flow_of(frame: &[u8]) -> Option<FlowKey> {
    match packet::parse(frame, ServiceId(0)) {
        Ok(Parsed::Ip(meta)) => Some(meta.key),
        Ok(Parsed::Arp) | Err(_) => None,
    }
}

/// The frame as it leaves; none when a router must not forward it.
fn forwarded(frame: &[u8]) -> Option<Vec<u8>> {
    let mut packet = match frame.get(12..14)? {
        [8, 0] => ipv4(&frame[ETHERNET..])?,
        [0x86, 0xdd] => ipv6(&frame[ETHERNET..])?,
        _ => return None,
    };
    let mut out = [&host_mac(PORT_OUT).0[..], &port_mac(PORT_OUT).0, &frame[12..14]].concat();
    out.append(&mut packet);
    Some(out)
}

fn ipv4(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = usize::from(bytes.first()? & 0xf) * 4;
    let length = usize::from(word(bytes.get(2..4)?));
    let mut packet = bytes.get(..length)?.to_vec();
    if bytes[0] >> 4 != 4 || header < 20 || header > length || sum(&packet[..header]) != 0xffff {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let is_host = |address: Ipv4Addr| {
        let first = address.octets()[0];
        first != 0 && first != 127 && first < 224 && !address.is_link_local()
    };
    if !is_host(address(12)) || !is_host(address(16)) || packet[8] <= 1 {
        return None;
    }
    packet[8] -= 1;
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..header]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    Some(packet)
}

fn ipv6(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = 40 + usize::from(word(bytes.get(4..6)?));
    let mut packet = bytes.get(..length)?.to_vec();
    let address = |at: usize| {
        let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("16 bytes");
        Ipv6Addr::from(octets)
    };
    let is_host = |address: Ipv6Addr| {
        let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        !special && !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
    };
    if bytes[0] >> 4 != 6 || !is_host(address(8)) || !is_host(address(24)) || packet[7] <= 1 {
        return None;
    }
    packet[7] -= 1;
    Some(packet)
}

/// The one's complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).map(word).fold(0u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes.get(1).copied().unwrap_or(0)])
}
