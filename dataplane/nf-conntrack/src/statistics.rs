//! What the kernel has counted over all flows, as state that is merged.

use std::collections::BTreeMap;

use weir_state_transfer::merge::{Counter, Join as _, Replica};
use weir_state_transfer::wire::{Reader, WireError, Writer};

use crate::kernel::STATISTICS;

/// Counts of the kernel, each by what has watched it: [`STATISTICS`] has their names. A process
/// counts from its start on, so that what it leaves to others is never counted again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statistics([Counter; STATISTICS.len()]);

/// Sees by how much the counts of a kernel have grown. They have 32 bits each, so it has to look
/// before they have gone once around.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    cores: BTreeMap<u16, [u32; STATISTICS.len()]>,
}

impl Watch {
    /// What one core has counted, in addition to what it had when it was looked at before. What is
    /// there at the first look is not new.
    pub(crate) fn look(
        &mut self,
        core: u16,
        counts: [u32; STATISTICS.len()],
    ) -> [u64; STATISTICS.len()] {
        let before = self.cores.insert(core, counts).unwrap_or(counts);
        std::array::from_fn(|place| counts[place].wrapping_sub(before[place]).into())
    }
}

impl Statistics {
    pub(crate) fn add(&mut self, replica: Replica, counts: [u64; STATISTICS.len()]) {
        for (counter, count) in self.0.iter_mut().zip(counts) {
            counter.add(replica, count);
        }
    }

    /// Each count with its name: that of this process and of those whose statistics it was given.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STATISTICS.iter().zip(&self.0).map(|((name, _), counter)| (*name, counter.value()))
    }

    /// All counts together: more after every change.
    pub(crate) fn version(&self) -> u64 {
        self.0.iter().fold(1, |sum, counter| sum.saturating_add(counter.value()))
    }

    /// Takes in another copy; false, and nothing, when there are more replicas than may be.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let mut joined = self.clone();
        for (own, other) in joined.0.iter_mut().zip(&other.0) {
            own.join(other);
        }
        let fits = joined.0.iter().all(Counter::fits);
        if fits {
            *self = joined;
        }
        fits
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::bytes_of(|out| self.0.iter().for_each(|counter| counter.put(out)))
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut counters: [Counter; STATISTICS.len()] = Default::default();
        for counter in &mut counters {
            *counter = Counter::take(reader)?;
        }
        Ok(Self(counters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Replica = Replica { instance: 1, incarnation: 7 };
    const TWO: Replica = Replica { instance: 2, incarnation: 8 };

    #[test]
    fn what_was_there_before_is_not_counted_and_counts_go_around() {
        let mut watch = Watch::default();
        let counts = |found| {
            let mut counts = [5; STATISTICS.len()];
            counts[0] = found;
            counts
        };
        assert_eq!(watch.look(0, counts(u32::MAX - 1)), [0; STATISTICS.len()]);
        assert_eq!(watch.look(1, counts(9)), [0; STATISTICS.len()]);
        assert_eq!(watch.look(0, counts(3))[0], 5);
        assert_eq!(watch.look(0, counts(3)), [0; STATISTICS.len()]);
    }

    #[test]
    fn counts_have_the_names_that_the_kernel_gives_them() {
        let mut statistics = Statistics::default();
        statistics.add(ONE, std::array::from_fn(|place| place as u64));
        let named: BTreeMap<_, _> = statistics.named().collect();
        assert_eq!((named.len(), named["insert_failed"], named["drop"]), (STATISTICS.len(), 3, 4));
    }

    #[test]
    fn copies_are_joined_in_any_order_and_any_number_of_times() {
        let (mut one, mut two) = (Statistics::default(), Statistics::default());
        one.add(ONE, std::array::from_fn(|place| place as u64));
        two.add(TWO, [10; STATISTICS.len()]);
        let (mut first, mut second) = (one.clone(), two.clone());
        assert!(first.join(&two) && first.join(&two) && first.join(&one));
        assert!(second.join(&one));
        assert_eq!(first, second);
        assert_eq!(first.version(), 1 + 100 + (0..10).sum::<u64>());
        assert_eq!(Reader::whole(&first.encode(), Statistics::decode), Ok(first));
    }

    #[test]
    fn more_replicas_than_may_be_change_nothing() {
        let mut own = Statistics::default();
        own.add(ONE, [1; STATISTICS.len()]);
        let mut many = Statistics::default();
        for instance in 0..weir_state_transfer::merge::REPLICAS_MAX as u32 {
            many.add(Replica { instance, incarnation: 1 }, [1; STATISTICS.len()]);
        }
        let before = own.clone();
        assert!(!own.join(&many));
        assert_eq!(own, before);
    }
}
