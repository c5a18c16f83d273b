//! 1 -> 4 -> 1 by command, under full traffic.

use std::time::Duration;

use anyhow::Result;
use weir_api::dataplane::v1::Instance;

use super::baseline;
use super::stage::Stage;

/// Instances at the top of a cycle.
pub(super) const INSTANCES: u32 = 4;
/// Packets that pass between two scale steps.
const BETWEEN: u64 = 20_000;

/// Goes through the cycles; after each, the state of every flow is compared.
pub(super) fn run(stage: &mut Stage, cycles: usize) -> Result<()> {
    stage.screen.step("One instance becomes four and goes back to one, by command");
    let before = stage.retransmits()?;
    let bulk = baseline::start(stage)?;
    for cycle in 1..=cycles {
        stage.let_flow(BETWEEN)?;
        let (out, out_moving) = scale(stage, INSTANCES)?;
        let before = stage.dataplane.instances()?;
        stage.let_flow(BETWEEN)?;
        add_carried(stage, &before)?;
        let (back, back_moving) = scale(stage, 1)?;
        stage.note_carried()?;
        stage.check_states()?;
        stage.report.scale_out_ms.push(out);
        stage.report.scale_out_moving_ms.push(out_moving);
        stage.report.scale_in_ms.push(back);
        stage.report.scale_in_moving_ms.push(back_moving);
        stage.screen.result(&format!(
            "cycle {cycle}: 1 -> 4 in {out:.1} ms (moving {out_moving:.1} ms), \
             4 -> 1 in {back:.1} ms (moving {back_moving:.1} ms)"
        ));
    }
    baseline::finish(stage, bulk)?;
    stage.report.tcp_retransmits = stage.retransmits()? - before;
    Ok(())
}

/// Adds what each instance has carried since `before`.
fn add_carried(stage: &mut Stage, before: &[Instance]) -> Result<()> {
    for instance in stage.dataplane.instances()? {
        let earlier = before.iter().find(|other| other.id == instance.id);
        let packets = instance.packets - earlier.map_or(0, |other| other.packets);
        *stage.report.carried_by_four.entry(instance.name).or_default() += packets;
    }
    stage.note_carried()
}

/// Scales and returns the milliseconds from the request to done, as the sidecar has measured them,
/// and those of moving.
pub(super) fn scale(stage: &Stage, instances: u32) -> Result<(f64, f64)> {
    let operation = stage.sidecar.scale_to(instances)?;
    let [took, moving] = [operation.elapsed_ns, operation.moving_ns].map(Duration::from_nanos);
    Ok((took.as_secs_f64() * 1e3, moving.as_secs_f64() * 1e3))
}
