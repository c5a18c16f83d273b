//! A splice: a ring between two workers, cut so that what it carries passes through other hands.
//!
//! Tests that must show that they would notice a broken protocol change what passes. A worker
//! does not know whether its rings are spliced.

use weir_state_transfer::WorkerId;

use super::mesh::{Inbox, Outbox, ring};
use super::{Item, Worker};

/// The two ends of a ring that was cut. Nothing passes but by [`Splice::take`] and
/// [`Splice::pass`].
#[derive(Debug)]
pub struct Splice {
    sent: Inbox,
    passed: Outbox,
}

impl Splice {
    /// The next item that the sender has pushed.
    pub fn take(&mut self) -> Option<Item> {
        self.sent.items.pop().ok()
    }

    /// Passes an item on, behind all that were passed before.
    pub fn pass(&mut self, item: Item) {
        self.passed.push(item);
    }

    /// Passes on the frames that go home, and what did not fit into the ring.
    pub fn flush(&mut self) {
        while let Ok(frame) = self.sent.frames.pop() {
            self.passed.send_home(frame);
        }
        self.passed.flush();
    }
}

impl Worker {
    /// Cuts the ring from a worker to this one; none when they are not connected. The receiver's
    /// half has `slots` slots.
    pub fn splice(&mut self, from: WorkerId, slots: usize) -> Option<Splice> {
        let (passed, received) = ring(slots, self.region.frames() as usize);
        let sent = self.forwarder.rings.replace_inbox(from, received)?;
        Some(Splice { sent, passed })
    }
}
