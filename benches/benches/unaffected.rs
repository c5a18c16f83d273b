//! How much longer does a burst take of flows that stay, while others move?
//!
//! The shipped node and two workers over memory rings, stepped in turn on one thread. In each turn a
//! burst of flows that stay comes to each worker, and the time of its poll rounds is noted until the
//! burst has left: at the worker of the source beside what it sends, at that of the destination
//! beside what it takes in. After each move there are as many rounds without one, before the next.
//! It is CPU time, which is how long the burst takes of a worker that has a core for itself, whatever
//! else the machine does. Compare figures of one run only.

use std::io::{self, Write};

use rustix::time::{ClockId, clock_gettime};
use weir_api::dataplane::v1 as api;
use weir_benches::router::{BURST, Router, SEED, frame, key, second_instance};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::steering_hash::random_key;
use weir_state_transfer::{
    Bucket, BucketSet, InstanceId, MoveId, Selection, SteeringHash, WorkerId,
};

/// Flows that move.
const MOVING: usize = 100_000;
/// Flows from this one on have other sources than those, and are among those that stay.
const STAYING: usize = 1 << 22;
/// Buckets of what stays at each worker.
const BUCKETS_EACH: u32 = 32;
/// Times that the flows move there and back. A move by buckets takes fewer rounds.
const TIMES: [(&str, usize); 2] = [("buckets", 40), ("filter", 4)];
/// The workers: that of the first instance, and the other.
const WORKERS: [WorkerId; 2] = [WorkerId(0), WorkerId(1)];

/// Times of bursts of one kind, in nanoseconds.
#[derive(Debug, Default)]
struct Times(Vec<u64>);

/// Times at the source's worker and at the destination's.
type AtEnds = [Times; 2];

/// The router, the second instance, and bursts of what stays at each worker.
struct World {
    router: Router,
    other: InstanceId,
    bursts: [Vec<Vec<u8>>; 2],
    /// What reading the clock takes.
    clock_ns: u64,
}

fn main() -> io::Result<()> {
    let mut world = World::new();
    let mut out = io::stdout();
    writeln!(
        out,
        "\nA burst of {BURST} packets of flows that stay, microseconds of a worker from receive to transmit:\n\
         without a move, and while {MOVING} flows move; the ratio of both\n\n{:<28}{:>8}{:>24}{:>24}{:>24}",
        "p50, p99, max", "bursts", "without", "during", "ratio"
    )?;
    let by_filter = "proto=udp,src=10.128.0.0/16".parse().expect("a filter of this bench");
    let by_buckets = BucketSet::all().minus(&staying_at(0)).minus(&staying_at(1));
    let selections = [Selection::Buckets(by_buckets), Selection::Filter(by_filter)];
    for ((name, times), selection) in TIMES.into_iter().zip(selections) {
        let (mut without, mut during) = (AtEnds::default(), AtEnds::default());
        for _ in 0..times {
            for (from, to) in [(0, 1), (1, 0)] {
                let noted = during[0].0.len();
                world.moved((from, to), &selection, &mut during);
                let rounds = during[0].0.len() - noted;
                (0..rounds).for_each(|_| world.turn((from, to), &mut without));
            }
        }
        for (end, times) in ["source", "destination"].into_iter().zip(without.iter().zip(&during)) {
            writeln!(out, "{}", row(&format!("{name}, at the {end}"), times))?;
        }
    }
    Ok(())
}

/// The figures of bursts without a move, and during some.
fn row(label: &str, (without, during): (&Times, &Times)) -> String {
    let (before, beside) = (without.quantiles(), during.quantiles());
    let ratio = [0, 1, 2].map(|n| beside[n] / before[n]);
    let [before, beside, ratio] =
        [before, beside, ratio].map(|[p50, p99, max]| format!("{p50:.2} {p99:>7.2} {max:>7.2}"));
    format!("{label:<28}{:>8}{before:>24}{beside:>24}{ratio:>24}", during.0.len())
}

impl World {
    fn new() -> Self {
        let hash = SteeringHash::new(random_key(SEED));
        let staying = [0, 1].map(|worker| {
            let buckets = staying_at(worker);
            let mine = (STAYING..).filter(|flow| buckets.contains(hash.bucket(&key(*flow))));
            mine.take(BURST).collect::<Vec<_>>()
        });
        let reserved = staying_at(0).union(&staying_at(1));
        let moving = (0..STAYING).filter(|flow| !reserved.contains(hash.bucket(&key(*flow))));
        let flows: Vec<_> = moving.take(MOVING).chain(staying.concat()).collect();
        let mut router = Router::with_flows(2, &flows);
        router.warm();
        let other = second_instance(&mut router);
        let bursts = staying.map(|flows| flows.into_iter().map(frame).collect());
        let clock_ns = (0..1_000).map(|_| cpu_ns().abs_diff(cpu_ns())).min().unwrap_or_default();
        let mut world = Self { router, other, bursts, clock_ns };
        let id = world.begin((0, 1), &Selection::Buckets(staying_at(1)));
        world.router.stepped.settle();
        assert!(world.ended(id).is_some_and(|ended| ended.flows == BURST as u64));
        // The other worker learns the next hop.
        world.router.inject_to(WORKERS[1], &world.bursts[1]);
        world.router.stepped.settle();
        assert_eq!(world.router.take(), BURST);
        world.router.stepped.settle();
        world
    }

    /// Begins to move flows from the instance of a worker to that of another.
    fn begin(&mut self, ends: (usize, usize), selection: &Selection) -> MoveId {
        let instances = [FIRST, self.other];
        let request = Request::new(instances[ends.0], instances[ends.1], selection.clone());
        let stepped = &mut self.router.stepped;
        let change = api::Change::default();
        let begun = stepped.node.start_move(&change, request, false, stepped.now);
        MoveId(begun.expect("a move").id)
    }

    /// The move, if it is over.
    fn ended(&self, id: MoveId) -> Option<api::Move> {
        let shown = self.router.stepped.node.show_move(id).expect("it is remembered");
        (shown.ended_ns > 0).then_some(shown)
    }

    /// Moves the flows that do not stay, with bursts of those that do in every turn.
    fn moved(&mut self, ends: (usize, usize), selection: &Selection, times: &mut AtEnds) {
        let id = self.begin(ends, selection);
        let ended = loop {
            self.turn(ends, times);
            if let Some(ended) = self.ended(id) {
                break ended;
            }
        };
        assert_eq!((ended.phase(), ended.flows), (api::MovePhase::Done, MOVING as u64));
    }

    /// A turn of both workers and of the node.
    fn turn(&mut self, (source, destination): (usize, usize), times: &mut AtEnds) {
        for (end, worker) in [source, destination].into_iter().enumerate() {
            times[end].0.push(self.burst(worker));
        }
        self.router.stepped.step_node();
    }

    /// The time of the poll rounds of a worker until a burst of what stays there has left.
    fn burst(&mut self, worker: usize) -> u64 {
        self.router.inject_to(WORKERS[worker], &self.bursts[worker]);
        let (mut inside, mut left) = (0, 0);
        while left < BURST {
            let began = cpu_ns();
            self.router.step_worker(WORKERS[worker]);
            inside += (cpu_ns() - began).saturating_sub(self.clock_ns);
            left += self.router.take();
        }
        assert_eq!(left, BURST, "nothing else is forwarded");
        inside
    }
}

impl Times {
    /// The median, the 99th percentile and the longest, in microseconds.
    fn quantiles(&self) -> [f64; 3] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len() - 1;
        [last / 2, last * 99 / 100, last].map(|place| sorted[place] as f64 / 1e3)
    }
}

/// CPU time of this thread so far.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The buckets of what stays at a worker.
fn staying_at(worker: usize) -> BucketSet {
    let first = worker as u32 * BUCKETS_EACH;
    (first..first + BUCKETS_EACH).map(Bucket::of).collect()
}
