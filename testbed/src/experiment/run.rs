//! One run: a data plane with network functions between the clients' and the servers' host, and
//! all packets through it, with moves or without.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use weir_api::dataplane::v1::{Guarantee, Move, MovePhase};

use super::conversations::{Conversations, SAPS};
use super::logs::Logs;
use super::player::{Played, Player};
use super::replay::Tally;
use crate::command::ip;
use crate::cost::Cost;
use crate::dataplane::{Dataplane, Selection};
use crate::demo::Cancel;
use crate::node::{Node, Shape};
use crate::packet_socket::{PacketSocket, arriving};
use crate::topology::{HOST_DEVICE, Topology, device};

/// Which flows are moved: all that there are of HTTP.
pub(super) const MOVED: &str = "proto=tcp";

/// How the data plane is preferred to the hosts (see [`Shape::nice`]): ten times as much of a core
/// that they share.
pub(super) const NICE: i8 = -10;

/// What came of a run.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) figures: Run,
    pub(super) moves: Vec<Moved>,
    pub(super) logs: Logs,
}

/// The figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// What became of the packets.
    pub packets: Tally,
    /// Packets a second that were sent.
    pub rate: f64,
    /// Packets that the router dropped, by reason, but for those that hosts send to their own link.
    pub drops: Vec<String>,
    /// Packets that the kernel dropped in front of the router.
    pub overload: u64,
    /// CPU time of the data plane, in nanoseconds a packet.
    pub cpu_ns_a_packet: f64,
    /// Time that threads of the data plane were ready and had no core, in nanoseconds a packet.
    pub waited_ns_a_packet: f64,
    /// Connections and transactions that were logged.
    pub entries: usize,
}

/// A move.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Moved {
    /// Whether it came to its end.
    pub done: bool,
    /// From start to end, in microseconds.
    pub took_us: f64,
    /// Of it, until steering led to the destination: both ends prepared, and rules were made. This and
    /// the next two are 0 if it was undone.
    pub steer_us: f64,
    /// From there until the source had no packet of the flows any more.
    pub drain_us: f64,
    /// From there to the end: the state was handed over.
    pub hand_over_us: f64,
    /// Directed flows, two of each connection.
    pub flows: u64,
    /// Packets that the node received from start to end.
    pub packets_during: u64,
    /// Packets that were held.
    pub held: u64,
    /// Packets that were held at one time.
    pub held_max: u64,
    /// Half of the packets that were held were so for less, in microseconds.
    pub hold_p50_us: f64,
    /// The longest that a packet was held, in microseconds.
    pub hold_max_us: f64,
    /// CPU time of the data plane from before it was asked for to after it was told to be over, in
    /// microseconds: of the packets and calls meanwhile too.
    pub cpu_us: f64,
    /// Time that threads of the data plane meanwhile were ready and had no core, in microseconds.
    pub waited_us: f64,
}

/// How often to move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Packets a second.
    pub(super) rate: u64,
    /// Moves, to and fro in turn, at equal distances while all conversations are open.
    pub(super) moves: usize,
}

/// Replays the packets through one instance, or through two when there are to be moves. The folder
/// `log` is left with the log of the data plane and, below `nf`, those of the instances.
///
/// # Errors
/// Without root, when the data plane does not come up or a move is refused, or when the user has
/// asked to stop.
pub(super) fn run(
    all: &Arc<Conversations>,
    plan: Plan,
    log: &Path,
    cancel: &Cancel,
) -> Result<Outcome> {
    let logs = empty_folder(log)?;
    let shape = Shape { addresses, tables: tables(&logs), nice: NICE, ..Shape::default() };
    let topology = Topology::new(shape.queues)?;
    readdress(&topology)?;
    let node = Node::start(&topology, &shape, Some(log))?;
    let dataplane = node.connect()?;
    warm_up(&topology)?;
    let first = dataplane.instances()?.first().context("no instance")?.id;
    let ways = if plan.moves > 0 {
        let second = dataplane.add_instance("second")?.id;
        [(first, second), (second, first)]
    } else {
        [(first, first); 2]
    };

    let pid = node.dataplane.pid();
    let before = Cost::of_process(pid)?;
    let player = Player::start(all, sockets(&topology)?, plan.rate)?;
    let open = all.all_open();
    let mut moves = Vec::with_capacity(plan.moves);
    for (number, (from, to)) in ways.into_iter().cycle().take(plan.moves).enumerate() {
        player.wait_for(open.start + open.len() * (number + 1) / (plan.moves + 1), cancel)?;
        moves.push(make(&dataplane, pid, from, to)?);
    }
    let played = player.finish()?;
    cancel.check()?;
    let cost = Cost::of_process(pid)? - before;

    let balance = dataplane.balance_at_rest()?;
    let mut figures = Run { overload: balance.overload, ..figures(&played, cost) };
    figures.drops = transit_drops(&dataplane)?;
    node.stop()?;
    let logs = Logs::read(&logs)?;
    figures.entries = logs.len();
    Ok(Outcome { figures, moves, logs })
}

/// Makes a move and measures it.
fn make(dataplane: &Dataplane, pid: u32, from: u32, to: u32) -> Result<Moved> {
    let before = Cost::of_process(pid)?;
    let selection = Selection::Filter(MOVED.to_owned());
    let ended = dataplane.make_move(from, to, selection, Guarantee::Ordered)?;
    let cost = Cost::of_process(pid)? - before;
    ensure!(ended.ended_ns > 0, "the move has no end: {ended:?}");
    Ok(Moved { cpu_us: micros(cost.cpu_ns), waited_us: micros(cost.waited_ns), ..moved(&ended) })
}

fn moved(ended: &Move) -> Moved {
    let done = ended.phase() == MovePhase::Done;
    // One that was undone has not come to all of them.
    let phase = |from: u64, to: u64| if done { micros(to.saturating_sub(from)) } else { 0.0 };
    Moved {
        done,
        took_us: micros(ended.ended_ns - ended.started_ns),
        steer_us: phase(ended.started_ns, ended.flipped_ns),
        drain_us: phase(ended.flipped_ns, ended.drained_ns),
        hand_over_us: phase(ended.drained_ns, ended.ended_ns),
        flows: ended.flows,
        packets_during: ended.packets_during,
        held: ended.held,
        held_max: ended.held_max,
        hold_p50_us: micros(ended.hold_p50_ns),
        hold_max_us: micros(ended.hold_max_ns),
        ..Moved::default()
    }
}

fn figures(played: &Played, cost: Cost) -> Run {
    let packets = played.tally.sent.max(1) as f64;
    Run {
        packets: played.tally,
        rate: packets / played.took.max(Duration::from_nanos(1)).as_secs_f64(),
        cpu_ns_a_packet: cost.cpu_ns as f64 / packets,
        waited_ns_a_packet: cost.waited_ns as f64 / packets,
        ..Run::default()
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Networks that no conversation has.
fn addresses(sap: usize) -> [String; 2] {
    [format!("100.127.{sap}.1/24"), format!("2001:db8:ffff:{sap}::1/64")]
}

/// Where the host of an end is.
fn host(sap: usize) -> String {
    format!("100.127.{sap}.2")
}

/// The folder for the logs of the instances, without those of an earlier run: they would go on.
fn empty_folder(log: &Path) -> Result<PathBuf> {
    fs::create_dir_all(log)?;
    let logs = fs::canonicalize(log)?.join("nf");
    if logs.exists() {
        fs::remove_dir_all(&logs)?;
    }
    Ok(logs)
}

/// What the instances run, and the routes to both ends.
fn tables(logs: &Path) -> String {
    let route = |prefix: &str, sap: usize| {
        let (via, port) = (host(sap), device(sap));
        format!("[[route]]\nprefix = \"{prefix}\"\nvia = \"{via}\"\nport = \"{port}\"\n\n")
    };
    let [clients, servers] = SAPS;
    format!(
        "[[nf]]\nkind = \"ids\"\nlogs = \"{}\"\n\n{}{}",
        logs.display(),
        route("10.0.0.0/8", clients),
        route("0.0.0.0/0", servers)
    )
}

/// Takes the hosts' own addresses away: they are clients' of the capture, whose packets a kernel
/// must not answer.
fn readdress(topology: &Topology) -> Result<()> {
    for (sap, host_namespace) in topology.hosts.iter().enumerate() {
        let name = host_namespace.namespace.name();
        ip(&format!("-n {name} address flush dev {HOST_DEVICE}"))?;
        ip(&format!("-n {name} address add {}/24 dev {HOST_DEVICE}", host(sap)))?;
        ip(&format!("-n {name} route add 100.127.0.0/16 via 100.127.{sap}.1"))?;
    }
    Ok(())
}

/// Lets both hosts reach each other once, so that neighbours are known.
fn warm_up(topology: &Topology) -> Result<()> {
    for [from, to] in [SAPS, [SAPS[1], SAPS[0]]] {
        let ping = format!("ping -n -q -c 1 -W 10 {}", host(to));
        topology.hosts[from].namespace.run(&ping).context("a host does not reach the other")?;
    }
    Ok(())
}

fn sockets(topology: &Topology) -> Result<[PacketSocket; 2]> {
    let [clients, servers] = SAPS.map(|sap| topology.hosts[sap].socket(&arriving()));
    Ok([clients?, servers?])
}

fn transit_drops(dataplane: &Dataplane) -> Result<Vec<String>> {
    let to_the_link = ["link_scope", "multicast_unsupported"];
    let drops = dataplane.counters()?.drops.into_iter();
    let transit = drops.filter(|d| d.packets > 0 && !to_the_link.contains(&d.reason.as_str()));
    Ok(transit.map(|drop| format!("{} {}", drop.packets, drop.reason)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_was_undone_has_no_phases() {
        let times =
            Move { started_ns: 1_000, flipped_ns: 2_000, ended_ns: 9_000, ..Move::default() };
        let undone = moved(&Move { phase: MovePhase::Undone.into(), ..times.clone() });
        assert_eq!((undone.took_us, undone.done), (8.0, false));
        assert_eq!((undone.steer_us, undone.drain_us, undone.hand_over_us), (0.0, 0.0, 0.0));
        let done = moved(&Move { phase: MovePhase::Done.into(), drained_ns: 5_000, ..times });
        assert_eq!((done.steer_us, done.drain_us, done.hand_over_us), (1.0, 3.0, 4.0));
    }
}
