//! A router without traffic costs next to nothing, and wakes up at once.

use std::time::Duration;

use weir_testbed::node::Shape;
use weir_testbed::{cpu, wait};

use super::{Setup, let_flow};

const WINDOW: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root"]
fn adaptive_polling_takes_under_one_percent_of_a_core_at_no_load() {
    let setup = Setup::new(&Shape::default());
    let traffic = setup.traffic(48, 10_000);
    let_flow(&traffic, 10_000);
    let report = traffic.stop().unwrap();
    let pid = setup.node.dataplane.pid();
    // Whatever the hosts still had to say to each other.
    wait::until("the workers to sleep", wait::LIMIT, || {
        let workers = setup.dataplane.workers().ok()?;
        workers.iter().all(|worker| worker.state == "sleeping").then_some(())
    })
    .unwrap();
    let before = cpu::of_process(pid).unwrap();
    wait::pause(&mut [], WINDOW).unwrap();
    let taken = cpu::of_process(pid).unwrap() - before;
    println!("{taken:?} of CPU time in {WINDOW:?}");
    assert!(taken < WINDOW / 100, "{taken:?} of CPU time in {WINDOW:?}");
    let traffic = setup.traffic(48, 10_000);
    let_flow(&traffic, 10_000);
    assert!(traffic.stop().unwrap().is_clean() && report.is_clean());
}
