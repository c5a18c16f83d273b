//! A put: messages from the writer, pieces to the network function, until one chunk is refused.

use tokio::time::timeout;
use tonic::{Status, Streaming};
use weir_api::nf::v1 as api;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::southbound::{PutError, Southbound};

use super::Handle;
use crate::batch::CHUNKS_MAX;
use crate::convert::refusal_to;
use crate::description::Description;
use crate::status;

/// Chunks that the network function takes in in one call at most.
const PIECE: usize = 32;

/// Chunks that were taken in, and those of them that were older than what is known.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    taken: u64,
    older: u64,
}

/// Where what is put goes.
pub(super) struct Put<'a> {
    pub(super) function: &'a Handle,
    pub(super) description: &'a Description,
    pub(super) scope: Scope,
}

impl Put<'_> {
    /// Takes in all chunks of a stream, until one is refused.
    pub(super) async fn run(
        &self,
        mut stream: Streaming<api::PutRequest>,
    ) -> Result<api::PutResponse, Status> {
        let limit = self.function.limit;
        let (mut taken, mut older) = (0, 0);
        loop {
            let message = timeout(limit, stream.message()).await.map_err(|_| {
                let what = format!("nothing was put for {limit:?}, after {taken} chunks");
                status::too_slow(&what)
            })?;
            let Some(api::PutRequest { chunks }) = message? else {
                return Ok(api::PutResponse { taken, refusal: None, older });
            };
            if chunks.len() > CHUNKS_MAX {
                return Err(status::invalid("chunks", "256 in one message are the most"));
            }
            for piece in chunks.chunks(PIECE) {
                let (counted, refused) = self.put(piece).await?;
                (taken, older) = (taken + counted.taken, older + counted.older);
                if let Some(error) = refused {
                    let refusal = Some(refusal_to(&error));
                    return Ok(api::PutResponse { taken, refusal, older });
                }
            }
        }
    }

    /// How many of some chunks are taken in, and why the next is not.
    async fn put(&self, piece: &[Vec<u8>]) -> Result<(Counted, Option<PutError>), Status> {
        // Decoded here, so that the packets of the network function need not wait for it.
        let mut chunks = Vec::with_capacity(piece.len());
        let mut refused = None;
        for bytes in piece {
            match decode(self.description, self.scope, bytes) {
                Ok(chunk) => chunks.push(chunk),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let scope = self.scope;
        let put = self.function.call(move |function, _| {
            let mut counted = Counted::default();
            for chunk in chunks {
                match put_one(function, scope, chunk) {
                    Ok(()) => {}
                    // A writer that copies goes on with the next.
                    Err(PutError::Older { .. }) => counted.older += 1,
                    Err(error) => return (counted, Some(error)),
                }
                counted.taken += 1;
            }
            (counted, None)
        });
        let (counted, error) = put.await?;
        Ok((counted, error.or(refused)))
    }
}

fn decode(description: &Description, scope: Scope, bytes: &[u8]) -> Result<Chunk, PutError> {
    let chunk = Chunk::decode(bytes)?;
    let (schema, found) = (chunk.schema, chunk.scope);
    let is_known = found == scope && description.has(scope, schema);
    if is_known { Ok(chunk) } else { Err(PutError::UnknownSchema { scope: found, schema }) }
}

fn put_one(function: &mut dyn Southbound, scope: Scope, chunk: Chunk) -> Result<(), PutError> {
    match scope {
        Scope::PerFlow => function.put_per_flow(chunk),
        Scope::MultiFlow => function.put_multi_flow(chunk),
        Scope::AllFlows => function.put_all_flows(chunk),
    }
}
