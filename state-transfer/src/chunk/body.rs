//! What network functions share in reading the bodies of chunks.

use super::Schema;
use crate::wire::{Reader, WireError};

/// Why the body of a chunk is not the state that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Another kind of state, or a layout that is not known.
    #[error("the state is of schema {found}, and only {known} is known here")]
    UnknownSchema {
        /// The schema.
        found: Schema,
        /// The one that it should be.
        known: Schema,
    },
    /// The bytes are none of that schema.
    #[error("the state is {0}")]
    Wire(#[from] WireError),
}

/// Reads the whole of a body, of a schema that has to be the known one.
///
/// # Errors
/// What is wrong with it.
pub fn decode_body<T>(
    found: Schema,
    known: Schema,
    body: &[u8],
    take: impl FnOnce(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<T, BodyError> {
    if found != known {
        return Err(BodyError::UnknownSchema { found, known });
    }
    Ok(Reader::whole(body, take)?)
}
