//! What has happened in schedules: tests see by it that they try what they are for.

use std::ops::AddAssign;

/// What has happened in schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub(crate) schedules: u64,
    /// Flows that were let begin, and that were not.
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    /// Flows that have closed, and those of them that have begun anew.
    pub(crate) closed: u64,
    pub(crate) again: u64,
    /// Rounds after which packets waited.
    pub(crate) waited: u64,
    /// Times that instances joined or left, and those of them with packets that waited.
    pub(crate) changes: u64,
    pub(crate) busy_changes: u64,
    /// Workers that have panicked, and instances that were left out because of that.
    pub(crate) panics: u64,
    pub(crate) failed: u64,
    /// Sources of which more or less was counted from then on.
    pub(crate) astray: u64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.closed += other.closed;
        self.again += other.again;
        self.waited += other.waited;
        self.changes += other.changes;
        self.busy_changes += other.busy_changes;
        self.panics += other.panics;
        self.failed += other.failed;
        self.astray += other.astray;
    }
}
