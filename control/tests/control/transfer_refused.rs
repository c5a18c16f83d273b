//! Nodes that bring what they should not: each is refused with a reason, and nothing has changed.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;
use weir_api::{
    nf::v1::{Scope, StateKind},
    v1::{
        SettleTransferRequest, StateOperationState as State, TransferChunks, TransferEnded,
        TransferOpen, TransferOutcome, TransferRequest, TransferResponse, TransferSummary,
        TransferVerdict, transfer_request::Part, transfer_response::Part as Reply,
        transfer_service_client::TransferServiceClient,
    },
};
use weir_state_transfer::{
    FlowId, FlowKey,
    chunk::{Chunk, Schema, Scope as ChunkScope, Stage},
    transfer::Hasher,
};

use crate::support::{
    nf::flow,
    node::{block_on, limited},
    peers::Nodes,
};

type Client = TransferServiceClient<Channel>;
type Stream = (mpsc::Sender<TransferRequest>, Streaming<TransferResponse>);

const FLOW: Schema = Schema { kind: 0x7101, revision: 1 };

fn chunk(key: &FlowKey, schema: Schema) -> Vec<u8> {
    let chunk = Chunk {
        id: FlowId::flow(key),
        scope: ChunkScope::PerFlow,
        schema,
        version: 1,
        age: std::time::Duration::ZERO,
        time_left: None,
        stage: Stage::Final,
        applied: Vec::new(),
        body: 5_u64.to_be_bytes().to_vec(),
    };
    chunk.encode().unwrap()
}

fn open(id: u64) -> TransferOpen {
    let kind = |schema: Schema| StateKind {
        scope: Scope::PerFlow.into(),
        schema: schema.kind.into(),
        revision: schema.revision.into(),
        name: "packets".to_owned(),
    };
    TransferOpen {
        id,
        from: "nf/a".to_owned(),
        to: "b".to_owned(),
        filter: "src=10.0.1.0/24".to_owned(),
        scopes: vec![Scope::PerFlow.into()],
        kinds: vec![kind(FLOW)],
        limit_ns: 0,
    }
}

fn chunks(first: u64, chunks: &[Vec<u8>]) -> Part {
    Part::Chunks(TransferChunks { first, chunks: chunks.to_vec() })
}

fn summary(chunks: &[Vec<u8>]) -> TransferSummary {
    let mut hasher = Hasher::default();
    chunks.iter().for_each(|chunk| hasher.add(chunk));
    TransferSummary {
        chunks: chunks.len() as u64,
        bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        digest: hasher.digest().0.to_vec(),
    }
}

/// Says the parts of a transfer.
async fn say(client: &mut Client, parts: Vec<Part>) -> Result<Stream, Status> {
    let (requests, sent) = mpsc::channel(parts.len() + 8);
    for part in parts {
        requests.try_send(TransferRequest { part: Some(part) }).unwrap();
    }
    let replies = limited(client.transfer(ReceiverStream::new(sent))).await?;
    Ok((requests, replies.into_inner()))
}

/// The next reply that is no credit.
async fn next(stream: &mut Stream) -> Reply {
    loop {
        let reply = limited(stream.1.message()).await.unwrap().expect("a reply");
        match reply.part.unwrap() {
            Reply::Credit(_) => {}
            other => return other,
        }
    }
}

async fn ended(stream: &mut Stream) -> TransferEnded {
    match next(stream).await {
        Reply::Ended(ended) => ended,
        other => panic!("{other:?}"),
    }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().expect("every error has an ErrorInfo").reason)
}

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
            let mut stream = say(&mut client, vec![Part::Open(open(id))]).await.unwrap();
            // The first credit says that chunks may come.
            limited(stream.1.message()).await.unwrap().unwrap();
            for part in parts {
                stream.0.send(TransferRequest { part: Some(part) }).await.unwrap();
            }
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
    let cases: [(Spoil, Code, &str); 9] = [
        (|open| open.kinds[0].revision = 2, Code::FailedPrecondition, "UNKNOWN_SCHEMA"),
        (|open| open.kinds[0].schema = 1 << 16, Code::InvalidArgument, "KINDS"),
        (|open| open.kinds = vec![open.kinds[0].clone(); 65], Code::InvalidArgument, "KINDS"),
        (|open| open.to = "c".to_owned(), Code::NotFound, "NOT_FOUND"),
        (|open| open.to = "one/a".to_owned(), Code::FailedPrecondition, "END_OF_ANOTHER_NODE"),
        (|open| open.from = "a".to_owned(), Code::InvalidArgument, "END_MISSING"),
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
        let verdict = Part::Verdict(TransferVerdict::Undo.into());
        first.0.send(TransferRequest { part: Some(verdict) }).await.unwrap();
        assert_eq!(ended(&mut first).await.outcome(), TransferOutcome::Undone);
        let refused = say(&mut client, vec![Part::Open(open(77))]).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::AlreadyExists, "REPEATED".to_owned()));
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
        let begin = async |client: &mut Client, id: u64, end: bool| {
            let mut stream = say(client, vec![Part::Open(open(id))]).await.unwrap();
            limited(stream.1.message()).await.unwrap().unwrap();
            for part in all(end) {
                stream.0.send(TransferRequest { part: Some(part) }).await.unwrap();
            }
            stream
        };
        let settle = async |client: &mut Client, id, verdict: TransferVerdict| {
            let ask = SettleTransferRequest { id, verdict: verdict.into() };
            limited(client.settle_transfer(ask)).await.unwrap().into_inner().outcome()
        };
        // Before the receipt, when all is put.
        let mut stream = begin(&mut client, 1, false).await;
        limited(stream.1.message()).await.unwrap().unwrap();
        assert_ne!(nodes.b.monitor().flows, before);
        drop(stream);
        let undone = settle(&mut client, 1, TransferVerdict::Undo).await;
        assert_eq!((undone, &nodes.b.monitor().flows), (TransferOutcome::Undone, &before));
        for (id, verdict, outcome) in [
            (2, TransferVerdict::Undo, TransferOutcome::Undone),
            (3, TransferVerdict::Keep, TransferOutcome::Kept),
        ] {
            let mut stream = begin(&mut client, id, true).await;
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
