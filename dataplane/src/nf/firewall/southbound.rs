//! What the southbound API takes: sources and totals as chunks, and back.

use std::time::Duration;

use weir_state_transfer::chunk::BODY_MAX;
use weir_state_transfer::merge::{Join, Life, Lives, REPLICAS_MAX};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, Nanos};

use super::Firewall;
use super::limits::{Origin, Source};
use super::totals::Totals;
use crate::nf::figures::Figures as _;
use crate::nf::schema::{CONNECTION, FIREWALL_SOURCE, FIREWALL_TOTALS};

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
        self.sources.known().pick(get, cursor, Origin::flow_id, |id, known| {
            out.push(known.source.to_chunk(id, now));
        })
    }

    /// Joins what another instance knows of a source with what is known here. What a life has
    /// counted that has been taken over here is left out, as it is among what was known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk, now: Nanos) -> Result<(), PutError> {
        let retired = self.totals.retired().clone();
        self.join_source(chunk, &retired, now)
    }

    /// The same, where what these lives have counted is left out.
    fn join_source(&mut self, chunk: &Chunk, retired: &Lives, now: Nanos) -> Result<(), PutError> {
        FIREWALL_SOURCE.check(chunk)?;
        let origin = Origin::of_id(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
        let mut other = Source::decode(chunk.schema, &chunk.body, now - chunk.age)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        other.retire(retired);
        let mut joined = self.source(&origin).cloned().unwrap_or_default();
        joined.join(&other);
        if !joined.fits() {
            return Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
        }
        if !self.sources.join(origin, &other) {
            return Err(PutError::full(chunk, "sources", self.sources.max()));
        }
        Ok(())
    }

    /// Joins what an instance knew of a source whose life has ended, and takes it over.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn inherit(
        &mut self,
        chunk: &Chunk,
        ended: Option<Life>,
        now: Nanos,
    ) -> Result<(), PutError> {
        // It is no copy: what it says is nowhere else.
        self.join_source(chunk, &Lives::default(), now)?;
        let Some(origin) = Origin::of_id(&chunk.id) else { return Ok(()) };
        for life in self.totals.retired().iter().chain(ended) {
            self.sources.take_over(origin, life);
        }
        Ok(())
    }

    /// Forgets sources; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let origins = ids.iter().filter_map(Origin::of_id);
        origins.filter_map(|origin| self.sources.remove(&origin)).count()
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
        self.totals.put(chunk)
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
