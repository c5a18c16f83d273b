//! What a process logs, as who reads its standard error sees it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, ExitCode};

use tracing_subscriber::EnvFilter;

/// Says that this test is the process that another one has started.
const PROCESS: &str = "WEIR_LOG_PROCESS";

/// Not a test of its own, and over at once where it is run as one: it is what the process does that
/// those below start.
#[test]
fn a_process_that_logs() {
    let Ok(filter) = std::env::var(PROCESS) else { return };
    let log = weir_log::start(EnvFilter::new(filter)).unwrap();
    assert!(weir_log::start(EnvFilter::new("info")).is_err(), "it logs already");
    tracing::info!("it goes on");
    let panicking = std::thread::Builder::new().name("poller".into());
    let panicked = panicking.spawn(|| panic!("no {}", "packet")).unwrap().join();
    assert!(panicked.is_err());
    assert_eq!(log.end(Err("no way out")), ExitCode::FAILURE);
}

/// What it logs behind a filter, without times.
fn logged(filter: &str, backtrace: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_logs"])
        .env(PROCESS, filter)
        .env("RUST_BACKTRACE", backtrace)
        .env_remove("RUST_LIB_BACKTRACE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines()
        .map(|line| line.split_once("Z ").map_or(line, |(_, line)| line))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn panics_and_the_error_at_the_end_are_logged_whatever_the_filter() {
    for (filter, others) in
        [("off", ""), ("weir_log=off", ""), ("info", " INFO process: it goes on\n")]
    {
        let text = logged(filter, "0");
        let rest = text.strip_prefix(others).expect(&text);
        let place =
            "ERROR weir_log::panics: thread 'poller' panicked at control/log/tests/process.rs:";
        let (place_in_line, end) = rest.strip_prefix(place).expect(&text).split_once(": ").unwrap();
        assert!(place_in_line.split(':').all(|part| part.parse::<u32>().is_ok()), "{text}");
        assert_eq!(end, "no packet\nERROR weir_log: no way out\n", "{text}");
    }
}

#[test]
fn a_panic_is_logged_with_its_backtrace_where_that_is_asked_for() {
    let text = logged("off", "1");
    let (_, behind) = text.split_once("no packet\n").expect(&text);
    assert!(behind.contains("a_process_that_logs"), "{text}");
    assert!(behind.ends_with("ERROR weir_log: no way out\n"), "{text}");
}
