//! What the southbound API takes: connections, sources and totals as chunks, and back.

use weir_state_transfer::merge::{REPLICAS_MAX, Replica};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::wire::WireError;
use weir_state_transfer::{Chunk, FlowId};

use super::scan::Full;
use super::{Connection, Ids, Operation, Record, Source, Timeouts, Timestamp};
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::figures::{Figures as _, retires_us};
use crate::nf::idle::time_left;
use crate::nf::origin::Origin;
use crate::nf::schema::{IDS_CONNECTION, IDS_CONNECTION_1, IDS_SOURCE, IDS_TOTALS};
use crate::nf::share::{Countable as _, FunctionOperation};
use crate::nf::timestamp::to_come;

impl Connection {
    /// The connection, as it is now, as a chunk about the flow from who began it.
    pub fn to_chunk(&self, timeouts: &Timeouts, now: Timestamp) -> Chunk {
        let chunk = IDS_CONNECTION.chunk(FlowId::flow(self.key()), self.encode());
        let (age, time_left) =
            (self.idle(now), Some(self.time_left(timeouts, now).min(TIMEOUT_MAX)));
        Chunk { age, time_left, ..chunk }
    }

    /// The connection that a chunk is. What is left of it there holds until its next packet, also
    /// where the time-outs are others.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_chunk(
        chunk: &Chunk,
        timeouts: &Timeouts,
        now: Timestamp,
    ) -> Result<Self, PutError> {
        let is_before = chunk.schema == IDS_CONNECTION_1.schema;
        let kind = if is_before { IDS_CONNECTION_1 } else { IDS_CONNECTION };
        kind.check(chunk)?;
        let left = time_left(chunk)?;
        let mut connection = Self::decode(chunk.schema, &chunk.body, now.before(chunk.age))
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if chunk.id != FlowId::flow(connection.key()) {
            return Err(PutError::wrong_id(chunk));
        }
        connection.resume(left, timeouts, now);
        Ok(connection)
    }
}

/// As [`Southbound`](weir_state_transfer::southbound::Southbound) has them, for a caller that
/// keeps the connections.
impl Ids {
    /// The kinds of state that there are, in every revision that is taken in. Those of single flows
    /// are [`Connection`]s.
    pub const KINDS: [StateKind; 4] = [IDS_CONNECTION, IDS_CONNECTION_1, IDS_SOURCE, IDS_TOTALS];

    /// What the sources that a filter picks have tried.
    pub fn get_multi_flow(&self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.sources.known.numbered().pick(get, cursor, Origin::flow_id, |id, known| {
            out.push(IDS_SOURCE.chunk(id, known.source.encode()));
        })
    }

    /// Joins what another instance knows of a source with what is known here. It may be that only
    /// both together are a scan, which is then recorded here. What a life has counted that has been
    /// taken over here is left out, as it is among what was known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk, now: Timestamp) -> Result<(), PutError> {
        let (id, mut other) = self.source_of(chunk, now)?;
        other.retire(self.totals.retired());
        if self.sources.known.groups.has(&id) {
            return self.put_at_home(chunk, id, Operation::Join(Box::new(other)));
        }
        self.join_source(id, &other).map_err(|full| self.full(chunk, full))
    }

    /// Takes in what an instance knew of a source, counting as a replica, and has given away.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn inherit(
        &mut self,
        chunk: &Chunk,
        by: Replica,
        now: Timestamp,
    ) -> Result<(), PutError> {
        let (id, mut given) = self.source_of(chunk, now)?;
        if !self.sources.known.may_inherit(&id, &given, by) {
            return Err(retires_us(chunk));
        }
        if self.sources.known.groups.has(&id) {
            given.retire(&self.totals.retired().without(by));
            return self.put_at_home(chunk, id, Operation::Inherit(Box::new(given), by));
        }
        self.take_in(id, given, by).map_err(|full| self.full(chunk, full))
    }

    /// As which replica what is known of a source is counted here.
    pub(crate) fn counted_as(&self, id: &FlowId) -> Option<Replica> {
        Origin::of_id(id).map(|id| self.sources.known.counted_as(&id))
    }

    fn put_at_home(
        &mut self,
        chunk: &Chunk,
        id: Origin,
        operation: Operation,
    ) -> Result<(), PutError> {
        self.sources.known.groups.put(chunk, id, FunctionOperation::Ids(operation))
    }

    fn full(&self, chunk: &Chunk, full: Full) -> PutError {
        match full {
            Full::Sources => PutError::full(chunk, "sources", self.config.scan.sources_max),
            Full::Replicas => PutError::full(chunk, "replicas", REPLICAS_MAX),
        }
    }

    /// What a chunk says of a source.
    fn source_of(&self, chunk: &Chunk, now: Timestamp) -> Result<(Origin, Source), PutError> {
        IDS_SOURCE.check(chunk)?;
        let id = Origin::of_id(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
        let source = Source::decode(chunk.schema, &chunk.body)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if !self.sources.known.may_join(&id, &source) {
            return Err(retires_us(chunk));
        }
        let scan = &self.config.scan;
        if !source.is_of(scan) {
            let why = WireError::BadField { what: "window" };
            return Err(PutError::bad_body(chunk, &why.into()));
        }
        if !source.is_past(scan, now) {
            return Err(to_come(chunk));
        }
        Ok((id, source))
    }

    /// Takes in what another, counting as a replica, has given away.
    pub(super) fn take_in(&mut self, id: Origin, given: Source, by: Replica) -> Result<(), Full> {
        let (heir, mut given) = (self.sources.known.counted_as(&id), given);
        given.give(by, heir, self.source(&id), self.totals.retired());
        self.join_source(id, &given)
    }

    /// Joins a copy. It may be that only both together are a scan.
    pub(super) fn join_source(&mut self, id: Origin, other: &Source) -> Result<(), Full> {
        let scan = self.sources.join(id, other, &self.config.scan)?;
        scan.into_iter().for_each(|scan| self.log(Record::Scan(scan)));
        Ok(())
    }

    /// Forgets sources; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let sources = ids.iter().filter_map(Origin::of_id);
        sources.filter_map(|id| self.sources.known.remove(&id)).count()
    }

    /// The totals: one chunk, in which they fit.
    pub fn get_all_flows(&self) -> Vec<Chunk> {
        vec![IDS_TOTALS.chunk(FlowId::default(), self.totals.encode())]
    }

    /// Joins the totals of another instance with those here.
    ///
    /// # Errors
    /// Why they are not taken in; nothing has changed then.
    pub fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        self.totals.put(chunk, self.replica)
    }
}
