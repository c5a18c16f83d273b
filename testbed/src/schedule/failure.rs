//! What a schedule can find wrong.

use std::fmt;

/// A broken promise, and where it showed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which promise.
    pub kind: Kind,
    /// Where it showed.
    pub what: String,
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet left with other bytes, or by another port, than it should.
    Corrupted,
    /// Two flows have the same name behind a NAT.
    Collided,
    /// A packet left twice.
    Duplicated,
    /// A packet left after a later one of its flow and ingress queue.
    Reordered,
    /// A packet neither left nor was counted as dropped.
    Lost,
    /// A packet was dropped for a reason that the schedule does not excuse.
    Dropped,
    /// A flow's state is not what a single instance would have.
    State,
    /// A source has begun more than it may.
    Excess,
    /// A source was refused what it may begin.
    Denied,
    /// What is counted of a source is not what it has begun and not ended.
    Counted,
    /// A flow, a bucket or a source is not with its owner, or with more than one instance.
    Owner,
    /// Something was said to be done that was not.
    Early,
    /// A worker met a packet or a message that can not come where it came.
    Stray,
    /// The counters do not add up.
    Balance,
    /// Something never came to an end.
    Stuck,
    /// The node refused what it must accept, or accepted what it must refuse.
    Refused,
    /// The shipped code panicked.
    Panicked,
}

impl Kind {
    /// The failure of this kind that showed as `what`.
    pub fn at(self, what: impl fmt::Display) -> Failure {
        Failure { kind: self, what: what.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
