//! From operations on state to the messages of the API.

use weir_api::v1::{
    self, StateEvent, StateFailure, StateOperation, StateOperationKind, StateOperationState,
    state_operation::Selection as Named,
};
use weir_state_transfer::{FlowId, Nanos, southbound::Event};

use crate::{
    southbound::scope_message,
    state_manager::operation::{
        Asked, ChunkRefusal, Failure, FailureKind, Operation, Selection, State,
    },
};

/// Characters of an id that is listed at most.
const ID_MAX: usize = 128;

/// An operation as it is at `now`.
pub(crate) fn state_message(operation: &Operation, now: Nanos) -> StateOperation {
    let progress = &operation.progress;
    let moved = progress.moved.clone().unwrap_or_default();
    let mut message = StateOperation {
        id: operation.id,
        request_id: operation.request_id.clone(),
        state: state(operation.state).into(),
        from: operation.from().map(ToString::to_string).unwrap_or_default(),
        to: operation.to().map(ToString::to_string).unwrap_or_default(),
        chunks: progress.chunks,
        bytes: progress.bytes,
        flows: moved.flows,
        rounds: progress.rounds,
        chunks_of_round: progress.chunks_of_round,
        events: progress.events,
        events_lost: progress.events_lost,
        in_use: progress.in_use,
        left_behind: progress.left_behind.count + moved.left_behind,
        left_behind_ids: progress
            .left_behind
            .listed
            .iter()
            .map(|id| short(id.to_string()))
            .collect(),
        started_unix_ns: operation.started_unix_ns,
        elapsed_ns: operation.elapsed_ns(now),
        r#move: progress.moved.clone(),
        share: progress.shared.clone(),
        ..StateOperation::default()
    };
    message.left_behind_ids.extend(moved.left_behind_ids);
    asked(&mut message, &operation.asked);
    if let Some(failure) = &operation.failure {
        failed(&mut message, failure);
    }
    message
}

fn asked(message: &mut StateOperation, asked: &Asked) {
    let scopes = |scopes: &std::collections::BTreeSet<_>| {
        scopes.iter().map(|scope| scope_message(*scope).into()).collect()
    };
    match asked {
        Asked::Move(asked) => {
            message.set_kind(StateOperationKind::Move);
            message.selection = Some(match &asked.selection {
                Selection::Filter(filter) => Named::Filter(filter.to_string()),
                Selection::Buckets(buckets) => Named::Buckets(buckets.to_string()),
            });
            message.scopes = scopes(&asked.scopes);
            message.set_guarantee(asked.guarantee);
        }
        Asked::Copy(asked) => {
            message.set_kind(StateOperationKind::Copy);
            message.selection = Some(Named::Filter(asked.filter.to_string()));
            message.scopes = scopes(&asked.scopes);
        }
        Asked::Share(asked) => {
            message.set_kind(StateOperationKind::Share);
            message.selection = Some(Named::Filter(asked.filter.to_string()));
            message.scopes = scopes(&asked.scopes);
            message.instances = asked.instances.iter().map(ToString::to_string).collect();
        }
        Asked::Notify { filter, .. } => {
            message.set_kind(StateOperationKind::Notify);
            message.selection = Some(Named::Filter(filter.to_string()));
        }
    }
}

fn failed(message: &mut StateOperation, failure: &Failure) {
    message.reason.clone_from(&failure.reason);
    message.failed_end = failure.end.as_ref().map(ToString::to_string).unwrap_or_default();
    let kind = match &failure.kind {
        FailureKind::Cancelled => StateFailure::Cancelled,
        FailureKind::Late => StateFailure::Late,
        FailureKind::Unreachable => StateFailure::Unreachable,
        FailureKind::Refused => StateFailure::Refused,
        FailureKind::ChunkRefused(refusal) => {
            message.refusal = Some(refusal_message(refusal));
            StateFailure::ChunkRefused
        }
        FailureKind::Malformed => StateFailure::Malformed,
        FailureKind::TooMuch => StateFailure::TooMuch,
        FailureKind::Internal => StateFailure::Internal,
        FailureKind::Dataplane => StateFailure::Dataplane,
        FailureKind::Stopping => StateFailure::Stopping,
        FailureKind::PeerRefused { reason, object } => {
            message.peer_refusal.clone_from(reason);
            message.peer_object.clone_from(object);
            StateFailure::PeerRefused
        }
    };
    message.set_failure(kind);
}

/// A chunk that a destination refuses.
pub(crate) fn refusal_message(refusal: &ChunkRefusal) -> v1::ChunkRefusal {
    v1::ChunkRefusal {
        scope: scope_message(refusal.scope).into(),
        id: short(refusal.id.clone()),
        reason: refusal.reason.into(),
        message: refusal.message.clone(),
    }
}

fn state(state: State) -> StateOperationState {
    match state {
        State::Running => StateOperationState::Running,
        State::Undoing => StateOperationState::Undoing,
        State::Done => StateOperationState::Done,
        State::Undone => StateOperationState::Undone,
        State::Cancelled => StateOperationState::Cancelled,
        State::Failed => StateOperationState::Failed,
    }
}

/// Whether more comes, as it has neither ended nor been left.
pub(crate) fn goes_on(state: StateOperationState) -> bool {
    match state {
        StateOperationState::Unspecified
        | StateOperationState::Running
        | StateOperationState::Undoing => true,
        StateOperationState::Done
        | StateOperationState::Undone
        | StateOperationState::Cancelled
        | StateOperationState::Failed
        | StateOperationState::Left => false,
    }
}

/// The event of a packet.
pub(super) fn event(sequence: u64, event: Event) -> StateEvent {
    StateEvent {
        sequence,
        flow: FlowId::flow(&event.key).to_string(),
        at_ns: event.at.0,
        version: event.version,
        packet: event.packet,
        // No packet is as long.
        length: u32::try_from(event.length).unwrap_or(u32::MAX),
    }
}

/// An id that fits into a list.
fn short(mut text: String) -> String {
    if text.len() > ID_MAX {
        text.truncate(text.floor_char_boundary(ID_MAX));
        text.push_str("...");
    }
    text
}
