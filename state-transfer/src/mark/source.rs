//! The source of a move: processes until every marker is in, then exports; or takes back.

use std::collections::VecDeque;

use super::{Guarantee, Steerers, Verdict};
use crate::id::WorkerId;

/// The source end of one move.
#[derive(Clone, Debug)]
pub struct Source<P> {
    guarantee: Guarantee,
    steerers: Steerers,
    marked: Steerers,
    phase: Phase,
    quota: usize,
    /// Sent back by the destination: older than anything in `direct`.
    relayed: VecDeque<P>,
    /// Steered here after a steerer flipped back.
    direct: VecDeque<P>,
    relay_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Markers are missing, or what was sent has not left.
    Draining,
    Exporting,
    Exported,
    Undoing,
}

/// The source's answer to a destination that asks to undo the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoAnswer {
    /// Nothing has been exported: the destination relays everything back.
    Accepted,
    /// A flow has been exported: the move finishes.
    Refused,
}

impl<P> Source<P> {
    /// The source of a move that is sent a marker by each of `steerers`, and that can keep `quota`
    /// packets while the move is undone.
    pub fn new(guarantee: Guarantee, steerers: Steerers, quota: usize) -> Self {
        Self {
            guarantee,
            steerers,
            marked: Steerers::default(),
            phase: Phase::Draining,
            quota,
            relayed: VecDeque::with_capacity(quota),
            direct: VecDeque::with_capacity(quota),
            relay_ended: false,
        }
    }

    /// A steerer's marker: it has sent everything that it steered the old way.
    pub fn marker(&mut self, steerer: WorkerId) {
        self.marked.insert(steerer);
    }

    /// Whether as many markers are in as the export waits for: that of every steerer, or the first
    /// when nothing is promised.
    pub fn is_marked(&self) -> bool {
        match self.guarantee {
            Guarantee::None => self.marked != Steerers::default(),
            Guarantee::LossFree | Guarantee::Ordered => self.all_marked(),
        }
    }

    /// Whether the export waits besides until what was processed has left the node.
    pub fn drains(&self) -> bool {
        self.guarantee == Guarantee::Ordered
    }

    /// Nothing is waited for any more: the export may begin.
    pub fn drained(&mut self) {
        debug_assert!(self.is_marked(), "the transmit is drained behind the last marker");
        if self.phase == Phase::Draining {
            self.phase = Phase::Exporting;
        }
    }

    /// Whether flows may be exported.
    pub fn may_export(&self) -> bool {
        self.phase == Phase::Exporting
    }

    /// Everything has been exported and END sent.
    pub fn exported(&mut self) {
        self.phase = Phase::Exported;
    }

    /// Whether END has been sent.
    pub fn is_exported(&self) -> bool {
        self.phase == Phase::Exported
    }

    /// Whether nothing more can come here: END has been sent, and every marker is in.
    pub fn is_done(&self) -> bool {
        self.is_exported() && self.all_marked()
    }

    /// The destination, or the node, asks to undo.
    pub fn undo(&mut self) -> UndoAnswer {
        match self.phase {
            Phase::Draining | Phase::Undoing => {
                self.phase = Phase::Undoing;
                UndoAnswer::Accepted
            }
            Phase::Exporting | Phase::Exported => UndoAnswer::Refused,
        }
    }

    /// Whether the move is being undone.
    pub fn is_undoing(&self) -> bool {
        self.phase == Phase::Undoing
    }

    /// A packet under the move that `steerer` sent here; `is_here` says whether there is state of
    /// its flow.
    pub fn packet(
        &mut self,
        steerer: WorkerId,
        is_here: impl FnOnce() -> bool,
        packet: P,
    ) -> Verdict<P> {
        match (self.marked.contains(steerer), self.phase) {
            (false, Phase::Draining | Phase::Undoing) => Verdict::Process(packet),
            // Before the last marker there is an export only when nothing is promised.
            (false, Phase::Exporting | Phase::Exported) => {
                if is_here() {
                    Verdict::Process(packet)
                } else {
                    Verdict::InTransit(packet)
                }
            }
            (true, Phase::Undoing) if self.guarantee == Guarantee::None => Verdict::Process(packet),
            (true, Phase::Undoing) => self.keep(packet, |source| &mut source.direct),
            (true, Phase::Draining | Phase::Exporting | Phase::Exported) => Verdict::Stray(packet),
        }
    }

    /// A packet that the destination sends back.
    pub fn relayed(&mut self, packet: P) -> Verdict<P> {
        self.keep(packet, |source| &mut source.relayed)
    }

    /// The destination has sent back everything, and nothing more will reach it.
    pub fn relay_ended(&mut self) {
        self.relay_ended = true;
    }

    /// The next packet to process while the move is undone, if one may be processed.
    pub fn next_release(&mut self) -> Option<P> {
        if !self.all_marked() {
            return None;
        }
        match self.relayed.pop_front() {
            None if self.relay_ended => self.direct.pop_front(),
            packet => packet,
        }
    }

    /// Whether the move has been undone: the source goes on as if it had not begun.
    pub fn is_undone(&self) -> bool {
        self.phase == Phase::Undoing && self.all_marked() && self.relay_ended && self.kept() == 0
    }

    /// Packets that wait here while the move is undone.
    pub fn kept(&self) -> usize {
        self.relayed.len() + self.direct.len()
    }

    /// Whether more than half of those that may wait do.
    pub fn is_half_full(&self) -> bool {
        self.kept() * 2 > self.quota
    }

    fn all_marked(&self) -> bool {
        self.marked.covers(self.steerers)
    }

    fn keep(&mut self, packet: P, queue: fn(&mut Self) -> &mut VecDeque<P>) -> Verdict<P> {
        if self.kept() >= self.quota {
            return Verdict::Full(packet);
        }
        let queue = queue(self);
        queue.push_back(packet);
        Verdict::Held { first: queue.len() == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WorkerId = WorkerId(0);
    const B: WorkerId = WorkerId(1);

    fn promising(guarantee: Guarantee) -> Source<u32> {
        Source::new(guarantee, [A, B].into_iter().collect(), 8)
    }

    fn source() -> Source<u32> {
        promising(Guarantee::Ordered)
    }

    fn packet(source: &mut Source<u32>, steerer: WorkerId, packet: u32) -> Verdict<u32> {
        source.packet(steerer, || panic!("only asked when nothing is promised"), packet)
    }

    #[test]
    fn processes_until_the_steerers_own_marker_and_exports_after_the_last() {
        let mut source = source();
        source.marker(A);
        assert_eq!(packet(&mut source, B, 1), Verdict::Process(1));
        assert_eq!(packet(&mut source, A, 2), Verdict::Stray(2));
        assert!(!source.is_marked() && !source.may_export());
        source.marker(B);
        assert!(source.is_marked() && !source.may_export());
        source.drained();
        assert!(source.may_export());
    }

    #[test]
    fn takes_back_what_was_relayed_before_what_came_directly() {
        let mut source = source();
        source.marker(A);
        assert_eq!(source.undo(), UndoAnswer::Accepted);
        assert_eq!(packet(&mut source, A, 30), Verdict::Held { first: true });
        assert_eq!(source.relayed(20), Verdict::Held { first: true });
        assert_eq!(packet(&mut source, B, 10), Verdict::Process(10));
        assert_eq!(source.next_release(), None, "B may still send the old way");
        source.marker(B);
        assert_eq!(source.next_release(), Some(20));
        assert_eq!(source.next_release(), None, "more may be relayed");
        source.relay_ended();
        assert!(!source.is_undone());
        assert_eq!(source.next_release(), Some(30));
        assert!(source.is_undone());
    }

    #[test]
    fn refuses_to_undo_once_it_exports() {
        let mut source = source();
        source.marker(A);
        source.marker(B);
        source.drained();
        assert_eq!(source.undo(), UndoAnswer::Refused);
        assert!(source.may_export());
    }

    #[test]
    fn a_loss_free_move_waits_for_all_markers_and_for_no_drain() {
        let mut source = promising(Guarantee::LossFree);
        source.marker(A);
        assert!(!source.is_marked() && !source.drains());
        assert_eq!(packet(&mut source, B, 1), Verdict::Process(1));
        source.marker(B);
        assert!(source.is_marked());
    }

    #[test]
    fn without_a_promise_it_exports_at_the_first_marker_and_processes_what_is_still_here() {
        let mut source = promising(Guarantee::None);
        assert!(!source.is_marked());
        source.marker(A);
        assert!(source.is_marked() && !source.drains());
        assert_eq!(packet(&mut source, B, 1), Verdict::Process(1));
        source.drained();
        assert_eq!(source.packet(B, || true, 2), Verdict::Process(2));
        assert_eq!(source.packet(B, || false, 3), Verdict::InTransit(3));
        source.exported();
        assert!(!source.is_done(), "B may still send the old way");
        assert_eq!(source.packet(B, || false, 4), Verdict::InTransit(4));
        source.marker(B);
        assert!(source.is_done());
    }

    #[test]
    fn without_a_promise_an_undone_move_keeps_nothing() {
        let mut source = promising(Guarantee::None);
        assert_eq!(source.undo(), UndoAnswer::Accepted);
        source.marker(A);
        assert_eq!(packet(&mut source, A, 1), Verdict::Process(1));
        source.relay_ended();
        assert!(!source.is_undone(), "B may still send the old way");
        source.marker(B);
        assert!(source.is_undone());
    }

    #[test]
    fn keeps_no_more_than_its_quota() {
        let mut source = Source::new(Guarantee::Ordered, [A].into_iter().collect(), 1);
        assert_eq!(source.undo(), UndoAnswer::Accepted);
        assert_eq!(source.relayed(1), Verdict::Held { first: true });
        assert_eq!(source.relayed(2), Verdict::Full(2));
    }
}
