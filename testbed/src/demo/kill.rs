//! The sidecar killed in the middle of a scale-out.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use weir_api::v1::{OperationState, StepKind, StepState};

use super::cycles::{INSTANCES, scale};
use super::stage::Stage;
use crate::wait;

/// The sidecar stands still before this step: one bucket set has moved, another has not.
const STEP: &str = "move:2";
/// Packets that pass while there is no sidecar.
const WITHOUT: u64 = 20_000;

/// Kills the sidecar between two bucket sets, lets traffic flow without it, starts it again and
/// waits for the scale-out to be finished or undone.
pub(super) fn run(stage: &mut Stage) -> Result<()> {
    stage.screen.step("The sidecar is killed in the middle of a scale-out");
    let lost_before = stage.traffic.settle()?.lost;
    stage.traffic.resume();
    stage.node.stop_sidecar()?;
    stage.sidecar = stage.node.start_sidecar(Some(STEP))?;
    stage.let_flow(1_000)?;
    let operation = stage.sidecar.scale(INSTANCES, |operation| {
        // All that comes before the step is done.
        let place = operation.steps.iter().position(|step| step.name == STEP).unwrap_or(usize::MAX);
        let done = |(index, step): (usize, &weir_api::v1::Step)| {
            index >= place || step.state() == StepState::Done
        };
        place != usize::MAX && operation.steps.iter().enumerate().all(done)
    })?;
    let moved = operation
        .steps
        .iter()
        .filter(|step| step.kind() == StepKind::Move && step.state() == StepState::Done);
    if moved.count() != 1 {
        bail!("the sidecar did not stand still before {STEP}: {operation:?}");
    }
    stage.node.kill_sidecar()?;
    stage.note_carried()?;
    let before = stage.traffic.received();
    stage.let_flow(WITHOUT)?;
    let alone = stage.traffic.received() - before;
    let restarted = wait::now();
    stage.sidecar = stage.node.start_sidecar(None)?;
    let ended = stage.sidecar.wait_until_ended(operation.id)?;
    let resumed = wait::now() - restarted;
    let outcome = match ended.state() {
        OperationState::Done => "finished",
        OperationState::Undone => "undone",
        state => bail!("after the restart the scale-out is {}", state.as_str_name()),
    };
    stage.note_carried()?;
    stage.check_states()?;
    let lost = stage.traffic.settle()?.lost - lost_before;
    stage.traffic.resume();
    stage.screen.result(&format!(
        "killed before {STEP}; {alone} packets passed without it; after its restart the scale-out \
         was {outcome}"
    ));
    let kill = &mut stage.report.sidecar_kill;
    kill.step = STEP.to_owned();
    kill.lost = lost;
    kill.outcome = outcome.to_owned();
    kill.packets_while_dead = alone;
    kill.resume_ms = resumed.as_secs_f64() * 1e3;
    back_to_one(stage)
}

fn back_to_one(stage: &mut Stage) -> Result<()> {
    stage.note_carried()?;
    scale(stage, 1).context("going back to one instance")?;
    let limit = Duration::from_secs(30);
    stage.wait_until("one instance", limit, |stage| {
        Ok(stage.sidecar.status()?.instances_active == 1)
    })?;
    stage.note_carried()
}
