//! What the southbound API takes: sources and totals as chunks, and back.

use std::time::Duration;

use weir_state_transfer::chunk::BODY_MAX;
use weir_state_transfer::merge::{REPLICAS_MAX, Replica};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, Nanos};

use super::Firewall;
use super::limits::{Full, Source};
use super::share::Operation;
use super::totals::Totals;
use crate::nf::figures::{Figures as _, retires_us};
use crate::nf::origin::Origin;
use crate::nf::schema::{CONNECTION, FIREWALL_SOURCE, FIREWALL_TOTALS};
use crate::nf::share::{Countable as _, FunctionOperation};

impl Source {
    /// What is known of a source, as it is now, as a chunk.
    pub fn to_chunk(&self, id: FlowId, now: Nanos) -> Chunk {
        let full = self.bucket.parts().0;
        let age = full.map_or(Duration::ZERO, |full| now.since(full.time));
        Chunk { age, ..FIREWALL_SOURCE.chunk(id, self.encode()) }
    }
}

/// As [`Southbound`](weir_state_transfer::southbound::Southbound) has them, for a caller that
/// keeps the connections and has a clock.
impl Firewall {
    /// The kinds of state that a firewall has. Those of single flows are
    /// [`Connection`](crate::nf::connection::Connection)s.
    pub const KINDS: [StateKind; 3] = [CONNECTION, FIREWALL_SOURCE, FIREWALL_TOTALS];

    /// What is known of the sources that a filter picks.
    pub fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Nanos,
    ) -> More {
        self.sources.known.numbered().pick(get, cursor, Origin::flow_id, |id, known| {
            out.push(known.source.to_chunk(id, now));
        })
    }

    /// Joins what another instance knows of a source with what is known here. What a life has
    /// counted that has been taken over here is left out, as it is among what was known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk, now: Nanos) -> Result<(), PutError> {
        let (origin, mut other) = self.source_of(chunk, now)?;
        other.retire(self.totals.retired());
        if self.sources.known.groups.has(&origin) {
            return self.put_at_home(chunk, origin, Operation::Join(Box::new(other)));
        }
        self.sources.join(origin, &other).map_err(|full| self.full(chunk, full))
    }

    /// Takes in what an instance knew of a source, counting as a replica, and has given away.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn inherit(
        &mut self,
        chunk: &Chunk,
        by: Replica,
        now: Nanos,
    ) -> Result<(), PutError> {
        let (origin, mut given) = self.source_of(chunk, now)?;
        if !self.sources.known.may_inherit(&origin, &given, by) {
            return Err(retires_us(chunk));
        }
        let ended = self.totals.retired();
        if self.sources.known.groups.has(&origin) {
            given.retire(&ended.without(by));
            return self.put_at_home(chunk, origin, Operation::Inherit(Box::new(given), by));
        }
        let taken = self.sources.inherit(origin, given, by, ended);
        taken.map_err(|full| self.full(chunk, full))
    }

    fn put_at_home(
        &mut self,
        chunk: &Chunk,
        origin: Origin,
        operation: Operation,
    ) -> Result<(), PutError> {
        let operation = FunctionOperation::Firewall(operation);
        self.sources.known.groups.put(chunk, origin, operation)
    }

    fn full(&self, chunk: &Chunk, full: Full) -> PutError {
        match full {
            Full::Sources => PutError::full(chunk, "sources", self.sources.max()),
            Full::Replicas => PutError::full(chunk, "replicas", REPLICAS_MAX),
        }
    }

    /// As which replica what is known of a source is counted here.
    pub(crate) fn counted_as(&self, id: &FlowId) -> Option<Replica> {
        Origin::of_id(id).map(|origin| self.sources.known.counted_as(&origin))
    }

    /// Forgets sources; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let origins = ids.iter().filter_map(Origin::of_id);
        origins.filter_map(|origin| self.sources.known.remove(&origin)).count()
    }

    /// The totals, in as many chunks as their rules need.
    pub fn get_all_flows(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        divide(self.totals.clone(), &mut chunks);
        chunks
    }

    /// Joins the totals of another instance, or a part of them, with those here. Counters of rules
    /// that are not known here are left out.
    ///
    /// # Errors
    /// Why they are not taken in; nothing has changed then.
    pub fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        self.totals.put(chunk, self.replica)
    }

    /// What a chunk says of a source.
    fn source_of(&self, chunk: &Chunk, now: Nanos) -> Result<(Origin, Source), PutError> {
        FIREWALL_SOURCE.check(chunk)?;
        let origin = Origin::of_id(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
        let source = Source::decode(chunk.schema, &chunk.body, now - chunk.age)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if !self.sources.known.may_join(&origin, &source) {
            return Err(retires_us(chunk));
        }
        Ok((origin, source))
    }
}

/// Makes chunks of totals. Of those that are too large for one the rules are divided: what a part
/// does not have, a join leaves as it is. All that is no rule fits in one.
fn divide(mut totals: Totals, out: &mut Vec<Chunk>) {
    let body = totals.encode();
    let middle = totals.rules.keys().nth(totals.rules.len() / 2).cloned();
    match middle.filter(|_| body.len() > BODY_MAX) {
        None => out.push(FIREWALL_TOTALS.chunk(FlowId::default(), body)),
        Some(middle) => {
            let rules = totals.rules.split_off(&middle);
            divide(totals, out);
            divide(Totals { rules, ..Totals::default() }, out);
        }
    }
}
