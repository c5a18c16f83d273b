//! What the southbound API takes: flows, hosts and totals as chunks, and back.

use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::wire::WireError;
use weir_state_transfer::{Chunk, FlowId};

use super::config::Timeouts;
use super::{Assets, Connection, Host, HostId};
use crate::nf::Timestamp;
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::figures::Figures as _;
use crate::nf::idle::time_left;
use crate::nf::schema::{ASSETS_CONNECTION, ASSETS_HOST, ASSETS_TOTALS};
use crate::nf::timestamp::{CLOCKS_APART, to_come};

impl Connection {
    /// The flow, as it is now, as a chunk about the flow from who was seen first.
    pub fn to_chunk(&self, timeouts: &Timeouts, now: Timestamp) -> Chunk {
        let chunk = ASSETS_CONNECTION.chunk(FlowId::flow(self.key()), self.encode());
        let (age, time_left) =
            (self.idle(now), Some(self.time_left(timeouts, now).min(TIMEOUT_MAX)));
        Chunk { age, time_left, ..chunk }
    }

    /// The flow that a chunk is. What is left of it there holds until its next packet, also where the
    /// time-outs are others.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_chunk(
        chunk: &Chunk,
        timeouts: &Timeouts,
        now: Timestamp,
    ) -> Result<Self, PutError> {
        ASSETS_CONNECTION.check(chunk)?;
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
/// keeps the connections and has a clock.
impl Assets {
    /// The kinds of state that there are. Those of single flows are [`Connection`]s.
    pub const KINDS: [StateKind; 3] = [ASSETS_CONNECTION, ASSETS_HOST, ASSETS_TOTALS];

    /// What is known of the hosts that a filter picks. When each was seen are facts by the time of
    /// day of who has seen it; what is left until it is forgotten is told beside them.
    pub fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Timestamp,
    ) -> More {
        self.hosts.known().pick(get, cursor, HostId::flow_id, |id, known| {
            let time_left = Some(known.left(now));
            out.push(Chunk { time_left, ..ASSETS_HOST.chunk(id, known.host.encode()) });
        })
    }

    /// Joins what another instance knows of a host with what is known here. No record is made of
    /// it: whoever has learned it has told it. It is known for as long as it would have been there,
    /// and for no longer than if it had been seen here now.
    ///
    /// What was seen in time to come, by clocks that are further apart than those of two nodes
    /// may be (`CLOCKS_APART`), is refused: joined, such a time would stay for good, wherever it is
    /// copied to.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk, now: Timestamp) -> Result<(), PutError> {
        ASSETS_HOST.check(chunk)?;
        let id = HostId::of_id(&chunk.id).ok_or_else(|| PutError::wrong_id(chunk))?;
        let other = Host::decode(chunk.schema, &chunk.body)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if !other.seen_at().all(|at| at <= now.after(CLOCKS_APART)) {
            return Err(to_come(chunk));
        }
        let endless =
            || PutError::bad_body(chunk, &WireError::BadField { what: "time left" }.into());
        let left = chunk.time_left.ok_or_else(endless)?;
        if !self.hosts.join(id, &other, left, now) {
            return Err(PutError::full(chunk, "hosts", self.config.hosts_max));
        }
        Ok(())
    }

    /// Forgets hosts, without a word; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let hosts = ids.iter().filter_map(HostId::of_id);
        hosts.filter_map(|id| self.hosts.remove(&id)).count()
    }

    /// The totals: one chunk, in which they fit.
    pub fn get_all_flows(&self) -> Vec<Chunk> {
        vec![ASSETS_TOTALS.chunk(FlowId::default(), self.totals.encode())]
    }

    /// Joins the totals of another instance with those here.
    ///
    /// # Errors
    /// Why they are not taken in; nothing has changed then.
    pub fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        self.totals.put(chunk, self.replica)
    }
}
