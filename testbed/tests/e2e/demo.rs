//! The demo as `make demo` runs it, shortened.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use weir_testbed::command::ip;
use weir_testbed::folder::Folder;
use weir_testbed::process::Process;
use weir_testbed::wait::{LIMIT, until};

/// The longest that a demo may take.
const DEMO_LIMIT: Duration = Duration::from_secs(180);

/// What the report must hold at least.
const KEYS: [&str; 27] = [
    "scale_out_ms",
    "scale_in_ms",
    "flows_moved",
    "packets_sent",
    "packets_received",
    "packets_during_moves",
    "handover_packets",
    "lost",
    "duplicated",
    "reordered",
    "state_mismatches",
    "overload",
    "held_max",
    "hold_us/p50",
    "hold_us/p99",
    "hold_us/max",
    "tcp_bytes_ok",
    "tcp_retransmits",
    "tcp_retransmits_baseline",
    "drops_by_reason",
    "unaccounted",
    "sidecar_kill/step",
    "sidecar_kill/lost",
    "sidecar_kill/outcome",
    "auto/detect_ms",
    "auto/decisions",
    "seed",
];

fn start(folder: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-testbed"));
    command.args(["demo", "--cycles", "1", "--folder"]).arg(folder);
    Process::spawn("demo", &command, &folder.join("demo.log")).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_short_demo_loses_nothing_and_writes_its_report() {
    let folder = Folder::new().unwrap();
    let mut demo = start(folder.path());
    let status = demo.wait(DEMO_LIMIT).unwrap();
    assert!(status.success(), "{}", demo.lines().join("\n"));
    let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    for key in KEYS {
        assert!(report.pointer(&format!("/{key}")).is_some(), "no {key} in {text}");
    }
    assert!(report["flows"].as_u64().unwrap() >= 2_000, "{text}");
    assert_eq!(report["auto"]["instances_max"], 4, "{text}");
}

#[test]
#[ignore = "needs root"]
fn an_interrupted_demo_ends_and_leaves_nothing_behind() {
    let folder = Folder::new().unwrap();
    let before = namespaces();
    let mut demo = start(folder.path());
    demo.wait_for_line("[2/6]", LIMIT).unwrap();
    let made: BTreeSet<String> = namespaces().difference(&before).cloned().collect();
    assert!(made.len() >= 5, "{made:?}");
    demo.signal(Signal::INT).unwrap();
    assert!(!demo.wait(LIMIT).unwrap().success());
    demo.wait_for_line("interrupted", LIMIT).unwrap();
    until("the namespaces to go", LIMIT, || namespaces().is_disjoint(&made).then_some(())).unwrap();
}

fn namespaces() -> BTreeSet<String> {
    let names = ip("netns list").unwrap();
    names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
