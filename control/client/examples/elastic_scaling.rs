//! Elastic scaling (OpenNF): an instance is added when one is loaded and takes over some of the
//! flows; when the load has gone, its flows and what it knows go back, and it is removed. The sidecar
//! must not scale by itself meanwhile: `weir scale auto off`.
//!
//! ```sh
//! cargo run -p weir-client --example elastic_scaling -- /run/weir/control.sock 4
//! ```

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tonic::{Code, Status, Streaming, transport::Channel};
use weir_api::{
    dataplane::v1::Change,
    v1::{
        Operation, OperationState, ScaleRequest, Stats, WatchStatsRequest, WatchStatsResponse,
        scale_service_client::ScaleServiceClient, stats_service_client::StatsServiceClient,
    },
};

/// When to add an instance and when to remove one. Loads are shares of the declared capacity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// One more when the load of any instance is above.
    pub high: f64,
    /// One less when the load that each of the rest would have is below.
    pub low: f64,
    /// The most instances.
    pub most: u32,
    /// How often the load is looked at; the mean since the last look counts.
    pub every: Duration,
}

impl Policy {
    /// How many instances there shall be, given the load of each that there is.
    pub(crate) fn instances(&self, loads: &[f64]) -> u32 {
        let now = u32::try_from(loads.len()).unwrap_or(u32::MAX);
        let of_rest = loads.iter().sum::<f64>() / f64::from(now.saturating_sub(1));
        if now < self.most && loads.iter().any(|load| *load > self.high) {
            now + 1
        } else if now > 1 && of_rest < self.low {
            now - 1
        } else {
            now
        }
    }
}

/// The loads of the instances, as they change.
pub(crate) struct Loads {
    stream: Streaming<WatchStatsResponse>,
    last: Stats,
}

impl Loads {
    /// Begins to look, at an interval.
    pub(crate) async fn watch(channel: &Channel, every: Duration) -> anyhow::Result<Self> {
        let interval_ns = u64::try_from(every.as_nanos())?;
        let mut stats = StatsServiceClient::new(channel.clone());
        let stream = stats.watch_stats(WatchStatsRequest { interval_ns }).await?.into_inner();
        let mut loads = Self { stream, last: Stats::default() };
        loads.last = loads.stats().await?;
        Ok(loads)
    }

    /// The load of each instance since the last look.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Vec<f64>> {
        let now = self.stats().await?;
        let loads = loads(&self.last, &now);
        self.last = now;
        Ok(loads)
    }

    async fn stats(&mut self) -> anyhow::Result<Stats> {
        let message = self.stream.message().await?.context("the sidecar stops")?;
        message.stats.context("an answer without figures")
    }
}

/// The CPU time that packets have taken between two looks, as a share of the capacity. What was not
/// there at the first look has had no packets then.
fn loads(before: &Stats, now: &Stats) -> Vec<f64> {
    let elapsed = now.at_ns.saturating_sub(before.at_ns).max(1) as f64 / 1e9;
    let instances = |stats: &Stats| -> Vec<_> {
        stats.instances.iter().filter_map(|view| view.instance.clone()).collect()
    };
    let old = instances(before);
    let load = instances(now).into_iter().map(|instance| {
        let busy = old.iter().find(|old| old.id == instance.id).map_or(0, |old| old.busy_ns);
        let busy = instance.busy_ns.saturating_sub(busy) as f64;
        busy / elapsed / instance.capacity_ns.max(1) as f64
    });
    load.collect()
}

/// Scales by the load, as long as `goes_on` says so of each operation, however it has ended.
///
/// The sidecar moves flows loss-free and in order, so that all instances have as many buckets. The
/// load is looked at anew after each operation, so that what came before it is not counted in, and
/// one that is refused or undone is asked for again if the load still says so.
pub(crate) async fn keep_scaled(
    channel: &Channel,
    policy: &Policy,
    mut goes_on: impl FnMut(&Operation) -> bool,
) -> anyhow::Result<()> {
    loop {
        let mut loads = Loads::watch(channel, policy.every).await?;
        let instances = loop {
            let seen = loads.next().await?;
            let wanted = policy.instances(&seen);
            if usize::try_from(wanted)? != seen.len() {
                break wanted;
            }
        };
        // Unique: by who asks, and when.
        let request_id = format!("elastic-scaling-{}-{}", std::process::id(), loads.last.at_ns);
        match scale(channel, instances, request_id).await? {
            Ok(ended) if !goes_on(&ended) => return Ok(()),
            Ok(_) => {}
            Err(refused) => eprintln!("{instances} instances are refused: {}", refused.message()),
        }
    }
}

/// Brings the node to a number of instances: how the operation has ended, or why it is refused, as
/// while another goes on. The generation is 0, as the number is right whatever else has changed.
async fn scale(
    channel: &Channel,
    instances: u32,
    request_id: String,
) -> anyhow::Result<Result<Operation, Status>> {
    let change = Some(Change { request_id, generation: 0 });
    let mut scaling = ScaleServiceClient::new(channel.clone());
    let mut steps = match scaling.scale(ScaleRequest { change, instances }).await {
        Ok(steps) => steps.into_inner(),
        Err(status) if status.code() == Code::FailedPrecondition => return Ok(Err(status)),
        Err(status) => return Err(status.into()),
    };
    let mut last = Operation::default();
    while let Some(step) = steps.message().await? {
        last = step.operation.context("an answer without an operation")?;
    }
    Ok(Ok(last))
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, clippy::allow_attributes, reason = "tests use what is above, and not this")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, most] = arguments.as_slice() else {
        anyhow::bail!("usage: elastic_scaling SOCKET MOST");
    };
    let channel = weir_client::unix_channel(Path::new(socket)).await?;
    let every = Duration::from_secs(1);
    let policy = Policy { high: 0.8, low: 0.4, most: most.parse()?, every };
    let tell = |ended: &Operation| {
        let (from, to) = (ended.from_instances, ended.to_instances);
        match ended.state() {
            OperationState::Done => {
                eprintln!("{from} -> {to} instances, {} flows moved", ended.flows_moved);
            }
            state => eprintln!("{from} -> {to} instances: {state:?}, {}", ended.reason),
        }
        true
    };
    keep_scaled(&channel, &policy, tell).await
}
