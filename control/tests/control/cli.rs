//! The command line: JSON that is the proto's own, tables, and exit codes.

use std::process::Output;

use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::support::node::{Node, Running, weir};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Checks that each value printed is a message of this name, and returns the last.
fn parsed(output: &Output, message: &str) -> DynamicMessage {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pool = DescriptorPool::decode(weir_api::FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name(&format!("weir.v1.{message}")).unwrap();
    let values = serde_json::Deserializer::from_slice(&output.stdout);
    let mut last = None;
    for value in values.into_iter::<serde_json::Value>() {
        let value = value.unwrap();
        last = Some(DynamicMessage::deserialize(descriptor.clone(), value).unwrap());
    }
    last.unwrap_or_else(|| panic!("no {message} printed"))
}

#[test]
fn every_command_prints_the_protos_own_json_and_a_table() {
    let node = Node::new(2);
    let running = node.start();
    for (arguments, message) in [
        (vec!["status"], "GetStatusResponse"),
        (vec!["port", "list"], "ListPortsResponse"),
        (vec!["port", "show", "p0"], "GetPortResponse"),
        (vec!["instance", "list"], "ListInstancesResponse"),
        (vec!["instance", "show", "sw1"], "GetInstanceResponse"),
        (vec!["worker", "list"], "ListWorkersResponse"),
        (vec!["worker", "add"], "AddWorkerResponse"),
        (vec!["worker", "remove", "2"], "RemoveWorkerResponse"),
        (
            vec!["route", "add", "10.1.0.0/16", "--via", "10.0.0.2", "--port", "p0"],
            "AddRouteResponse",
        ),
        (vec!["route", "list"], "ListRoutesResponse"),
        (vec!["route", "remove", "10.1.0.0/16"], "RemoveRouteResponse"),
        (vec!["neighbour", "list"], "ListNeighboursResponse"),
        (vec!["flow", "list", "--filter", "proto=udp"], "ListFlowsResponse"),
        (vec!["drops"], "GetCountersResponse"),
        (vec!["drops", "--check"], "GetCountersResponse"),
        (vec!["stats"], "GetStatsResponse"),
        (vec!["stats", "--watch", "10ms", "--count", "3"], "WatchStatsResponse"),
        (vec!["move", "--from", "sw1", "--to", "sw2", "--buckets", "0-9"], "WatchMoveResponse"),
        (
            vec!["move", "--from", "sw2", "--to", "sw1", "--filter", "proto=udp"],
            "WatchMoveResponse",
        ),
        (vec!["move", "list"], "ListMovesResponse"),
        (vec!["scale", "--to", "3", "--wait"], "ScaleResponse"),
        (vec!["scale", "list"], "ListOperationsResponse"),
        (vec!["scale", "watch", "1"], "WatchScaleResponse"),
        (vec!["scale", "plan", "--to", "1"], "PlanScaleResponse"),
        (vec!["scale", "auto"], "GetAutoResponse"),
        (vec!["scale", "auto", "off"], "SetAutoResponse"),
        (vec!["scale", "log"], "ListDecisionsResponse"),
    ] {
        let json = running.weir(&[&["-o", "json"], arguments.as_slice()].concat());
        parsed(&json, message);
        if arguments[0] != "worker" && arguments[0] != "route" {
            let table = running.weir(&arguments);
            assert!(table.status.success(), "{arguments:?}: {}", text(&table.stderr));
            assert!(!table.stdout.is_empty() && table.stdout[0] != b'{', "{arguments:?}");
        }
    }
}

#[test]
fn instances_are_taken_by_name_or_number_and_shown_by_name() {
    let node = Node::new(2);
    let running = node.start();
    let ids: Vec<String> = node.fake.model().instances.keys().map(u32::to_string).collect();
    let told = |arguments: &[&str]| {
        let out = running.weir(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
        text(&out.stdout).to_owned()
    };
    assert!(told(&["instance", "show", &ids[0]]).contains("sw1 ("));
    told(&["move", "--from", &ids[0], "--to", &ids[1], "--buckets", "0-9"]);
    let moves = told(&["move", "list"]);
    let row: Vec<&str> = moves.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..3], ["sw1", "sw2"], "{moves}");
    let flows = told(&["flow", "list", "--instance", &ids[0], "--limit", "1"]);
    assert!(flows.lines().nth(1).unwrap().contains(" sw1 "), "{flows}");
    assert_eq!(running.weir(&["instance", "show", "99"]).status.code(), Some(3));
}

#[test]
fn scale_waits_with_progress_and_its_json_says_what_was_done() {
    let node = Node::new(1);
    let running = node.start();
    let out = running.weir(&["-o", "json", "scale", "--to", "4", "--wait"]);
    let response = parsed(&out, "ScaleResponse");
    let json = serde_json::to_value(&response).unwrap();
    assert_eq!(json["operation"]["state"], "OPERATION_STATE_DONE");
    assert_eq!(json["operation"]["flowsMoved"], "3072");
    let progress = text(&out.stderr);
    for step in ["create:1", "activate:3", "move:3"] {
        assert!(progress.contains(step), "{progress}");
    }
    assert_eq!(node.fake.model().active().len(), 4);
    let flows = running.weir(&["-o", "json", "flow", "list", "--limit", "2"]);
    assert_eq!(text(&flows.stdout).lines().count(), 2, "one object a line");
}

#[test]
fn exit_codes_are_as_documented() {
    let node = Node::new(1);
    let running = node.start();
    let code = |arguments: &[&str]| running.weir(arguments).status.code().unwrap();
    assert_eq!(code(&["status"]), 0);
    assert_eq!(code(&["no-such-noun"]), 2);
    assert_eq!(code(&["scale", "--to", "0"]), 2);
    assert_eq!(code(&["move", "--from", "sw1", "--to", "sw1"]), 2);
    assert_eq!(code(&["port", "show", "p9"]), 3);
    assert_eq!(code(&["worker", "remove", "0"]), 4);
    assert_eq!(code(&["--generation", "9", "scale", "auto", "on"]), 4);
    let nobody = weir(&["-s", "unix:///nonexistent/control.sock", "status"]);
    assert_eq!(nobody.status.code(), Some(6));
    let said = text(&nobody.stderr);
    assert!(said.starts_with("error: cannot reach the sidecar at unix:///nonexistent"), "{said}");
    assert!(said.contains("[SIDECAR_UNREACHABLE]") && said.contains("  fix "), "{said}");
    assert_eq!(weir(&["-s", "gopher://x", "status"]).status.code(), Some(2));
    silent_sidecar_is_not_waited_for(&node);

    node.fake.model().balance.unaccounted = 3;
    let off = running.weir(&["drops", "--check"]);
    assert_eq!(off.status.code(), Some(9));
    let shown = text(&off.stdout);
    assert!(shown.contains("unaccounted") && shown.contains("do not balance"), "{shown}");
    assert_eq!(code(&["drops"]), 0);
}

/// A socket that accepts and says nothing.
fn silent_sidecar_is_not_waited_for(node: &Node) {
    let path = node.directory.0.join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = format!("unix://{}", path.display());
    let silent = weir(&["-s", &server, "--timeout", "100ms", "status"]);
    assert_eq!(silent.status.code(), Some(8), "{}", text(&silent.stderr));
}

#[test]
fn an_unreachable_data_plane_is_named_with_its_mend() {
    let node = Node::new(1);
    let control = "";
    let config = node.config_text(control).replace("dataplane.sock", "absent.sock");
    let path = node.directory.0.join("weir.toml");
    std::fs::write(&path, &config).unwrap();
    let running = start_without_dataplane(&node);
    let status = running.weir(&["status"]);
    assert!(status.status.success() && text(&status.stdout).contains("not reached"));
    let refused = running.weir(&["scale", "--to", "2"]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(text(&refused.stderr).contains("[DATAPLANE_UNREACHABLE]"), "{refused:?}");
    let doctor = running.weir(&["-o", "json", "doctor"]);
    assert_eq!(doctor.status.code(), Some(9));
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == "data plane").unwrap();
    assert!(finding["ok"] == false && !finding["fix"].as_str().unwrap().is_empty());
}

fn start_without_dataplane(node: &Node) -> Running {
    std::fs::remove_file(&node.fake.socket).unwrap();
    node.start()
}

#[test]
fn completions_and_help_name_every_noun_and_the_exit_codes() {
    let script = weir(&["completion", "bash"]);
    assert!(script.status.success());
    let help = weir(&["--help"]);
    for noun in [
        "status",
        "port",
        "instance",
        "worker",
        "scale",
        "move",
        "route",
        "neighbour",
        "flow",
        "drops",
        "stats",
        "doctor",
        "pki",
        "completion",
    ] {
        assert!(text(&script.stdout).contains(noun), "{noun}");
        assert!(text(&help.stdout).contains(noun), "{noun}");
    }
    assert!(text(&help.stdout).contains("9 a check found problems"));
}

#[test]
fn a_bad_configuration_is_refused_by_the_sidecar_itself() {
    let node = Node::new(1);
    let path = node.directory.0.join("weir.toml");
    let sidecar = |text: &str, more: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir-control"));
        command.arg("--config").arg(&path).args(more).output().unwrap()
    };
    assert!(sidecar(&node.config_text(""), &["--check"]).status.success());
    for more in [&["--check"][..], &[]] {
        let refused = sidecar("[control]\nlisten = '0.0.0.0:7440'\nsockt = 'x'\n", more);
        assert_eq!(refused.status.code(), Some(5));
        let said = text(&refused.stderr);
        assert!(said.contains("needs mutual TLS") && said.contains("`socket`"), "{said}");
    }
    let missing = sidecar(&node.config_text(""), &["--pause-at", "nonsense"]);
    assert_eq!(missing.status.code(), Some(2));
}
