//! A data plane that stops, or is killed, and comes again over the same devices.

use weir_testbed::node::{Node, Shape};
use weir_testbed::process::sibling;
use weir_testbed::topology::Topology;
use weir_testbed::traffic::warm_up;

#[test]
#[ignore = "needs root"]
fn a_killed_dataplane_leaves_nothing_that_hinders_the_next() {
    let shape = Shape::default();
    let topology = Topology::new(shape.queues).unwrap();
    for _ in 0..3 {
        let mut node = Node::start(&topology, &shape, None).unwrap();
        warm_up(&topology).unwrap();
        node.dataplane.kill().unwrap();
    }
    let node = Node::start(&topology, &shape, None).unwrap();
    warm_up(&topology).unwrap();
    node.stop().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_stopped_dataplane_detaches_its_programs() {
    let shape = Shape::default();
    let topology = Topology::new(shape.queues).unwrap();
    let attached = || topology.router.run("ip link show sap1").unwrap().contains("xdp");
    let node = Node::start(&topology, &shape, None).unwrap();
    assert!(attached());
    node.stop().unwrap();
    assert!(!attached());
}

#[test]
#[ignore = "needs root"]
fn the_command_line_tells_of_a_running_node() {
    let shape = Shape::default();
    let topology = Topology::new(shape.queues).unwrap();
    let mut node = Node::start(&topology, &shape, None).unwrap();
    node.start_sidecar(None).unwrap();
    warm_up(&topology).unwrap();
    let weir = |line: &str| {
        let mut command = std::process::Command::new(sibling("weir").unwrap());
        command.args(node.server()).args(line.split(' '));
        weir_testbed::command::run(&mut command).unwrap()
    };
    assert!(weir("status").contains("testbed") || !weir("status").is_empty());
    assert!(weir("port list").contains("sap4"));
    assert!(weir("neighbour list").contains("10.0.4.2"));
    weir("drops --check");
    weir("scale --to 2 --wait");
    let json: serde_json::Value = serde_json::from_str(&weir("instance list -o json")).unwrap();
    assert_eq!(json["instances"].as_array().unwrap().len(), 2, "{json}");
    node.stop().unwrap();
}
