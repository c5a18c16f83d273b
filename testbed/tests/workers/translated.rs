//! What the router itself says of packets that a NAT has translated.

use std::net::Ipv4Addr;
use std::sync::mpsc::channel;

use etherparse::PacketBuilder;
use weir_dataplane::nf::nat::{self, SourceRule};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, firewall};
use weir_dataplane::node::FIRST;
use weir_state_transfer::PortId;
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

use crate::{drops_at_rest, inject, settle};

const IN: PortId = PortId(0);
/// Hosts that no route leads to.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 77);

/// A firewall that lets out what begins inside, and a NAT behind it.
fn plan() -> Plan {
    let rule = "out: accept src=10.77.0.0/16".parse().unwrap();
    let rules = firewall::Rules::new(vec![rule]).unwrap();
    let firewall = firewall::Config { rules, ..firewall::Config::default() };
    let from = "10.77.0.0/16".parse().unwrap();
    let source = SourceRule { from, to: None, pool: vec![EXTERNAL.into()], ports: 1..=u16::MAX };
    let rules = nat::Rules::new(vec![source], vec![]).unwrap();
    let nat = nat::Config { rules, ..nat::Config::default() };
    let functions = vec![FunctionConfig::Firewall(firewall), FunctionConfig::Nat(nat)];
    let mut plan = Plan::default();
    plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
    plan
}

/// A datagram of a host inside, through the host at port 0.
fn datagram(source_port: u16, to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(host_mac(0).0, port_mac(0).0);
    let mut frame = Vec::new();
    let step = step.ipv4(INSIDE.octets(), to.octets(), ttl);
    step.udp(source_port, 53).write(&mut frame, b"asked").unwrap();
    frame
}

/// What the firewall of the instance has accepted.
fn accepted(stepped: &mut MemoryNode) -> u64 {
    let (to, from) = channel();
    stepped.node.report_nfs(FIRST, to);
    stepped.settle();
    let counters = from.iter().flatten().filter(|nf| nf.kind == "firewall");
    let counters = counters.flat_map(|nf| nf.counters);
    counters.filter(|(name, _)| name == "accepted").map(|(_, count)| count).sum()
}

#[test]
fn an_error_about_a_translated_packet_goes_back_where_it_came_from_and_is_no_transit() {
    let mut stepped = MemoryNode::new(&plan(), 1);
    for (n, (to, ttl, kind, reason)) in
        [(host(1), 1, 11, "ttl_expired"), (Ipv4Addr::new(203, 0, 113, 9), 64, 3, "no_route")]
            .into_iter()
            .enumerate()
    {
        let sent = datagram(1000 + n as u16, to, ttl);
        inject(&mut stepped, (IN, n as u16), &sent);
        let back = settle(&mut stepped, IN);
        let [error] = &back[..] else { panic!("{back:02x?}, {:?}", drops_at_rest(&stepped)) };
        assert_eq!(error[..12], [host_mac(0).0, port_mac(0).0].concat(), "back to who sent it");
        assert_eq!(error[22], 64, "its TTL is that of who says it");
        assert_eq!(error[26..34], [[10, 0, 0, 1], INSIDE.octets()].concat());
        assert_eq!(error[34], kind);
        let mut quoted = error[42..].to_vec();
        // A packet that was on its way has lost a hop.
        (quoted[8], quoted[10], quoted[11]) = (sent[22], sent[24], sent[25]);
        assert_eq!(quoted, sent[14..], "about what was sent");
        assert_eq!(drops_at_rest(&stepped).unwrap()[reason], 1);
    }
    assert_eq!(accepted(&mut stepped), 2, "the packets alone");
    let instance = &stepped.node.list_instances(stepped.now).instances[0];
    assert_eq!(
        instance.packets, 1,
        "that which was counted before it found no route: {instance:?}"
    );
}
