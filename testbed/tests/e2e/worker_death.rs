//! A worker that panics is started again by its supervisor.

use weir_testbed::dataplane::Selection;
use weir_testbed::node::Shape;
use weir_testbed::wait::{LIMIT, until};

use super::{Setup, let_flow};

#[test]
#[ignore = "needs root"]
fn a_worker_that_panics_is_started_again_and_every_packet_is_accounted_for() {
    let setup = Setup::new(&Shape { faults: true, ..Shape::default() });
    let traffic = setup.traffic(600, 20_000);
    let_flow(&traffic, 5_000);
    // An instance at each of the two workers, so that both are in the middle of packets.
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let half = Selection::Buckets("0-2047".to_owned());
    let started = setup.dataplane.start_move(first, second, half).unwrap();
    setup.dataplane.finish_move(started.id).unwrap();
    for worker in setup.dataplane.workers().unwrap() {
        assert_eq!(worker.instances.len(), 1, "{worker:?}");
        setup.dataplane.panic_worker(worker.id, 500).unwrap();
        until("the worker to be started again", LIMIT, || {
            let workers = setup.dataplane.workers().ok()?;
            workers.iter().find(|seen| seen.id == worker.id && seen.restarts == 1).map(|_| ())
        })
        .unwrap();
        let_flow(&traffic, 5_000);
    }
    let report = traffic.stop().unwrap();
    let balance = setup.dataplane.balance_at_rest().unwrap();
    let counters = setup.dataplane.counters().unwrap();
    let dropped: u64 = counters
        .drops
        .iter()
        .filter(|drop| ["worker_panic", "poisoned"].contains(&drop.reason.as_str()))
        .map(|drop| drop.packets)
        .sum();
    assert_eq!(report.lost, dropped, "{:?}", counters.drops);
    assert!(dropped > 0, "the packet in hand is lost: {balance:?}");
    let tally = report.tally;
    assert_eq!((tally.duplicated, tally.reordered, tally.stray), (0, 0, 0));
    let frames: u64 = counters.frames.iter().map(|place| place.frames).sum();
    assert_eq!(frames, u64::from(setup.dataplane.node().unwrap().frames), "{:?}", counters.frames);
}
