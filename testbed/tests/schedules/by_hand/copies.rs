//! Copies of what instances know, among moves: a copy goes when all that there is of its flow has come,
//! and whoever copies on what has come by a move gets it.

use std::time::Duration;

use weir_api::dataplane::v1 as dataplane;
use weir_dataplane::nf::firewall::{self, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Record, ids};
use weir_dataplane::node::FIRST;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{InstanceId, Selection};
use weir_testbed::asked::Asked;

use super::{DESTINATION, inject, node_of, phase, rest, start_any, step};
use crate::memory_node::{MemoryNode, Plan};

/// After which a flow that has no packets is over.
const IDLE: Duration = Duration::from_secs(150);

/// The chunks of a scope that have changed after so many changes, and how many there were before.
fn get(asked: &Asked, node: &mut MemoryNode, scope: Scope, since: u64) -> (Vec<Chunk>, u64) {
    asked.get(|| step(node, 1), scope, since).unwrap()
}

fn put(asked: &Asked, node: &mut MemoryNode, chunks: &[Chunk]) {
    let put = asked.put(|| step(node, 1), Scope::PerFlow, chunks).unwrap();
    assert_eq!((put.taken, put.refusal), (chunks.len() as u64, None));
}

fn changes(asked: &Asked, node: &mut MemoryNode) -> u64 {
    get(asked, node, Scope::AllFlows, 0).1
}

/// A node whose instances count what each source has, and log connections.
fn node() -> (MemoryNode, InstanceId) {
    let rules = Rules::new(vec!["all: accept any".parse().unwrap()]).unwrap();
    let limits = firewall::Limits { connections_max: Some(1_000), ..Default::default() };
    let firewall = firewall::Config { rules, limits, ..Default::default() };
    let functions =
        vec![FunctionConfig::Firewall(firewall), FunctionConfig::Ids(ids::Config::default())];
    let mut plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
    plan.limits.functions = ChainConfig::new(functions, ids::Timestamp(0)).unwrap();
    let (node, destinations) = node_of(&plan, 1, DESTINATION);
    (node, destinations[0])
}

fn ports(chunks: &[Chunk]) -> Vec<u16> {
    let port = |chunk: &Chunk| {
        let key = chunk.id.key().unwrap();
        key.src_port().max(key.dst_port())
    };
    let mut ports: Vec<_> = chunks.iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Time passes in which no packet comes, until all flows have ended.
fn idle(node: &mut MemoryNode) {
    node.now = node.now + IDLE;
    node.settle();
    node.settle();
}

/// Packets of the connections of a port that have been logged, in order.
fn logged(node: &mut MemoryNode, port: u16) -> Vec<u64> {
    let of = |record: &Record| match record {
        Record::Ids(ids::Record::Conn(conn)) if conn.id.orig.1 == port => {
            Some(conn.packets.orig + conn.packets.resp)
        }
        _ => None,
    };
    node.records.iter().filter_map(|(_, record)| of(record)).collect()
}

/// What was copied is of flows that have ended since, where they were.
#[test]
fn a_flow_that_begins_during_a_move_or_after_it_does_not_go_on_with_a_copy_of_one_that_is_over() {
    let filter = || Selection::Filter("proto=udp,sport=1000-1004".parse().unwrap());
    let buckets = || Selection::Buckets("0-4095".parse().unwrap());
    for (selection, left) in [(filter(), 5), (buckets(), 0)] {
        let (mut node, other) = node();
        let [source, standby] = [FIRST, other].map(|id| Asked::new(&mut node, id));
        (1000..1010).for_each(|sport| inject(&mut node, 0, sport, 1));
        rest(&mut node);
        let (chunks, _) = get(&source, &mut node, Scope::PerFlow, 0);
        assert_eq!((chunks.len(), ports(&chunks)), (20, Vec::from_iter(1000..1010)));
        idle(&mut node);
        assert_eq!(get(&source, &mut node, Scope::PerFlow, 0).0, []);
        put(&standby, &mut node, &chunks);
        assert_eq!(get(&standby, &mut node, Scope::PerFlow, 0).0.len(), 20);
        // One of them begins anew, and its packet lies on the wire, so that the move waits.
        inject(&mut node, 0, 1000, 2);
        step(&mut node, 20);
        let id = start_any(&mut node, FIRST, other, selection);
        step(&mut node, 20);
        assert_eq!(phase(&node, id), dataplane::MovePhase::Draining);
        (1000..1004).for_each(|sport| inject(&mut node, 1, sport, 3));
        assert_eq!(rest(&mut node).len(), 5);
        assert_eq!(phase(&node, id), dataplane::MovePhase::Done);
        inject(&mut node, 1, 1004, 4);
        rest(&mut node);
        // Those of other flows are as good as before.
        let copies = ports(&get(&standby, &mut node, Scope::PerFlow, 0).0);
        assert_eq!(copies, Vec::from_iter(1000..1005 + left));
        idle(&mut node);
        assert_eq!(logged(&mut node, 1000), [1, 2]);
        for port in 1001..1005 {
            assert_eq!(logged(&mut node, port), [1, 1], "port {port}");
        }
        for port in 1005..1010 {
            assert_eq!(logged(&mut node, port), [1], "a copy of port {port} has no record");
        }
    }
}

#[test]
fn what_a_move_takes_along_is_in_the_next_copy_of_both_ends_and_was_in_none_before() {
    for scopes in [&[Scope::PerFlow][..], &[Scope::MultiFlow], &[Scope::PerFlow, Scope::MultiFlow]]
    {
        let (mut node, other) = node();
        let [source, destination] = [FIRST, other].map(|id| Asked::new(&mut node, id));
        (1000..1010).for_each(|sport| inject(&mut node, 0, sport, 1));
        rest(&mut node);
        let before = [&source, &destination].map(|served| changes(served, &mut node));
        for (served, since) in [&source, &destination].into_iter().zip(before) {
            for scope in [Scope::PerFlow, Scope::MultiFlow, Scope::AllFlows] {
                assert_eq!(get(served, &mut node, scope, since).0, [], "{scope}");
            }
        }
        let selection = Selection::Filter("proto=udp,sport=1000-1004".parse().unwrap());
        let selection = match scopes {
            // Sources have no ports.
            [Scope::MultiFlow] => Selection::Filter("src=10.0.0.0/24".parse().unwrap()),
            _ => selection,
        };
        let request = Request::new(FIRST, other, selection).scoped(scopes).unwrap();
        let change = dataplane::Change::default();
        node.node.start_move(&change, request, true, node.now).unwrap();
        rest(&mut node);
        let (came, _) = get(&destination, &mut node, Scope::PerFlow, before[1]);
        let moved = if scopes.contains(&Scope::PerFlow) { 10 } else { 0 };
        assert_eq!(came.len(), moved);
        let (came, _) = get(&destination, &mut node, Scope::MultiFlow, before[1]);
        assert!(!came.is_empty() || scopes == [Scope::PerFlow], "{scopes:?}");
        assert!(changes(&source, &mut node) > before[0] || scopes == [Scope::PerFlow]);
    }
}
