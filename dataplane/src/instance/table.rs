//! The flow table of an instance: one part a bucket that it owns, and one for flows moved to it.

use std::hash::{BuildHasher, Hasher};

use arrayvec::ArrayVec;
use foldhash::fast::FixedState;
use weir_state_transfer::bucket::{BUCKETS, Bucket};
use weir_state_transfer::{FlowKey, MoveId, Nanos};
use zerocopy::IntoBytes;

use super::part::{Part, Slot};
use super::states::States;
use super::{Entry, FlowStates};
use crate::nf::FlowState;

/// The flows of one instance.
///
/// The flows of a bucket that the instance owns are in that bucket's part, which a move hands
/// over as a whole. Flows that the instance owns by a rule or an exact entry of steering, while
/// another owns their bucket, are in its own part.
#[derive(Debug)]
pub struct FlowTable {
    parts: Box<[Option<Box<Part>>]>,
    own: Part,
    hasher: FlowHasher,
    buckets: usize,
    /// Flows in the parts and in `own`.
    len: usize,
    /// The part and set that the next sweep looks at.
    hand: (usize, usize),
}

/// All that an instance keeps of a flow, both directions, on its way to another.
#[derive(Debug)]
pub struct MovedFlow {
    /// Which flow: see [`FlowKey::both_ways`].
    pub key: FlowKey,
    /// The entries of its directions.
    pub entries: ArrayVec<Entry, 2>,
    /// What network functions know of it.
    pub states: Option<FlowStates>,
}

impl MovedFlow {
    fn new(key: &FlowKey) -> Self {
        Self { key: key.both_ways(), entries: ArrayVec::new(), states: None }
    }
}

/// Where a flow's entry is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    part: usize,
    slot: Slot,
}

/// The number that stands for the own part, behind the buckets.
const OWN: usize = BUCKETS;

impl FlowTable {
    /// A table that owns no bucket, with room for `own` flows that are moved to it one by one.
    pub fn new(own: usize, hasher: FlowHasher) -> Self {
        let parts = (0..BUCKETS).map(|_| None).collect();
        Self { parts, own: Part::new(own), hasher, buckets: 0, len: 0, hand: (0, 0) }
    }

    /// Flows in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no flow, and network functions know of none.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.known() == 0
    }

    /// Flows that network functions know.
    pub fn known(&self) -> usize {
        self.parts.iter().flatten().map(|part| part.known()).sum::<usize>() + self.own.known()
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
        self.len += 1;
        Some(Place { part, slot })
    }

    /// Gives a flow up: a packet of it has made a stage panic. What network functions knew of it
    /// may be half of what it should be, and is forgotten.
    pub(crate) fn poison(&mut self, key: FlowKey, bucket: Bucket, now: Nanos) {
        let place = self.find(&key, bucket);
        let place = place.or_else(|| self.insert(Entry::new(key, now), bucket));
        if let Some(place) = place {
            self.entry_mut(place).poison();
        }
        let part = self.part_of_states(&key.both_ways(), bucket);
        if let Some(states) = self.part_mut(part).and_then(Part::states) {
            states.remove(&key.both_ways());
        }
    }

    /// The entry at a place that [`FlowTable::find`] or [`FlowTable::insert`] gave.
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

    /// Takes over a bucket with its flows.
    pub fn put_bucket(&mut self, bucket: Bucket, part: Box<Part>) {
        self.len += part.len();
        self.buckets += 1;
        let old = self.parts[bucket.index()].replace(part);
        debug_assert!(old.is_none(), "a bucket has one owner");
    }

    /// Gives a bucket away with its flows.
    pub fn take_bucket(&mut self, bucket: Bucket) -> Option<Box<Part>> {
        let part = self.parts[bucket.index()].take()?;
        self.len -= part.len();
        self.buckets -= 1;
        Some(part)
    }

    /// All entries, each with the bucket whose part it is in, none for the own part.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flatten().flat_map(|part| part.iter()).chain(self.own.iter())
    }

    /// What network functions know of a flow: nothing of one that they have not seen, and none
    /// when there is no room for it.
    pub(crate) fn states(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        unknown: impl FnOnce() -> Box<[FlowState]>,
    ) -> Option<&mut FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        let Self { parts, own, hasher, .. } = self;
        let part = if part == OWN { own } else { parts[part].as_deref_mut()? };
        part.states_or_new(hasher).get_or_insert(key, unknown)
    }

    /// What network functions know of a flow, if they know it.
    pub(crate) fn known_states(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
    ) -> Option<&mut FlowStates> {
        let key = key.both_ways();
        let part = self.part_of_states(&key, bucket);
        self.part_mut(part)?.states()?.get_mut(&key)
    }

    /// Takes in a flow, with the move that it comes by; whether there was room for all of it.
    pub(crate) fn put_flow(&mut self, flow: MovedFlow, bucket: Bucket, by: MoveId) -> bool {
        let mut has_room = true;
        for mut entry in flow.entries {
            entry.set_move(by);
            has_room &= self.insert(entry, bucket).is_some();
        }
        if let Some(mut states) = flow.states {
            states.set_move(by);
            let part = if self.owns(bucket) { bucket.index() } else { OWN };
            let Self { parts, own, hasher, .. } = self;
            let part = if part == OWN { Some(own) } else { parts[part].as_deref_mut() };
            has_room &= part.is_some_and(|part| part.states_or_new(hasher).put(flow.key, states));
        }
        has_room
    }

    /// Whether anything of a flow came by a move.
    pub(crate) fn came_by(&mut self, key: &FlowKey, bucket: Bucket, by: MoveId) -> bool {
        let came = |table: &mut Self, key: &FlowKey| {
            let place = table.find(key, bucket);
            place.is_some_and(|place| table.entry_mut(place).came_by(by))
        };
        came(self, key)
            || came(self, &key.reversed())
            || self.known_states(key, bucket).is_some_and(|states| states.came_by(by))
    }

    /// Takes out all that is kept of a flow, but for a direction that is not `wanted`; none if
    /// nothing is kept.
    pub(crate) fn take_flow(
        &mut self,
        key: &FlowKey,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> Option<MovedFlow> {
        let flow = MovedFlow::new(key);
        let flow = self.take_direction(flow, key, bucket, &wanted);
        let flow = self.take_rest(flow, key, bucket, wanted);
        (!flow.entries.is_empty() || flow.states.is_some()).then_some(flow)
    }

    /// Takes out the other direction of a flow, and what network functions know of it.
    fn take_rest(
        &mut self,
        flow: MovedFlow,
        key: &FlowKey,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> MovedFlow {
        let mut flow = self.take_direction(flow, &key.reversed(), bucket, wanted);
        let part = self.part_of_states(&flow.key, bucket);
        let states = self.part_mut(part).and_then(Part::states);
        flow.states = states.and_then(|states| states.remove(&flow.key));
        flow
    }

    fn take_direction(
        &mut self,
        mut flow: MovedFlow,
        key: &FlowKey,
        bucket: Bucket,
        wanted: impl Fn(&FlowKey) -> bool,
    ) -> MovedFlow {
        let place = self.find(key, bucket).filter(|_| wanted(key));
        flow.entries.extend(place.and_then(|place| self.remove(place)));
        flow
    }

    /// Takes out the flows that `wanted` gives a bucket for, by the entries of both directions and
    /// then by what network functions alone know: at most as many sets and places are looked at and
    /// flows taken as the two numbers allow, which become what is left of them.
    pub(crate) fn take_matching(
        &mut self,
        cursor: &mut TakeCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
    ) -> Vec<MovedFlow> {
        let mut taken = Vec::new();
        'sets: while *looks > 0 && *flows > 0 {
            let Some(part) = self.part_at(&mut cursor.entries) else { break };
            *looks -= 1;
            let number = cursor.entries.part;
            for slot in part.in_set(cursor.entries.set) {
                if *flows == 0 {
                    break 'sets;
                }
                let Some(part) = self.part_mut(number) else { break };
                // Its other direction may just have taken it along.
                if !part.is_taken(slot) {
                    continue;
                }
                let Some(bucket) = wanted(&part.entry(slot).key) else { continue };
                let entry = part.remove(slot);
                self.len -= 1;
                let key = entry.key;
                let mut flow = MovedFlow::new(&key);
                flow.entries.push(entry);
                taken.push(self.take_rest(flow, &key, bucket, |key| wanted(key).is_some()));
                *flows -= 1;
            }
            cursor.entries.set += 1;
        }
        if cursor.entries.is_done() {
            self.take_known(&mut cursor.states, (looks, flows), wanted, &mut taken);
        }
        taken
    }

    /// Takes out flows of which there is no entry.
    fn take_known(
        &mut self,
        cursor: &mut StatesCursor,
        (looks, flows): (&mut usize, &mut usize),
        wanted: impl Fn(&FlowKey) -> Option<Bucket>,
        taken: &mut Vec<MovedFlow>,
    ) {
        while *looks > 0 && *flows > 0 && !cursor.is_done() {
            *looks -= 1;
            let Some(states) = self.states_at(cursor) else { continue };
            let Some((key, _)) = states.at(cursor.place) else { continue };
            let key = *key;
            if wanted(&key).is_some() {
                let states = states.remove(&key);
                taken.push(MovedFlow { key, entries: ArrayVec::new(), states });
                *flows -= 1;
            } else {
                cursor.seen += 1;
            }
        }
    }

    /// Shows what network functions know of flows, at most so many `places` further on. What `over`
    /// says is forgotten. `cursor` begins at its default, and is done behind the last.
    pub(crate) fn walk_states(
        &mut self,
        cursor: &mut StatesCursor,
        places: usize,
        mut over: impl FnMut(&mut FlowStates) -> bool,
    ) {
        for _ in 0..places {
            if cursor.is_done() {
                return;
            }
            let Some(states) = self.states_at(cursor) else { continue };
            let Some((key, known)) = states.at(cursor.place) else { continue };
            let key = *key;
            if over(known) {
                states.remove(&key);
            } else {
                cursor.seen += 1;
            }
        }
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

    /// The states that the cursor is at, with their place; none when the part has no more.
    fn states_at(&mut self, cursor: &mut StatesCursor) -> Option<&mut States> {
        let seen = cursor.seen;
        let here = self.part_mut(cursor.part).filter(|part| seen < part.known());
        match here.and_then(Part::states) {
            Some(states) => {
                cursor.place = states.len() - 1 - seen;
                Some(states)
            }
            None => {
                *cursor = StatesCursor { part: cursor.part + 1, ..StatesCursor::default() };
                None
            }
        }
    }

    /// The part that has what network functions know of a flow, or that would have it.
    fn part_of_states(&mut self, key: &FlowKey, bucket: Bucket) -> usize {
        let in_own = self.own.states().is_some_and(|own| own.get_mut(key).is_some());
        if in_own || !self.owns(bucket) { OWN } else { bucket.index() }
    }

    /// The part under the cursor, which skips parts that are absent, empty or done.
    fn part_at(&mut self, cursor: &mut Cursor) -> Option<&mut Part> {
        while !cursor.is_done() {
            let done = self
                .part_mut(cursor.part)
                .is_none_or(|part| part.is_empty() || cursor.set >= part.sets());
            if !done {
                return self.part_mut(cursor.part);
            }
            (cursor.part, cursor.set) = (cursor.part + 1, 0);
        }
        None
    }

    fn part_mut(&mut self, part: usize) -> Option<&mut Part> {
        if part == OWN { Some(&mut self.own) } else { self.parts[part].as_deref_mut() }
    }
}

/// How far a walk over a table has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    part: usize,
    set: usize,
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

/// How far a walk over what network functions know has come. It goes from the last place of a part
/// to the first, so that what is removed and what is added on the way makes it miss none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatesCursor {
    part: usize,
    /// Places of the part that have been seen, from its end.
    seen: usize,
    /// The place that it is at.
    place: usize,
}

impl StatesCursor {
    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.part > OWN
    }
}

/// How far the taking of flows has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakeCursor {
    entries: Cursor,
    states: StatesCursor,
}

impl TakeCursor {
    /// A walk over the own part only.
    pub(crate) fn own() -> Self {
        let states = StatesCursor { part: OWN, ..StatesCursor::default() };
        Self { entries: Cursor::own(), states }
    }

    /// Whether the walk is over.
    pub(crate) fn is_done(&self) -> bool {
        self.entries.is_done() && self.states.is_done()
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
