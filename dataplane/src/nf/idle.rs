//! When a flow has been idle for too long, by the time-outs of who has it, or of who had it.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::wire::WireError;

use super::Timestamp;
use super::connection::TIMEOUT_MAX;

/// The timer of a flow. Time-outs may be others where the flow comes from: what was left of it there
/// holds until its next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Idle {
    /// When the last packet came.
    active: Timestamp,
    /// When it is over, where another said so and no packet has come since.
    until: Option<Timestamp>,
}

impl Idle {
    /// The last packet came then.
    pub(super) fn new(active: Timestamp) -> Self {
        Self { active, until: None }
    }

    /// When the last packet came.
    pub(super) fn active(&self) -> Timestamp {
        self.active
    }

    /// A packet has come.
    pub(super) fn packet(&mut self, now: Timestamp) {
        *self = Self::new(self.active.max(now));
    }

    /// What is left of a time-out.
    pub(super) fn left(&self, timeout: Duration, now: Timestamp) -> Duration {
        match self.until {
            Some(until) => until.since(now),
            None => timeout.saturating_sub(now.since(self.active)),
        }
    }

    /// Who had the flow says that so much is left, where the time-out here is another.
    pub(super) fn resume(&mut self, left: Duration, timeout: Duration, now: Timestamp) {
        self.until = (self.left(timeout, now) != left).then(|| now.after(left));
    }
}

/// How long the state of one flow still lives, as its chunk says: it always ends by itself.
///
/// # Errors
/// When the chunk does not say it, or that is longer than any time-out.
pub(super) fn time_left(chunk: &Chunk) -> Result<Duration, PutError> {
    chunk
        .time_left
        .filter(|left| *left <= TIMEOUT_MAX)
        .ok_or_else(|| PutError::bad_body(chunk, &WireError::BadField { what: "time left" }.into()))
}
