//! What a policy route counts: a line of memory for each worker, which alone writes it.

use weir_state_transfer::WorkerId;

use crate::counters::Counter;

/// The counters of a policy route.
#[derive(Debug)]
pub struct PolicyCounters(Box<[OfWorker]>);

/// What one worker has counted, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct OfWorker {
    packets: Counter,
    bytes: Counter,
    holding: Counter,
    overflow: Counter,
    undelivered: Counter,
}

/// What all workers have counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyTotals {
    /// Packets that it has decided for.
    pub packets: u64,
    /// Their bytes, from the network header on.
    pub bytes: u64,
    /// Packets that wait.
    pub holding: u64,
    /// Packets that were dropped because there was no room to hold them.
    pub overflow: u64,
    /// Packets that waited and were dropped because their next hop took none for too long.
    pub undelivered: u64,
}

impl PolicyCounters {
    /// Counters at zero, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OfWorker::default()).collect())
    }

    /// A packet was decided on. Only that worker may call this, as all below.
    #[inline]
    pub(crate) fn count(&self, worker: WorkerId, bytes: u16) {
        if let Some(own) = self.0.get(usize::from(worker.0)) {
            own.packets.add(1);
            own.bytes.add(u64::from(bytes));
        }
    }

    /// A packet found no room.
    pub(crate) fn overflowed(&self, worker: WorkerId) {
        if let Some(own) = self.0.get(usize::from(worker.0)) {
            own.overflow.add(1);
        }
    }

    /// One packet more waits.
    pub(crate) fn held(&self, worker: WorkerId) {
        if let Some(own) = self.0.get(usize::from(worker.0)) {
            own.holding.add(1);
        }
    }

    /// One packet less waits.
    pub(crate) fn released(&self, worker: WorkerId) {
        if let Some(own) = self.0.get(usize::from(worker.0)) {
            own.holding.set(own.holding.get().saturating_sub(1));
        }
    }

    /// One packet less waits: it was dropped, as there was no way to its next hop.
    pub(crate) fn given_up(&self, worker: WorkerId) {
        self.released(worker);
        if let Some(own) = self.0.get(usize::from(worker.0)) {
            own.undelivered.add(1);
        }
    }

    /// All workers together.
    pub fn totals(&self) -> PolicyTotals {
        let sum =
            |count: fn(&OfWorker) -> &Counter| self.0.iter().map(|own| count(own).get()).sum();
        PolicyTotals {
            packets: sum(|own| &own.packets),
            bytes: sum(|own| &own.bytes),
            holding: sum(|own| &own.holding),
            overflow: sum(|own| &own.overflow),
            undelivered: sum(|own| &own.undelivered),
        }
    }
}
