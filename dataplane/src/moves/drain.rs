//! When what was processed has left: at the source, and at workers that transmit for it.

use std::collections::VecDeque;
use std::net::IpAddr;

use weir_state_transfer::{MoveId, PortId, WorkerId};

use super::Budget;
use crate::packet::Meta;
use crate::worker::{Forwarder, Item, Message, MoveSpec, Packet};

/// How many packets each transmit queue must have completed.
pub(crate) type DrainTarget = Vec<u64>;

/// Frames handed over for transmission that the source of a move waits for.
#[derive(Debug)]
pub(super) struct Drain {
    id: MoveId,
    source: WorkerId,
    target: DrainTarget,
}

impl Drain {
    /// What was handed to this worker up to here, for the source on another.
    pub(super) fn new(id: MoveId, source: WorkerId, forwarder: &Forwarder) -> Self {
        Self { id, source, target: forwarder.drain_target() }
    }

    /// Tells the source once it has left; whether it has.
    pub(super) fn answer(&self, forwarder: &mut Forwarder) -> bool {
        let left = forwarder.has_drained(&self.target);
        if left {
            forwarder.hand_out(self.source, Item::Move(self.id, Message::Drained));
        }
        left
    }
}

/// What the source has processed under the move, from the last marker on until it is gone.
///
/// What waits for a next hop may wait for seconds, and a move does not: when all that was sent has
/// left, these packets go to the destination's worker, in front of the state, and wait there.
#[derive(Debug)]
pub(super) struct Departure {
    attempt: Option<Attempt>,
    /// Taken out of this worker's park, for the destination's.
    waiting: VecDeque<((PortId, IpAddr), Packet)>,
}

/// One wait for all that was sent up to its beginning.
#[derive(Debug)]
struct Attempt {
    target: DrainTarget,
    /// Workers that transmit for this one and have not answered.
    others: usize,
    /// Packets under the move that waited for next hops when it began.
    parked: usize,
}

impl Departure {
    /// Nothing is on its way.
    pub(super) fn new(spec: &MoveSpec) -> Self {
        let most = if spec.from_worker == spec.to_worker { 0 } else { spec.park };
        Self { attempt: None, waiting: VecDeque::with_capacity(most) }
    }

    /// Whether all that was sent has left, and what was not waits in [`Self::hand_over`].
    pub(super) fn is_over(
        &mut self,
        spec: &MoveSpec,
        budget: &mut Budget,
        forwarder: &mut Forwarder,
    ) -> bool {
        let attempt = self.attempt.get_or_insert_with(|| Attempt::new(spec, budget, forwarder));
        if attempt.others > 0 || !forwarder.has_drained(&attempt.target) {
            return false;
        }
        // One that was let go meanwhile was sent behind the target.
        if attempt.parked != parked(spec, budget, forwarder) {
            self.attempt = Some(Attempt::new(spec, budget, forwarder));
            return false;
        }
        // Of one worker, the destination's packets get in line behind them where they are.
        if attempt.parked > 0 && spec.from_worker != spec.to_worker {
            let moves = |meta: &Meta| spec.concerns(&meta.key, meta.hash);
            forwarder.unpark(moves, |place, packet| self.waiting.push_back((place, packet)));
        }
        true
    }

    /// Another worker has sent what was handed to it.
    pub(super) fn other_has_drained(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.others = attempt.others.saturating_sub(1);
        }
    }

    /// Hands over what waits for next hops, as far as there is room; whether nothing is left.
    pub(super) fn hand_over(
        &mut self,
        to: WorkerId,
        budget: &mut Budget,
        forwarder: &mut Forwarder,
    ) -> bool {
        while !self.waiting.is_empty() && forwarder.rings.to(to).has_room() && budget.packet() {
            let Some(((port, address), packet)) = self.waiting.pop_front() else { break };
            forwarder.hand_out(to, Item::Parked(port, address, packet));
        }
        self.waiting.is_empty()
    }

    /// Packets that are on their way from park to park.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Attempt {
    fn new(spec: &MoveSpec, budget: &mut Budget, forwarder: &mut Forwarder) -> Self {
        let workers = forwarder.transmitters();
        let others = workers.len();
        for worker in workers {
            forwarder.hand_out(worker, Item::Move(spec.id, Message::Drain));
        }
        let parked = parked(spec, budget, forwarder);
        Self { target: forwarder.drain_target(), others, parked }
    }
}

/// Packets under the move that wait for their next hops.
fn parked(spec: &MoveSpec, budget: &mut Budget, forwarder: &Forwarder) -> usize {
    budget.looked_at(forwarder.parked_len());
    forwarder.count_parked(|meta| spec.concerns(&meta.key, meta.hash))
}
