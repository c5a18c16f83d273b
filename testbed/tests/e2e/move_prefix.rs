//! Load-balanced monitoring by a control application: the flows of a prefix go from one instance to
//! another under real traffic, and what is known of hosts is copied, so that nothing is lost nor
//! logged otherwise than by a single monitor.

use std::fs;
use std::time::Duration;

use tokio::time::{interval, timeout};
use weir_client::Guarantee;
use weir_testbed::dataplane::Selection;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::wait::{LIMIT, until};

use super::functions::{assert_each_flow_is_logged_once, lines};
use super::northbound::{client, with_second};
use super::scan::{PORTS, refused, scan, tables};
use super::southbound::asking;
use super::{Setup, let_flow};

#[path = "../../../control/client/examples/move_prefix.rs"]
mod application;

/// The network of the first host.
const PREFIX: &str = "10.0.1.0/24";

/// Two instances that tell scans, and a sidecar.
fn monitors(logs: &Folder) -> Setup {
    with_second(Setup::new(&Shape { tables: tables(logs), ..Shape::default() }))
}

#[test]
#[ignore = "needs root"]
fn a_prefix_under_traffic_goes_to_another_monitor_that_sees_a_scan_which_began_before() {
    let logs = Folder::new().unwrap();
    let setup = monitors(&logs);
    let asking = asking();
    let client = asking.block_on(client(&setup));
    let move_prefix = |ends| {
        let moved = application::move_prefix(&client, PREFIX, ends, Guarantee::Ordered);
        asking.block_on(moved).unwrap()
    };
    let traffic = setup.traffic(400, 8_000);
    let_flow(&traffic, 4_000);
    let half = PORTS.start + PORTS.len() as u16 / 2;
    assert!(scan(&setup, PORTS.start..half).wait().unwrap().success());
    until("the first half of the scan in the log", LIMIT, || {
        (refused(&logs).len() == PORTS.len() / 2).then_some(())
    })
    .unwrap();
    let moved = move_prefix(("r1", "second"));
    let_flow(&traffic, 4_000);
    assert_eq!(lines(logs.path(), "scan.log").len(), 0, "it is no scan yet");
    assert!(scan(&setup, half..PORTS.end).wait().unwrap().success());
    until("the scan in the log", LIMIT, || {
        (lines(logs.path(), "scan.log").len() == 1).then_some(())
    })
    .unwrap();
    let told = fs::read_to_string(logs.path().join("second/scan.log")).unwrap();
    assert!(told.contains("10.0.1.2"), "{told}");
    let mut flows = moved.flows;
    for ends in [("second", "r1"), ("r1", "second")].into_iter().cycle().take(6) {
        flows += move_prefix(ends).flows;
        let_flow(&traffic, 2_000);
    }
    println!("{flows} flows in 7 moves, the first in {:?}", moved.took);

    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    // The prefix, both ways, is where it went last, and the other flows are where they were.
    let instances = setup.dataplane.instances().unwrap();
    let [of_prefix, all] =
        [format!("src={PREFIX}"), String::new()].map(|f| setup.dataplane.flows(&f).unwrap());
    assert!(of_prefix.len() as u64 >= moved.flows && moved.flows >= 100, "{moved:?}");
    assert!(of_prefix.iter().all(|flow| flow.instance == instances[1].id));
    let there = all.iter().filter(|flow| flow.instance == instances[1].id);
    assert_eq!(there.count(), of_prefix.len());
    setup.node.stop().unwrap();
    assert_each_flow_is_logged_once(&logs, &report);
    let mut refused = refused(&logs);
    refused.sort_unstable();
    assert_eq!(refused, PORTS.collect::<Vec<_>>(), "each attempt is logged once");
}

/// Two instances with half of the flows each, and what they have logged of scans when all attempts
/// are over; with counters that are copied both ways, or not.
fn scans(in_step: bool) -> usize {
    let logs = Folder::new().unwrap();
    let setup = monitors(&logs);
    let instances = setup.dataplane.instances().unwrap();
    let [first, second] = [instances[0].id, instances[1].id];
    let half = Selection::Buckets("0-2047".to_owned());
    let moved = setup.dataplane.start_move(first, second, half).unwrap();
    setup.dataplane.finish_move(moved.id).unwrap();
    let mut scanning = scan(&setup, PORTS);
    let asking = asking();
    let client = asking.block_on(client(&setup));
    // All attempts have failed, and a round of copies has passed, or is to be.
    let over = async {
        let mut look = interval(Duration::from_millis(20));
        while refused(&logs).len() < PORTS.len() {
            look.tick().await;
        }
        if in_step {
            while lines(logs.path(), "scan.log").is_empty() {
                look.tick().await;
            }
        }
    };
    let every = Duration::from_millis(50);
    asking.block_on(async {
        let pair = ("r1", "second");
        tokio::select! {
            ended = application::keep_in_step(&client, pair, every), if in_step => {
                panic!("{ended:?}")
            }
            over = timeout(LIMIT, over) => over.expect("it is over in time"),
        }
    });
    assert!(scanning.wait().unwrap().success());
    setup.node.stop().unwrap();
    lines(logs.path(), "scan.log").len()
}

#[test]
#[ignore = "needs root"]
fn a_scan_that_is_spread_over_two_instances_is_seen_where_counters_are_copied_both_ways() {
    assert_eq!(scans(false), 0, "neither sees enough of it");
    assert!(scans(true) >= 1);
}
