//! A token bucket that several instances may draw from.

use std::cmp::Ordering;

use weir_state_transfer::Nanos;
use weir_state_transfer::merge::{Clock, Counter, Join, Lives, Replica, Stamp};

const SECOND: i128 = 1_000_000_000;

/// How fast something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How often in a second, over a long time.
    pub per_second: u32,
    /// How often at once, after a pause.
    pub burst: u32,
}

/// A token bucket, as what was taken since it was full the last time.
///
/// Its level follows from that, so that copies can be joined: what each replica has taken since
/// is counted apart, and of copies that were full at different times the later one stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// None until something was taken.
    full: Option<Full>,
    taken: Counter,
}

/// When a bucket was full the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// The same for all copies.
    pub(super) stamp: Stamp,
    /// By the clock of this process.
    pub(super) time: Nanos,
}

impl Bucket {
    /// Takes a token if there is one.
    pub(super) fn take(
        &mut self,
        rate: Rate,
        clock: &mut Clock,
        replica: Replica,
        now: Nanos,
    ) -> bool {
        if self.is_full(rate, now) {
            self.full = Some(Full { stamp: clock.stamp(now), time: now });
            self.taken = Counter::default();
        }
        let allowed = self.level(rate, now) >= SECOND;
        if allowed {
            self.taken.add(replica, 1);
        }
        allowed
    }

    /// Whether it holds all that it can.
    pub(super) fn is_full(&self, rate: Rate, now: Nanos) -> bool {
        self.full.is_none() || self.level(rate, now) >= i128::from(rate.burst) * SECOND
    }

    /// Joins a bucket that its holder has given away; see [`Counter::inherit`].
    pub(super) fn inherit(&mut self, given: Self, by: Replica, heir: Replica, ended: &Lives) {
        if given.stamp() > self.stamp() {
            *self = Self { full: given.full, taken: Counter::default() };
        } else if given.stamp() == self.stamp() {
            self.be_no_earlier(&given);
        } else {
            return;
        }
        self.taken.inherit(given.taken, by, heir, ended);
    }

    /// Takes from a holder what was joined before; see [`Counter::take_from`].
    pub(super) fn take_from(&mut self, by: Replica, heir: Replica) {
        self.taken.take_from(by, heir);
    }

    /// Leaves out what lives have taken that others have taken over.
    pub(super) fn retire(&mut self, lives: &Lives) {
        self.taken.retire(lives);
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.full.map(|full| full.stamp)
    }

    pub(super) fn parts(&self) -> (Option<Full>, &Counter) {
        (self.full, &self.taken)
    }

    pub(super) fn from_parts(full: Full, taken: Counter) -> Self {
        Self { full: Some(full), taken }
    }

    /// The clocks of two processes agree nearly: the later time allows less.
    fn be_no_earlier(&mut self, other: &Self) {
        if let (Some(own), Some(theirs)) = (&mut self.full, &other.full) {
            own.time = own.time.max(theirs.time);
        }
    }

    /// In billionths of a token, so that no time is lost to rounding.
    fn level(&self, rate: Rate, now: Nanos) -> i128 {
        let since = self.full.map_or(now, |full| full.time);
        let passed = i128::from(now.0.saturating_sub(since.0));
        let taken = i128::from(self.taken.value());
        (i128::from(rate.burst) - taken) * SECOND + passed * i128::from(rate.per_second)
    }
}

impl Join for Bucket {
    fn join(&mut self, other: &Self) {
        match other.stamp().cmp(&self.stamp()) {
            Ordering::Greater => *self = other.clone(),
            Ordering::Equal => {
                self.be_no_earlier(other);
                self.taken.join(&other.taken);
            }
            Ordering::Less => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_bucket::TokenBucket;

    fn replica(instance: u32) -> Replica {
        Replica { instance, incarnation: 9 }
    }

    #[test]
    fn gives_what_a_plain_bucket_gives_wherever_it_is_moved() {
        let mut rng = weir_seed::rng();
        for _ in 0..50 {
            let per_second = rng.u32(1..50);
            let rate = Rate { per_second, burst: per_second };
            let (mut plain, mut bucket) = (TokenBucket::new(per_second), Bucket::default());
            let mut clocks = [Clock::new(replica(0)), Clock::new(replica(1))];
            let mut now = Nanos(0);
            for _ in 0..400 {
                now = Nanos(now.0 + rng.u64(..200_000_000));
                let holder = rng.usize(..2);
                if let Some(stamp) = bucket.stamp() {
                    clocks[holder].see(&stamp);
                }
                let own = replica(holder as u32);
                let taken = bucket.take(rate, &mut clocks[holder], own, now);
                assert_eq!(taken, plain.take(now));
            }
        }
    }

    #[test]
    fn copies_that_are_joined_in_any_order_are_the_same() {
        let mut rng = weir_seed::rng();
        let rate = Rate { per_second: 3, burst: 4 };
        let joined = |one: &Bucket, other: &Bucket| {
            let mut joined = one.clone();
            joined.join(other);
            joined
        };
        for _ in 0..300 {
            let mut clocks = [0, 1, 2].map(|n| Clock::new(replica(n)));
            let mut copies = [const { None }; 3].map(|_: Option<()>| Bucket::default());
            for step in 0..20 {
                let (own, other) = (rng.usize(..3), rng.usize(..3));
                if rng.bool() {
                    let clock = &mut clocks[own];
                    copies[own].take(rate, clock, replica(own as u32), Nanos(step << 28));
                } else {
                    copies[own] = joined(&copies[own], &copies[other]);
                }
            }
            let [a, b, c] = &copies;
            assert_eq!(joined(a, a), *a);
            assert_eq!(joined(a, b), joined(b, a));
            assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
        }
    }

    #[test]
    fn what_two_instances_take_at_once_counts_together() {
        let rate = Rate { per_second: 1, burst: 10 };
        let mut clock = Clock::new(replica(0));
        let mut one = Bucket::default();
        assert!(one.take(rate, &mut clock, replica(0), Nanos(1)));
        let mut two = one.clone();
        for _ in 0..4 {
            assert!(one.take(rate, &mut clock, replica(0), Nanos(2)));
            assert!(two.take(rate, &mut clock, replica(1), Nanos(2)));
        }
        one.join(&two);
        one.join(&two);
        assert!(one.take(rate, &mut clock, replica(0), Nanos(3)));
        assert!(!one.take(rate, &mut clock, replica(0), Nanos(3)), "9 and 1 are 10");
    }
}
