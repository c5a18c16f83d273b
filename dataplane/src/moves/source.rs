//! The source's end of a move on its worker: drains, exports, or takes back.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_state_transfer::bucket::Bucket;
use weir_state_transfer::filter::Selection;
use weir_state_transfer::mark::{Source, UndoAnswer};
use weir_state_transfer::{FlowKey, InstanceId, MoveId, WorkerId};

use super::drain::Departure;
use super::multi_flow::{self, MultiFlowExport};
use super::{Budget, Context, HoldReport, Intercepted, Outcome, settle};
use crate::instance::{Instance, MovedFlows, TakeCursor};
use crate::worker::{Event, Forwarder, Held, Item, Message, MoveSpec, Packet};

#[derive(Debug)]
pub(super) struct SourceEnd {
    spec: Arc<MoveSpec>,
    source: Source<Held>,
    departure: Departure,
    pulls: VecDeque<FlowKey>,
    cursor: TakeCursor,
    /// Buckets to hand over, last first.
    buckets: Vec<Bucket>,
    exporting: bool,
    multi_flow: MultiFlowExport,
    /// Nothing goes back from the destination any more.
    answered: bool,
    outcome: Option<Outcome>,
    report: HoldReport,
}

impl SourceEnd {
    pub(super) fn new(spec: Arc<MoveSpec>) -> Self {
        let source = Source::new(spec.guarantee, spec.steerers, spec.hold);
        let (cursor, pulls) = match spec.selection {
            _ if !spec.per_flow => (TakeCursor::end(), 0),
            Selection::Buckets(_) => (TakeCursor::own(), 0),
            // A flow is pulled when its first packet is held.
            Selection::Filter(_) => (TakeCursor::default(), spec.hold),
        };
        Self {
            departure: Departure::new(&spec),
            buckets: spec.buckets.iter().collect(),
            multi_flow: MultiFlowExport::default(),
            answered: spec.multi_flow.is_none(),
            spec,
            source,
            pulls: VecDeque::with_capacity(pulls),
            cursor,
            exporting: false,
            outcome: None,
            report: HoldReport::default(),
        }
    }

    pub(super) fn spec(&self) -> &MoveSpec {
        &self.spec
    }

    pub(super) fn id(&self) -> MoveId {
        self.spec.id
    }

    pub(super) fn kept(&self) -> usize {
        self.source.kept() + self.departure.waiting()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub(super) fn into_report(self) -> HoldReport {
        self.report
    }

    pub(super) fn concerns(&self, instance: InstanceId, key: &FlowKey, hash: u32) -> bool {
        instance == self.spec.from && self.spec.concerns(key, hash)
    }

    pub(super) fn packet(
        &mut self,
        steerer: WorkerId,
        packet: Packet,
        context: &mut Context<'_>,
    ) -> Intercepted {
        let Context { instances, forwarder } = context;
        let (key, hash) = (packet.meta.key, packet.meta.hash);
        let (spec, hasher) = (&self.spec, &forwarder.steering_hash);
        let wanted = |key: &FlowKey| spec.concerns(key, hasher.hash(key));
        let is_here = || {
            let instance = instances.find(spec.from);
            instance.is_some_and(|at| at.flows.has_flow(&key, Bucket::of(hash), wanted))
        };
        let held = Held { packet, since: forwarder.now };
        let verdict = self.source.packet(steerer, is_here, held);
        settle(verdict, forwarder, &mut self.report)
    }

    pub(super) fn marker(&mut self, steerer: WorkerId) {
        self.source.marker(steerer);
    }

    pub(super) fn message(&mut self, message: Message, context: &mut Context<'_>) {
        let Context { instances, forwarder } = context;
        match message {
            Message::Drained => self.departure.other_has_drained(),
            // END is the answer.
            Message::Pull(_) | Message::Undo if self.source.is_exported() => {}
            Message::Pull(key) => self.pulls.push_back(key),
            Message::Undo => {
                let answer = self.source.undo();
                self.send(Message::UndoAnswer(answer), forwarder);
                if answer == UndoAnswer::Accepted {
                    self.pulls.clear();
                    forwarder.tell(Event::Undoing(self.spec.id));
                }
            }
            Message::Refused(state) => {
                let instance = instances.find(self.spec.from);
                multi_flow::take_back(state, instance, forwarder, &mut self.report);
            }
            Message::Ended => self.answered = true,
            Message::Relay(held) => {
                let verdict = self.source.relayed(held);
                settle(verdict, forwarder, &mut self.report);
            }
            Message::RelayEnd => self.source.relay_ended(),
            Message::Bucket(..)
            | Message::Flows(_)
            | Message::Unknown(_)
            | Message::MultiFlow(_)
            | Message::End
            | Message::UndoAnswer(_)
            | Message::Drain => debug_assert!(false, "not for a source"),
        }
    }

    /// Carries the end on; whether there is more to do at once.
    pub(super) fn step(&mut self, budget: &mut Budget, context: &mut Context<'_>) -> bool {
        if self.source.is_undoing() {
            return self.take_back(budget, context);
        }
        if self.source.is_exported() {
            return self.end_if_over();
        }
        if self.source.is_marked() && !self.source.may_export() {
            if budget.looks == 0 {
                return true;
            }
            if !self.source.drains()
                || self.departure.is_over(&self.spec, budget, context.forwarder)
            {
                self.source.drained();
            }
        }
        self.source.may_export() && self.export(budget, context)
    }

    fn take_back(&mut self, budget: &mut Budget, context: &mut Context<'_>) -> bool {
        while (!context.forwarder.rings.hold_up() || self.source.is_half_full())
            && budget.packets > 0
            && let Some(held) = self.source.next_release()
        {
            budget.packet();
            context.forward(self.spec.from, held.packet);
        }
        if self.source.is_undone() {
            self.outcome = Some(Outcome::Undone);
        }
        self.source.kept() > 0
    }

    fn export(&mut self, budget: &mut Budget, context: &mut Context<'_>) -> bool {
        if !self.exporting {
            self.exporting = true;
            let now = context.forwarder.now;
            context.forwarder.note(Event::Exporting(self.spec.id, now));
        }
        if !self.departure.hand_over(self.spec.to_worker, budget, context.forwarder) {
            return true;
        }
        let Some(instance) = context.instances.find(self.spec.from) else {
            debug_assert!(false, "an instance that owns flows is not removed");
            return false;
        };
        let report = &mut self.report;
        if self.multi_flow.export(&self.spec, budget, instance, context.forwarder, report) {
            return true;
        }
        self.answer_pulls(budget, instance, context.forwarder);
        self.export_flows(budget, instance, context.forwarder)
            || self.export_buckets(budget, instance, context.forwarder)
            || self.end(context.forwarder)
    }

    /// Flows that packets wait for go first.
    fn answer_pulls(
        &mut self,
        budget: &mut Budget,
        instance: &mut Instance,
        forwarder: &mut Forwarder,
    ) {
        while !self.pulls.is_empty() && self.has_room(forwarder) && budget.piece() {
            let Some(key) = self.pulls.pop_front() else { return };
            let bucket = forwarder.steering_hash.bucket(&key);
            let (spec, hash) = (&self.spec, &forwarder.steering_hash);
            let wanted = |key: &FlowKey| spec.concerns(key, hash.hash(key));
            match instance.flows.take_flow(&key, bucket, wanted) {
                Some(flow) => self.send_flows(flow, forwarder),
                // It would take what one of the flows takes that are still here. It waits for END.
                None if instance.chain.may_translate(&key) => {}
                // Its state has gone ahead, or there is none: either way it begins there.
                None => self.send(Message::Unknown(key), forwarder),
            }
        }
    }

    /// Flows one by one; whether there are more.
    fn export_flows(
        &mut self,
        budget: &mut Budget,
        instance: &mut Instance,
        forwarder: &mut Forwarder,
    ) -> bool {
        while !self.cursor.is_done() {
            if !self.has_room(forwarder) || budget.looks == 0 || budget.pieces == 0 {
                return true;
            }
            let (spec, hash) = (&self.spec, &forwarder.steering_hash);
            let (looks, most) = (&mut budget.looks, FLOWS.min(budget.pieces));
            let flows = instance.flows.take_matching(&mut self.cursor, looks, most, |key| {
                let hash = hash.hash(key);
                spec.concerns(key, hash).then(|| Bucket::of(hash))
            });
            budget.pieces -= flows.len();
            if !flows.is_empty() {
                self.send_flows(flows, forwarder);
            }
        }
        false
    }

    /// Buckets as a whole; whether there are more. They go after the flows, so that a bucket
    /// that has arrived is complete.
    fn export_buckets(
        &mut self,
        budget: &mut Budget,
        instance: &mut Instance,
        forwarder: &mut Forwarder,
    ) -> bool {
        while let Some(bucket) = self.buckets.last().copied() {
            if !self.has_room(forwarder) || !budget.piece() {
                return true;
            }
            self.buckets.pop();
            match instance.flows.take_bucket(bucket) {
                Some(part) => self.send(Message::Bucket(bucket, part), forwarder),
                None => debug_assert!(false, "the source owns the buckets that it hands over"),
            }
        }
        false
    }

    fn end(&mut self, forwarder: &mut Forwarder) -> bool {
        if !self.pulls.is_empty() || !self.has_room(forwarder) {
            return true;
        }
        self.send(Message::End, forwarder);
        self.source.exported();
        self.end_if_over()
    }

    /// The end is over when nothing more can come: no packet, and no state that goes back.
    fn end_if_over(&mut self) -> bool {
        if self.source.is_done() && self.answered {
            self.outcome = Some(Outcome::Done);
        }
        false
    }

    fn send_flows(&self, flows: MovedFlows, forwarder: &mut Forwarder) {
        self.send(Message::Flows(flows), forwarder);
    }

    fn has_room(&self, forwarder: &mut Forwarder) -> bool {
        forwarder.rings.to(self.spec.to_worker).has_room()
    }

    fn send(&self, message: Message, forwarder: &mut Forwarder) {
        forwarder.hand_out(self.spec.to_worker, Item::Move(self.spec.id, message));
    }
}

/// Flows that go in one message: while the destination takes them in, the source takes out the next.
const FLOWS: usize = 16;
