//! What the southbound API takes: translations, usages and totals as chunks, and back.

use std::net::IpAddr;

use weir_state_transfer::merge::{Join, REPLICAS_MAX};
use weir_state_transfer::southbound::{Cursor, Get, More, PutError, StateKind};
use weir_state_transfer::{Chunk, FlowId, FlowKey, Nanos, ServiceId};

use super::{Nat, Totals, Translation, Usage};
use crate::nf::schema::{NAT_TOTALS, NAT_TRANSLATION, NAT_USAGE};

impl Translation {
    /// The translation, as it is now, as a chunk about its flow as who has begun it knows it.
    pub fn to_chunk(&self, now: Nanos) -> Chunk {
        let chunk = NAT_TRANSLATION.chunk(FlowId::flow(self.original()), self.encode(now));
        Chunk { time_left: Some(self.deadline().since(now)), ..chunk }
    }

    /// The translation that a chunk is. `other` says whether a flow other than a given one is known
    /// under a key that is made the same [both ways](FlowKey::both_ways): what the translation
    /// takes must not be another's.
    ///
    /// # Errors
    /// Why it is none, or that another flow has what it takes.
    pub fn from_chunk(
        chunk: &Chunk,
        other: impl Fn(&FlowKey, &FlowKey) -> bool,
        now: Nanos,
    ) -> Result<Self, PutError> {
        NAT_TRANSLATION.check(chunk)?;
        let translation = Self::decode(chunk.schema, &chunk.body, now)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        if chunk.id != FlowId::flow(translation.original()) {
            return Err(PutError::wrong_id(chunk));
        }
        let [own, _] = translation.keys();
        match translation.keys().iter().find(|key| other(&own, key)) {
            Some(key) => Err(PutError::taken(chunk, key)),
            None => Ok(translation),
        }
    }
}

/// As [`Southbound`](weir_state_transfer::southbound::Southbound) has them, for a caller that
/// keeps the translations and has a clock.
impl Nat {
    /// The kinds of state that a NAT has. Those of single flows are [`Translation`]s.
    pub const KINDS: [StateKind; 3] = [NAT_TRANSLATION, NAT_USAGE, NAT_TOTALS];

    /// How much the external addresses that a filter picks are used.
    pub fn get_multi_flow(&self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.usages.pick(get, cursor, flow_id, |id, usage| {
            out.push(NAT_USAGE.chunk(id, usage.encode()));
        })
    }

    /// Joins what another instance knows of an external address with what is known here.
    ///
    /// # Errors
    /// Why it is not taken in; nothing has changed then.
    pub fn put_multi_flow(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        NAT_USAGE.check(chunk)?;
        let address = chunk.id.as_host().filter(|(_, service)| *service == ServiceId::default());
        let usage = address.and_then(|(address, _)| self.usage(address));
        let usage = usage.ok_or_else(|| PutError::wrong_id(chunk))?;
        let other = Usage::decode(chunk.schema, &chunk.body)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        let mut joined = usage.clone();
        joined.join(&other);
        if !joined.fits() {
            return Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
        }
        *usage = joined;
        Ok(())
    }

    /// Forgets how much external addresses are used; how many were known.
    pub fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let addresses = ids.iter().filter(|id| {
            id.as_host().is_some_and(|(address, service)| {
                service == ServiceId::default() && self.usages.remove(&address).is_some()
            })
        });
        addresses.count()
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
        NAT_TOTALS.check(chunk)?;
        let other = Totals::decode(chunk.schema, &chunk.body)
            .map_err(|why| PutError::bad_body(chunk, &why))?;
        let mut joined = self.totals.clone();
        joined.join(&other);
        if !joined.fits() {
            return Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
        }
        self.totals = joined;
        Ok(())
    }
}

/// The flows that the usage of an external address is about.
fn flow_id(address: &IpAddr) -> FlowId {
    FlowId::host(*address, ServiceId::default())
}
