//! The firewall: which packets may pass, by the connections that they belong to.
//!
//! Rules say which connections may begin, and limits how many each source may. A packet of a
//! connection that has begun passes, in both directions and with the ICMP errors about it, as
//! long as it fits there; all else is dropped. No I/O, no clock: packets and time go in, verdicts
//! come out.

mod bucket;
mod codec;
mod function;
mod limits;
mod reason;
mod rules;
mod share;
mod southbound;
#[cfg(test)]
mod tests;
mod totals;

use weir_state_transfer::Nanos;
use weir_state_transfer::merge::{Life, Replica};

pub use bucket::{Bucket, Rate};
pub use limits::{Limits, Source};
pub use reason::{Reason, Verdict};
pub use rules::{Action, RULES_MAX, Rule, RuleError, Rules};
pub(in crate::nf) use share::{Admission, Operation};
pub use totals::Totals;

use crate::nf::connection::{Connection, Packet, Settings, TimeoutError, Tracked};
pub use crate::nf::origin::Origin;
use limits::Sources;
use share::Shares;

/// What a firewall is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Which connections may begin: none by default.
    pub rules: Rules,
    /// What each source may do.
    pub limits: Limits,
    /// How connections are tracked.
    pub tracking: Settings,
}

/// A firewall of one instance.
///
/// The connections are state of single flows, and kept by the caller, one for both directions of
/// a flow. State of several flows (what each source has begun) and of all flows (the totals) is
/// kept here, and joined with that of other instances.
///
/// A packet may allocate where something of a source is counted that was not before: where a
/// connection begins or would, and where one closes, opens again or ends, as its source may not be
/// known here, and a share has it told where that is. So may the first packet of each verdict, for
/// its counter. All others, which are those of connections that go on, allocate nothing.
#[derive(Debug)]
pub struct Firewall {
    rules: Rules,
    tracking: Settings,
    replica: Replica,
    sources: Sources,
    shares: Shares,
    totals: Totals,
}

impl Firewall {
    /// A firewall that counts as a replica, and as those behind it for sources that were forgotten:
    /// [`REPLICAS_OF_A_LIFE`](crate::nf::REPLICAS_OF_A_LIFE) in all.
    ///
    /// # Errors
    /// When a time-out is not in its bounds.
    pub fn new(config: Config, replica: Replica) -> Result<Self, TimeoutError> {
        let Config { rules, limits, tracking } = config;
        tracking.timeouts.check()?;
        let totals = Totals::new(&rules);
        let (sources, shares) = (Sources::new(limits, replica), Shares::default());
        Ok(Self { rules, tracking, replica, sources, shares, totals })
    }

    /// Judges a packet, given what is known of its connection: none if nothing is. What is to be
    /// known from here on stands in the same place.
    pub fn judge(
        &mut self,
        packet: &Packet<'_>,
        connection: &mut Option<Connection>,
        now: Nanos,
    ) -> Verdict {
        self.end_if_over(connection, now);
        let verdict = match self.decide(packet, connection, now) {
            Ok(()) => Verdict::Accept,
            Err(reason) => Verdict::Drop(reason),
        };
        self.totals.count(self.replica, verdict);
        self.end_if_over(connection, now);
        verdict
    }

    /// Forgets a connection whose time is over. The caller looks for such ones now and then.
    pub fn end_if_over(&mut self, connection: &mut Option<Connection>, now: Nanos) {
        if let Some(over) = connection.take_if(|known| known.is_over(now)) {
            self.totals.ended.add(self.replica, 1);
            opener(&over).into_iter().for_each(|origin| self.end_of(origin));
        }
    }

    /// Forgets those of the next `count` sources that have nothing open and have begun nothing
    /// for long enough.
    pub fn sweep_sources(&mut self, count: usize, now: Nanos) {
        self.sources.sweep(count, now);
    }

    /// What each source has begun.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = (&Origin, &Source)> {
        self.sources.known.iter()
    }

    /// What a source has begun.
    pub fn source(&self, origin: &Origin) -> Option<&Source> {
        self.sources.known.source(origin)
    }

    /// What it has counted, by name: drops by their reasons, and rules by theirs.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let Totals { accepted, begun, ended, .. } = &self.totals;
        let of_all = [("accepted", accepted), ("begun", begun), ("ended", ended)];
        let of_all = of_all.map(|(name, counter)| (name.to_owned(), counter.value()));
        let dropped = Reason::all().map(|reason| (reason, self.totals.dropped_for(reason)));
        let dropped = dropped
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| (format!("dropped.{}", reason.name()), packets));
        let rules = self
            .rules
            .iter()
            .map(|rule| (format!("rule.{}", rule.name()), self.totals.matched(rule.name())));
        let sources = ("sources".to_owned(), self.sources().len() as u64);
        let lost = ("shared_sources_lost".to_owned(), self.shares.lost());
        let lost = Some(lost).filter(|(_, sources)| *sources > 0);
        of_all.into_iter().chain(dropped).chain(rules).chain([sources]).chain(lost).collect()
    }

    /// What was done altogether.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Takes over the counts of a life that has ended, all of which were joined.
    pub fn take_over(&mut self, ended: Life) {
        self.totals.take_over(ended, self.replica);
    }

    fn decide(
        &mut self,
        packet: &Packet<'_>,
        connection: &mut Option<Connection>,
        now: Nanos,
    ) -> Result<(), Reason> {
        let Some(known) = connection else {
            let opened = Connection::open(packet, now, &self.tracking)?;
            self.admit(packet, true, now)?;
            self.totals.begun.add(self.replica, 1);
            *connection = Some(opened);
            return Ok(());
        };
        let closed = known.is_closed().then(|| known.clone());
        match known.track(packet, now, &self.tracking) {
            Tracked::New | Tracked::Established | Tracked::Related => {
                self.count_change(closed, known, now)
            }
            Tracked::Invalid(reason) => Err(reason.into()),
            Tracked::Begins => {
                let mut next = known.clone();
                next.begin(packet, now, &self.tracking)?;
                let (before, after) = (opener(known), opener(&next));
                self.admit(packet, before != after, now)?;
                let ends = before.filter(|_| before != after);
                ends.into_iter().for_each(|origin| self.end_of(origin));
                *known = next;
                Ok(())
            }
        }
    }

    /// Counts that a packet has closed a connection, or lets it open again what had closed, which is
    /// given as it was. Where it may not, the connection stays as that.
    fn count_change(
        &mut self,
        closed: Option<Connection>,
        known: &mut Connection,
        now: Nanos,
    ) -> Result<(), Reason> {
        let origin = Origin::of(known.key());
        match (closed, known.is_closed()) {
            (None, true) => self.end_of(origin),
            (Some(closed), false) => {
                self.begin(origin, true, now).inspect_err(|_| *known = closed)?;
            }
            (None, false) | (Some(_), true) => {}
        }
        Ok(())
    }

    /// Whether a packet may begin a connection.
    fn admit(&mut self, packet: &Packet<'_>, opens: bool, now: Nanos) -> Result<(), Reason> {
        let rule = self.rules.first_match(&packet.fields()).ok_or(Reason::NoRule)?;
        self.totals.count_match(self.replica, rule);
        match rule.action() {
            Action::Accept => self.begin(Origin::of(packet.key()), opens, now),
            Action::Drop => Err(Reason::RuleDrop),
            Action::Reject => Err(Reason::RuleReject),
        }
    }
}

/// The source that has a connection open: nobody, once it has closed. So what has been counted of it
/// stands in the connection itself, and goes wherever that is moved.
fn opener(connection: &Connection) -> Option<Origin> {
    (!connection.is_closed()).then(|| Origin::of(connection.key()))
}
