//! Times of day, as logs have them.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::southbound::PutError;

/// How far the clocks of two nodes that bring each other state may be apart. What was seen later than
/// that by the clock here is refused, so that the move that brings it is undone and has lost nothing.
/// Clocks that are kept by NTP are a thousand times closer.
pub(super) const CLOCKS_APART: Duration = Duration::from_mins(5);

/// A time of day: nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time that has passed since `earlier`, zero when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much time later.
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// So much time earlier.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }
}

/// State is refused, as it was seen in time to come.
pub(super) fn to_come(chunk: &Chunk) -> PutError {
    let why =
        "it was seen in time to come, by the clock here: set the clocks of both nodes, as by NTP";
    PutError::BadBody { id: Box::new(chunk.id.clone()), why: why.to_owned() }
}

/// Nanoseconds of a time that is not for ever.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
