//! Loom's atomics in the place of those of `src/sync.rs`, and a way to weaken them.

use std::cell::Cell;

pub(crate) use std::sync::atomic::Ordering;

/// What a negative control takes from all atomics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weakness {
    /// No store releases.
    Stores,
    /// No load acquires.
    Loads,
    /// No fence does anything.
    Fences,
}

thread_local! {
    /// All threads of a model are coroutines of the test's own thread.
    static WEAKNESS: Cell<Option<Weakness>> = const { Cell::new(None) };
}

/// Runs a model with weaker atomics.
pub(crate) fn weakened(weakness: Weakness, model: impl FnOnce()) {
    /// Restores the strength however the model ends: the next test may have the same thread.
    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            WEAKNESS.set(None);
        }
    }

    let _restore = Restore;
    WEAKNESS.set(Some(weakness));
    model();
}

fn unless(weakness: Weakness, order: Ordering) -> Ordering {
    if WEAKNESS.get() == Some(weakness) { Ordering::Relaxed } else { order }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(unless(Weakness::Loads, order))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, unless(Weakness::Stores, order));
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

impl AtomicBool {
    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }
}

pub(crate) fn fence(order: Ordering) {
    if WEAKNESS.get() != Some(Weakness::Fences) {
        loom::sync::atomic::fence(order);
    }
}

/// So many atomics of value 0.
pub(crate) fn zeroed<A: Default>(count: usize) -> Option<Box<[A]>> {
    Some((0..count).map(|_| A::default()).collect())
}
