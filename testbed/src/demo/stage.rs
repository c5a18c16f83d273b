//! What runs during the demo: hosts, router, sidecar, traffic; and what was counted so far.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_api::dataplane::v1::{Move, MovePhase, Worker};
use weir_dataplane::instance::digest::digest;

use super::report::{Hold, Report};
use super::screen::Screen;
use super::{Cancel, Options};
use crate::dataplane::Dataplane;
use crate::node::{Node, Shape};
use crate::ping::Pings;
use crate::reference::mismatches;
use crate::sidecar::Sidecar;
use crate::topology::Topology;
use crate::traffic::{self, Latency, Traffic};
use crate::{bulk, cpu, wait};

/// Longest wait for traffic to pass: it takes a fraction of a second.
const TRAFFIC_LIMIT: Duration = Duration::from_secs(30);
/// Capacity that each instance declares, in percent of a core: far below the machine's, so that
/// the traffic of a testbed fills an instance.
pub(super) const CAPACITY_PERCENT: u8 = 5;
/// Mismatches whose details go to the screen.
const MISMATCHES_SHOWN: usize = 3;

const TABLES: &str = "\
[flow_table]
idle_timeout = \"600s\"

[scaling]
min = 1
max = 4
high = 0.8
low = 0.3
target = 0.6
interval = \"50ms\"
window = \"300ms\"
dwell = \"300ms\"
cool_down = \"500ms\"
";

/// The running demo. Fields are dropped in this order: traffic before the router, the router
/// before its namespace.
pub(super) struct Stage {
    pub(super) screen: Screen,
    pub(super) report: Report,
    pub(super) traffic: Traffic,
    pings: Option<Pings>,
    pub(super) sidecar: Sidecar,
    pub(super) dataplane: Dataplane,
    pub(super) node: Node,
    pub(super) topology: Topology,
    cancel: Cancel,
    moves: BTreeMap<u64, Move>,
    carried: Carried,
}

impl Stage {
    pub(super) fn build(options: &Options, cancel: &Cancel) -> Result<Self> {
        let mut screen = Screen::new();
        screen.step("Four hosts, a router with two workers on four SAPs, and its sidecar");
        let shape = Shape {
            capacity_percent: CAPACITY_PERCENT,
            tables: TABLES.to_owned(),
            ..Shape::default()
        };
        let topology = Topology::new(shape.queues)?;
        let mut node = Node::start(&topology, &shape, Some(&options.folder))?;
        let sidecar = node.start_sidecar(None)?;
        let dataplane = node.connect()?;
        for port in dataplane.ports()? {
            screen.result(&format!("{}: {} queues, {}", port.name, port.queues.len(), port.mode));
        }
        cancel.check()?;
        traffic::warm_up(&topology)?;
        let options = traffic::Options::new(options.flows, options.rate, options.seed, digest);
        let traffic = Traffic::start(&topology, options)?;
        let report = Report { seed: options.seed, ..Report::default() };
        let mut stage = Self {
            screen,
            report,
            traffic,
            pings: Some(Pings::start(&topology)),
            sidecar,
            dataplane,
            node,
            topology,
            cancel: cancel.clone(),
            moves: BTreeMap::new(),
            carried: Carried::default(),
        };
        stage.let_flow(options.flows as u64)?;
        Ok(stage)
    }

    /// Waits until so many more packets have arrived.
    pub(super) fn let_flow(&mut self, packets: u64) -> Result<()> {
        let target = self.traffic.received() + packets;
        self.wait_until("the traffic to flow", TRAFFIC_LIMIT, |stage| {
            Ok(stage.traffic.received() >= target)
        })
    }

    /// Waits until `check` is true, with live figures on the screen.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut check: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = wait::Deadline::after(limit);
        while !check(self)? {
            self.cancel.check()?;
            self.node.dataplane.check_running()?;
            ensure!(!deadline.left().is_zero(), "waited {limit:?} for {what}");
            let (sent, received) = (self.traffic.sent(), self.traffic.received());
            self.screen.live(format!("{received} packets received of {sent} sent"));
            wait::pause(&mut [], Duration::from_millis(2))?;
        }
        Ok(())
    }

    /// Lets the traffic come to rest, compares what the instances keep of each flow with what a
    /// single one would, and lets it go on.
    pub(super) fn check_states(&mut self) -> Result<()> {
        self.cancel.check()?;
        let report = self.traffic.settle()?;
        // The counters of a packet are there a moment after it has left.
        self.dataplane.balance_at_rest().context("the router is not at rest")?;
        let wrong = mismatches(&self.dataplane.flows("")?, &report.states);
        for line in wrong.iter().take(MISMATCHES_SHOWN) {
            self.screen.result(&format!("state differs: {line}"));
        }
        self.report.state_mismatches += wrong.len();
        self.traffic.resume();
        self.collect_moves()
    }

    /// Notes the moves that have ended; the data plane keeps the last 256 only.
    fn collect_moves(&mut self) -> Result<()> {
        for ended in self.dataplane.moves()? {
            if matches!(ended.phase(), MovePhase::Done | MovePhase::Undone) {
                self.moves.insert(ended.id, ended);
            }
        }
        Ok(())
    }

    /// Notes what each instance has carried so far. Called before instances are removed, for their
    /// last count, and after, as others may come under their numbers and names.
    pub(super) fn note_carried(&mut self) -> Result<()> {
        let instances = self.dataplane.instances()?.into_iter();
        self.carried.note(instances.map(|i| ((i.id, i.name), i.packets)).collect());
        Ok(())
    }

    /// Busy time and packets of all workers so far; unlike instances, they stay.
    pub(super) fn work(&self) -> Result<(u64, u64)> {
        let workers = self.dataplane.workers()?;
        let sum = |figure: fn(&Worker) -> u64| workers.iter().map(figure).sum();
        Ok((sum(|worker| worker.busy_ns), sum(|worker| worker.packets)))
    }

    /// Segments that the hosts' TCP has sent again so far.
    pub(super) fn retransmits(&self) -> Result<u64> {
        bulk::retransmits(&self.topology)
    }

    /// Ends the traffic, takes the last figures and stops the processes in order.
    pub(super) fn finish(mut self) -> Result<Report> {
        self.screen.step("The account: every packet sent, received, and inside the router");
        if let Some(pings) = self.pings.take() {
            let pings = pings.stop()?;
            self.report.pings_sent = pings.sent;
            self.report.pings_answered = pings.answered;
        }
        self.check_states()?;
        self.note_carried()?;
        let traffic = self.traffic.settle()?;
        let balance = self.dataplane.balance_at_rest();
        let counters = self.dataplane.counters()?;
        let balance = balance.or_else(|_| counters.balance.context("no balance"))?;
        let mut report = std::mem::take(&mut self.report);
        report.flows = traffic.states.len();
        report.packets_sent = traffic.sent;
        report.packets_received = traffic.tally.received;
        report.lost = traffic.lost;
        report.duplicated = traffic.tally.duplicated;
        report.reordered = traffic.tally.reordered;
        report.stray = traffic.tally.stray;
        report.changed = traffic.changed;
        report.latency_us = in_microseconds(traffic.latency);
        report.tester_cpu_ns_a_packet = traffic.cpu_ns_a_packet();
        report.overload = balance.overload;
        report.unaccounted = balance.unaccounted;
        report.handover_packets = counters.handover_packets;
        report.drops_by_reason =
            counters.drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect();
        report.carried = self.carried.by_name();
        report.dataplane_cpu_seconds = cpu::of_process(self.node.dataplane.pid())?.as_secs_f64();
        add_moves(&mut report, self.moves.values());
        self.node.stop()?;
        Ok(report)
    }
}

/// Busy time of a packet, in nanoseconds.
pub(super) fn cost(busy_ns: u64, packets: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 nanoseconds")]
    let cost = busy_ns as f64 / packets.max(1) as f64;
    cost
}

/// The number and the name of an instance. Another may have them when it has gone.
type InstanceKey = (u32, String);

/// The packets of each instance, those that have gone included.
#[derive(Debug, Default)]
struct Carried {
    present: BTreeMap<InstanceKey, u64>,
    gone: BTreeMap<String, u64>,
}

impl Carried {
    /// Takes the counts of all instances there are. One that is missing, or counts less than
    /// before and so is another, ends the count of the one that was there.
    fn note(&mut self, present: BTreeMap<InstanceKey, u64>) {
        for (key, packets) in std::mem::take(&mut self.present) {
            if present.get(&key).is_none_or(|now| *now < packets) {
                *self.gone.entry(key.1).or_default() += packets;
            }
        }
        self.present = present;
    }

    fn by_name(&self) -> BTreeMap<String, u64> {
        let mut total = self.gone.clone();
        for ((_, name), packets) in &self.present {
            *total.entry(name.clone()).or_default() += packets;
        }
        total
    }
}

fn add_moves<'a>(report: &mut Report, moves: impl Iterator<Item = &'a Move> + Clone) {
    report.flows_moved = moves.clone().map(|ended| ended.flows).sum();
    report.packets_during_moves = moves.clone().map(|ended| ended.packets_during).sum();
    report.held_max = moves.clone().map(|ended| ended.held_max).max().unwrap_or_default();
    let held = moves.filter(|ended| ended.held > 0);
    let mut medians: Vec<u64> = held.clone().map(|ended| ended.hold_p50_ns).collect();
    medians.sort_unstable();
    report.hold_us = in_microseconds(Latency {
        p50_ns: medians.get(medians.len() / 2).copied().unwrap_or_default(),
        p99_ns: held.clone().map(|ended| ended.hold_p99_ns).max().unwrap_or_default(),
        max_ns: held.map(|ended| ended.hold_max_ns).max().unwrap_or_default(),
        ..Latency::default()
    });
}

fn in_microseconds(latency: Latency) -> Hold {
    let [p50, p99, max] = [latency.p50_ns, latency.p99_ns, latency.max_ns]
        .map(|ns| Duration::from_nanos(ns).as_secs_f64() * 1e6);
    Hold { p50, p99, max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_removed_instance_carried_is_kept_when_its_number_and_name_come_again() {
        let mut carried = Carried::default();
        let note = |counts: &[(u32, &str, u64)]| {
            let key = |&(id, name, packets): &(u32, &str, u64)| ((id, name.to_owned()), packets);
            carried.note(counts.iter().map(key).collect());
        };
        let rounds: [&[_]; 5] = [
            &[(1, "r1", 10), (2, "sw1", 7)],
            &[(1, "r1", 20)],
            &[(1, "r1", 30), (2, "sw1", 9)],
            &[(1, "r1", 40), (2, "sw1", 3)],
            &[(1, "r1", 50), (2, "sw2", 5)],
        ];
        rounds.into_iter().for_each(note);
        let total = carried.by_name();
        assert_eq!((total["r1"], total["sw1"], total["sw2"]), (50, 7 + 9 + 3, 5));
    }

    #[test]
    fn the_figures_of_moves_are_put_together() {
        let moves = [(3, 5, 10), (4, 9, 30), (1, 0, 0)].map(|(flows, held, ns)| Move {
            flows,
            held,
            held_max: held,
            hold_p50_ns: ns * 1_000,
            hold_max_ns: ns * 2_000,
            packets_during: 100,
            ..Move::default()
        });
        let mut report = Report::default();
        add_moves(&mut report, moves.iter());
        assert_eq!((report.flows_moved, report.held_max, report.packets_during_moves), (8, 9, 300));
        assert!(
            (report.hold_us.p50 - 30.0).abs() < 1e-6 && (report.hold_us.max - 60.0).abs() < 1e-6
        );
    }
}
