//! The sources that a function knows, by the slots of the shares that they are in.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use weir_state_transfer::merge::Replica;
use weir_state_transfer::share::{Slot, SlotSet};
use weir_state_transfer::southbound::Cursor;
use weir_state_transfer::{InstanceId, ShareId};

use super::Sharing;
use crate::nf::firewall::Origin;
use crate::nf::numbered::Numbered;

/// Sources of a piece.
const PIECE: usize = 16;

/// Which of the sources that a function knows are in which slot of which share.
///
/// They have the numbers of [`Numbered`], so that a slot can be walked in pieces while sources come
/// and go.
#[derive(Clone, Debug, Default)]
pub(in crate::nf) struct Groups(Vec<Group>);

/// Those of one share.
#[derive(Clone, Debug)]
struct Group {
    sharing: Arc<Sharing>,
    slots: Box<[BTreeMap<u64, Origin>]>,
    occupied: SlotSet,
    /// What others are giving away: as which replica each has counted which source.
    given: BTreeMap<(Slot, InstanceId), BTreeMap<Origin, Replica>>,
    /// The number of the source behind which the first look at them goes on; none when it is over.
    hand: Option<u64>,
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
    pub(in crate::nf) fn share(&mut self, sharing: &Arc<Sharing>) {
        let slots = (0..sharing.slots.max(1)).map(|_| BTreeMap::new()).collect();
        let (sharing, occupied) = (sharing.clone(), SlotSet::default());
        self.0.push(Group { sharing, slots, occupied, given: BTreeMap::new(), hand: Some(0) });
    }

    pub(in crate::nf) fn unshare(&mut self, share: ShareId) {
        self.0.retain(|group| group.sharing.id != share);
    }

    /// Whether nothing is shared.
    #[inline]
    pub(in crate::nf) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a source is shared.
    pub(in crate::nf) fn has(&self, origin: &Origin) -> bool {
        self.0.iter().any(|group| group.sharing.has(origin))
    }

    /// A source is known, by this number.
    pub(in crate::nf) fn add(&mut self, number: u64, origin: Origin) {
        self.0.iter_mut().for_each(|group| group.add(number, origin));
    }

    /// A source is not known any more.
    pub(in crate::nf) fn remove(&mut self, number: u64, origin: &Origin) {
        for group in self.0.iter_mut().filter(|group| group.sharing.has(origin)) {
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
    pub(in crate::nf) fn look<K: Ord + Copy + Into<Origin>, V>(
        &mut self,
        share: ShareId,
        known: &Numbered<K, V>,
        count: usize,
    ) -> bool {
        let Some(group) = self.of_mut(share) else { return true };
        let Some(hand) = group.hand else { return true };
        let (mut seen, mut last) = (0, hand);
        for (number, key, _) in known.after(hand).take(count) {
            group.add(number, (*key).into());
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
        self.0.iter().find(|group| group.sharing.id == share)
    }

    fn of_mut(&mut self, share: ShareId) -> Option<&mut Group> {
        self.0.iter_mut().find(|group| group.sharing.id == share)
    }
}

impl Group {
    fn add(&mut self, number: u64, origin: Origin) {
        if self.sharing.has(&origin) {
            let slot = self.sharing.slot(&origin);
            self.slots[usize::from(slot.0)].insert(number, origin);
            self.occupied.insert(slot);
        }
    }
}
