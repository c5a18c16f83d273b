//! Between the data plane's messages and what the logic sees.

use weir_api::dataplane::v1::{
    GetSteeringResponse, Instance, InstanceState, MovePhase as Phase, WatchNodeResponse,
};

use crate::scaling::{
    machine::{MovePhase, Observed, ObservedMove},
    plan::{Lifecycle, Running, RunningInstance},
};

/// What a scale operation sees of the data plane; `complete` as [`Observed::complete`].
pub fn observed(told: &WatchNodeResponse, complete: bool) -> Observed {
    let moves = told.moves.iter().map(|listed| {
        let phase = match listed.phase() {
            Phase::Done => MovePhase::Done,
            Phase::Undone => MovePhase::Undone,
            Phase::Unspecified
            | Phase::Queued
            | Phase::Preparing
            | Phase::Draining
            | Phase::Exporting
            | Phase::Undoing => MovePhase::InProgress,
        };
        let seen = ObservedMove { id: listed.id, phase, flows: listed.flows };
        (listed.request_id.clone(), seen)
    });
    Observed {
        incarnation: told.incarnation,
        instances: instances_of(&told.instances),
        moves: moves.collect(),
        complete,
    }
}

/// What a plan starts from.
pub fn running(instances: &[Instance], steering: &GetSteeringResponse) -> Running {
    Running {
        instances: instances_of(instances),
        owners: steering.owners.clone(),
        steers_beyond_buckets: !steering.rules.is_empty() || steering.exact_flows > 0,
    }
}

/// Whether a move is over.
pub fn ended(phase: Phase) -> bool {
    matches!(phase, Phase::Done | Phase::Undone)
}

fn instances_of(instances: &[Instance]) -> Vec<RunningInstance> {
    let convert = |instance: &Instance| RunningInstance {
        id: instance.id,
        name: instance.name.clone(),
        state: match instance.state() {
            InstanceState::Unspecified | InstanceState::Starting => Lifecycle::Starting,
            InstanceState::Ready => Lifecycle::Ready,
            InstanceState::Active => Lifecycle::Active,
            InstanceState::Paused => Lifecycle::Paused,
            InstanceState::Stopping => Lifecycle::Stopping,
        },
    };
    instances.iter().map(convert).collect()
}

/// Finds an instance by its name or its number; a name that looks like a number wins.
pub fn find_instance<'a>(
    mut instances: impl Iterator<Item = &'a Instance> + Clone,
    name: &str,
) -> Option<&'a Instance> {
    let named = instances.clone().find(|instance| instance.name == name);
    named.or_else(|| {
        let id: u32 = name.parse().ok()?;
        instances.find(|instance| instance.id == id)
    })
}
