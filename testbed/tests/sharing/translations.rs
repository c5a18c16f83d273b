//! Shares of firewalls that have a NAT behind them: flows are judged by their first names.

use std::net::Ipv4Addr;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use weir_dataplane::nf::connection::{Settings, Timeouts};
use weir_dataplane::nf::firewall::{self, Limits, Rules};
use weir_dataplane::nf::nat::{self, SourceRule};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp};
use weir_state_transfer::PortId;
use weir_state_transfer::share::Mode;
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

use crate::setup::{IN, OUT, TIMEOUT, end_all, node, plan, start_share, start_share_of};

const SEED: u64 = 7;
/// Connections that a source may have open.
const OPEN: u32 = 3;
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Firewalls that know inside hosts only, and forget before the NATs behind them do.
fn translating() -> Plan {
    let rules = ["out: accept src=10.0.0.0/24", "in: accept dst=10.0.0.0/24"];
    let rules = Rules::new(rules.map(|rule| rule.parse().unwrap()).to_vec()).unwrap();
    let limits = Limits { connections_max: Some(OPEN), ..Limits::default() };
    let short = Timeouts { udp_unreplied: TIMEOUT, ..Timeouts::default() };
    let tracking = Settings { timeouts: short, ..Settings::default() };
    let firewall = firewall::Config { rules, limits, tracking };
    let from = "10.0.0.0/24".parse().unwrap();
    let source = SourceRule { from, to: None, pool: vec![EXTERNAL.into()], ports: 1..=u16::MAX };
    let long = Timeouts { udp_unreplied: 10 * TIMEOUT, ..Timeouts::default() };
    let rules = nat::Rules::new(vec![source], vec![]).unwrap();
    let nat = nat::Config { rules, tracking: Settings { timeouts: long, ..Settings::default() } };
    let functions = vec![FunctionConfig::Firewall(firewall), FunctionConfig::Nat(nat)];
    let mut plan = plan(2, OPEN);
    plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
    plan
}

/// Sends a datagram in by a port; what leaves by another.
fn send(
    node: &mut MemoryNode,
    (by, to): (PortId, PortId),
    (src, dst): ([u8; 4], [u8; 4]),
    (sport, dport): (u16, u16),
) -> Option<Vec<u8>> {
    let headers = PacketBuilder::ethernet2(host_mac(by.0).0, port_mac(by.0).0)
        .ipv4(src, dst, 64)
        .udp(sport, dport);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[]).unwrap();
    assert!(node.wires.get_mut(&(by, 0)).unwrap().inject(&packet));
    node.settle();
    let left = (0..2).find_map(|queue| node.take(to, queue));
    let balance = node.node.counters().balance.unwrap();
    assert_eq!((balance.unaccounted, balance.held), (0, 0));
    left
}

/// The inside host begins a connection; the port that it is given, if it may.
fn begins(node: &mut MemoryNode, port: u16) -> Option<u16> {
    let left = send(node, (IN, OUT), (host(IN.0).octets(), host(OUT.0).octets()), (port, 53))?;
    let TransportSlice::Udp(udp) = SlicedPacket::from_ethernet(&left).unwrap().transport? else {
        panic!("it was UDP");
    };
    Some(udp.source_port())
}

/// The remote host sends to a port of the external address; whether that comes in.
fn comes_back(node: &mut MemoryNode, port: u16) -> bool {
    let ends = (host(OUT.0).octets(), EXTERNAL.octets());
    send(node, (OUT, IN), ends, (53, port)).is_some()
}

#[test]
fn what_a_source_begins_counts_together_in_front_of_a_nat_and_its_answers_come_back() {
    let (mut node, ids) = node(&translating(), 2, SEED);
    start_share(&mut node, &ids).unwrap();
    node.settle();
    let given: Vec<_> = (1000..1016).filter_map(|port| begins(&mut node, port)).collect();
    assert_eq!(given.len(), OPEN as usize, "whichever instances they came to");
    for port in given {
        assert!(comes_back(&mut node, port));
    }
}

#[test]
fn what_comes_back_later_than_firewalls_remember_counts_together_by_its_first_name() {
    let (mut node, ids) = node(&translating(), 2, SEED);
    start_share(&mut node, &ids).unwrap();
    node.settle();
    let mut given = Vec::new();
    for round in 0..4 {
        let ports = 1000 + 100 * round..1000 + 100 * round + OPEN as u16;
        given.extend(ports.map(|port| begins(&mut node, port).unwrap()));
        end_all(&mut node);
    }
    // The remote host begins these again. The rules let them in by their first names only.
    let come = given.into_iter().filter(|port| comes_back(&mut node, *port)).count();
    assert_eq!(come, OPEN as usize, "whichever instances they came to");
}

#[test]
fn a_strict_share_is_refused_where_there_is_a_nat() {
    let (mut node, ids) = node(&translating(), 2, SEED);
    let refused = start_share_of(&mut node, &ids, "any", Mode::Strict).unwrap_err();
    assert!(refused.to_string().contains("NAT"), "{refused}");
}
