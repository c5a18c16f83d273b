//! Figures over all flows, as a function takes in those of another instance.

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::merge::{Join, Life, REPLICAS_MAX, Replica};
use weir_state_transfer::southbound::{PutError, StateKind};
use weir_state_transfer::wire::WireError;

use super::life::life;

/// What a function has counted altogether.
pub(super) trait Figures: Join + Clone {
    /// The kind of state that they are.
    const KIND: StateKind;

    /// The figures that bytes of a schema are.
    fn read(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError>;

    /// Whether the counters are no larger than they may be.
    fn fits(&self) -> bool;

    /// Whether some counter leaves out what some of a life counts; see
    /// [`Counter::retires`](weir_state_transfer::merge::Counter::retires).
    fn retires(&self, life: Life) -> bool;

    /// Joins those in a chunk with these, which count as a replica; when they are refused, nothing
    /// changes.
    fn put(&mut self, chunk: &Chunk, own: Replica) -> Result<(), PutError> {
        Self::KIND.check(chunk)?;
        let other = Self::read(chunk.schema, &chunk.body);
        let other = other.map_err(|why| PutError::bad_body(chunk, &why))?;
        if other.retires(life(own)) {
            return Err(retires_us(chunk));
        }
        let mut joined = self.clone();
        joined.join(&other);
        if !joined.fits() {
            return Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
        }
        *self = joined;
        Ok(())
    }
}

/// Why a chunk is refused that says that the life of this instance has ended, whose counts another
/// has taken over.
pub(super) fn retires_us(chunk: &Chunk) -> PutError {
    PutError::bad_body(chunk, &WireError::BadField { what: "life that has ended" }.into())
}
