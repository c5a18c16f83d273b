//! OpenNF's northbound API over the instances of a node: a control application asks the sidecar to
//! move, copy and tell.

use std::process::Child;
use std::time::Duration;

use tokio::time::{interval, timeout};
use weir_client::{Client, Copy, Move, Notify, Scope, Told};
use weir_testbed::dataplane::Selection;
use weir_testbed::flow::Flow;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::wait::LIMIT;

use super::functions::{assert_each_flow_is_logged_once, lines, logging};
use super::southbound::asking;
use super::{Setup, let_flow};

#[path = "../../../control/client/examples/move_prefix.rs"]
mod move_prefix;

/// A second instance, and a sidecar.
fn with_second(mut setup: Setup) -> Setup {
    setup.dataplane.add_instance("second").unwrap();
    setup.node.start_sidecar(None).unwrap();
    setup
}

/// A client of the sidecar of a node; to be made where it asks.
pub(super) async fn client(setup: &Setup) -> Client {
    Client::unix(&setup.node.control_socket()).await.unwrap()
}

#[test]
#[ignore = "needs root"]
fn state_is_moved_and_copied_by_the_sidecar_and_only_what_has_changed_is_copied_again() {
    let logs = Folder::new().unwrap();
    let setup = with_second(logging(&logs));
    let asking = asking();
    let mut traffic = setup.traffic(300, 6_000);
    let_flow(&traffic, 4_000);
    let client = asking.block_on(client(&setup));
    let copy =
        Copy { scopes: vec![Scope::PerFlow, Scope::AllFlows], ..Copy::new("r1", "second", "any") };
    let first = asking.block_on(client.copy(&copy)).unwrap();
    assert!(first.chunks >= 300, "{first:?}");
    // What a copy may have missed is in the next; then nothing has changed since.
    traffic.settle().unwrap();
    let copied = [(); 4].map(|()| asking.block_on(client.copy(&copy)).unwrap().chunks);
    assert_eq!(copied[3], 0, "{copied:?}");
    traffic.resume();
    for (from, to) in [("r1", "second"), ("second", "r1")] {
        let asked = Move::new(from, to, "proto=udp,src=10.0.0.0/15");
        let moved = asking.block_on(client.move_state(&asked)).unwrap();
        assert!(moved.flows > 0, "{moved:?}");
        let_flow(&traffic, 1_000);
    }
    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    setup.node.stop().unwrap();
    assert_each_flow_is_logged_once(&logs, &report);
}

#[test]
#[ignore = "needs root"]
fn every_packet_that_an_application_asks_for_is_told_or_is_in_a_gap() {
    let setup = with_second(Setup::new(&Shape::default()));
    let asking = asking();
    let client = asking.block_on(client(&setup));
    let filter = "proto=udp,src=10.0.1.0/24";
    let asked = Notify { snap: 64, ..Notify::new("r1", filter) };
    let mut events = asking.block_on(client.notify(&asked)).unwrap();
    let traffic = setup.traffic(120, 4_000);
    let_flow(&traffic, 3_000);
    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    // A filter matches either direction.
    let of_host = |flow: &Flow| flow.source.is_ipv4() && (flow.from == 0 || flow.to == 0);
    let packets = report.states.iter().filter(|(flow, _)| of_host(flow));
    let packets: u64 = packets.map(|(_, state)| state.packets).sum();
    let (mut told, mut lost) = (0, 0);
    while told + lost < packets {
        let next = asking.block_on(async { timeout(LIMIT, events.next()).await });
        match next.unwrap().unwrap().unwrap() {
            Told::Event(event) => {
                assert_eq!(event.sequence, told + lost, "each has its number");
                assert!(event.packet.len() == 64 && event.flow.contains("10.0.1.2"), "{event:?}");
                told += 1;
            }
            Told::Gap(gap) => lost += gap,
        }
    }
    println!("{told} packets told, {lost} in gaps");
    assert_eq!(told + lost, packets);
    assert!(told > 0);
}

/// Ports that refuse connections, and how many attempts are a scan: more than one of two instances
/// sees, and less than both do.
const PORTS: u16 = 90;
const THRESHOLD: u16 = 66;

/// A host asks for one closed port after the other.
fn scan(setup: &Setup) -> Child {
    let program = format!(
        "import socket\nfor port in range(30000, {}):\n s = socket.socket()\n \
         s.connect_ex(('10.0.2.2', port))\n s.close()\n",
        30_000 + PORTS
    );
    let mut command = setup.topology.hosts[0].namespace.command("python3");
    command.args(["-c", &program]);
    command.spawn().unwrap()
}

/// Two instances with half of the flows each, and what they have logged of scans when all attempts
/// are over; with counters that are copied both ways, or not.
fn scans(in_step: bool) -> usize {
    let logs = Folder::new().unwrap();
    let tables = format!(
        "[[nf]]\nkind = \"ids\"\nlogs = \"{}\"\nscan_threshold = {THRESHOLD}\n\
         reset_timeout = \"1s\"\n",
        logs.path().display()
    );
    let setup = with_second(Setup::new(&Shape { tables, ..Shape::default() }));
    let instances = setup.dataplane.instances().unwrap();
    let [first, second] = [instances[0].id, instances[1].id];
    let half = Selection::Buckets("0-2047".to_owned());
    let moved = setup.dataplane.start_move(first, second, half).unwrap();
    setup.dataplane.finish_move(moved.id).unwrap();
    let mut scanning = scan(&setup);
    let refused = || {
        let all = lines(logs.path(), "conn.log");
        all.iter().filter(|line| line["conn_state"] == "REJ").count()
    };
    let asking = asking();
    let client = asking.block_on(client(&setup));
    // All attempts have failed, and a round of copies has passed, or is to be.
    let over = async {
        let mut look = interval(Duration::from_millis(20));
        while refused() < usize::from(PORTS) {
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
            ended = move_prefix::keep_in_step(&client, pair, every), if in_step => {
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
