//! A map that is walked in pieces, while entries come and go.

use std::collections::BTreeMap;
use std::ops::Bound;

use weir_state_transfer::FlowId;
use weir_state_transfer::southbound::{Cursor, Get, More};

/// Entries that one call of [`Numbered::pick`] looks at, at most.
const LOOKED_AT: usize = 256;

/// A map whose entries are numbered as they come.
///
/// A walk goes from number to number, so that it can stop at any entry and go on at any time: what
/// is there all the while is met once, and so is what has come since.
#[derive(Clone, Debug)]
pub(super) struct Numbered<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    keys: BTreeMap<u64, K>,
    /// The number of the entry that came last.
    last: u64,
}

impl<K: Ord + Copy, V> Numbered<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The number of an entry.
    pub(super) fn number(&self, key: &K) -> Option<u64> {
        self.entries.get(key).map(|(number, _)| *number)
    }

    /// The entry of a key; where there is none, it comes now.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let Self { entries, keys, last } = self;
        let (_, value) = entries.entry(key).or_insert_with(|| {
            *last += 1;
            keys.insert(*last, key);
            (*last, make())
        });
        value
    }

    /// Puts an entry in the place of any other of its key; its number.
    pub(super) fn insert(&mut self, key: K, value: V) -> u64 {
        self.remove(&key);
        self.last += 1;
        self.keys.insert(self.last, key);
        self.entries.insert(key, (self.last, value));
        self.last
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (number, value) = self.entries.remove(key)?;
        self.keys.remove(&number);
        Some(value)
    }

    /// Removes all entries that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        let Self { entries, keys, .. } = self;
        entries.retain(|_, (_, value)| keep(value));
        keys.retain(|_, key| entries.contains_key(key));
    }

    /// All entries, in the order of their keys.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    /// The entries behind a number, with theirs, in this order.
    pub(super) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &K, &V)> {
        let behind = self.keys.range((Bound::Excluded(number), Bound::Unbounded));
        behind.filter_map(|(number, key)| Some((*number, key, self.get(key)?)))
    }

    /// Gives those of the next entries whose ids a filter picks: as many as are asked for at most,
    /// of a bounded number that is looked at. So `give` may not have been called, though there is
    /// more.
    pub(super) fn pick(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        id: impl Fn(&K) -> FlowId,
        mut give: impl FnMut(FlowId, &V),
    ) -> More {
        let mut given = 0;
        for (looked_at, (number, key, value)) in self.after(cursor.0).enumerate() {
            if looked_at == LOOKED_AT || given == get.max {
                return More::Yes;
            }
            cursor.0 = number;
            let id = id(key);
            if get.filter.picks(&id, get.extent) {
                given += 1;
                give(id, value);
            }
        }
        More::No
    }
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), keys: BTreeMap::new(), last: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_state_transfer::flow_id::Extent;
    use weir_state_transfer::{ServiceId, StateFilter};

    use super::*;

    fn id(number: &u16) -> FlowId {
        let [high, low] = number.to_be_bytes();
        FlowId::host([10, 0, high, low].into(), ServiceId(0))
    }

    /// Beside a plain map.
    #[test]
    fn a_walk_in_pieces_meets_once_what_is_there_all_the_while_and_what_has_come() {
        let mut rng = weir_seed::rng();
        let filter: StateFilter = "src=10.0.1.0/24".parse().expect("a filter");
        let picked = |key: &u16| key >> 8 == 1;
        for _ in 0..200 {
            let mut map: Numbered<u16, u8> = Numbered::default();
            (0..900).for_each(|key| *map.entry(key, || 0) = rng.u8(..3));
            let mut plain: BTreeMap<u16, u8> =
                map.iter().map(|(key, value)| (*key, *value)).collect();
            let mut stays: BTreeSet<u16> = plain.keys().copied().filter(picked).collect();
            let get =
                Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: rng.usize(1..50) };
            let (mut cursor, mut met) = (Cursor::default(), Vec::new());
            loop {
                let before = met.len();
                let more = map.pick(&get, &mut cursor, id, |id, _| met.push(id));
                assert!(met.len() - before <= get.max && met.len() < 10_000);
                if more == More::No {
                    break;
                }
                let (key, value) = (rng.u16(..1000), rng.u8(..3));
                match rng.u8(..20) {
                    0 => {
                        map.retain(|other| *other != value);
                        plain.retain(|_, other| *other != value);
                    }
                    1..10 => assert_eq!(map.remove(&key), plain.remove(&key)),
                    _ => assert_eq!(map.entry(key, || value), plain.entry(key).or_insert(value)),
                }
                stays.retain(|key| plain.contains_key(key));
                assert_eq!(map.contains(&key), plain.contains_key(&key));
            }
            assert!(map.iter().eq(plain.iter()) && map.len() == plain.len());
            assert_eq!(map.after(0).count(), plain.len(), "nothing is left of what has gone");
            let times = |key: &u16| met.iter().filter(|other| **other == id(key)).count();
            assert!(stays.iter().all(|key| times(key) == 1));
            assert!(plain.keys().filter(|key| picked(key)).all(|key| times(key) >= 1));
        }
    }

    #[test]
    fn a_filter_that_picks_nothing_does_not_look_at_everything_at_once() {
        let mut map = Numbered::default();
        (0..1000).for_each(|key| _ = map.entry(key, || ()));
        let filter: StateFilter = "src=192.0.2.0/24".parse().expect("a filter");
        let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 10 };
        let mut cursor = Cursor::default();
        let calls =
            (1..).find(|_| map.pick(&get, &mut cursor, id, |id, ()| panic!("{id}")) == More::No);
        assert_eq!(calls, Some(1000 / LOOKED_AT + 1));
    }
}
