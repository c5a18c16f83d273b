//! The intrusion detection as a function of a chain.

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::share::Slot;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, ShareId};

use super::{Connection, Ids};
use crate::nf::Record;
use crate::nf::function::{FlowState, Function, Moment, Refused, Shown};
use crate::nf::origin::Origin;
use crate::nf::share::{FunctionAnswer, FunctionOperation, FunctionPiece, Giving, Shareable};

impl Function for Ids {
    fn kind(&self) -> &'static str {
        "ids"
    }

    fn kinds(&self) -> &'static [StateKind] {
        &Self::KINDS
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

    /// It is not open any more, and nothing is recorded of it.
    fn withdraw(&mut self, state: &mut FlowState) {
        let FlowState::Ids(connection) = state else { return state.is_of_another() };
        Self::withdraw(self, connection);
    }

    fn is_over(&self, state: &FlowState, now: Moment) -> bool {
        let FlowState::Ids(Some(known)) = state else { return true };
        known.time_left(&self.config().timeouts, now.day).is_zero()
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
        Self::next_record(self).map(Record::Ids)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Self::counters(self)
    }

    fn chunk_of(&self, state: &FlowState, now: Moment) -> Option<Chunk> {
        let FlowState::Ids(Some(known)) = state else { return None };
        Some(known.to_chunk(&self.config().timeouts, now.day))
    }

    fn state_of(&self, chunk: &Chunk, now: Moment) -> Result<FlowState, PutError> {
        Ok(FlowState::Ids(Some(Connection::from_chunk(chunk, &self.config().timeouts, now.day)?)))
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

    fn counted_as(&self, id: &FlowId) -> Option<Replica> {
        Self::counted_as(self, id)
    }

    fn inherit(&mut self, chunk: &Chunk, by: Replica, now: Moment) -> Result<(), PutError> {
        Self::inherit(self, chunk, by, now.day)
    }

    fn take_over(&mut self, ended: Life) {
        Self::take_over(self, ended);
    }

    fn excess(&self, kept: usize) -> usize {
        kept.saturating_sub(self.config().memory_max)
    }

    fn give_up(&mut self, state: &mut FlowState) {
        if let FlowState::Ids(Some(connection)) = state {
            Self::give_up(self, connection);
        }
    }

    fn sources(&self) -> Option<&dyn Shareable> {
        Some(&self.sources.known)
    }

    fn sources_mut(&mut self) -> Option<&mut dyn Shareable> {
        Some(&mut self.sources.known)
    }

    fn execute(
        &mut self,
        origin: Origin,
        operation: &FunctionOperation,
        _now: Moment,
    ) -> FunctionAnswer {
        if let FunctionOperation::Ids(operation) = operation {
            Self::execute(self, origin, operation);
        }
        FunctionAnswer::Nothing
    }

    fn copy(&self, share: ShareId, slot: Slot, cursor: &mut Cursor) -> Option<FunctionPiece> {
        self.sources.known.copy(share, slot, cursor).map(FunctionPiece::Ids)
    }

    fn join(&mut self, piece: FunctionPiece, giving: Option<Giving>) {
        if let FunctionPiece::Ids(sources) = piece {
            self.join_shared(sources, giving);
        }
    }

    fn given(&mut self, giving: Giving) {
        self.sources.known.given(giving, self.totals.retired());
    }
}
