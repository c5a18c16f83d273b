//! The flow table of an instance: one part a bucket that it owns, and one for flows moved to it.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use weir_state_transfer::bucket::{BUCKETS, Bucket, BucketSet};
use weir_state_transfer::{FlowKey, Nanos};
use zerocopy::IntoBytes;

use super::copies::Copies;
use super::part::{Part, Slot};
use super::{Entry, FlowStates};

/// The flows of one instance.
///
/// The flows of a bucket that the instance owns are in that bucket's part, which a move hands
/// over as a whole. Flows that the instance owns by a rule or an exact entry of steering, while
/// another owns their bucket, are in its own part.
#[derive(Debug)]
pub struct FlowTable {
    pub(super) parts: Box<[Option<Box<Part>>]>,
    pub(super) own: Part,
    /// Of flows that the instance does not own.
    pub(super) copies: Copies,
    pub(super) hasher: FlowHasher,
    buckets: usize,
    /// The parts in which there may be anything: each that has, and some that had.
    pub(super) occupied: BucketSet,
    /// Flows in the parts and in `own`.
    pub(super) len: usize,
    /// Flows that network functions know, in the parts and in `own`.
    pub(super) known: usize,
    /// Bytes that network functions keep of the streams of flows in the parts and in `own`.
    pub(super) kept: usize,
    /// The part and set that the next sweep looks at.
    hand: (usize, usize),
    /// What network functions knew of flows that have been given up, until they are told.
    pub(super) given_up: Vec<FlowStates>,
    /// Flows that have been given up because another had their second name.
    pub(super) clashes: u64,
    /// Changes of what network functions know, and one: whoever has seen none asks for all since 0.
    pub(super) changes: u64,
}

/// Where a flow's entry is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(super) part: usize,
    pub(super) slot: Slot,
}

/// The number that stands for the own part, behind the buckets.
pub(super) const OWN: usize = BUCKETS;

impl FlowTable {
    /// A table that owns no bucket, with room for `own` flows that are moved to it one by one.
    pub fn new(own: usize, hasher: FlowHasher) -> Self {
        let parts = (0..BUCKETS).map(|_| None).collect();
        let own = Part::new(own);
        let copies = Copies::new(0, hasher.state());
        Self {
            parts,
            own,
            copies,
            hasher,
            buckets: 0,
            occupied: BucketSet::empty(),
            len: 0,
            known: 0,
            kept: 0,
            hand: (0, 0),
            given_up: Vec::new(),
            clashes: 0,
            changes: 1,
        }
    }

    /// A table that has room too for what network functions know of the flows that are moved to it
    /// one by one, and for as many copies. What they know of the others is in the parts: see
    /// [`Part::with_states`].
    pub fn with_states(own: usize, hasher: FlowHasher, are_translated: bool) -> Self {
        let own = Part::with_states(own, &hasher, are_translated);
        let copies = Copies::new(own.room(), hasher.state());
        Self { own, copies, ..Self::new(0, hasher) }
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no flow, and network functions know of none, nor are there copies.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.known() == 0 && self.copies() == 0
    }

    /// Buckets that the instance owns.
    pub fn buckets(&self) -> usize {
        self.buckets
    }

    /// Whether the instance owns the bucket.
    #[inline]
    pub fn owns(&self, bucket: Bucket) -> bool {
        self.parts[bucket.index()].is_some()
    }

    /// Finds a flow's entry.
    #[inline]
    pub fn find(&self, key: &FlowKey, bucket: Bucket) -> Option<Place> {
        let hash = self.hasher.hash(key);
        if !self.own.is_empty()
            && let Some(slot) = self.own.find(key, hash)
        {
            return Some(Place { part: OWN, slot });
        }
        let part = bucket.index();
        let slot = self.parts[part].as_ref()?.find(key, hash)?;
        Some(Place { part, slot })
    }

    /// Puts an entry into the part of its bucket, or into the own part when the bucket is
    /// another's; `None` when there is no room.
    pub fn insert(&mut self, entry: Entry, bucket: Bucket) -> Option<Place> {
        let part = if self.owns(bucket) { bucket.index() } else { OWN };
        let hash = self.hasher.hash(&entry.key);
        let slot = self.part_mut(part)?.insert(entry, hash)?;
        self.occupy(part);
        self.len += 1;
        Some(Place { part, slot })
    }

    /// The entry at a place that [`FlowTable::find`] or [`FlowTable::insert`] gave.
    pub(super) fn entry(&self, place: Place) -> &Entry {
        self.part(place.part).expect("a place is in a part that is here").entry(place.slot)
    }

    /// The same, to be changed.
    #[inline]
    pub fn entry_mut(&mut self, place: Place) -> &mut Entry {
        self.part_mut(place.part).expect("a place is in a part that is here").entry_mut(place.slot)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = self.part_mut(place.part)?.remove(place.slot);
        self.len -= 1;
        Some(entry)
    }

    /// Takes over a bucket with its flows. What it has of flows that have come here one by one is what
    /// was put there, or what late packets have begun there; and copies of its flows are older. Both
    /// are forgotten.
    pub fn put_bucket(&mut self, bucket: Bucket, mut part: Box<Part>) {
        self.copies.forget_bucket(bucket);
        if let Some((came, own)) = part.states_mut().zip(self.own.states()) {
            came.forget_those_of(own, &mut self.given_up);
        }
        self.len += part.len();
        self.known += part.known();
        self.kept += part.kept();
        self.buckets += 1;
        self.occupied.insert(bucket);
        // What it has brings numbers of where it was, which must not lie ahead.
        self.changes = self.changes.max(part.came);
        part.came = self.change();
        let old = self.parts[bucket.index()].replace(part);
        debug_assert!(old.is_none(), "a bucket has one owner");
    }

    /// Gives a bucket away with its flows.
    pub fn take_bucket(&mut self, bucket: Bucket) -> Option<Box<Part>> {
        let mut part = self.parts[bucket.index()].take()?;
        self.len -= part.len();
        self.known -= part.known();
        self.kept -= part.kept();
        self.buckets -= 1;
        self.occupied.remove(bucket);
        part.came = self.changes;
        Some(part)
    }

    /// All entries: those of buckets, and then those of the own part.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flatten().flat_map(|part| part.iter()).chain(self.own.iter())
    }

    /// Shows the entries of the next `sets` sets. `cursor` begins at its default.
    pub(crate) fn visit(&mut self, cursor: &mut Cursor, sets: usize, mut show: impl FnMut(&Entry)) {
        for _ in 0..sets {
            let Some(part) = self.part_at(cursor) else { break };
            for slot in part.in_set(cursor.set) {
                show(part.entry(slot));
            }
            cursor.set += 1;
        }
    }

    /// Ends flows that have been idle since `before`, looking at the next `sets` sets: the hand
    /// of a clock over the whole table. How many ended.
    ///
    /// The time-out of a flow is in its entry and not in a wheel, so that a bucket can be handed
    /// over without touching its flows.
    pub(crate) fn sweep(&mut self, sets: usize, before: Nanos) -> usize {
        let mut ended = 0;
        for _ in 0..sets {
            let (part, set) = self.hand;
            let size = match self.part_mut(part) {
                Some(part) if !part.is_empty() => {
                    ended += part.sweep(set, before);
                    part.sets()
                }
                Some(_) | None => 0,
            };
            self.hand = if set + 1 < size { (part, set + 1) } else { ((part + 1) % (OWN + 1), 0) };
        }
        self.len -= ended;
        ended
    }

    /// The part under the cursor, which skips parts that are absent, empty or done.
    pub(super) fn part_at(&mut self, cursor: &mut Cursor) -> Option<&mut Part> {
        while !cursor.is_done() {
            let part = self.part(cursor.part);
            if part.is_some_and(|part| !part.is_empty() && cursor.set < part.sets()) {
                return self.part_mut(cursor.part);
            }
            self.vacate(cursor.part);
            (cursor.part, cursor.set) = (self.next_part(cursor.part + 1), 0);
        }
        None
    }

    /// The first part from a number on that may have anything: at last the own part, which may have
    /// nothing, and then the end.
    pub(super) fn next_part(&self, from: usize) -> usize {
        self.occupied.next(from).map_or(OWN.max(from), Bucket::index)
    }

    /// Something comes into a part.
    #[inline]
    pub(super) fn occupy(&mut self, part: usize) {
        if part < OWN {
            self.occupied.insert(Bucket::of(part as u32));
        }
    }

    /// Something has left a part: if it was the last, walks skip the part.
    pub(super) fn vacate(&mut self, part: usize) {
        let is_void = self.part(part).is_none_or(|part| part.is_empty() && part.known() == 0);
        if is_void && part < OWN {
            self.occupied.remove(Bucket::of(part as u32));
        }
    }

    pub(super) fn part(&self, part: usize) -> Option<&Part> {
        if part == OWN { Some(&self.own) } else { self.parts[part].as_deref() }
    }

    pub(super) fn part_mut(&mut self, part: usize) -> Option<&mut Part> {
        if part == OWN { Some(&mut self.own) } else { self.parts[part].as_deref_mut() }
    }
}

/// How far a walk over a table has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(super) part: usize,
    pub(super) set: usize,
}

impl Cursor {
    /// A walk over the own part only.
    pub(crate) fn own() -> Self {
        Self { part: OWN, set: 0 }
    }

    /// A walk that is over.
    pub(crate) fn end() -> Self {
        Self { part: OWN + 1, set: 0 }
    }

    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.part > OWN
    }
}

/// The private hash of flow keys: keyed, so that nobody can choose keys that collide.
#[derive(Clone, Debug)]
pub struct FlowHasher(FixedState);

impl FlowHasher {
    /// A hasher with a given key.
    pub fn with_seed(seed: u64) -> Self {
        Self(FixedState::with_seed(seed))
    }

    /// The same hash for a map.
    pub(super) fn state(&self) -> FixedState {
        self.0.clone()
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }
}
