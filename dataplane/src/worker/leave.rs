//! How a worker leaves: nothing that it has steered, sent or borrowed is lost.
//!
//! It gives its queues and ports up and sends a fence to every worker, behind the last packet that
//! it steered; when all have passed, others poll its queues. Then the others stop sending to it,
//! and it ends when its rings are empty and its transmit queues are drained.

use weir_state_transfer::WorkerId;

use super::{Event, Forwarder, GivenUp, Item, Retired, Worker};

impl Worker {
    pub(super) fn give_up(&mut self) {
        self.steer_burst();
        for peer in self.forwarder.rings.peers() {
            self.forwarder.hand_out(peer, Item::Fence);
        }
        let given = GivenUp {
            queues: std::mem::take(&mut self.queues),
            owners: self.forwarder.resolver.give_up_ports(),
        };
        self.forwarder.tell(Event::GaveUp(Box::new(given)));
    }

    /// Sends nothing more to leaving workers, once what did not fit into the rings has been
    /// pushed; frames of others are not theirs any more.
    pub(super) fn disconnect_leaving(&mut self) {
        if self.disconnecting.is_empty() || !self.forwarder.rings.flush() {
            return;
        }
        self.forwarder.sort_frames();
        self.send_frames_home();
        for worker in std::mem::take(&mut self.disconnecting) {
            self.forwarder.rings.remove_outbox(worker);
            self.forwarder.tell(Event::Disconnected(worker));
        }
    }

    /// Takes the last things that a worker that has ended has sent.
    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        while let Some(item) = self.forwarder.rings.pop(worker) {
            self.take(worker, item);
        }
        self.forwarder.take_home(worker);
        self.forwarder.rings.remove_inbox(worker);
    }

    /// Ends, once there is nothing left to do. Whether it has.
    pub(super) fn retire(&mut self) -> bool {
        let forwarder = &mut self.forwarder;
        if !forwarder.rings.is_idle() || !forwarder.egress.is_drained() {
            return false;
        }
        let parked = forwarder.parked_len() > 0;
        if parked || !self.moves.is_empty() || !forwarder.policy_hold.is_empty() {
            return false;
        }
        let ways_out = forwarder.egress.take_own();
        let mut frames: Vec<_> = forwarder.pool.take_free().collect();
        for home in forwarder.pool.away_homes() {
            frames.extend(forwarder.pool.take_away(home, usize::MAX));
        }
        forwarder.tell(Event::Retired(Box::new(Retired { ways_out, frames })));
        forwarder.flush();
        self.publish();
        true
    }
}

impl Forwarder {
    /// Frees the free frames again: those with a new home go there.
    pub(super) fn sort_frames(&mut self) {
        let frames: Vec<_> = self.pool.take_free().collect();
        self.pool.adopt(frames);
    }

    /// Takes the frames that a worker has sent home.
    pub(super) fn take_home(&mut self, from: WorkerId) {
        while let Some(frame) = self.rings.pop_frame(from) {
            self.counters.frames.returned_in.add(1);
            self.pool.free(frame);
        }
    }
}
