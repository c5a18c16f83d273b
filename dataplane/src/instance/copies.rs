//! Copies: what network functions elsewhere know of flows that this instance does not own.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use weir_state_transfer::{Bucket, FlowKey};

use super::states::{Removed, States};
use super::{FlowStates, FlowTable};

/// Copies of the flows of one instance, by bucket, so many at most.
///
/// They lie beside what the functions know and never among it: a copy takes no room of a flow, and
/// is not found where state is moved. The first packet of a flow of which nothing else is known
/// makes its copy what is known. When state of the flow comes by another way, or its bucket does,
/// the copy goes: what comes is the truth. A copy that nobody needs ages, and goes without a record.
///
/// When there are as many as there may be, a new one is refused, and who puts it is told. Those that
/// are there are no worse, and one that goes on being put stays fresh.
#[derive(Debug)]
pub(super) struct Copies {
    buckets: BTreeMap<usize, States>,
    hasher: FixedState,
    most: usize,
    len: usize,
    kept: usize,
    /// Where the next sweep goes on.
    hand: CopiesCursor,
}

/// How far a walk over copies has come: from the last place of a bucket to the first, so that it
/// misses none that stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopiesCursor {
    pub(super) bucket: usize,
    /// Places of the bucket that are still ahead: all, before the first.
    pub(super) ahead: Option<usize>,
}

impl Copies {
    /// None yet, and `most` at most.
    pub(super) fn new(most: usize, hasher: FixedState) -> Self {
        let (buckets, hand) = Default::default();
        Self { buckets, hasher, most, len: 0, kept: 0, hand }
    }

    /// Whether there are none: packets need not look for one.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Bytes that functions keep of the streams of all copies.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// The copy of a flow, by either of its names.
    pub(super) fn get(&self, key: &FlowKey, bucket: Bucket) -> Option<&FlowStates> {
        self.buckets.get(&bucket.index())?.get(&key.both_ways())
    }

    /// Puts a copy in the place of those that have one of its names; it comes back when there are
    /// as many as there may be.
    pub(super) fn put(
        &mut self,
        key: FlowKey,
        bucket: Bucket,
        states: FlowStates,
    ) -> Result<(), FlowStates> {
        let key = key.both_ways();
        for name in std::iter::once(key).chain(states.second_key()) {
            self.remove(&name, bucket);
        }
        if self.len >= self.most {
            return Err(states);
        }
        let hasher = self.hasher.clone();
        let of_bucket =
            self.buckets.entry(bucket.index()).or_insert_with(|| States::growing(hasher));
        let kept = states.kept();
        of_bucket.put(key, states)?;
        (self.len, self.kept) = (self.len + 1, self.kept + kept);
        Ok(())
    }

    /// Takes the copy of a flow out, by either of its names.
    pub(super) fn remove(&mut self, key: &FlowKey, bucket: Bucket) -> Option<Removed> {
        let of_bucket = self.buckets.get_mut(&bucket.index())?;
        let removed = of_bucket.remove(&key.both_ways())?;
        if of_bucket.len() == 0 {
            self.buckets.remove(&bucket.index());
        }
        (self.len, self.kept) = (self.len - 1, self.kept - removed.states.kept());
        Some(removed)
    }

    /// Forgets all copies of flows of a bucket.
    pub(super) fn forget_bucket(&mut self, bucket: Bucket) {
        if let Some(gone) = self.buckets.remove(&bucket.index()) {
            (self.len, self.kept) = (self.len - gone.len(), self.kept - gone.kept());
        }
    }

    /// Goes on with a walk that forgets the copies that `is_gone` says, by either of their names: so
    /// many are looked at, which becomes what is left of it. Whether it has come to its end.
    fn forget_where(
        &mut self,
        cursor: &mut CopiesCursor,
        looks: &mut usize,
        is_gone: impl Fn(&FlowKey) -> bool,
    ) -> bool {
        while *looks > 0 {
            *looks -= 1;
            let Some((key, bucket)) = self.next(cursor) else { return true };
            let second = self.get(&key, bucket).and_then(FlowStates::second_key);
            let mut names = [Some(key), second].into_iter().flatten();
            if names.any(|name| is_gone(&name) || is_gone(&name.reversed())) {
                self.remove(&key, bucket);
            }
        }
        false
    }

    /// The next copy of a walk, which is past it at once; none behind the last.
    pub(super) fn next(&self, cursor: &mut CopiesCursor) -> Option<(FlowKey, Bucket)> {
        loop {
            let (bucket, of_bucket) = self.buckets.range(cursor.bucket..).next()?;
            if *bucket != cursor.bucket {
                *cursor = CopiesCursor { bucket: *bucket, ahead: None };
            }
            let ahead = cursor.ahead.unwrap_or(usize::MAX).min(of_bucket.len());
            if let Some(place) = ahead.checked_sub(1) {
                cursor.ahead = Some(place);
                return Some((*of_bucket.at(place)?, Bucket::of(*bucket as u32)));
            }
            *cursor = CopiesCursor { bucket: bucket + 1, ahead: None };
        }
    }

    /// Looks at the next copies, so many at most, and forgets those that `is_over` says.
    fn sweep(&mut self, places: usize, mut is_over: impl FnMut(&FlowStates) -> bool) {
        // One step is from the last bucket to the first.
        for _ in 0..places.min(self.len + 1) {
            let mut hand = self.hand;
            let next = self.next(&mut hand);
            self.hand = if next.is_some() { hand } else { CopiesCursor::default() };
            let Some((key, bucket)) = next else { continue };
            if self.get(&key, bucket).is_some_and(&mut is_over) {
                self.remove(&key, bucket);
            }
        }
    }
}

impl FlowTable {
    /// Whether there are copies.
    #[inline]
    pub(crate) fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Copies that there are.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Bytes that network functions keep of the streams of copies.
    pub(crate) fn kept_of_copies(&self) -> usize {
        self.copies.kept()
    }

    /// Nothing is known of a flow that a packet or more state has come for: its copy is what is
    /// known from here on, where there is room. Whether anything is known then. A copy that is over,
    /// or of which another flow has got a name here, is forgotten.
    pub(super) fn adopt_copy(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        is_over: impl FnOnce(&FlowStates) -> bool,
    ) -> bool {
        if self.knows(key, bucket) {
            return true;
        }
        if self.copies.get(key, bucket).is_none() || !self.has_room(bucket) {
            return false;
        }
        let Some(copy) = self.copies.remove(key, bucket) else { return false };
        let Removed { first, states, .. } = copy;
        let mut names = std::iter::once(first).chain(states.second_key());
        if is_over(&states) || names.any(|name| self.knows(&name, bucket)) {
            return false;
        }
        let kept = self.keep(first, bucket, states);
        debug_assert!(kept.is_ok(), "there is room, and its names are free");
        kept.is_ok()
    }

    /// Ends copies that are over, or that there is no memory for: so many are looked at.
    pub(super) fn sweep_copies(&mut self, places: usize, is_over: impl FnMut(&FlowStates) -> bool) {
        self.copies.sweep(places, is_over);
    }

    /// Forgets the copy of a flow: all that there is of it has come.
    pub(crate) fn forget_copy(&mut self, key: &FlowKey, bucket: Bucket) {
        if self.has_copies() {
            self.copies.remove(key, bucket);
        }
    }

    /// Forgets copies of the flows that `is_gone` says, by either of their names and in either
    /// direction: all that there is of these has come. So many are looked at, which becomes what is
    /// left of it; whether no more are to be. `cursor` begins at its default.
    pub(crate) fn forget_copies(
        &mut self,
        cursor: &mut CopiesCursor,
        looks: &mut usize,
        is_gone: impl Fn(&FlowKey) -> bool,
    ) -> bool {
        !self.has_copies() || self.copies.forget_where(cursor, looks, is_gone)
    }
}
