//! A flow entry: what an instance keeps of one flow, two cache lines.

use weir_frame::prefetch;
use weir_state_transfer::{FlowKey, MoveId, Nanos, PortId};
use zerocopy::{FromZeros, Immutable, KnownLayout};

use super::digest::digest;
use crate::policy::PolicyBasis;

/// The state of one flow and the decision cached for it.
///
/// All of it travels with the flow when the flow is moved, so that a single instance and many
/// give the same figures.
#[derive(Clone, Debug, FromZeros, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Entry {
    /// Which flow this is.
    pub key: FlowKey,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, from the network header on.
    pub bytes: u64,
    first_seen: u64,
    last_seen: u64,
    /// Rolling digest over the packets as they were forwarded, in order.
    pub digest: u64,
    /// The adjacency that the flow leaves by, valid while what it is based on is.
    pub adjacency: u32,
    /// The generation of the part of the route table that gave the adjacency.
    pub generation: u32,
    moved: u64,
    policies: u32,
    came_by: u8,
    policy: u8,
    decided: u8,
    poisoned: u8,
}

/// What a decision is based on: it is valid while this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    /// The generation of the part of the route table that answers for the flow.
    pub(crate) routes: u32,
    /// That of the policy routes.
    pub(crate) policies: PolicyBasis,
}

/// A decision that is remembered with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The adjacency that the flow leaves by.
    pub(crate) adjacency: u32,
    /// The place of the policy route that has decided, if one has.
    pub(crate) policy: Option<u8>,
}

/// No policy route has decided: there are fewer.
const NO_POLICY: u8 = u8::MAX;

impl Entry {
    /// The entry of a flow whose first packet is seen at `now`.
    pub(crate) fn new(key: FlowKey, now: Nanos) -> Self {
        Self { key, first_seen: now.0, last_seen: now.0, ..Self::new_zeroed() }
    }

    /// When the first packet was seen.
    pub fn first_seen(&self) -> Nanos {
        Nanos(self.first_seen)
    }

    /// When the last packet was seen.
    pub fn last_seen(&self) -> Nanos {
        Nanos(self.last_seen)
    }

    /// Counts a packet, given from its network header on, as it is forwarded.
    #[inline]
    pub(crate) fn count(&mut self, packet: &[u8], now: Nanos) {
        self.packets += 1;
        self.bytes += packet.len() as u64;
        self.last_seen = now.0;
        self.digest = digest(self.digest, packet);
    }

    /// What was decided on the same basis, if anything.
    #[inline]
    pub(crate) fn decision(&self, basis: &Basis) -> Option<Choice> {
        let PolicyBasis { generation, came_by } = basis.policies;
        let is_valid = self.decided == 1
            && self.generation == basis.routes
            && self.policies == generation
            && self.came_by == came_by.0;
        let policy = (self.policy != NO_POLICY).then_some(self.policy);
        is_valid.then_some(Choice { adjacency: self.adjacency, policy })
    }

    /// Caches the decision.
    pub(crate) fn decide(&mut self, choice: Choice, basis: &Basis) {
        let PolicyBasis { generation, came_by: PortId(came_by) } = basis.policies;
        (self.adjacency, self.generation) = (choice.adjacency, basis.routes);
        (self.policies, self.came_by) = (generation, came_by);
        (self.policy, self.decided) = (choice.policy.unwrap_or(NO_POLICY), 1);
    }

    /// Forgets the decision.
    pub(crate) fn undecide(&mut self) {
        self.decided = 0;
    }

    /// The move that the flow came by; none for a flow that began here.
    #[inline]
    pub(crate) fn came_by(&self, id: MoveId) -> bool {
        self.moved == id.0
    }

    /// Notes the move that the flow came by.
    pub(crate) fn set_move(&mut self, id: MoveId) {
        self.moved = id.0;
    }

    /// Asks the processor for both of its cache lines.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.key);
        prefetch(&self.poisoned);
    }

    /// Whether processing a packet of the flow has panicked.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned != 0
    }

    /// Gives the flow up: its packets are dropped from here on.
    pub(crate) fn poison(&mut self) {
        self.poisoned = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_two_cache_lines() {
        assert_eq!((size_of::<Entry>(), align_of::<Entry>()), (128, 64));
    }
}
