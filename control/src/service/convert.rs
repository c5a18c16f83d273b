//! From what the sidecar knows to the messages of the API.

use weir_api::v1;

use crate::{
    scaling::{
        decide::{Decision, Verdict},
        operation::{Operation, OperationState, Step, StepKind, StepState},
        plan::Direction,
        policy::Policy,
    },
    sidecar::Link,
    store::LoggedDecision,
};

pub(super) fn operation(operation: &Operation) -> v1::Operation {
    let kind = match operation.direction {
        Direction::Out => v1::OperationKind::ScaleOut,
        Direction::In => v1::OperationKind::ScaleIn,
        Direction::Rebalance => v1::OperationKind::Rebalance,
    };
    let state = match operation.state {
        OperationState::Running => v1::OperationState::Running,
        OperationState::Undoing => v1::OperationState::Undoing,
        OperationState::Done => v1::OperationState::Done,
        OperationState::Undone => v1::OperationState::Undone,
        OperationState::Failed => v1::OperationState::Failed,
    };
    v1::Operation {
        id: operation.id,
        request_id: operation.request_id.clone(),
        kind: kind.into(),
        state: state.into(),
        from_instances: operation.from,
        to_instances: operation.to,
        steps: operation.steps.iter().map(step).collect(),
        reason: operation.reason.clone(),
        origin: operation.origin.word().to_owned(),
        started_unix_ns: operation.started_unix_ns,
        elapsed_ns: operation.elapsed_ns,
        moving_ns: operation.moving_ns(),
        flows_moved: operation.flows_moved(),
        resumed: operation.resumed,
    }
}

pub(super) fn step(step: &Step) -> v1::Step {
    let kind = match step.kind {
        StepKind::Create => v1::StepKind::Create,
        StepKind::Activate => v1::StepKind::Activate,
        StepKind::Move => v1::StepKind::Move,
        StepKind::Pause => v1::StepKind::Pause,
        StepKind::Remove => v1::StepKind::Remove,
    };
    let state = match step.state {
        StepState::Planned => v1::StepState::Planned,
        StepState::Running => v1::StepState::Running,
        StepState::Done => v1::StepState::Done,
        StepState::Undone => v1::StepState::Undone,
    };
    v1::Step {
        name: step.name().to_string(),
        kind: kind.into(),
        state: state.into(),
        instance: step.instance.clone(),
        destination: step.destination.clone(),
        buckets: if step.buckets.is_empty() { String::new() } else { step.buckets.to_string() },
        bucket_count: step.buckets.len() as u32,
        flows: step.flows,
        started_ns: step.started_ns,
        ended_ns: step.ended_ns,
        attempts: step.attempts,
    }
}

pub(super) fn decision(decision: &Decision) -> v1::Decision {
    let verdict = match decision.verdict {
        Verdict::Keep => v1::Verdict::Keep,
        Verdict::ScaleOut => v1::Verdict::ScaleOut,
        Verdict::ScaleIn => v1::Verdict::ScaleIn,
    };
    v1::Decision {
        verdict: verdict.into(),
        from_instances: decision.from,
        to_instances: decision.to,
        reason: decision.reason.clone(),
        load_mean: decision.load_mean,
        load_max: decision.load_max,
        load_total: decision.load_total,
        beyond_ns: decision.beyond_ns,
        cool_down_left_ns: decision.cool_down_left_ns,
        ..v1::Decision::default()
    }
}

pub(super) fn logged(logged: &LoggedDecision) -> v1::Decision {
    v1::Decision {
        at_unix_ns: logged.at_unix_ns,
        operation: logged.operation,
        ..decision(&logged.decision)
    }
}

pub(super) fn policy(policy: &Policy) -> v1::Policy {
    v1::Policy {
        min: policy.min,
        max: policy.max,
        high: policy.high,
        low: policy.low,
        target: policy.target,
        dwell_ns: policy.dwell.nanos(),
        cool_down_ns: policy.cool_down.nanos(),
        interval_ns: policy.interval.nanos(),
        window_ns: policy.window.nanos(),
    }
}

/// Instances as the data plane listed them just now, with the loads measured last.
pub(super) fn instances(
    listed: Vec<weir_api::dataplane::v1::Instance>,
    link: &Link,
) -> Vec<v1::InstanceView> {
    let view = |instance: weir_api::dataplane::v1::Instance| v1::InstanceView {
        load: link.load(instance.id),
        instance: Some(instance),
    };
    listed.into_iter().map(view).collect()
}
