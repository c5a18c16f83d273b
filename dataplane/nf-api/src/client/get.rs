//! What a get gives, piece by piece.

use std::time::Duration;

use tonic::Streaming;
use weir_api::nf::v1 as api;
use weir_state_transfer::chunk::Chunk;

use super::{CallError, within};
use crate::batch::CHUNKS_MAX;

/// The chunks of a get. Who does not read them holds the get up, and nobody else; after 10 s the
/// network function ends it.
#[derive(Debug)]
pub struct Chunks {
    stream: Streaming<api::GetResponse>,
    limit: Duration,
    changes: Option<u64>,
}

impl Chunks {
    pub(super) fn new(stream: Streaming<api::GetResponse>, limit: Duration) -> Self {
        Self { stream, limit, changes: None }
    }

    /// Where the function counts changes apart from versions, as it has said with the first chunks:
    /// a get since this count gives all that has changed after this one has begun.
    pub fn changes(&self) -> Option<u64> {
        self.changes
    }

    /// The next chunks as they travel, 256 at most; none when that was all.
    ///
    /// # Errors
    /// [`CallError`]; what came before is not all.
    pub async fn next_encoded(&mut self) -> Result<Option<Vec<Vec<u8>>>, CallError> {
        let message = within("get", self.limit, self.stream.message()).await?;
        let Some(api::GetResponse { chunks, changes }) = message else { return Ok(None) };
        self.changes = self.changes.or(changes);
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
