//! Places in the order of a strict share that are not asked for.

use std::time::Duration;

use weir_api::nf::v1::Action;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::share::Mode;
use weir_state_transfer::{Nanos, WorkerId};
use weir_testbed::asked::Asked;

use crate::mute_panics;
use crate::setup::{SEED, TIMEOUT, asks, dropped, left, node, plan, port_at, send, start_share_of};

/// How long a packet waits for its answer.
const PATIENCE: Duration = Duration::from_millis(200);

#[test]
fn nobody_waits_for_a_packet_that_a_subscriber_has_dropped() {
    let (mut node, ids) = node(&plan(2, 3), 2, SEED);
    start_share_of(&mut node, &ids, "any", Mode::Strict).unwrap();
    node.settle();
    for (id, source) in ids.iter().zip(9..) {
        let asked = Asked::new(&mut node, *id);
        let (filter, action) = ("proto=udp,sport=1000-1999", Action::Drop);
        let subscription = asked.subscribe(|| node.settle(), 1, filter, action).unwrap();
        assert!(!asks(&mut node, *id, source, 1000));
        assert_eq!(dropped(&node, "subscriber_drop"), 1 + u64::from(*id != ids[0]));
        for other in &ids {
            assert!(asks(&mut node, *other, source, 2000), "at once");
        }
        drop(subscription);
        node.settle();
    }
}

#[test]
fn what_is_behind_a_place_that_was_lost_in_a_panic_is_let_begin() {
    mute_panics();
    let mut plan = plan(2, 3);
    plan.limits.share.patience = PATIENCE;
    let (mut node, ids) = node(&plan, 2, SEED);
    start_share_of(&mut node, &ids, "any", Mode::Strict).unwrap();
    node.settle();
    // On its way to the worker of the second instance.
    let fault = Fault { stage: FaultStage::Taken, packets: 1 };
    node.node.panic_worker(WorkerId(1), fault).unwrap();
    node.settle();
    assert!(!asks(&mut node, ids[1], 9, 1000));
    assert_eq!(dropped(&node, "worker_panic"), 1);
    for at in &ids {
        let port = port_at(&node, *at, 9, 2000);
        send(&mut node, 9, port);
    }
    node.settle();
    assert_eq!(left(&mut node), 0, "they wait for the place that was lost");
    node.now = Nanos(node.now.0 + PATIENCE.as_nanos() as u64 / 2);
    node.settle();
    assert_eq!(left(&mut node), 2);
    assert_eq!(dropped(&node, "share_unanswered"), 0);
}

#[test]
fn what_has_ended_makes_room_behind_the_packets_that_another_worker_has_received_before() {
    for source in 9..17 {
        let (mut node, ids) = node(&plan(3, 2), 3, SEED);
        start_share_of(&mut node, &ids, "any", Mode::Strict).unwrap();
        node.settle();
        // All come in by the first worker, and these go to the second.
        assert!(asks(&mut node, ids[1], source, 1000));
        node.now = node.now + TIMEOUT / 2;
        assert!(asks(&mut node, ids[1], source, 2000));
        node.now = node.now + TIMEOUT / 2;
        let open = port_at(&node, ids[1], source, 2000);
        let first = port_at(&node, ids[2], source, 3000);
        let second = port_at(&node, ids[0], source, 4000);
        for port in [first, second, open] {
            send(&mut node, source, port);
        }
        // The third worker, to which the first of them goes, is late: all others wait for it.
        for _ in 0..100 {
            node.now = node.now + Duration::from_millis(1);
            for worker in [0, 1].map(WorkerId) {
                node.step_worker(worker);
            }
        }
        node.settle();
        assert_eq!((left(&mut node), dropped(&node, "firewall")), (1, 2), "source {source}");
        assert!(asks(&mut node, ids[0], source, 5000), "the first has ended");
        assert!(!asks(&mut node, ids[0], source, 6000), "and no other");
    }
}
