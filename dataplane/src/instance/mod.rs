//! Switch instances: a router each, with flows, rules and counters of its own.

pub mod digest;
mod entry;
mod known;
mod moved;
mod part;
mod southbound;
mod states;
mod subscriptions;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_nf_api::server::Desk;
use weir_state_transfer::southbound::{Arrival, EventLimits, StateKind};
use weir_state_transfer::{Bucket, InstanceId, Nanos, PortId};

pub use entry::Entry;
pub(crate) use known::StatesCursor;
pub use moved::MovedFlow;
pub(crate) use moved::TakeCursor;
pub use part::{Part, Slot};
pub(crate) use southbound::AsFunction;
pub use states::FlowStates;
use subscriptions::Fields;
pub(crate) use subscriptions::Subscriptions;
pub(crate) use table::Cursor;
pub use table::{FlowHasher, FlowTable, Place};

use crate::counters::InstanceCounters;
use crate::nf::{Chain, Concern, Refused, Shown};
use crate::packet::Meta;
use crate::share::Shares;
use crate::worker::Packet;

/// Sources that the network functions look at in one sweep.
const SOURCES: usize = 16;

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
        let (round, shares, desk) = (0, Shares::default(), None);
        Self { id, flows, chain, counters, round, hand, ended, kinds, subscriptions, shares, desk }
    }

    /// Shows a packet to those who have subscribed; it comes back unless one of them keeps it.
    #[cold]
    pub(crate) fn arrive(&mut self, packet: Packet, now: Nanos) -> Arrival<Packet> {
        self.subscriptions.arrive(packet, now)
    }

    /// A packet has been processed: those who have subscribed to it are told.
    #[cold]
    pub(crate) fn processed(&mut self, frame: &[u8], meta: &Meta, port: PortId, now: Nanos) {
        let fields = Fields::of(frame, meta, port);
        let version = self.flows.version();
        self.subscriptions.processed(&fields, frame, version, now);
    }

    /// Publishes whether a subscription keeps packets, for who is to move flows.
    pub(crate) fn publish_keeping(&self) {
        let keeping = self.subscriptions.keeping();
        if let Some(id) = keeping {
            self.counters.keeper.set(id.0);
        }
        self.counters.keeping.set(u64::from(keeping.is_some() || self.subscriptions.kept() > 0));
    }

    /// Shows a packet to the network functions, if there are any.
    ///
    /// # Errors
    /// Which of them has refused it.
    #[inline]
    pub(crate) fn show(&mut self, packet: Shown<'_>) -> Result<(), Refused> {
        if self.chain.is_empty() {
            return Ok(());
        }
        let Self { flows, chain, counters, .. } = self;
        let (key, bucket) = (packet.meta.key, Bucket::of(packet.meta.hash));
        let (version, kept) = (flows.update(), flows.kept());
        let shown = flows.change_states(&key, bucket, |known| {
            known.touch(version);
            let before = known.kept();
            let verdict = chain.process(&mut known.states, packet);
            chain.fit(&mut known.states, before, kept - before);
            verdict
        });
        if let Some(verdict) = shown {
            return verdict;
        }
        if !flows.has_room(bucket) {
            counters.functions_full.add(1);
            return chain.process_without_room();
        }
        let (verdict, begun) = chain.process_first(packet);
        if let Some(mut states) = begun {
            chain.fit(&mut states, 0, kept);
            let kept = flows.keep(key, bucket, FlowStates::new(states, version));
            debug_assert!(kept.is_ok(), "there is room");
        }
        verdict
    }

    /// What a packet is about, of what its network functions share.
    pub(crate) fn concern(&self, packet: &Packet, now: Nanos) -> Option<Concern> {
        let Packet { frame, meta, port } = packet;
        let known = self.flows.known_states(&meta.key, Bucket::of(meta.hash));
        let shown = Shown { frame: frame.data(), meta, port: *port, now };
        self.chain.concern(known.map(|known| &*known.states), shown)
    }

    /// Ends what network functions know of flows, at most so many at a time; whether all that they
    /// knew when it began has ended, and its records have been taken.
    pub(crate) fn end_flows(&mut self, flows: usize) -> bool {
        let Self { flows: table, chain, ended, .. } = self;
        table.walk_states(ended, flows, |known| {
            if !known.is_copy() {
                chain.end(&mut known.states);
            }
            true
        });
        ended.is_done() && !chain.has_records()
    }

    /// Ends flows that have been idle since `before`, a bounded piece of the table at a time.
    pub(crate) fn sweep(&mut self, sets: usize, before: Nanos, now: Nanos) {
        self.flows.sweep(sets, before);
        self.counters.flows.set(self.flows.len() as u64);
        if !self.chain.is_empty() {
            let Self { flows, chain, hand, .. } = self;
            if hand.is_done() {
                *hand = StatesCursor::default();
            }
            // More than there is memory for may have come by moves.
            let mut excess = chain.excess(flows.kept());
            flows.walk_states(hand, sets, |known| {
                if known.is_copy() {
                    return chain.is_over(&known.states, now);
                }
                let over = chain.expire(&mut known.states, now);
                if !over && excess > 0 && known.kept() > 0 {
                    excess = excess.saturating_sub(known.kept());
                    chain.give_up(&mut known.states);
                }
                over
            });
            chain.sweep(SOURCES, now);
        }
    }
}
