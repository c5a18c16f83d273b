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
//! along: which ports are taken is told by the flows themselves. A flow that was steered by a
//! filter or alone, out of its bucket, must be so by both names.
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
//! * One port serves flows to many remote ends (RFC 7857, section 3). A bucket has 16 ports of an
//!   external address for one of them, all buckets together all of them. Flows are spread by
//!   chance, so the first that finds none comes before all are in use: with one address, when some
//!   20,000 flows to one remote end are open. It is dropped as [`Reason::Exhausted`]. Who chooses
//!   addresses and ports on purpose can fill a bucket for one remote end with 16 flows, and no
//!   other bucket.
//! * Well-known ports become such where one is free, and others never do (REQ-3). Parity is not
//!   kept, which RFC 7857 allows. No port of a service is given to a host.
//! * GRE, ESP, SCTP and IP in IP have addresses only: an external address has one such flow with
//!   a remote host. Protocols that are not known are dropped: what their checksums cover is not.
//! * Addresses in payloads, such as those of FTP and SIP, stay what they are.
//! * Fragments are translated where their flow is known: a first fragment by its ports, a later
//!   one if who steers it has learnt them. None begins a flow.

mod allocate;
mod codec;
mod config;
mod flow;
mod reason;
mod rewrite;
mod rule;
mod rules;
#[cfg(test)]
mod tests;
mod totals;
mod translation;

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_state_transfer::merge::{Join, Replica};
use weir_state_transfer::{FlowKey, Nanos, PortId, SteeringHash, protocol};

pub use codec::BODY_MAX;
pub use config::Config;
pub use flow::flow_key;
pub use reason::{Reason, Verdict};
pub use rule::{BACKENDS_MAX, POOL_MAX, RuleError, SERVICES_MAX, SOURCES_MAX, Service, SourceRule};
pub use rules::Rules;
pub use totals::{Totals, Usage};
pub use translation::Translation;

use crate::nf::connection::{Connection, Invalid, Packet, Settings, TimeoutError, Tracked};
use crate::packet::{Flags, Meta};
use allocate::Allocator;
use flow::meta_key;
use rewrite::rewrite;
use rules::{has_ports, is_icmp};
use translation::Way;

/// A NAT of one instance.
///
/// The translations are state of single flows, and kept by the caller, each to be found by both
/// [`Translation::keys`]. State of several flows (how much each external address is used) and of
/// all flows (the totals) is kept here, and joined with that of other instances. Beginning a flow
/// may allocate; no other packet does.
#[derive(Debug)]
pub struct Nat {
    rules: Rules,
    tracking: Settings,
    replica: Replica,
    allocator: Allocator,
    usages: BTreeMap<IpAddr, Usage>,
    totals: Totals,
}

impl Nat {
    /// A NAT that counts as a replica, and keeps flows in their buckets by a hash.
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
        let usages = rules.external().iter().map(|address| (*address, Usage::default())).collect();
        let (allocator, totals) = (Allocator::new(hash), Totals::default());
        Ok(Self { rules, tracking, replica, allocator, usages, totals })
    }

    /// Translates the packet in a frame, given what is known of its flow, by [`flow_key`]: none if
    /// nothing is. What is to be known from here on stands in the same place, and the key in
    /// `meta` becomes that of the packet as it is then.
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
        self.end_if_over(state, now);
        let decided = match state {
            Some(known) => self.follow(frame, meta, known, now),
            None => Ok(Followed::Anew),
        };
        let verdict = match decided {
            Ok(Followed::Is(verdict)) => verdict,
            Ok(Followed::Anew) => {
                self.end(state);
                self.begin(frame, meta, state, taken, now).unwrap_or_else(Verdict::Drop)
            }
            Err(reason) => Verdict::Drop(reason),
        };
        self.totals.count(self.replica, verdict);
        self.end_if_over(state, now);
        verdict
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

    /// How much each external address is used.
    pub fn usages(&self) -> impl ExactSizeIterator<Item = (&IpAddr, &Usage)> {
        self.usages.iter()
    }

    /// Takes in what another instance knows of an external address; false if no rule has it.
    #[must_use]
    pub fn join_usage(&mut self, address: &IpAddr, other: &Usage) -> bool {
        self.usages.get_mut(address).map(|usage| usage.join(other)).is_some()
    }

    /// What was done altogether.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Takes in what another instance knows of the totals.
    pub fn join_totals(&mut self, other: &Totals) {
        self.totals.join(other);
    }

    /// Takes over the counts of a replica that has ended for good, all of which were joined.
    pub fn take_over(&mut self, ended: Replica) {
        self.totals.take_over(ended, self.replica);
        for usage in self.usages.values_mut() {
            usage.take_over(ended, self.replica);
        }
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
        let original = flow_key(frame, meta);
        if !self.rules.concern(&original) {
            return Ok(Verdict::Pass);
        }
        if !is_translatable(meta.protocol) {
            return Err(Reason::Protocol);
        }
        let packet = Packet::new(frame, meta, NO_PORT);
        let connection = Connection::open(&packet, now, &self.tracking)?;
        let found = self.allocator.translated(&self.rules, &original, taken);
        if found == Err(Reason::Exhausted) {
            self.count_exhausted(&original);
        }
        let begun = Translation { connection, original, translated: found? };
        self.totals.begun.add(self.replica, 1);
        if let Some(usage) = begun.external().and_then(|address| self.usages.get_mut(&address)) {
            usage.open.up.add(self.replica, 1);
        }
        let verdict = apply(frame, meta, &begun, Way::There);
        *state = Some(begun);
        Ok(verdict)
    }

    /// A packet of a flow that is known. The connection sees packets as the end does that has
    /// begun it, so those that come back are translated first.
    fn follow(
        &self,
        frame: &mut [u8],
        meta: &mut Meta,
        known: &mut Translation,
        now: Nanos,
    ) -> Result<Followed, Reason> {
        let way = known.way(&flow_key(frame, meta)).ok_or(Reason::Bypass)?;
        if meta.flags.has(Flags::FRAGMENT) {
            return follow_fragment(frame, meta, known, way);
        }
        if way == Way::Back {
            apply(frame, meta, known, way);
        }
        let packet = Packet::new(frame, meta, NO_PORT);
        match known.connection.track(&packet, now, &self.tracking) {
            Tracked::New | Tracked::Established | Tracked::Related => {}
            Tracked::Invalid(reason) => return Err(reason.into()),
            Tracked::Begins if way == Way::Back => {
                return if known.is_plain() {
                    Ok(Followed::Anew)
                } else {
                    Err(Reason::Unsolicited)
                };
            }
            Tracked::Begins => known.connection.begin(&packet, now, &self.tracking)?,
        }
        if way == Way::There {
            apply(frame, meta, known, way);
        }
        Ok(Followed::Is(verdict_on(known)))
    }

    fn end(&mut self, state: &mut Option<Translation>) {
        let Some(ended) = state.take() else { return };
        self.totals.ended.add(self.replica, 1);
        if let Some(usage) = ended.external().and_then(|address| self.usages.get_mut(&address)) {
            usage.open.down.add(self.replica, 1);
        }
    }

    fn count_exhausted(&mut self, flow: &FlowKey) {
        let external = self.rules.pool(&flow.src(), &flow.dst()).and_then(|mut pool| pool.next());
        if let Some(usage) = external.and_then(|address| self.usages.get_mut(&address)) {
            usage.exhausted.add(self.replica, 1);
        }
    }
}

/// What a packet of a known flow has come to.
enum Followed {
    Is(Verdict),
    /// It begins another flow, of which nothing is known.
    Anew,
}

/// No rule asks for the port at which a packet has come in.
const NO_PORT: PortId = PortId(0);

/// A fragment is neither the first packet of a flow nor one that keeps it alive: its connection
/// can not be asked. Later fragments without ports are of any flow between two hosts.
fn follow_fragment(
    frame: &mut [u8],
    meta: &mut Meta,
    known: &Translation,
    way: Way,
) -> Result<Followed, Reason> {
    let has_numbers = has_ports(meta.protocol) || is_icmp(meta.protocol);
    let unknown = meta.flags.has(Flags::LATER_FRAGMENT)
        && has_numbers
        && (meta.key.src_port(), meta.key.dst_port()) == (0, 0);
    if unknown {
        return Err(Invalid::Fragment.into());
    }
    Ok(Followed::Is(apply(frame, meta, known, way)))
}

/// Makes a packet of a flow one of what the flow is translated to, or back.
fn apply(frame: &mut [u8], meta: &mut Meta, known: &Translation, way: Way) -> Verdict {
    if !known.is_plain() {
        let (from, to) = match way {
            Way::There => (known.original, known.translated),
            Way::Back => (known.translated.reversed(), known.original.reversed()),
        };
        rewrite(frame, meta, &from, &to);
        meta.key = meta_key(&to, meta);
    }
    verdict_on(known)
}

fn verdict_on(known: &Translation) -> Verdict {
    if known.is_plain() { Verdict::Pass } else { Verdict::Translate }
}

/// Whether it is known which checksums of a protocol cover the addresses.
fn is_translatable(number: u8) -> bool {
    const GRE: u8 = 47;
    const ESP: u8 = 50;
    const IPV4: u8 = 4;
    const IPV6: u8 = 41;
    // The checksum of SCTP covers no address (RFC 9260, section 3.1).
    has_ports(number)
        || is_icmp(number)
        || matches!(number, protocol::SCTP | GRE | ESP | IPV4 | IPV6)
}
