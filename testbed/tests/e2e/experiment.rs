//! The experiment as `make experiment` runs it, shortened.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir_testbed::folder::Folder;
use weir_testbed::process::Process;

/// The longest that an experiment may take.
const LIMIT: Duration = Duration::from_secs(240);
const MOVES: usize = 6;

#[test]
#[ignore = "needs root"]
fn a_short_experiment_is_exact_and_writes_its_report() {
    let folder = Folder::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-testbed"));
    command.args(["experiment", "--generated", "--moves", &MOVES.to_string(), "--folder"]);
    command.arg(folder.path());
    let mut experiment =
        Process::spawn("experiment", &command, &folder.path().join("experiment.log")).unwrap();
    let status = experiment.wait(LIMIT).unwrap();
    let said = experiment.lines();
    let said: Vec<_> = said.iter().map(|line| line.trim_end()).collect();
    assert!(status.success(), "{}", said.join("\n"));
    let last = said.iter().rfind(|line| !line.is_empty()).unwrap();
    assert!(last.starts_with(&format!("experiment: {MOVES} moves of 489 flows")), "{last}");
    println!("{last}");

    let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["moves"].as_array().unwrap().len(), MOVES);
    for moved in report["moves"].as_array().unwrap() {
        assert!(moved["flows"].as_u64().unwrap() >= 489, "{moved}");
    }
    let promises = report["promises"].as_array().unwrap();
    assert_eq!(promises.len(), 6, "three guarantees at two rates");
    for promise in promises {
        assert_eq!(promise["took_us"].as_array().unwrap().len(), MOVES, "{promise}");
        assert!(promise["around"]["packets"].as_u64().unwrap() > 0, "{promise}");
    }
    assert!(report["one"]["entries"].as_u64().unwrap() > 2 * 489, "{text}");
    assert!(report["clone"]["logs"]["unexpected"].as_u64().unwrap() >= 489, "{text}");
    for name in ["report.md", "moves.svg", "forwarding-only.svg", "guarantees.svg"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
