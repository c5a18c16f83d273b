//! Moves at the node: what the coordinator decides becomes commands and steering.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_nf_api::scope_message;
use weir_state_transfer::bucket::BucketSet;
use weir_state_transfer::filter::Selection;
use weir_state_transfer::mark::{
    Command as Next, Coordinator, Event as MoveEvent, Guarantee, Phase, Request,
};
use weir_state_transfer::{InstanceId, MoveId, Nanos, StateFilter};

use super::flips::Flips;
use super::{Node, NodeError};
use crate::moves::{HoldReport, MoveEnd, Outcome};
use crate::steering::Steering;
use crate::worker::{Command, Event, Flip, MoveSpec, Steered};

/// The moves of a node: in progress, and the last that ended.
#[derive(Debug)]
pub(super) struct MoveBook {
    pub(super) coordinator: Coordinator,
    records: BTreeMap<MoveId, Record>,
    flips: Flips,
    ended: VecDeque<MoveId>,
}

#[derive(Debug)]
struct Record {
    shown: api::Move,
    request: Request,
    /// How steering will be, unless it changes from what it was before the move flips.
    steering: Option<(Arc<Steered>, Box<Steering>)>,
    spec: Option<Arc<MoveSpec>>,
    /// Ends that have prepared.
    prepared: usize,
    /// Ends that are over and have come back.
    back: usize,
    received_at_start: u64,
    /// Panics of network functions at what it takes along.
    panics: u64,
}

/// Moves that are remembered when they have ended.
const REMEMBERED: usize = 256;

impl MoveBook {
    pub(super) fn new(moves_max: usize, step: Duration) -> Self {
        Self {
            coordinator: Coordinator::new(moves_max, step),
            records: BTreeMap::new(),
            flips: Flips::default(),
            ended: VecDeque::new(),
        }
    }
}

impl Node {
    /// Starts a move.
    ///
    /// # Errors
    ///
    /// When an instance is not there or not ACTIVE, when steering can not express the move, while
    /// a worker leaves, and when it must wait and the caller does not want to.
    pub fn start_move(
        &mut self,
        change: &api::Change,
        request: Request,
        no_queue: bool,
        now: Nanos,
    ) -> Result<api::Move, NodeError> {
        if let Some(made) = self.requests.answer(&change.request_id) {
            return self.show_move(MoveId(made));
        }
        self.check_change(change.generation)?;
        self.active(request.from)?;
        self.active(request.to)?;
        self.check_nobody_keeps(&[request.from, request.to])?;
        self.check_no_share(&request)?;
        self.check_nobody_leaves()?;
        self.check_nothing_held()?;
        self.check_both_ways(&request.selection)?;
        let request = Request { selection: whole(request.selection), ..request };
        // Refused here rather than when its turn comes.
        let steering = match request.per_flow {
            true => {
                Some(self.steered.steering.moved(&request.selection, request.from, request.to)?)
            }
            false => None,
        };
        let id = self.moves.coordinator.start(request.clone(), no_queue, now)?;
        let received_at_start = self.received();
        let shown = api::Move {
            id: id.0,
            request_id: change.request_id.clone(),
            from: u32::from(request.from.0),
            to: u32::from(request.to.0),
            selection: Some(shown_selection(&request.selection)),
            phase: api::MovePhase::Queued.into(),
            guarantee: shown_guarantee(request.guarantee).into(),
            scopes: request.scopes().map(|scope| scope_message(scope).into()).collect(),
            started_ns: now.0,
            ..api::Move::default()
        };
        let steering = steering.map(|next| (self.steered.clone(), Box::new(next)));
        let record = Record {
            shown,
            request,
            steering,
            spec: None,
            prepared: 0,
            back: 0,
            received_at_start,
            panics: 0,
        };
        self.moves.records.insert(id, record);
        self.generation += 1;
        self.requests.remember(&change.request_id, id.0);
        self.carry_on_moves(now);
        self.show_move(id)
    }

    /// What a subscription keeps can not be moved or shared, nor may what is moved or shared be kept.
    pub(super) fn check_nobody_keeps(&self, ends: &[InstanceId]) -> Result<(), NodeError> {
        for id in ends {
            if let Some(keeper) = self.keeper(*id) {
                let reason = format!("keeps packets for subscription {keeper}: disable that first");
                return Err(NodeError::precondition(format!("instance {id}"), reason));
            }
        }
        Ok(())
    }

    /// The subscription that an instance keeps packets for.
    pub(super) fn keeper(&self, id: InstanceId) -> Option<u64> {
        let counters = &self.instances.get(&id)?.counters;
        (counters.keeping.get() > 0).then(|| counters.keeper.get())
    }

    /// Network functions know flows in both directions, and a NAT by two names: these do not part.
    fn check_both_ways(&self, selection: &Selection) -> Result<(), NodeError> {
        if let (Selection::Filter(filter), Some(nat)) =
            (selection, self.limits.functions.nat_rules())
        {
            nat.check_filter(filter).map_err(|why| NodeError::invalid("filter", why))?;
        }
        match selection {
            Selection::Filter(filter) if !filter.symmetric && !self.limits.functions.is_empty() => {
                let reason = "is for one direction, and the instances have network functions, which \
                              know both: leave symmetric=false out";
                Err(NodeError::invalid("filter", reason))
            }
            Selection::Filter(_) | Selection::Buckets(_) => Ok(()),
        }
    }

    /// Asks to undo a move.
    ///
    /// # Errors
    ///
    /// When it has exported or ended.
    pub fn undo_move(&mut self, id: MoveId, now: Nanos) -> Result<api::Move, NodeError> {
        if !self.moves.records.contains_key(&id) {
            return Err(NodeError::no("move", id));
        }
        if !self.moves.coordinator.undo(id, "it was asked to be undone") {
            let reason = "has exported flows or ended: it can not be undone; move them back";
            return Err(NodeError::precondition(format!("move {id}"), reason));
        }
        self.carry_on_moves(now);
        self.show_move(id)
    }

    /// A move, as the API shows it.
    ///
    /// # Errors
    ///
    /// When there is none with that number, or it ended long ago.
    pub fn show_move(&self, id: MoveId) -> Result<api::Move, NodeError> {
        let record = self.moves.records.get(&id).ok_or_else(|| NodeError::no("move", id))?;
        let mut shown = record.shown.clone();
        if let Some(moving) = self.moves.coordinator.get(id) {
            shown.phase = shown_phase(moving.phase).into();
            shown.reason = moving.reason.unwrap_or_default().to_owned();
        }
        Ok(shown)
    }

    /// The moves in progress and the last that ended.
    pub fn list_moves(&self) -> Vec<api::Move> {
        self.moves_asked_for("")
    }

    /// Those of the listed moves whose request id begins with `prefix`.
    pub(super) fn moves_asked_for(&self, prefix: &str) -> Vec<api::Move> {
        let records = self.moves.records.iter();
        let asked = records.filter(|(_, record)| record.shown.request_id.starts_with(prefix));
        asked.filter_map(|(id, _)| self.show_move(*id).ok()).collect()
    }

    /// Takes note of what a worker says of a move.
    pub(super) fn move_event(&mut self, id: MoveId, event: &Event, now: Nanos) {
        let Some(record) = self.moves.records.get_mut(&id) else { return };
        let event = match event {
            Event::Prepared(_) => {
                record.prepared += 1;
                if record.prepared < 2 {
                    return;
                }
                let ends = [record.request.from, record.request.to];
                match ends.iter().any(|id| self.keeper(*id).is_some()) {
                    // Subscribed to since the move was accepted.
                    true => MoveEvent::Unprepared("a subscription keeps packets"),
                    false => MoveEvent::Prepared,
                }
            }
            Event::Exporting(_, since) => {
                // The worker's clock was read when its round began, which may be before the flip.
                record.shown.drained_ns = since.0.max(record.shown.flipped_ns);
                MoveEvent::Exporting
            }
            Event::Undoing(_) => MoveEvent::Undoing,
            _ => return,
        };
        self.tell_coordinator(id, event, now);
    }

    /// Takes an end of a move back, which is freed here. The move is over when both are back:
    /// what it shows is then all that either has counted.
    pub(super) fn end_is_back(&mut self, end: MoveEnd, now: Nanos) {
        let (id, outcome) = (end.id(), end.outcome());
        let Some(record) = self.moves.records.get_mut(&id) else { return };
        record.report(&end.into_report());
        record.back += 1;
        let (2, Some(outcome)) = (record.back, outcome) else { return };
        let (event, phase) = match outcome {
            Outcome::Done => (MoveEvent::Done, api::MovePhase::Done),
            Outcome::Undone => (MoveEvent::Undone, api::MovePhase::Undone),
        };
        record.shown.phase = phase.into();
        record.shown.ended_ns = now.0;
        self.tell_coordinator(id, event, now);
    }

    fn tell_coordinator(&mut self, id: MoveId, event: MoveEvent, now: Nanos) {
        let received = self.received();
        let Some(record) = self.moves.records.get_mut(&id) else { return };
        record.shown.packets_during = received - record.received_at_start;
        self.moves.coordinator.event(id, event, now);
        self.carry_on_moves(now);
    }

    /// Carries out what the coordinator has decided.
    pub(super) fn carry_on_moves(&mut self, now: Nanos) {
        while let Some(next) = self.moves.coordinator.poll_command() {
            match next {
                Next::Prepare(id) => self.prepare(id),
                Next::Flip(id) => self.flip(id, now),
                Next::Ask(id) => {
                    if let Some(spec) = self.spec(id) {
                        self.tell(spec.to_worker, Command::Ask(id));
                    }
                }
                Next::FlipBack(id) => self.flip_back(id),
                Next::Forget(id) => {
                    if let Some(spec) = self.spec(id) {
                        self.tell(spec.from_worker, Command::Forget(id));
                        self.tell(spec.to_worker, Command::Forget(id));
                    }
                }
                Next::End(id, reason) => self.end(id, reason, now),
            }
        }
    }

    fn prepare(&mut self, id: MoveId) {
        let Some(record) = self.moves.records.get(&id) else { return };
        let Request { from, to, selection, guarantee, per_flow, multi_flow } =
            record.request.clone();
        let (Some(source), Some(destination)) =
            (self.instances.get(&from), self.instances.get(&to))
        else {
            return;
        };
        let buckets = match &selection {
            Selection::Buckets(set) if per_flow => {
                set.intersection(&self.steered.steering.owned_buckets(from))
            }
            Selection::Buckets(_) | Selection::Filter(_) => BucketSet::empty(),
        };
        let holds = per_flow && guarantee != Guarantee::None;
        let spec = Arc::new(MoveSpec {
            id,
            from,
            to,
            from_worker: source.worker,
            to_worker: destination.worker,
            selection,
            guarantee,
            per_flow,
            multi_flow: multi_flow.map(StateFilter::from),
            buckets,
            before: self.steered.clone(),
            steerers: self.workers.keys().copied().collect(),
            hold: if holds { self.limits.hold } else { 0 },
            park: self.shared.park.packets_max as usize,
        });
        let source = MoveEnd::source(spec.clone());
        let destination = MoveEnd::destination(spec.clone());
        self.tell(spec.from_worker, Command::Prepare(source));
        self.tell(spec.to_worker, Command::Prepare(destination));
        if let Some(record) = self.moves.records.get_mut(&id) {
            record.spec = Some(spec);
        }
    }

    fn flip(&mut self, id: MoveId, now: Nanos) {
        let Some(spec) = self.spec(id) else { return };
        let before = self.steered.steering.clone();
        let flip = Flip { id, to: spec.from_worker, back: false };
        if !spec.per_flow {
            // No flow changes its owner: the markers alone are sent.
            self.publish(before, &[flip]);
            return;
        }
        let next = self.moves.records.get_mut(&id).and_then(|record| record.steering.take());
        let next = match next.filter(|(before, _)| Arc::ptr_eq(before, &self.steered)) {
            Some((_, next)) => Ok(*next),
            None => before.moved(&spec.selection, spec.from, spec.to),
        };
        match next {
            Ok(_) if !self.may_flip(id) => self.moves.coordinator.give_up(
                id,
                "steering might have no room for its rules if another move were undone: repeat it \
                 when the others have ended",
            ),
            Ok(steering) => {
                if let Some(record) = self.moves.records.get_mut(&id) {
                    record.shown.flipped_ns = now.0;
                    self.moves.flips.push(id, record.request.clone(), before);
                }
                self.publish(steering, &[flip]);
            }
            // Another move has taken the last rule since this one was accepted.
            Err(_) => self.moves.coordinator.give_up(id, "steering has no room for its rules"),
        }
    }

    /// Whether each move in progress could still be undone if this one flipped.
    fn may_flip(&self, id: MoveId) -> bool {
        let Self { moves, .. } = self;
        let is_open = |id| moves.coordinator.get(id).is_some_and(|m| m.phase != Phase::Exporting);
        moves.flips.may_follow(&moves.records[&id].request, is_open)
    }

    fn flip_back(&mut self, id: MoveId) {
        let Some(spec) = self.spec(id) else { return };
        let undone = if spec.per_flow {
            self.moves.flips.undo(id)
        } else {
            Some(self.steered.steering.clone())
        };
        if let Some(steering) = undone {
            self.publish(steering, &[Flip { id, to: spec.to_worker, back: true }]);
        }
    }

    fn end(&mut self, id: MoveId, reason: Option<&str>, now: Nanos) {
        self.moves.flips.end(id);
        if let Some(record) = self.moves.records.get_mut(&id) {
            (record.spec, record.steering) = (None, None);
            record.shown.reason = reason.map_or_else(|| record.fault(), str::to_owned);
            if record.shown.ended_ns == 0 {
                record.shown.ended_ns = now.0;
                record.shown.phase = api::MovePhase::Undone.into();
            }
        }
        self.moves.ended.push_back(id);
        if self.moves.ended.len() > REMEMBERED
            && let Some(oldest) = self.moves.ended.pop_front()
        {
            self.moves.records.remove(&oldest);
        }
    }

    fn spec(&self, id: MoveId) -> Option<Arc<MoveSpec>> {
        self.moves.records.get(&id)?.spec.clone()
    }
}

impl Record {
    /// What has gone wrong in it, though it is over; empty when nothing has.
    fn fault(&self) -> String {
        match self.panics {
            0 => String::new(),
            panics => format!(
                "a network function has panicked at what it takes along, {panics} times: that is lost, \
                 or has stayed at the source; weir nf list shows which"
            ),
        }
    }

    fn report(&mut self, report: &HoldReport) {
        self.panics += report.panics;
        let shown = &mut self.shown;
        shown.flows += report.flows;
        shown.buckets_moved += report.buckets as u32;
        shown.held += report.held;
        shown.held_max += report.held_max;
        shown.hold_full_drops += report.full;
        shown.in_transit_drops += report.in_transit;
        shown.multi_flow += report.multi_flow;
        shown.multi_flow_refused += report.multi_flow_refused;
        shown.multi_flow_lost += report.multi_flow_lost;
        shown.left_behind += report.left_behind.count;
        shown.left_behind_ids.extend(report.left_behind.first.iter().map(ToString::to_string));
        if let Some(hold_ns) = &report.hold_ns
            && !hold_ns.is_empty()
        {
            shown.hold_mean_ns = hold_ns.mean() as u64;
            shown.hold_p50_ns = hold_ns.value_at_quantile(0.5);
            shown.hold_p99_ns = hold_ns.value_at_quantile(0.99);
            shown.hold_max_ns = hold_ns.max();
        }
    }
}

/// A filter that matches every flow says the same as all buckets, which are cheaper to move.
fn whole(selection: Selection) -> Selection {
    match selection {
        Selection::Filter(filter) if filter.is_any() => Selection::Buckets(BucketSet::all()),
        selection => selection,
    }
}

fn shown_selection(selection: &Selection) -> api::r#move::Selection {
    match selection {
        Selection::Buckets(set) => api::r#move::Selection::Buckets(set.to_string()),
        Selection::Filter(filter) => api::r#move::Selection::Filter(filter.to_string()),
    }
}

fn shown_guarantee(guarantee: Guarantee) -> api::Guarantee {
    match guarantee {
        Guarantee::None => api::Guarantee::None,
        Guarantee::LossFree => api::Guarantee::LossFree,
        Guarantee::Ordered => api::Guarantee::Ordered,
    }
}

fn shown_phase(phase: Phase) -> api::MovePhase {
    match phase {
        Phase::Queued => api::MovePhase::Queued,
        Phase::Preparing => api::MovePhase::Preparing,
        Phase::Draining => api::MovePhase::Draining,
        Phase::Exporting => api::MovePhase::Exporting,
        Phase::Asking | Phase::Undoing => api::MovePhase::Undoing,
        Phase::Done => api::MovePhase::Done,
        Phase::Undone => api::MovePhase::Undone,
    }
}

/// The instance that a request names.
///
/// # Errors
///
/// When the number is none that an instance can have.
pub fn instance_id(field: &'static str, id: u32) -> Result<InstanceId, NodeError> {
    u8::try_from(id)
        .ok()
        .filter(|id| *id > 0)
        .map(InstanceId)
        .ok_or_else(|| NodeError::invalid(field, format!("{id} is not an instance number")))
}
