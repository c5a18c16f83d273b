//! The traffic without scaling, to compare with.

use anyhow::Result;

use super::stage::{Stage, cost};
use crate::bulk::{Bulk, BulkReport, Options};

/// Bytes of each TCP stream.
const BYTES: u64 = 24 << 20;
/// Bytes a second of each TCP stream: a transfer takes about eight seconds.
const RATE: u64 = 3 << 20;

/// Transfers once and counts what TCP sent again; measures the CPU time of a packet.
pub(super) fn run(stage: &mut Stage) -> Result<()> {
    stage.screen.step("UDP between all twelve pairs, TCP and pings, through one instance");
    let before = stage.retransmits()?;
    let (busy, packets) = stage.work()?;
    let bulk = start(stage)?;
    let report = finish(stage, bulk)?;
    let (busy_after, packets_after) = stage.work()?;
    let packets = packets_after - packets;
    let a_packet = cost(busy_after - busy, packets);
    stage.report.instance_cpu_ns_a_packet = a_packet;
    stage.report.tcp_retransmits_baseline = stage.retransmits()? - before;
    let text = format!(
        "{} MB over TCP arrived, {packets} packets forwarded in {a_packet:.0} ns of CPU time each",
        report.bytes_ok >> 20
    );
    stage.screen.result(&text);
    Ok(())
}

/// Starts the transfer that is made once without and once with scaling.
pub(super) fn start(stage: &Stage) -> Result<Bulk> {
    let options = Options { rate: RATE, bytes: BYTES, seed: stage.report.seed, each: 1 };
    Bulk::start(&stage.topology, options)
}

/// Waits for the end of the transfer and adds it to the report.
pub(super) fn finish(stage: &mut Stage, bulk: Bulk) -> Result<BulkReport> {
    // A stream that stalls ends by its own time limit.
    let limit = std::time::Duration::from_secs(60);
    stage.wait_until("the TCP streams to end", limit, |_| Ok(bulk.is_finished()))?;
    let report = bulk.finish();
    stage.report.tcp_streams += report.streams;
    stage.report.tcp_streams_whole += report.whole;
    stage.report.tcp_bytes_ok += report.bytes_ok;
    Ok(report)
}
