//! Figures over all flows, as a function takes in those of another instance.

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::merge::{Join, REPLICAS_MAX};
use weir_state_transfer::southbound::{PutError, StateKind};

/// What a function has counted altogether.
pub(super) trait Figures: Join + Clone {
    /// The kind of state that they are.
    const KIND: StateKind;

    /// The figures that bytes of a schema are.
    fn read(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError>;

    /// Whether the counters are no larger than they may be.
    fn fits(&self) -> bool;

    /// Joins those in a chunk with these; when they are refused, nothing changes.
    fn put(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        Self::KIND.check(chunk)?;
        let other = Self::read(chunk.schema, &chunk.body);
        let mut joined = self.clone();
        joined.join(&other.map_err(|why| PutError::bad_body(chunk, &why))?);
        if !joined.fits() {
            return Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
        }
        *self = joined;
        Ok(())
    }
}
