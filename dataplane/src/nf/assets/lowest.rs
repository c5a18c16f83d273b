//! A map that has a bound and still is a join: of more than fit, the lowest keys stay.

use std::collections::BTreeMap;

use weir_state_transfer::merge::Join;
use weir_state_transfer::wire::{Reader, WireError, Writer};

/// State that is carried as bytes, in one form only.
pub(super) trait Kept: Sized {
    /// Appends it to bytes.
    fn put(&self, out: &mut Writer);

    /// Takes it off the front of bytes.
    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError>;
}

/// A map of at most `MAX` entries, of which none is ever removed but for a lower one.
///
/// What stays depends on nothing but the keys: not on when or in which order they came. So copies
/// that are joined in any order end with the same entries, and one that had to go never comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowest<K, V, const MAX: usize>(BTreeMap<K, V>);

/// What became of something that was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// It was known.
    Again,
    /// It is new.
    New,
    /// It is new, and for it something else had to go.
    InPlace,
    /// There is no room for it.
    NoRoom,
}

impl Learned {
    pub(super) fn is_new(self) -> bool {
        matches!(self, Self::New | Self::InPlace)
    }

    /// Whether something is left out because of the bound.
    pub(super) fn leaves_out(self) -> bool {
        matches!(self, Self::InPlace | Self::NoRoom)
    }
}

impl<K: Ord + Clone, V: Join + Clone, const MAX: usize> Lowest<K, V, MAX> {
    /// Joins what is known of a key with what there is.
    pub(super) fn learn(&mut self, key: &K, value: &V) -> Learned {
        if let Some(known) = self.0.get_mut(key) {
            known.join(value);
            return Learned::Again;
        }
        let learned = self.room(key);
        if learned == Learned::InPlace {
            self.0.pop_last();
        }
        if learned.is_new() {
            self.0.insert(key.clone(), value.clone());
        }
        learned
    }

    /// What would become of a key that was learned now.
    pub(super) fn outcome(&self, key: &K) -> Learned {
        if self.0.contains_key(key) { Learned::Again } else { self.room(key) }
    }

    /// What becomes of a key that is not known.
    fn room(&self, key: &K) -> Learned {
        match self.0.last_key_value() {
            _ if self.0.len() < MAX => Learned::New,
            Some((highest, _)) if highest > key => Learned::InPlace,
            _ => Learned::NoRoom,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, V, const MAX: usize> Default for Lowest<K, V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, V: Join + Clone, const MAX: usize> Join for Lowest<K, V, MAX> {
    fn join(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            self.learn(key, value);
        }
    }
}

impl<K: Ord + Kept, V: Kept, const MAX: usize> Kept for Lowest<K, V, MAX> {
    fn put(&self, out: &mut Writer) {
        out.list(self.0.iter(), |out, (key, value)| {
            key.put(out);
            value.put(out);
        });
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let entries =
            reader.list("entries", MAX, |reader| Ok((K::take(reader)?, V::take(reader)?)));
        let entries = entries?;
        if !entries.is_sorted_by(|one, other| one.0 < other.0) {
            return Err(WireError::BadField { what: "order of entries" });
        }
        Ok(Self(entries.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::*;
    use crate::nf::Timestamp;

    type Nested = Lowest<u8, Inner, 4>;

    /// As a service has names: bounded itself.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Inner(Lowest<u8, Seen, 2>);

    impl Join for Inner {
        fn join(&mut self, other: &Self) {
            self.0.join(&other.0);
        }
    }

    fn random(rng: &mut fastrand::Rng) -> Nested {
        let mut map = Nested::default();
        for _ in 0..rng.usize(..12) {
            let mut inner = Lowest::default();
            inner.learn(&rng.u8(..5), &Seen::at(Timestamp(rng.u64(..9))));
            map.learn(&rng.u8(..9), &Inner(inner));
        }
        map
    }

    fn joined(one: &Nested, other: &Nested) -> Nested {
        let mut joined = one.clone();
        joined.join(other);
        joined
    }

    #[test]
    fn joining_is_idempotent_commutative_and_associative_though_it_is_bounded() {
        let mut rng = weir_seed::rng();
        for _ in 0..5_000 {
            let [a, b, c] = [(); 3].map(|()| random(&mut rng));
            assert_eq!(joined(&a, &a), a);
            assert_eq!(joined(&a, &b), joined(&b, &a));
            assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            assert!(joined(&a, &b).iter().len() <= 4);
        }
    }

    #[test]
    fn the_lowest_keys_stay_and_what_had_to_go_is_not_learned_again() {
        let mut map: Lowest<u8, Seen, 2> = Lowest::default();
        let seen = Seen::at(Timestamp(1));
        let learned = [7, 9, 8, 9, 7, 3, 8].map(|key| {
            let outcome = map.outcome(&key);
            assert_eq!(map.learn(&key, &seen), outcome);
            outcome
        });
        use Learned::{Again, InPlace, New, NoRoom};
        assert_eq!(learned, [New, New, InPlace, NoRoom, Again, InPlace, NoRoom]);
        assert!(map.iter().map(|(key, _)| *key).eq([3, 7]));
    }
}
