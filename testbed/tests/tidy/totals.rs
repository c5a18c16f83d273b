//! What `run-tests.sh` makes of the lines of data tests.

use std::fs;
use std::process::Command;

use weir_testbed::folder::Folder;

const PASSED: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
const RAN: &str = "data test ran: tracked: a.pcap\n";
const ABSENT: &str = "data test skipped: tracked: ../shared/data/traces is absent\n";
const NO_TOOL: &str = "data test skipped: http by tshark: it is not installed\n";

/// Whether the totals of a log are good, where there are captures or none.
fn are_good(log: &str, captures: bool) -> bool {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, log).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/run-tests.sh");
    let captures = if captures { "1" } else { "0" };
    let ended = Command::new(script).arg("--totals").arg(&path).arg(captures).output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stdout).contains("data tests: "), "{ended:?}");
    ended.status.success()
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
