//! What NATs have done altogether: state of all flows.

use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::merge::{Counter, Join, Life, Lives, Replica};
use weir_state_transfer::southbound::StateKind;

use super::reason::{Reason, Verdict};
use crate::nf::figures::Figures;
use crate::nf::schema::NAT_TOTALS;

/// Counts of packets and flows, of all instances that have told each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Packets that went on as they were.
    pub passed: Counter,
    /// Packets that were translated.
    pub translated: Counter,
    /// Flows that began, those that are known without being translated too. One that begins anew
    /// where it has ended counts again.
    pub begun: Counter,
    /// Flows that ended.
    pub ended: Counter,
    /// Packets dropped, by [`Reason::index`].
    pub dropped: [Counter; Reason::COUNT],
}

impl Totals {
    /// Packets dropped for a reason.
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        self.dropped[reason.index()].value()
    }

    /// Takes over what a life that has ended has counted; see [`Counter::take_over`].
    pub fn take_over(&mut self, ended: Life, heir: Replica) {
        let Self { passed, translated, begun, ended: over, dropped } = self;
        let counters = [passed, translated, begun, over].into_iter().chain(dropped);
        counters.for_each(|counter| counter.take_over(ended, heir));
    }

    /// Lives whose counts have been taken over.
    pub(super) fn retired(&self) -> &Lives {
        self.passed.retired()
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

impl Figures for Totals {
    const KIND: StateKind = NAT_TOTALS;

    fn read(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        Self::decode(schema, bytes)
    }

    fn fits(&self) -> bool {
        let Self { passed, translated, begun, ended, dropped } = self;
        [passed, translated, begun, ended].into_iter().chain(dropped).all(Counter::fits)
    }

    fn retires(&self, life: Life) -> bool {
        let Self { passed, translated, begun, ended, dropped } = self;
        let mut counters = [passed, translated, begun, ended].into_iter().chain(dropped);
        counters.any(|counter| counter.retires(life))
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
