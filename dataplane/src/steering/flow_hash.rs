//! How flows are divided into buckets: by the steering hash, and by what a NAT calls them.

use weir_state_transfer::{Bucket, FlowKey, SteeringHash};

use crate::nf::nat::{Rules, flow_key};
use crate::packet::Meta;

/// The steering hash of a node, which has both directions of a flow in one bucket, before and
/// behind its translation if there is a NAT.
#[derive(Clone, Debug)]
pub struct FlowHash {
    hash: SteeringHash,
    nat: Option<Rules>,
}

impl FlowHash {
    /// The hash of a node whose instances have a NAT with these rules, or none.
    pub fn new(hash: SteeringHash, nat: Option<&Rules>) -> Self {
        Self { hash, nat: nat.cloned() }
    }

    /// The key of a packet's flow, by which it is steered and known from here on.
    #[inline]
    pub fn key(&self, frame: &[u8], meta: &Meta) -> FlowKey {
        if self.nat.is_some() { flow_key(frame, meta) } else { meta.key }
    }

    /// The hash of a flow.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u32 {
        match &self.nat {
            Some(rules) => self.hash.hash(&rules.steering_key(key)),
            None => self.hash.hash(key),
        }
    }

    /// The bucket of a flow.
    #[inline]
    pub fn bucket(&self, key: &FlowKey) -> Bucket {
        Bucket::of(self.hash(key))
    }

    /// Whether a packet to an address of the router is for a flow behind the NAT.
    #[inline]
    pub(crate) fn is_for_nat(&self, frame: &[u8], meta: &Meta) -> bool {
        self.nat.as_ref().is_some_and(|rules| rules.claims(frame, meta))
    }
}
