//! A node whose instances run a firewall that limits sources.

use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::connection::{Settings, Timeouts};
use weir_dataplane::nf::firewall::{Config, Limits, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp};
use weir_dataplane::node::{FIRST, NodeError, ShareRequest};
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::Request;
use weir_state_transfer::share::{self, Mode};
use weir_state_transfer::{BucketSet, InstanceId, Nanos, PortId, Selection, ShareId};
use weir_testbed::memory_node::{MemoryNode, Plan};

pub(crate) const IN: PortId = PortId(0);
pub(crate) const OUT: PortId = PortId(1);
/// How long a connection stays without a packet.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a packet waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A plan whose firewalls let a source have so many connections open.
pub(crate) fn plan(workers: usize, connections_max: u32) -> Plan {
    let rules = Rules::new(vec!["all: accept any".parse().unwrap()]).unwrap();
    let limits = Limits { connections_max: Some(connections_max), ..Limits::default() };
    let timeouts = Timeouts { udp_unreplied: TIMEOUT, ..Timeouts::default() };
    let tracking = Settings { timeouts, ..Settings::default() };
    let firewall = Config { rules, limits, tracking };
    let functions = vec![FunctionConfig::Firewall(firewall)];
    let mut plan = Plan {
        workers,
        queues: u16::try_from(workers).unwrap(),
        port_ring: 256,
        frames: 8_192,
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
    let asked = ShareRequest {
        instances: instances.to_vec(),
        filter: filter.parse().unwrap(),
        scopes: vec![Scope::MultiFlow],
        mode,
    };
    let started = node.node.start_share(&api::Change::default(), asked, 0x5EED, node.now)?;
    Ok(ShareId(started.id))
}

pub(crate) fn phase(node: &MemoryNode, id: ShareId) -> api::SharePhase {
    node.node.show_share(id).unwrap().phase()
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
