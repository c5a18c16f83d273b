//! OpenNF's northbound API over the instances of a node: a control application asks the sidecar to
//! move, copy and tell.

use tokio::time::timeout;
use weir_client::{Client, Copy, Move, Notify, Scope, Told};
use weir_testbed::flow::Flow;
use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::wait::LIMIT;

use super::functions::{assert_each_flow_is_logged_once, logging};
use super::southbound::asking;
use super::{Setup, let_flow};

/// A second instance, and a sidecar.
pub(super) fn with_second(mut setup: Setup) -> Setup {
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
