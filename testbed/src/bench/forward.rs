//! CPU time of forwarding a packet: Weir beside the Linux kernel, in one run, in turn.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_dataplane::instance::digest::digest;

use super::cable::Cable;
use super::quartiles::quartiles;
use crate::cost::Cost;
use crate::flow::DESTINATION_PORTS;
use crate::node::{Node, Shape};
use crate::packet_socket::{PacketSocket, arriving_udp};
use crate::topology::Topology;
use crate::traffic::{Options, Traffic, warm_up};
use crate::wait::until;
use crate::way_out::WayOut;

/// Hosts that send to each other; the others are idle.
const HOSTS: usize = 2;
/// UDP flows in both directions together.
const FLOWS: usize = 256;
/// More than there is credit for: every router is fed as fast as it forwards.
const RATE: u64 = 10_000_000;
/// Limit for the packets of one turn.
const TURN_LIMIT: Duration = Duration::from_secs(60);

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Times that each has its turn; the first is not counted.
    pub rounds: usize,
    /// Packets of a turn.
    pub packets: u64,
    /// Where everything random comes from.
    pub seed: u64,
}

/// What the rounds have shown.
#[derive(Clone, Debug)]
pub struct Table {
    plan: Plan,
    frame_bytes: f64,
    cable: Row,
    kernel: Row,
    weir: Row,
    live: Row,
}

/// The figures of one way to carry packets, by round.
#[derive(Clone, Debug, Default)]
struct Row {
    cpu_ns: Vec<f64>,
    waited_ns: Vec<f64>,
}

/// Somebody who carries packets between two hosts.
struct Subject {
    traffic: Traffic,
    process: Option<u32>,
    sent: u64,
    row: Row,
}

/// Measures a cable, the kernel and Weir with one worker and one instance, in turn.
///
/// # Errors
/// Without root, or when a router does not come up or loses packets.
pub fn run(plan: Plan) -> Result<Table> {
    let cable = Cable::new()?;
    let by_kernel = Topology::new(1)?;
    by_kernel.forward_by_kernel()?;
    warm_up(&by_kernel)?;
    let (by_weir, node) = weir(WayOut::Socket)?;
    let (by_frames, live_node) = weir(WayOut::Frames)?;

    let mut subjects = [
        Subject::new(cable.sockets()?, None, plan)?,
        Subject::new(sockets(&by_kernel)?, None, plan)?,
        Subject::new(sockets(&by_weir)?, Some(node.dataplane.pid()), plan)?,
        Subject::new(sockets(&by_frames)?, Some(live_node.dataplane.pid()), plan)?,
    ];
    for round in 0..=plan.rounds {
        for subject in &mut subjects {
            subject.turn(plan.packets)?;
            if round == 0 {
                subject.row = Row::default();
            }
        }
    }
    let mut bytes = 0.0;
    for subject in &mut subjects {
        let report = subject.traffic.settle()?;
        ensure!(report.lost == 0, "{} packets were lost: the figures mean nothing", report.lost);
        let total: u64 = report.states.iter().map(|(_, state)| state.bytes).sum();
        bytes = total as f64 / report.sent as f64;
    }
    node.stop()?;
    live_node.stop()?;
    let [cable, kernel, weir, live] = subjects.map(|subject| subject.row);
    Ok(Table { plan, frame_bytes: bytes + 14.0, cable, kernel, weir, live })
}

/// A node with one worker between hosts that know each other.
fn weir(way_out: WayOut) -> Result<(Topology, Node)> {
    let topology = Topology::with_way_out(1, way_out)?;
    let way_out = Some(way_out);
    let shape = Shape { workers: vec![None], queues: 1, way_out, ..Shape::default() };
    let node = Node::start(&topology, &shape, None)?;
    warm_up(&topology)?;
    Ok((topology, node))
}

impl Subject {
    fn new(sockets: Vec<PacketSocket>, process: Option<u32>, plan: Plan) -> Result<Self> {
        let options = Options::new(FLOWS, 0, plan.seed, digest);
        let traffic = Traffic::over(sockets, options)?;
        Ok(Self { traffic, process, sent: 0, row: Row::default() })
    }

    /// Sends packets, waits for the last, and notes what they cost.
    fn turn(&mut self, packets: u64) -> Result<()> {
        let before = Cost::so_far(self.process)?;
        self.traffic.resume();
        self.traffic.set_rate(RATE);
        let enough = self.sent + packets;
        until("the packets of a turn", TURN_LIMIT, || {
            (self.traffic.sent() >= enough).then_some(())
        })?;
        let report = self.traffic.settle()?;
        let cost = Cost::so_far(self.process)? - before;
        let sent = (report.sent - self.sent) as f64;
        self.sent = report.sent;
        self.row.cpu_ns.push(cost.cpu_ns as f64 / sent);
        self.row.waited_ns.push(cost.waited_ns as f64 / sent);
        Ok(())
    }
}

fn sockets(topology: &Topology) -> Result<Vec<PacketSocket>> {
    let filter = arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
    topology.hosts.iter().take(HOSTS).map(|host| host.socket(&filter)).collect()
}

impl Table {
    /// CPU time of a packet in Weir over that in the kernel, in medians of all rounds; what the
    /// traffic costs without a router is taken off both.
    fn ratio(&self, weir: &Row) -> f64 {
        let [cable, kernel, weir] =
            [&self.cable, &self.kernel, weir].map(|row| quartiles(&row.cpu_ns)[1]);
        (weir - cable) / (kernel - cable)
    }

    /// The same in each round by itself: differences of single turns, so these spread widely.
    fn ratios(&self, weir: &Row) -> Vec<f64> {
        let own = |row: &Row| {
            let pairs = row.cpu_ns.iter().zip(&self.cable.cpu_ns);
            pairs.map(|(with, without)| with - without).collect::<Vec<_>>()
        };
        let pairs = own(weir).into_iter().zip(own(&self.kernel));
        pairs.map(|(weir, kernel)| weir / kernel).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { rounds, packets, seed } = self.plan;
        writeln!(
            f,
            "Forwarding over veth, CPU time a packet in nanoseconds: median (quartiles) of \
             {rounds} rounds in turn,\n{packets} packets each, frames of {:.0} bytes on average, \
             {FLOWS} flows, one Weir worker and instance, seed {seed}\n",
            self.frame_bytes
        )?;
        writeln!(f, "{:<22}{:>24}{:>16}{:>22}", "", "in all", "router's own", "run-queue delay")?;
        let cable = quartiles(&self.cable.cpu_ns)[1];
        for (name, row) in [
            ("cable, no router", &self.cable),
            ("Linux IP forwarding", &self.kernel),
            ("Weir, AF_XDP socket", &self.weir),
            ("Weir, live frames", &self.live),
        ] {
            let [low, median, high] = quartiles(&row.cpu_ns);
            let own = median - cable;
            let waited = quartiles(&row.waited_ns)[1];
            let all = format!("{median:.0} ({low:.0} to {high:.0})");
            writeln!(f, "{name:<22}{all:>24}{own:>16.0}{waited:>22.0}")?;
        }
        writeln!(f)?;
        for (name, row) in [("Weir", &self.weir), ("Weir by live frames", &self.live)] {
            let [low, _, high] = quartiles(&self.ratios(row));
            let ratio = self.ratio(row);
            writeln!(
                f,
                "{name} / Linux, router's own: {ratio:.2} (single rounds {low:.2} to {high:.2})"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_what_the_routers_add() {
        let row = |cpu_ns: &[f64]| Row { cpu_ns: cpu_ns.to_vec(), waited_ns: vec![0.0; 2] };
        let table = Table {
            plan: Plan { rounds: 2, packets: 1, seed: 1 },
            frame_bytes: 60.0,
            cable: row(&[100.0, 200.0]),
            kernel: row(&[150.0, 300.0]),
            weir: row(&[200.0, 500.0]),
            live: row(&[150.0, 250.0]),
        };
        assert_eq!(table.ratios(&table.weir), [2.0, 3.0]);
        // The upper of two is their median here: (500 - 200) / (300 - 200), (250 - 200) / (300 - 200).
        assert!((table.ratio(&table.weir) - 3.0).abs() < 1e-9);
        assert!((table.ratio(&table.live) - 0.5).abs() < 1e-9);
        assert!(table.to_string().contains("Weir / Linux"));
    }

    #[test]
    #[ignore = "needs root"]
    fn the_kernel_and_weir_are_measured_in_one_run() {
        let table = run(Plan { rounds: 3, packets: 5_000, seed: 1 }).unwrap();
        println!("{table}");
        assert_eq!(table.ratios(&table.live).len(), 3);
        let rows = [&table.cable, &table.kernel, &table.weir, &table.live];
        assert!(rows.map(|row| quartiles(&row.cpu_ns)[1]).iter().all(|cpu_ns| *cpu_ns > 0.0));
    }
}
