//! What one step of a scale operation needs next, forward and back.

use super::{
    machine::{Action, MovePhase, Observed, Request},
    operation::{Step, StepKind, StepState},
    plan::Lifecycle,
};

/// What a step needs.
pub(super) enum Progress {
    Done,
    Wait,
    Ask(Action),
    /// The last attempt came to nothing.
    Retry(&'static str),
}

fn ask(step: &Step, prefix: &str, purpose: &str, request: Request) -> Progress {
    let request_id = request_id(step, prefix, purpose);
    Progress::Ask(Action { step: step.name(), request_id, request })
}

fn request_id(step: &Step, prefix: &str, purpose: &str) -> String {
    format!("{prefix}/{}{purpose}/{}", step.name(), step.attempts)
}

pub(super) fn forward_step(step: &mut Step, observed: &Observed, prefix: &str) -> Progress {
    let instance = observed.instance(&step.instance);
    match (step.kind, instance.map(|instance| (instance.id, instance.state))) {
        (StepKind::Create, None) => ask(step, prefix, "", Request::Create(step.instance.clone())),
        (StepKind::Create, Some((_, Lifecycle::Starting))) => Progress::Wait,
        (StepKind::Create, Some(_)) => Progress::Done,
        (StepKind::Activate, Some((_, Lifecycle::Active))) => Progress::Done,
        (StepKind::Activate, Some((id, Lifecycle::Ready | Lifecycle::Paused))) => {
            ask(step, prefix, "", Request::Activate(id))
        }
        (StepKind::Activate, Some((_, Lifecycle::Starting))) => Progress::Wait,
        (StepKind::Activate, _) => Progress::Retry("the instance is gone"),
        (StepKind::Move, source) => forward_move(step, source.map(|s| s.0), observed, prefix),
        (StepKind::Pause | StepKind::Remove, None) => Progress::Done,
        (StepKind::Pause, Some((id, Lifecycle::Active))) => {
            ask(step, prefix, "", Request::Pause(id))
        }
        (StepKind::Pause, Some(_)) => Progress::Done,
        (StepKind::Remove, Some((_, Lifecycle::Stopping | Lifecycle::Starting))) => Progress::Wait,
        (StepKind::Remove, Some((id, _))) => ask(step, prefix, "", Request::Remove(id)),
    }
}

fn forward_move(
    step: &mut Step,
    source: Option<u32>,
    observed: &Observed,
    prefix: &str,
) -> Progress {
    if step.state == StepState::Done {
        return Progress::Done;
    }
    let destination = observed.instance(&step.destination).map(|instance| instance.id);
    match observed.moves.get(&request_id(step, prefix, "")) {
        Some(found) if found.phase == MovePhase::InProgress => Progress::Wait,
        Some(found) if found.phase == MovePhase::Done => {
            step.flows = found.flows;
            Progress::Done
        }
        Some(_) => Progress::Retry("the data plane undid the move"),
        None => {
            let (Some(source), Some(destination)) = (source, destination) else {
                return Progress::Retry("an instance of the move is gone");
            };
            let buckets = step.buckets.clone();
            ask(step, prefix, "", Request::Move { source, destination, buckets })
        }
    }
}

/// Retired instances come into service again, as the moves back need them.
pub(super) fn back_pause(step: &Step, observed: &Observed, prefix: &str) -> Progress {
    match observed.instance(&step.instance).map(|instance| (instance.id, instance.state)) {
        Some((id, Lifecycle::Paused)) => ask(step, prefix, "/undo", Request::Activate(id)),
        _ => Progress::Done,
    }
}

pub(super) fn back_move(step: &mut Step, observed: &Observed, prefix: &str) -> Progress {
    if matches!(step.state, StepState::Planned | StepState::Undone) {
        return Progress::Done;
    }
    if step.state == StepState::Running {
        match observed.moves.get(&request_id(step, prefix, "")) {
            Some(found) if found.phase == MovePhase::InProgress => {
                return ask(step, prefix, "/undo", Request::UndoMove(found.id));
            }
            Some(found) if found.phase == MovePhase::Done => {
                (step.state, step.flows) = (StepState::Done, found.flows);
            }
            // Undone, or about to be asked for and never was.
            _ => return Progress::Done,
        }
    }
    if step.sweep {
        return Progress::Done;
    }
    match observed.moves.get(&request_id(step, prefix, "/back")) {
        Some(found) if found.phase == MovePhase::InProgress => Progress::Wait,
        Some(found) if found.phase == MovePhase::Done => Progress::Done,
        Some(_) => Progress::Retry("the data plane undid the move back"),
        None => {
            let source = observed.instance(&step.destination).map(|instance| instance.id);
            let destination = observed.instance(&step.instance).map(|instance| instance.id);
            let (Some(source), Some(destination)) = (source, destination) else {
                return Progress::Retry("an instance of the move back is gone");
            };
            let buckets = step.buckets.clone();
            ask(step, prefix, "/back", Request::Move { source, destination, buckets })
        }
    }
}

/// Instances that were brought up are taken out of service and removed.
pub(super) fn back_activate(step: &Step, observed: &Observed, prefix: &str) -> Progress {
    match observed.instance(&step.instance).map(|instance| (instance.id, instance.state)) {
        None => Progress::Done,
        Some((_, Lifecycle::Starting | Lifecycle::Stopping)) => Progress::Wait,
        Some((id, Lifecycle::Active)) => ask(step, prefix, "/pause", Request::Pause(id)),
        Some((id, _)) => ask(step, prefix, "/remove", Request::Remove(id)),
    }
}
