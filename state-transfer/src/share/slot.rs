//! Slots: what a share divides the groups of its state into.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Slots of a share at most.
pub const SLOTS_MAX: usize = 4096;

/// A slot of a share: the groups of state that have one home, one order and one queue.
///
/// A group, such as what is known of one source, is in the slot that its key hashes to. So tables
/// have as many rows as there are slots, however many groups come; two groups wait for each other
/// only if they are in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a group among `slots`. `key` is the secret of the share: without it nobody can
    /// choose addresses whose groups fall into one slot.
    pub fn of(group: &impl Hash, key: u64, slots: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        group.hash(&mut hasher);
        Self((hasher.finish() % slots.clamp(1, SLOTS_MAX) as u64) as u16)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotSet(Vec<u64>);

impl SlotSet {
    /// The first `slots` slots.
    pub fn all(slots: usize) -> Self {
        (0..slots.min(SLOTS_MAX)).map(|slot| Slot(slot as u16)).collect()
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        let word = slot.index() / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot.0 % 64);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(word) = self.0.get_mut(slot.index() / 64) {
            *word &= !(1 << (slot.0 % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Whether a slot is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        self.0.get(slot.index() / 64).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first slot of the set.
    pub fn first(&self) -> Option<Slot> {
        self.iter().next()
    }

    /// The slots, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let words = self.0.iter().enumerate();
        words.flat_map(|(word, bits)| {
            (0..64)
                .filter(move |bit| bits >> bit & 1 == 1)
                .map(move |bit| Slot((word * 64 + bit) as u16))
        })
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_is_equal_whatever_was_in_it_before() {
        let mut set: SlotSet = [3, 64, 4095].map(Slot).into_iter().collect();
        assert_eq!(set.iter().map(|slot| slot.0).collect::<Vec<_>>(), [3, 64, 4095]);
        set.remove(Slot(4095));
        set.remove(Slot(7));
        assert_eq!(set, [3, 64].map(Slot).into_iter().collect());
        assert!(set.contains(Slot(64)) && !set.contains(Slot(4095)) && !set.contains(Slot(4)));
        assert_eq!(SlotSet::all(100).iter().count(), 100);
    }

    #[test]
    fn groups_spread_over_the_slots_and_otherwise_under_another_key() {
        let spread =
            |key| (0..10_000).map(|group: u32| Slot::of(&group, key, 16)).collect::<Vec<_>>();
        let (one, other) = (spread(1), spread(2));
        for slot in 0..16 {
            let count = one.iter().filter(|of| of.0 == slot).count();
            assert!((500..750).contains(&count), "{slot}: {count}");
        }
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!((500..750).contains(&same), "{same}");
    }
}
