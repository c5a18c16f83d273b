//! Packets that wait for policy routes that hold, and their release.
//!
//! A packet that waits has been processed, as one that is parked for a next hop has: it only has no way
//! to go yet. Those of a policy leave in the order in which they came, in front of all that come later.
//!
//! A release lasts for as long as packets wait for a policy that leads somewhere. It takes them out as
//! its next hop takes them: each stays in the hold until it can be sent at once, and takes up no room
//! that others wait in. Only when nothing could leave for so long that nobody may hope are they dropped,
//! by the name of what was in their way.

use std::sync::Arc;
use std::time::Duration;

use weir_state_transfer::Nanos;
use weir_state_transfer::mark::Hold;

use super::{Forwarder, Packet};
use crate::packet::DropReason;
use crate::policy::{POLICIES_MAX, Policy, PolicyId};
use crate::port::Claim;
use crate::route_table::NextHop;

/// Packets that are released in a poll round, besides as many as were held in it: so all have left some
/// time, whatever comes.
const RELEASED: usize = 64;
/// The time in which some packet of a release must leave; then those that wait are dropped, until one
/// leaves again. Longer than a neighbour that does not answer is asked for, and than a link takes to
/// come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time after which a release may fill the whole of a queue: what comes, or what the device has not
/// given back yet, may keep one half of it full all the time.
const URGENT: Duration = Duration::from_millis(100);
/// The time after which a next hop is asked for again: it may have failed, or found no room, meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A worker's packets that wait for policy routes, a queue for each. It is made by the node, once it is
/// needed, and takes no memory then.
#[derive(Debug, Default)]
pub struct PolicyHold {
    queues: Option<Box<Hold<PolicyId, Packet>>>,
    /// At most one of each policy.
    releases: Vec<Release>,
    /// Held since packets were last released.
    arrived: usize,
}

/// Packets of a policy are on their way out.
#[derive(Clone, Copy, Debug)]
struct Release {
    id: PolicyId,
    hop: NextHop,
    begun: Nanos,
    /// When it began, or a packet has left.
    since: Nanos,
    /// When the next hop was asked for.
    asked: Option<Nanos>,
}

impl PolicyHold {
    /// A hold of at most so many packets.
    pub(crate) fn new(packets: usize) -> Self {
        let queues = Some(Box::new(Hold::new(packets)));
        Self { queues, releases: Vec::with_capacity(POLICIES_MAX), arrived: 0 }
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

    /// The release of a policy, which begins if there is none to this next hop.
    fn release(&mut self, id: PolicyId, hop: NextHop, now: Nanos) -> &mut Release {
        let begun = Release { id, hop, begun: now, since: now, asked: None };
        let place = self.releases.iter().position(|release| release.id == id);
        let place = place.unwrap_or_else(|| {
            self.releases.push(begun);
            self.releases.len() - 1
        });
        let release = &mut self.releases[place];
        if release.hop != hop {
            *release = begun;
        }
        release
    }

    fn end_release(&mut self, id: PolicyId) {
        self.releases.retain(|release| release.id != id);
    }
}

impl Release {
    /// Whether nothing has left for too long.
    fn is_hopeless(&self, now: Nanos) -> bool {
        now.since(self.since) >= PATIENCE
    }

    /// How much of a queue it may fill.
    fn claim(&self, now: Nanos) -> Claim {
        if now.since(self.begun) < URGENT { Claim::Half } else { Claim::All }
    }

    /// Whether the next hop is to be asked for, which is done then.
    fn asks(&mut self, now: Nanos) -> bool {
        let is_due = self.asked.is_none_or(|at| now.since(at) >= ASK_AGAIN);
        if is_due {
            self.asked = Some(now);
        }
        is_due
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
        for policy in policies.list() {
            if policy.holds {
                self.policy_hold.end_release(policy.id);
            } else if self.policy_hold.contains(policy.id) {
                busy |= self.release_of(policy, &mut left);
            }
        }
        busy
    }

    /// Whether some of a policy is left that may leave in the next round.
    fn release_of(&mut self, policy: &Policy, left: &mut usize) -> bool {
        let (id, now) = (policy.id, self.now);
        let mut release = *self.policy_hold.release(id, policy.hop, now);
        let mut in_the_way = None;
        while *left > 0 && self.policy_hold.contains(id) {
            let way = self.way_to(policy.hop, release.claim(now));
            in_the_way = way.err().filter(|_| !release.is_hopeless(now));
            if in_the_way.is_some() {
                break;
            }
            let Some(packet) = self.policy_hold.pop(id) else { break };
            *left -= 1;
            self.in_hand.take_up(true);
            let Packet { frame, meta, port: came_by } = packet;
            match way {
                Ok(adjacency) => {
                    release.since = now;
                    policy.counters.released(self.worker);
                    self.send_via(adjacency, frame, &meta, came_by);
                }
                Err(reason) => {
                    policy.counters.given_up(self.worker);
                    self.refuse(frame, &meta, came_by, reason);
                }
            }
            self.in_hand.put_down();
        }
        if !self.policy_hold.contains(id) {
            self.policy_hold.end_release(id);
            return false;
        }
        if in_the_way == Some(DropReason::NeighbourUnresolved)
            && let Some(address) = policy.hop.via
            && release.asks(now)
        {
            self.ask(policy.hop.port, address);
        }
        *self.policy_hold.release(id, policy.hop, now) = release;
        // Whoever comes to know the next hop wakes the worker; a port that is down is looked at now and
        // then.
        !matches!(in_the_way, Some(DropReason::NeighbourUnresolved | DropReason::PortDown))
    }

    /// The neighbour that a packet can be sent to now, behind all that was; or what is in its way.
    fn way_to(&mut self, hop: NextHop, claim: Claim) -> Result<u32, DropReason> {
        // A policy can hold only when it has an address.
        let address = hop.via.ok_or(DropReason::NeighbourUnresolved)?;
        let known = self.resolver.find(hop.port, address);
        let adjacency = known.ok_or(DropReason::NeighbourUnresolved)?;
        self.egress.check_open(hop.port, claim, &mut self.rings, &mut self.pool)?;
        Ok(adjacency)
    }
}
