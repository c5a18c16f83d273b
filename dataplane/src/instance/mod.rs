//! Switch instances: a router each, with flows, rules and counters of its own.

pub mod digest;
mod entry;
mod known;
mod moved;
#[cfg(test)]
mod nat_tests;
mod part;
mod states;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_state_transfer::{Bucket, InstanceId, Nanos};

pub use entry::Entry;
pub(crate) use known::StatesCursor;
pub use moved::MovedFlow;
pub(crate) use moved::TakeCursor;
pub use part::{Part, Slot};
pub use states::FlowStates;
pub(crate) use table::Cursor;
pub use table::{FlowHasher, FlowTable, Place};

use crate::counters::InstanceCounters;
use crate::nf::{Chain, Refused, Shown};

/// Sources that the network functions look at in one sweep.
const SOURCES: usize = 16;

/// A switch instance as its worker holds it.
#[derive(Debug)]
pub(crate) struct Instance {
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
}

impl Instance {
    pub(crate) fn new(
        id: InstanceId,
        flows: FlowTable,
        chain: Chain,
        counters: Arc<InstanceCounters>,
    ) -> Self {
        let (hand, ended) = Default::default();
        Self { id, flows, chain, counters, round: 0, hand, ended }
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
        let Self { flows, chain, .. } = self;
        let (key, bucket) = (packet.meta.key, Bucket::of(packet.meta.hash));
        match flows.known_states(&key, bucket) {
            None => self.show_first(packet),
            Some(_) if chain.has_nat() => self.show_to_nat(packet),
            Some(known) => chain.process(&mut known.states, packet, |_| true),
        }
    }

    /// Shows a packet whose flow is not known.
    fn show_first(&mut self, packet: Shown<'_>) -> Result<(), Refused> {
        let Self { flows, chain, counters, .. } = self;
        let (key, bucket) = (packet.meta.key, Bucket::of(packet.meta.hash));
        if !flows.has_room(bucket) {
            counters.functions_full.add(1);
            return chain.process_without_room(packet.meta);
        }
        let (verdict, begun) = chain.process_first(packet, |key| flows.knows(key, bucket));
        if let Some(states) = begun {
            let kept = flows.keep(key, bucket, FlowStates::new(states));
            debug_assert!(kept.is_ok(), "there is room, and its names are free");
        }
        verdict
    }

    /// Shows a packet of a known flow where there is a NAT, which may give it another second name.
    fn show_to_nat(&mut self, packet: Shown<'_>) -> Result<(), Refused> {
        let Self { flows, chain, .. } = self;
        let (key, bucket, now) = (packet.meta.key, Bucket::of(packet.meta.hash), packet.now);
        // The name of a translation that is over is nobody's.
        flows.change_states(&key, bucket, |known| {
            known.is_over(now) && chain.expire(&mut known.states, now)
        });
        let Some(known) = flows.known_states(&key, bucket) else { return self.show_first(packet) };
        if !chain.may_translate_anew(&known.states) {
            return chain.process(&mut known.states, packet, |_| true);
        }
        // Which names are taken is asked of the table that has the states.
        let mut states = std::mem::take(&mut known.states);
        let verdict = chain.process(&mut states, packet, |key| flows.knows(key, bucket));
        flows.change_states(&key, bucket, |known| {
            known.states = states;
            false
        });
        verdict
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
            let Self { flows, chain, hand, .. } = self;
            if hand.is_done() {
                *hand = StatesCursor::default();
            }
            flows.walk_states(hand, sets, |known| chain.expire(&mut known.states, now));
            chain.sweep(SOURCES, now);
        }
    }
}
