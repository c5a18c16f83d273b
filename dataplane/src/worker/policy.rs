//! Packets that wait for policy routes that hold, and their release.
//!
//! A packet that waits has been processed, as one that is parked for a next hop has: it only has no way
//! to go yet. Those of a policy leave in the order in which they came, in front of all that come later.

use std::sync::Arc;

use weir_state_transfer::mark::Hold;

use super::{Forwarder, Packet};
use crate::packet::DropReason;
use crate::policy::{Policy, PolicyId};
use crate::route_table::NextHop;

/// Packets that are released in a poll round, besides as many as were held in it: so all have left some
/// time, whatever comes.
const RELEASED: usize = 64;

/// A worker's packets that wait for policy routes, a queue for each. It is made by the node, once it is
/// needed, and takes no memory then.
#[derive(Debug, Default)]
pub struct PolicyHold {
    queues: Option<Box<Hold<PolicyId, Packet>>>,
    /// Held since packets were last released.
    arrived: usize,
}

impl PolicyHold {
    /// A hold of at most so many packets.
    pub(crate) fn new(packets: usize) -> Self {
        Self { queues: Some(Box::new(Hold::new(packets))), arrived: 0 }
    }

    /// Whether packets wait for a policy.
    #[inline]
    pub(super) fn contains(&self, id: PolicyId) -> bool {
        self.queues.as_ref().is_some_and(|queues| queues.contains(id))
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| queues.len())
    }

    /// Whether none does.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, id: PolicyId, packet: Packet) -> Result<(), Packet> {
        let Some(queues) = &mut self.queues else { return Err(packet) };
        queues.push(id, packet)?;
        self.arrived += 1;
        Ok(())
    }

    fn pop(&mut self, id: PolicyId) -> Option<Packet> {
        self.queues.as_mut()?.pop(id)
    }
}

impl Forwarder {
    /// Lets a packet wait for a policy.
    #[cold]
    pub(super) fn hold_for(&mut self, id: PolicyId, packet: Packet) {
        let pushed = self.policy_hold.push(id, packet);
        let policy = self.policies.list().iter().find(|policy| policy.id == id);
        match pushed {
            Ok(()) => {
                self.in_hand.put_down();
                if let Some(policy) = policy {
                    policy.counters.held(self.worker);
                }
            }
            Err(packet) => {
                if let Some(policy) = policy {
                    policy.counters.overflowed(self.worker);
                }
                self.drop_packet(packet, DropReason::PolicyHoldFull);
            }
        }
    }

    /// Sends what waits for policies that hold no more, at most so many in a round, and no faster than
    /// it leaves. Whether there is more to do at once.
    pub(super) fn release_held(&mut self) -> bool {
        if self.policy_hold.is_empty() {
            return false;
        }
        let mut left = RELEASED + std::mem::take(&mut self.policy_hold.arrived);
        let policies = Arc::clone(&self.policies);
        let mut busy = false;
        for policy in policies.list().iter().filter(|policy| !policy.holds) {
            busy |= self.release_of(policy, &mut left);
        }
        busy
    }

    /// Whether some of a policy is left that need not wait.
    fn release_of(&mut self, policy: &Policy, left: &mut usize) -> bool {
        let NextHop { port, via } = policy.hop;
        while self.policy_hold.contains(policy.id) {
            // A policy can hold only when it has an address; what comes in between is told below.
            let Some(address) = via else { return false };
            let is_known = self.resolver.find(port, address);
            if is_known.is_none() && self.resolver.parked.waits_for(port, address) {
                // The rest waits here, where there is room for it.
                return false;
            }
            if *left == 0 || !self.egress.has_room(port, &mut self.rings) {
                return true;
            }
            let Some(packet) = self.policy_hold.pop(policy.id) else { return false };
            *left -= 1;
            policy.counters.released(self.worker);
            self.in_hand.take_up(true);
            match is_known {
                Some(adjacency) => {
                    let Packet { frame, meta, port: came_by } = packet;
                    self.send_via(adjacency, frame, &meta, came_by);
                }
                None => self.wait(port, address, packet),
            }
            self.in_hand.put_down();
        }
        false
    }
}
