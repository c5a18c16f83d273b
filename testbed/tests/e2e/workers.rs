//! Workers come and go under traffic.

use weir_testbed::node::Shape;

use super::{Setup, let_flow};

#[test]
#[ignore = "needs root"]
fn workers_that_come_and_go_under_traffic_lose_nothing() {
    let setup = Setup::new(&Shape::default());
    let traffic = setup.traffic(600, 60_000);
    let_flow(&traffic, 5_000);
    for _ in 0..30 {
        let added = setup.dataplane.add_worker().unwrap();
        let_flow(&traffic, 1_000);
        setup.dataplane.remove_worker(added.id).unwrap();
        let_flow(&traffic, 1_000);
    }
    setup.assert_exact(&traffic.stop().unwrap());
    for worker in setup.dataplane.workers().unwrap() {
        assert_eq!(worker.restarts, 0, "{worker:?}");
    }
}
