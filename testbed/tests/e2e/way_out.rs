//! By which way packets leave, as hosts take live frames or cease to.

use weir_testbed::dataplane::Dataplane;
use weir_testbed::node::{Node, Shape};
use weir_testbed::topology::{HOST_DEVICE, Topology};
use weir_testbed::wait::{LIMIT, until};
use weir_testbed::way_out::WayOut;

use super::Setup;

fn shape(way_out: WayOut) -> Shape {
    Shape { way_out: Some(way_out), ..Shape::default() }
}

fn refused(dataplane: &Dataplane) -> u64 {
    let drops = dataplane.counters().unwrap().drops;
    drops.iter().find(|drop| drop.reason == "tx_refused").map_or(0, |drop| drop.packets)
}

#[test]
#[ignore = "needs root"]
fn a_host_that_ceases_to_take_live_frames_gets_the_rest_by_the_socket_and_its_losses_are_counted() {
    let setup = Setup::new(&shape(WayOut::Frames));
    let port = || setup.dataplane.ports().unwrap().remove(0);
    let [host, other] = [&setup.topology.hosts[0], &setup.topology.hosts[1]];
    let ping = || {
        let pinged = other
            .namespace
            .command("ping")
            .args(["-n", "-c", "1", "-W", "1"])
            .arg(host.ipv4().to_string())
            .output();
        pinged.unwrap().status.success()
    };
    assert!(ping());
    assert_eq!((port().transmit, refused(&setup.dataplane)), ("frames".to_owned(), 0));
    let gro = |switch: &str| {
        host.namespace.run(&format!("ethtool -K {HOST_DEVICE} gro {switch}")).unwrap();
    };
    gro("off");
    let mut lost = 0;
    until("the host to be reached by the socket", LIMIT, || {
        let reached = ping();
        lost += u64::from(!reached);
        reached.then_some(())
    })
    .unwrap();
    until("what was lost to be counted", LIMIT, || {
        (refused(&setup.dataplane) >= lost).then_some(())
    })
    .unwrap();
    until("the port to say so", LIMIT, || {
        port().transmit_note.contains("has ceased to take live frames").then_some(())
    })
    .unwrap();
    let balance = setup.dataplane.balance_at_rest().unwrap();
    assert!(balance.dropped >= lost, "{balance:?}");
    let before = port().tx_live;
    assert!(ping() && port().tx_live == before);

    gro("on");
    until("live frames again", LIMIT, || (ping() && port().tx_live > before).then_some(()))
        .unwrap();
    until("the port to say so", LIMIT, || port().transmit_note.is_empty().then_some(())).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_port_is_not_started_with_live_frames_that_its_host_does_not_take() {
    let topology = Topology::with_way_out(1, WayOut::Socket).unwrap();
    let refused = Node::start(&topology, &shape(WayOut::Frames), None).unwrap_err().to_string();
    assert!(refused.contains("port sap1 cannot send live frames by sap1"), "{refused}");
    assert!(refused.contains("ethtool -K DEVICE gro on"), "{refused}");
    let node = Node::start(&topology, &shape(WayOut::Socket), None).unwrap();
    let port = node.connect().unwrap().ports().unwrap().remove(0);
    assert_eq!((port.transmit, port.tx_live), ("socket".to_owned(), 0));
    node.stop().unwrap();

    // Of several queues it would not even if its host took them.
    let topology = Topology::with_way_out(2, WayOut::Socket).unwrap();
    WayOut::Frames.prepare(&topology.hosts[0].namespace, HOST_DEVICE).unwrap();
    let refused = Node::start(&topology, &shape(WayOut::Frames), None).unwrap_err().to_string();
    assert!(refused.contains("several queues could overtake each other"), "{refused}");
}
