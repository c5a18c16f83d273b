//! The asset detection as a function of a chain.

use weir_state_transfer::merge::Life;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId};

use super::{Assets, Connection};
use crate::nf::Record;
use crate::nf::function::{FlowState, Function, Moment, Refused, Shown};

impl Function for Assets {
    fn kind(&self) -> &'static str {
        "assets"
    }

    fn kinds(&self) -> &'static [StateKind] {
        &Self::KINDS
    }

    fn unknown(&self) -> FlowState {
        FlowState::Assets(None)
    }

    fn packet(
        &mut self,
        state: &mut FlowState,
        packet: Shown<'_>,
        now: Moment,
    ) -> Result<(), Refused> {
        let FlowState::Assets(connection) = state else {
            state.is_of_another();
            return Ok(());
        };
        Self::packet(self, connection, packet.meta, packet.frame, now.day);
        Ok(())
    }

    fn is_over(&self, state: &FlowState, now: Moment) -> bool {
        let FlowState::Assets(Some(known)) = state else { return true };
        known.time_left(&self.config.timeouts, now.day).is_zero()
    }

    fn expire(&mut self, state: &mut FlowState, now: Moment) {
        let FlowState::Assets(connection) = state else { return state.is_of_another() };
        Self::expire(self, connection, now.day);
    }

    fn sweep(&mut self, hosts: usize, now: Moment) -> bool {
        Self::sweep(self, hosts, now.day) > 0
    }

    fn waiting(&self) -> usize {
        Self::waiting(self)
    }

    fn next_record(&mut self) -> Option<Record> {
        Self::next_record(self).map(Record::Asset)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Self::counters(self)
    }

    fn chunk_of(&self, state: &FlowState, now: Moment) -> Option<Chunk> {
        let FlowState::Assets(Some(known)) = state else { return None };
        Some(known.to_chunk(&self.config.timeouts, now.day))
    }

    fn state_of(&self, chunk: &Chunk, now: Moment) -> Result<FlowState, PutError> {
        Ok(FlowState::Assets(Some(Connection::from_chunk(chunk, &self.config.timeouts, now.day)?)))
    }

    fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Moment,
    ) -> More {
        Self::get_multi_flow(self, get, cursor, out, now.day)
    }

    fn put_multi_flow(&mut self, chunk: &Chunk, now: Moment) -> Result<(), PutError> {
        Self::put_multi_flow(self, chunk, now.day)
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        Self::del_multi_flow(self, ids)
    }

    fn get_all_flows(&self) -> Vec<Chunk> {
        Self::get_all_flows(self)
    }

    fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        Self::put_all_flows(self, chunk)
    }

    fn take_over(&mut self, ended: Life) {
        self.totals.take_over(ended, self.replica);
    }
}
