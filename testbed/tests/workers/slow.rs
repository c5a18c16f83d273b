//! A worker that is too slow for those that transmit by its queues: what waits for it is bounded.

use std::collections::BTreeMap;

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_dataplane::worker::ASIDE;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BucketSet, InstanceId, MoveId, PortId, Selection, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host};

use crate::{drops_at_rest, packet, settle, take};

/// Transmits for the second; polled now and then.
const SLOW: WorkerId = WorkerId(0);
/// Receives everything, and hands it to the worker that runs the instance.
const RECEIVES: WorkerId = WorkerId(1);
/// Runs the instance, and has no queue of its own: the third of two queues a port.
const FORWARDS: WorkerId = WorkerId(2);
const IN: (PortId, u16) = (PortId(0), 1);
const OUT: PortId = PortId(1);
const RING: usize = 64;
const BURST: u16 = 32;
const FLOWS: u16 = 8;

/// Packets of some flows through the three workers, numbered by flow.
struct Stream {
    stepped: MemoryNode,
    /// Has all flows at first.
    instance: InstanceId,
    /// At the worker that receives.
    other: InstanceId,
    sent: Vec<u16>,
    /// Packets that the port could not receive: nobody took those before them.
    turned_away: u64,
    /// The last number that has left, by flow.
    left: BTreeMap<u16, u16>,
    taken: u64,
    /// The most packets in the rings between workers and outside them at one time.
    peak: u64,
}

impl Stream {
    /// Three workers with an instance each; the one without a queue has all flows.
    fn new() -> Self {
        // The transmit ring of the port has room for all that may wait for its worker.
        let mut plan =
            Plan { workers: 3, queues: 2, frames: 16_384, port_ring: 512, ..Plan::default() };
        plan.limits.ring = RING;
        plan.limits.hold = 4096;
        let mut stepped = MemoryNode::new(&plan, 1);
        let change = api::Change::default();
        let mut at = BTreeMap::new();
        for name in ["second", "third"] {
            let made = stepped.node.create_instance(&change, name, 0).unwrap();
            stepped.settle();
            let id = InstanceId(made.id as u8);
            stepped.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
            at.insert(made.worker, id);
        }
        let [instance, other] = [FORWARDS, RECEIVES].map(|worker| at[&u32::from(worker.0)]);
        let mut stream = Self {
            stepped,
            instance,
            other,
            sent: vec![0; usize::from(FLOWS)],
            turned_away: 0,
            left: BTreeMap::new(),
            taken: 0,
            peak: 0,
        };
        let moved = stream.start_move(FIRST, instance);
        stream.stepped.settle();
        assert_eq!(stream.phase(moved), api::MovePhase::Done);
        stream
    }

    fn start_move(&mut self, from: InstanceId, to: InstanceId) -> MoveId {
        let request = Request::new(from, to, Selection::Buckets(BucketSet::all()));
        let (change, now) = (api::Change::default(), self.stepped.now);
        MoveId(self.stepped.node.start_move(&change, request, false, now).unwrap().id)
    }

    fn phase(&self, id: MoveId) -> api::MovePhase {
        self.stepped.node.show_move(id).unwrap().phase()
    }

    /// A burst comes in, and the workers take their turns; the slow one when it is told to.
    fn round(&mut self, slow_too: bool) {
        for n in 0..BURST {
            let flow = n % FLOWS;
            let number = self.sent[usize::from(flow)] + 1;
            let name = [flow.to_be_bytes(), number.to_be_bytes()].concat();
            let packet = packet(1000 + flow, host(1), &name);
            if self.stepped.wires.get_mut(&IN).unwrap().inject(&packet) {
                self.sent[usize::from(flow)] = number;
            } else {
                self.turned_away += 1;
            }
        }
        self.stepped.now.0 += 10_000;
        self.stepped.step_node();
        self.stepped.step_worker(RECEIVES);
        self.stepped.step_worker(FORWARDS);
        if slow_too {
            self.stepped.step_worker(SLOW);
        }
        let frames = self.stepped.node.counters().frames;
        let waiting = frames.iter().find(|place| place.place == "handover_rings").unwrap();
        self.peak = self.peak.max(waiting.frames);
        let taken = take(&mut self.stepped, OUT);
        self.judge(&taken);
    }

    /// Order within each flow is kept.
    fn judge(&mut self, taken: &[Vec<u8>]) {
        for packet in taken {
            let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            let end = packet.len();
            let (flow, number) = (number(end - 4), number(end - 2));
            let before = self.left.insert(flow, number);
            assert!(before < Some(number), "flow {flow}: {number} after {before:?}");
        }
        self.taken += taken.len() as u64;
    }

    /// Comes to rest; what was dropped.
    fn finish(&mut self) -> BTreeMap<String, u64> {
        let taken = settle(&mut self.stepped, OUT);
        self.judge(&taken);
        let drops = drops_at_rest(&self.stepped).unwrap();
        let sent: u64 = self.sent.iter().map(|sent| u64::from(*sent)).sum();
        assert_eq!(self.taken + drops.values().sum::<u64>(), sent, "{drops:?}");
        drops
    }
}

/// A burst in hand, the ring to the instance and the ring to the slow worker, with what may wait
/// outside each.
const MOST: u64 = (BURST as usize + 2 * RING + ASIDE) as u64;

#[test]
fn what_waits_for_a_slow_worker_is_bounded_and_dropped_by_name() {
    // It takes no turn at all, or one in so many rounds.
    for pace in [u32::MAX, 4, 16] {
        let mut stream = Stream::new();
        for round in 1..400 {
            stream.round(round % pace == 0);
        }
        // All that may wait does, and no port is short of frames.
        assert_eq!(stream.turned_away, 0, "pace {pace}");
        let least = (RING + ASIDE) as u64;
        assert!((least..=MOST).contains(&stream.peak), "{} of {MOST}", stream.peak);
        let drops = stream.finish();
        assert_eq!(drops.keys().collect::<Vec<_>>(), ["tx_handover_full"], "pace {pace}");
    }
}

#[test]
fn what_fits_outside_the_ring_is_not_dropped() {
    let mut stream = Stream::new();
    for _ in 0..(RING + ASIDE) / usize::from(BURST) {
        stream.round(false);
    }
    assert_eq!(stream.finish(), BTreeMap::new());
}

#[test]
fn a_move_ends_while_the_ring_to_a_slow_worker_overflows() {
    let mut stream = Stream::new();
    let mut started = None;
    for round in 1..400 {
        if round == 100 {
            started = Some(stream.start_move(stream.instance, stream.other));
        }
        stream.round(round % 4 == 0);
    }
    let drops = stream.finish();
    assert_eq!(drops.keys().collect::<Vec<_>>(), ["tx_handover_full"]);
    assert_eq!(stream.phase(started.unwrap()), api::MovePhase::Done);
}
