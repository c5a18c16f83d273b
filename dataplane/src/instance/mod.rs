//! Switch instances: a router each, with flows, rules and counters of its own.

mod copies;
pub mod digest;
mod entry;
mod known;
mod moved;
#[cfg(test)]
mod nat_tests;
mod part;
mod southbound;
mod states;
mod subscriptions;
mod table;
mod take;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_nf_api::server::Desk;
use weir_state_transfer::southbound::{Arrival, EventLimits, StateKind};
use weir_state_transfer::{Bucket, FlowKey, InstanceId, Nanos, PortId};

pub(crate) use copies::CopiesCursor;
pub use entry::Entry;
pub(crate) use entry::{Basis, Choice};
pub(crate) use known::StatesCursor;
use known::StatesPlace;
pub use moved::{MovedFlow, MovedFlows};
pub use part::{Part, Slot};
pub(crate) use southbound::AsFunction;
pub use states::FlowStates;
use subscriptions::Fields;
pub(crate) use subscriptions::Subscriptions;
pub(crate) use table::Cursor;
pub use table::{FlowHasher, FlowTable, Place};
pub(crate) use take::TakeCursor;

use crate::counters::{Counter, InstanceCounters};
use crate::nf::{Chain, Concern, Passing, Refused};
use crate::packet::{DropReason, Meta};
use crate::share::Shares;
use crate::worker::Packet;

/// Sources that the network functions look at in one sweep.
const SOURCES: usize = 16;

/// A packet as it has come.
#[derive(Debug)]
pub(crate) struct AsCome {
    fields: Fields,
    bucket: Bucket,
    /// Where it may have been changed since.
    bytes: Option<Box<[u8]>>,
}

/// A switch instance as its worker holds it.
#[derive(Debug)]
pub struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) flows: FlowTable,
    pub(crate) chain: Chain,
    pub(crate) counters: Arc<InstanceCounters>,
    /// Packets processed in this poll round: its share of the round's cost.
    pub(crate) round: u64,
    /// What the next sweep of what network functions know looks at.
    hand: StatesCursor,
    /// How far the ending of flows has come.
    ended: StatesCursor,
    kinds: Vec<StateKind>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) shares: Shares,
    /// Where it is asked for its state, once somebody does.
    pub(crate) desk: Option<Box<Desk>>,
    /// It is gone as soon as nothing is kept for subscribers.
    pub(crate) is_leaving: bool,
}

impl Instance {
    pub(crate) fn new(
        id: InstanceId,
        flows: FlowTable,
        chain: Chain,
        counters: Arc<InstanceCounters>,
        limits: EventLimits,
    ) -> Self {
        let (hand, ended) = Default::default();
        let (kinds, subscriptions) = (chain.kinds(), Subscriptions::new(limits));
        Self {
            id,
            flows,
            chain,
            counters,
            round: 0,
            hand,
            ended,
            kinds,
            subscriptions,
            shares: Shares::default(),
            desk: None,
            is_leaving: false,
        }
    }

    /// It is to go: nobody asks it any more, and what is kept for subscribers is processed.
    pub(crate) fn leave(&mut self) {
        self.settle();
        self.subscriptions.end();
        (self.desk, self.is_leaving) = (None, true);
    }

    /// Shows a packet to those who have subscribed; it comes back unless one of them keeps it.
    #[cold]
    pub(crate) fn arrive(&mut self, packet: Packet, now: Nanos) -> Arrival<Packet> {
        self.subscriptions.arrive(packet, now)
    }

    /// A packet as it has come, for those who have subscribed to it: a NAT may change it.
    #[cold]
    pub(crate) fn as_come(&self, frame: &[u8], meta: &Meta, port: PortId) -> AsCome {
        let bytes = self.chain.has_nat().then(|| frame.into());
        let bucket = Bucket::of(meta.hash);
        AsCome { fields: Fields::of(frame, meta, port), bucket, bytes }
    }

    /// A packet has been processed: those who have subscribed to it are told of it as it has come.
    #[cold]
    pub(crate) fn processed(&mut self, came: &AsCome, frame: &[u8], now: Nanos) {
        let (fields, bytes) = (&came.fields, came.bytes.as_deref().unwrap_or(frame));
        let version = self.flows.known_states(fields.key(), came.bucket);
        let version = version.map_or(0, FlowStates::written);
        self.subscriptions.processed(fields, bytes, version, now);
    }

    /// Publishes whether a subscription keeps packets, for who is to move flows.
    pub(crate) fn publish_keeping(&self) {
        let keeping = self.subscriptions.keeping();
        // Only what has changed: others read the line that it is in.
        let publish = |counter: &Counter, value| {
            if counter.get() != value {
                counter.set(value);
            }
        };
        if let Some(id) = keeping {
            publish(&self.counters.keeper, id.0);
        }
        let keeps = keeping.is_some() || self.subscriptions.kept() > 0;
        publish(&self.counters.keeping, u64::from(keeps));
    }

    /// Shows a packet to the network functions, if there are any. A NAT may change it.
    ///
    /// # Errors
    /// Which of them has refused it.
    #[inline]
    pub(crate) fn show(&mut self, mut packet: Passing<'_>) -> Result<(), Refused> {
        if self.chain.is_empty() {
            return Ok(());
        }
        let change = self.flows.change();
        let shown = self.show_known(&mut packet, change);
        shown.unwrap_or_else(|| self.show_first(&mut packet, change))
    }

    /// Shows a packet of a known flow; none if it is not known.
    #[inline]
    fn show_known(&mut self, packet: &mut Passing<'_>, change: u64) -> Option<Result<(), Refused>> {
        let Self { flows, chain, .. } = self;
        let (key, bucket) = (packet.meta.key, Bucket::of(packet.meta.hash));
        let at = flows.place_of_states(&key, bucket)?;
        if chain.has_nat() && flows.known_at(at)?.may_be_renamed(packet.now) {
            return self.show_anew(at, packet, change);
        }
        let kept = flows.kept();
        flows.change_at(at, bucket, |known| {
            known.touch(change);
            let before = known.kept();
            let verdict = chain.process(&mut known.states, packet, &|_| true);
            chain.fit(&mut known.states, before, kept - before);
            verdict
        })
    }

    /// Shows a packet whose flow is not known, but maybe by a copy.
    fn show_first(&mut self, packet: &mut Passing<'_>, change: u64) -> Result<(), Refused> {
        let (key, bucket) = (packet.meta.key, Bucket::of(packet.meta.hash));
        if self.adopt_copy(&key, bucket, packet.now)
            && let Some(verdict) = self.show_known(packet, change)
        {
            return verdict;
        }
        let Self { flows, chain, counters, .. } = self;
        if !flows.has_room(bucket) {
            counters.functions_full.add(1);
            return chain.process_without_room(&key);
        }
        let (verdict, begun) = chain.process_first(packet, &|name| flows.knows(name, bucket));
        if let Some(mut states) = begun {
            chain.fit(&mut states, 0, flows.kept());
            chain.kept(&states);
            let kept = flows.keep(key, bucket, FlowStates::new(states, change));
            debug_assert!(kept.is_ok(), "there is room, and its names are free");
            kept.unwrap_or_else(|left| chain.lost(&left.states));
        }
        verdict
    }

    /// Makes an ICMP error of the router itself about a packet that the NAT has translated one about
    /// what the sender knows. Other functions see nothing of what the router says itself.
    ///
    /// # Errors
    /// When the flow is not known any more.
    pub(crate) fn translate_own(&mut self, mut error: Passing<'_>) -> Result<(), Refused> {
        let Self { flows, chain, .. } = self;
        let (key, bucket) = (error.meta.key, Bucket::of(error.meta.hash));
        let at = flows.place_of_states(&key, bucket);
        let translated = at.and_then(|at| {
            flows.change_at(at, bucket, |known| chain.translate_own(&mut known.states, &mut error))
        });
        translated.unwrap_or(Err(Refused { reason: DropReason::Nat, answer: None }))
    }

    /// What a packet is about, of what its network functions share. A flow that was given up in a
    /// panic asks for nothing: its packets are dropped.
    pub(crate) fn concern(&self, packet: &Packet, now: Nanos) -> Option<Concern> {
        let (key, bucket) = (&packet.meta.key, Bucket::of(packet.meta.hash));
        if self.flows.is_poisoned(key, bucket) {
            return None;
        }
        let known = self.flows.known_states(key, bucket).filter(|known| {
            // When its translation is over, its second name is nobody's.
            let is_first = || self.flows.first_name(key, bucket) == Some(key.both_ways());
            !known.is_translation_over(now) || is_first()
        });
        self.chain.concern(known.map(|known| &*known.states), packet, now)
    }

    /// Makes the copy of a flow, if there is one, what is known of it; whether anything is.
    pub(crate) fn adopt_copy(&mut self, key: &FlowKey, bucket: Bucket, now: Nanos) -> bool {
        let Self { flows, chain, .. } = self;
        if !flows.has_copies() {
            return false;
        }
        let was_known = flows.knows(key, bucket);
        let is_known = flows.adopt_copy(key, bucket, |copy| chain.is_over(&copy.states, now));
        if let Some(adopted) = flows.known_states(key, bucket).filter(|_| !was_known) {
            chain.kept(&adopted.states);
        }
        is_known
    }

    /// Shows a packet of a known flow to which a NAT may give another second name; none if it is not
    /// known any more. What is known is not in the table meanwhile, which is asked which names are
    /// taken.
    fn show_anew(
        &mut self,
        mut at: StatesPlace,
        packet: &mut Passing<'_>,
        change: u64,
    ) -> Option<Result<(), Refused>> {
        let Self { flows, chain, .. } = self;
        let (key, bucket, now) = (packet.meta.key, Bucket::of(packet.meta.hash), packet.now);
        if flows.known_at(at)?.is_translation_over(now) {
            let first = flows.name_at(at)?;
            let expire = |known: &mut FlowStates| chain.expire(&mut known.states, now);
            if flows.change_at(at, bucket, expire)? {
                flows.forget(&first, bucket);
            }
            // Its second name is nobody's from here on, which may be that of the packet.
            at = flows.place_of_states(&key, bucket)?;
        }
        let (before, mut states) = flows.change_at(at, bucket, |known| {
            known.touch(change);
            (known.kept(), std::mem::take(&mut known.states))
        })?;
        let verdict = chain.process(&mut states, packet, &|name| flows.knows(name, bucket));
        chain.fit(&mut states, before, flows.kept());
        // Before, it had no translation, or one that takes nothing.
        chain.kept_by_nat(&states);
        flows.change_at(at, bucket, |known| known.states = states);
        Some(verdict)
    }

    /// Tells functions of flows that have been given up since the last time.
    pub(crate) fn settle(&mut self) {
        let (given_up, clashes) = self.flows.take_given_up();
        given_up.iter().for_each(|known| self.chain.lost(&known.states));
        if clashes > 0 {
            self.counters.functions_full.add(clashes);
        }
    }

    /// Ends what network functions know of flows, at most so many at a time; whether all that they
    /// knew when it began has ended, and its records have been taken.
    pub(crate) fn end_flows(&mut self, flows: usize) -> bool {
        let Self { flows: table, chain, ended, .. } = self;
        table.walk_states(ended, flows, |known| {
            chain.end(&mut known.states);
            true
        });
        ended.is_done() && !chain.has_records()
    }

    /// Ends flows that have been idle since `before`, a bounded piece of the table at a time.
    pub(crate) fn sweep(&mut self, sets: usize, before: Nanos, now: Nanos) {
        self.flows.sweep(sets, before);
        self.counters.flows.set(self.flows.len() as u64);
        if !self.chain.is_empty() {
            self.settle();
            let Self { flows, chain, hand, .. } = self;
            if hand.is_done() {
                *hand = StatesCursor::default();
            }
            // More than there is memory for may have come by moves.
            let mut excess = chain.excess(flows.kept() + flows.kept_of_copies());
            flows.sweep_copies(sets, |copy| {
                let gives_way = excess > 0 && copy.kept() > 0;
                excess = excess.saturating_sub(copy.kept());
                gives_way || chain.is_over(&copy.states, now)
            });
            if flows.kept_of_copies() > 0 {
                // Copies give way first, as the sweep comes to them.
                excess = 0;
            }
            // Some of a flow may end, with what it counts for several, and the flow go on.
            let (change, mut changed) = (flows.changes() + 1, false);
            flows.walk_states(hand, sets, |known| {
                let before = known.functions();
                let over = chain.expire(&mut known.states, now);
                let mut is_changed = known.functions() != before;
                if !over && excess > 0 && known.kept() > 0 {
                    excess = excess.saturating_sub(known.kept());
                    chain.give_up(&mut known.states);
                    is_changed = true;
                }
                if is_changed {
                    known.set_changed(change);
                    changed = true;
                }
                over
            });
            if chain.sweep(SOURCES, now) || changed {
                // What is known of several flows may have changed, without a packet.
                flows.change();
            }
        }
    }
}
