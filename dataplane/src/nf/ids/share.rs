//! What intrusion detections share: the attempts of each source, so that a scan is one whichever
//! instances it passes.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::ShareId;
use weir_state_transfer::merge::Life;
use weir_state_transfer::share::{Slot, SlotSet};
use weir_state_transfer::southbound::Cursor;

use super::scan::{Attempt, Full, Source, SourceId, Sources};
use super::{Ids, Record};
use crate::nf::firewall::Origin;
use crate::nf::share::Sharing;

/// Changes that wait to be told, at most: an attempt beyond them is not watched.
pub(super) const UPDATES_MAX: usize = 1_024;

/// What is to be done with what is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nf) enum Operation {
    /// It has tried in vain.
    Attempt(Attempt),
    /// Another copy is joined.
    Join(Box<Source>),
    /// What is known nowhere else is joined, and what a life that has ended has counted of it is taken
    /// over.
    Inherit(Box<Source>, Option<Life>),
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
            Operation::Join(copy) => self.join_shared([(origin, (**copy).clone())]),
            Operation::Inherit(source, ended) => {
                if self.take_in(origin.into(), source, *ended).is_err() {
                    self.totals.unwatched.add(self.replica, 1);
                }
            }
        }
    }

    /// Joins what other instances knew of sources. It may be that only both together are a scan.
    /// What there is no room for is not watched.
    pub(super) fn join_shared(&mut self, sources: impl IntoIterator<Item = (Origin, Source)>) {
        for (origin, mut copy) in sources {
            copy.retire(self.totals.retired());
            match self.sources.join(origin.into(), &copy, &self.config.scan) {
                Ok(scan) => scan.into_iter().for_each(|scan| self.log(Record::Scan(scan))),
                Err(Full) => self.totals.unwatched.add(self.replica, 1),
            }
        }
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
    ) -> Option<Vec<(Origin, Source)>> {
        let next = self.groups.next(share, slot, cursor).into_iter();
        let known = |origin: Origin| Some((origin, self.get(&origin.into())?.clone()));
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
