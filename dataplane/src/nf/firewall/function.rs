//! The firewall as a function of a chain.

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::share::Slot;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, FlowKey, Nanos, ShareId};

use super::{Firewall, Origin, Verdict};
use crate::icmp_error::Kind;
use crate::nf::connection::{Connection, Packet};
use crate::nf::function::{FlowState, Function, Moment, Refused, Shown};
use crate::nf::share::{FunctionAnswer, FunctionOperation, FunctionPiece, Giving, Shareable};
use crate::packet::DropReason;

impl Function for Firewall {
    fn kind(&self) -> &'static str {
        "firewall"
    }

    fn kinds(&self) -> &'static [StateKind] {
        &Self::KINDS
    }

    fn unknown(&self) -> FlowState {
        FlowState::Firewall(None)
    }

    fn packet(
        &mut self,
        state: &mut FlowState,
        packet: Shown<'_>,
        now: Moment,
    ) -> Result<(), Refused> {
        let FlowState::Firewall(connection) = state else {
            state.is_of_another();
            return Ok(());
        };
        let packet = Packet::new(packet.frame, packet.meta, packet.port);
        match self.judge(&packet, connection, now.uptime) {
            Verdict::Accept => Ok(()),
            Verdict::Drop(reason) => Err(Refused {
                reason: DropReason::Firewall,
                answer: reason.is_answered().then_some(Kind::Prohibited),
            }),
        }
    }

    /// Its source has it open no more.
    fn withdraw(&mut self, state: &mut FlowState) {
        let FlowState::Firewall(connection) = state else { return state.is_of_another() };
        self.end_if_over(connection, Nanos(u64::MAX));
    }

    fn is_over(&self, state: &FlowState, now: Moment) -> bool {
        let FlowState::Firewall(Some(known)) = state else { return true };
        known.is_over(now.uptime)
    }

    fn expire(&mut self, state: &mut FlowState, now: Moment) {
        let FlowState::Firewall(connection) = state else { return state.is_of_another() };
        self.end_if_over(connection, now.uptime);
    }

    fn sweep(&mut self, hosts: usize, now: Moment) -> bool {
        self.sweep_sources(hosts, now.uptime);
        // Who has a copy of a source that is forgotten forgets it too.
        false
    }

    fn decides(&self, _flow: &FlowKey) -> bool {
        true
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Self::counters(self)
    }

    fn chunk_of(&self, state: &FlowState, now: Moment) -> Option<Chunk> {
        let FlowState::Firewall(Some(known)) = state else { return None };
        Some(known.to_chunk(now.uptime))
    }

    fn state_of(&self, chunk: &Chunk, now: Moment) -> Result<FlowState, PutError> {
        Ok(FlowState::Firewall(Some(Connection::from_chunk(chunk, now.uptime)?)))
    }

    fn get_multi_flow(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        now: Moment,
    ) -> More {
        Self::get_multi_flow(self, get, cursor, out, now.uptime)
    }

    fn put_multi_flow(&mut self, chunk: &Chunk, now: Moment) -> Result<(), PutError> {
        Self::put_multi_flow(self, chunk, now.uptime)
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
        Self::inherit(self, chunk, by, now.uptime)
    }

    fn take_over(&mut self, ended: Life) {
        Self::take_over(self, ended);
    }

    fn sources(&self) -> Option<&dyn Shareable> {
        Some(&self.sources.known)
    }

    fn sources_mut(&mut self) -> Option<&mut dyn Shareable> {
        Some(&mut self.sources.known)
    }

    fn concern(
        &self,
        state: Option<&FlowState>,
        packet: Shown<'_>,
        now: Moment,
    ) -> Option<(Origin, Option<FunctionOperation>)> {
        let known = match state {
            Some(FlowState::Firewall(known)) => known.as_ref(),
            Some(FlowState::Ids(_) | FlowState::Assets(_) | FlowState::Nat(_)) | None => None,
        };
        let packet = Packet::new(packet.frame, packet.meta, packet.port);
        let (origin, ask) = Self::concern(self, &packet, known, now.uptime)?;
        Some((origin, ask.map(FunctionOperation::Firewall)))
    }

    fn judge_by(&mut self, answer: Option<&FunctionAnswer>) {
        let admission = match answer {
            Some(FunctionAnswer::Firewall(admission)) => Some(*admission),
            Some(FunctionAnswer::Nothing) | None => None,
        };
        Self::judge_by(self, admission);
    }

    fn judged(&mut self) {
        Self::judged(self);
    }

    fn execute(
        &mut self,
        origin: Origin,
        operation: &FunctionOperation,
        now: Moment,
    ) -> FunctionAnswer {
        let FunctionOperation::Firewall(operation) = operation else {
            return FunctionAnswer::Nothing;
        };
        let answer = Self::execute(self, origin, operation, now.uptime);
        answer.map_or(FunctionAnswer::Nothing, FunctionAnswer::Firewall)
    }

    fn copy(&self, share: ShareId, slot: Slot, cursor: &mut Cursor) -> Option<FunctionPiece> {
        self.sources.known.copy(share, slot, cursor).map(FunctionPiece::Firewall)
    }

    fn join(&mut self, piece: FunctionPiece, giving: Option<Giving>) {
        if let FunctionPiece::Firewall(sources) = piece {
            self.join_shared(sources, giving);
        }
    }

    fn given(&mut self, giving: Giving) {
        self.sources.known.given(giving, self.totals.retired());
    }
}
