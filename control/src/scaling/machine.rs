//! Says the next actions of a scale operation, given what runs.
//!
//! The machine keeps nothing but the operation: fed with the journal and what the data plane
//! shows, it goes on where an earlier sidecar stopped, wherever that was. Each action carries a
//! request id that is the same whoever asks, so asking twice does nothing twice.

use std::collections::BTreeMap;

use weir_state_transfer::BucketSet;

use super::{
    operation::{Operation, OperationState, Step, StepKind, StepName, StepState},
    plan::RunningInstance,
    progress::{Progress, back_activate, back_move, back_pause, forward_step},
};

/// Times that a step may be refused or undone before the operation goes back.
pub const ATTEMPTS_MAX: u32 = 4;
/// An operation that makes no progress for this long, in nanoseconds, goes back or fails.
pub const STALL_NS: u64 = 20_000_000_000;
/// Moves in progress at once.
pub const MOVES_AT_ONCE: usize = 8;

/// How a move stands in the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovePhase {
    /// Has not ended.
    InProgress,
    /// The destination owns the flows.
    Done,
    /// The source owns the flows, as before.
    Undone,
}

/// A move that the data plane knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedMove {
    /// The data plane's number for it.
    pub id: u64,
    /// How it stands.
    pub phase: MovePhase,
    /// Flows moved so far.
    pub flows: u64,
}

/// What the data plane shows.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Which start of the data plane this is.
    pub incarnation: u64,
    /// All instances.
    pub instances: Vec<RunningInstance>,
    /// Moves by request id.
    pub moves: BTreeMap<String, ObservedMove>,
    /// Whether every request that was answered before shows in it.
    pub complete: bool,
}

impl Observed {
    pub(super) fn instance(&self, name: &str) -> Option<&RunningInstance> {
        self.instances.iter().find(|instance| instance.name == name)
    }
}

/// Something to ask of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// The step that it belongs to.
    pub step: StepName,
    /// Identifies the request.
    pub request_id: String,
    /// What to ask.
    pub request: Request,
}

/// A request to the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create an instance of this name.
    Create(String),
    /// Let the instance own flows.
    Activate(u32),
    /// Start a move between two instances.
    Move {
        /// Owner of the flows.
        source: u32,
        /// Owner to be.
        destination: u32,
        /// The buckets whose flows go.
        buckets: BucketSet,
    },
    /// Undo the move of this number.
    UndoMove(u64),
    /// Take the instance out of service.
    Pause(u32),
    /// Remove the instance.
    Remove(u32),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask for these, in any order, then look again.
    Do(Vec<Action>),
    /// Nothing to ask; look again at the next change.
    Await,
    /// Look at once, at what is [`complete`](Observed::complete).
    Look,
    /// The operation has ended.
    Ended,
}

/// Steps one operation.
#[derive(Debug)]
pub struct Machine {
    operation: Operation,
    /// When the operation last made progress; the stall limit counts from here.
    progress_ns: Option<u64>,
    /// Before which step to stop, for tests.
    pause_at: Option<StepName>,
    /// Whether something was asked for since it saw what is complete.
    asked: bool,
}

impl Machine {
    /// A machine for an operation that this sidecar began.
    pub fn new(operation: Operation, pause_at: Option<StepName>) -> Self {
        Self { operation, progress_ns: None, pause_at, asked: true }
    }

    /// A machine for an operation found unfinished in the journal.
    ///
    /// Once a move has begun it is finished. Before that traffic has seen nothing of it and
    /// whoever asked has no answer, so it is undone: the node is what it was, and the operator or
    /// the policy decides again.
    pub fn resume(mut operation: Operation, pause_at: Option<StepName>) -> Self {
        operation.resumed += 1;
        let moves = operation.steps.iter().any(|step| step.kind == StepKind::Move);
        if operation.state == OperationState::Running && moves && !operation.moving() {
            operation.state = OperationState::Undoing;
            "the sidecar stopped before the first move".clone_into(&mut operation.reason);
        }
        Self::new(operation, pause_at)
    }

    /// The operation as it stands.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Turns the operation back, if that is still possible; says whether it was.
    pub fn undo(&mut self, reason: &str) -> bool {
        let possible = self.operation.undoable();
        if possible && self.operation.state == OperationState::Running {
            self.operation.state = OperationState::Undoing;
            reason.clone_into(&mut self.operation.reason);
        }
        possible
    }

    /// Notes that the data plane refused an action, and why.
    pub fn refused(&mut self, action: &Action, why: &str) {
        // A move that may no longer be undone finishes, and is moved back then.
        if matches!(action.request, Request::UndoMove(_)) {
            return;
        }
        let undoing = self.operation.state == OperationState::Undoing;
        let attempts_max = if undoing { ATTEMPTS_MAX * 2 } else { ATTEMPTS_MAX };
        let Some(step) = self.step_mut(action.step) else { return };
        step.attempts += 1;
        if step.attempts >= attempts_max {
            self.give_up(&format!("step {} was refused: {why}", action.step));
        }
    }

    /// Takes in what the data plane shows at `now_ns` (since the operation started) and says what
    /// comes next. The operation must be saved before the actions are done.
    ///
    /// Forward, a request that does not show yet is asked again, which does nothing. Back, it
    /// would be taken for one that was never made: there it insists on what is complete.
    pub fn next(&mut self, observed: &Observed, now_ns: u64) -> Next {
        if self.operation.state.ended() {
            return Next::Ended;
        }
        if observed.incarnation != self.operation.incarnation {
            self.end(OperationState::Failed, "the data plane restarted", now_ns);
            return Next::Ended;
        }
        self.asked &= !observed.complete;
        if self.operation.state == OperationState::Undoing && self.asked {
            return Next::Look;
        }
        if now_ns.saturating_sub(*self.progress_ns.get_or_insert(now_ns)) > STALL_NS {
            self.give_up("no step has made progress within the time limit");
            self.progress_ns = Some(now_ns);
        }
        let before = self.states();
        let actions = match self.operation.state {
            OperationState::Running => self.forward(observed),
            OperationState::Undoing => self.back(observed),
            _ => None,
        };
        let actions = actions.map(|actions| self.hold_back(actions));
        self.stamp(&before, now_ns);
        if self.paused_at().is_some() {
            self.progress_ns = Some(now_ns);
        }
        match actions {
            None => {
                let undone = self.operation.state == OperationState::Undoing;
                let end = if undone { OperationState::Undone } else { OperationState::Done };
                if !self.operation.state.ended() {
                    self.end(end, "", now_ns);
                }
                Next::Ended
            }
            Some(actions) if actions.is_empty() => Next::Await,
            Some(actions) => {
                self.asked = true;
                Next::Do(actions)
            }
        }
    }

    /// The name of the step before which the operation stands still on request, once everything
    /// before it is done.
    pub fn paused_at(&self) -> Option<StepName> {
        let pause = self.pause_at?;
        let reached = self.operation.steps.iter().take_while(|step| step.name() != pause);
        let running = self.operation.state == OperationState::Running;
        let exists = self.operation.steps.iter().any(|step| step.name() == pause);
        (running && exists && reached.into_iter().all(|s| s.state == StepState::Done))
            .then_some(pause)
    }

    /// Forward: kind by kind, the next kind only when all steps of the last are done. `None` when
    /// all are done.
    fn forward(&mut self, observed: &Observed) -> Option<Vec<Action>> {
        for kind in StepKind::ALL {
            let mut actions = Vec::new();
            let mut pending = false;
            let prefix = &self.operation.token;
            let mut in_progress = 0;
            let mut failed = None;
            for step in self.operation.steps.iter_mut().filter(|step| step.kind == kind) {
                if kind == StepKind::Move && in_progress >= MOVES_AT_ONCE {
                    pending = true;
                    break;
                }
                match forward_step(step, observed, prefix) {
                    Progress::Done => step.state = StepState::Done,
                    Progress::Wait => {
                        step.state = StepState::Running;
                        (pending, in_progress) = (true, in_progress + 1);
                    }
                    Progress::Ask(action) => {
                        (pending, in_progress) = (true, in_progress + 1);
                        actions.push(action);
                    }
                    Progress::Retry(why) => {
                        (pending, step.attempts) = (true, step.attempts + 1);
                        if step.attempts >= ATTEMPTS_MAX {
                            failed = Some(format!("step {}: {why}", step.name()));
                        }
                    }
                }
            }
            if let Some(why) = failed {
                self.give_up(&why);
                return Some(Vec::new());
            }
            if pending {
                return Some(actions);
            }
        }
        None
    }

    /// Back: sources come into service again, moves are taken back, what was brought up goes.
    fn back(&mut self, observed: &Observed) -> Option<Vec<Action>> {
        let mut actions = Vec::new();
        let mut pending = false;
        let mut failed = None;
        let prefix = self.operation.token.clone();
        for kind in [StepKind::Pause, StepKind::Move, StepKind::Activate] {
            for step in self.operation.steps.iter_mut().filter(|step| step.kind == kind) {
                let progress = match kind {
                    StepKind::Pause => back_pause(step, observed, &prefix),
                    StepKind::Move => back_move(step, observed, &prefix),
                    _ => back_activate(step, observed, &prefix),
                };
                match progress {
                    Progress::Done if step.state == StepState::Planned => {}
                    Progress::Done => step.state = StepState::Undone,
                    Progress::Wait => pending = true,
                    Progress::Ask(action) => {
                        pending = true;
                        actions.push(action);
                    }
                    Progress::Retry(why) => {
                        (pending, step.attempts) = (true, step.attempts + 1);
                        if step.attempts >= ATTEMPTS_MAX * 2 {
                            failed = Some(format!("undoing step {}: {why}", step.name()));
                        }
                    }
                }
            }
            if let Some(why) = failed {
                self.give_up(&why);
                return Some(Vec::new());
            }
            if pending {
                return Some(actions);
            }
        }
        for step in &mut self.operation.steps {
            if step.kind == StepKind::Create && step.state != StepState::Planned {
                step.state = StepState::Undone;
            }
        }
        None
    }

    /// Drops the actions of the step to pause at and of those after it, and marks the steps of
    /// the others as running.
    fn hold_back(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        if let Some(pause) = self.pause_at
            && self.operation.state == OperationState::Running
        {
            actions.retain(|action| action.step < pause);
        }
        for action in &actions {
            let forward = self.operation.state == OperationState::Running;
            if let Some(step) = self.step_mut(action.step)
                && forward
            {
                step.state = StepState::Running;
            }
        }
        actions
    }

    /// Goes back when it goes forward and that is possible; else the operation has failed.
    fn give_up(&mut self, why: &str) {
        if self.operation.state == OperationState::Running && self.undo(why) {
            return;
        }
        let elapsed = self.operation.elapsed_ns;
        self.end(OperationState::Failed, why, elapsed);
    }

    fn end(&mut self, state: OperationState, why: &str, now_ns: u64) {
        self.operation.state = state;
        self.operation.elapsed_ns = now_ns;
        if !why.is_empty() {
            why.clone_into(&mut self.operation.reason);
        }
    }

    /// Notes the time at which steps began and ended.
    fn stamp(&mut self, before: &[(StepState, u32)], now_ns: u64) {
        for (step, was) in self.operation.steps.iter_mut().zip(before) {
            if (step.state, step.attempts) == *was {
                continue;
            }
            self.progress_ns = Some(now_ns);
            self.operation.elapsed_ns = now_ns;
            if was.0 == StepState::Planned {
                step.started_ns = now_ns;
            }
            if matches!(step.state, StepState::Done | StepState::Undone) {
                step.ended_ns = now_ns;
            }
        }
    }

    fn states(&self) -> Vec<(StepState, u32)> {
        self.operation.steps.iter().map(|step| (step.state, step.attempts)).collect()
    }

    fn step_mut(&mut self, name: StepName) -> Option<&mut Step> {
        self.operation.steps.iter_mut().find(|step| step.name() == name)
    }
}
