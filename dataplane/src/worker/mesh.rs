//! The rings between workers: one for each ordered pair, a worker and itself included.

use std::collections::VecDeque;

use rtrb::{Consumer, Producer, RingBuffer};
use weir_frame::Frame;
use weir_state_transfer::{PortId, WorkerId};

use super::Item;

/// Frames for transmission that may wait outside a ring that is full.
pub const ASIDE: usize = 256;

/// The end of a ring that a worker pushes into, with what did not fit.
///
/// What did not fit keeps its place: nothing overtakes it. A worker always pops its rings, as two
/// that waited for each other would wait for ever; what it pops it may have to push on, and only
/// frames for transmission, which nobody behind them counts on, can be refused. So there is a
/// bound for them, and the rest is bounded where it comes from: a worker receives and releases
/// nothing while packets that it has steered wait here, and moves and neighbours have quotas.
#[derive(Debug)]
pub struct Outbox {
    items: Producer<Item>,
    backlog: VecDeque<Item>,
    /// Frames for transmission in the backlog: at most [`ASIDE`].
    to_transmit: usize,
    /// Whether one was refused since the backlog was last empty.
    refused: bool,
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
    // So that nothing is allocated while packets pass: as much again for what is not transmitted.
    let backlog = VecDeque::with_capacity(2 * ASIDE);
    (
        Outbox { items, backlog, to_transmit: 0, refused: false, frames, pushed: false },
        Inbox { items: items_out, frames: frames_out },
    )
}

impl Outbox {
    /// Pushes an item behind everything pushed before.
    #[inline]
    pub(crate) fn push(&mut self, item: Item) {
        self.pushed = true;
        if !self.backlog.is_empty() {
            self.set_aside(item);
        } else if let Err(rtrb::PushError::Full(item)) = self.items.push(item) {
            self.set_aside(item);
        }
    }

    #[cold]
    fn set_aside(&mut self, item: Item) {
        self.to_transmit += usize::from(matches!(item, Item::Transmit(..)));
        self.backlog.push_back(item);
    }

    /// Pushes a frame for transmission behind everything pushed before.
    ///
    /// # Errors
    ///
    /// Gives the frame back when as many as may wait outside the ring.
    #[inline]
    pub(crate) fn transmit(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        if self.to_transmit >= ASIDE {
            self.refused = true;
            return Err(frame);
        }
        self.push(Item::Transmit(port, frame));
        Ok(())
    }

    /// Moves what did not fit into the ring; whether nothing is left over.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(item) = self.backlog.pop_front() {
            self.pushed = true;
            let is_to_transmit = matches!(item, Item::Transmit(..));
            if let Err(rtrb::PushError::Full(item)) = self.items.push(item) {
                self.backlog.push_front(item);
                return false;
            }
            self.to_transmit -= usize::from(is_to_transmit);
        }
        self.refused = false;
        true
    }

    /// Whether the worker should receive and release nothing until more has fitted into the ring.
    ///
    /// Waiting saves packets when the other worker was only late. Where frames have been refused
    /// it is overloaded, and packets that leave another way need not suffer for it.
    fn holds_up(&self) -> bool {
        let steered = self.backlog.len() - self.to_transmit;
        steered > 0 || (self.to_transmit > 0 && !self.refused)
    }

    /// Whether an item would go straight into the ring.
    pub(crate) fn has_room(&mut self) -> bool {
        self.backlog.is_empty() && !self.items.is_full()
    }

    /// Items that were pushed and have not been popped.
    pub(crate) fn waiting(&self) -> usize {
        self.items.buffer().capacity() - self.items.slots() + self.backlog.len()
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
        self.connected(worker).expect("workers are connected")
    }

    /// The ring to a worker, if there is one yet.
    #[inline]
    pub(crate) fn connected(&mut self, worker: WorkerId) -> Option<&mut Outbox> {
        self.outboxes.get_mut(usize::from(worker.0))?.as_mut()
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

    /// Items in the fullest of the rings to this worker.
    pub(crate) fn longest(&self) -> usize {
        let inboxes = self.inboxes.iter().flatten();
        inboxes.map(|inbox| inbox.items.slots()).max().unwrap_or(0)
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

    /// Whether nothing should be received, or released by a move, until more has fitted into the
    /// rings.
    pub(crate) fn hold_up(&self) -> bool {
        self.outboxes.iter().flatten().any(Outbox::holds_up)
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use weir_frame::{FrameSize, Region};

    use super::*;

    const SLOTS: usize = 4;
    const PORT: PortId = PortId(1);

    /// What is not for transmission.
    fn other() -> Item {
        Item::Resolve(PORT, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Takes everything in order: the first byte of each frame, none for another item.
    fn pop_all(inbox: &mut Inbox) -> Vec<Option<u8>> {
        let items = std::iter::from_fn(|| inbox.items.pop().ok());
        items
            .map(|item| match item {
                Item::Transmit(_, frame) => frame.data().first().copied(),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn frames_for_transmission_are_refused_at_their_bound_and_nothing_else_is() {
        let most = SLOTS + ASIDE;
        let (_region, mut frames) = Region::heap(most as u32 + 2, FrameSize::B2048);
        let (mut outbox, mut inbox) = ring(SLOTS, 1);
        let room = outbox.backlog.capacity();
        let mut sent = Vec::new();
        let mut offer = |outbox: &mut Outbox, number: usize| {
            let mut frame = frames.pop().expect("a frame for each");
            frame.write(&[number as u8]).expect("one byte");
            outbox.transmit(PORT, frame).is_ok()
        };
        for number in 0..most {
            assert!(offer(&mut outbox, number), "{number}");
            sent.push(Some(number as u8));
        }
        assert!(!offer(&mut outbox, most), "the bound");
        outbox.push(other());
        sent.push(None);
        assert_eq!((outbox.backlog(), outbox.to_transmit), (ASIDE + 1, ASIDE));

        let mut passed = pop_all(&mut inbox);
        assert!(!outbox.flush());
        assert!(offer(&mut outbox, most), "as many as have gone may come");
        sent.push(Some(most as u8));
        while !outbox.flush() {
            passed.extend(pop_all(&mut inbox));
        }
        passed.extend(pop_all(&mut inbox));
        assert_eq!(passed, sent, "in order");
        assert_eq!((outbox.to_transmit, outbox.backlog.capacity()), (0, room));
    }

    #[test]
    fn receiving_waits_for_what_is_late_and_not_for_what_is_refused() {
        let (_region, mut frames) = Region::heap((SLOTS + ASIDE) as u32 + 1, FrameSize::B2048);
        let (mut outbox, mut inbox) = ring(SLOTS, 1);
        for _ in 0..SLOTS {
            outbox.push(other());
        }
        assert!(!outbox.holds_up(), "it has fitted");
        for frame in frames.drain(..ASIDE) {
            outbox.transmit(PORT, frame).expect("below the bound");
        }
        assert!(outbox.holds_up(), "the other may be late");
        outbox.transmit(PORT, frames.pop().expect("one more")).expect_err("the bound");
        assert!(!outbox.holds_up(), "the other is overloaded");
        outbox.push(other());
        assert!(outbox.holds_up(), "this is not refused, so it must not become more");
        while !outbox.flush() {
            pop_all(&mut inbox);
        }
        assert!(!outbox.holds_up());
        pop_all(&mut inbox);
    }
}
