//! Subscriptions that keep packets, and shares, which have an order of their own.

use tonic::{Code, Status};
use weir_api::dataplane::v1 as dataplane;
use weir_api::nf::v1::Action;
use weir_state_transfer::InstanceId;
use weir_testbed::asked::Asked;
use weir_testbed::memory_node::MemoryNode;

use crate::setup::{node, plan, start_share};

/// Asks an instance to keep all packets; the subscription ends again.
fn keeps(node: &mut MemoryNode, id: InstanceId, subscription: u64) -> Result<(), Status> {
    let asked = Asked::new(node, id);
    asked.subscribe(|| node.settle(), subscription, "any", Action::Buffer).map(drop)
}

#[test]
fn no_subscription_keeps_packets_of_an_instance_that_shares() {
    let (mut node, ids) = node(&plan(2, 3), 3, 7);
    let change = dataplane::Change::default();
    let share = start_share(&mut node, &ids[..2]).unwrap();
    node.settle();
    // What it releases late would be judged by one instance alone.
    let refused = keeps(&mut node, ids[1], 1).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("share 1"), "{refused:?}");
    keeps(&mut node, ids[2], 2).unwrap();
    node.node.end_share(&change, share, node.now).unwrap();
    node.settle();
    keeps(&mut node, ids[1], 3).unwrap();
}
