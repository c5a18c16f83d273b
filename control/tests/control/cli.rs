//! The command line: JSON that is the proto's own, tables, and exit codes.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Output},
};

use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::support::{
    nf::flow,
    node::{Node, Running, weir},
    state::Pair,
};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Checks that each value printed is a message of this name, and one unless it is watched; returns
/// the last.
fn parsed(output: &Output, message: &str) -> DynamicMessage {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let pool = DescriptorPool::decode(weir_api::FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name(&format!("weir.v1.{message}")).unwrap();
    let values = serde_json::Deserializer::from_slice(&output.stdout);
    let mut last = None;
    for value in values.into_iter::<serde_json::Value>() {
        let value = value.unwrap();
        let is_stream = ["WatchStatsResponse", "MoveResponse"].contains(&message);
        assert!(last.is_none() || is_stream, "one document: {output:?}");
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
        (vec!["policy", "list"], "ListPolicyRoutesResponse"),
        (vec!["neighbour", "list"], "ListNeighboursResponse"),
        (vec!["nf", "list"], "ListNfsResponse"),
        (vec!["flow", "list", "--filter", "proto=udp"], "ListFlowsResponse"),
        (vec!["drops"], "GetCountersResponse"),
        (vec!["drops", "--check"], "GetCountersResponse"),
        (vec!["stats"], "GetStatsResponse"),
        (vec!["stats", "--watch", "10ms", "--count", "3"], "WatchStatsResponse"),
        (vec!["move", "--from", "sw1", "--to", "sw2", "--buckets", "0-9"], "MoveResponse"),
        (vec!["move", "--from", "sw2", "--to", "sw1", "--filter", "proto=udp"], "MoveResponse"),
        (vec!["operation", "list"], "ListStateOperationsResponse"),
        (vec!["operation", "watch", "1"], "WatchStateOperationResponse"),
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
}

#[test]
fn a_listing_that_comes_in_parts_is_one_json_document() {
    let node = Node::new(1);
    let running = node.start();
    let flows = running.weir(&["-o", "json", "flow", "list", "--limit", "2"]);
    let flows: serde_json::Value = serde_json::from_slice(&flows.stdout).unwrap();
    assert_eq!(flows["flows"].as_array().unwrap().len(), 2, "{flows}");
    assert!(flows["flows"][0]["srcPort"].is_u64(), "{flows}");
    let routes = running.weir(&["-o", "json", "route", "list"]);
    let routes: serde_json::Value = serde_json::from_slice(&routes.stdout).unwrap();
    assert!(routes["routes"].is_array(), "{routes}");
}

#[test]
fn errors_are_json_for_those_who_ask_for_it() {
    let node = Node::new(1);
    let running = node.start();
    for (arguments, exit, code) in [
        (&["-o", "json", "port", "show", "p9"][..], 3, "NOT_FOUND"),
        (&["-o", "json", "worker", "remove", "0"], 4, "DATAPLANE_REFUSED"),
        (&["-o", "json", "-s", "unix:///nonexistent/x.sock", "status"], 6, "SIDECAR_UNREACHABLE"),
        (&["status", "--output=json", "--nonsense"], 2, "USAGE"),
        (&["-o", "json", "move"], 2, "USAGE"),
        (
            &["-o", "json", "pki", "issue", "/nonexistent", "--name", "a", "--role", "viewer"],
            5,
            "BAD_FILE",
        ),
    ] {
        let server = format!("unix://{}", running.socket.display());
        let asks_for_it = ["-s", server.as_str()];
        let given = if arguments.contains(&"-s") { &[][..] } else { &asks_for_it[..] };
        let refused = weir(&[given, arguments].concat());
        assert_eq!(refused.status.code(), Some(exit), "{arguments:?}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{refused:?}");
        let last = text(&refused.stderr).lines().last().unwrap();
        let error: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        assert!(error["fix"].is_string() && error["object"].is_string(), "{error}");
    }
    node.fake.model().balance.unaccounted = 3;
    let off = running.weir(&["-o", "json", "drops", "--check"]);
    let error: serde_json::Value = serde_json::from_slice(&off.stderr).unwrap();
    assert_eq!((off.status.code(), &error["code"]), (Some(9), &"PROBLEMS".into()));
}

#[test]
fn state_is_moved_copied_and_told_of_by_commands() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 3);
    let running = pair.start();
    let nfs = running.weir(&["nf", "processes"]);
    assert!(text(&nfs.stdout).contains("monitor 1"), "{nfs:?}");
    let copy = ["copy", "--from", "a", "--to", "b", "--filter", "any"];
    let copied = running.weir(&[&["-o", "json"], &copy[..]].concat());
    let lines: Vec<serde_json::Value> =
        text(&copied.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = &lines.last().unwrap()["operation"];
    assert_eq!(last["state"], "STATE_OPERATION_STATE_DONE", "{copied:?}");
    assert_eq!(last["chunks"], "3", "two hosts and their network: {last}");
    let by_default = ["move", "--from", "a", "--to", "b", "--filter", "any"];
    let refused = running.weir(&by_default);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("[NOT_LOSS_FREE]") && said.contains("--guarantee none"), "{said}");
    let moved = running.weir(&[&by_default[..], &["--guarantee", "none"]].concat());
    assert!(moved.status.success() && text(&moved.stdout).contains("1 chunks"), "{moved:?}");
    let list = running.weir(&["operation", "list"]);
    let words: Vec<_> = text(&list.stdout).lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[1..4], ["move", "nf/a", "nf/b"], "{list:?}");
    assert_eq!(running.weir(&["operation", "cancel", "99"]).status.code(), Some(3));
    let notify = ["-o", "json", "notify", "b", "--filter", "any", "--count", "2"];
    let told = running.weir_while(&notify, || pair.b.monitor().packets(&flow(1, 2, 1_000), 1));
    assert!(told.status.success(), "{told:?}");
    let event = text(&told.stdout).lines().nth(1).unwrap();
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert!(event["event"]["flow"].as_str().unwrap().starts_with("src=10.0.1.2,"), "{event}");
}

/// Runs a command that goes on, and cancels by command what it has begun: what it said, and the
/// operation as it ended.
fn cancelled(running: &Running, command: &[&str]) -> (Output, serde_json::Value) {
    let json = |arguments: &[&str]| -> serde_json::Value {
        let output = running.weir(&[&["-o", "json", "operation"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (told, id) = std::thread::scope(|scope| {
        let told = scope.spawn(|| running.weir(command));
        let id = loop {
            let listed = json(&["list", "--running"]);
            if let Some(id) = listed["operations"][0]["id"].as_str() {
                break id.to_owned();
            }
            assert!(!told.is_finished(), "{:?}", told.join());
        };
        let cancel = running.weir(&["operation", "cancel", &id]);
        assert!(cancel.status.success(), "{cancel:?}");
        let said = text(&cancel.stderr);
        assert!(said.contains(&format!("weir operation watch {id}")), "{said}");
        (told.join().unwrap(), id)
    });
    let mut listed = json(&["list"]);
    let mut ended = listed["operations"].as_array_mut().unwrap().iter_mut();
    let ended = ended.find(|ended| ended["id"] == id.as_str()).unwrap().take();
    assert_eq!(ended["failure"], "STATE_FAILURE_CANCELLED", "{ended}");
    (told, ended)
}

#[test]
fn moves_copies_and_notifications_are_cancelled_by_command() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 3);
    let running = pair.start();
    let ends = ["--from", "a", "--to", "b", "--filter", "any"];
    pair.a.hang(true);
    let (told, ended) =
        cancelled(&running, &[&["move", "--guarantee", "none"], &ends[..]].concat());
    pair.a.hang(false);
    assert_eq!(
        (told.status.code(), &ended["kind"]),
        (Some(1), &"STATE_OPERATION_KIND_MOVE".into())
    );
    assert_eq!(ended["state"], "STATE_OPERATION_STATE_UNDONE", "{ended}");
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (3, 0));
    let (told, ended) = cancelled(&running, &[&["copy", "--every", "1h"], &ends[..]].concat());
    assert_eq!(
        (told.status.code(), &ended["kind"]),
        (Some(1), &"STATE_OPERATION_KIND_COPY".into())
    );
    assert_eq!(ended["state"], "STATE_OPERATION_STATE_CANCELLED", "{ended}");
    // That it ends so is what was asked for.
    let (told, ended) = cancelled(&running, &["notify", "a", "--filter", "any"]);
    assert!(told.status.success(), "{told:?}");
    assert_eq!(ended["kind"], "STATE_OPERATION_KIND_NOTIFY", "{ended}");
    assert_eq!(ended["state"], "STATE_OPERATION_STATE_CANCELLED", "{ended}");
}

#[test]
fn links_and_workers_that_were_started_again_are_shown() {
    let node = Node::new(1);
    let running = node.start();
    let told = |arguments: &[&str]| text(&running.weir(arguments).stdout).to_owned();
    let ports = told(&["port", "list"]);
    let words = |line: usize| ports.lines().nth(line).unwrap().split_whitespace();
    assert_eq!(words(0).nth(1), Some("LINK"), "{ports}");
    assert_eq!(words(1).nth(1), Some("down"), "{ports}");
    assert!(told(&["port", "show", "p0"]).contains("\nlink          down\n"));
    assert!(told(&["status"]).contains("worker 1 was started again 2 times"));
    let status: serde_json::Value = serde_json::from_str(&told(&["-o", "json", "status"])).unwrap();
    assert_eq!(status["restartedWorkers"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["restartedWorkers"][0]["restarts"], "2", "{status}");
    let doctor: serde_json::Value = serde_json::from_str(&told(&["-o", "json", "doctor"])).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    let workers = findings.iter().find(|finding| finding["check"] == "workers").unwrap();
    assert_eq!((&workers["ok"], &workers["optional"]), (&false.into(), &true.into()));
    assert!(workers["detail"].as_str().unwrap().contains("worker 1 was started again"));
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
    let says = text(&refused.stderr);
    assert!(says.contains("No such file") && !says.contains("transport"), "{says}");
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
        "copy",
        "notify",
        "operation",
        "route",
        "policy",
        "neighbour",
        "nf",
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
    // Those of a command come first, and those of every command stand apart.
    let help = weir(&["share", "--help"]);
    let (own, global) = text(&help.stdout).split_once("Global options:").unwrap();
    assert!(own.contains("--instances") && own.contains("--no-wait"), "{own}");
    for option in ["--server", "--output", "--timeout", "--tls-ca"] {
        assert!(global.contains(option) && !own.contains(option), "{option}");
    }
    let refused = weir(&["share", "--instances", "a,b", "--filter", "any", "--scope", "all-flows"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("[possible values: multi-flow]"), "{refused:?}");
}

#[test]
fn a_bad_configuration_is_refused_by_the_sidecar_itself() {
    let node = Node::new(1);
    let path = node.directory.0.join("weir.toml");
    let sidecar = |text: &str, flag: &str, more: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-control"));
        command.arg(flag).arg(&path).args(more).output().unwrap()
    };
    let good = sidecar(&node.config_text(""), "--check", &[]);
    assert_eq!((good.status.code(), text(&good.stdout)), (Some(0), "ok\n"));
    assert!(text(&good.stderr).contains("not checked"), "{good:?}");
    for flag in ["--check", "--config"] {
        for (file, says) in [
            ("[control]\nlisten = '0.0.0.0:7440'\n", "needs mutual TLS"),
            ("[control]\nsockt = 'x'\n", "did you mean `socket`?"),
        ] {
            let refused = sidecar(file, flag, &[]);
            assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(5), ""));
            assert!(text(&refused.stderr).contains(says), "{refused:?}");
        }
    }
    std::fs::write(&path, b"[control]\n\xff").unwrap();
    let bytes = Command::new(env!("CARGO_BIN_EXE_weir-control"))
        .args(["--check".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(bytes.status.code(), Some(5));
    assert!(text(&bytes.stderr).contains("weir.toml:2:1"), "{bytes:?}");
    let missing = sidecar(&node.config_text(""), "--config", &["--pause-at", "nonsense"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn the_sidecar_says_each_cause_of_an_error_once() {
    let node = Node::new(1);
    let path = node.directory.0.join("weir.toml");
    std::fs::write(node.directory.0.join("file"), "").unwrap();
    let start = |config: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-control"));
        let output = command.arg("--config").arg(config).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_owned()
    };
    let absent = start(&node.directory.0.join("absent.toml"));
    assert!(absent.starts_with("error: cannot read "), "{absent}");
    std::fs::write(&path, node.config_text("").replace("/store/", "/file/")).unwrap();
    let store = start(&path);
    std::fs::write(&path, node.config_text("").replace("/control.sock", "/file/x.sock")).unwrap();
    let socket = start(&path);
    for said in [absent, store, socket] {
        assert_eq!(said.matches("(os error ").count(), 1, "{said}");
    }
}

/// Standard error that is full, and what is no text.
#[test]
fn words_that_can_not_be_told_or_read_change_no_exit_code() {
    let pair = Pair::new();
    let running = pair.start();
    let root = pair.node.directory.0.join("pki");
    let (root, server) = (root.to_str().unwrap(), format!("unix://{}", running.socket.display()));
    let weir = |arguments: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["-s", &server]).args(arguments);
        command
    };
    for (arguments, code) in [
        (&["pki", "init", root][..], 0),
        (&["pki", "issue", root, "--name", "one", "--role", "viewer"], 0),
        (&["notify", "a", "--filter", "any", "--limit", "10ms"], 0),
        (&["instance", "show", "sw9"], 3),
        (&["-o", "json", "instance", "show", "sw9"], 3),
        (&["-o", "json", "instances"], 2),
    ] {
        let words: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = weir(&words).stderr(full).status().unwrap();
        assert_eq!(ended.code(), Some(code), "{arguments:?}");
    }
    let no_text = OsStr::from_bytes(b"sw\xff");
    let told = weir(&["-o", "json", "instance", "show"].map(OsStr::new)).arg(no_text).output();
    let told = told.unwrap();
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let error: serde_json::Value = serde_json::from_slice(&told.stderr).unwrap();
    assert_eq!(error["code"], "USAGE");
}
