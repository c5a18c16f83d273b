//! Counters: what every packet ended as. Each has one writer; anyone may read.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::DropReason;

/// A counter or gauge that one thread writes and others read.
///
/// With one writer a load and a store do what a read-modify-write would, without its price.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the counter's one writer may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it says.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker counts. Written by the worker, but for `restarts` and `sleeps`: its driver.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Poll rounds.
    pub polls: Counter,
    /// Poll rounds that found no work.
    pub empty_polls: Counter,
    /// Packets that the worker's instances processed.
    pub packets: Counter,
    /// Packets that the worker made: replies, errors, probes.
    pub generated: Counter,
    /// Packets that ended here because they were for the router.
    pub consumed: Counter,
    /// Packets pushed towards other workers, and towards itself.
    pub handed_out: Counter,
    /// Packets popped from rings.
    pub handed_in: Counter,
    /// Packets steered to an instance of another worker.
    pub handed_over: Counter,
    /// Packets that a move did not expect where they came; 0 in a correct run.
    pub stray: Counter,
    /// Flows that could not be recorded because their part of the table is full.
    pub flow_table_full: Counter,
    /// Nanoseconds of useful work.
    pub busy_ns: Counter,
    /// Times that its driver slept.
    pub sleeps: Counter,
    /// 1 while its driver sleeps.
    pub sleeping: Counter,
    /// Times that its supervisor caught a panic.
    pub restarts: Counter,
    /// Packets dropped, by reason.
    pub drops: DropCounters,
    /// Where the worker's frames are.
    pub frames: FrameGauges,
}

/// Where the frames of a worker are, as of its last poll round.
#[derive(Debug, Default)]
pub struct FrameGauges {
    /// In the free list.
    pub free: Counter,
    /// On their way to the free list of their home.
    pub away: Counter,
    /// Sent to other workers' free lists, ever.
    pub returned_out: Counter,
    /// Got back from other workers, ever.
    pub returned_in: Counter,
    /// Lent to the receive side of ports.
    pub rx: Counter,
    /// Lent to the transmit side of ports.
    pub tx: Counter,
    /// Held for flows under a move.
    pub held: Counter,
    /// Parked until their next hop is resolved.
    pub parked: Counter,
}

/// Dropped packets by reason.
#[derive(Debug)]
pub struct DropCounters([Counter; DropReason::COUNT]);

impl DropCounters {
    /// Counts a dropped packet.
    #[inline]
    pub fn count(&self, reason: DropReason) {
        self.0[reason.index()].add(1);
    }

    /// Counts dropped packets.
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason.index()].add(packets);
    }

    /// Packets dropped for a reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()].get()
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// What an instance counts; written by its worker.
#[derive(Debug, Default)]
pub struct InstanceCounters {
    /// Packets processed.
    pub packets: Counter,
    /// Bytes processed, from the network header on.
    pub bytes: Counter,
    /// Packets whose flow had a valid decision.
    pub hits: Counter,
    /// Packets that were decided anew.
    pub misses: Counter,
    /// Flows in the table.
    pub flows: Counter,
    /// Flows that network functions know.
    pub known: Counter,
    /// Packets of flows that network functions had no room for, and flows that were given up because
    /// a NAT would have given them the name of another.
    pub functions_full: Counter,
    /// Buckets owned.
    pub buckets: Counter,
    /// 1 while a subscription keeps packets, or some that it has kept are still to be processed.
    pub keeping: Counter,
    /// The subscription that keeps packets, or was the last to.
    pub keeper: Counter,
    /// Nanoseconds of useful work.
    pub busy_ns: Counter,
}

/// What is counted at the receive queue of a port; written by the worker that polls it.
#[derive(Debug, Default)]
pub struct RxCounters {
    /// Packets received.
    pub packets: Counter,
    /// Bytes received, from the Ethernet header on.
    pub bytes: Counter,
    /// Packets that the kernel dropped because the receive ring was full.
    pub ring_full: Counter,
    /// Packets that the kernel dropped because no frame was free.
    pub fill_ring_empty: Counter,
    /// Packets that the kernel dropped because they do not fit in a frame.
    pub too_long: Counter,
}

/// What is counted at the transmit queue of a port; written by the worker that owns it.
#[derive(Debug, Default)]
pub struct TxCounters {
    /// Packets handed to the port.
    pub packets: Counter,
    /// Bytes handed to the port.
    pub bytes: Counter,
    /// Packets that have left, or that the port has refused.
    pub completed: Counter,
    /// Packets whose descriptors the kernel found invalid: part of `completed`.
    pub invalid: Counter,
    /// Packets that the device dropped: part of `completed`.
    pub refused: Counter,
    /// Packets that never leave because the device is gone; not part of `completed`. One that
    /// turns out to have left before is taken off.
    pub lost: Counter,
    /// 1 once the device was found to be gone.
    pub gone: Counter,
    /// Packets that have left by live frames: part of `completed`, whether the device took them or not.
    pub live: Counter,
}
