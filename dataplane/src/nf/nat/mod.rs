//! Network address translation, of sources and of destinations, for IPv4 and for IPv6.
//!
//! Flows from inside get an external address and a port of it; flows to a service go to one of its
//! backends; a flow from inside to a service gets both, so that its answers come back this way
//! (hairpin, RFC 4787, REQ-9). No I/O, no clock: packets and time go in, verdicts come out.
//!
//! # Instances
//!
//! A flow has two names here, that before and that behind its translation, and steering sees one
//! on the way there and the other on the way back. Both have to lead to the same instance, and two
//! instances must never choose the same translation. Nobody is asked for that, and no entry is
//! made for a flow, because the *bucket* decides:
//!
//! * A source port is chosen among those with which the flow stays in its bucket. The steering
//!   hash is linear, so they are computed: 16 for each external address.
//! * A flow to a service can not be bent like that: its client's address and port have to stay
//!   what they are, for its server to see. So steering takes the end of a backend for that of its
//!   service, by a look at the rules ([`Rules::steering_key`]); a packet straight to a backend
//!   goes with it. The alternatives are worse: an exact steering entry for each flow would not
//!   follow its bucket when that moves, and translating the client too would hide it.
//! * ICMP and what else has no port is steered as if its host had its external address. All hosts
//!   that have it ask one remote host through one bucket, whose owner gives out identifiers.
//!
//! A bucket that is handed over takes its flows, their translations and its part of all ports
//! along: which ports are taken is told by the flows themselves. What is taken is a port *for a
//! remote end*, so flows may leave their bucket by a filter, as long as that takes all flows to a
//! remote end or none ([`Rules::check_filter`]).
//!
//! # What users notice
//!
//! * Mapping and filtering are address and port dependent (RFC 4787, sections 4.1 and 5), because
//!   another remote end is another bucket, which may be with another instance. Against REQ-1, a
//!   port that one remote end has seen is not promised to be that for the next. Mostly it is: the
//!   port depends on the host's alone, and only where another host's flow to the same remote end
//!   has it, the next is taken. Peers that find each other by a third and both begin to send
//!   reach each other then; who does not is helped by a relay (TURN). There are no inbound flows
//!   but to services, so hairpin is to services only.
//! * A host keeps its external address (REQ-2) until its ports for a remote end are taken; then
//!   seven more of the pool are tried. Without ports, it always does.
//! * One port serves flows to many remote ends, of several hosts too. RFC 7857, section 3, allows
//!   this where their destinations differ, against RFC 4787, REQ-3, and RFC 5382, REQ-7. A bucket
//!   has 16 ports of an external address for one of them, all buckets together all of them. Flows
//!   are spread by chance, so the first that finds none comes before all are in use: with one
//!   address, when some 20,000 flows to one remote end are open. It is dropped as
//!   [`Reason::Exhausted`], no function in front goes on knowing it, and its sender is told (RFC
//!   5508, REQ-8). Who chooses addresses and ports on purpose can fill a
//!   bucket for one remote end with 16 flows, and no other bucket.
//! * Well-known ports become such where one is free, and others never do (REQ-3 a). Parity is not
//!   kept, which RFC 7857, section 8, allows. No port of a service is given to a host.
//! * GRE, ESP, SCTP and IP in IP have addresses only: an external address has one such flow with
//!   a remote host. Protocols that are not known are dropped: what their checksums cover is not.
//! * Addresses in payloads, such as those of FTP and SIP, stay what they are.
//! * Fragments of flows that a rule is about are dropped: later ones have no ports, and nobody
//!   here puts packets together. Against RFC 4787, REQ-14.
//! * A flow begins with its first packet, also when that is not forwarded then, as for want of a
//!   route, and lasts its time. UDP flows last as long without an answer as with one (REQ-5).
//! * A checksum that is wrong stays wrong, for its receiver to find: that of an ICMP error too,
//!   against RFC 5508, REQ-3. No such error keeps a translation alive, or ends one (REQ-6).

mod allocate;
mod codec;
mod config;
mod flow;
mod function;
mod ranges;
mod reason;
mod rewrite;
mod rule;
mod rules;
mod southbound;
#[cfg(test)]
mod tests;
mod totals;
mod translation;
mod usages;

use std::net::IpAddr;

use weir_state_transfer::merge::{Life, Replica};
use weir_state_transfer::{FlowKey, Nanos, PortId, SteeringHash, protocol};

pub use codec::BODY_MAX;
pub use config::Config;
pub use flow::flow_key;
pub use reason::{Reason, Verdict};
pub use rule::{
    BACKENDS_MAX, FilterRefused, POOL_MAX, RuleError, SERVICES_MAX, SOURCES_MAX, Service,
    SourceRule,
};
pub use rules::Rules;
pub use totals::Totals;
pub use translation::Translation;
pub use usages::Usage;

use crate::nf::connection::{Connection, Packet, Settings, TimeoutError, Tracked};
use crate::packet::Meta;
use allocate::Allocator;
use rewrite::rewrite;
use rules::has_ports;
use translation::Way;
use usages::Usages;

/// A NAT of one instance.
///
/// The translations are state of single flows, and kept by the caller, each to be found by both
/// [`Translation::keys`]. State of several flows (how much each external address is used) and of
/// all flows (the totals) is kept here, and joined with that of other instances. Beginning a flow
/// may allocate; no other packet does.
///
/// Keys in `meta` are those of [`flow_key`].
#[derive(Debug)]
pub struct Nat {
    rules: Rules,
    tracking: Settings,
    replica: Replica,
    allocator: Allocator,
    /// Of every address of a pool or a service, from the beginning on.
    usages: Usages,
    totals: Totals,
    /// The connection of the packet that has come back last, as it was before.
    before: Option<Connection>,
}

impl Nat {
    /// A NAT that counts as a replica, and as those behind it for usages that were forgotten:
    /// [`REPLICAS_OF_A_LIFE`](crate::nf::REPLICAS_OF_A_LIFE) in all. It keeps flows in their buckets
    /// by a hash.
    ///
    /// # Errors
    /// When a time-out is not in its bounds.
    pub fn new(
        config: Config,
        hash: &SteeringHash,
        replica: Replica,
    ) -> Result<Self, TimeoutError> {
        let Config { rules, tracking } = config;
        tracking.timeouts.check()?;
        let usages = Usages::new(&rules.outside(), replica);
        let (allocator, totals) = (Allocator::new(hash), Totals::default());
        Ok(Self { rules, tracking, replica, allocator, usages, totals, before: None })
    }

    /// Translates the packet in a frame, given what is known of its flow: none if nothing is. What
    /// is to be known from here on stands in the same place, and the key in `meta` becomes that of
    /// the packet as it is then.
    ///
    /// `taken` says whether a translation is known under a key that is made the same
    /// [both ways](FlowKey::both_ways). It is asked only when a flow begins: at most 128 times.
    pub fn translate(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        state: &mut Option<Translation>,
        taken: impl Fn(&FlowKey) -> bool,
        now: Nanos,
    ) -> Verdict {
        if let Some(verdict) = self.arrive(frame, meta, state, now) {
            return verdict;
        }
        let is_new = state.as_ref().and_then(Translation::external).is_none();
        let verdict = self.leave(frame, meta, state, taken, now);
        state.iter().filter(|_| is_new).for_each(|known| self.kept(known));
        verdict
    }

    /// The first half of [`Nat::translate`]: what is to be done before others look at the packet,
    /// who know its flow as the end that has begun it does. A packet that comes back is translated,
    /// and one that can not begin a flow refused. None where it is for [`Nat::leave`] to say.
    pub fn arrive(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        state: &mut Option<Translation>,
        now: Nanos,
    ) -> Option<Verdict> {
        self.end_if_over(state, now);
        let result = match state {
            None => match self.rules.refusal(&meta.key) {
                Some(reason) => Err(reason),
                None => return None,
            },
            Some(known) => match known.way(&meta.key) {
                Some(Way::There) => return None,
                Some(Way::Back) if known.is_plain() => return None,
                Some(Way::Back) => self.bring_back(frame, meta, known, now),
                None => Err(Reason::Bypass),
            },
        };
        let verdict = result.map_or_else(Verdict::Drop, |()| Verdict::Translate);
        self.totals.count(self.replica, verdict);
        self.end_if_over(state, now);
        Some(verdict)
    }

    /// The second half of [`Nat::translate`]: what is to be done when nobody else has refused the
    /// packet. One that goes there is translated, and if nothing is known of its flow, that begins: it
    /// is [kept](Nat::kept) then.
    pub fn leave(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        state: &mut Option<Translation>,
        taken: impl Fn(&FlowKey) -> bool,
        now: Nanos,
    ) -> Verdict {
        let followed = state.as_mut().and_then(|known| self.follow(frame, meta, known, now));
        let result = followed.unwrap_or_else(|| {
            self.end(state);
            self.begin(frame, meta, state, taken, now)
        });
        let verdict = result.unwrap_or_else(Verdict::Drop);
        self.totals.count(self.replica, verdict);
        self.end_if_over(state, now);
        verdict
    }

    /// Another has refused the packet that has [arrived](Nat::arrive) last: what it has changed is as
    /// before, so that it keeps no translation alive.
    pub fn refused(&mut self, state: &mut Option<Translation>) {
        if let Some((known, before)) = state.as_mut().zip(self.before.take()) {
            known.connection = before;
        }
    }

    /// A translation is kept from here on that was not: it has begun, or has come by itself. One that
    /// comes with its bucket or by a move is among those that began where it comes from.
    pub fn kept(&mut self, known: &Translation) {
        if let Some(address) = self.used_by(known) {
            self.usages.begins(address);
        }
    }

    /// A translation is not kept any more, and did not [end](Nat::end_if_over): it was deleted, or
    /// given up after a panic.
    pub fn lost(&mut self, known: &Translation) {
        if let Some(address) = self.used_by(known) {
            self.usages.ends(address);
        }
    }

    /// Forgets a translation whose time is over. The caller looks for such ones now and then.
    pub fn end_if_over(&mut self, state: &mut Option<Translation>, now: Nanos) {
        if state.as_ref().is_some_and(|known| known.is_over(now)) {
            self.end(state);
        }
    }

    /// What it does.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How much each address of a pool or a service is used.
    pub fn usages(&self) -> impl ExactSizeIterator<Item = (&IpAddr, &Usage)> {
        self.usages.iter()
    }

    /// What was done altogether.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What it has counted, by name: drops by their reasons, and what was used of each external
    /// address.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let Totals { passed, translated, begun, ended, .. } = &self.totals;
        let of_all =
            [("passed", passed), ("translated", translated), ("begun", begun), ("ended", ended)];
        let of_all = of_all.map(|(name, counter)| (name.to_owned(), counter.value()));
        let dropped = Reason::all()
            .map(|reason| (format!("dropped.{}", reason.name()), self.totals.dropped_for(reason)));
        let usages = self.usages().flat_map(|(address, usage)| {
            // A flow may have begun elsewhere and ended here.
            let open = u64::try_from(usage.open.value()).unwrap_or(0);
            let exhausted = usage.exhausted.value();
            [(format!("open.{address}"), open), (format!("exhausted.{address}"), exhausted)]
        });
        let others = dropped.chain(usages).filter(|(_, count)| *count > 0);
        of_all.into_iter().chain(others).collect()
    }

    /// Takes over the counts of a life that has ended, all of which were joined.
    pub fn take_over(&mut self, ended: Life) {
        self.totals.take_over(ended, self.replica);
    }

    /// A packet of a flow that is not known.
    fn begin(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        state: &mut Option<Translation>,
        taken: impl Fn(&FlowKey) -> bool,
        now: Nanos,
    ) -> Result<Verdict, Reason> {
        if !self.rules.concern(&meta.key) {
            return Ok(Verdict::Pass);
        }
        if let Some(reason) = self.rules.refusal(&meta.key) {
            return Err(reason);
        }
        let packet = Packet::new(frame, meta, NO_PORT);
        let connection = Connection::open(&packet, now, &self.tracking)?;
        let found = self.allocator.translated(&self.rules, &meta.key, taken);
        if found == Err(Reason::Exhausted) {
            self.count_exhausted(&meta.key);
        }
        let begun = Translation { connection, translated: found? };
        self.totals.begun.add(self.replica, 1);
        let verdict = apply(frame, meta, &begun, Way::There);
        *state = Some(begun);
        Ok(verdict)
    }

    /// A packet of a translated flow that comes back. The connection sees packets as the end does
    /// that has begun it, so it is translated first.
    fn bring_back(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        known: &mut Translation,
        now: Nanos,
    ) -> Result<(), Reason> {
        apply(frame, meta, known, Way::Back);
        self.before = Some(known.connection.clone());
        let packet = Packet::new(frame, meta, NO_PORT);
        match known.connection.track(&packet, now, &self.tracking) {
            Tracked::New | Tracked::Established | Tracked::Related => Ok(()),
            Tracked::Begins => Err(Reason::Unsolicited),
            Tracked::Invalid(reason) => Err(reason.into()),
        }
    }

    /// A packet of a known flow that goes there, or of one that is not translated. None if it
    /// begins another, in the other direction.
    fn follow(
        &mut self,
        frame: &mut [u8],
        meta: &mut Meta,
        known: &mut Translation,
        now: Nanos,
    ) -> Option<Result<Verdict, Reason>> {
        let way = known.way(&meta.key)?;
        let packet = Packet::new(frame, meta, NO_PORT);
        match known.connection.track(&packet, now, &self.tracking) {
            Tracked::New | Tracked::Established | Tracked::Related => {}
            Tracked::Invalid(reason) => return Some(Err(reason.into())),
            Tracked::Begins if way == Way::Back => return None,
            Tracked::Begins => {
                if let Err(reason) = known.connection.begin(&packet, now, &self.tracking) {
                    return Some(Err(reason.into()));
                }
                // One connection has ended, and another has its translation.
                self.totals.ended.add(self.replica, 1);
                self.totals.begun.add(self.replica, 1);
            }
        }
        Some(Ok(apply(frame, meta, known, way)))
    }

    /// Notes that a translation is over, and forgets it.
    pub(crate) fn end(&mut self, state: &mut Option<Translation>) {
        let Some(ended) = state.take() else { return };
        self.totals.ended.add(self.replica, 1);
        self.lost(&ended);
    }

    /// Counts a flow that finds nothing that is free: at the address of its host, or where that keeps
    /// its own at that of the service.
    fn count_exhausted(&mut self, flow: &FlowKey) {
        let address = self.rules.paired(&flow.src(), &flow.dst()).unwrap_or(flow.dst());
        if self.rules.has_outside(&address) {
            self.usages.is_exhausted(address);
        }
    }

    /// The external address that a flow uses. A translation that came from elsewhere may have one
    /// that no rule has here.
    fn used_by(&self, known: &Translation) -> Option<IpAddr> {
        known.external().filter(|address| self.rules.is_external(address))
    }
}

/// No rule asks for the port at which a packet has come in.
const NO_PORT: PortId = PortId(0);

/// Makes a packet of a flow one of what the flow is translated to, or back.
fn apply(frame: &mut [u8], meta: &mut Meta, known: &Translation, way: Way) -> Verdict {
    if known.is_plain() {
        return Verdict::Pass;
    }
    let (from, to) = match way {
        Way::There => (*known.original(), known.translated),
        Way::Back => (known.translated.reversed(), known.original().reversed()),
    };
    rewrite(frame, meta, &from, &to);
    meta.key = to;
    Verdict::Translate
}

/// Whether it is known which checksums of a protocol cover the addresses.
fn is_translatable(number: u8) -> bool {
    const GRE: u8 = 47;
    const ESP: u8 = 50;
    const IPV4: u8 = 4;
    const IPV6: u8 = 41;
    // The checksum of SCTP covers no address (RFC 9260, section 3.1).
    has_ports(number)
        || protocol::is_icmp(number)
        || matches!(number, protocol::SCTP | GRE | ESP | IPV4 | IPV6)
}
