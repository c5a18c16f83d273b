//! A node whose instances run a firewall that limits sources.

use std::time::Duration;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::connection::{Settings, TcpTimeouts, Timeouts};
use weir_dataplane::nf::firewall::{Config, Limits, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp};
use weir_dataplane::node::{FIRST, NodeError, ShareRequest};
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::Request;
use weir_state_transfer::share::{self, Mode};
use weir_state_transfer::{
    BucketSet, FlowKey, InstanceId, Nanos, PortId, Selection, ServiceId, ShareId, SteeringHash,
    protocol, steering_hash,
};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

pub(crate) const IN: PortId = PortId(0);
pub(crate) const OUT: PortId = PortId(1);
/// How long a connection stays without a packet.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// That of nodes whose sources [ask](asks).
pub(crate) const SEED: u64 = 7;

/// The secret of shares whose sources are told apart by hand.
pub(crate) const KEY: u64 = 0x5EED;

/// How long a packet waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A plan whose firewalls let a source have so many connections open.
pub(crate) fn plan(workers: usize, connections_max: u32) -> Plan {
    let rules = Rules::new(vec!["all: accept any".parse().unwrap()]).unwrap();
    let limits = Limits { connections_max: Some(connections_max), ..Limits::default() };
    let (syn_sent, syn_received, closed) = (TIMEOUT, TIMEOUT, TIMEOUT);
    let tcp = TcpTimeouts { syn_sent, syn_received, closed, ..TcpTimeouts::default() };
    let timeouts = Timeouts { udp_unreplied: TIMEOUT, tcp, ..Timeouts::default() };
    let tracking = Settings { timeouts, ..Settings::default() };
    let firewall = Config { rules, limits, tracking };
    let functions = vec![FunctionConfig::Firewall(firewall)];
    let mut plan = Plan {
        workers,
        queues: u16::try_from(workers).unwrap(),
        port_ring: 256,
        frames: 8_192,
        icmp_errors: 0,
        ..Plan::default()
    };
    plan.limits.functions = ChainConfig::new(functions, Timestamp(0)).unwrap();
    plan.limits.share = share::Limits { slots: 16, patience: PATIENCE, ..share::Limits::default() };
    plan
}

/// A node with so many active instances, all buckets divided among them.
pub(crate) fn node(plan: &Plan, instances: usize, seed: u64) -> (MemoryNode, Vec<InstanceId>) {
    let mut node = MemoryNode::new(plan, seed);
    let (change, mut ids) = (api::Change::default(), vec![FIRST]);
    while ids.len() < instances {
        let made = node.node.create_instance(&change, &format!("i{}", ids.len()), 0).unwrap();
        node.settle();
        let id = InstanceId(u8::try_from(made.id).unwrap());
        node.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
        ids.push(id);
    }
    let each = 4096 / instances;
    for (n, id) in ids.iter().enumerate().skip(1) {
        let buckets = format!("{}-{}", n * each, (n + 1) * each - 1);
        let buckets = buckets.parse::<BucketSet>().unwrap();
        let request = Request::new(FIRST, *id, Selection::Buckets(buckets));
        node.node.start_move(&change, request, true, node.now).unwrap();
        node.settle();
    }
    (node, ids)
}

/// Asks for a share of all sources.
pub(crate) fn start_share(
    node: &mut MemoryNode,
    instances: &[InstanceId],
) -> Result<ShareId, NodeError> {
    start_share_of(node, instances, "any", Mode::Strong)
}

pub(crate) fn start_share_of(
    node: &mut MemoryNode,
    instances: &[InstanceId],
    filter: &str,
    mode: Mode,
) -> Result<ShareId, NodeError> {
    start_share_by(node, instances, (filter, mode), KEY)
}

/// Asks for a share with a secret, by which sources are divided into slots and these among homes.
pub(crate) fn start_share_by(
    node: &mut MemoryNode,
    instances: &[InstanceId],
    (filter, mode): (&str, Mode),
    key: u64,
) -> Result<ShareId, NodeError> {
    let asked = ShareRequest {
        instances: instances.to_vec(),
        filter: filter.parse().unwrap(),
        scopes: vec![Scope::MultiFlow],
        mode,
    };
    let started = node.node.start_share(&api::Change::default(), asked, key, node.now)?;
    Ok(ShareId(started.id))
}

pub(crate) fn phase(node: &MemoryNode, id: ShareId) -> api::SharePhase {
    node.node.show_share(id).unwrap().phase()
}

/// The first port from `first` on with which a source is with an instance.
pub(crate) fn port_at(node: &MemoryNode, at: InstanceId, address: u8, first: u16) -> u16 {
    let owners = node.node.show_steering().owners;
    let hash = SteeringHash::new(steering_hash::random_key(SEED));
    let owner = |sport: u16| {
        let (source, ports) = ([10, 0, IN.0, address].into(), (sport, 53));
        let key = FlowKey::v4(source, host(OUT.0), ports, protocol::UDP, ServiceId(0));
        InstanceId(owners[hash.bucket(&key).index()])
    };
    (first..).find(|sport| owner(*sport) == at).unwrap()
}

/// A packet of a source.
pub(crate) fn packet(address: u8, sport: u16) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
        .ipv4([10, 0, IN.0, address], host(OUT.0).octets(), 64)
        .udp(sport, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[]).unwrap();
    packet
}

/// A packet of a source comes in.
pub(crate) fn send(node: &mut MemoryNode, address: u8, sport: u16) {
    assert!(node.wires.get_mut(&(IN, 0)).unwrap().inject(&packet(address, sport)));
}

/// How many packets have left.
pub(crate) fn left(node: &mut MemoryNode) -> usize {
    (0..2).map(|queue| std::iter::from_fn(|| node.take(OUT, queue)).count()).sum()
}

/// A source asks for a connection at an instance; whether it was let begin.
pub(crate) fn asks(node: &mut MemoryNode, at: InstanceId, address: u8, first: u16) -> bool {
    let sport = port_at(node, at, address, first);
    send(node, address, sport);
    node.settle();
    assert_eq!(node.node.counters().balance.unwrap().unaccounted, 0);
    left(node) == 1
}

/// Packets that were dropped for a reason.
pub(crate) fn dropped(node: &MemoryNode, reason: &str) -> u64 {
    let drops = node.node.counters().drops.into_iter();
    drops.filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum()
}

/// Lets all connections end.
pub(crate) fn end_all(node: &mut MemoryNode) {
    node.now = Nanos(node.now.0 + TIMEOUT.as_nanos() as u64 + 1);
    // The hand of the sweep goes all the way round.
    for _ in 0..100 {
        node.now = Nanos(node.now.0 + 1_000_000);
        node.step_node();
        let ids: Vec<_> = node.workers.keys().copied().collect();
        ids.into_iter().for_each(|id| _ = node.step_worker(id));
    }
    node.settle();
}
