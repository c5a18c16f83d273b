//! The trie of one address family: a root of many bits, then groups of 256 words (DIR-24-8).
//!
//! Prefixes are pushed to the leaves: each word holds the answer for every address that leads to
//! it, so a lookup ends at the first word that leads to no group.

use super::recycler::Recycler;
use super::word::Word;
use crate::sync::{self, AtomicU32, Ordering};

/// Words in a group: one for each value of the next byte of the address.
const GROUP: usize = 256;

/// The words of one address family.
#[derive(Debug)]
pub(super) struct Trie {
    /// Bytes of the address that the root looks at.
    root_bytes: usize,
    root: Box<[AtomicU32]>,
    /// The prefix of length 0, kept apart so that it does not fill the root.
    default: AtomicU32,
}

/// The groups that the tries of both families share.
#[derive(Debug)]
pub(super) struct Groups(Box<[AtomicU32]>);

/// A prefix as the trie sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix<'a> {
    /// The address; bits behind the length are 0.
    pub(super) address: &'a [u8],
    /// How many bits of it count.
    pub(super) len: u8,
}

impl Trie {
    /// A trie whose root looks at so many bytes. Memory is taken as words are written.
    pub(super) fn new(root_bytes: usize) -> Self {
        Self { root_bytes, root: zeroed(1 << (8 * root_bytes)), default: AtomicU32::default() }
    }

    /// The word of the longest prefix that matches. Never waits; safe beside the writer.
    #[inline]
    pub(super) fn lookup(&self, groups: &Groups, address: &[u8]) -> Word {
        let mut word = self.find(groups, address);
        // The default is a second word. Looking again tells whether a route came between; a third
        // time would only matter if routes came and went faster than this loop.
        for _ in 0..2 {
            if word != Word::EMPTY {
                return word;
            }
            let default = Word(self.default.load(Ordering::Acquire));
            word = self.find(groups, address);
            if word == Word::EMPTY {
                return default;
            }
        }
        word
    }

    /// Enters a prefix, or changes its next hop. False, and nothing changed, without enough groups.
    pub(super) fn insert(
        &self,
        groups: &Groups,
        free: &mut Recycler,
        prefix: Prefix<'_>,
        leaf: Word,
    ) -> bool {
        if prefix.len == 0 {
            self.default.store(leaf.0, Ordering::Release);
            return true;
        }
        if free.available() < self.groups_missing(groups, prefix) {
            return false;
        }
        let (mut words, mut index) = (&*self.root, self.root_index(prefix.address));
        let mut bits = 8 * self.root_bytes;
        for byte in &prefix.address[self.root_bytes..] {
            if usize::from(prefix.len) <= bits {
                break;
            }
            let word = load(words, index);
            let group = match word.group() {
                Some(group) => group,
                None => {
                    let group = free.take().expect("the missing groups were counted");
                    // A new group says what its word said; readers may use either.
                    groups.fill(group, word);
                    store(words, index, Word::child(group));
                    group
                }
            };
            (words, index, bits) = (groups.group(group), usize::from(*byte), bits + 8);
        }
        let covered = 1 << (bits - usize::from(prefix.len));
        let rank = leaf.rank();
        paint(groups, &words[index..index + covered], &|word| word.rank() <= rank, leaf);
        true
    }

    /// Takes a prefix out that is there; `parent` is the word of the longest one that covers it.
    /// Groups that are not needed without it are retired at `generation`.
    pub(super) fn remove(
        &self,
        groups: &Groups,
        free: &mut Recycler,
        prefix: Prefix<'_>,
        parent: Word,
        generation: u64,
    ) {
        if prefix.len == 0 {
            self.default.store(Word::EMPTY.0, Ordering::Release);
            return;
        }
        let mut path = Vec::with_capacity(16);
        let (mut words, mut index) = (&*self.root, self.root_index(prefix.address));
        let mut bits = 8 * self.root_bytes;
        for byte in &prefix.address[self.root_bytes..] {
            if usize::from(prefix.len) <= bits {
                break;
            }
            let Some(group) = load(words, index).group() else { break };
            path.push((words, index, group, bits));
            (words, index, bits) = (groups.group(group), usize::from(*byte), bits + 8);
        }
        let covered = 1 << bits.saturating_sub(usize::from(prefix.len));
        let rank = Word::rank_of(prefix.len);
        paint(groups, &words[index..index + covered], &|word| word.rank() == rank, parent);
        while let Some((words, index, group, bits)) = path.pop() {
            let Some(word) = groups.uniform(group, bits) else { break };
            store(words, index, word);
            free.retire(group, generation);
        }
    }

    fn groups_missing(&self, groups: &Groups, prefix: Prefix<'_>) -> usize {
        let needed = usize::from(prefix.len).saturating_sub(8 * self.root_bytes).div_ceil(8);
        let mut word = load(&self.root, self.root_index(prefix.address));
        for level in 0..needed {
            let Some(group) = word.group() else { return needed - level };
            let byte = prefix.address[self.root_bytes + level];
            word = load(groups.group(group), usize::from(byte));
        }
        0
    }

    #[inline]
    fn find(&self, groups: &Groups, address: &[u8]) -> Word {
        let mut word = load(&self.root, self.root_index(address));
        for byte in address.get(self.root_bytes..).unwrap_or_default() {
            let Some(group) = word.group() else { break };
            word = load(groups.group(group), usize::from(*byte));
        }
        word
    }

    #[inline]
    fn root_index(&self, address: &[u8]) -> usize {
        address.iter().take(self.root_bytes).fold(0, |index, byte| index << 8 | usize::from(*byte))
    }
}

impl Groups {
    pub(super) fn new(count: u32) -> Self {
        Self(zeroed(count as usize * GROUP))
    }

    #[inline]
    fn group(&self, group: u32) -> &[AtomicU32] {
        let start = group as usize * GROUP;
        self.0.get(start..start + GROUP).unwrap_or_default()
    }

    fn fill(&self, group: u32, word: Word) {
        for index in 0..GROUP {
            store(self.group(group), index, word);
        }
    }

    /// The word that all of a group are, when no prefix of it is longer than `bits`.
    fn uniform(&self, group: u32, bits: usize) -> Option<Word> {
        let words = self.group(group);
        let first = load(words, 0);
        let longer = first.rank() as usize > bits + 1;
        let same = || (1..GROUP).all(|index| load(words, index) == first);
        (first.group().is_none() && !longer && same()).then_some(first)
    }
}

/// Writes `to` where `wanted` says so, in `words` and the groups below.
fn paint(groups: &Groups, words: &[AtomicU32], wanted: &dyn Fn(Word) -> bool, to: Word) {
    for index in 0..words.len() {
        let word = load(words, index);
        match word.group() {
            Some(group) => paint(groups, groups.group(group), wanted, to),
            None if wanted(word) => store(words, index, to),
            None => {}
        }
    }
}

/// Acquires, so that a group or next hop that the word names is seen as it was written.
#[inline]
fn load(words: &[AtomicU32], index: usize) -> Word {
    words.get(index).map_or(Word::EMPTY, |word| Word(word.load(Ordering::Acquire)))
}

fn store(words: &[AtomicU32], index: usize, word: Word) {
    words[index].store(word.0, Ordering::Release);
}

/// Words of which the system gives memory only when they are written.
fn zeroed(words: usize) -> Box<[AtomicU32]> {
    sync::zeroed(words).expect("memory for the route table at start")
}
