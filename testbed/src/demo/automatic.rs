//! The load alone makes the service grow and shrink.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use weir_api::v1::{Decision, Verdict};

use super::report::ScaleDecision;
use super::stage::{CAPACITY_PERCENT, Stage, cost};
use crate::wait;

/// Packets a second before and after. Few: alone in its burst, a packet costs several times as much.
const RATE_LOW: u64 = 100;
/// Load at the high rate, in instances: enough for four at the target load of the policy.
const LOAD_HIGH: f64 = 2.2;
/// The high rate stays in these bounds whatever a packet costs.
const RATES_HIGH: std::ops::RangeInclusive<u64> = 5_000..=120_000;
/// How often the high rate is set anew by what a packet costs: that depends on the machine's other
/// work, and on how many instances there are.
const ADJUST: Duration = Duration::from_millis(300);
/// Longest wait for the policy, whose dwell and cool-down are below a second.
const LIMIT: Duration = Duration::from_secs(30);

/// Raises the traffic until the policy has made four instances, and lowers it until one is left.
pub(super) fn run(stage: &mut Stage) -> Result<()> {
    stage.screen.step("Traffic rises and falls: the service grows and shrinks by itself");
    let low = RATE_LOW;
    let mut high = rate_for(LOAD_HIGH, stage.report.instance_cpu_ns_a_packet);
    stage.traffic.set_rate(low);
    stage.let_flow(low / 2)?;
    stage.sidecar.set_auto(true)?;
    let rise = (wait::now(), unix_ns());
    stage.traffic.set_rate(high);
    let most = super::cycles::INSTANCES;
    let mut before = (wait::now(), stage.work()?);
    wait_for_instances(stage, most, |stage| {
        if wait::now() - before.0 > ADJUST {
            let (busy, packets) = std::mem::replace(&mut before, (wait::now(), stage.work()?)).1;
            let (busy_after, packets_after) = before.1;
            high = rate_for(LOAD_HIGH, cost(busy_after - busy, packets_after - packets));
            stage.traffic.set_rate(high);
        }
        Ok(())
    })?;
    stage.report.auto.rates = [low, high];
    let grown = wait::now();
    stage.let_flow(high / 2)?;
    stage.note_carried()?;
    stage.traffic.set_rate(low);
    let fall = wait::now();
    wait_for_instances(stage, 1, |_| Ok(()))?;
    let shrunk = wait::now();
    stage.sidecar.set_auto(false)?;
    let decisions = stage.sidecar.decisions()?;
    stage.check_states()?;
    let auto = &mut stage.report.auto;
    auto.instances_max = most;
    auto.grown_ms = (grown - rise.0).as_secs_f64() * 1e3;
    auto.shrunk_ms = (shrunk - fall).as_secs_f64() * 1e3;
    let changes: Vec<&Decision> =
        decisions.iter().rev().filter(|d| d.verdict() != Verdict::Keep).collect();
    if let Some(first) = changes.iter().find(|d| d.verdict() == Verdict::ScaleOut) {
        let after = Duration::from_nanos(first.at_unix_ns.saturating_sub(rise.1));
        auto.detect_ms = after.as_secs_f64() * 1e3;
    }
    auto.decisions = changes.into_iter().map(decision).collect();
    let text = format!(
        "{low} -> {high} packets/s: decided after {:.0} ms, {most} instances after {:.0} ms; back \
         at one {:.0} ms after the traffic fell",
        auto.detect_ms, auto.grown_ms, auto.shrunk_ms
    );
    stage.screen.result(&text);
    Ok(())
}

/// Waits until the policy has brought the service to so many instances; `meanwhile` is done at
/// each look.
fn wait_for_instances(
    stage: &mut Stage,
    instances: u32,
    mut meanwhile: impl FnMut(&Stage) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    let waited = stage.wait_until("the policy to scale", LIMIT, |stage| {
        meanwhile(stage)?;
        let status = stage.sidecar.status()?;
        if last.replace(status.instances_active) != Some(status.instances_active) {
            stage.note_carried()?;
        }
        Ok(status.instances_active == instances && status.operation.is_none())
    });
    waited.map_err(|error| {
        let last = stage.sidecar.decisions().map(|decisions| decisions.into_iter().next());
        error.context(format!("scaling to {instances} by load; the last decision: {last:?}"))
    })
}

/// The rate at which one instance would have this load, when a packet takes so much CPU time.
fn rate_for(load: f64, packet_ns: f64) -> u64 {
    let capacity_ns = f64::from(CAPACITY_PERCENT) * 1e7;
    let rate = load * capacity_ns / packet_ns.max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate, kept in bounds"
    )]
    let rate = rate as u64;
    rate.clamp(*RATES_HIGH.start(), *RATES_HIGH.end())
}

fn decision(decision: &Decision) -> ScaleDecision {
    ScaleDecision {
        from: decision.from_instances,
        to: decision.to_instances,
        load_mean: decision.load_mean,
        load_max: decision.load_max,
        reason: decision.reason.clone(),
    }
}

#[expect(clippy::disallowed_methods, reason = "decisions carry the time of day")]
fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
