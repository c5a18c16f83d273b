//! One word of the tries: no route, a route, or a group of longer prefixes.

use super::next_hops::NextHopId;

/// Marks a word that leads to a group.
const CHILD: u32 = 1 << 31;

/// The value of one atomic word.
///
/// 0 says that there is no route but perhaps the default. Otherwise either the top bit is set and
/// the rest is the number of a group, or the upper half is the length of the prefix plus one and
/// the lower half the next hop. The length lets the writer tell what a new prefix may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u32);

impl Word {
    pub(super) const EMPTY: Self = Self(0);

    pub(super) fn leaf(prefix_len: u8, hop: NextHopId) -> Self {
        Self((u32::from(prefix_len) + 1) << 16 | u32::from(hop.0))
    }

    pub(super) fn child(group: u32) -> Self {
        Self(CHILD | group)
    }

    /// The group that the word leads to.
    #[inline]
    pub(super) fn group(self) -> Option<u32> {
        (self.0 & CHILD != 0).then_some(self.0 & !CHILD)
    }

    /// The next hop of a word that leads to no group.
    #[inline]
    pub(super) fn hop(self) -> Option<NextHopId> {
        (self != Self::EMPTY).then_some(NextHopId(self.0 as u16))
    }

    /// The length plus one of the prefix that a word without group stands for, 0 for none.
    pub(super) fn rank(self) -> u32 {
        self.0 >> 16
    }

    /// What [`Word::rank`] is for a prefix of this length.
    pub(super) fn rank_of(prefix_len: u8) -> u32 {
        u32::from(prefix_len) + 1
    }
}
