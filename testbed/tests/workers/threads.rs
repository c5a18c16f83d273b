//! Workers on threads of their own, with many moves that end at the same time: each end is counted,
//! and no packet is lost or out of order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BUCKETS, InstanceId, MoveId, Nanos, PortId, Selection};
use weir_testbed::memory_node::{MemoryNode, Plan, host};
use weir_testbed::wait::{Deadline, LIMIT};

use super::{drops_at_rest, packet, settle, take};

const WORKERS: usize = 4;
/// Moves at one time, of as many buckets each.
const MOVES: usize = 32;
const ROUNDS: usize = 20;
/// Flows; the packets of one come in by one queue.
const FLOWS: u16 = 200;
/// Packets between the wires.
const OUTSTANDING: u64 = 128;
const IN: PortId = PortId(0);
const OUT: PortId = PortId(1);

/// Ends the threads, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Instances on all workers.
fn instances(stepped: &mut MemoryNode) -> Vec<InstanceId> {
    let change = api::Change::default();
    let made = |n: usize| {
        let made = stepped.node.create_instance(&change, &format!("i{n}"), 0).unwrap();
        stepped.settle();
        let id = InstanceId(u8::try_from(made.id).unwrap());
        stepped.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
        id
    };
    (1..WORKERS).map(made).collect()
}

/// Traffic whose packets are numbered by flow.
struct Load {
    sent: BTreeMap<u16, u32>,
    left: BTreeMap<u16, u32>,
    outstanding: u64,
}

impl Load {
    fn turn(&mut self, stepped: &mut MemoryNode, rng: &mut fastrand::Rng) {
        for _ in 0..8 {
            let flow = rng.u16(..FLOWS);
            let number = self.sent.entry(flow).or_insert(0);
            let packet = packet(1000 + flow, host(1), &number.to_be_bytes());
            let wire = stepped.wires.get_mut(&(IN, flow % WORKERS as u16)).unwrap();
            if self.outstanding < OUTSTANDING && wire.inject(&packet) {
                (*number, self.outstanding) = (*number + 1, self.outstanding + 1);
            }
        }
        let out = take(stepped, OUT);
        self.has_left(&out);
    }

    /// Each must be the next of its flow.
    fn has_left(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            let flow = u16::from_be_bytes([packet[34], packet[35]]) - 1000;
            let next = self.left.entry(flow).or_insert(0);
            assert_eq!(u32::from_be_bytes(*packet.last_chunk().unwrap()), *next, "flow {flow}");
            (*next, self.outstanding) = (*next + 1, self.outstanding - 1);
        }
    }
}

/// Moves of all buckets, a share each, from one instance to others or back.
fn start(stepped: &mut MemoryNode, others: &[InstanceId], out: bool) -> Vec<MoveId> {
    let each = BUCKETS / MOVES;
    let begin = |n: usize| {
        let buckets = format!("{}-{}", n * each, (n + 1) * each - 1);
        let other = others[n % others.len()];
        let (from, to) = if out { (FIRST, other) } else { (other, FIRST) };
        let request = Request::new(from, to, Selection::Buckets(buckets.parse().unwrap()));
        let begun = stepped.node.start_move(&api::Change::default(), request, true, stepped.now);
        MoveId(begun.unwrap().id)
    };
    (0..MOVES).map(begin).collect()
}

#[test]
fn moves_that_end_at_once_on_threads_of_their_own_are_each_counted_and_lose_nothing() {
    let seed = weir_seed::seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut plan = Plan { workers: WORKERS, queues: WORKERS as u16, ..Plan::default() };
    (plan.frames, plan.port_ring, plan.limits.moves_max) = (8192, 256, MOVES);
    // Threads may have no turn for as long as this machine likes, also the one that knows the host.
    plan.parked = 1024;
    plan.limits.step_timeout = std::time::Duration::from_hours(1);
    let mut stepped = MemoryNode::new(&plan, seed);
    let others = instances(&mut stepped);
    let mut load = Load { sent: BTreeMap::new(), left: BTreeMap::new(), outstanding: 0 };
    let (clock, stop) = (AtomicU64::new(stepped.now.0), AtomicBool::new(false));
    let workers = std::mem::take(&mut stepped.workers);
    let back: Vec<_> = thread::scope(|scope| {
        let run = |mut worker: weir_dataplane::worker::Worker| {
            while !stop.load(Ordering::Relaxed) {
                worker.poll(Nanos(clock.load(Ordering::Relaxed)));
                thread::yield_now();
            }
            worker
        };
        let threads: Vec<_> =
            workers.into_values().map(|worker| scope.spawn(move || run(worker))).collect();
        let stopping = Stop(&stop);
        for round in 0..ROUNDS {
            let before = load.left.len() as u64;
            let moves = start(&mut stepped, &others, round % 2 == 0);
            let ended = |stepped: &MemoryNode, id: &MoveId| {
                stepped.node.show_move(*id).unwrap().ended_ns > 0
            };
            let deadline = Deadline::after(LIMIT);
            while !moves.iter().all(|id| ended(&stepped, id)) {
                assert!(!deadline.left().is_zero(), "{:?}", stepped.node.list_moves());
                stepped.step_node();
                load.turn(&mut stepped, &mut rng);
                stepped.now.0 += 1_000;
                clock.store(stepped.now.0, Ordering::Relaxed);
            }
            let shown = moves.iter().map(|id| stepped.node.show_move(*id).unwrap());
            let shown: Vec<_> = shown.collect();
            assert!(shown.iter().all(|moved| moved.phase() == api::MovePhase::Done), "{shown:?}");
            let buckets: u32 = shown.iter().map(|moved| moved.buckets_moved).sum();
            assert_eq!(buckets as usize, BUCKETS, "round {round}");
            let flows: u64 = shown.iter().map(|moved| moved.flows).sum();
            let known = load.sent.values().filter(|sent| **sent > 0).count() as u64;
            assert!(before <= flows && flows <= known, "{before}, {flows}, {known}");
        }
        drop(stopping);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    stepped.workers = back.into_iter().map(|worker| (worker.id(), worker)).collect();
    let rest = settle(&mut stepped, OUT);
    load.has_left(&rest);
    assert_eq!(load.outstanding, 0);
    assert_eq!(load.left, load.sent.into_iter().filter(|(_, sent)| *sent > 0).collect());
    assert_eq!(drops_at_rest(&stepped), Ok(BTreeMap::new()));
    println!("{} moves, {} packets", ROUNDS * MOVES, load.left.values().sum::<u32>());
}
