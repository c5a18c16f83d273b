//! What the southbound API takes: connections as chunks, and back.

use weir_state_transfer::southbound::PutError;
use weir_state_transfer::{Chunk, FlowId, Nanos};

use super::{Connection, TIMEOUT_MAX};
use crate::nf::idle::time_left;
use crate::nf::schema::CONNECTION;

impl Connection {
    /// The connection, as it is now, as a chunk about the flow of its first packet.
    pub fn to_chunk(&self, now: Nanos) -> Chunk {
        let chunk = CONNECTION.chunk(FlowId::flow(&self.key), self.encode());
        Chunk { time_left: Some(self.deadline.since(now).min(TIMEOUT_MAX)), ..chunk }
    }

    /// The connection that a chunk is.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_chunk(chunk: &Chunk, now: Nanos) -> Result<Self, PutError> {
        CONNECTION.check(chunk)?;
        let connection = Self::decode(chunk.schema, &chunk.body, now + time_left(chunk)?)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if chunk.id != FlowId::flow(&connection.key) {
            return Err(PutError::wrong_id(chunk));
        }
        Ok(connection)
    }
}
