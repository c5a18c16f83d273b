//! The firewall as a function of a chain.

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, FlowKey};

use super::{Firewall, Reason, Verdict};
use crate::icmp_error::Kind;
use crate::nf::connection::{Connection, Packet};
use crate::nf::function::{FlowState, Function, Moment, Refused, Shown};
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
                answer: (reason == Reason::RuleReject).then_some(Kind::Prohibited),
            }),
        }
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
}
