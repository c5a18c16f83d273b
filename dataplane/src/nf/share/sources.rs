//! What a function knows of sources: as which replica it counts each, and where those that are
//! shared are.

use weir_state_transfer::ShareId;
use weir_state_transfer::merge::{Life, Lives, Replica};
use weir_state_transfer::share::Slot;
use weir_state_transfer::southbound::Cursor;

use super::{Counted, Giving, Groups};
use crate::nf::life::{life, rest_of_life};
use crate::nf::numbered::Numbered;
use crate::nf::origin::Origin;

/// The sources that a function knows.
#[derive(Clone, Debug)]
pub(in crate::nf) struct KnownSources<S> {
    known: Numbered<Origin, Known<S>>,
    /// Under this replica sources count that are new.
    replica: Replica,
    /// Its last replica is of this incarnation.
    last: u64,
    /// Those that are shared, by the slots of each share.
    pub(in crate::nf) groups: Groups,
}

/// A source that a function knows.
#[derive(Clone, Debug)]
pub(in crate::nf) struct Known<S> {
    pub(in crate::nf) source: S,
    /// Under which it counts. A source that was forgotten begins at 0, which a copy from before
    /// must not be taken for newer than; so it counts under another replica then.
    pub(in crate::nf) replica: Replica,
}

/// The sources that a function knows, whatever it knows of each.
pub(in crate::nf) trait Shareable {
    /// Where those that are shared are.
    fn groups(&self) -> &Groups;

    /// The same, to be changed.
    fn groups_mut(&mut self) -> &mut Groups;

    /// Finds the slots of so many of them; whether it has found all.
    fn index(&mut self, share: ShareId, sources: usize) -> bool;

    /// Forgets those of a slot, which are known elsewhere.
    fn remove_slot(&mut self, share: ShareId, slot: Slot);
}

/// What is known of a source, as replicas have counted it.
pub(in crate::nf) trait Countable: Clone {
    /// Takes from a holder what was joined before; see
    /// [`Counter::take_from`](weir_state_transfer::merge::Counter::take_from).
    fn take_from(&mut self, by: Replica, heir: Replica);

    /// Leaves out what lives have counted that others have taken over.
    fn retire(&mut self, ended: &Lives);

    /// Whether it leaves out what some of a life counts; see
    /// [`Counter::retires`](weir_state_transfer::merge::Counter::retires).
    fn retires(&self, life: Life) -> bool;
}

impl<S: Countable> KnownSources<S> {
    /// None, of an instance that counts as a replica.
    pub(in crate::nf) fn new(replica: Replica) -> Self {
        let last = life(replica).last();
        Self { known: Numbered::default(), replica, last, groups: Groups::default() }
    }

    pub(in crate::nf) fn len(&self) -> usize {
        self.known.len()
    }

    pub(in crate::nf) fn has(&self, origin: &Origin) -> bool {
        self.known.contains(origin)
    }

    pub(in crate::nf) fn source(&self, origin: &Origin) -> Option<&S> {
        self.known.get(origin).map(|known| &known.source)
    }

    /// As which replica a source is counted here, or would be.
    pub(in crate::nf) fn counted_as(&self, origin: &Origin) -> Replica {
        self.known.get(origin).map_or(self.replica, |known| known.replica)
    }

    /// Whether a copy may be joined here: it must not say that the life has ended in which the source
    /// is counted, as it would be counted in vain from then on.
    pub(in crate::nf) fn may_join(&self, origin: &Origin, copy: &S) -> bool {
        !copy.retires(rest_of_life(self.counted_as(origin), self.last))
    }

    /// The same of what another, counting as a replica, has given away: that is no later life of who
    /// counts here.
    pub(in crate::nf) fn may_inherit(&self, origin: &Origin, given: &S, by: Replica) -> bool {
        self.may_join(origin, given) && !Life::up_to(by).has(self.counted_as(origin))
    }

    /// All of them, by their numbers.
    pub(in crate::nf) fn numbered(&self) -> &Numbered<Origin, Known<S>> {
        &self.known
    }

    pub(in crate::nf) fn iter(&self) -> impl ExactSizeIterator<Item = (&Origin, &S)> {
        self.known.iter().map(|(origin, known)| (origin, &known.source))
    }

    /// What is known of a source; it is known from here on, in its slots too.
    pub(in crate::nf) fn entry(
        &mut self,
        origin: Origin,
        make: impl FnOnce() -> S,
    ) -> &mut Known<S> {
        let Self { known, replica, groups, .. } = self;
        let make = || Known { source: make(), replica: *replica };
        if groups.is_empty() || known.contains(&origin) {
            return known.entry(origin, make);
        }
        groups.add(known.insert(origin, make()), origin);
        known.get_mut(&origin).expect("it was put there")
    }

    /// Forgets a source. Whoever comes next must [count anew](Self::count_anew).
    pub(in crate::nf) fn forget(&mut self, origin: &Origin) -> Option<S> {
        if !self.groups.is_empty()
            && let Some(number) = self.known.number(origin)
        {
            self.groups.remove(number, origin);
        }
        self.known.remove(origin).map(|known| known.source)
    }

    /// New sources count under a replica that none has counted under which was forgotten.
    pub(in crate::nf) fn count_anew(&mut self) {
        self.replica.incarnation = self.last.min(self.replica.incarnation.saturating_add(1));
    }

    /// Forgets a source, whose state goes elsewhere.
    pub(in crate::nf) fn remove(&mut self, origin: &Origin) -> Option<S> {
        let removed = self.forget(origin)?;
        self.count_anew();
        Some(removed)
    }

    /// Forgets all that are not to be kept, of which there are no copies that count.
    pub(in crate::nf) fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        if !self.groups.is_empty() {
            let gone = self.known.after(0).filter(|(.., known)| !keep(&known.source));
            gone.for_each(|(number, origin, _)| self.groups.remove(number, origin));
        }
        self.known.retain(|known| keep(&known.source));
    }

    /// The next sources of a slot; none when that was all.
    pub(in crate::nf) fn copy(
        &self,
        share: ShareId,
        slot: Slot,
        cursor: &mut Cursor,
    ) -> Option<Vec<Counted<S>>> {
        let next = self.groups.next(share, slot, cursor).into_iter();
        let counted = |origin: Origin| {
            let Known { source, replica } = self.known.get(&origin)?;
            Some(Counted { origin, source: source.clone(), by: *replica })
        };
        let piece: Vec<_> = next.filter_map(counted).collect();
        (!piece.is_empty()).then_some(piece)
    }

    /// What another has given away has all come, and was joined: what that one has counted is counted
    /// here from here on. Copies of what lives have counted that have `ended` are left out.
    pub(in crate::nf) fn given(&mut self, giving: Giving, ended: &Lives) {
        for (origin, by) in self.groups.given(giving) {
            if let Some(Known { source, replica }) = self.known.get_mut(&origin) {
                source.take_from(by, *replica);
                source.retire(ended);
            }
        }
    }
}

impl<S: Countable> Shareable for KnownSources<S> {
    fn groups(&self) -> &Groups {
        &self.groups
    }

    fn groups_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }

    fn index(&mut self, share: ShareId, sources: usize) -> bool {
        self.groups.look(share, &self.known, sources)
    }

    fn remove_slot(&mut self, share: ShareId, slot: Slot) {
        for origin in self.groups.give(share, slot) {
            self.forget(&origin);
        }
        self.count_anew();
    }
}
