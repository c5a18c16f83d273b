//! Frames whose home is a worker that is not connected yet.

use weir_api::dataplane::v1 as api;
use weir_frame::HomeId;
use weir_state_transfer::PortId;
use weir_testbed::memory_node::{MemoryNode, Plan, host};

use crate::{drops_at_rest, inject, packet, settle};

/// The node gives frames a new home at once; the ring to it comes with a later command. Between
/// the two a worker may free any number of them.
#[test]
fn frames_of_a_worker_that_is_not_connected_yet_wait_for_it() {
    let plan = Plan { workers: 2, queues: 2, ..Plan::default() };
    let mut stepped = MemoryNode::new(&plan, 1);
    let (from, to) = ((PortId(0), 0), PortId(1));
    settle(&mut stepped, to);
    for partition in 0..stepped.homes.partitions() {
        stepped.homes.assign(partition, HomeId(2));
    }
    let mut arrived = 0;
    for source_port in 0..200 {
        inject(&mut stepped, from, &packet(source_port, host(1), b"on its way"));
        arrived += settle(&mut stepped, to).len();
    }
    assert_eq!(arrived, 200);
    let made = stepped.node.add_worker(&api::Change::default(), None).unwrap();
    assert_eq!(made.id, 2);
    inject(&mut stepped, from, &packet(0, host(1), b"the last"));
    assert_eq!(settle(&mut stepped, to).len(), 1);
    assert_eq!(drops_at_rest(&stepped).unwrap().len(), 0);
    let restarts: u64 = stepped.node.list_workers().iter().map(|worker| worker.restarts).sum();
    assert_eq!(restarts, 0);
}
