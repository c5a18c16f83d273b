//! A node that a test plays: what it says to another, and what that answers.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;
use weir_api::{
    nf::v1::{MergeRule, Scope, StateKind},
    v1::{
        SettleTransferRequest, TransferChunks, TransferEnded, TransferOpen, TransferOutcome,
        TransferRequest, TransferResponse, TransferSummary, TransferVerdict,
        transfer_request::Part, transfer_response::Part as Reply,
        transfer_service_client::TransferServiceClient,
    },
};
use weir_state_transfer::{
    FlowId, FlowKey,
    chunk::{Chunk, Schema, Scope as ChunkScope},
    transfer::Hasher,
};

use super::node::limited;

pub(crate) type Client = TransferServiceClient<Channel>;
pub(crate) type Stream = (mpsc::Sender<TransferRequest>, Streaming<TransferResponse>);

pub(crate) const FLOW: Schema = Schema { kind: 0x7101, revision: 1 };

pub(crate) fn chunk(key: &FlowKey, schema: Schema) -> Vec<u8> {
    let chunk = Chunk {
        id: FlowId::flow(key),
        scope: ChunkScope::PerFlow,
        schema,
        version: 1,
        age: std::time::Duration::ZERO,
        time_left: None,
        body: 5_u64.to_be_bytes().to_vec(),
    };
    chunk.encode().unwrap()
}

pub(crate) fn open(id: u64) -> TransferOpen {
    let kind = |schema: Schema| StateKind {
        scope: Scope::PerFlow.into(),
        schema: schema.kind.into(),
        revision: schema.revision.into(),
        name: "packets".to_owned(),
        merge_rules: vec![MergeRule::Newer.into()],
    };
    TransferOpen {
        process: String::new(),
        id,
        from: "nf/a".to_owned(),
        to: "b".to_owned(),
        filter: "src=10.0.1.0/24".to_owned(),
        scopes: vec![Scope::PerFlow.into()],
        kinds: vec![kind(FLOW)],
        limit_ns: 0,
        operation: 0,
    }
}

pub(crate) fn chunks(first: u64, chunks: &[Vec<u8>]) -> Part {
    Part::Chunks(TransferChunks { first, chunks: chunks.to_vec() })
}

pub(crate) fn summary(chunks: &[Vec<u8>]) -> TransferSummary {
    let mut hasher = Hasher::default();
    chunks.iter().for_each(|chunk| hasher.add(chunk));
    TransferSummary {
        chunks: chunks.len() as u64,
        bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        digest: hasher.digest().0.to_vec(),
    }
}

/// Says the parts of a transfer.
pub(crate) async fn say(client: &mut Client, parts: Vec<Part>) -> Result<Stream, Status> {
    let (requests, sent) = mpsc::channel(parts.len() + 8);
    for part in parts {
        requests.try_send(TransferRequest { part: Some(part) }).unwrap();
    }
    let replies = limited(client.transfer(ReceiverStream::new(sent))).await?;
    Ok((requests, replies.into_inner()))
}

/// The next reply that is no credit.
pub(crate) async fn next(stream: &mut Stream) -> Reply {
    loop {
        let reply = limited(stream.1.message()).await.unwrap().expect("a reply");
        match reply.part.unwrap() {
            Reply::Credit(_) => {}
            other => return other,
        }
    }
}

pub(crate) async fn ended(stream: &mut Stream) -> TransferEnded {
    match next(stream).await {
        Reply::Ended(ended) => ended,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().expect("every error has an ErrorInfo").reason)
}

/// Opens a transfer, and says the parts when chunks may come.
pub(crate) async fn begin(client: &mut Client, open: TransferOpen, parts: Vec<Part>) -> Stream {
    let mut stream = say(client, vec![Part::Open(open)]).await.unwrap();
    limited(stream.1.message()).await.unwrap().unwrap();
    tell(&stream, parts).await;
    stream
}

/// Says more.
pub(crate) async fn tell(stream: &Stream, parts: Vec<Part>) {
    for part in parts {
        stream.0.send(TransferRequest { part: Some(part) }).await.unwrap();
    }
}

/// Says the verdict by a call of its own; what has become of it.
pub(crate) async fn settle(
    client: &mut Client,
    id: u64,
    verdict: TransferVerdict,
) -> TransferOutcome {
    let ask = SettleTransferRequest { id, verdict: verdict.into() };
    limited(client.settle_transfer(ask)).await.unwrap().into_inner().outcome()
}
