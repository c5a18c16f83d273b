//! Nodes that bring what they should not: each is refused with a reason, and nothing has changed.

use tonic::Code;
use weir_api::{
    nf::v1::Scope,
    v1::{
        SettleTransferRequest, StateOperationState as State, TransferOpen, TransferOutcome,
        TransferSummary, TransferVerdict, transfer_request::Part, transfer_response::Part as Reply,
        transfer_service_client::TransferServiceClient,
    },
};
use weir_control::{config::Config, service::serve, sidecar::Sidecar};
use weir_state_transfer::chunk::Schema;

use crate::support::{
    nf::flow,
    node::{block_on, limited},
    peers::Nodes,
    source::{FLOW, begin, chunk, chunks, ended, next, open, reason, say, settle, summary, tell},
    state::moved,
};

#[test]
fn what_is_not_whole_right_and_in_turn_is_refused_and_nothing_has_changed() {
    let nodes = Nodes::new();
    (1..=9).for_each(|host| nodes.b.monitor().packets(&flow(1, host, 1_000), 2));
    let before = nodes.b.monitor().flows.clone();
    let two = nodes.start_two();
    let good: Vec<_> = (5..=20).map(|host| chunk(&flow(1, host, 1_000), FLOW)).collect();
    let more = [good.as_slice(), &[chunk(&flow(1, 99, 1), FLOW)]].concat();
    let mut spoiled = good[3].clone();
    *spoiled.last_mut().unwrap() ^= 1;
    let last = good.len() as u64;
    let part = |parts: Vec<Part>| [vec![chunks(0, &good)], parts].concat();
    let cases: Vec<(&str, Vec<Part>)> = vec![
        (
            "WRONG_DIGEST",
            part(vec![Part::End(TransferSummary { digest: vec![7; 32], ..summary(&good) })]),
        ),
        ("TRUNCATED", part(vec![Part::End(summary(&more))])),
        ("MALFORMED", part(vec![Part::End(TransferSummary { digest: vec![7], ..summary(&good) })])),
        ("MALFORMED", part(vec![Part::Open(open(0))])),
        ("MALFORMED", part(vec![Part::Verdict(9)])),
        ("REPEATED", part(vec![chunks(0, &good)])),
        ("MISSING", part(vec![chunks(last + 1, &good[..1])])),
        ("NOT_A_CHUNK", part(vec![chunks(last, &[spoiled])])),
        ("NOT_A_CHUNK", part(vec![chunks(last, &[good[0][..30].to_vec()])])),
        ("NOT_NAMED", part(vec![chunks(last, &[chunk(&flow(2, 1, 1), FLOW)])])),
        (
            "UNKNOWN_SCHEMA",
            part(vec![chunks(last, &[chunk(&flow(1, 1, 1), Schema { revision: 9, ..FLOW })])]),
        ),
        ("MESSAGE_TOO_LARGE", part(vec![chunks(last, &vec![good[0].clone(); 257])])),
        ("OUT_OF_TURN", part(vec![Part::Verdict(TransferVerdict::Keep.into())])),
    ];
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        for (id, (wanted, parts)) in (1..).zip(cases) {
            let mut stream = begin(&mut client, open(id), parts).await;
            let ended = ended(&mut stream).await;
            assert_eq!((ended.outcome(), ended.reason.as_str()), (TransferOutcome::Undone, wanted));
            assert!(!ended.message.is_empty());
            assert_eq!(nodes.b.monitor().flows, before, "{wanted}");
        }
        let operations = two.state_operations().await;
        assert!(operations.iter().all(|operation| operation.state() == State::Undone));
        assert!(operations.iter().all(|operation| operation.failed_end == "one/nf/a"));
    });
}

#[test]
fn a_transfer_that_can_not_be_opened_is_refused_before_it_begins() {
    let nodes = Nodes::new();
    let two = nodes.start_two();
    type Spoil = fn(&mut TransferOpen);
    let cases: [(Spoil, Code, &str); 12] = [
        (|open| open.kinds[0].revision = 2, Code::FailedPrecondition, "UNKNOWN_SCHEMA"),
        (|open| open.kinds[0].schema = 1 << 16, Code::InvalidArgument, "KINDS"),
        (|open| open.kinds = vec![open.kinds[0].clone(); 65], Code::InvalidArgument, "KINDS"),
        (|open| open.to = "c".to_owned(), Code::NotFound, "NOT_FOUND"),
        (|open| open.to = "one/a".to_owned(), Code::FailedPrecondition, "END_OF_ANOTHER_NODE"),
        (|open| open.from = "a".to_owned(), Code::InvalidArgument, "END_MISSING"),
        (|open| open.from = "nf/\u{1b}[31m".to_owned(), Code::InvalidArgument, "END_MISSING"),
        (|open| open.to = "x".repeat(1_000_000), Code::InvalidArgument, "END_MISSING"),
        // What it says is checked before anybody is asked anything.
        (
            |open| {
                open.to = "c".to_owned();
                open.kinds = vec![open.kinds[0].clone(); 65];
            },
            Code::InvalidArgument,
            "KINDS",
        ),
        (|open| open.filter.clear(), Code::InvalidArgument, "FILTER"),
        (|open| open.scopes = vec![Scope::AllFlows.into()], Code::InvalidArgument, "SCOPES"),
        (|open| open.limit_ns = u64::MAX, Code::InvalidArgument, "LIMIT"),
    ];
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        for (id, (spoil, code, wanted)) in (1..).zip(cases) {
            let mut open = open(id);
            spoil(&mut open);
            let refused = say(&mut client, vec![Part::Open(open)]).await.unwrap_err();
            assert_eq!(reason(&refused), (code, wanted.to_owned()), "{refused:?}");
        }
        let refused = say(&mut client, vec![chunks(0, &[vec![]])]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::InvalidArgument, "OPEN_MISSING".to_owned()));
        // Two about the same state, and one whose number was used.
        let mut first = say(&mut client, vec![Part::Open(open(77))]).await.unwrap();
        let refused = say(&mut client, vec![Part::Open(open(78))]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::FailedPrecondition, "OPERATION_IN_THE_WAY".to_owned()));
        tell(&first, vec![Part::Verdict(TransferVerdict::Undo.into())]).await;
        assert_eq!(ended(&mut first).await.outcome(), TransferOutcome::Undone);
        let refused = say(&mut client, vec![Part::Open(open(77))]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::AlreadyExists, "REPEATED".to_owned()));
    });
}

#[test]
fn no_state_comes_to_an_instance_while_the_node_scales() {
    let nodes = Nodes::new();
    let two = nodes.two.start_with(&nodes.config_of_two(), Some("move:1"));
    block_on(async {
        let _scaling = two.begin_scale(2, "out").await.unwrap();
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        let to = "instance/sw1".to_owned();
        let refused = say(&mut client, vec![Part::Open(TransferOpen { to, ..open(1) })]).await;
        let in_progress = (Code::FailedPrecondition, "OPERATION_IN_PROGRESS".to_owned());
        assert_eq!(reason(&refused.unwrap_err()), in_progress);
        let refused = two.moves(moved("m", "b", "sw1", "any")).await;
        assert_eq!(reason(&refused.unwrap_err()), in_progress);
        // It is about instances only.
        say(&mut client, vec![Part::Open(open(2))]).await.unwrap();
    });
}

#[test]
fn a_sidecar_that_other_nodes_would_not_know_does_not_serve() {
    let mut nodes = Nodes::new();
    nodes.shown_by_two = "alice";
    let text = nodes.two.config_text(&nodes.config_of_two());
    block_on(async {
        let config = Config::parse(&text, "weir.toml").unwrap();
        let sidecar = Sidecar::start(config, None).await.unwrap();
        let refused = serve(&sidecar).await.unwrap_err().to_string();
        assert!(refused.contains("names no node") && refused.contains("--role node"), "{refused}");
        sidecar.stop().await;
    });
}

#[test]
fn only_nodes_that_are_known_bring_state_and_they_do_nothing_else() {
    let nodes = Nodes::new();
    let two = nodes.start_two();
    block_on(async {
        for name in ["three", "alice"] {
            let mut client = nodes.authority.client(name, two.listening.unwrap()).await;
            let refused = say(&mut client, vec![Part::Open(open(1))]).await.unwrap_err();
            let unknown = (Code::PermissionDenied, "UNKNOWN_PEER".to_owned());
            assert_eq!(reason(&refused), unknown, "{name}");
            let ask = SettleTransferRequest { id: 1, verdict: TransferVerdict::Keep.into() };
            let refused = client.settle_transfer(ask).await.unwrap_err();
            assert_eq!(reason(&refused), unknown, "{name}");
        }
        let mut client = TransferServiceClient::new(two.channel().await);
        let refused = say(&mut client, vec![Part::Open(open(1))]).await.unwrap_err();
        assert_eq!(reason(&refused).1, "UNKNOWN_PEER", "nor does a process of this machine");
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        let ask = SettleTransferRequest { id: 1, verdict: TransferVerdict::Keep.into() };
        let refused = client.settle_transfer(ask).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::NotFound, "NOT_FOUND".to_owned()));
        assert_eq!(two.state_operations().await, []);
    });
}

#[test]
fn a_node_that_state_is_only_moved_to_brings_none() {
    let nodes = Nodes::new();
    let control = nodes.config_of_two() + "brings = false\n";
    let two = nodes.two.start_with(&control, None);
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        let refused = say(&mut client, vec![Part::Open(open(1))]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::PermissionDenied, "UNKNOWN_PEER".to_owned()));
    });
}

#[test]
fn a_stream_that_breaks_is_undone_before_the_receipt_and_held_for_the_verdict_behind_it() {
    let nodes = Nodes::new();
    (1..=9).for_each(|host| nodes.b.monitor().packets(&flow(1, host, 1_000), 2));
    let before = nodes.b.monitor().flows.clone();
    let two = nodes.start_two();
    let good: Vec<_> = (5..=20).map(|host| chunk(&flow(1, host, 1_000), FLOW)).collect();
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        let all = |end: bool| {
            let end = end.then(|| Part::End(summary(&good)));
            [chunks(0, &good)].into_iter().chain(end).collect::<Vec<_>>()
        };
        // Before the receipt, when all is put.
        let mut stream = begin(&mut client, open(1), all(false)).await;
        limited(stream.1.message()).await.unwrap().unwrap();
        assert_ne!(nodes.b.monitor().flows, before);
        drop(stream);
        let undone = settle(&mut client, 1, TransferVerdict::Undo).await;
        assert_eq!((undone, &nodes.b.monitor().flows), (TransferOutcome::Undone, &before));
        for (id, verdict, outcome) in [
            (2, TransferVerdict::Undo, TransferOutcome::Undone),
            (3, TransferVerdict::Keep, TransferOutcome::Kept),
        ] {
            let mut stream = begin(&mut client, open(id), all(true)).await;
            assert_eq!(next(&mut stream).await, Reply::Receipt(summary(&good)));
            drop(stream);
            assert_eq!(settle(&mut client, id, verdict).await, outcome);
            // Told again, and told otherwise: the first verdict counts.
            assert_eq!(settle(&mut client, id, TransferVerdict::Undo).await, outcome);
            let kept = nodes.b.monitor().flows.len() == 20;
            assert_eq!(kept, outcome == TransferOutcome::Kept);
        }
    });
}
