//! The NAT as a function of a chain.

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, FlowKey, protocol};

use super::{Nat, Reason, Translation, Verdict};
use crate::icmp_error::Kind;
use crate::nf::function::{FlowState, Function, Moment, Passing, Refused, Shown};
use crate::packet::{DropReason, Flags, Meta};

impl Function for Nat {
    fn kind(&self) -> &'static str {
        "nat"
    }

    fn kinds(&self) -> &'static [StateKind] {
        &Self::KINDS
    }

    fn unknown(&self) -> FlowState {
        FlowState::Nat(None)
    }

    /// All is done when the packet arrives and when it leaves.
    fn packet(
        &mut self,
        _state: &mut FlowState,
        _packet: Shown<'_>,
        _now: Moment,
    ) -> Result<(), Refused> {
        Ok(())
    }

    fn translates(&self) -> bool {
        true
    }

    fn arrive(
        &mut self,
        state: &mut FlowState,
        packet: &mut Passing<'_>,
        now: Moment,
    ) -> Result<bool, Refused> {
        let FlowState::Nat(known) = state else {
            state.is_of_another();
            return Ok(false);
        };
        match Self::arrive(self, packet.frame, packet.meta, known, now.uptime) {
            Some(verdict) => carry_out(verdict, packet.meta).map(|()| true),
            None => Ok(false),
        }
    }

    fn leave(
        &mut self,
        state: &mut FlowState,
        packet: &mut Passing<'_>,
        taken: &dyn Fn(&FlowKey) -> bool,
        now: Moment,
    ) -> Result<(), Refused> {
        let FlowState::Nat(known) = state else {
            state.is_of_another();
            return Ok(());
        };
        let Passing { frame, meta, .. } = packet;
        let verdict = Self::leave(self, frame, meta, known, taken, now.uptime);
        carry_out(verdict, meta)
    }

    fn refused(&mut self, state: &mut FlowState) {
        let FlowState::Nat(known) = state else { return state.is_of_another() };
        Self::refused(self, known);
    }

    fn kept(&mut self, state: &FlowState) {
        if let FlowState::Nat(Some(known)) = state {
            Self::kept(self, known);
        }
    }

    fn lost(&mut self, state: &FlowState) {
        if let FlowState::Nat(Some(known)) = state {
            Self::lost(self, known);
        }
    }

    fn known_as(&self, state: Option<&FlowState>, flow: &FlowKey, now: Moment) -> Option<FlowKey> {
        let known = match state {
            Some(FlowState::Nat(known)) => known.as_ref(),
            Some(FlowState::Firewall(_) | FlowState::Ids(_) | FlowState::Assets(_)) | None => None,
        };
        match known.filter(|known| !known.is_over(now.uptime)) {
            Some(known) => known.first_name(flow),
            None => self.rules().refusal(flow).is_none().then_some(*flow),
        }
    }

    fn is_over(&self, state: &FlowState, now: Moment) -> bool {
        let FlowState::Nat(Some(known)) = state else { return true };
        known.is_over(now.uptime)
    }

    fn expire(&mut self, state: &mut FlowState, now: Moment) {
        let FlowState::Nat(known) = state else { return state.is_of_another() };
        self.end_if_over(known, now.uptime);
    }

    fn end(&mut self, state: &mut FlowState) {
        let FlowState::Nat(known) = state else { return state.is_of_another() };
        Self::end(self, known);
    }

    fn decides(&self, flow: &FlowKey) -> bool {
        self.rules().concern(flow)
    }

    fn counters(&self) -> Vec<(String, u64)> {
        Self::counters(self)
    }

    fn chunk_of(&self, state: &FlowState, now: Moment) -> Option<Chunk> {
        let FlowState::Nat(Some(known)) = state else { return None };
        Some(known.to_chunk(now.uptime))
    }

    fn state_of(&self, chunk: &Chunk, now: Moment) -> Result<FlowState, PutError> {
        Ok(FlowState::Nat(Some(Translation::from_chunk(chunk, now.uptime)?)))
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

    fn inherit(&mut self, chunk: &Chunk, by: Replica, _now: Moment) -> Result<(), PutError> {
        Self::inherit(self, chunk, by)
    }

    fn take_over(&mut self, ended: Life) {
        Self::take_over(self, ended);
    }
}

/// Marks a packet that has been translated, or says what its sender is told.
fn carry_out(verdict: Verdict, meta: &mut Meta) -> Result<(), Refused> {
    let reason = match verdict {
        Verdict::Pass => return Ok(()),
        Verdict::Translate => {
            meta.flags = meta.flags.with(Flags::TRANSLATED, true);
            return Ok(());
        }
        Verdict::Drop(reason) => reason,
    };
    let answer = match reason {
        // RFC 5508, REQ-8.
        Reason::Exhausted => Some(Kind::Prohibited),
        // Nothing listens there; senders of TCP are not answered (RFC 5382, REQ-4).
        Reason::Unsolicited if meta.protocol == protocol::UDP => Some(Kind::PortUnreachable),
        Reason::Unsolicited | Reason::Invalid(_) | Reason::Bypass | Reason::Protocol => None,
    };
    Err(Refused { reason: DropReason::Nat, answer })
}
