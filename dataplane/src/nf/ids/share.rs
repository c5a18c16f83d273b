//! What intrusion detections share: the attempts of each source, so that a scan is one whichever
//! instances it passes.

use weir_state_transfer::merge::Replica;

use super::Ids;
use super::scan::{Attempt, Source};
use crate::nf::origin::Origin;
use crate::nf::share::{Countable as _, Counted, Giving};

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
    /// Executes an operation on what is known here.
    pub(super) fn execute(&mut self, origin: Origin, operation: &Operation) {
        match operation {
            Operation::Attempt(attempt) => self.watch(attempt),
            Operation::Join(copy) => self.join_copy(origin, (**copy).clone()),
            Operation::Inherit(given, by) => {
                let taken = self.sources.known.may_inherit(&origin, given, *by)
                    && self.take_in(origin, (**given).clone(), *by).is_ok();
                self.note(taken);
            }
        }
    }

    /// Joins what another instance knows of sources. It may be that only both together are a scan.
    /// What is not taken in is not watched.
    pub(super) fn join_shared(&mut self, sources: Vec<Counted<Source>>, giving: Option<Giving>) {
        for Counted { origin, source, by } in sources {
            let Some(giving) = giving else {
                self.join_copy(origin, source);
                continue;
            };
            // Among it is what nobody else knows: what are copies shows when all has come.
            if self.join_known(origin, &source) {
                self.sources.known.groups.gives(giving, origin, by);
            }
        }
    }

    /// Joins a copy, but for what lives have counted that others have taken over.
    fn join_copy(&mut self, origin: Origin, mut copy: Source) {
        copy.retire(self.totals.retired());
        self.join_known(origin, &copy);
    }

    /// Joins what another instance knows of a source; whether it was taken in. Who was asked to, has
    /// looked whether it may be joined there, and not at the source's home.
    fn join_known(&mut self, origin: Origin, source: &Source) -> bool {
        let taken = self.sources.known.may_join(&origin, source)
            && self.join_source(origin, source).is_ok();
        self.note(taken);
        taken
    }

    fn note(&mut self, taken: bool) {
        self.totals.unwatched.add(self.replica, u64::from(!taken));
    }
}
