//! A bad request is refused whole, with the reason, and changes nothing.

use std::process::Command;

use tonic::Code;
use weir_api::v1::scale_service_client::ScaleServiceClient;
use weir_api::v1::{ScaleRequest, ScaleResponse};
use weir_testbed::dataplane::Selection;
use weir_testbed::folder::Folder;
use weir_testbed::node::{Node, Shape};
use weir_testbed::process::sibling;
use weir_testbed::rpc::{change, refusal};
use weir_testbed::sidecar::Sidecar;
use weir_testbed::topology::Topology;

use super::Setup;

#[test]
fn a_bad_configuration_is_refused_with_line_and_suggestion() {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("weir.toml");
    let good = Shape::default().configuration(folder.path());
    std::fs::write(&path, &good).unwrap();
    for check in ["weir-dataplane", "weir-control"] {
        let (code, said) = checked(check, &path);
        assert_eq!(code, 0, "{check}: {said}");
    }
    let bad = good.replace("poll = ", "pol = ");
    let line = 1 + bad.lines().position(|line| line.starts_with("pol = ")).unwrap();
    std::fs::write(&path, bad).unwrap();
    let (code, said) = checked("weir-dataplane", &path);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains(&format!(":{line}:")) && said.contains("did you mean"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn a_bad_configuration_touches_no_device() {
    let topology = Topology::new(1).unwrap();
    let bad = Shape { tables: "[[route]]\nprefix = \"nonsense\"\n".into(), ..Shape::default() };
    let error = Node::start(&topology, &bad, None).unwrap_err().to_string();
    assert!(error.contains("nonsense") || error.contains("expected a prefix"), "{error}");
    for sap in ["sap1", "sap4"] {
        assert!(!topology.router.run(&format!("ip link show {sap}")).unwrap().contains("xdp"));
    }
}

#[test]
#[ignore = "needs root"]
fn bad_routes_moves_and_filters_change_nothing() {
    let setup = Setup::new(&Shape::default());
    let dataplane = &setup.dataplane;
    let first = dataplane.instances().unwrap()[0].id;
    let second = dataplane.add_instance("second").unwrap().id;
    let (routes, generation) = (dataplane.routes().unwrap(), dataplane.node().unwrap().generation);
    let owners = dataplane.steering().unwrap();
    for (prefix, via, port) in [
        ("10.0.0.0/33", "", "sap1"),
        ("10.0.0.1/8", "10.0.1.2", "sap1"),
        ("nonsense", "10.0.1.2", "sap1"),
        ("10.9.0.0/16", "10.0.1.2", "sap9"),
        ("10.9.0.0/16", "fd00:1::2", "sap1"),
        ("10.9.0.0/16", "10.0.2.2", "sap1"),
    ] {
        let what = format!("route {prefix} via {via:?} by {port}");
        assert_told(&refusal(dataplane.add_route(prefix, via, port), &what).unwrap(), &what);
    }
    for (from, to, selection) in [
        (first, 200, Selection::Buckets("0-9".into())),
        (200, first, Selection::Buckets("0-9".into())),
        (first, first, Selection::Buckets("0-9".into())),
        (first, second, Selection::Buckets("4096".into())),
        (first, second, Selection::Buckets("9-1".into())),
        (first, second, Selection::Buckets(String::new())),
        (first, second, Selection::Filter("source=10.0.0.0/8".into())),
        (first, second, Selection::Filter("src=10.0.0.0/8,src=10.0.0.0/8".into())),
        (first, second, Selection::Filter("src=10.0.0.0/8,dst=fd00::/8".into())),
        (first, second, Selection::Filter("sport=99999,proto=udp".into())),
    ] {
        let what = format!("move of {selection:?} from {from} to {to}");
        assert_told(&refusal(dataplane.start_move(from, to, selection), &what).unwrap(), &what);
    }
    assert_eq!(dataplane.routes().unwrap(), routes);
    assert_eq!(dataplane.steering().unwrap(), owners);
    assert_eq!(dataplane.node().unwrap().generation, generation);
}

#[test]
#[ignore = "needs root"]
fn a_bad_scale_request_changes_nothing() {
    let mut setup = Setup::new(&Shape::default());
    let sidecar = setup.node.start_sidecar(None).unwrap();
    for instances in [0, 65, u32::MAX] {
        let what = format!("scaling to {instances}");
        assert_told(&refusal(sidecar.scale(instances, |_| false), &what).unwrap(), &what);
    }
    let generation = sidecar.status().unwrap().generation + 7;
    let stale = scale_at(&sidecar, generation);
    assert_eq!(refusal(stale, "a change of another generation").unwrap().code(), Code::Aborted);
    assert_eq!(setup.dataplane.instances().unwrap().len(), 1);
    assert_eq!(sidecar.operations().unwrap(), []);
}

fn scale_at(sidecar: &Sidecar, generation: u64) -> Result<(), tonic::Status> {
    let change = change().map(|change| weir_api::dataplane::v1::Change { generation, ..change });
    let ask = ScaleRequest { change, instances: 2 };
    let ignore = |_: ScaleResponse| true;
    sidecar.rpc.follow(async |c| ScaleServiceClient::new(c).scale(ask).await, ignore)
}

/// A refusal is the caller's fault by its code, and says why.
fn assert_told(status: &tonic::Status, what: &str) {
    let codes = [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::OutOfRange];
    assert!(codes.contains(&status.code()), "{what}: {status:?}");
    assert!(status.message().len() > 10, "{what}: {status:?}");
}

/// Exit code and words of a check of a configuration.
fn checked(program: &str, path: &std::path::Path) -> (i32, String) {
    let output = Command::new(sibling(program).unwrap()).arg("--check").arg(path).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}
