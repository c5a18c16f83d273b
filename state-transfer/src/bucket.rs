//! Steering buckets and sets of them.

use std::fmt;
use std::str::FromStr;

use crate::quote::{quoted, shortened};

/// Number of steering buckets, a power of two so that NIC indirection tables nest.
pub const BUCKETS: usize = 4096;

const WORDS: usize = BUCKETS / 64;

/// A set of buckets: one bit each, 512 bytes on the heap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BucketSet {
    words: Box<[u64; WORDS]>,
}

impl BucketSet {
    /// The set of no bucket.
    pub fn empty() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }

    /// The set of every bucket.
    pub fn all() -> Self {
        Self { words: Box::new([!0; WORDS]) }
    }

    /// Adds a bucket.
    pub fn insert(&mut self, bucket: Bucket) {
        self.words[bucket.index() / 64] |= 1 << (bucket.index() % 64);
    }

    /// Takes a bucket out.
    pub fn remove(&mut self, bucket: Bucket) {
        self.words[bucket.index() / 64] &= !(1 << (bucket.index() % 64));
    }

    /// Whether the bucket is in the set.
    #[inline]
    pub fn contains(&self, bucket: Bucket) -> bool {
        self.words[bucket.index() / 64] >> (bucket.index() % 64) & 1 == 1
    }

    /// The buckets that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    /// The buckets that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    /// The buckets that are in this set but not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    /// Whether some bucket is in both sets.
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(other.words.iter()).any(|(a, b)| a & b != 0)
    }

    /// Number of buckets in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no bucket.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The buckets that are `wanted`.
    pub fn of(wanted: impl Fn(Bucket) -> bool) -> Self {
        let mut set = Self::empty();
        for (index, word) in set.words.iter_mut().enumerate() {
            // Without branches: all of them are asked about.
            *word = (0..64).fold(0, |word, bit| {
                word | u64::from(wanted(Bucket::of((index * 64) as u32 + bit))) << bit
            });
        }
        set
    }

    /// The first bucket of the set whose number is at least `from`.
    pub fn next(&self, from: usize) -> Option<Bucket> {
        let first = self.words.get(from / 64)? & (!0 << (from % 64));
        let behind = self.words.iter().enumerate().skip(from / 64 + 1);
        let mut words = std::iter::once((from / 64, first)).chain(behind.map(|(n, w)| (n, *w)));
        let (index, word) = words.find(|(_, word)| *word != 0)?;
        Some(Bucket::of((index * 64) as u32 + word.trailing_zeros()))
    }

    /// The buckets of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            std::iter::successors(Some(*word), |rest| Some(rest & (rest - 1)))
                .take(word.count_ones() as usize)
                .map(move |rest| Bucket::of((index * 64) as u32 + rest.trailing_zeros()))
        })
    }

    fn combine(&self, other: &Self, operation: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.words.clone();
        for (word, other) in words.iter_mut().zip(other.words.iter()) {
            *word = operation(*word, *other);
        }
        Self { words }
    }
}

impl FromIterator<Bucket> for BucketSet {
    fn from_iter<I: IntoIterator<Item = Bucket>>(buckets: I) -> Self {
        let mut set = Self::empty();
        buckets.into_iter().for_each(|bucket| set.insert(bucket));
        set
    }
}

impl fmt::Display for BucketSet {
    /// Ranges as in `0-1023,2048`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        let mut buckets = self.iter().peekable();
        while let Some(first) = buckets.next() {
            let mut last = first;
            while let Some(next) = buckets.next_if(|next| next.0 == last.0 + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BucketSet({self})")
    }
}

impl FromStr for BucketSet {
    type Err = BucketSetError;

    /// Parses what `Display` prints; blanks around numbers are allowed.
    fn from_str(text: &str) -> Result<Self, BucketSetError> {
        if text.trim() == "none" {
            return Ok(Self::empty());
        }
        let mut set = Self::empty();
        let mut position = 0;
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                None => {
                    let only = number(part, position)?;
                    (only, only)
                }
                Some((first, last)) => {
                    (number(first, position)?, number(last, position + first.len() + 1)?)
                }
            };
            if first > last {
                return Err(BucketSetError::Reversed { first, last, position });
            }
            (first.0..=last.0).for_each(|index| set.insert(Bucket(index)));
            position += part.len() + 1;
        }
        Ok(set)
    }
}

/// A steering bucket, less than [`BUCKETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of that number, or `None` when there is none.
    pub fn new(index: u16) -> Option<Self> {
        (usize::from(index) < BUCKETS).then_some(Self(index))
    }

    /// The bucket of a steering hash: its low 12 bits.
    #[inline]
    pub fn of(hash: u32) -> Self {
        Self((hash % BUCKETS as u32) as u16)
    }

    /// Its number, less than [`BUCKETS`].
    #[inline]
    pub fn index(self) -> usize {
        // The mask says nothing new; it lets the compiler drop bounds checks.
        usize::from(self.0) % BUCKETS
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a set of buckets; positions are byte offsets into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketSetError {
    /// Something else stands where a number should.
    #[error("expected a bucket number at position {position}, found {}", quoted(found))]
    NotANumber {
        /// What stands there.
        found: String,
        /// Where it starts.
        position: usize,
    },
    /// The number is not that of a bucket.
    #[error(
        "no bucket {} (position {position}): buckets are 0 to {}",
        shortened(found),
        BUCKETS - 1
    )]
    OutOfRange {
        /// The number.
        found: String,
        /// Where it starts.
        position: usize,
    },
    /// A range ends before it starts.
    #[error("range {first}-{last} at position {position} ends before it starts")]
    Reversed {
        /// Start of the range.
        first: Bucket,
        /// End of the range.
        last: Bucket,
        /// Where it starts.
        position: usize,
    },
}

fn number(text: &str, position: usize) -> Result<Bucket, BucketSetError> {
    let position = position + (text.len() - text.trim_start().len());
    let found = text.trim();
    if found.is_empty() || !found.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BucketSetError::NotANumber { found: found.to_owned(), position });
    }
    found
        .parse()
        .ok()
        .and_then(Bucket::new)
        .ok_or_else(|| BucketSetError::OutOfRange { found: found.to_owned(), position })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn random_set(rng: &mut fastrand::Rng) -> BTreeSet<u16> {
        let span = rng.u16(1..=BUCKETS as u16);
        (0..rng.usize(..300)).map(|_| rng.u16(..span)).collect()
    }

    fn bitmap(set: &BTreeSet<u16>) -> BucketSet {
        set.iter().map(|index| Bucket::new(*index).unwrap()).collect()
    }

    #[test]
    fn behaves_like_a_set_of_numbers_and_survives_printing() {
        let mut rng = weir_seed::rng();
        for _ in 0..200 {
            let (a, b) = (random_set(&mut rng), random_set(&mut rng));
            let (left, right) = (bitmap(&a), bitmap(&b));
            assert_eq!(left.len(), a.len());
            assert_eq!(left.is_empty(), a.is_empty());
            assert_eq!(BucketSet::of(|bucket| a.contains(&bucket.0)), left);
            let from = rng.u16(..=BUCKETS as u16);
            let next = left.next(from.into()).map(|bucket| bucket.0);
            assert_eq!(next, a.range(from..).next().copied(), "from {from}");
            assert!(left.iter().map(|bucket| bucket.0).eq(a.iter().copied()));
            assert_eq!(left.union(&right), bitmap(&(&a | &b)));
            assert_eq!(left.intersection(&right), bitmap(&(&a & &b)));
            assert_eq!(left.minus(&right), bitmap(&(&a - &b)));
            assert_eq!(left.intersects(&right), !a.is_disjoint(&b));
            assert_eq!(left.to_string().parse(), Ok(left));
        }
    }

    #[test]
    fn inserts_and_removes_single_buckets() {
        let mut set = BucketSet::empty();
        let last = Bucket::new(4095).unwrap();
        set.insert(last);
        assert!(set.contains(last) && !set.contains(Bucket::new(4094).unwrap()));
        set.remove(last);
        assert!(set.is_empty());
        assert_eq!(BucketSet::all().len(), BUCKETS);
    }

    #[test]
    fn prints_and_parses_ranges() {
        let set: BucketSet = "2048, 0 - 1023,1024,4094-4095".parse().unwrap();
        assert_eq!(set.to_string(), "0-1024,2048,4094-4095");
        assert_eq!(BucketSet::all().to_string(), "0-4095");
        assert_eq!("none".parse(), Ok(BucketSet::empty()));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let error = |text: &str| text.parse::<BucketSet>().unwrap_err().to_string();
        assert_eq!(error(""), "expected a bucket number at position 0, found \"\"");
        assert_eq!(error("1,x"), "expected a bucket number at position 2, found \"x\"");
        assert_eq!(error("1,"), "expected a bucket number at position 2, found \"\"");
        assert_eq!(error("1--3"), "expected a bucket number at position 2, found \"-3\"");
        assert_eq!(error("0,7- 4096"), "no bucket 4096 (position 5): buckets are 0 to 4095");
        assert_eq!(
            error("99999999999999999999"),
            "no bucket 99999999999999999999 (position 0): buckets are 0 to 4095"
        );
        for text in ["z".repeat(60_000), "9".repeat(60_000)] {
            assert!(error(&text).len() < 300, "{}", error(&text));
        }
        assert_eq!(error("5,9-3"), "range 9-3 at position 2 ends before it starts");
    }
}
