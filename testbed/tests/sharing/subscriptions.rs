//! Subscriptions that keep packets, and shares, which have an order of their own.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Builder;
use tonic::{Code, Request, Status};
use weir_api::dataplane::v1 as dataplane;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionService as _;
use weir_api::nf::v1::{Action, EnableEventsRequest};
use weir_nf_api::Description;
use weir_nf_api::server::pair;
use weir_state_transfer::InstanceId;
use weir_testbed::memory_node::MemoryNode;

use crate::setup::{node, plan, start_share};

/// Asks an instance to keep all packets; the subscription ends again.
fn keeps(node: &mut MemoryNode, id: InstanceId, subscription: u64) -> Result<(), Status> {
    let as_nf = node.node.describe_instance(id).unwrap();
    let (service, desk) = pair(Description::new(&as_nf.name, "1", &as_nf.kinds), || {});
    node.node.serve_instance(id, as_nf.life, desk).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let (filter, action) = ("any".to_owned(), Action::Buffer.into());
    let request = EnableEventsRequest { subscription, filter, action, snap: 0 };
    let mut call = pin!(service.enable_events(Request::new(request)));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
            return answer.map(drop);
        }
        node.settle();
    }
    panic!("no answer")
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
