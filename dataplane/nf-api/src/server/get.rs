//! A get: pieces from the network function, messages to the reader.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use weir_api::nf::v1 as api;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::{Cursor, Get, More};
use weir_state_transfer::state_filter::StateFilter;

use super::Handle;
use super::answers::{Answers, Over, Sink, answers};
use crate::batch::Batch;

/// Chunks that the network function gives in one call at most.
const PIECE: usize = 32;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) scope: Scope,
    pub(super) filter: StateFilter,
    pub(super) extent: Extent,
    pub(super) since: u64,
}

/// Begins a get, which counts as one until it ends.
pub(super) fn begin(
    function: Handle,
    query: Query,
    permit: OwnedSemaphorePermit,
) -> Answers<api::GetResponse> {
    let (sink, answers) = answers(function.limit);
    tokio::spawn(async move {
        if let Err(Failed(Some(status))) = run(&function, query, &sink).await {
            sink.fail(status);
        }
        drop(permit);
    });
    answers
}

/// Why a get ends early, if its reader is to be told.
#[derive(Debug)]
struct Failed(Option<Status>);

impl From<Over> for Failed {
    fn from(_: Over) -> Self {
        Self(None)
    }
}

async fn run(function: &Handle, query: Query, sink: &Sink<api::GetResponse>) -> Result<(), Failed> {
    let query = Arc::new(query);
    let mut cursor = Cursor::default();
    let mut told = false;
    loop {
        // What has been written was read, but for the backlog: only then is there a next piece.
        let (asked, mut at) = (Arc::clone(&query), cursor);
        let piece = function.weighed(move |function, _| {
            let Query { filter, extent, since, .. } = &*asked;
            let get = Get { filter, extent: *extent, since: *since, max: PIECE };
            let (mut chunks, changes) = (Vec::new(), function.changes());
            let more = match asked.scope {
                Scope::PerFlow => function.get_per_flow(&get, &mut at, &mut chunks),
                Scope::MultiFlow => function.get_multi_flow(&get, &mut at, &mut chunks),
                Scope::AllFlows => {
                    // It is of all packets: any change may be one of it.
                    if changes.is_none_or(|changes| *since == 0 || changes > *since) {
                        chunks = function.get_all_flows();
                    }
                    More::No
                }
            };
            let bytes = chunks.iter().map(|chunk| chunk.body.len()).sum();
            ((chunks, changes, function.take_in_use().len() as u64, more, at), bytes)
        });
        let piece = piece.await.map_err(|status| Failed(Some(status)))?;
        let (chunks, changes, in_use, more, at) = piece;
        let changes = changes.filter(|_| !told);
        if changes.is_some() || in_use > 0 {
            told |= changes.is_some();
            sink.send(api::GetResponse { changes, in_use, ..Default::default() }).await?;
        }
        // State that counts no updates is of version 0, and is part of all.
        let is_all = query.since == 0 || told;
        let wanted = |chunk: &&Chunk| is_all || chunk.version > query.since;
        send(chunks.iter().filter(wanted), sink).await?;
        if more == More::No {
            return Ok(());
        }
        cursor = at;
    }
}

async fn send(
    chunks: impl Iterator<Item = &Chunk>,
    sink: &Sink<api::GetResponse>,
) -> Result<(), Failed> {
    let mut batch = Batch::default();
    for chunk in chunks {
        let bytes = chunk.encode().map_err(|error| {
            Failed(Some(Status::internal(format!("the state of {}: {error}", chunk.id))))
        })?;
        if let Some(chunks) = batch.push(bytes) {
            sink.send(api::GetResponse { chunks, ..Default::default() }).await?;
        }
    }
    if let Some(chunks) = batch.rest() {
        sink.send(api::GetResponse { chunks, ..Default::default() }).await?;
    }
    Ok(())
}
