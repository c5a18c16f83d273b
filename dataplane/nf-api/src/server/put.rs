//! A put: messages from the writer, pieces to the network function, until one chunk is refused.

use tokio::time::timeout;
use tonic::{Status, Streaming};
use weir_api::nf::v1 as api;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::southbound::{PutError, Southbound};

use super::{BYTES_A_TURN, Handle};
use crate::batch::CHUNKS_MAX;
use crate::convert::refusal_to;
use crate::description::Description;
use crate::status;

/// Chunks that the network function takes in in one call at most, of [`BYTES_A_TURN`] or one that
/// is larger.
const PIECE: usize = 32;

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
        let mut taken = 0;
        loop {
            let message = timeout(limit, stream.message()).await.map_err(|_| {
                let what = format!("nothing was put for {limit:?}, after {taken} chunks");
                status::too_slow(&what)
            })?;
            let Some(api::PutRequest { chunks, refuse_older }) = message? else {
                return Ok(api::PutResponse { taken, refusal: None });
            };
            if chunks.len() > CHUNKS_MAX {
                return Err(status::invalid("chunks", "256 in one message are the most"));
            }
            let mut left = &chunks[..];
            while !left.is_empty() {
                let (piece, rest) = left.split_at(piece(left));
                left = rest;
                let (count, refused) = self.put(piece, refuse_older).await?;
                taken += count;
                if let Some(error) = refused {
                    let refusal = Some(refusal_to(&error));
                    return Ok(api::PutResponse { taken, refusal });
                }
            }
        }
    }

    /// How many of some chunks are taken in, and why the next is not.
    async fn put(
        &self,
        piece: &[Vec<u8>],
        refuse_older: bool,
    ) -> Result<(u64, Option<PutError>), Status> {
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
        let put = self.function.weighed(move |function, _| {
            let (mut taken, bytes) = (0, chunks.iter().map(|chunk| chunk.body.len()).sum());
            for chunk in chunks {
                match put_one(function, scope, chunk) {
                    // Who copies goes on with the next: what is there is better.
                    Err(PutError::Older { .. }) if !refuse_older => {}
                    Err(error) => return ((taken, Some(error)), bytes),
                    Ok(()) => {}
                }
                taken += 1;
            }
            ((taken, None), bytes)
        });
        let (taken, error) = put.await?;
        Ok((taken, error.or(refused)))
    }
}

/// How many of some chunks are one piece.
fn piece(chunks: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = |chunk: &&Vec<u8>| {
        bytes += chunk.len();
        bytes <= BYTES_A_TURN
    };
    chunks.iter().take(PIECE).take_while(fits).count().max(1)
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
