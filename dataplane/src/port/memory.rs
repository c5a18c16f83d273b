//! Ports in memory: a wire whose other end a test or a bench plays.
//!
//! The wire has the four rings of an AF_XDP socket, so that the worker loop meets the same
//! conditions: no frame to receive into, completions that come late, a full transmit ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};
use weir_frame::{Frame, Pool};

use super::{BURST, Link};

/// The receive side of a port in memory.
#[derive(Debug)]
pub struct MemoryRx {
    rx: Consumer<Frame>,
    fill: Producer<Frame>,
    /// Frames pushed to the fill ring less those that came back as packets.
    lent: usize,
}

/// The transmit side of a port in memory.
#[derive(Debug)]
pub struct MemoryTx {
    tx: Producer<Frame>,
    completed: Consumer<Frame>,
    submitted: u64,
    done: u64,
    down: Arc<AtomicBool>,
}

/// The far end of a port in memory: what the kernel is to an AF_XDP socket.
#[derive(Debug)]
pub struct Wire {
    rx: Producer<Frame>,
    fill: Consumer<Frame>,
    tx: Consumer<Frame>,
    completed: Producer<Frame>,
    down: Arc<AtomicBool>,
}

/// A port in memory whose rings have `slots` slots, and its far end.
pub fn memory(slots: usize) -> (MemoryRx, MemoryTx, Wire) {
    let (rx_far, rx) = RingBuffer::new(slots);
    let (fill, fill_far) = RingBuffer::new(slots);
    let (tx, tx_far) = RingBuffer::new(slots);
    let (completed_far, completed) = RingBuffer::new(slots);
    let down = Arc::<AtomicBool>::default();
    (
        MemoryRx { rx, fill, lent: 0 },
        MemoryTx { tx, completed, submitted: 0, done: 0, down: down.clone() },
        Wire { rx: rx_far, fill: fill_far, tx: tx_far, completed: completed_far, down },
    )
}

impl MemoryRx {
    pub(super) fn receive(&mut self, pool: &mut Pool, out: &mut ArrayVec<Frame, BURST>) {
        while !out.is_full()
            && let Ok(frame) = self.rx.pop()
        {
            self.lent -= 1;
            out.push(frame);
        }
        while !self.fill.is_full()
            && let Some(frame) = pool.alloc()
        {
            self.lent += 1;
            self.fill.push(frame).expect("the ring has room");
        }
    }

    pub(super) fn lent(&self) -> usize {
        self.lent
    }
}

impl MemoryTx {
    pub(super) fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        self.tx.push(frame).map_err(|rtrb::PushError::Full(frame)| frame)?;
        self.submitted += 1;
        Ok(())
    }

    pub(super) fn has_room(&self) -> bool {
        !self.tx.is_full()
    }

    pub(super) fn slots(&self) -> usize {
        self.tx.buffer().capacity()
    }

    /// Frees the frames that have left. A wire for which nothing waits counts as up; one that was
    /// dropped is gone.
    pub(super) fn flush(&mut self, pool: &mut Pool) -> Link {
        while let Ok(frame) = self.completed.pop() {
            self.done += 1;
            pool.free(frame);
        }
        let waiting = self.tx.slots() < self.tx.buffer().capacity();
        if waiting && self.tx.is_abandoned() {
            Link::Gone
        } else if waiting && self.down.load(Ordering::Relaxed) {
            Link::Down
        } else {
            Link::Up
        }
    }

    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }

    pub(super) fn completed(&self) -> u64 {
        self.done
    }
}

impl Wire {
    /// Puts a packet on the wire towards the router. False, and nothing sent, when the port has
    /// given no frame to receive into or its receive ring is full.
    pub fn inject(&mut self, packet: &[u8]) -> bool {
        if self.rx.is_full() {
            return false;
        }
        let Ok(mut frame) = self.fill.pop() else { return false };
        frame.write(packet).expect("the packet fits in a frame");
        self.rx.push(frame).expect("the ring has room");
        true
    }

    /// Takes the next packet that the router has sent, unless the wire is down. Its frame is not
    /// completed yet.
    pub fn take(&mut self) -> Option<Frame> {
        if self.is_down() { None } else { self.tx.pop().ok() }
    }

    /// Takes the wire down, as a device is: it takes no packet, and keeps those that wait.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Whether the wire is down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Completes a frame that [`Wire::take`] gave: the router may use it again.
    pub fn complete(&mut self, frame: Frame) {
        self.completed.push(frame).expect("as many slots as frames in flight");
    }

    /// Frames that the wire can complete before the router looks at its completions.
    pub fn completable(&self) -> usize {
        self.completed.slots()
    }

    /// Packets that the router has sent and that have not been taken.
    pub fn waiting(&self) -> usize {
        self.tx.slots()
    }

    /// Frames that the wire can still inject.
    pub fn fill(&self) -> usize {
        self.fill.slots()
    }
}
