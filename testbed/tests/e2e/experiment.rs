//! The experiment as `make experiment` runs it, shortened.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir_testbed::folder::Folder;
use weir_testbed::process::Process;
use weir_testbed::trace;

/// The longest that an experiment may take.
const LIMIT: Duration = Duration::from_secs(240);
const MOVES: usize = 6;
/// What the last line says, in this order; figures are between.
const FIGURES: [&str; 15] = [
    " moves of 489 flows, median ",
    " ms, max ",
    " ms (target: under 1 ms; OpenNF 260 ms), CPU ",
    " µs and run-queue delay ",
    " µs (medians); 0 lost, 0 reordered, 0 log differences; list: 489 of 489 flows exact, requests of ",
    " alike, of ",
    " otherwise, 0 of these unexplained; tshark ",
    " requests and ",
    " statuses alike, of ",
    " flows otherwise, ",
    " of these unexplained; full clone ",
    " differences; forwarding-only waits ",
    " s, ",
    " flows left after 1500 s ",
    "; ok",
];

/// With the capture where it is there.
#[test]
#[ignore = "needs root"]
fn a_short_experiment_is_exact_and_writes_its_report() {
    let folder = Folder::new().unwrap();
    let (report, last) = experiment(&folder);
    let known = if trace::data("traces/http-489.pcap").exists() {
        println!("data test ran: short experiment over http-489.pcap");
        [455, 34]
    } else {
        println!("data test skipped: short experiment: ../shared/data/traces is absent");
        [489, 0]
    };
    println!("{last}");
    let found =
        [number(&report["listed"]["requests_as_listed"]), entries(&report["listed"]["otherwise"])];
    assert_eq!(found, known, "{}", report["listed"]);
    assert_eq!(number(&report["listed"]["exact"]), 489, "{}", report["listed"]);
    for kind in ["requests", "statuses"] {
        let said = &report["tshark"][kind];
        assert!(number(&said["same"]) >= 489, "{said}");
        let all = said["otherwise"].as_array().unwrap().iter();
        assert!(all.clone().all(|otherwise| otherwise["why"].is_string()), "{said}");
    }

    assert_eq!(entries(&report["moves"]), MOVES);
    for moved in report["moves"].as_array().unwrap() {
        assert!(number(&moved["flows"]) >= 489, "{moved}");
        assert!(moved["cpu_us"].as_f64().unwrap() > 0.0, "{moved}");
    }
    let promises = report["promises"].as_array().unwrap();
    assert_eq!(promises.len(), 6, "three guarantees at two rates");
    for promise in promises {
        assert_eq!(entries(&promise["took_us"]), MOVES, "{promise}");
        assert!(number(&promise["around"]["packets"]) > 0, "{promise}");
    }
    // Some connections of the capture have no transaction.
    assert!(number(&report["one"]["entries"]) > 489 + 400, "{report}");
    assert!(number(&report["clone"]["logs"]["unexpected"]) >= 489, "{report}");
    for name in ["report.md", "moves.svg", "forwarding-only.svg", "guarantees.svg"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

/// Runs it: its report and its last line, in which each figure has its place.
fn experiment(folder: &Folder) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-testbed"));
    command.args(["experiment", "--moves", &MOVES.to_string(), "--folder"]);
    command.arg(folder.path());
    let mut experiment =
        Process::spawn("experiment", &command, &folder.path().join("experiment.log")).unwrap();
    let status = experiment.wait(LIMIT).unwrap();
    let said = experiment.lines();
    let said: Vec<_> = said.iter().map(|line| line.trim_end()).collect();
    assert!(status.success(), "{}", said.join("\n"));
    let last = *said.iter().rfind(|line| !line.is_empty()).unwrap();
    assert!(last.starts_with(&format!("experiment: {MOVES} moves")), "{last}");
    let mut rest = last;
    for figure in FIGURES {
        let place = rest.find(figure).unwrap_or_else(|| panic!("{figure:?} is not in {last}"));
        rest = &rest[place + figure.len()..];
    }
    let text = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    (serde_json::from_str(&text).unwrap(), last.to_owned())
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))).unwrap()
}

fn entries(value: &Value) -> usize {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).len()
}
