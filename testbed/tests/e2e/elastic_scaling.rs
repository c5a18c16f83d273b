//! Elastic scaling by a control application: instances follow the load of real traffic, and nothing
//! is lost nor logged otherwise than by a single one. What one that is removed knew goes back: of a
//! scan that two instances have seen half of each the one that stays tells.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;
use weir_api::v1::{Operation, OperationState};
use weir_client::unix_channel;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::wait::{LIMIT, until};

use super::functions::{assert_each_flow_is_logged_once, lines};
use super::scan::{PORTS, refused, scan, tables};
use super::southbound::asking;
use super::{Setup, let_flow};

#[path = "../../../control/client/examples/elastic_scaling.rs"]
mod application;

/// Packets a second when there is load, and when it has gone: so few that it has gone although each
/// packet then costs a whole poll round.
const LOADED: u64 = 20_000;
const QUIET: u64 = 20;
/// How often the application looks.
const EVERY: Duration = Duration::from_millis(500);

#[test]
#[ignore = "needs root"]
fn an_application_adds_an_instance_under_load_and_merges_it_back_when_the_load_has_gone() {
    let logs = Folder::new().unwrap();
    let mut setup = Setup::new(&Shape { tables: tables(&logs), ..Shape::default() });
    setup.node.start_sidecar(None).unwrap();
    let traffic = setup.traffic(400, LOADED);
    let_flow(&traffic, LOADED / 2);
    let asking = asking();
    let channel = asking.block_on(unix_channel(&setup.node.control_socket())).unwrap();
    let loaded = asking.block_on(async {
        let mut loads = application::Loads::watch(&channel, EVERY).await.unwrap();
        timeout(LIMIT, loads.next()).await.unwrap().unwrap()
    });
    println!("a load of {loaded:?} at {LOADED} packets a second");
    assert_eq!(loaded.len(), 1);
    let loaded = loaded[0];
    // What is loaded is found here, as machines differ.
    let policy =
        application::Policy { high: loaded / 2.0, low: loaded / 4.0, most: 2, every: EVERY };
    let once = |operation: &mut Operation| {
        let kept = application::keep_scaled(&channel, &policy, |done| {
            operation.clone_from(done);
            false
        });
        asking.block_on(async { timeout(LIMIT, kept).await }).unwrap().unwrap();
    };
    let (mut out, mut back) = (Operation::default(), Operation::default());

    once(&mut out);
    assert_eq!(out.state(), OperationState::Done, "{out:?}");
    assert_eq!((out.from_instances, out.to_instances), (1, 2), "{out:?}");
    let_flow(&traffic, LOADED / 2);
    let instances = setup.dataplane.instances().unwrap();
    assert_eq!(instances.len(), 2);
    assert!(instances.iter().all(|one| one.flows > 0 && one.packets > 0), "{instances:?}");
    assert!(out.flows_moved > 0, "{out:?}");
    assert!(scan(&setup, PORTS).wait().unwrap().success());
    let all_refused = || (refused(&logs).len() == PORTS.len()).then_some(());
    until("all attempts of the scan in the log", LIMIT, all_refused).unwrap();
    assert_eq!(lines(logs.path(), "scan.log").len(), 0, "neither instance has seen a scan");

    traffic.set_rate(QUIET);
    once(&mut back);
    assert_eq!(back.state(), OperationState::Done, "{back:?}");
    assert_eq!((back.from_instances, back.to_instances), (2, 1), "{back:?}");
    let_flow(&traffic, QUIET / 2);
    let instances = setup.dataplane.instances().unwrap();
    let [stays] = &instances[..] else { panic!("{instances:?}") };
    // What both know of the source is a scan.
    let told = || (lines(logs.path(), "scan.log").len() == 1).then_some(());
    until("the scan in the log", LIMIT, told).unwrap();
    let told = fs::read_to_string(logs.path().join(&stays.name).join("scan.log")).unwrap();
    assert!(told.contains("10.0.1.2"), "{told}");
    println!("{} flows moved there, {} back", out.flows_moved, back.flows_moved);

    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    setup.node.stop().unwrap();
    assert_each_flow_is_logged_once(&logs, &report);
}
