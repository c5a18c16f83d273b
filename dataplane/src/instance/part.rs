//! A part of a flow table: what belongs to one steering bucket, handed over as a whole.

use weir_frame::prefetch;
use weir_state_transfer::{FlowKey, Nanos};
use zerocopy::FromZeros;

use super::states::States;
use super::{Entry, FlowHasher};

/// A hash table of fixed size: sets of eight entries, two candidate sets a key.
///
/// It never grows or rehashes, so an insertion costs as much as a look-up and a part can be
/// handed to another worker by moving a pointer. Its memory is zero pages until it is used.
pub struct Part {
    /// One line of tags a set; 0 marks a free entry.
    tags: Box<[[u16; WAYS]]>,
    entries: Box<[Entry]>,
    len: usize,
    /// What network functions know of its flows, where there are any.
    states: Option<Box<States>>,
    /// The count of changes when it came to its instance; on its way, that of the instance that has
    /// given it away. What functions know of its flows has changed no earlier.
    pub(super) came: u64,
}

/// Where an entry lies in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// Entries of a set.
pub(crate) const WAYS: usize = 8;

impl Part {
    /// A part for at least `flows` flows, rounded up to full sets and a power of two of them.
    ///
    /// # Panics
    ///
    /// When the machine has no memory for it.
    pub fn new(flows: usize) -> Self {
        let sets = flows.div_ceil(WAYS).next_power_of_two();
        let tags = FromZeros::new_box_zeroed_with_elems(sets).expect("memory for flow tags");
        let entries =
            FromZeros::new_box_zeroed_with_elems(sets * WAYS).expect("memory for flow entries");
        Self { tags, entries, len: 0, states: None, came: 0 }
    }

    /// A part that has room too for what network functions know of its flows, of as many as there
    /// may be entries, and for their second names if there `are_translated` ones.
    pub fn with_states(flows: usize, hasher: &FlowHasher, are_translated: bool) -> Self {
        let part = Self::new(flows);
        let states = States::new(part.entries.len(), hasher.state(), are_translated);
        Self { states: Some(Box::new(states)), ..part }
    }

    /// Bytes that the table of what network functions know takes in a part for so many flows.
    pub(crate) fn bytes_of_states(flows: usize, are_translated: bool) -> usize {
        States::bytes(flows.div_ceil(WAYS).next_power_of_two() * WAYS, are_translated)
    }

    /// Flows in the part.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the part has no flow.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets of the part, the unit of [`Part::sweep`] and [`Part::in_set`].
    pub(crate) fn sets(&self) -> usize {
        self.tags.len()
    }

    /// Where the flow's entry is. `hash` is the private hash of the key.
    #[inline]
    pub fn find(&self, key: &FlowKey, hash: u64) -> Option<Slot> {
        let (first, second) = self.candidates(hash);
        self.find_in(first, key, hash).or_else(|| self.find_in(second, key, hash))
    }

    /// Asks the processor for the tags of both sets that a key may be in.
    #[inline]
    pub(super) fn prefetch_sets(&self, hash: u64) {
        let (first, second) = self.candidates(hash);
        prefetch(&self.tags[first]);
        prefetch(&self.tags[second]);
    }

    /// Asks the processor for the place that an entry would be put into, if no other comes into its
    /// set before.
    #[inline]
    pub(super) fn prefetch_free(&self, hash: u64) {
        self.free(hash).iter().for_each(|slot| self.entry(*slot).prefetch());
    }

    /// Puts an entry into the part; `None` when both of its sets are full.
    pub fn insert(&mut self, entry: Entry, hash: u64) -> Option<Slot> {
        let Slot(at) = self.free(hash)?;
        self.tags[at / WAYS][at % WAYS] = tag(hash);
        self.entries[at] = entry;
        self.len += 1;
        Some(Slot(at))
    }

    /// A free place for a key, in the emptier of its two sets.
    #[inline]
    fn free(&self, hash: u64) -> Option<Slot> {
        let (first, second) = self.candidates(hash);
        let (free_first, free_second) = (self.tagged(first, 0), self.tagged(second, 0));
        let is_first = free_first.count_ones() >= free_second.count_ones();
        let (set, free) = if is_first { (first, free_first) } else { (second, free_second) };
        ways(free).next().map(|way| Slot(set * WAYS + way))
    }

    /// The entry in a slot.
    #[inline]
    pub fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot.0]
    }

    /// The entry in a slot.
    #[inline]
    pub fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.0]
    }

    /// Takes the entry out of a slot that holds one.
    pub fn remove(&mut self, slot: Slot) -> Entry {
        self.tags[slot.0 / WAYS][slot.0 % WAYS] = 0;
        self.len -= 1;
        self.entries[slot.0].clone()
    }

    /// The first set from one on that holds an entry, of so many at most; the one behind them if none
    /// does.
    #[inline]
    pub(super) fn next_used(&self, set: usize, most: usize) -> usize {
        let tags = self.tags.iter().skip(set).take(most);
        let empty = tags.take_while(|tags| **tags == [0; WAYS]);
        set + empty.count()
    }

    /// Asks the processor for where a walk over it begins.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.tags[0]);
        self.states.iter().for_each(|states| prefetch(&**states));
    }

    /// The slots of a set that hold entries.
    pub(crate) fn in_set(&self, set: usize) -> impl Iterator<Item = Slot> + use<> {
        let tags = self.tags.get(set).copied().unwrap_or_default();
        (0..WAYS).filter(move |way| tags[*way] != 0).map(move |way| Slot(set * WAYS + way))
    }

    /// Whether a slot holds an entry.
    pub(crate) fn is_taken(&self, slot: Slot) -> bool {
        self.tags[slot.0 / WAYS][slot.0 % WAYS] != 0
    }

    /// What network functions know of its flows, where there are any.
    pub(super) fn states(&self) -> Option<&States> {
        self.states.as_deref()
    }

    /// What network functions know of its flows, where there are any.
    pub(super) fn states_mut(&mut self) -> Option<&mut States> {
        self.states.as_deref_mut()
    }

    /// Whether there is room for what network functions know of another flow.
    pub(super) fn has_room(&self) -> bool {
        self.states().is_some_and(|states| states.len() < states.most())
    }

    /// Flows that network functions may know.
    pub(super) fn room(&self) -> usize {
        self.states().map_or(0, States::most)
    }

    /// Bytes that network functions keep of the streams of its flows.
    pub(super) fn kept(&self) -> usize {
        self.states().map_or(0, States::kept)
    }

    /// Flows that network functions know.
    pub(crate) fn known(&self) -> usize {
        self.states.as_ref().map_or(0, |states| states.len())
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        (0..self.sets()).flat_map(|set| self.in_set(set)).map(|slot| self.entry(slot))
    }

    /// Ends the flows of a set that were last seen before `before`; how many.
    pub(crate) fn sweep(&mut self, set: usize, before: Nanos) -> usize {
        let mut ended = 0;
        for slot in self.in_set(set) {
            if self.entry(slot).last_seen() < before {
                self.remove(slot);
                ended += 1;
            }
        }
        ended
    }

    fn find_in(&self, set: usize, key: &FlowKey, hash: u64) -> Option<Slot> {
        ways(self.tagged(set, tag(hash)))
            .map(|way| Slot(set * WAYS + way))
            .find(|slot| self.entries[slot.0].key == *key)
    }

    /// The ways of a set that have a tag, one bit each. All are compared, without branches.
    #[inline]
    fn tagged(&self, set: usize, tag: u16) -> u8 {
        let tags = self.tags[set].iter().enumerate();
        tags.fold(0, |ways, (way, found)| ways | u8::from(*found == tag) << way)
    }

    /// Two different sets, unless there is but one: with the same set twice, an eighth of the keys
    /// of a small part would have no choice, and the part refuse them far from full.
    #[inline]
    fn candidates(&self, hash: u64) -> (usize, usize) {
        let mask = self.tags.len() - 1;
        let first = hash as usize & mask;
        (first, first ^ (((hash >> 24) as usize | 1) & mask))
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part of {} flows", self.len)
    }
}

/// The ways of a mask, the first first.
#[inline]
fn ways(mut mask: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let way = (mask != 0).then(|| mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        way
    })
}

#[inline]
fn tag(hash: u64) -> u16 {
    ((hash >> 48) as u16) | 1
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use weir_state_transfer::ServiceId;

    use super::*;
    use crate::instance::FlowHasher;

    fn key(n: u16) -> FlowKey {
        FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (n, 53), 17, ServiceId(0))
    }

    #[test]
    fn a_walk_goes_over_so_many_empty_sets_and_no_other() {
        let hasher = FlowHasher::with_seed(7);
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut part = Part::new(512);
            for _ in 0..rng.usize(..6) {
                let key = key(rng.u16(..));
                part.insert(Entry::new(key, Nanos(0)), hasher.hash(&key)).expect("room");
            }
            let (from, most) = (rng.usize(..=64), rng.usize(..70));
            let end = (from + most).min(part.sets());
            let used = (from..end).find(|set| part.in_set(*set).next().is_some());
            assert_eq!(part.next_used(from, most), used.unwrap_or(end.max(from)));
        }
    }

    #[test]
    fn behaves_as_a_map_under_random_use() {
        let seed = 0xF10;
        let mut rng = fastrand::Rng::with_seed(seed);
        let hasher = FlowHasher::with_seed(seed);
        let mut part = Part::new(256);
        let mut model: HashMap<FlowKey, u64> = HashMap::new();
        for n in 0..100_000 {
            let key = key(rng.u16(..200));
            let hash = hasher.hash(&key);
            let slot = part.find(&key, hash);
            assert_eq!(slot.map(|slot| part.entry(slot).packets), model.get(&key).copied());
            match slot {
                Some(slot) if rng.bool() => {
                    part.remove(slot);
                    model.remove(&key);
                }
                Some(_) => {}
                None => {
                    let mut entry = Entry::new(key, Nanos(0));
                    entry.packets = n;
                    assert!(part.insert(entry, hash).is_some(), "seed {seed}: room is left");
                    model.insert(key, n);
                }
            }
            assert_eq!(part.len(), model.len());
        }
        assert_eq!(part.iter().count(), model.len());
    }

    #[test]
    fn flows_of_the_same_hash_are_kept_apart() {
        for hash in [0, 42, u64::MAX] {
            let mut part = Part::new(64);
            for n in 0..4 {
                let mut entry = Entry::new(key(n), Nanos(0));
                entry.packets = u64::from(n);
                assert!(part.insert(entry, hash).is_some());
            }
            assert!(part.find(&key(4), hash).is_none(), "it has the hash of others only");
            for n in 0..4 {
                let slot = part.find(&key(n), hash).unwrap();
                assert_eq!((part.entry(slot).key, part.entry(slot).packets), (key(n), n.into()));
                part.remove(slot);
                assert!(part.find(&key(n), hash).is_none());
            }
        }
    }

    /// How full a part may be is a matter of chance; this is what it can be relied on for.
    #[test]
    fn takes_two_thirds_of_its_room_whatever_the_keys() {
        for flows in [8, 16, 64, 256, 1024] {
            for seed in 0..4096 * 64 / u64::from(flows) {
                let hasher = FlowHasher::with_seed(seed);
                let mut part = Part::new(usize::from(flows));
                for n in 0..flows * 2 / 3 {
                    let slot = part.insert(Entry::new(key(n), Nanos(0)), hasher.hash(&key(n)));
                    assert!(slot.is_some(), "flow {n} of a part for {flows}, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn refuses_when_both_sets_are_full_and_takes_again_after_a_removal() {
        let hasher = FlowHasher::with_seed(1);
        let mut part = Part::new(8);
        for n in 0..8 {
            assert!(part.insert(Entry::new(key(n), Nanos(0)), hasher.hash(&key(n))).is_some());
        }
        assert!(part.insert(Entry::new(key(8), Nanos(0)), hasher.hash(&key(8))).is_none());
        let slot = part.find(&key(3), hasher.hash(&key(3))).unwrap();
        assert_eq!(part.remove(slot).key, key(3));
        assert!(part.insert(Entry::new(key(8), Nanos(0)), hasher.hash(&key(8))).is_some());
        assert!(part.find(&key(3), hasher.hash(&key(3))).is_none());
    }

    #[test]
    fn a_sweep_ends_idle_flows_only() {
        let hasher = FlowHasher::with_seed(1);
        let mut part = Part::new(64);
        for n in 0..20 {
            part.insert(Entry::new(key(n), Nanos(u64::from(n))), hasher.hash(&key(n)));
        }
        let ended: usize = (0..part.sets()).map(|set| part.sweep(set, Nanos(5))).sum();
        assert_eq!((ended, part.len()), (5, 15));
        assert!(part.iter().all(|entry| entry.last_seen() >= Nanos(5)));
    }
}
