//! The destination's end of a move on its worker: holds, takes in, releases, or relays back.

use std::sync::Arc;

use hdrhistogram::Histogram;
use weir_state_transfer::bucket::{Bucket, BucketSet};
use weir_state_transfer::filter::Selection;
use weir_state_transfer::mark::{Destination, UndoAnswer, Verdict};
use weir_state_transfer::{FlowKey, InstanceId, MoveId, Nanos, WorkerId};

use super::{Budget, Context, Group, HoldReport, Intercepted, Outcome, multi_flow, settle};
use crate::instance::{CopiesCursor, Entry, Instance, MovedFlow};
use crate::nf::MultiFlow;
use crate::worker::{Forwarder, Held, Item, Message, MoveSpec, Packet};

#[derive(Debug)]
pub(super) struct DestinationEnd {
    spec: Arc<MoveSpec>,
    destination: Destination<Group, Held>,
    arrived: BucketSet,
    /// How far the forgetting of copies has come, which is what is left to do after END.
    forgotten: Option<CopiesCursor>,
    outcome: Option<Outcome>,
    report: HoldReport,
    hold_ns: Histogram<u32>,
}

impl DestinationEnd {
    pub(super) fn new(spec: Arc<MoveSpec>) -> Self {
        let destination = Destination::new(spec.guarantee, spec.steerers, spec.hold);
        let hold_ns = Histogram::new_with_bounds(1, HOLD_NS_MAX, 2).expect("the bounds are valid");
        Self {
            spec,
            destination,
            arrived: BucketSet::empty(),
            forgotten: None,
            outcome: None,
            report: HoldReport::default(),
            hold_ns,
        }
    }

    pub(super) fn spec(&self) -> &MoveSpec {
        &self.spec
    }

    pub(super) fn id(&self) -> MoveId {
        self.spec.id
    }

    pub(super) fn held(&self) -> usize {
        self.destination.hold().len()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(super) fn into_report(self) -> HoldReport {
        let held_max = self.destination.hold().peak() as u64;
        HoldReport { held_max, hold_ns: Some(self.hold_ns), ..self.report }
    }

    pub(super) fn concerns(&self, instance: InstanceId, key: &FlowKey, hash: u32) -> bool {
        instance == self.spec.to && self.spec.concerns(key, hash)
    }

    pub(super) fn packet(&mut self, packet: Packet, context: &mut Context<'_>) -> Intercepted {
        let (key, hash) = (packet.meta.key, packet.meta.hash);
        let group = Group::of(&self.spec, &key, hash);
        let arrived = match group {
            Group::Bucket(bucket) => self.arrived.contains(bucket),
            Group::Flow(key) => self.has_flow(&key, hash, context),
        };
        let held = Held { packet, since: context.forwarder.now };
        let verdict = self.destination.packet(group, arrived, held);
        if let Verdict::Held { first } = verdict {
            self.report.held += 1;
            if let (true, Group::Flow(key), false) = (first, group, arrived) {
                self.send(Message::Pull(key), context.forwarder);
            }
            if self.destination.fills() {
                self.send(Message::Undo, context.forwarder);
            }
        }
        settle(verdict, context.forwarder, &mut self.report)
    }

    pub(super) fn marker(&mut self, steerer: WorkerId) {
        self.destination.marker(steerer);
    }

    /// The node asks to undo.
    pub(super) fn ask(&mut self, forwarder: &mut Forwarder) {
        if self.destination.ask() {
            self.send(Message::Undo, forwarder);
        }
    }

    pub(super) fn message(&mut self, message: Message, context: &mut Context<'_>) {
        match message {
            Message::Bucket(bucket, part) => {
                self.report.buckets += 1;
                self.report.flows += part.len() as u64;
                if let Some(instance) = context.instances.find(self.spec.to) {
                    instance.flows.put_bucket(bucket, part);
                }
                self.arrived.insert(bucket);
                self.destination.arrived(Group::Bucket(bucket));
            }
            Message::Flows(flows) => {
                let Some(instance) = context.instances.find(self.spec.to) else { return };
                let hash = &context.forwarder.steering_hash;
                instance.flows.prefetch_places(&flows, |key| hash.bucket(key));
                flows.each(|flow, entries| self.put(flow, entries, instance, context.forwarder));
            }
            Message::MultiFlow(state) => self.take_in(state, context),
            Message::Unknown(key) => {
                let bucket = context.forwarder.steering_hash.bucket(&key);
                if let Some(instance) = context.instances.find(self.spec.to) {
                    instance.flows.forget_copy(&key, bucket);
                }
                self.destination.unknown(Group::Flow(key));
            }
            // Copies of buckets went as these came.
            Message::End => match self.spec.selection {
                Selection::Filter(_) => self.forgotten = Some(CopiesCursor::default()),
                Selection::Buckets(_) => self.end(context.forwarder),
            },
            Message::UndoAnswer(UndoAnswer::Accepted) => self.destination.undo_accepted(),
            Message::UndoAnswer(UndoAnswer::Refused) => self.destination.undo_refused(),
            Message::Pull(_)
            | Message::Refused(_)
            | Message::Ended
            | Message::Undo
            | Message::Relay(_)
            | Message::RelayEnd
            | Message::Drain
            | Message::Drained => debug_assert!(false, "not for a destination"),
        }
    }

    /// Carries the end on; whether there is more to do at once.
    pub(super) fn step(
        &mut self,
        now: Nanos,
        budget: &mut Budget,
        context: &mut Context<'_>,
    ) -> bool {
        if self.destination.is_relaying() {
            return self.relay(budget, context.forwarder);
        }
        let is_forgetting = self.forgotten.is_some() && !self.forget_copies(budget, context);
        let mut released = false;
        // A hold that fills has waited long enough for a worker that transmits.
        let waits = |end: &Self, forwarder: &Forwarder| {
            forwarder.rings.hold_up() && !end.destination.hold().is_half_full()
        };
        while !waits(self, context.forwarder)
            && budget.packets > 0
            && let Some(held) = self.destination.next_release()
        {
            released |= budget.packet();
            self.hold_ns.saturating_record(now.since(held.since).as_nanos() as u64);
            context.forward(self.spec.to, held.packet);
        }
        if self.destination.is_done() {
            self.outcome = Some(Outcome::Done);
        }
        released || is_forgetting || (self.held() > 0 && waits(self, context.forwarder))
    }

    fn relay(&mut self, budget: &mut Budget, forwarder: &mut Forwarder) -> bool {
        while budget.packets > 0 && forwarder.rings.to(self.spec.from_worker).has_room() {
            let Some(held) = self.destination.next_relay() else { break };
            budget.packet();
            self.send(Message::Relay(held), forwarder);
        }
        if self.destination.is_relayed() {
            self.send(Message::RelayEnd, forwarder);
            self.outcome = Some(Outcome::Undone);
        }
        self.held() > 0
    }

    /// Takes in one flow. What the table has no room for is not there any more, which is counted:
    /// its packets are forwarded without.
    fn put(
        &mut self,
        flow: MovedFlow,
        entries: &[Entry],
        instance: &mut Instance,
        forwarder: &mut Forwarder,
    ) {
        let names = flow.names();
        let bucket = forwarder.steering_hash.bucket(&flow.key);
        self.report.flows += entries.len() as u64;
        let (recorded, left) = instance.flows.put_flow(flow, entries, bucket, self.spec.id);
        if let Some(mut left) = left {
            forwarder.fault_of_state(instance);
            instance.chain.end(&mut left.states);
            self.report.panics += forwarder.note_caught(instance);
            instance.counters.functions_full.add(1);
        }
        if !recorded {
            forwarder.counters.flow_table_full.add(1);
        }
        for group in names.map(Group::Flow) {
            match self.spec.selection {
                // Complete only with its bucket, or with END.
                Selection::Buckets(_) => {}
                Selection::Filter(_) if recorded => self.destination.arrived(group),
                Selection::Filter(_) => self.destination.unknown(group),
            }
        }
    }

    /// Takes in state of several flows. What there is no room for goes back to the source, and what a
    /// function panics at is lost.
    fn take_in(&mut self, state: MultiFlow, context: &mut Context<'_>) {
        let came = state.pieces.len();
        let (refused, lost) = match context.instances.find(self.spec.to) {
            Some(instance) => {
                multi_flow::join(state, instance, context.forwarder, &mut self.report)
            }
            None => (state, 0),
        };
        self.report.multi_flow += (came - refused.pieces.len()) as u64 - lost;
        self.report.multi_flow_lost += lost;
        if !refused.pieces.is_empty() {
            self.send(Message::Refused(refused), context.forwarder);
        }
    }

    /// All that there is of the flows of a filter has come: a copy of one of them is of a flow that is
    /// over, and goes. Then the end comes to its end; whether that was now.
    fn forget_copies(&mut self, budget: &mut Budget, context: &mut Context<'_>) -> bool {
        let Some(cursor) = &mut self.forgotten else { return false };
        let (spec, hash) = (&self.spec, &context.forwarder.steering_hash);
        let instance = context.instances.find(spec.to);
        let is_done = instance.is_none_or(|instance| {
            let is_gone = |key: &FlowKey| spec.concerns(key, hash.hash(key));
            instance.flows.forget_copies(cursor, &mut budget.looks, is_gone)
        });
        if is_done {
            self.forgotten = None;
            self.end(context.forwarder);
        }
        is_done
    }

    fn end(&mut self, forwarder: &mut Forwarder) {
        self.destination.ended();
        if self.spec.multi_flow.is_some() {
            self.send(Message::Ended, forwarder);
        }
    }

    /// Whether the flow's state came by this move; an older entry of the same flow does not count.
    fn has_flow(&self, key: &FlowKey, hash: u32, context: &mut Context<'_>) -> bool {
        let Some(instance) = context.instances.find(self.spec.to) else { return false };
        instance.flows.came_by(key, Bucket::of(hash), self.spec.id)
    }

    fn send(&self, message: Message, forwarder: &mut Forwarder) {
        forwarder.hand_out(self.spec.from_worker, Item::Move(self.spec.id, message));
    }
}

/// Hold times above are recorded as this: an hour.
const HOLD_NS_MAX: u64 = 3_600_000_000_000;
