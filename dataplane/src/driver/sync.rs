//! The atomics of [`super::sleep_flag`], which `tests/loom.rs` replaces by loom's.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
