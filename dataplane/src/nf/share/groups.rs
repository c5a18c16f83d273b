//! The sources that a function knows, by the slots of the shares that they are in.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use weir_state_transfer::merge::Replica;
use weir_state_transfer::share::{Slot, SlotSet};
use weir_state_transfer::southbound::{Cursor, PutError};
use weir_state_transfer::{Chunk, InstanceId, ShareId, WorkerId};

use super::{FunctionOperation, Sharing};
use crate::nf::numbered::Numbered;
use crate::nf::origin::Origin;

/// Sources of a piece.
const PIECE: usize = 16;
/// Changes that may be refused are when so many wait for a share.
const UPDATES_MAX: usize = 1_024;

/// Which of the sources that a function knows are in which slot of which share, and what is to be
/// told of them where they have their homes.
///
/// They have the numbers of [`Numbered`], so that a slot can be walked in pieces while sources come
/// and go.
#[derive(Clone, Debug, Default)]
pub(in crate::nf) struct Groups {
    of_shares: Vec<Group>,
    /// Who steered the packet that functions were shown last.
    steerer: WorkerId,
    /// Changes that have waited for shares that are over.
    left: VecDeque<Change>,
}

/// Those of one share. It is made where the share is, and freed there.
#[derive(Clone, Debug)]
pub struct Group {
    sharing: Arc<Sharing>,
    /// Changes that wait until they can be handed in.
    updates: VecDeque<Change>,
    slots: Box<[BTreeMap<u64, Origin>]>,
    occupied: SlotSet,
    /// What others are giving away: as which replica each has counted which source.
    given: BTreeMap<(Slot, InstanceId), BTreeMap<Origin, Replica>>,
    /// The number of the source behind which the first look at them goes on; none when it is over.
    hand: Option<u64>,
}

/// A change of a source that needs no answer.
#[derive(Clone, Debug)]
pub(in crate::nf) struct Change {
    pub(in crate::nf) origin: Origin,
    pub(in crate::nf) what: FunctionOperation,
    /// It comes behind the packets that this worker has steered here: who steered the one that it comes
    /// of, or the last one when a time was over.
    pub(in crate::nf) steerer: WorkerId,
}

/// An instance gives away what it knows of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nf) struct Giving {
    pub(in crate::nf) share: ShareId,
    pub(in crate::nf) slot: Slot,
    pub(in crate::nf) from: InstanceId,
}

impl Groups {
    /// A share begins. Of what is known [`Groups::look`] finds the slots.
    pub(in crate::nf) fn share(&mut self, group: Group) {
        self.of_shares.push(group);
    }

    /// A share is over. What waits for it is made where its source is then.
    pub(in crate::nf) fn unshare(&mut self, share: ShareId) -> Option<Group> {
        let place = self.of_shares.iter().position(|group| group.sharing.id == share)?;
        let mut group = self.of_shares.remove(place);
        self.left.append(&mut group.updates);
        Some(group)
    }

    /// The packets that come are of a steerer from here on.
    pub(in crate::nf) fn steered_by(&mut self, steerer: WorkerId) {
        self.steerer = steerer;
    }

    /// Whether nothing is shared.
    #[inline]
    pub(in crate::nf) fn is_empty(&self) -> bool {
        self.of_shares.is_empty()
    }

    /// Whether a source is shared.
    pub(in crate::nf) fn has(&self, origin: &Origin) -> bool {
        self.of_shares.iter().any(|group| group.sharing.has(origin))
    }

    /// Has a change made where a source has its home.
    ///
    /// # Errors
    /// Gives it back when the source is not shared.
    pub(in crate::nf) fn tell(
        &mut self,
        origin: Origin,
        what: FunctionOperation,
    ) -> Result<(), FunctionOperation> {
        let change = Change { origin, what, steerer: self.steerer };
        self.note(change).map_err(|Change { what, .. }| what)
    }

    fn note(&mut self, change: Change) -> Result<(), Change> {
        match self.of_shares.iter_mut().find(|group| group.sharing.has(&change.origin)) {
            Some(group) => {
                group.updates.push_back(change);
                Ok(())
            }
            None => Err(change),
        }
    }

    /// Has a chunk taken in where its source, which is shared, has its home.
    ///
    /// # Errors
    /// When as many changes wait as may.
    pub(in crate::nf) fn put(
        &mut self,
        chunk: &Chunk,
        origin: Origin,
        what: FunctionOperation,
    ) -> Result<(), PutError> {
        if !self.has_room(&origin) {
            return Err(PutError::full(chunk, "changes that wait for a share", UPDATES_MAX));
        }
        let told = self.tell(origin, what);
        debug_assert!(told.is_ok(), "its source is shared");
        Ok(())
    }

    /// Whether a change of a source that may as well be refused may wait.
    pub(in crate::nf) fn has_room(&self, origin: &Origin) -> bool {
        let group = self.of_shares.iter().find(|group| group.sharing.has(origin));
        group.is_none_or(|group| group.updates.len() < UPDATES_MAX)
    }

    /// The next change of a share that has room for it, and where its source is; without a place if
    /// that is shared no more.
    pub(in crate::nf) fn next_update(
        &mut self,
        has_room: &dyn Fn(ShareId) -> bool,
    ) -> Option<(Option<(ShareId, Slot)>, Change)> {
        while let Some(change) = self.left.pop_front() {
            // It may be shared anew.
            if let Err(change) = self.note(change) {
                return Some((None, change));
            }
        }
        let mut waiting = self.of_shares.iter_mut().filter(|group| !group.updates.is_empty());
        let group = waiting.find(|group| has_room(group.sharing.id))?;
        let change = group.updates.pop_front()?;
        Some((Some((group.sharing.id, group.sharing.slot(&change.origin))), change))
    }

    /// Takes a change back that could not be handed in to a share: it is its next.
    pub(in crate::nf) fn return_update(&mut self, share: ShareId, change: Change) {
        match self.of_mut(share) {
            Some(group) => group.updates.push_front(change),
            None => self.left.push_back(change),
        }
    }

    /// Changes that wait for a share.
    pub(in crate::nf) fn updates(&self, share: ShareId) -> usize {
        self.of(share).map_or(0, |group| group.updates.len())
    }

    /// A source is known, by this number.
    pub(in crate::nf) fn add(&mut self, number: u64, origin: Origin) {
        self.of_shares.iter_mut().for_each(|group| group.add(number, origin));
    }

    /// A source is not known any more.
    pub(in crate::nf) fn remove(&mut self, number: u64, origin: &Origin) {
        for group in self.of_shares.iter_mut().filter(|group| group.sharing.has(origin)) {
            let slot = group.sharing.slot(origin);
            let sources = &mut group.slots[usize::from(slot.0)];
            sources.remove(&number);
            if sources.is_empty() {
                group.occupied.remove(slot);
            }
        }
    }

    /// An instance begins to give: what it gave before it was done comes again, or stays with it.
    pub(in crate::nf) fn giving(&mut self, Giving { share, slot, from }: Giving) {
        if let Some(group) = self.of_mut(share) {
            group.given.remove(&(slot, from));
        }
    }

    /// A source is among what is given away, and was counted as a replica there.
    pub(in crate::nf) fn gives(&mut self, giving: Giving, origin: Origin, by: Replica) {
        let Giving { share, slot, from } = giving;
        if let Some(group) = self.of_mut(share) {
            group.given.entry((slot, from)).or_default().insert(origin, by);
        }
    }

    /// All was given away: which sources, as which replicas they were counted.
    pub(in crate::nf) fn given(&mut self, giving: Giving) -> BTreeMap<Origin, Replica> {
        let Giving { share, slot, from } = giving;
        let given = self.of_mut(share).and_then(|group| group.given.remove(&(slot, from)));
        given.unwrap_or_default()
    }

    /// Finds the slots of so many of the sources that were known before; whether it has found all.
    pub(in crate::nf) fn look<V>(
        &mut self,
        share: ShareId,
        known: &Numbered<Origin, V>,
        count: usize,
    ) -> bool {
        let Some(group) = self.of_mut(share) else { return true };
        let Some(hand) = group.hand else { return true };
        let (mut seen, mut last) = (0, hand);
        for (number, key, _) in known.after(hand).take(count) {
            group.add(number, *key);
            (seen, last) = (seen + 1, number);
        }
        group.hand = (seen == count).then_some(last);
        group.hand.is_none()
    }

    /// Adds the slots in which sources are.
    pub(in crate::nf) fn occupied(&self, share: ShareId, occupied: &mut SlotSet) {
        let slots = self.of(share).into_iter().flat_map(|group| group.occupied.iter());
        slots.for_each(|slot| occupied.insert(slot));
    }

    /// The next sources of a slot, as many as make a piece.
    pub(in crate::nf) fn next(
        &self,
        share: ShareId,
        slot: Slot,
        cursor: &mut Cursor,
    ) -> Vec<Origin> {
        let behind = (Bound::Excluded(cursor.0), Bound::Unbounded);
        let group = self.of(share).and_then(|group| group.slots.get(usize::from(slot.0)));
        let sources = group.into_iter().flat_map(|sources| sources.range(behind)).take(PIECE);
        sources
            .map(|(number, origin)| {
                cursor.0 = *number;
                *origin
            })
            .collect()
    }

    /// All sources of a slot, which has been given away: with what others had begun to give.
    pub(in crate::nf) fn give(&mut self, share: ShareId, slot: Slot) -> Vec<Origin> {
        let Some(group) = self.of_mut(share) else { return Vec::new() };
        group.given.retain(|(of, _), _| *of != slot);
        let sources = group.slots.get(usize::from(slot.0));
        sources.into_iter().flat_map(BTreeMap::values).copied().collect()
    }

    fn of(&self, share: ShareId) -> Option<&Group> {
        self.of_shares.iter().find(|group| group.sharing.id == share)
    }

    fn of_mut(&mut self, share: ShareId) -> Option<&mut Group> {
        self.of_shares.iter_mut().find(|group| group.sharing.id == share)
    }
}

impl Group {
    /// That of a share that begins.
    pub(crate) fn new(sharing: &Arc<Sharing>) -> Self {
        let slots = (0..sharing.slots.max(1)).map(|_| BTreeMap::new()).collect();
        Self {
            sharing: sharing.clone(),
            updates: VecDeque::new(),
            slots,
            occupied: SlotSet::default(),
            given: BTreeMap::new(),
            hand: Some(0),
        }
    }

    fn add(&mut self, number: u64, origin: Origin) {
        if self.sharing.has(&origin) {
            let slot = self.sharing.slot(&origin);
            self.slots[usize::from(slot.0)].insert(number, origin);
            self.occupied.insert(slot);
        }
    }
}
