//! Ports: where packets enter and leave. Each queue of a port is a receive and a transmit half.

pub mod memory;
pub mod pcap;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use weir_frame::{Frame, Pool};
use weir_state_transfer::PortId;

use crate::counters::{RxCounters, TxCounters};

/// Packets taken from a queue at once.
pub const BURST: usize = 32;

/// The receive half of a queue, polled by one worker.
#[derive(Debug)]
pub struct RxQueue {
    /// The port.
    pub port: PortId,
    /// The number of the queue at its port.
    pub queue: u16,
    /// What is counted here.
    pub counters: Arc<RxCounters>,
    /// Whether the other end is on this machine and leaves checksums to be completed.
    pub partial_checksums: bool,
    backend: Rx,
}

/// How packets come in.
#[derive(Debug)]
pub enum Rx {
    /// An AF_XDP socket.
    AfXdp(weir_xdp::Rx),
    /// A capture file.
    Pcap(pcap::PcapRx),
    /// Memory.
    Memory(memory::MemoryRx),
}

/// The transmit half of a queue, owned by one worker.
#[derive(Debug)]
pub struct TxQueue {
    /// The port.
    pub port: PortId,
    /// What is counted here.
    pub counters: Arc<TxCounters>,
    backend: Tx,
    /// Whether something was sent that has not been flushed.
    dirty: bool,
}

/// How packets go out.
#[derive(Debug)]
pub enum Tx {
    /// An AF_XDP socket.
    AfXdp(weir_xdp::Tx),
    /// A capture file.
    Pcap(Box<pcap::PcapTx>),
    /// Memory.
    Memory(memory::MemoryTx),
}

impl RxQueue {
    /// A queue of a port. `partial_checksums` says whether the other end is on this machine and
    /// leaves checksums to be completed.
    pub fn new(port: PortId, queue: u16, partial_checksums: bool, backend: Rx) -> Self {
        Self { port, queue, counters: Arc::default(), partial_checksums, backend }
    }

    /// Takes a burst of packets, and stocks the port with free frames to receive into.
    #[inline]
    pub fn receive(&mut self, pool: &mut Pool, out: &mut ArrayVec<Frame, BURST>) {
        match &mut self.backend {
            Rx::AfXdp(rx) => {
                let room = out.remaining_capacity();
                rx.receive(pool, room, |frame| out.push(frame));
            }
            Rx::Pcap(rx) => rx.receive(pool, out),
            Rx::Memory(rx) => rx.receive(pool, out),
        }
        if !out.is_empty() {
            self.counters.packets.add(out.len() as u64);
            self.counters.bytes.add(out.iter().map(|frame| frame.len() as u64).sum());
        }
    }

    /// Frames lent to the port to receive into.
    pub fn lent(&self) -> usize {
        match &self.backend {
            Rx::AfXdp(rx) => rx.lent(),
            Rx::Pcap(_) => 0,
            Rx::Memory(rx) => rx.lent(),
        }
    }

    /// Reads the kernel's own drop counters into [`RxQueue::counters`]: a system call.
    pub fn read_statistics(&self) {
        if let Rx::AfXdp(rx) = &self.backend
            && let Ok(statistics) = rx.statistics()
        {
            self.counters.ring_full.set(statistics.rx_ring_full);
            self.counters.fill_ring_empty.set(statistics.rx_fill_ring_empty);
            self.counters.too_long.set(statistics.rx_too_long);
        }
    }

    /// What becomes readable when packets are there; none for a port that must be polled.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backend {
            Rx::AfXdp(rx) => Some(rx.as_fd()),
            Rx::Pcap(_) | Rx::Memory(_) => None,
        }
    }
}

impl TxQueue {
    /// A queue of a port.
    pub fn new(port: PortId, backend: Tx) -> Self {
        Self { port, counters: Arc::default(), backend, dirty: false }
    }

    /// Queues a frame for transmission at the next flush.
    ///
    /// # Errors
    ///
    /// Gives the frame back when the transmit ring is full.
    #[inline]
    pub fn send(&mut self, frame: Frame) -> Result<(), Frame> {
        let bytes = frame.len() as u64;
        match &mut self.backend {
            Tx::AfXdp(tx) => tx.send(frame),
            Tx::Pcap(tx) => tx.send(frame),
            Tx::Memory(tx) => tx.send(frame),
        }?;
        self.dirty = true;
        self.counters.packets.add(1);
        self.counters.bytes.add(bytes);
        Ok(())
    }

    /// Sends what is queued, and frees the frames that have left.
    pub fn flush(&mut self, pool: &mut Pool) {
        if !self.dirty && self.is_drained() {
            return;
        }
        match &mut self.backend {
            Tx::AfXdp(tx) => {
                tx.flush(pool);
            }
            Tx::Pcap(tx) => tx.flush(pool),
            Tx::Memory(tx) => tx.flush(pool),
        }
        self.dirty = false;
        self.counters.completed.set(self.completed());
    }

    /// Reads the kernel's own counters into [`TxQueue::counters`]: a system call.
    pub fn read_statistics(&self) {
        if let Tx::AfXdp(tx) = &self.backend
            && let Ok(statistics) = tx.statistics()
        {
            self.counters.invalid.set(statistics.tx_invalid + tx.counters().refused);
        }
    }

    /// Packets queued, ever.
    pub fn submitted(&self) -> u64 {
        match &self.backend {
            Tx::AfXdp(tx) => tx.submitted(),
            Tx::Pcap(tx) => tx.submitted(),
            Tx::Memory(tx) => tx.submitted(),
        }
    }

    /// Packets that have left, ever.
    pub fn completed(&self) -> u64 {
        match &self.backend {
            Tx::AfXdp(tx) => tx.completed(),
            Tx::Pcap(tx) => tx.completed(),
            Tx::Memory(tx) => tx.completed(),
        }
    }

    /// Whether everything queued has left.
    pub fn is_drained(&self) -> bool {
        self.submitted() == self.completed()
    }
}
