//! What a get gives, piece by piece.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::Streaming;
use weir_api::nf::v1 as api;
use weir_state_transfer::chunk::{Chunk, Scope};

use super::{CallError, Client, Query, within};
use crate::batch::CHUNKS_MAX;
use crate::convert::extent_to;

/// The reason of a network function that serves as many gets as it does at one time.
const FULL: &str = "BOUND_REACHED";
/// The wait until one that was refused so is tried again.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// How long a get waits for those before it of the same client. Each of these may take its limit for
/// each piece.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// The chunks of a get. Who does not read them holds the get up, and nobody else; after 10 s the
/// network function ends it.
#[derive(Debug)]
pub struct Chunks {
    stream: Streaming<api::GetResponse>,
    limit: Duration,
    changes: Option<u64>,
    in_use: u64,
    /// Others wait for it.
    _turn: OwnedSemaphorePermit,
}

impl Chunks {
    /// Begins a get when it is its turn.
    pub(super) async fn begin(
        client: &Client,
        scope: Scope,
        query: &Query,
    ) -> Result<Self, CallError> {
        let turn = Arc::clone(&client.gets).acquire_owned();
        let Ok(turn) = tokio::time::timeout(TURN_LIMIT, turn).await else {
            return Err(CallError::Late { call: "the gets before this one", limit: TURN_LIMIT });
        };
        let turn = turn.expect("nobody closes it");
        let (limit, since) = (client.limit, query.since);
        let full_until = Instant::now() + limit;
        let request = api::GetRequest {
            filter: query.filter.to_string(),
            extent: extent_to(query.extent).into(),
            since,
        };
        loop {
            let (mut api, request) = (client.api(), request.clone());
            let begun = async {
                match scope {
                    Scope::PerFlow => api.get_per_flow(request).await,
                    Scope::MultiFlow => api.get_multi_flow(request).await,
                    Scope::AllFlows => api.get_all_flows(api::GetAllFlowsRequest { since }).await,
                }
            };
            match within("get", limit, begun).await {
                // Others ask too, and one that has ended here may not have ended there.
                Err(error) if error.reason() == Some(FULL) && Instant::now() < full_until => {
                    tokio::time::sleep(FULL_WAIT).await;
                }
                begun => {
                    let stream = begun?.into_inner();
                    return Ok(Self { stream, limit, changes: None, in_use: 0, _turn: turn });
                }
            }
        }
    }

    /// Where the function counts changes apart from versions, as it has said with the first chunks:
    /// a get since this count gives all that has changed after this one has begun.
    pub fn changes(&self) -> Option<u64> {
        self.changes
    }

    /// Flows that were passed over so far, because they are in use and finish where they are.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// The next chunks as they travel, 256 at most; none when that was all.
    ///
    /// # Errors
    /// [`CallError`]; what came before is not all.
    pub async fn next_encoded(&mut self) -> Result<Option<Vec<Vec<u8>>>, CallError> {
        let message = within("get", self.limit, self.stream.message()).await?;
        let Some(api::GetResponse { chunks, changes, in_use }) = message else { return Ok(None) };
        self.changes = self.changes.or(changes);
        // Nothing holds it to the truth.
        self.in_use = self.in_use.saturating_add(in_use);
        if chunks.len() > CHUNKS_MAX {
            let why = format!("{} chunks in one message", chunks.len());
            return Err(CallError::Malformed { call: "get", why });
        }
        Ok(Some(chunks))
    }

    /// The next chunks, 256 at most; none when that was all.
    ///
    /// # Errors
    /// [`CallError`], that for a chunk that is none too.
    pub async fn next(&mut self) -> Result<Option<Vec<Chunk>>, CallError> {
        let Some(encoded) = self.next_encoded().await? else { return Ok(None) };
        let chunks: Result<Vec<_>, _> = encoded.iter().map(|bytes| Chunk::decode(bytes)).collect();
        let malformed = |why: String| CallError::Malformed { call: "get", why };
        chunks.map(Some).map_err(|error| malformed(error.to_string()))
    }

    /// All that are left, if they are not more than `most`.
    ///
    /// # Errors
    /// [`CallError`], that for more chunks too.
    pub async fn all(mut self, most: usize) -> Result<Vec<Chunk>, CallError> {
        let mut all = Vec::new();
        while let Some(chunks) = self.next().await? {
            all.extend(chunks);
            if all.len() > most {
                let why = format!("more than {most} chunks");
                return Err(CallError::Malformed { call: "get", why });
            }
        }
        Ok(all)
    }
}
