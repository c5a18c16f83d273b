//! Schedules that are not left to chance: many moves at once, a port that is down, full steering.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod alike;
mod bounds;
mod churn;
mod copies;
mod idle;
mod multi_flow;
mod ping_pong;
mod subscriptions;
mod time_outs;
mod unaffected;
mod waiting;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Item, Message, Splice};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BucketSet, InstanceId, MoveId, PortId, Selection, WorkerId};

use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};
use crate::world::id_of;

/// Where everything random of a node comes from.
const SEED: u64 = 7;
/// What all moves of a worker may do in one poll round: as ARCHITECTURE.md says.
const BUDGET: usize = 64;
const MOVES: usize = 32;
/// Rounds in which a move of all buckets ends.
const REST: usize = 300;
/// The worker of the first instance, and the other.
const SOURCE: WorkerId = WorkerId(0);
const DESTINATION: WorkerId = WorkerId(1);
const IN: PortId = PortId(0);
const OUT: PortId = PortId(1);

/// A node with active instances on its second worker.
fn node(instances: usize) -> (MemoryNode, Vec<InstanceId>) {
    node_of(&Plan { port_ring: 1024, frames: 16_384, ..Plan::default() }, instances, DESTINATION)
}

/// A node with active instances on a worker.
fn node_of(plan: &Plan, instances: usize, on: WorkerId) -> (MemoryNode, Vec<InstanceId>) {
    let mut node = MemoryNode::new(plan, SEED);
    let (change, mut destinations) = (api::Change::default(), Vec::new());
    while destinations.len() < instances {
        let name = format!("i{}", node.node.list_instances(node.now).instances.len());
        let made = node.node.create_instance(&change, &name, 0).unwrap();
        node.settle();
        if made.worker == u32::from(on.0) {
            let id = id_of(&made);
            node.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
            destinations.push(id);
        }
    }
    (node, destinations)
}

fn start(node: &mut MemoryNode, to: InstanceId, buckets: &str) -> MoveId {
    start_any(node, FIRST, to, Selection::Buckets(buckets.parse::<BucketSet>().unwrap()))
}

fn start_by_port(node: &mut MemoryNode, from: InstanceId, to: InstanceId, sport: u16) -> MoveId {
    let filter = format!("proto=udp,sport={sport},symmetric=false");
    start_any(node, from, to, Selection::Filter(filter.parse().unwrap()))
}

fn start_any(
    node: &mut MemoryNode,
    from: InstanceId,
    to: InstanceId,
    selection: Selection,
) -> MoveId {
    let request = Request::new(from, to, selection);
    MoveId(node.node.start_move(&api::Change::default(), request, true, node.now).unwrap().id)
}

fn phase(node: &MemoryNode, id: MoveId) -> api::MovePhase {
    node.node.show_move(id).unwrap().phase()
}

/// Rounds of the node and the two workers, without time.
fn step(node: &mut MemoryNode, rounds: usize) {
    for _ in 0..rounds {
        node.step_node();
        node.step_worker(SOURCE);
        node.step_worker(DESTINATION);
    }
}

fn inject(node: &mut MemoryNode, queue: u16, sport: u16, payload: u8) {
    let packet = packet((IN, OUT), sport, payload);
    assert!(node.wires.get_mut(&(IN, queue)).unwrap().inject(&packet));
}

/// A packet from the host at one port to that at another.
fn packet((from, to): (PortId, PortId), sport: u16, payload: u8) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(from.0).0, port_mac(from.0).0)
        .ipv4(host(from.0).octets(), host(to.0).octets(), 64)
        .udp(sport, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[payload]).unwrap();
    packet
}

/// The next packet that has left, by its payload.
fn take(node: &mut MemoryNode, queue: u16) -> Option<u8> {
    node.take(OUT, queue).map(|packet| *packet.last().unwrap())
}

/// Everything that leaves by the port out until the node is at rest: what has left is taken in every
/// round, and no time passes while a move may be in progress.
fn rest_of(node: &mut MemoryNode) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut take = |node: &mut MemoryNode| {
        out.extend(std::iter::from_fn(|| (0..2).find_map(|queue| node.take(OUT, queue))));
    };
    for _ in 0..REST {
        take(node);
        step(node, 1);
    }
    for _ in 0..2 {
        node.settle();
        take(node);
    }
    node.settle();
    out
}

/// The same, by the payloads.
fn rest(node: &mut MemoryNode) -> Vec<u8> {
    rest_of(node).iter().map(|packet| *packet.last().unwrap()).collect()
}

/// Passes on what was sent to a worker; how many pieces of state.
fn pass(splice: &mut Splice) -> usize {
    let mut pieces = 0;
    while let Some(item) = splice.take() {
        pieces += match &item {
            Item::Move(_, Message::Bucket(..) | Message::Unknown(_)) => 1,
            Item::Move(_, Message::Flows(flows)) => flows.entries().len(),
            _ => 0,
        };
        splice.pass(item);
    }
    splice.flush();
    pieces
}

#[test]
fn many_moves_do_no_more_in_a_round_than_one_and_all_finish() {
    let (mut node, destinations) = node(MOVES);
    let mut splice = node.workers.get_mut(&DESTINATION).unwrap().splice(SOURCE, 8192).unwrap();
    let each = 4096 / MOVES;
    let bucket_ranges = (0..MOVES).map(|n| format!("{}-{}", n * each, (n + 1) * each - 1));
    let moves: Vec<_> = destinations
        .iter()
        .zip(bucket_ranges)
        .map(|(to, set)| start(&mut node, *to, &set))
        .collect();
    // Both ends prepare, the table flips, and packets are held at the destination.
    while moves.iter().any(|id| phase(&node, *id) != api::MovePhase::Draining) {
        node.step_worker(SOURCE);
        node.step_worker(DESTINATION);
        node.step_node();
    }
    node.step_worker(DESTINATION);
    for sport in 0..500 {
        inject(&mut node, DESTINATION.0.into(), 1000 + sport, 0);
    }
    while node.step_worker(DESTINATION) {}
    assert!(take(&mut node, 1).is_none(), "all are held");

    let (mut exported, mut rounds) = (0, 0);
    while exported < 4096 {
        node.step_worker(SOURCE);
        let pieces = pass(&mut splice);
        assert!(pieces <= BUDGET, "{pieces} pieces in a round");
        (exported, rounds) = (exported + pieces, rounds + 1);
        assert!(rounds < 10 * 4096 / BUDGET, "{exported} in {rounds} rounds");
    }
    let mut released = 0;
    while moves.iter().any(|id| phase(&node, *id) != api::MovePhase::Done) {
        node.step_worker(SOURCE);
        pass(&mut splice);
        node.step_worker(DESTINATION);
        node.step_node();
        let packets = std::iter::from_fn(|| take(&mut node, 1)).count();
        assert!(packets <= BUDGET, "{packets} packets in a round");
        (released, rounds) = (released + packets, rounds + 1);
        assert!(rounds < 40 * 4096 / BUDGET, "{released} released in {rounds} rounds");
    }
    assert_eq!(released, 500);
    node.settle();
    assert_eq!(node.node.counters().balance.unwrap().unaccounted, 0);
}

#[test]
fn a_port_that_is_down_holds_up_no_move_and_nothing_overtakes_what_waits_there() {
    let (mut node, destinations) = node(1);
    let link = |node: &MemoryNode, up: bool| {
        (0..2).for_each(|queue| node.wires[&(OUT, queue)].set_down(!up));
    };
    link(&node, false);
    for payload in 1..=3 {
        inject(&mut node, 0, 1000, payload);
    }
    node.settle();
    let id = start(&mut node, destinations[0], "0-4095");
    node.settle();
    assert_eq!(phase(&node, id), api::MovePhase::Done);

    inject(&mut node, 0, 1000, 4);
    node.settle();
    link(&node, true);
    inject(&mut node, 0, 1000, 5);
    node.settle();
    assert_eq!(take(&mut node, 1), None, "the old queue goes first");
    let old: Vec<_> = std::iter::from_fn(|| take(&mut node, 0)).collect();
    assert_eq!(old, [1, 2, 3]);
    node.settle();
    inject(&mut node, 0, 1000, 6);
    node.settle();
    assert_eq!((take(&mut node, 0), take(&mut node, 1)), (None, Some(6)));
    node.settle();

    let counters = node.node.counters();
    let drops: Vec<_> =
        counters.drops.iter().map(|drop| (drop.reason.as_str(), drop.packets)).collect();
    assert_eq!(drops, [("port_down", 2)]);
    let balance = counters.balance.unwrap();
    assert_eq!((balance.unaccounted, balance.in_rings), (0, 0), "{balance:?}");
}

#[test]
fn a_move_without_which_another_could_not_be_undone_is_given_up_and_may_be_repeated() {
    let (mut node, destinations) = node(1);
    let other = destinations[0];
    let rules = |node: &MemoryNode| node.node.show_steering().rules.len();
    for sport in 0..32 {
        start_by_port(&mut node, FIRST, other, 1000 + sport);
        node.settle();
    }
    assert_eq!(rules(&node), 32, "as many as there may be");
    inject(&mut node, 0, 1000, 1);
    node.settle();

    // Its packet lies on the wire, so that the move back may yet be undone.
    let back = start_by_port(&mut node, other, FIRST, 1000);
    step(&mut node, 20);
    assert_eq!((phase(&node, back), rules(&node)), (api::MovePhase::Draining, 31));
    let next = start_by_port(&mut node, FIRST, other, 2000);
    step(&mut node, 20);
    let shown = node.node.show_move(next).unwrap();
    assert_eq!(shown.phase(), api::MovePhase::Undone);
    assert!(shown.reason.contains("if another move were undone: repeat it"), "{shown:?}");
    node.node.undo_move(back, node.now).unwrap();
    step(&mut node, 20);
    assert_eq!((phase(&node, back), rules(&node)), (api::MovePhase::Undone, 32));

    let back = start_by_port(&mut node, other, FIRST, 1000);
    assert_eq!(take(&mut node, 1), Some(1));
    node.settle();
    let next = start_by_port(&mut node, FIRST, other, 2000);
    node.settle();
    assert_eq!([phase(&node, back), phase(&node, next)], [api::MovePhase::Done; 2]);
}
