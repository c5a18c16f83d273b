//! The kit passes a function that keeps the rules, and finds each rule that one breaks.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionServiceServer;
use weir_nf_api::client::Client;
use weir_nf_api::conformance::{Line, Options, Outcome, run};

use crate::counting::Counting;
use crate::faulty::{Fault, Faulty};
use crate::running::{Place, Running, Traffic, ends};

/// Generous where something is to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for what is found by silence, and so waits for all of it.
const OF_SILENCE: Duration = Duration::from_secs(5);
/// Where nothing is to come.
const SHORT: Duration = Duration::from_millis(100);
const MESSAGE_MAX: usize = 2 << 20;

/// A function with some flows and that fault.
pub(crate) fn running(fault: Fault, traffic: Traffic) -> Running {
    let mut function = Counting::new(1);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..500 {
        function.packet(crate::running::packet(&mut rng), Default::default());
    }
    function.fault = fault;
    let (inner, desk, wake) = ends();
    Running::start(function, traffic, (desk, wake), move |socket| async move {
        let service = NetworkFunctionServiceServer::new(Faulty { inner, fault })
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let (to, connections) = mpsc::channel(1);
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(connections));
        tokio::select! {
            served = server => served.expect("it is served"),
            () = socket.accept(to) => {}
        }
    })
}

/// What comes of the rules whose names begin with a text.
async fn judged(running: &Running, rules: &str, patience: Duration) -> Vec<Line> {
    let options = Options { rules: rules.to_owned(), patience, disturb: true };
    // A hang is to be found in less than a test may take.
    let client = Client::unix(&running.place.socket(), Duration::from_secs(5));
    run(&client, &options, |_| {}).await.expect("it is served")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_function_that_keeps_the_rules_passes_all_of_them() {
    let running = running(Fault::None, Traffic::Always);
    let lines = judged(&running, "", PATIENCE).await;
    let passed = lines.iter().filter(|line| line.outcome == Outcome::Pass).count();
    let others: Vec<_> = lines.iter().filter(|line| line.outcome != Outcome::Pass).collect();
    assert_eq!((passed, others), (69, Vec::new()));
    let shown = |rule: &str| BROKEN.iter().any(|(_, broken)| *broken == rule);
    let refusals = "-refuses-";
    for line in lines.iter().filter(|line| !line.rule.contains(refusals)) {
        assert!(shown(&line.rule), "nothing shows that {} can fail", line.rule);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn rules_about_packets_are_skipped_where_none_come() {
    let running = running(Fault::None, Traffic::None);
    for rule in ["events-match", "events-gap", "events-drop", "events-buffer", "multi-flow-join"] {
        let lines = judged(&running, rule, SHORT).await;
        assert!(matches!(lines[0].outcome, Outcome::Skip(_)), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rule_that_is_skipped_leaves_nothing_that_makes_another_fail() {
    let mut running = running(Fault::None, Traffic::None);
    let lines = judged(&running, "", SHORT).await;
    let is_skipped = |line: &&Line| matches!(line.outcome, Outcome::Skip(_));
    let of_packets = [
        "multi-flow-join",
        "all-flows-join",
        "events-match",
        "events-all",
        "events-gap",
        "events-drop",
        "events-buffer",
    ];
    let skipped: Vec<_> = lines.iter().filter(is_skipped).map(|line| &*line.rule).collect();
    assert_eq!(skipped, of_packets);
    let failed: Vec<_> =
        lines.iter().filter(|line| matches!(line.outcome, Outcome::Fail(_))).collect();
    assert_eq!(failed, Vec::<&Line>::new());
    assert!(running.stop_thread().is_free(), "a subscription is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_share_is_in_the_way_of_is_skipped_with_its_reason() {
    let running = running(Fault::SharesNow, Traffic::Always);
    let lines = judged(&running, "events-", PATIENCE).await;
    for line in &lines {
        let is_kept = ["events-actions", "events-cancel", "events-buffer"].contains(&&*line.rule);
        match &line.outcome {
            Outcome::Skip(why) => assert!(is_kept && why.starts_with("share 3 has"), "{line}"),
            outcome => assert_eq!((outcome, is_kept), (&Outcome::Pass, false), "{line}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_disturbed_where_that_is_not_asked_for() {
    for disturb in [false, true] {
        let mut running = running(Fault::None, Traffic::None);
        let options = Options { rules: String::new(), patience: SHORT, disturb };
        let lines = run(&running.client(), &options, |_| {}).await.expect("it is served");
        let disturbing =
            |line: &&Line| matches!(&line.outcome, Outcome::Skip(why) if why.contains("--disturb"));
        assert_eq!(lines.len(), 69);
        assert_eq!(lines.iter().filter(disturbing).count(), if disturb { 0 } else { 52 });
        assert_eq!(running.stop_thread().disturbed, disturb);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_dies_while_it_is_judged_fails_one_rule_and_ends_the_run() {
    let mut running = running(Fault::None, Traffic::None);
    let client = Client::unix(&running.place.socket(), Duration::from_secs(5));
    let options = Options { rules: String::new(), patience: PATIENCE, disturb: true };
    let mut lines = Vec::new();
    let ended = run(&client, &options, |line| {
        lines.push(line.clone());
        if lines.len() == 5 {
            running.stop_serving();
        }
    });
    let told = ended.await.expect("there was something to judge");
    assert_eq!(told, lines);
    let fails = |line: &&Line| matches!(line.outcome, Outcome::Fail(_));
    assert_eq!(lines.iter().filter(fails).count(), 1, "{lines:?}");
    assert!(lines.last().is_some_and(|line| fails(&line)) && lines.len() < 69, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_function_says_that_it_has_not_is_not_asked_for() {
    let running = running(Fault::RefusesDropAsSaid, Traffic::None);
    let lines = judged(&running, "", SHORT).await;
    let has = |rule: &str| lines.iter().any(|line| line.rule == rule);
    assert!(has("events-buffer") && !has("events-drop") && !has("all-flows-join"));
    let actions = lines.iter().find(|line| line.rule == "events-actions").expect("it is judged");
    assert_eq!(actions.outcome, Outcome::Pass);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn counters_are_told_by_name_and_may_be_left_out() {
    for (fault, told) in
        [(Fault::None, &["packets", "flows"][..]), (Fault::CountersUntold, &[][..])]
    {
        let running = running(fault, Traffic::None);
        let counters = running.client().counters().await.expect("it answers");
        let names: Vec<&str> = counters.iter().map(|counter| &*counter.name).collect();
        assert_eq!(names, told);
        let lines = judged(&running, "counters", SHORT).await;
        assert_eq!((lines.len(), &lines[0].outcome), (1, &Outcome::Pass), "{fault:?}");
    }
}

/// Each fault, and a rule that it breaks.
const BROKEN: &[(Fault, &str)] = &[
    (Fault::DescribesAnother, "describe"),
    (Fault::Nameless, "describe"),
    (Fault::CounterNamed, "counters"),
    (Fault::CounterTwice, "counters"),
    (Fault::RulesUntold, "merge-rules"),
    (Fault::OtherKinds, "per-flow-get-kinds"),
    (Fault::OtherKinds, "multi-flow-get-kinds"),
    (Fault::OtherKinds, "all-flows-get-kinds"),
    (Fault::GetTwice, "per-flow-get-kinds"),
    (Fault::GetIgnoresFilter, "per-flow-get-filter"),
    (Fault::GetIgnoresFilter, "multi-flow-get-filter"),
    (Fault::GetIgnoresPorts, "per-flow-get-filter"),
    (Fault::SinceIgnored, "per-flow-get-since"),
    (Fault::SinceIgnored, "multi-flow-get-since"),
    (Fault::SinceIgnored, "all-flows-get-since"),
    (Fault::PutAdds, "per-flow-put-idempotent"),
    (Fault::PutAdds, "multi-flow-put-idempotent"),
    (Fault::PutAdds, "all-flows-put-idempotent"),
    (Fault::PutLosesVersion, "per-flow-put-idempotent"),
    (Fault::PutTakesOlder, "per-flow-put-older"),
    (Fault::RefusalForgotten, "per-flow-put-older"),
    (Fault::ReasonIsFull, "per-flow-put-older"),
    (Fault::RefusalForgotten, "per-flow-put-stops"),
    (Fault::RefusalForgotten, "multi-flow-put-stops"),
    (Fault::RefusalForgotten, "all-flows-put-stops"),
    (Fault::DelForgetsAll, "per-flow-del"),
    (Fault::DelKeeps, "per-flow-del"),
    (Fault::DelKeeps, "multi-flow-del"),
    (Fault::DelKeeps, "per-flow-put-restores"),
    (Fault::PutLosesVersion, "per-flow-put-restores"),
    (Fault::DelKeeps, "multi-flow-put-restores"),
    (Fault::MergeReplaces, "multi-flow-join"),
    (Fault::MergeReplaces, "all-flows-join"),
    (Fault::BodyHalfTaken, "per-flow-refuses-bad-body"),
    (Fault::TakesAnyId, "per-flow-refuses-id"),
    (Fault::ReasonOfRequests, "request-filter"),
    (Fault::ReasonOfRequests, "request-ids"),
    (Fault::ReasonOfRequests, "request-events"),
    (Fault::RefusesDrop, "events-actions"),
    (Fault::HidesKinds, "multi-flow-absent"),
    (Fault::NotInForce, "events-enable"),
    (Fault::Duplicates, "events-duplicate"),
    (Fault::UnknownIsFine, "events-unknown"),
    (Fault::StreamStays, "events-disable"),
    (Fault::CancelIgnored, "events-cancel"),
    (Fault::EventsOfAll, "events-match"),
    (Fault::SnapIgnored, "events-match"),
    (Fault::CausesMixed, "events-match"),
    (Fault::EventVersion, "events-match"),
    (Fault::OneIsTold, "events-all"),
    (Fault::DropCounts, "events-drop"),
    (Fault::CausesMixed, "events-drop"),
    (Fault::BufferCounts, "events-buffer"),
    (Fault::BufferIsLost, "events-buffer"),
    (Fault::GapsUntold, "events-gap"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_broken_rule_is_found() {
    for (fault, rule) in BROKEN {
        let running = running(*fault, Traffic::Always);
        let is_silent = matches!(fault, Fault::OneIsTold | Fault::BufferIsLost);
        let patience = if is_silent { OF_SILENCE } else { PATIENCE };
        let lines = judged(&running, rule, patience).await;
        let line = lines.iter().find(|line| line.rule == *rule).expect(rule);
        assert!(matches!(line.outcome, Outcome::Fail(_)), "{fault:?} is not found: {line}");
    }
}

/// What refuses nothing, and what refuses for another reason, is found whatever is spoilt.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_refusal_must_be_there_and_have_its_reason() {
    for fault in [Fault::RefusalForgotten, Fault::ReasonIsFull] {
        let running = running(fault, Traffic::Always);
        for scope in ["per-flow", "multi-flow", "all-flows"] {
            let lines = judged(&running, &format!("{scope}-refuses"), PATIENCE).await;
            assert!(lines.len() >= 10, "{lines:?}");
            for line in lines {
                assert!(matches!(line.outcome, Outcome::Fail(_)), "{fault:?}: {line}");
            }
        }
    }
}

/// What the program says of a function, and its exit status.
fn program(socket: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-nf-conformance"));
    command.arg(format!("unix://{}", socket.display())).args(more);
    let output = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_exit_status_says_whether_all_rules_are_kept() {
    let good = running(Fault::None, Traffic::None);
    let bad = running(Fault::GetTwice, Traffic::None);
    let code = |running: &Running, more: &[&str]| {
        let (code, said, _) = program(&running.place.socket(), more);
        (code, said)
    };
    let rules = ["--rules", "per-flow-get-kinds"];
    let passed = "pass per-flow-get-kinds\n1 rules: 1 kept, 0 not kept, 0 skipped\n";
    assert_eq!(code(&good, &rules), (Some(0), passed.to_owned()));
    let (failed, said) = code(&bad, &rules);
    assert_eq!(failed, Some(1));
    assert!(said.starts_with("FAIL per-flow-get-kinds: it gives the state of"), "{said}");
    assert_eq!(code(&good, &["--rules", "no-rule"]).0, Some(2));
    assert_eq!(code(&good, &["--wait", "10h"]).0, Some(2));
    let usage = code(&good, &["--help"]).1;
    assert!(usage.contains("DROP the packets") && usage.contains("Exit status:"), "{usage}");
}

#[test]
fn a_run_in_which_most_rules_are_skipped_has_an_exit_status_of_its_own() {
    let good = running(Fault::None, Traffic::None);
    let code = |rules: &str, more: &[&str]| {
        let arguments = [&["--patience", "50ms", "--rules", rules], more].concat();
        let (code, said, _) = program(&good.place.socket(), &arguments);
        (code, said.lines().last().unwrap_or_default().to_owned())
    };
    // Most are not allowed to disturb.
    let (untold, last) = code("", &[]);
    assert_eq!(untold, Some(4));
    assert_eq!(last, "69 rules: 14 kept, 0 not kept, 55 skipped: too few to tell");
    let (told, last) = code("", &["--disturb"]);
    assert_eq!((told, &*last), (Some(0), "69 rules: 62 kept, 0 not kept, 7 skipped"));
    let (incomplete, last) = code("", &["--disturb", "--complete"]);
    assert_eq!(incomplete, Some(4));
    assert_eq!(last, "69 rules: 62 kept, 0 not kept, 7 skipped: not complete");
    assert_eq!(code("events-gap", &[]).0, Some(4));
}

#[test]
fn what_is_not_there_is_one_error_and_no_broken_rule() {
    let place = Place::new();
    let (code, said, error) = program(&place.socket(), &[]);
    assert_eq!((code, &*said), (Some(3), ""));
    assert!(error.contains("is not reached") && error.lines().count() == 1, "{error}");
    let absent = running(Fault::NotThere, Traffic::None);
    let (code, said, error) = program(&absent.place.socket(), &["--instance", "9"]);
    assert_eq!((code, &*said), (Some(3), ""));
    assert!(error.contains("there is no instance 9") && error.lines().count() == 1, "{error}");
    let unnamed = running(Fault::NoInstanceNamed, Traffic::None);
    let (code, said, error) = program(&unnamed.place.socket(), &[]);
    assert_eq!((code, &*said), (Some(2), ""));
    let missing = "--instance NUMBER is missing";
    assert!(error.contains(missing) && error.lines().count() == 1, "{error}");
}

#[test]
fn a_function_that_begins_late_is_waited_for() {
    let (place, late) = (Place::new(), running(Fault::None, Traffic::None));
    let socket = place.socket();
    let judged = thread::spawn({
        let socket = socket.clone();
        move || program(&socket, &["--wait", "60s", "--rules", "describe"])
    });
    // It may have tried in vain by then, or not: it goes on either way.
    std::os::unix::fs::symlink(late.place.socket(), &socket).expect("a link");
    let (code, said, error) = judged.join().expect("it runs");
    assert_eq!(code, Some(0), "{said}{error}");
}
