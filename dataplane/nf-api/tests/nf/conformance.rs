//! The kit passes a function that keeps the rules, and finds each rule that one breaks.

use std::process::Command;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionServiceServer;
use weir_nf_api::client::Client;
use weir_nf_api::conformance::{Line, Options, Outcome, run};

use crate::counting::Counting;
use crate::faulty::{Fault, Faulty};
use crate::running::{Running, Traffic, ends};

/// Short where nothing is to come, long enough where something is.
const PATIENCE: Duration = Duration::from_millis(800);
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
    let options = Options { rules: rules.to_owned(), patience };
    // A hang is to be found in less than a test may take.
    let client = Client::unix(&running.place.socket(), Duration::from_secs(5));
    run(&client, &options, |_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_function_that_keeps_the_rules_passes_all_of_them() {
    let running = running(Fault::None, Traffic::Always);
    let lines = judged(&running, "", Duration::from_secs(20)).await;
    let passed = lines.iter().filter(|line| line.outcome == Outcome::Pass).count();
    let others: Vec<_> = lines.iter().filter(|line| line.outcome != Outcome::Pass).collect();
    assert_eq!((passed, others), (67, Vec::new()));
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
        let lines = judged(&running, rule, Duration::from_millis(100)).await;
        assert!(matches!(lines[0].outcome, Outcome::Skip(_)), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_function_says_that_it_has_not_is_not_asked_for() {
    let running = running(Fault::RefusesDropAsSaid, Traffic::None);
    let lines = judged(&running, "", Duration::from_millis(100)).await;
    let has = |rule: &str| lines.iter().any(|line| line.rule == rule);
    assert!(has("events-buffer") && !has("events-drop") && !has("all-flows-join"));
    let actions = lines.iter().find(|line| line.rule == "events-actions").expect("it is judged");
    assert_eq!(actions.outcome, Outcome::Pass);
}

/// Each fault, and a rule that it breaks.
const BROKEN: &[(Fault, &str)] = &[
    (Fault::DescribesAnother, "describe"),
    (Fault::Nameless, "describe"),
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
        let lines = judged(&running, rule, PATIENCE).await;
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

#[test]
fn the_exit_code_says_whether_all_rules_are_kept() {
    let good = running(Fault::None, Traffic::None);
    let bad = running(Fault::GetTwice, Traffic::None);
    let code = |running: &Running, more: &[&str]| {
        let address = format!("unix://{}", running.place.socket().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-nf-conformance"));
        let output = command.arg(address).args(more).output().expect("it runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (rules, short) = (["--rules", "per-flow-get-kinds"], ["--patience", "0.05"]);
    let passed = "pass per-flow-get-kinds\n1 rules: 0 not kept, 0 skipped\n";
    assert_eq!(code(&good, &rules), (Some(0), passed.to_owned()));
    let (failed, said) = code(&bad, &rules);
    assert_eq!(failed, Some(1));
    assert!(said.starts_with("FAIL per-flow-get-kinds: it gives the state of"), "{said}");
    let skips = [&["--rules", "events-gap"], &short[..]].concat();
    assert_eq!(code(&good, &skips).0, Some(0));
    assert_eq!(code(&good, &[&skips[..], &["--complete"]].concat()).0, Some(1));
    assert_eq!(code(&good, &["--rules", "no-rule"]).0, Some(1));
}
