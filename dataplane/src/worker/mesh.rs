//! The rings between workers: one for each ordered pair, a worker and itself included.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, RingBuffer};
use weir_frame::Frame;
use weir_state_transfer::WorkerId;

use super::Item;

/// The end of a ring that a worker pushes into, with what did not fit.
///
/// What did not fit keeps its place: nothing overtakes it. A worker with a backlog receives no
/// new packets, so a backlog holds at most a burst a queue and what moves and neighbours add.
#[derive(Debug)]
pub struct Outbox {
    items: Producer<Item>,
    backlog: VecDeque<Item>,
    frames: Producer<Frame>,
    /// Whether something was pushed since the last look.
    pushed: bool,
}

/// The end of a ring that a worker pops from.
#[derive(Debug)]
pub struct Inbox {
    pub(super) items: Consumer<Item>,
    pub(super) frames: Consumer<Frame>,
}

/// Makes the ring from one worker to another: `slots` items, and `frames` frames on their way
/// home, as many as there are.
pub fn ring(slots: usize, frames: usize) -> (Outbox, Inbox) {
    let (items, items_out) = RingBuffer::new(slots);
    let (frames, frames_out) = RingBuffer::new(frames);
    (
        Outbox { items, backlog: VecDeque::new(), frames, pushed: false },
        Inbox { items: items_out, frames: frames_out },
    )
}

impl Outbox {
    /// Pushes an item behind everything pushed before.
    #[inline]
    pub(crate) fn push(&mut self, item: Item) {
        self.pushed = true;
        if self.backlog.is_empty() {
            if let Err(rtrb::PushError::Full(item)) = self.items.push(item) {
                self.backlog.push_back(item);
            }
        } else {
            self.backlog.push_back(item);
        }
    }

    /// Moves what did not fit into the ring; whether nothing is left over.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(item) = self.backlog.pop_front() {
            self.pushed = true;
            if let Err(rtrb::PushError::Full(item)) = self.items.push(item) {
                self.backlog.push_front(item);
                return false;
            }
        }
        true
    }

    /// Whether an item would go straight into the ring.
    pub(crate) fn has_room(&mut self) -> bool {
        self.backlog.is_empty() && !self.items.is_full()
    }

    /// Items that did not fit.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Sends a frame home. The ring has a slot for every frame of the node.
    pub(crate) fn send_home(&mut self, frame: Frame) {
        self.pushed = true;
        self.frames.push(frame).expect("the ring has a slot for every frame");
    }

    /// Whether something was pushed since the last call.
    pub(crate) fn take_pushed(&mut self) -> bool {
        std::mem::take(&mut self.pushed)
    }
}

impl Inbox {
    /// Whether nothing waits in the ring.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.frames.is_empty()
    }
}

/// The ends of a worker's rings: from and to each worker, by worker number.
#[derive(Debug, Default)]
pub struct RingEnds {
    pub(crate) outboxes: Vec<Option<Outbox>>,
    pub(crate) inboxes: Vec<Option<Inbox>>,
}

impl RingEnds {
    /// Adds the ring to a worker.
    pub fn add_outbox(&mut self, to: WorkerId, outbox: Outbox) {
        place(&mut self.outboxes, to, outbox);
    }

    /// Adds the ring from a worker.
    pub fn add_inbox(&mut self, from: WorkerId, inbox: Inbox) {
        place(&mut self.inboxes, from, inbox);
    }

    /// Puts another ring in the place of the one from a worker, if there is one: what was there.
    pub(crate) fn replace_inbox(&mut self, from: WorkerId, inbox: Inbox) -> Option<Inbox> {
        self.inboxes.get_mut(usize::from(from.0))?.as_mut().map(|end| std::mem::replace(end, inbox))
    }

    /// The ring to a worker.
    ///
    /// # Panics
    ///
    /// When there is none: the node connects all workers before it names one to another.
    #[inline]
    pub(crate) fn to(&mut self, worker: WorkerId) -> &mut Outbox {
        self.outboxes[usize::from(worker.0)].as_mut().expect("workers are connected")
    }

    /// Drops the ring to a worker. What did not fit into it must have been pushed.
    pub(crate) fn remove_outbox(&mut self, to: WorkerId) {
        if let Some(end) = self.outboxes.get_mut(usize::from(to.0)) {
            debug_assert!(end.as_ref().is_none_or(|outbox| outbox.backlog() == 0));
            *end = None;
        }
    }

    /// Drops the ring from a worker.
    pub(crate) fn remove_inbox(&mut self, from: WorkerId) {
        if let Some(end) = self.inboxes.get_mut(usize::from(from.0)) {
            *end = None;
        }
    }

    /// Workers to which there is a ring.
    pub(crate) fn peers(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let ends: Vec<_> = self.outboxes.iter().map(Option::is_some).collect();
        ends.into_iter().enumerate().filter(|(_, is_some)| *is_some).map(|(n, _)| WorkerId(n as u8))
    }

    /// How many workers there may be a ring from.
    pub(crate) fn inboxes(&self) -> usize {
        self.inboxes.len()
    }

    /// The next item from a worker.
    #[inline]
    pub(crate) fn pop(&mut self, from: WorkerId) -> Option<Item> {
        self.inboxes[usize::from(from.0)].as_mut()?.items.pop().ok()
    }

    /// The next frame that a worker sends home.
    #[inline]
    pub(crate) fn pop_frame(&mut self, from: WorkerId) -> Option<Frame> {
        self.inboxes[usize::from(from.0)].as_mut()?.frames.pop().ok()
    }

    /// Moves what did not fit into the rings; whether nothing is left over.
    pub(crate) fn flush(&mut self) -> bool {
        // Not `all`, which would stop at the first ring that is full.
        self.outboxes
            .iter_mut()
            .flatten()
            .filter_map(|outbox| (!outbox.flush()).then_some(()))
            .count()
            == 0
    }

    /// Whether nothing waits in the rings to this worker, nor outside those from it.
    pub(crate) fn is_idle(&self) -> bool {
        self.inboxes.iter().flatten().all(Inbox::is_empty)
            && self.outboxes.iter().flatten().all(|outbox| outbox.backlog() == 0)
    }

    /// Workers that were pushed something since the last call.
    pub(crate) fn take_pushed(&mut self) -> impl Iterator<Item = WorkerId> + '_ {
        let ends = self.outboxes.iter_mut().enumerate();
        ends.filter_map(|(worker, outbox)| {
            outbox.as_mut()?.take_pushed().then_some(WorkerId(worker as u8))
        })
    }
}

fn place<T>(ends: &mut Vec<Option<T>>, worker: WorkerId, end: T) {
    let index = usize::from(worker.0);
    if ends.len() <= index {
        ends.resize_with(index + 1, || None);
    }
    ends[index] = Some(end);
}
