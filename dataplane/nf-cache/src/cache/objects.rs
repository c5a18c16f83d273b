//! The store as multi-flow state: a chunk for each client of each object.
//!
//! A chunk has the whole object, so that it stands for itself: whatever of a get arrives, in
//! whatever order, can be used. An object that several of the clients have fetched that a filter
//! picks travels once for each of them.

use weir_state_transfer::chunk::{Chunk, decode_body};
use weir_state_transfer::flow_id::FlowId;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};

use super::Cache;
use crate::kinds::OBJECT;
use crate::store::{Object, Reference, times};

/// Bytes of the objects of one piece at most, unless it is one.
const PIECE: usize = 1 << 20;
/// References that are looked at for one piece at most.
const LOOKED_AT: usize = 4_096;

impl Cache {
    pub(super) fn give_objects(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
    ) -> More {
        let mut bytes = 0;
        for (seen, (serial, reference)) in self.store.references(cursor.0).enumerate() {
            if seen == LOOKED_AT || out.len() == get.max || bytes >= PIECE {
                cursor.0 = serial;
                return More::Yes;
            }
            let id = reference.id();
            if get.filter.picks(&id, get.extent) {
                out.extend(self.object_chunk(reference, id));
                bytes += out.last().map_or(0, |chunk| chunk.body.len());
            }
        }
        More::No
    }

    fn object_chunk(&self, reference: &Reference, id: FlowId) -> Option<Chunk> {
        let (object, version) = self.store.of_reference(reference)?;
        let (left, age) = times(object, self.now.wall);
        Some(Chunk { version, age, time_left: Some(left), ..OBJECT.chunk(id, object.encode()) })
    }

    pub(super) fn take_object(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        OBJECT.check(chunk)?;
        let reference = Reference::of(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
        let times = (chunk.age, self.now.wall);
        let object = decode_body(chunk.schema, OBJECT.schema, &chunk.body, |reader| {
            Object::take(reader, &chunk.body, times)
        });
        let object = object.map_err(|error| PutError::bad_body(chunk, &error))?;
        if object.url != reference.url
            || object.selecting.variant().as_deref() != reference.variant.as_deref()
        {
            return Err(PutError::wrong_id(chunk));
        }
        if object.body.len() > self.limits.object {
            return Err(PutError::full(chunk, "bytes of an object", self.limits.object));
        }
        self.updates = self.updates.max(chunk.version);
        let version = self.update();
        self.store.join(object, reference.client, version);
        self.count_evicted();
        Ok(())
    }

    pub(super) fn forget_objects(&mut self, ids: &[FlowId]) -> usize {
        let references = ids.iter().filter_map(Reference::of);
        references.filter(|reference| self.store.remove(reference)).count()
    }
}
