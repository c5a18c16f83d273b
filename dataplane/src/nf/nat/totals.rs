//! What NATs have done: of each external address, which is state of several flows, and altogether.

use weir_state_transfer::merge::{Counter, Gauge, Join, Replica};

use super::reason::{Reason, Verdict};

/// How much an external address is used, by all instances that have told each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Flows that use the address as their source.
    pub open: Gauge,
    /// Flows that did not begin because whatever they could be translated to was taken; counted
    /// at the address of their host.
    pub exhausted: Counter,
}

/// Counts of packets and flows, of all instances that have told each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Packets that went on as they were.
    pub passed: Counter,
    /// Packets that were translated.
    pub translated: Counter,
    /// Flows that began, those that are known without being translated too.
    pub begun: Counter,
    /// Flows that ended.
    pub ended: Counter,
    /// Packets dropped, by [`Reason::index`].
    pub dropped: [Counter; Reason::COUNT],
}

impl Usage {
    /// Whether each count has as few parts as fit in bytes.
    pub(super) fn fits(&self) -> bool {
        let Self { open: Gauge { up, down }, exhausted } = self;
        [up, down, exhausted].into_iter().all(Counter::fits)
    }

    /// Takes over what a replica has counted that has ended for good; see [`Counter::take_over`].
    pub fn take_over(&mut self, ended: Replica, heir: Replica) {
        let Self { open: Gauge { up, down }, exhausted } = self;
        [up, down, exhausted].into_iter().for_each(|counter| counter.take_over(ended, heir));
    }
}

impl Totals {
    /// Packets dropped for a reason.
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        self.dropped[reason.index()].value()
    }

    /// Takes over what a replica has counted that has ended for good; see [`Counter::take_over`].
    pub fn take_over(&mut self, ended: Replica, heir: Replica) {
        let Self { passed, translated, begun, ended: over, dropped } = self;
        let counters = [passed, translated, begun, over].into_iter().chain(dropped);
        counters.for_each(|counter| counter.take_over(ended, heir));
    }

    /// Whether each count has as few parts as fit in bytes.
    pub(super) fn fits(&self) -> bool {
        let Self { passed, translated, begun, ended, dropped } = self;
        [passed, translated, begun, ended].into_iter().chain(dropped).all(Counter::fits)
    }

    pub(super) fn count(&mut self, replica: Replica, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Pass => &mut self.passed,
            Verdict::Translate => &mut self.translated,
            Verdict::Drop(reason) => &mut self.dropped[reason.index()],
        };
        counter.add(replica, 1);
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            passed: Counter::default(),
            translated: Counter::default(),
            begun: Counter::default(),
            ended: Counter::default(),
            dropped: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl Join for Usage {
    fn join(&mut self, other: &Self) {
        self.open.join(&other.open);
        self.exhausted.join(&other.exhausted);
    }
}

impl Join for Totals {
    fn join(&mut self, other: &Self) {
        self.passed.join(&other.passed);
        self.translated.join(&other.translated);
        self.begun.join(&other.begun);
        self.ended.join(&other.ended);
        for (own, other) in self.dropped.iter_mut().zip(&other.dropped) {
            own.join(other);
        }
    }
}
