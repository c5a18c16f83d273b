//! What firewalls share: what each source has begun, so that its limits hold for all of them.
//!
//! Whether a packet may begin a connection is decided where its source has its home. Ends of
//! connections are told there, and so are beginnings that came to nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::merge::Replica;
use weir_state_transfer::share::{Slot, SlotSet};
use weir_state_transfer::southbound::Cursor;
use weir_state_transfer::{Nanos, ShareId};

use super::Firewall;
use super::limits::{Origin, Source, Sources};
use super::reason::Reason;
use super::rules::Action;
use crate::nf::connection::{Connection, Packet, Tracked};
use crate::nf::share::{Counted, Giving, Sharing};

/// What is to be done with what is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nf) enum Operation {
    /// It wants to begin a connection.
    Begin {
        /// It takes the place of no other of the same source.
        opens: bool,
    },
    /// A connection that it has begun has ended, or did not begin.
    End,
    /// Another copy is joined.
    Join(Box<Source>),
    /// What another, counting as this replica, has given away is taken in.
    Inherit(Box<Source>, Replica),
}

/// Whether a source may begin a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nf) struct Admission {
    origin: Origin,
    opens: bool,
    verdict: Result<(), Reason>,
}

/// What a firewall has to do with the shares of its instance.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The packet in hand is judged by what is shared.
    judges: bool,
    answer: Option<Admission>,
    /// To be told where the sources have their homes.
    updates: VecDeque<(Origin, Operation)>,
    /// Copies of sources that there was no room for.
    lost: u64,
}

impl Firewall {
    /// Shares what is known of sources, if any of it is limited.
    pub(super) fn share(&mut self, sharing: &Arc<Sharing>) {
        if !self.sources.limits().is_none() {
            self.sources.groups.share(sharing);
        }
    }

    /// Whether a source is shared.
    pub(super) fn is_shared(&self, origin: &Origin) -> bool {
        self.sources.groups.has(origin)
    }

    /// The shared source that a packet is about, and what must be asked about it.
    pub(super) fn concern(
        &self,
        packet: &Packet<'_>,
        known: Option<&Connection>,
        now: Nanos,
    ) -> Option<(Origin, Option<Operation>)> {
        if self.sources.groups.is_empty() {
            return None;
        }
        let accepts = || {
            let rule = self.rules.first_match(&packet.fields())?;
            (rule.action() == Action::Accept).then_some(())
        };
        let begins = Origin::of(packet.key());
        let asks = |opens: bool| (begins, Some(Operation::Begin { opens }));
        let Some(known) = known.filter(|known| !known.is_over(now)) else {
            let may = self.is_shared(&begins)
                && Connection::open(packet, now, &self.tracking).is_ok()
                && accepts().is_some();
            return may.then(|| asks(true));
        };
        let origin = Origin::of(known.key());
        let mut next = known.clone();
        let begins_another = next.track(packet, now, &self.tracking) == Tracked::Begins
            && next.begin(packet, now, &self.tracking).is_ok()
            && accepts().is_some();
        if begins_another && self.is_shared(&begins) {
            return Some(asks(origin != Origin::of(next.key())));
        }
        self.is_shared(&origin).then_some((origin, None))
    }

    /// The next packet is judged by what is shared.
    pub(super) fn answered(&mut self, answer: Option<Admission>) {
        self.take_back();
        (self.shares.judges, self.shares.answer) = (true, answer);
    }

    /// The packet has been judged: what it was let begin and has not is told.
    pub(super) fn take_back(&mut self) {
        self.shares.judges = false;
        if let Some(Admission { origin, opens: true, verdict: Ok(()) }) = self.shares.answer.take()
        {
            self.end_of(origin);
        }
    }

    /// Whether a source may begin a connection: as its home has said, or by what is known here.
    pub(super) fn begin(&mut self, origin: Origin, opens: bool, now: Nanos) -> Result<(), Reason> {
        if !self.shares.judges || !self.is_shared(&origin) {
            return self.sources.admit(origin, opens, now);
        }
        let answer = self.shares.answer.take_if(|answer| answer.origin == origin);
        // Without one, or if it was asked when the connection had another place, nothing begins:
        // what it would be counted as is not known.
        let Some(Admission { verdict, opens: asked, .. }) = answer else {
            return Err(Reason::SourceConnections);
        };
        verdict?;
        match (asked, opens) {
            (true, false) => self.end_of(origin),
            (false, true) => return Err(Reason::SourceConnections),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// A connection of a source has ended.
    pub(super) fn end_of(&mut self, origin: Origin) {
        if self.is_shared(&origin) {
            self.tell_home(origin, Operation::End);
        } else {
            self.sources.end(origin);
        }
    }

    /// Has a change made where a source has its home.
    pub(super) fn tell_home(&mut self, origin: Origin, operation: Operation) {
        self.shares.updates.push_back((origin, operation));
    }

    /// Executes an operation on what is known here.
    pub(super) fn execute(
        &mut self,
        origin: Origin,
        operation: &Operation,
        now: Nanos,
    ) -> Option<Admission> {
        match operation {
            Operation::Begin { opens } => {
                let verdict = self.sources.admit(origin, *opens, now);
                return Some(Admission { origin, opens: *opens, verdict });
            }
            Operation::End => self.sources.end(origin),
            Operation::Join(copy) => self.join_copy(origin, (**copy).clone()),
            Operation::Inherit(given, by) => {
                let (given, ended) = ((**given).clone(), self.totals.retired());
                let taken = self.sources.inherit(origin, given, *by, ended);
                self.shares.lost += u64::from(taken.is_err());
            }
        }
        None
    }

    /// Joins what another instance knows of sources. What there is no room for is counted, and is
    /// as if it had been forgotten.
    pub(super) fn join_shared(&mut self, sources: Vec<Counted<Source>>, giving: Option<Giving>) {
        for Counted { origin, source, by } in sources {
            let Some(giving) = giving else {
                self.join_copy(origin, source);
                continue;
            };
            // Among it is what nobody else knows: what are copies shows when all has come.
            match self.sources.join(origin, &source) {
                Ok(()) => self.sources.groups.gives(giving, origin, by),
                Err(_) => self.shares.lost += 1,
            }
        }
    }

    /// What another has given away has all come: what that has counted is counted here from here
    /// on.
    pub(super) fn given(&mut self, giving: Giving) {
        for (origin, by) in self.sources.groups.given(giving) {
            self.sources.take_from(origin, by, self.totals.retired());
        }
    }

    /// Joins a copy, but for what lives have counted that others have taken over.
    fn join_copy(&mut self, origin: Origin, mut copy: Source) {
        copy.retire(self.totals.retired());
        self.shares.lost += u64::from(self.sources.join(origin, &copy).is_err());
    }
}

impl Shares {
    pub(super) fn next_update(&mut self) -> Option<(Origin, Operation)> {
        self.updates.pop_front()
    }

    pub(super) fn return_update(&mut self, origin: Origin, operation: Operation) {
        self.updates.push_front((origin, operation));
    }

    pub(super) fn updates(&self) -> usize {
        self.updates.len()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
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
            let (source, by) = (self.source(&origin)?.clone(), self.counted_as(&origin));
            Some(Counted { origin, source, by })
        };
        let piece: Vec<_> = next.filter_map(known).collect();
        (!piece.is_empty()).then_some(piece)
    }
}
