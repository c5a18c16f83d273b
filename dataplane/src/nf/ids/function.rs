//! The intrusion detection as a function of a chain.

use weir_state_transfer::Chunk;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};

use super::{Ids, Record};
use crate::nf::function::{FlowState, Function, Moment, Refused, Shown};

impl Function for Ids {
    fn kind(&self) -> &'static str {
        "ids"
    }

    fn unknown(&self) -> FlowState {
        FlowState::Ids(None)
    }

    fn packet(
        &mut self,
        state: &mut FlowState,
        packet: Shown<'_>,
        now: Moment,
    ) -> Result<(), Refused> {
        let FlowState::Ids(connection) = state else {
            state.is_of_another();
            return Ok(());
        };
        Self::packet(self, connection, packet.meta, packet.frame, now.day);
        Ok(())
    }

    fn expire(&mut self, state: &mut FlowState, now: Moment) {
        let FlowState::Ids(connection) = state else { return state.is_of_another() };
        Self::expire(self, connection, now.day);
    }

    fn end(&mut self, state: &mut FlowState) {
        let FlowState::Ids(connection) = state else { return state.is_of_another() };
        Self::end(self, connection);
    }

    fn waiting(&self) -> usize {
        Self::waiting(self)
    }

    fn next_record(&mut self) -> Option<Record> {
        Self::next_record(self)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Self::counters(self)
    }

    fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        _now: Moment,
    ) -> More {
        Self::get_multi_flow(self, get, cursor, out)
    }

    fn put_multi_flow(&mut self, chunk: &Chunk, _now: Moment) -> Result<(), PutError> {
        Self::put_multi_flow(self, chunk)
    }

    fn get_all_flows(&self) -> Vec<Chunk> {
        Self::get_all_flows(self)
    }

    fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        Self::put_all_flows(self, chunk)
    }
}
