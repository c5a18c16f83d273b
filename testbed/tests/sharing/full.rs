//! What is put into firewalls that share, while another instance does nothing.

use weir_api::nf::v1::RefusalReason;
use weir_dataplane::nf::firewall::{Origin, Source};
use weir_dataplane::nf::schema::FIREWALL_SOURCE;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::merge::Replica;
use weir_state_transfer::{Nanos, ServiceId, WorkerId};
use weir_testbed::asked::Asked;
use weir_testbed::memory_node::MemoryNode;

use crate::setup::{SEED, asks, dropped, left, node, plan, port_at, send, start_share};

/// Chunks of a message.
const MESSAGE: u16 = 256;
/// Packets and operations that wait at an instance.
const WAITING: usize = 64;

/// Sources that have something open elsewhere.
fn sources(message: u16) -> Vec<Chunk> {
    let mut source = Source::default();
    source.open.up.add(Replica { instance: 99, incarnation: 1 }, 1);
    let [high, low] = message.to_be_bytes();
    let address = |n: u16| std::net::Ipv4Addr::new(192, high, low, n as u8).into();
    let origin = |n| Origin { service: ServiceId(0), address: address(n) };
    (0..MESSAGE).map(|n| source.to_chunk(origin(n).flow_id(), Nanos(0))).collect()
}

/// The worker of the first instance takes a turn, and no other.
fn turn(node: &mut MemoryNode) {
    node.step_node();
    node.step_worker(WorkerId(0));
}

#[test]
fn too_much_of_it_is_refused_and_packets_that_begin_nothing_pass() {
    let mut plan = plan(2, 3);
    plan.limits.share.waiting = WAITING;
    let (mut node, ids) = node(&plan, 2, SEED);
    start_share(&mut node, &ids).unwrap();
    node.settle();
    assert!(asks(&mut node, ids[0], 9, 1000));
    let asked = Asked::new(&mut node, ids[0]);
    let mut taken = 0;
    let refusal = (0..40).find_map(|message| {
        let chunks = sources(message);
        let put = asked.put(|| turn(&mut node), Scope::MultiFlow, &chunks).unwrap();
        taken += put.taken;
        put.refusal
    });
    assert_eq!(refusal.unwrap().reason(), RefusalReason::Full);
    assert!(taken > 1_024 && taken < 10_000, "{taken}");
    // Its connection goes on; another begins when there is room for what it asks.
    let [known, new] = [1000, 2000].map(|first| port_at(&node, ids[0], 9, first));
    for (port, leaves) in [(known, 1), (new, 0)] {
        send(&mut node, 9, port);
        (0..10).for_each(|_| turn(&mut node));
        assert_eq!(left(&mut node), leaves);
    }
    assert_eq!(dropped(&node, "share_full"), 1);
    node.settle();
    assert!(asks(&mut node, ids[0], 9, 2000));
    // What was taken in is known, once.
    let known: usize = ids
        .iter()
        .map(|id| {
            let asked = Asked::new(&mut node, *id);
            let (chunks, _) = asked.get(|| node.settle(), Scope::MultiFlow, 0).unwrap();
            chunks.iter().filter(|chunk| chunk.schema == FIREWALL_SOURCE.schema).count()
        })
        .sum();
    assert_eq!(known as u64, taken + 1);
}
