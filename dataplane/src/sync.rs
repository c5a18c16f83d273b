//! The atomics that threads share without locks. `tests/loom` compiles what uses them a second
//! time, with loom's in their place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use zerocopy::FromZeros;

/// So many atomics of value 0, of which the system gives memory only when they are written; `None`
/// without memory.
pub(crate) fn zeroed<A: FromZeros>(count: usize) -> Option<Box<[A]>> {
    <[A]>::new_box_zeroed_with_elems(count).ok()
}
