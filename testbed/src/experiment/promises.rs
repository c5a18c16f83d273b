//! OpenNF's table of what guarantees cost: 500 flows through an intrusion detection, moved with
//! nothing promised, loss-free, and with their order kept too.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use weir_api::dataplane::v1::{Guarantee, Move, MovePhase};
use weir_dataplane::instance::digest::digest;

use super::report::median;
use super::run::NICE;
use crate::dataplane::{Dataplane, Selection};
use crate::demo::Cancel;
use crate::flow::DESTINATION_PORTS;
use crate::node::{Node, Shape};
use crate::packet_socket::arriving_udp;
use crate::topology::Topology;
use crate::traffic::{self, Latency, Options, Traffic};
use crate::wait;

/// Flows of the published table.
const FLOWS: usize = 500;
/// Packets a second of the published table.
const RATES: [u64; 2] = [2_500, 10_000];
/// What is promised, the least first.
pub(super) const GUARANTEES: [Guarantee; 3] =
    [Guarantee::None, Guarantee::LossFree, Guarantee::Ordered];
/// Packets before the first move: so many that each flow has had one.
const BEFORE: u64 = 9_000;
/// From the end of a move to the next: packets that were held have arrived by then.
const PAUSE: Duration = Duration::from_millis(60);
/// Packets that may be lost before their credit must be given back: less than half of it.
const LOST_MAX: u64 = 50;

/// What moves of one guarantee did at one rate.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Promise {
    /// What was promised: `none`, `loss-free` or `ordered`.
    pub guarantee: String,
    /// Packets a second that were asked for.
    pub rate: u64,
    /// Times of the moves from start to end, in microseconds.
    pub took_us: Vec<f64>,
    /// Moves that were undone.
    pub undone: usize,
    /// Fewest flows that a move has moved.
    pub flows_min: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that did not arrive.
    pub lost: u64,
    /// Packets that the router dropped because the state of their flow was on its way.
    pub in_transit: u64,
    /// Packets that it dropped for another reason, or the kernel in front of it.
    pub dropped_otherwise: u64,
    /// Packets that arrived twice, or where they should not.
    pub unexpected: u64,
    /// Packets that arrived behind a later one of their flow.
    pub reordered: u64,
    /// Packets that were held, over all moves.
    pub held: u64,
    /// The average time that a packet was held, in microseconds: what the move adds to its latency.
    pub hold_mean_us: f64,
    /// The longest that a packet was held, in microseconds.
    pub hold_max_us: f64,
    /// Packets that arrived around moves: from when one was asked for to a while after its end.
    pub around: Times,
    /// Packets that arrived at other times.
    pub apart: Times,
}

/// One-way latencies from host to host, in microseconds, as the hosts see them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Packets.
    pub packets: u64,
    /// Their average.
    pub mean_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Promise {
    /// The move in the middle, in milliseconds.
    pub(super) fn move_ms(&self) -> f64 {
        median(self.took_us.iter().copied()) / 1e3
    }

    /// What was not as promised, or not counted.
    pub(super) fn faults(&self) -> Vec<String> {
        let name = format!("{} at {} packets/s", self.guarantee, self.rate);
        let promises_order = self.guarantee == self::name(Guarantee::Ordered);
        let lost_silently = self.lost.abs_diff(self.in_transit);
        let promises_none = self.guarantee == self::name(Guarantee::None);
        let must_be_none = [
            (if promises_none { 0 } else { self.lost }, "packets lost"),
            (lost_silently, "packets lost and not counted"),
            (self.dropped_otherwise, "packets dropped for other reasons"),
            (self.unexpected, "packets not expected"),
            (if promises_order { self.reordered } else { 0 }, "packets reordered"),
            (self.undone as u64, "moves undone"),
            (u64::from(self.took_us.is_empty()), "runs without a move"),
            (FLOWS as u64 - self.flows_min.min(FLOWS as u64), "flows not moved"),
        ];
        let found = must_be_none.into_iter().filter(|(count, _)| *count > 0);
        found.map(|(count, what)| format!("{count} {what} with {name}")).collect()
    }
}

impl Times {
    fn add(&mut self, latency: &Latency) {
        let packets = self.packets + latency.packets;
        let all =
            self.mean_us * self.packets as f64 + latency.mean_ns / 1e3 * latency.packets as f64;
        self.mean_us = all / packets.max(1) as f64;
        self.max_us = self.max_us.max(latency.max_ns as f64 / 1e3);
        self.packets = packets;
    }
}

/// The name of a guarantee.
pub(super) fn name(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::None => "none",
        Guarantee::LossFree => "loss-free",
        Guarantee::Ordered | Guarantee::Unspecified => "ordered",
    }
}

/// Makes so many moves of each guarantee at each rate. The folder `log` is left with the logs of
/// the data planes.
///
/// # Errors
/// Without root, when a data plane does not come up or a move is refused, or when the user has
/// asked to stop.
pub(super) fn run(moves: usize, seed: u64, log: &Path, cancel: &Cancel) -> Result<Vec<Promise>> {
    let mut all = Vec::new();
    for rate in RATES {
        for guarantee in GUARANTEES {
            let log = log.join(format!("{}-{rate}", name(guarantee)));
            all.push(one(guarantee, rate, moves, seed, &log, cancel)?);
        }
    }
    Ok(all)
}

fn one(
    guarantee: Guarantee,
    rate: u64,
    moves: usize,
    seed: u64,
    log: &Path,
    cancel: &Cancel,
) -> Result<Promise> {
    fs::create_dir_all(log)?;
    let logs = fs::canonicalize(log)?.join("nf");
    let tables = format!("[[nf]]\nkind = \"ids\"\nlogs = \"{}\"\n\n", logs.display());
    let shape = Shape { tables, nice: NICE, ..Shape::default() };
    let topology = Topology::new(shape.queues)?;
    let node = Node::start(&topology, &shape, Some(log))?;
    let dataplane = node.connect()?;
    traffic::warm_up(&topology)?;
    let first = dataplane.instances()?.first().context("no instance")?.id;
    let second = dataplane.add_instance("second")?.id;

    let filter = arriving_udp(*DESTINATION_PORTS.start(), *DESTINATION_PORTS.end());
    let sockets = topology.hosts.iter().take(2).map(|host| host.socket(&filter));
    let traffic =
        Traffic::over(sockets.collect::<Result<_>>()?, Options::new(FLOWS, rate, seed, digest))?;
    let promise = Promise { guarantee: name(guarantee).to_owned(), rate, ..Promise::default() };
    let mut watched = Watched { traffic, promise, lost: 0 };
    wait::until("packets of each flow", wait::LIMIT, || {
        (watched.traffic.sent() >= BEFORE || cancel.check().is_err()).then_some(())
    })?;
    for (from, to) in [(first, second), (second, first)].into_iter().cycle().take(moves) {
        cancel.check()?;
        watched.make(&dataplane, from, to, guarantee)?;
    }
    let promise = watched.end(&dataplane)?;
    node.stop()?;
    Ok(promise)
}

/// Traffic, and what becomes of it.
struct Watched {
    traffic: Traffic,
    promise: Promise,
    /// Packets lost since the traffic last came to rest.
    lost: u64,
}

impl Watched {
    fn make(
        &mut self,
        dataplane: &Dataplane,
        from: u32,
        to: u32,
        guarantee: Guarantee,
    ) -> Result<()> {
        self.promise.apart.add(&self.traffic.latency()?);
        let flows = Selection::Filter("proto=udp".to_owned());
        let ended = dataplane.make_move(from, to, flows, guarantee)?;
        ensure!(ended.ended_ns > 0, "the move has no end: {ended:?}");
        wait::pause(&mut [], PAUSE)?;
        self.promise.around.add(&self.traffic.latency()?);
        self.promise.count(&ended);
        self.lost += ended.in_transit_drops;
        if self.lost > LOST_MAX {
            self.traffic.settle()?;
            self.traffic.resume();
            self.lost = 0;
        }
        wait::pause(&mut [], PAUSE)?;
        Ok(())
    }

    fn end(self, dataplane: &Dataplane) -> Result<Promise> {
        let Self { traffic, mut promise, .. } = self;
        let report = traffic.stop()?;
        (promise.sent, promise.lost) = (report.sent, report.lost);
        promise.reordered = report.tally.reordered;
        promise.unexpected = report.tally.duplicated + report.tally.stray;
        let balance = dataplane.balance_at_rest()?;
        let to_the_link = ["link_scope", "multicast_unsupported", "state_in_transit"];
        let drops = dataplane.counters()?.drops.into_iter();
        let others = drops.filter(|drop| !to_the_link.contains(&drop.reason.as_str()));
        promise.dropped_otherwise = others.map(|drop| drop.packets).sum::<u64>() + balance.overload;
        Ok(promise)
    }
}

impl Promise {
    fn count(&mut self, ended: &Move) {
        let is_first = self.took_us.is_empty();
        self.took_us.push((ended.ended_ns - ended.started_ns) as f64 / 1e3);
        self.undone += usize::from(ended.phase() != MovePhase::Done);
        self.flows_min = if is_first { ended.flows } else { self.flows_min.min(ended.flows) };
        self.in_transit += ended.in_transit_drops;
        let held = self.held + ended.held;
        let all = self.hold_mean_us * self.held as f64
            + ended.hold_mean_ns as f64 / 1e3 * ended.held as f64;
        self.hold_mean_us = all / held.max(1) as f64;
        self.held = held;
        self.hold_max_us = self.hold_max_us.max(ended.hold_max_ns as f64 / 1e3);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What must be, of a guarantee.
    pub(in super::super) fn kept(guarantee: Guarantee) -> Promise {
        let (lost, reordered) = match guarantee {
            Guarantee::None => (7, 2),
            Guarantee::LossFree => (0, 5),
            Guarantee::Ordered | Guarantee::Unspecified => (0, 0),
        };
        Promise {
            guarantee: name(guarantee).to_owned(),
            rate: 2_500,
            took_us: vec![300.0, 500.0, 400.0],
            flows_min: 500,
            lost,
            in_transit: lost,
            reordered,
            ..Promise::default()
        }
    }

    #[test]
    fn each_guarantee_is_judged_by_what_it_promises() {
        for guarantee in GUARANTEES {
            assert_eq!(kept(guarantee).faults(), Vec::<String>::new());
        }
        let as_ordered =
            |promise: Promise| Promise { guarantee: "ordered".to_owned(), ..promise }.faults();
        assert_eq!(as_ordered(kept(Guarantee::LossFree)).len(), 1);
        assert_eq!(as_ordered(kept(Guarantee::None)).len(), 2);
        let silent = Promise { in_transit: 6, ..kept(Guarantee::None) };
        assert_eq!(silent.faults(), ["1 packets lost and not counted with none at 2500 packets/s"]);
        let few = Promise { flows_min: 499, undone: 1, ..kept(Guarantee::Ordered) };
        assert_eq!(few.faults().len(), 2);
    }

    #[test]
    fn averages_count_every_packet_once() {
        let mut promise = Promise::default();
        for (held, hold_mean_ns) in [(1, 1_000), (0, 0), (3, 5_000)] {
            promise.count(&Move { held, hold_mean_ns, ..Move::default() });
        }
        assert!((promise.hold_mean_us - 4.0).abs() < 1e-9, "{promise:?}");
        let mut times = Times::default();
        for (packets, mean_ns) in [(2, 1_000.0), (6, 3_000.0)] {
            times.add(&Latency { packets, mean_ns, ..Latency::default() });
        }
        assert!((times.mean_us - 2.5).abs() < 1e-9, "{times:?}");
    }
}
