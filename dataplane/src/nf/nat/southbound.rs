//! What the southbound API takes: translations, usages and totals as chunks, and back.

use std::net::IpAddr;

use weir_state_transfer::merge::{REPLICAS_MAX, Replica};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, Nanos, ServiceId};

use super::{Nat, Translation, Usage};
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::figures::{Figures as _, retires_us};
use crate::nf::idle::time_left;
use crate::nf::schema::{NAT_TOTALS, NAT_TRANSLATION, NAT_USAGE};

impl Translation {
    /// The translation, as it is now, as a chunk about its flow as who has begun it knows it.
    pub fn to_chunk(&self, now: Nanos) -> Chunk {
        let chunk = NAT_TRANSLATION.chunk(FlowId::flow(self.original()), self.encode());
        Chunk { time_left: Some(self.deadline().since(now).min(TIMEOUT_MAX)), ..chunk }
    }

    /// The translation that a chunk is. Whether it takes what is another's is for who keeps flows
    /// to say.
    ///
    /// # Errors
    /// Why it is none.
    pub fn from_chunk(chunk: &Chunk, now: Nanos) -> Result<Self, PutError> {
        NAT_TRANSLATION.check(chunk)?;
        let translation = Self::decode(chunk.schema, &chunk.body, now + time_left(chunk)?)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if chunk.id != FlowId::flow(translation.original()) {
            return Err(PutError::wrong_id(chunk));
        }
        Ok(translation)
    }
}

/// As [`Southbound`](weir_state_transfer::southbound::Southbound) has them, for a caller that
/// keeps the translations and has a clock.
impl Nat {
    /// The kinds of state that a NAT has. Those of single flows are [`Translation`]s.
    pub const KINDS: [StateKind; 3] = [NAT_TRANSLATION, NAT_USAGE, NAT_TOTALS];

    /// How much the external addresses that a filter picks are used.
    pub fn get_multi_flow(&self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.usages.known().pick(get, cursor, flow_id, |id, known| {
            out.push(NAT_USAGE.chunk(id, known.usage.encode()));
        })
    }

    /// Joins what another instance knows of an external address with what is known here. What a
    /// life has counted that has been taken over here is left out, as it is among what was known
    /// here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        let (address, mut other) = self.usage_of(chunk)?;
        other.retire(self.totals.retired());
        let fits = self.usages.join(address, &other);
        if fits { Ok(()) } else { Err(PutError::full(chunk, "replicas", REPLICAS_MAX)) }
    }

    /// Takes in what an instance knew of an external address, counting as a replica, and has given
    /// away.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub(crate) fn inherit(&mut self, chunk: &Chunk, by: Replica) -> Result<(), PutError> {
        let (address, given) = self.usage_of(chunk)?;
        let fits = self.usages.inherit(address, given, by, self.totals.retired());
        if fits { Ok(()) } else { Err(PutError::full(chunk, "replicas", REPLICAS_MAX)) }
    }

    /// As which replica what is known of an external address is counted here.
    pub(crate) fn counted_as(&self, id: &FlowId) -> Option<Replica> {
        self.usages.counted_as(&address_of(id)?)
    }

    /// What a chunk says of an external address.
    fn usage_of(&self, chunk: &Chunk) -> Result<(IpAddr, Usage), PutError> {
        NAT_USAGE.check(chunk)?;
        let address = address_of(&chunk.id).filter(|address| self.rules.has_outside(address));
        let address = address.ok_or_else(|| PutError::wrong_id(chunk))?;
        let usage = Usage::decode(chunk.schema, &chunk.body)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if self.usages.are_retired_by(&address, &usage) {
            return Err(retires_us(chunk));
        }
        Ok((address, usage))
    }

    /// Forgets how much external addresses are used; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let addresses = ids.iter().filter_map(address_of);
        addresses.filter(|address| self.usages.remove(address)).count()
    }

    /// The totals: one chunk, in which they fit.
    pub fn get_all_flows(&self) -> Vec<Chunk> {
        vec![NAT_TOTALS.chunk(FlowId::default(), self.totals.encode())]
    }

    /// Joins the totals of another instance with those here.
    ///
    /// # Errors
    /// Why they are not taken in; nothing has changed then.
    pub fn put_all_flows(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        self.totals.put(chunk, self.replica)
    }
}

/// The flows that the usage of an external address is about.
fn flow_id(address: &IpAddr) -> FlowId {
    FlowId::host(*address, ServiceId::default())
}

/// The external address whose usage an id is of.
fn address_of(id: &FlowId) -> Option<IpAddr> {
    let (address, service) = id.as_host()?;
    (service == ServiceId::default()).then_some(address)
}
