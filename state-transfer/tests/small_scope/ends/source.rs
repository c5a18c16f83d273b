//! The source's end: drains, exports, or takes back.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use weir_state_transfer::mark::{Guarantee, Source, Steerers, UndoAnswer};

use super::debug_into;
use crate::model::{FlowState, Item, Message, Model, Packet, Violation, Worker};
use crate::node::{Event, Spec};
use crate::scope::{FLOWS, Fault, Grouping};

/// One move at its source.
#[derive(Clone, Debug)]
pub(crate) struct SourceEnd {
    pub(crate) spec: Spec,
    pub(super) source: Source<Packet>,
    pub(super) steerers: Steerers,
    /// Frames that must leave before the export begins.
    drain: Option<usize>,
    pulls: VecDeque<u8>,
    /// What has not been exported: flows, or buckets.
    rest: Vec<u8>,
    exporting: bool,
    /// Whether state of several flows has to go.
    multi_flow: bool,
    /// Nothing goes back from the destination any more.
    answered: bool,
}

impl SourceEnd {
    pub(crate) fn new(
        spec: Spec,
        steerers: Steerers,
        hold: usize,
        (promise, multi_flow): (Guarantee, bool),
    ) -> Self {
        let flows = (0..FLOWS as u8).rev().filter(|flow| spec.concerns(*flow));
        let mut rest: Vec<_> = match spec.by {
            Grouping::Flow => flows.collect(),
            Grouping::Bucket(size) => flows.map(|flow| flow / size).collect(),
        };
        rest.dedup();
        Self {
            spec,
            source: Source::new(promise, steerers, hold),
            steerers,
            drain: None,
            pulls: VecDeque::new(),
            rest,
            exporting: false,
            multi_flow,
            answered: !multi_flow,
        }
    }

    pub(crate) fn kept(&self) -> usize {
        self.source.kept()
    }

    /// Whether frames must leave before it exports.
    pub(crate) fn waits_for_frames(&self) -> bool {
        self.drain.is_some_and(|frames| frames > 0)
    }

    pub(crate) fn frames_left(&mut self, frames: usize) {
        if let Some(drain) = &mut self.drain {
            *drain = drain.saturating_sub(frames);
        }
    }
}

impl Model {
    pub(super) fn at_source(
        &mut self,
        worker: usize,
        id: u8,
        message: &Message,
    ) -> Result<(), Violation> {
        let Worker { sources, events, .. } = &mut self.workers[worker];
        let Some(end) = sources.iter_mut().find(|end| end.spec.id == id) else {
            // The answers to these have been overtaken by END.
            let is_late = matches!(message, Message::Pull(_) | Message::Undo);
            return if is_late { Ok(()) } else { Err(Violation::Astray) };
        };
        match *message {
            // END is the answer.
            Message::Pull(_) | Message::Undo if end.source.is_exported() => {}
            Message::Pull(flow) => end.pulls.push_back(flow),
            Message::Ended => end.answered = true,
            Message::Refused(refused) => {
                let instance = usize::from(end.spec.from);
                if self.scope.fault != Some(Fault::RefusedForgotten) {
                    self.multi_flow[instance] |= refused;
                }
            }
            Message::Undo => {
                let accepted = end.source.undo() == UndoAnswer::Accepted;
                let to = end.spec.to_worker;
                if accepted {
                    end.pulls.clear();
                    events.push_back(Event::Undoing(id));
                }
                self.send(worker, to, id, Message::UndoAnswer { accepted });
            }
            Message::Relay(packet) => {
                let (instance, verdict) = (end.spec.from, end.source.relayed(packet));
                return self.settle(instance, &verdict);
            }
            Message::RelayEnd => end.source.relay_ended(),
            _ => return Err(Violation::Astray),
        }
        Ok(())
    }

    /// Carries a source on; whether anything has changed.
    pub(crate) fn step_source(&mut self, worker: usize, end: usize) -> Result<bool, Violation> {
        let drain_early = self.is_broken(Fault::DrainEarly);
        let ends = &mut self.workers[worker];
        let in_flight = ends.transmit.len();
        let end_of_move = &mut ends.sources[end];
        let source = &mut end_of_move.source;
        if source.is_undoing() {
            return self.take_back(worker, end);
        }
        if source.is_exported() {
            return Ok(self.end_source(worker, end));
        }
        let mut changed = false;
        if !source.may_export() && source.is_marked() {
            let in_flight = if source.drains() { in_flight } else { 0 };
            let drain = &mut end_of_move.drain;
            changed = drain.is_none();
            if *drain.get_or_insert(in_flight) == 0 || drain_early {
                source.drained();
                changed = true;
            }
        }
        if !source.may_export() {
            return Ok(changed);
        }
        Ok(self.export(worker, end) || changed)
    }

    fn take_back(&mut self, worker: usize, end: usize) -> Result<bool, Violation> {
        let ends = &mut self.workers[worker];
        let Spec { id, from, .. } = ends.sources[end].spec;
        let source = &mut ends.sources[end].source;
        let released = source.next_release();
        if source.is_undone() {
            ends.sources.remove(end);
            ends.events.push_back(Event::Undone(id));
            if released.is_none() {
                return Ok(true);
            }
        }
        match released {
            Some(packet) => self.process(from, packet).map(|()| true),
            None => Ok(false),
        }
    }

    /// Answers what was pulled, then exports the next piece, or END.
    fn export(&mut self, worker: usize, end: usize) -> bool {
        let ends = &mut self.workers[worker];
        let exporter = &mut ends.sources[end];
        let Spec { id, from, to_worker, by, .. } = exporter.spec;
        let mut changed = !exporter.exporting;
        if changed {
            exporter.exporting = true;
            ends.events.push_back(Event::Exporting(id));
        }
        let late = self.is_broken(Fault::MultiFlowLate);
        if !late && self.export_multi_flow(worker, end) {
            return true;
        }
        while self.has_room(worker, to_worker)
            && let Some(flow) = self.workers[worker].sources[end].pulls.pop_front()
        {
            let answer = self
                .remove(from, flow)
                .map_or(Message::Unknown(flow), |state| Message::Flow(flow, state));
            self.send(worker, to_worker, id, answer);
            changed = true;
        }
        if !self.has_room(worker, to_worker) {
            return changed;
        }
        let exporter = &mut self.workers[worker].sources[end];
        match exporter.rest.pop() {
            Some(piece) => {
                let message = self.piece(from, by, piece);
                message.into_iter().for_each(|message| self.send(worker, to_worker, id, message));
            }
            None if self.export_multi_flow(worker, end) => {}
            None => {
                self.workers[worker].sources[end].source.exported();
                self.send_end(worker, to_worker, id);
                self.end_source(worker, end);
            }
        }
        true
    }

    /// Whether the source is over: nothing more can come.
    fn end_source(&mut self, worker: usize, end: usize) -> bool {
        let ends = &mut self.workers[worker];
        let over = &ends.sources[end];
        let is_over = over.source.is_done() && over.answered;
        if is_over {
            ends.events.push_back(Event::Done(ends.sources.remove(end).spec.id));
        }
        is_over
    }

    /// What is known of several flows goes first; whether there was any.
    fn export_multi_flow(&mut self, worker: usize, end: usize) -> bool {
        let Spec { id, from, to_worker, .. } = self.workers[worker].sources[end].spec;
        if !self.workers[worker].sources[end].multi_flow {
            return false;
        }
        if self.has_room(worker, to_worker) {
            let exporter = &mut self.workers[worker].sources[end];
            exporter.multi_flow = false;
            let packets = std::mem::take(&mut self.multi_flow[usize::from(from)]);
            self.send(worker, to_worker, id, Message::MultiFlow(packets));
        }
        true
    }

    /// Takes a flow, or a bucket with its flows, out of an instance.
    fn piece(&mut self, from: u8, by: Grouping, piece: u8) -> Option<Message> {
        match by {
            Grouping::Flow => self.remove(from, piece).map(|state| Message::Flow(piece, state)),
            Grouping::Bucket(size) => {
                let flows = (0..FLOWS as u8).filter(|flow| flow / size == piece);
                let part =
                    flows.filter_map(|flow| Some((flow, self.remove(from, flow)?))).collect();
                Some(Message::Bucket(piece, part))
            }
        }
    }

    fn remove(&mut self, from: u8, flow: u8) -> Option<FlowState> {
        let state = self.tables[usize::from(from)][usize::from(flow)].take()?;
        self.seen.flying |= 1 << flow;
        Some(state)
    }

    fn send_end(&mut self, from: usize, to: usize, id: u8) {
        self.send(from, to, id, Message::End);
        let overtake = self.is_broken(Fault::EndEarly);
        let ring = &mut self.workers[to].rings[from];
        let last = ring.len() - 1;
        if overtake
            && last > 0
            && let Item::Move(_, Message::Flow(..) | Message::Bucket(..)) = ring[last - 1]
        {
            ring.swap(last - 1, last);
        }
    }
}

impl Hash for SourceEnd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        debug_into(&self.source, state);
        (self.spec.id, self.drain, &self.pulls, &self.rest, self.exporting).hash(state);
        (self.multi_flow, self.answered).hash(state);
    }
}
