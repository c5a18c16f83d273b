//! The steerer's part of a strict share: gives each packet its place in the order of its slot.

use super::limits::Limits;
use super::message::Stamp;
use super::slot::Slot;
use crate::id::WorkerId;

/// Counts the packets of each slot that one worker steers to members of a strict share.
///
/// It begins when every member has adopted the first view, and must end before the share does. A
/// packet with a stamp that no member is handed or told of ([`Member::pass`](super::Member::pass))
/// leaves a gap, which is waited for in vain.
#[derive(Clone, Debug, Hash)]
pub struct Stamper {
    steerer: WorkerId,
    next: Box<[u64]>,
}

impl Stamper {
    /// The stamps of a worker.
    pub fn new(steerer: WorkerId, limits: Limits) -> Self {
        let next = vec![0; limits.in_bounds().slots].into_boxed_slice();
        Self { steerer, next }
    }

    /// The next place in the order of a slot.
    ///
    /// # Panics
    /// When the slot is not one of the share's.
    pub fn stamp(&mut self, slot: Slot) -> Stamp {
        let next = &mut self.next[slot.index()];
        let sequence = *next;
        *next += 1;
        Stamp { steerer: self.steerer, sequence }
    }
}
