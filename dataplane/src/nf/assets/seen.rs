//! When something was seen.

use weir_state_transfer::Nanos;
use weir_state_transfer::merge::{First, Join, Last};
use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::lowest::Kept;
use crate::nf::Timestamp;

/// When something was seen for the first and for the last time that anybody knows of, by the time
/// of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    first: First,
    last: Last,
}

impl Seen {
    /// Seen once.
    pub fn at(time: Timestamp) -> Self {
        Self { first: First(Nanos(time.0)), last: Last(Nanos(time.0)) }
    }

    /// The first time.
    pub fn first(&self) -> Timestamp {
        Timestamp(self.first.0.0)
    }

    /// The last time.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.0.0)
    }
}

impl Join for Seen {
    fn join(&mut self, other: &Self) {
        self.first.join(&other.first);
        self.last.join(&other.last);
    }
}

impl Kept for Seen {
    fn put(&self, out: &mut Writer) {
        out.u64(self.first().0);
        out.u64(self.last().0);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut seen = Self::at(Timestamp(reader.u64()?));
        seen.last = Last(Nanos(reader.u64()?));
        if seen.first() > seen.last() {
            return Err(WireError::BadField { what: "pair of times" });
        }
        Ok(seen)
    }
}
