//! What the demo found out, as it is written to `report.json`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Drops of packets that were never to pass the router: what hosts send to their own link.
const NOT_TRANSIT: [&str; 2] = ["link_scope", "multicast_unsupported"];

/// The figures of a run. Times are in the unit that ends the name.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// From the request to done, of each scale-out 1 -> 4 by command.
    pub scale_out_ms: Vec<f64>,
    /// From the request to done, of each scale-in 4 -> 1 by command.
    pub scale_in_ms: Vec<f64>,
    /// Of each scale-out, from the start of the first move to the end of the last.
    pub scale_out_moving_ms: Vec<f64>,
    /// Of each scale-in, the same.
    pub scale_in_moving_ms: Vec<f64>,
    /// UDP flows that were sent.
    pub flows: usize,
    /// Changes of owner of single flows, all scale steps together.
    pub flows_moved: u64,
    /// UDP packets sent.
    pub packets_sent: u64,
    /// UDP packets received.
    pub packets_received: u64,
    /// Packets that the router received while a move was in progress.
    pub packets_during_moves: u64,
    /// Packets handed from the worker that received them to the one of their instance.
    pub handover_packets: u64,
    /// UDP packets that never arrived.
    pub lost: u64,
    /// UDP packets that arrived again.
    pub duplicated: u64,
    /// UDP packets that arrived behind a later one of their flow.
    pub reordered: u64,
    /// UDP packets that arrived at another host than theirs.
    pub stray: u64,
    /// Flows whose packets arrived otherwise than they were to be forwarded.
    pub changed: usize,
    /// Flows whose state, after a cycle, was not what a single instance would have kept.
    pub state_mismatches: usize,
    /// Packets that the kernel dropped before the router saw them.
    pub overload: u64,
    /// Most packets that a move held at one time.
    pub held_max: u64,
    /// How long moves held packets.
    pub hold_us: Hold,
    /// TCP streams, over all transfers.
    pub tcp_streams: usize,
    /// TCP streams of which every byte arrived.
    pub tcp_streams_whole: usize,
    /// TCP bytes that arrived as they were sent.
    pub tcp_bytes_ok: u64,
    /// TCP segments sent again during the transfer with scaling.
    pub tcp_retransmits: u64,
    /// TCP segments sent again during the same transfer without scaling.
    pub tcp_retransmits_baseline: u64,
    /// Echo requests sent.
    pub pings_sent: u64,
    /// Echo requests answered.
    pub pings_answered: u64,
    /// Packets that the router dropped, by reason.
    pub drops_by_reason: BTreeMap<String, u64>,
    /// Packets that went into the router and are in no counter, at rest.
    pub unaccounted: i64,
    /// The sidecar killed in the middle of a scale-out.
    pub sidecar_kill: SidecarKill,
    /// Scaling by load.
    pub auto: Auto,
    /// Packets that each instance carried while there were four by command, by name.
    pub carried_by_four: BTreeMap<String, u64>,
    /// Packets that each instance carried in all, by name; of one that has gone, as read last.
    pub carried: BTreeMap<String, u64>,
    /// One-way latency of the UDP packets.
    pub latency_us: Hold,
    /// CPU time of the generator and sink for a packet sent and received.
    pub tester_cpu_ns_a_packet: u64,
    /// CPU time of the data plane, all workers and the agent together.
    pub dataplane_cpu_seconds: f64,
    /// CPU time of the instances for a packet.
    pub instance_cpu_ns_a_packet: f64,
    /// Where everything random came from.
    pub seed: u64,
    /// How long the demo ran.
    pub seconds: f64,
}

/// Quantiles of a time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Hold {
    /// The median. Of several moves, the median of their medians.
    pub p50: f64,
    /// 99 % were shorter. Of several moves, the longest of theirs.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// The sidecar killed between the first and the last bucket set of a scale-out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SidecarKill {
    /// The step that it would have begun next.
    pub step: String,
    /// Packets lost from the kill to the end of the operation.
    pub lost: u64,
    /// What became of the scale-out after the restart: `finished` or `undone`.
    pub outcome: String,
    /// Packets forwarded while there was no sidecar.
    pub packets_while_dead: u64,
    /// From the restart to the end of the operation.
    pub resume_ms: f64,
}

/// Scaling by load alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Auto {
    /// From the rise of the traffic to the decision to grow.
    pub detect_ms: f64,
    /// From the rise of the traffic to the most instances.
    pub grown_ms: f64,
    /// From the fall of the traffic to one instance.
    pub shrunk_ms: f64,
    /// Most instances that it came to.
    pub instances_max: u32,
    /// Packets a second before and after, and in between.
    pub rates: [u64; 2],
    /// What was decided, in order; decisions to keep the number are left out.
    pub decisions: Vec<ScaleDecision>,
}

/// A decision to change the number of instances.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScaleDecision {
    /// Instances before.
    pub from: u32,
    /// Instances after.
    pub to: u32,
    /// Mean load of the instances, as a share of their capacity.
    pub load_mean: f64,
    /// Load of the most loaded one.
    pub load_max: f64,
    /// Why, in words.
    pub reason: String,
}

impl Report {
    /// What is not as it must be; nothing when the demo has shown what it is to show.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let zeros = [
            ("packets lost", self.lost),
            ("packets duplicated", self.duplicated),
            ("packets reordered", self.reordered),
            ("packets at the wrong host", self.stray),
            ("flows whose packets were changed", self.changed as u64),
            ("flows whose state differs from a single instance's", self.state_mismatches as u64),
            ("packets dropped by the kernel before the router (overload)", self.overload),
            ("packets unaccounted for", self.unaccounted.unsigned_abs()),
            ("packets lost after the kill of the sidecar", self.sidecar_kill.lost),
            ("TCP streams that did not arrive whole", self.streams_broken()),
            ("pings without an answer", self.pings_sent - self.pings_answered),
        ];
        faults.extend(
            zeros.iter().filter(|(_, n)| *n != 0).map(|(what, count)| format!("{count} {what}")),
        );
        for (reason, count) in self.transit_drops() {
            faults.push(format!("{count} packets dropped: {reason}"));
        }
        let shown = [
            ("no packet was received", self.packets_received > 0),
            ("no TCP stream was sent", self.tcp_streams > 0),
            ("no ping was sent", self.pings_sent > 0),
            ("no packet was in flight during a move", self.packets_during_moves > 0),
            ("no scale-out ended", !self.scale_out_ms.is_empty()),
            ("the killed scale-out neither finished nor was undone", self.kill_ended()),
            ("the load alone did not make the service grow", self.auto.instances_max > 1),
        ];
        faults.extend(shown.iter().filter(|(_, ok)| !ok).map(|(what, _)| (*what).to_owned()));
        faults
    }

    /// Drops of packets that were to pass the router.
    pub fn transit_drops(&self) -> impl Iterator<Item = (&str, u64)> {
        let drops = self.drops_by_reason.iter().map(|(reason, count)| (reason.as_str(), *count));
        drops.filter(|(reason, count)| !NOT_TRANSIT.contains(reason) && *count > 0)
    }

    fn streams_broken(&self) -> u64 {
        (self.tcp_streams - self.tcp_streams_whole) as u64
    }

    fn kill_ended(&self) -> bool {
        matches!(self.sidecar_kill.outcome.as_str(), "finished" | "undone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Report {
        Report {
            packets_received: 1,
            tcp_streams: 4,
            tcp_streams_whole: 4,
            pings_sent: 9,
            pings_answered: 9,
            packets_during_moves: 1,
            scale_out_ms: vec![1.0],
            sidecar_kill: SidecarKill { outcome: "finished".into(), ..SidecarKill::default() },
            auto: Auto { instances_max: 4, ..Auto::default() },
            ..Report::default()
        }
    }

    #[test]
    fn a_clean_run_has_no_faults() {
        assert_eq!(clean().faults(), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_must_not_be_is_a_fault() {
        let spoil: [fn(&mut Report); 15] = [
            |report| report.lost = 1,
            |report| report.duplicated = 1,
            |report| report.reordered = 1,
            |report| report.stray = 1,
            |report| report.changed = 1,
            |report| report.state_mismatches = 1,
            |report| report.overload = 1,
            |report| report.unaccounted = -1,
            |report| report.sidecar_kill.lost = 1,
            |report| report.tcp_streams_whole = 3,
            |report| report.pings_answered = 8,
            |report| report.drops_by_reason = [("no_route".into(), 1)].into(),
            |report| report.packets_during_moves = 0,
            |report| report.sidecar_kill.outcome.clear(),
            |report| report.auto.instances_max = 1,
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            let mut report = clean();
            spoil(&mut report);
            assert_eq!(report.faults().len(), 1, "spoiled {number}: {:?}", report.faults());
        }
    }

    #[test]
    fn what_hosts_send_to_their_own_link_is_no_transit() {
        let mut report = clean();
        report.drops_by_reason.insert("link_scope".into(), 3);
        assert!(report.faults().is_empty());
    }
}
