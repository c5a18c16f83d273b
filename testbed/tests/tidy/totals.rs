//! What `run-tests.sh` makes of the log of all passes.

use std::fs;
use std::process::Command;

use weir_testbed::folder::Folder;

const PASSED: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
const RAN: &str = "data test ran: tracked: a.pcap\n";
const ABSENT: &str = "data test skipped: tracked: ../shared/data/traces is absent\n";
const NO_TOOL: &str = "data test skipped: http by tshark: it is not installed\n";

/// Whether the totals of a log are good, where there are captures or none; and what is said of it.
fn totals(log: &str, captures: bool) -> (bool, String) {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, log).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/run-tests.sh");
    let captures = if captures { "1" } else { "0" };
    let ended = Command::new(script).arg("--totals").arg(&path).arg(captures).output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.contains("data tests: "), "{said}");
    (ended.status.success(), said)
}

fn are_good(log: &str, captures: bool) -> bool {
    totals(log, captures).0
}

#[test]
fn where_there_are_captures_a_run_without_them_is_none() {
    for (lines, with_captures, without) in [
        (vec![PASSED, RAN], true, true),
        (vec![PASSED, RAN, NO_TOOL], true, true),
        (vec![PASSED, RAN, ABSENT], false, true),
        (vec![PASSED, ABSENT], false, true),
        (vec![PASSED], false, true),
        (vec![RAN], false, false),
    ] {
        let log = lines.concat();
        assert_eq!(are_good(&log, true), with_captures, "with captures: {log}");
        assert_eq!(are_good(&log, false), without, "without: {log}");
    }
}

#[test]
fn what_a_failed_test_has_said_stands_at_the_end_and_nothing_else_does() {
    let log = "test good ... ok\ntest bad ... FAILED\n\n\
        successes:\n\n---- good stdout ----\nall is well\n\nsuccesses:\n    good\n\n\
        failures:\n\n---- bad stdout ----\nseed 5\n\nfailures:\n    bad\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured\n\
        a line of the next pass\n";
    let (_, said) = totals(log, false);
    for line in ["---- bad stdout ----", "seed 5", "test bad ... FAILED"] {
        assert!(said.lines().any(|one| one == line), "{line} is not in: {said}");
    }
    for line in ["good", "all is well", "next pass"] {
        assert!(!said.contains(line), "{line} is in: {said}");
    }
}
