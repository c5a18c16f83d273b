//! A value that is replaced as a whole.

use super::{Join, Stamp};

/// A value, such as a verdict or a name. Of two that were set on their own, the later one stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register<T> {
    stamp: Stamp,
    value: T,
}

impl<T> Register<T> {
    /// The value that was set then.
    pub fn new(stamp: Stamp, value: T) -> Self {
        Self { stamp, value }
    }

    /// Sets another value; one that was set later stays.
    pub fn set(&mut self, stamp: Stamp, value: T) {
        if stamp > self.stamp {
            *self = Self { stamp, value };
        }
    }

    /// When it was set.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> Join for Register<T> {
    fn join(&mut self, other: &Self) {
        if other.stamp > self.stamp {
            *self = other.clone();
        }
    }
}
