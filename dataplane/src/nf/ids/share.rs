//! What intrusion detections share: the attempts of each source, so that a scan is one whichever
//! instances it passes.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::ShareId;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::share::{Slot, SlotSet};
use weir_state_transfer::southbound::Cursor;

use super::Ids;
use super::scan::{Attempt, Full, Source, SourceId, Sources};
use crate::nf::firewall::Origin;
use crate::nf::share::{Counted, Giving, Sharing};

/// Changes that wait to be told, at most: an attempt beyond them is not watched.
pub(super) const UPDATES_MAX: usize = 1_024;

/// What is to be done with what is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nf) enum Operation {
    /// It has tried in vain.
    Attempt(Attempt),
    /// Another copy is joined.
    Join(Box<Source>),
    /// What another, counting as this replica, has given away is taken in.
    Inherit(Box<Source>, Replica),
}

impl Ids {
    /// Shares what is known of sources.
    pub(super) fn share(&mut self, sharing: &Arc<Sharing>) {
        self.sources.groups.share(sharing);
    }

    /// Whether a source is shared.
    pub(super) fn is_shared(&self, id: SourceId) -> bool {
        self.sources.groups.has(&id.into())
    }

    /// Has a change made where a source has its home; whether there is room for it.
    pub(super) fn tell_home(&mut self, id: SourceId, operation: Operation) -> bool {
        let has_room = self.updates.len() < UPDATES_MAX;
        if has_room {
            self.updates.push_back((id, operation));
        }
        has_room
    }

    /// Executes an operation on what is known here.
    pub(super) fn execute(&mut self, origin: Origin, operation: &Operation) {
        match operation {
            Operation::Attempt(attempt) => self.watch(attempt),
            Operation::Join(copy) => self.join_copy(origin.into(), (**copy).clone()),
            Operation::Inherit(given, by) => {
                let taken = self.take_in(origin.into(), (**given).clone(), *by);
                self.note_room(taken);
            }
        }
    }

    /// Joins what another instance knows of sources. It may be that only both together are a scan.
    /// What there is no room for is not watched.
    pub(super) fn join_shared(&mut self, sources: Vec<Counted<Source>>, giving: Option<Giving>) {
        for Counted { origin, source, by } in sources {
            let Some(giving) = giving else {
                self.join_copy(origin.into(), source);
                continue;
            };
            // Among it is what nobody else knows: what are copies shows when all has come.
            let taken = self.join_source(origin.into(), &source);
            if taken.is_ok() {
                self.sources.groups.gives(giving, origin, by);
            }
            self.note_room(taken);
        }
    }

    /// What another has given away has all come: what that has counted is counted here from here
    /// on.
    pub(super) fn given(&mut self, giving: Giving) {
        for (origin, by) in self.sources.groups.given(giving) {
            self.sources.take_from(origin.into(), by, self.totals.retired());
        }
    }

    /// Joins a copy, but for what lives have counted that others have taken over.
    fn join_copy(&mut self, id: SourceId, mut copy: Source) {
        copy.retire(self.totals.retired());
        let taken = self.join_source(id, &copy);
        self.note_room(taken);
    }

    fn note_room(&mut self, taken: Result<(), Full>) {
        self.totals.unwatched.add(self.replica, u64::from(taken.is_err()));
    }

    /// Changes to be told where the sources have their homes.
    pub(super) fn updates(&mut self) -> &mut VecDeque<(SourceId, Operation)> {
        &mut self.updates
    }
}

impl Sources {
    /// Finds the slots of so many sources; whether it has found all.
    pub(super) fn index(&mut self, share: ShareId, sources: usize) -> bool {
        let mut groups = std::mem::take(&mut self.groups);
        let done = groups.look(share, self.known(), sources);
        self.groups = groups;
        done
    }

    pub(super) fn occupied(&self, share: ShareId, occupied: &mut SlotSet) {
        self.groups.occupied(share, occupied);
    }

    /// The next sources of a slot.
    pub(super) fn copy(
        &self,
        share: ShareId,
        slot: Slot,
        cursor: &mut Cursor,
    ) -> Option<Vec<Counted<Source>>> {
        let next = self.groups.next(share, slot, cursor).into_iter();
        let known = |origin: Origin| {
            let (id, by) = (origin.into(), self.counted_as(&origin.into()));
            Some(Counted { origin, source: self.get(&id)?.clone(), by })
        };
        let piece: Vec<_> = next.filter_map(known).collect();
        (!piece.is_empty()).then_some(piece)
    }
}

impl From<SourceId> for Origin {
    fn from(SourceId { service, address }: SourceId) -> Self {
        Self { service, address }
    }
}

impl From<Origin> for SourceId {
    fn from(Origin { service, address }: Origin) -> Self {
        Self { service, address }
    }
}
