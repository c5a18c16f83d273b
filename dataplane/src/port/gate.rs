//! The gate of a port: shut while packets wait in a transmit ring for its device to come up.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a port takes packets; its transmit queues share it.
///
/// A device that is down takes nothing out of a transmit ring. What waits there can not be taken
/// back, because the kernel may have seen it already, and leaves when the device is up again. So
/// that nothing overtakes it, no queue of the port takes a packet until all such packets have
/// left: order at the port does not depend on which queue is the first to notice that it is up,
/// and a move need not wait for what is behind the gate. A device that is gone is never up again:
/// its gate stays shut, and what waits is lost.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Queues in which packets wait; written by the workers that own them, read by all.
    waiting: AtomicU32,
}

impl Gate {
    /// A queue holds packets that its device does not take.
    pub(super) fn shut(&self) {
        self.waiting.fetch_add(1, Ordering::Release);
    }

    /// The packets of a queue that has shut the gate have left.
    pub(super) fn open(&self) {
        self.waiting.fetch_sub(1, Ordering::Release);
    }

    /// Whether the port takes no packets.
    #[inline]
    pub(super) fn is_shut(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}
