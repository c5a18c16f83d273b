//! Flows that stay while others move: what a move does in a poll round has a bound, so that a burst
//! of theirs leaves in the round in which it comes, at either end of the move.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::{Item, Message};
use weir_state_transfer::steering_hash::random_key;
use weir_state_transfer::{
    BUCKETS, BucketSet, FlowKey, InstanceId, MoveId, Selection, ServiceId, SteeringHash, WorkerId,
    protocol,
};

use super::{BUDGET, DESTINATION, IN, OUT, SEED, SOURCE, node_of, pass, phase, start_any, take};
use crate::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

/// Flows that move, and packets of a burst of those that stay, each of a flow of its own.
const FLOWS: usize = 2_000;
const BURST: u8 = 32;
/// Items that a worker takes from a ring in one poll round: as ARCHITECTURE.md says.
const ITEMS: usize = 64;
/// More rounds than any of these moves takes.
const ROUNDS_MAX: usize = 2_000;
/// The last octets of who sends what moves, and of who sends what stays.
const MOVING: u8 = 9;
const STAYING: u8 = 10;

/// A node with two instances, each of which has flows that stay; the first has others too.
struct Staying {
    node: MemoryNode,
    other: InstanceId,
    /// The buckets of what stays at both.
    buckets: BucketSet,
}

impl Staying {
    fn new() -> Self {
        let plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
        let (node, destinations) = node_of(&plan, 1, DESTINATION);
        let mut staying = Self { node, other: destinations[0], buckets: BucketSet::empty() };
        let hash = SteeringHash::new(random_key(SEED));
        let of_worker = |worker: WorkerId| -> BucketSet {
            (0..BURST).map(|n| hash.bucket(&key(STAYING, port_of(worker, n)))).collect()
        };
        let there = of_worker(DESTINATION);
        staying.buckets = of_worker(SOURCE).union(&there);
        let stays = |sport: &u16| staying.buckets.contains(hash.bucket(&key(MOVING, *sport)));
        let moving: Vec<_> = (1_000..).filter(|sport| !stays(sport)).take(FLOWS).collect();
        // Each worker asks the owner of the port for the next hop once.
        for worker in [SOURCE, DESTINATION] {
            staying.send(worker, STAYING, port_of(worker, 0), 0);
            staying.node.settle();
            let left = (0..2).find_map(|queue| take(&mut staying.node, queue));
            assert_eq!(left, Some(0));
        }
        for sport in moving {
            staying.send(SOURCE, MOVING, sport, 0);
            staying.node.step_worker(SOURCE);
            assert_eq!(take(&mut staying.node, SOURCE.0.into()), Some(0));
        }
        staying.burst_leaves(SOURCE);
        let id = start_any(&mut staying.node, FIRST, staying.other, Selection::Buckets(there));
        staying.node.settle();
        assert_eq!(phase(&staying.node, id), api::MovePhase::Done);
        staying.burst_leaves(DESTINATION);
        staying
    }

    /// Begins to move the flows that do not stay.
    fn start(&mut self, selection: Selection) -> MoveId {
        start_any(&mut self.node, FIRST, self.other, selection)
    }

    fn send(&mut self, worker: WorkerId, sender: u8, sport: u16, payload: u8) {
        let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
            .ipv4(address(sender).octets(), host(OUT.0).octets(), 64)
            .udp(sport, 53);
        let mut packet = Vec::new();
        headers.write(&mut packet, &[payload]).unwrap();
        let wire = self.node.wires.get_mut(&(IN, worker.0.into())).unwrap();
        assert!(wire.inject(&packet));
    }

    /// A burst of what stays at a worker comes, and leaves in the round that follows.
    fn burst_leaves(&mut self, worker: WorkerId) {
        (0..BURST).for_each(|n| self.send(worker, STAYING, port_of(worker, n), n));
        self.node.step_worker(worker);
        let left = std::iter::from_fn(|| take(&mut self.node, worker.0.into()));
        assert_eq!(Vec::from_iter(left), Vec::from_iter(0..BURST), "at {worker:?}");
    }

    fn all_other_buckets(&self) -> Selection {
        Selection::Buckets(BucketSet::all().minus(&self.buckets))
    }
}

fn address(sender: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, IN.0, sender)
}

/// The port of a flow that stays at a worker.
fn port_of(worker: WorkerId, number: u8) -> u16 {
    5_000 + 1_000 * u16::from(worker.0) + u16::from(number)
}

fn key(sender: u8, sport: u16) -> FlowKey {
    FlowKey::v4(address(sender), host(OUT.0), (sport, 53), protocol::UDP, ServiceId(0))
}

#[test]
fn what_stays_leaves_in_the_round_it_comes_and_64_flows_or_buckets_go_in_a_round_at_most() {
    let by_filter: Selection =
        Selection::Filter(format!("proto=udp,src={}", address(MOVING)).parse().unwrap());
    for is_by_filter in [true, false] {
        let mut staying = Staying::new();
        let to_come = if is_by_filter { FLOWS } else { BUCKETS - staying.buckets.len() };
        let other_buckets = staying.all_other_buckets();
        let selection = if is_by_filter { by_filter.clone() } else { other_buckets };
        let destination = staying.node.workers.get_mut(&DESTINATION).unwrap();
        let mut splice = destination.splice(SOURCE, 8192).unwrap();
        let id = staying.start(selection);
        let mut rounds = BTreeSet::new();
        let (mut came, mut count) = (0, 0);
        while phase(&staying.node, id) != api::MovePhase::Done {
            staying.burst_leaves(SOURCE);
            let pieces = pass(&mut splice);
            staying.burst_leaves(DESTINATION);
            staying.node.step_node();
            rounds.insert(pieces);
            (came, count) = (came + pieces, count + 1);
            assert!(count < ROUNDS_MAX, "{came} of {to_come} have come");
        }
        assert_eq!(came, to_come);
        assert_eq!(rounds.last(), Some(&BUDGET), "pieces in a round: {rounds:?}");
        let shown = staying.node.node.show_move(id).unwrap();
        assert_eq!((shown.flows, shown.held_max), (FLOWS as u64, 0), "{shown:?}");
        let counters = staying.node.node.counters();
        assert!(counters.drops.is_empty(), "{:?}", counters.drops);
    }
}

#[test]
fn a_destination_that_is_behind_takes_in_64_items_in_a_round_at_most() {
    let mut staying = Staying::new();
    let destination = staying.node.workers.get_mut(&DESTINATION).unwrap();
    let mut splice = destination.splice(SOURCE, 8192).unwrap();
    let selection = staying.all_other_buckets();
    let id = staying.start(selection);
    let mut sent = Vec::new();
    while !sent.iter().any(|item| matches!(item, Item::Move(_, Message::End))) {
        staying.burst_leaves(SOURCE);
        sent.extend(std::iter::from_fn(|| splice.take()));
        staying.burst_leaves(DESTINATION);
        staying.node.step_node();
        assert!(sent.len() < 2 * BUCKETS, "no end");
    }
    let items = sent.len();
    sent.into_iter().for_each(|item| splice.pass(item));
    splice.flush();
    let mut rounds = 0;
    while phase(&staying.node, id) != api::MovePhase::Done {
        staying.burst_leaves(DESTINATION);
        staying.node.step_worker(SOURCE);
        pass(&mut splice);
        staying.node.step_node();
        rounds += 1;
        assert!(rounds < ROUNDS_MAX, "{:?}", staying.node.node.show_move(id));
    }
    let least = items.div_ceil(ITEMS);
    assert!((least..2 * least).contains(&rounds), "{items} items in {rounds} rounds");
}
