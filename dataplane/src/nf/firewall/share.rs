//! What firewalls share: what each source has begun, so that its limits hold for all of them.
//!
//! Whether a packet may begin a connection is decided where its source has its home. Ends of
//! connections are told there, and so are beginnings that came to nothing.

use weir_state_transfer::Nanos;
use weir_state_transfer::merge::Replica;

use super::limits::Source;
use super::reason::Reason;
use super::rules::Action;
use super::{Firewall, opener};
use crate::nf::connection::{Connection, Packet, Tracked};
use crate::nf::origin::Origin;
use crate::nf::share::{Countable as _, Counted, FunctionOperation, Giving};

/// What is to be done with what is known of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::nf) enum Operation {
    /// It wants to begin a connection.
    Begin {
        /// It takes the place of no other of the same source.
        opens: bool,
    },
    /// A connection that it has begun has closed or ended, or did not begin.
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
    /// Copies of sources that there was no room for, or that said of this life that it has ended.
    lost: u64,
}

impl Firewall {
    /// The shared source that a packet is about, and what must be asked about it.
    pub(super) fn concern(
        &self,
        packet: &Packet<'_>,
        known: Option<&Connection>,
        now: Nanos,
    ) -> Option<(Origin, Option<Operation>)> {
        let shared = &self.sources.known.groups;
        if shared.is_empty() {
            return None;
        }
        let accepts = || {
            let rule = self.rules.first_match(&packet.fields())?;
            (rule.action() == Action::Accept).then_some(())
        };
        let begins = Origin::of(packet.key());
        let asks = |opens: bool| (begins, Some(Operation::Begin { opens }));
        let Some(known) = known.filter(|known| !known.is_over(now)) else {
            let may = shared.has(&begins)
                && Connection::open(packet, now, &self.tracking).is_ok()
                && accepts().is_some();
            return may.then(|| asks(true));
        };
        let origin = Origin::of(known.key());
        let mut next = known.clone();
        if next.track(packet, now, &self.tracking) != Tracked::Begins {
            let opens_again = known.is_closed() && !next.is_closed();
            let ask = opens_again.then_some(Operation::Begin { opens: true });
            return shared.has(&origin).then_some((origin, ask));
        }
        let begins_another = next.begin(packet, now, &self.tracking).is_ok() && accepts().is_some();
        if begins_another && shared.has(&begins) {
            return Some(asks(opener(known) != opener(&next)));
        }
        shared.has(&origin).then_some((origin, None))
    }

    /// The next packet is judged by what is shared.
    pub(super) fn judge_by(&mut self, answer: Option<Admission>) {
        self.judged();
        (self.shares.judges, self.shares.answer) = (true, answer);
    }

    /// The packet has been judged: what it was let begin and has not is told.
    pub(super) fn judged(&mut self) {
        self.shares.judges = false;
        if let Some(Admission { origin, opens: true, verdict: Ok(()) }) = self.shares.answer.take()
        {
            self.end_of(origin);
        }
    }

    /// Whether a source may begin a connection: as its home has said, or by what is known here.
    pub(super) fn begin(&mut self, origin: Origin, opens: bool, now: Nanos) -> Result<(), Reason> {
        if !self.shares.judges || !self.sources.known.groups.has(&origin) {
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

    /// A connection of a source has closed, or has ended without that.
    pub(super) fn end_of(&mut self, origin: Origin) {
        let told = FunctionOperation::Firewall(Operation::End);
        if self.sources.known.groups.tell(origin, told).is_err() {
            self.sources.end(origin);
        }
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
                let taken = self.sources.known.may_inherit(&origin, &given, *by)
                    && self.sources.inherit(origin, given, *by, ended).is_ok();
                self.shares.lost += u64::from(!taken);
            }
        }
        None
    }

    /// Joins what another instance knows of sources. What is not taken in is counted, and is as if it
    /// had been forgotten.
    pub(super) fn join_shared(&mut self, sources: Vec<Counted<Source>>, giving: Option<Giving>) {
        for Counted { origin, source, by } in sources {
            let Some(giving) = giving else {
                self.join_copy(origin, source);
                continue;
            };
            // Among it is what nobody else knows: what are copies shows when all has come.
            if self.join_source(origin, &source) {
                self.sources.known.groups.gives(giving, origin, by);
            }
        }
    }

    /// Joins a copy, but for what lives have counted that others have taken over.
    fn join_copy(&mut self, origin: Origin, mut copy: Source) {
        copy.retire(self.totals.retired());
        self.join_source(origin, &copy);
    }

    /// Joins what another instance knows of a source; whether it was taken in. Who was asked to, has
    /// looked whether it may be joined there, and not at the source's home.
    fn join_source(&mut self, origin: Origin, source: &Source) -> bool {
        let taken = self.sources.known.may_join(&origin, source)
            && self.sources.join(origin, source).is_ok();
        self.shares.lost += u64::from(!taken);
        taken
    }
}

impl Shares {
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
