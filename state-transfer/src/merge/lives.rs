//! Which lives of instances have ended, in little memory however many there were.

use std::collections::BTreeMap;

use super::{Join, Replica};

/// A life of an instance: all replicas that it may count as, which are numbered without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    first: Replica,
    last: u64,
}

impl Life {
    /// The life that has these incarnations, or `None` when the last is before the first.
    pub fn new(instance: u32, first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first: Replica { instance, incarnation: first }, last })
    }

    /// The life in which an instance counts as one replica only.
    pub fn of_one(replica: Replica) -> Self {
        Self { first: replica, last: replica.incarnation }
    }

    /// All replicas of an instance from its first in any life up to this one.
    pub fn up_to(last: Replica) -> Self {
        Self { first: Replica { incarnation: 0, ..last }, last: last.incarnation }
    }

    /// The replica that it begins as.
    pub fn first(&self) -> Replica {
        self.first
    }

    /// Its last incarnation.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether a replica is of this life.
    pub fn has(&self, replica: Replica) -> bool {
        self.first <= replica && replica <= self.end()
    }

    pub(super) fn end(&self) -> Replica {
        Replica { instance: self.first.instance, incarnation: self.last }
    }
}

/// A set of lives that have ended.
///
/// Lives of an instance that follow each other without a gap are kept as one: where an instance
/// numbers its lives in order, the set has a place for each instance and not for each life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(BTreeMap<Replica, u64>);

impl Lives {
    /// Adds one.
    pub fn add(&mut self, life: Life) {
        let Life { first: Replica { instance, mut incarnation }, mut last } = life;
        // All that overlap it or touch it become one with it.
        while let Some((first, end)) = self.last_up_to(instance, last.saturating_add(1))
            && incarnation <= end.saturating_add(1)
        {
            incarnation = incarnation.min(first.incarnation);
            last = last.max(end);
            self.0.remove(&first);
        }
        self.0.insert(Replica { instance, incarnation }, last);
    }

    /// Whether a replica is of one of them.
    pub fn has(&self, replica: Replica) -> bool {
        let found = self.last_up_to(replica.instance, replica.incarnation);
        found.is_some_and(|(_, last)| replica.incarnation <= last)
    }

    /// Whether all of a life is in the set.
    pub fn covers(&self, life: Life) -> bool {
        let found = self.last_up_to(life.first.instance, life.first.incarnation);
        found.is_some_and(|(_, last)| life.last <= last)
    }

    /// Whether some of a life is in the set.
    pub fn overlaps(&self, life: Life) -> bool {
        let found = self.last_up_to(life.first.instance, life.last);
        found.is_some_and(|(_, last)| life.first.incarnation <= last)
    }

    /// Those that a replica is not of.
    pub fn without(&self, replica: Replica) -> Self {
        let mut others = Self::default();
        others.extend(self.iter().filter(|life| !life.has(replica)));
        others
    }

    /// The set, in order: as few lives as there can be.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Life> + '_ {
        self.0.iter().map(|(first, last)| Life { first: *first, last: *last })
    }

    /// Of those of an instance that begin at an incarnation or before it the last.
    fn last_up_to(&self, instance: u32, incarnation: u64) -> Option<(Replica, u64)> {
        let (first, last) = self.0.range(..=Replica { instance, incarnation }).next_back()?;
        (first.instance == instance).then_some((*first, *last))
    }
}

impl Extend<Life> for Lives {
    fn extend<I: IntoIterator<Item = Life>>(&mut self, lives: I) {
        lives.into_iter().for_each(|life| self.add(life));
    }
}

impl Join for Lives {
    fn join(&mut self, other: &Self) {
        self.extend(other.iter());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Beside a plain set of replicas.
    #[test]
    fn a_set_has_what_was_added_and_is_as_short_as_can_be() {
        let mut rng = weir_seed::rng();
        for _ in 0..2_000 {
            // At the end of all numbers too.
            let base = if rng.bool() { 0 } else { u64::MAX - 20 };
            let (mut lives, mut plain) = (Lives::default(), BTreeSet::new());
            for _ in 0..rng.usize(..12) {
                let (instance, first) = (rng.u32(..2), rng.u64(..18));
                let life = Life::new(instance, base + first, base + first + rng.u64(..3));
                let life = life.expect("in order");
                lives.add(life);
                plain.extend((life.first.incarnation..=life.last).map(|at| (instance, at)));
            }
            for instance in 0..3 {
                for at in base..=base + 20 {
                    let replica = Replica { instance, incarnation: at };
                    assert_eq!(lives.has(replica), plain.contains(&(instance, at)));
                    let two = Life::new(instance, at, at.saturating_add(1)).expect("in order");
                    let both = [at, at.saturating_add(1)].map(|at| plain.contains(&(instance, at)));
                    assert_eq!(lives.covers(two), both == [true; 2]);
                    assert_eq!(lives.overlaps(two), both != [false; 2]);
                }
            }
            let begins = |(instance, at): &&(u32, u64)| {
                at.checked_sub(1).is_none_or(|before| !plain.contains(&(*instance, before)))
            };
            assert_eq!(lives.iter().len(), plain.iter().filter(begins).count());
        }
    }
}
