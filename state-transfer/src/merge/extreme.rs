//! The first and the last of times.

use super::Join;
use crate::time::Nanos;

/// The first of the times that anybody knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First(pub Nanos);

impl Join for First {
    fn join(&mut self, other: &Self) {
        self.0 = self.0.min(other.0);
    }
}

/// The last of the times that anybody knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last(pub Nanos);

impl Join for Last {
    fn join(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }
}
