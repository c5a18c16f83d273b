//! The destination of a move: holds packets until their flow arrives, and releases in order.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use super::{Guarantee, Hold, Steerers, Verdict};
use crate::id::WorkerId;

/// The destination end of one move.
///
/// `G` is the group that arrives as a whole, a bucket or a flow; `P` is a packet.
#[derive(Clone, Debug)]
pub struct Destination<G, P> {
    guarantee: Guarantee,
    hold: Hold<G, P>,
    phase: Phase,
    /// Groups that the source has no state of: they begin here.
    unknown: HashSet<G>,
    /// Groups that may be released, oldest first; each has packets in the hold.
    ready: VecDeque<G>,
    steerers: Steerers,
    marked: Steerers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has arrived and nobody has asked to undo.
    Holding,
    /// The source has been asked to undo.
    Asking,
    /// Something has arrived, or the source has refused to undo: the move finishes.
    Arriving,
    /// END is in.
    Ended,
    /// What is held goes back to the source.
    Relaying,
}

impl<G: Copy + Eq + Hash + Ord, P> Destination<G, P> {
    /// The destination of a move, with room for `quota` held packets. `steerers` will send a
    /// marker each if the move is undone.
    pub fn new(guarantee: Guarantee, steerers: Steerers, quota: usize) -> Self {
        Self {
            guarantee,
            hold: Hold::new(quota),
            phase: Phase::Holding,
            unknown: HashSet::with_capacity(quota),
            ready: VecDeque::with_capacity(quota),
            steerers,
            marked: Steerers::default(),
        }
    }

    /// A packet under the move; `arrived` says whether its group's state came by this move.
    pub fn packet(&mut self, group: G, arrived: bool, packet: P) -> Verdict<P> {
        let here = match self.phase {
            Phase::Ended => true,
            Phase::Relaying => false,
            Phase::Holding | Phase::Asking | Phase::Arriving => {
                arrived || self.unknown.contains(&group)
            }
        };
        match self.guarantee {
            Guarantee::Ordered if here && !self.hold.contains(group) => {
                return Verdict::Process(packet);
            }
            Guarantee::None | Guarantee::LossFree if here => return Verdict::Process(packet),
            Guarantee::None => return Verdict::InTransit(packet),
            Guarantee::LossFree | Guarantee::Ordered => {}
        }
        match self.hold.push(group, packet) {
            Ok(first) => Verdict::Held { first },
            Err(packet) => Verdict::Full(packet),
        }
    }

    /// The state of a group is in place: its packets may be released.
    pub fn arrived(&mut self, group: G) {
        self.phase = Phase::Arriving;
        self.release(group);
    }

    /// The source has no state of the group, and no packet of it can reach the source any more.
    ///
    /// Past a quota of such groups the others wait for END.
    pub fn unknown(&mut self, group: G) {
        self.phase = Phase::Arriving;
        if self.unknown.len() < self.hold.quota() {
            self.unknown.insert(group);
            self.release(group);
        }
    }

    /// Everything has arrived: what is still held begins here.
    pub fn ended(&mut self) {
        self.phase = Phase::Ended;
        self.release_rest();
    }

    /// The next packet to process, oldest first within its group.
    pub fn next_release(&mut self) -> Option<P> {
        let group = *self.ready.front()?;
        let packet = self.hold.pop(group);
        if !self.hold.contains(group) {
            self.ready.pop_front();
        }
        packet
    }

    /// Whether the move has ended here and nothing waits.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Ended && self.hold.is_empty()
    }

    /// Whether the source must be asked to undo because the hold fills; true once.
    ///
    /// Half the quota is the threshold, so that the question and its answer fit in the rest.
    pub fn fills(&mut self) -> bool {
        self.hold.is_half_full() && self.ask()
    }

    /// The node asks to undo: whether the source must be asked.
    pub fn ask(&mut self) -> bool {
        let first = self.phase == Phase::Holding;
        if first {
            self.phase = Phase::Asking;
        }
        first
    }

    /// The source takes everything back.
    pub fn undo_accepted(&mut self) {
        debug_assert_eq!(self.phase, Phase::Asking, "the source answers what it was asked");
        self.phase = Phase::Relaying;
    }

    /// The source has exported already: the move finishes.
    pub fn undo_refused(&mut self) {
        if self.phase == Phase::Asking {
            self.phase = Phase::Arriving;
        }
    }

    /// A steerer's marker on its way back: it has sent everything that it steered here.
    pub fn marker(&mut self, steerer: WorkerId) {
        self.marked.insert(steerer);
    }

    /// Whether what is held goes back to the source.
    pub fn is_relaying(&self) -> bool {
        self.phase == Phase::Relaying
    }

    /// The next packet to send back to the source.
    pub fn next_relay(&mut self) -> Option<P> {
        if self.phase != Phase::Relaying {
            return None;
        }
        if self.ready.is_empty() {
            self.release_rest();
        }
        self.next_release()
    }

    /// Whether everything has been sent back and nothing more will come.
    pub fn is_relayed(&self) -> bool {
        self.is_relaying() && self.hold.is_empty() && self.marked.covers(self.steerers)
    }

    /// The packets that wait.
    pub fn hold(&self) -> &Hold<G, P> {
        &self.hold
    }

    fn release(&mut self, group: G) {
        if self.hold.mark(group) {
            self.ready.push_back(group);
        }
    }

    /// Sorted, so that a run can be repeated from its seed.
    fn release_rest(&mut self) {
        let mut rest: Vec<_> = self.hold.unmarked().collect();
        rest.sort_unstable();
        for group in rest {
            self.release(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WorkerId = WorkerId(0);

    fn promising(guarantee: Guarantee) -> Destination<char, u32> {
        Destination::new(guarantee, [A].into_iter().collect(), 4)
    }

    fn destination() -> Destination<char, u32> {
        promising(Guarantee::Ordered)
    }

    #[test]
    fn holds_until_the_group_arrives_and_lets_nothing_overtake() {
        let mut destination = destination();
        assert_eq!(destination.packet('a', false, 1), Verdict::Held { first: true });
        assert_eq!(destination.packet('b', false, 2), Verdict::Held { first: true });
        destination.arrived('a');
        assert_eq!(destination.packet('a', true, 3), Verdict::Held { first: false });
        assert_eq!((destination.next_release(), destination.next_release()), (Some(1), Some(3)));
        assert_eq!(destination.next_release(), None, "b has not arrived");
        assert_eq!(destination.packet('a', true, 4), Verdict::Process(4));
        destination.ended();
        assert!(!destination.is_done());
        assert_eq!(destination.next_release(), Some(2));
        assert!(destination.is_done());
    }

    #[test]
    fn a_flow_that_the_source_does_not_know_begins_here() {
        let mut destination = destination();
        assert_eq!(destination.packet('a', false, 1), Verdict::Held { first: true });
        destination.unknown('a');
        assert_eq!(destination.next_release(), Some(1));
        assert_eq!(destination.packet('a', false, 2), Verdict::Process(2));
    }

    #[test]
    fn asks_once_to_undo_when_more_than_half_full_and_relays_in_order() {
        let mut destination = destination();
        for n in 0..2 {
            assert_eq!(destination.packet('a', false, n), Verdict::Held { first: n == 0 });
            assert!(!destination.fills());
        }
        assert_eq!(destination.packet('b', false, 2), Verdict::Held { first: true });
        assert!(destination.fills() && !destination.fills());
        destination.undo_accepted();
        assert_eq!((destination.next_relay(), destination.next_relay()), (Some(0), Some(1)));
        assert_eq!(destination.packet('a', false, 3), Verdict::Held { first: true });
        destination.marker(A);
        assert!(!destination.is_relayed());
        assert_eq!((destination.next_relay(), destination.next_relay()), (Some(2), Some(3)));
        assert!(destination.is_relayed());
    }

    #[test]
    fn finishes_when_the_source_refuses_to_undo() {
        let mut destination = destination();
        assert!(destination.ask() && !destination.ask());
        destination.undo_refused();
        assert!(!destination.is_relaying());
        destination.ended();
        assert!(destination.is_done());
    }

    #[test]
    fn a_loss_free_move_holds_and_lets_newer_packets_overtake() {
        let mut destination = promising(Guarantee::LossFree);
        assert_eq!(destination.packet('a', false, 1), Verdict::Held { first: true });
        destination.arrived('a');
        assert_eq!(destination.packet('a', true, 2), Verdict::Process(2));
        assert_eq!(destination.next_release(), Some(1));
    }

    #[test]
    fn without_a_promise_nothing_is_held() {
        let mut destination = promising(Guarantee::None);
        assert_eq!(destination.packet('a', false, 1), Verdict::InTransit(1));
        destination.arrived('a');
        assert_eq!(destination.packet('a', true, 2), Verdict::Process(2));
        assert_eq!(destination.packet('b', false, 3), Verdict::InTransit(3));
        destination.ended();
        assert_eq!(destination.packet('b', false, 4), Verdict::Process(4));
        assert!(destination.is_done());
    }

    #[test]
    fn says_when_it_is_full() {
        let mut destination = Destination::new(Guarantee::Ordered, Steerers::default(), 1);
        assert_eq!(destination.packet('a', false, 1), Verdict::Held { first: true });
        assert_eq!(destination.packet('a', false, 2), Verdict::Full(2));
    }
}
