//! The lock-free stack of chunk indices on which dropped frames come home.

use crate::sync::{AtomicU32, Ordering};

/// End of a chain, and the head of an empty stack.
const NONE: u32 = u32::MAX;

/// A Treiber stack with `push` and take-all only, so that a head is never compared with a node
/// that left and returned (no ABA). On cache lines of its own, away from what every packet reads.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Stack {
    head: AtomicU32,
    /// `next[i]` is the index below `i`; written by whoever owns frame `i`, before it pushes it.
    next: Box<[AtomicU32]>,
}

impl Stack {
    pub(crate) fn new(frames: u32) -> Stack {
        assert!(frames < NONE, "the largest index marks the end of a chain");
        Stack {
            head: AtomicU32::new(NONE),
            next: (0..frames).map(|_| AtomicU32::new(NONE)).collect(),
        }
    }

    /// Puts `index` on the stack; its successful compare-exchange is the last access to the stack.
    ///
    /// # Safety
    /// `stack` is alive until `index` is on it, and is made for `index`, which is not on it.
    pub(crate) unsafe fn push(stack: *const Stack, index: u32) {
        // SAFETY: alive until the compare-exchange on `head` succeeds, after which neither
        // reference is used.
        let Stack { head: top, next } = unsafe { &*stack };
        let mut head = top.load(Ordering::Relaxed);
        loop {
            next[index as usize].store(head, Ordering::Relaxed);
            // Release: what the pusher wrote to the chunk and to `next` happens before the taker
            // that acquires this head or, along the release sequence, any later one.
            match top.compare_exchange_weak(head, index, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => head = current,
            }
        }
    }

    /// Empties the stack into a chain that belongs to the caller.
    pub(crate) fn take(&self) -> Chain {
        // The plain load spares the regular poll of an empty stack the exclusive cache line.
        if self.head.load(Ordering::Relaxed) == NONE {
            return Chain { top: NONE };
        }
        Chain { top: self.head.swap(NONE, Ordering::Acquire) }
    }
}

/// Indices taken off a [`Stack`], newest first.
#[derive(Debug)]
pub(crate) struct Chain {
    top: u32,
}

impl Chain {
    pub(crate) fn next(&mut self, stack: &Stack) -> Option<u32> {
        if self.top == NONE {
            return None;
        }
        let index = self.top;
        self.top = stack.next[index as usize].load(Ordering::Relaxed);
        Some(index)
    }
}
