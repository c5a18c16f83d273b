//! Counts: what each replica has counted, apart.

use std::collections::BTreeMap;

use super::{Join, Life, Lives, Replica};

/// A count that only grows. Each replica counts its own part; a copy with more of a part is newer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    parts: BTreeMap<Replica, u64>,
    /// Lives whose parts others have taken over: they count no more.
    retired: Lives,
}

impl Counter {
    /// A replica counts so many more.
    pub fn add(&mut self, replica: Replica, count: u64) {
        debug_assert!(!self.retired.has(replica), "it has been taken over");
        let part = self.parts.entry(replica).or_default();
        *part = part.saturating_add(count);
    }

    /// What all replicas have counted together.
    pub fn value(&self) -> u64 {
        self.parts.values().fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Takes over the parts of a life that has ended for good, so that parts do not pile up.
    ///
    /// One replica may do so, once, with a copy that has all that the life has counted: the move
    /// that has emptied it. Nothing happens the second time. From then on copies from that life,
    /// however late and however often they come, bring nothing.
    pub fn take_over(&mut self, ended: Life, heir: Replica) {
        if ended.has(heir) || self.retired.covers(ended) {
            return;
        }
        let parts = self.parts.range(ended.first()..=ended.end());
        let part = parts.fold(0_u64, |sum, (_, part)| sum.saturating_add(*part));
        self.retired.add(ended);
        self.forget_retired();
        if part > 0 {
            self.add(heir, part);
        }
    }

    /// Joins a counter that its holder, who has counted as the replica `by`, has given away and
    /// does not keep: what it has counted itself is the heir's from here on, wherever that came
    /// from before; all else in it is copies, which bring nothing of lives that have `ended`.
    ///
    /// Who gives a counter away counts as a later replica if it begins another for the same, so
    /// that what it has counted as `by` and before is in one place only. It may be given on by
    /// others any number of times, back to its first holder too.
    pub fn inherit(&mut self, mut given: Self, by: Replica, heir: Replica, ended: &Lives) {
        let earlier = Life::up_to(by);
        if earlier.has(heir) {
            debug_assert!(false, "{heir:?} is no later than {by:?}");
            return self.join(&given);
        }
        let part = given.give(by);
        given.retire(ended);
        self.join(&given);
        if part > 0 {
            self.add(heir, part);
        }
    }

    /// The same for what was joined before it was clear that its holder gives it away: that it has,
    /// and keeps nothing, is known now. Nothing happens the second time.
    pub fn take_from(&mut self, by: Replica, heir: Replica) {
        if Life::up_to(by).has(heir) {
            debug_assert!(false, "{heir:?} is no later than {by:?}");
            return;
        }
        let part = self.give(by);
        if part > 0 {
            self.add(heir, part);
        }
    }

    /// Leaves out what lives have counted that others have taken over.
    pub fn retire(&mut self, lives: &Lives) {
        self.retired.join(lives);
        self.forget_retired();
    }

    /// What each replica has counted, in their order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (Replica, u64)> + '_ {
        self.parts.iter().map(|(replica, part)| (*replica, *part))
    }

    /// Lives whose parts others have taken over.
    pub fn retired(&self) -> &Lives {
        &self.retired
    }

    /// Whether it leaves out what some of a life counts. A copy that does so for one that still counts,
    /// or will, is not to be joined by that: it would count in vain from then on.
    pub fn retires(&self, life: Life) -> bool {
        self.retired.overlaps(life)
    }

    /// The counter with these parts.
    pub fn from_parts(parts: impl IntoIterator<Item = (Replica, u64)>, retired: Lives) -> Self {
        let mut counter = Self { parts: parts.into_iter().collect(), retired };
        counter.forget_retired();
        counter
    }

    /// Takes out what a replica has counted, which is for another to add to its own.
    fn give(&mut self, by: Replica) -> u64 {
        let part = self.parts.remove(&by).unwrap_or(0);
        self.retired.add(Life::up_to(by));
        self.forget_retired();
        part
    }

    fn forget_retired(&mut self) {
        let Self { parts, retired } = self;
        parts.retain(|replica, _| !retired.has(*replica));
    }
}

impl Join for Counter {
    fn join(&mut self, other: &Self) {
        for (replica, count) in &other.parts {
            let part = self.parts.entry(*replica).or_default();
            *part = (*part).max(*count);
        }
        self.retire(&other.retired);
    }
}

/// A number that grows and shrinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// All by which it has grown.
    pub up: Counter,
    /// All by which it has shrunk.
    pub down: Counter,
}

impl Gauge {
    /// How much it is. Negative while a copy has heard of the end of something and not of its
    /// beginning.
    pub fn value(&self) -> i128 {
        i128::from(self.up.value()) - i128::from(self.down.value())
    }

    /// Joins a gauge that its holder has given away; see [`Counter::inherit`].
    pub fn inherit(&mut self, given: Self, by: Replica, heir: Replica, ended: &Lives) {
        self.up.inherit(given.up, by, heir, ended);
        self.down.inherit(given.down, by, heir, ended);
    }

    /// Takes from a holder what was joined before; see [`Counter::take_from`].
    pub fn take_from(&mut self, by: Replica, heir: Replica) {
        self.up.take_from(by, heir);
        self.down.take_from(by, heir);
    }

    /// Leaves out what lives have counted that others have taken over.
    pub fn retire(&mut self, lives: &Lives) {
        self.up.retire(lives);
        self.down.retire(lives);
    }

    /// Whether it leaves out what some of a life counts; see [`Counter::retires`].
    pub fn retires(&self, life: Life) -> bool {
        self.up.retires(life) || self.down.retires(life)
    }
}

impl Join for Gauge {
    fn join(&mut self, other: &Self) {
        self.up.join(&other.up);
        self.down.join(&other.down);
    }
}

/// The average of values, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Average {
    /// All values together.
    pub sum: Counter,
    /// How many there were.
    pub count: Counter,
}

impl Average {
    /// A replica has another value.
    pub fn add(&mut self, replica: Replica, value: u64) {
        self.sum.add(replica, value);
        self.count.add(replica, 1);
    }

    /// The average, of at least one value.
    pub fn value(&self) -> Option<f64> {
        let count = self.count.value();
        (count > 0).then(|| self.sum.value() as f64 / count as f64)
    }
}

impl Join for Average {
    fn join(&mut self, other: &Self) {
        self.sum.join(&other.sum);
        self.count.join(&other.count);
    }
}
