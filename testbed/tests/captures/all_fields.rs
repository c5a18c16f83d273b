//! What a single instance logs and what two log between which flows move: the same in every field,
//! times, names and durations too, and scans.
//!
//! Time stands still until the packets of a step have left, so that one that is held is processed at
//! the time at which it came. By then the moves of the step have ended, which the packets meet.

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::ids::{self, log};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Record, Timestamp};
use weir_dataplane::node::FIRST;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::mark::Request;
use weir_state_transfer::steering_hash::random_key;
use weir_state_transfer::{
    BUCKETS, Bucket, BucketSet, InstanceId, MoveId, Nanos, PortId, Selection, SteeringHash,
};
use weir_testbed::memory_node::MemoryNode;

use crate::naive::flow_of;
use crate::replay::{node, queue_of};
use crate::source::PORT_IN;
use crate::{fixture, source};

/// Ports that each of the sources tries that scan, the last of them too few for a scan.
const TRIED: [u16; 3] = [90, 60, 8];
/// The network of these sources, and those of the clients that move by filter.
const SCANNERS: &str = "src=10.9.0.0/24";
const CLIENTS: [&str; 4] = [
    "src=10.0.0.0/24",
    "src=10.0.2.0/24",
    "src=10.1.0.0/24,proto=udp",
    "src=10.1.0.0/24,proto=tcp",
];
/// Packets of a step at most.
const STEP: usize = 12;
/// One step in so many meets moves.
const MOVES_ONE_IN: u8 = 6;
/// When the first packet comes: later than all that is made before.
const START: Nanos = Nanos(60_000_000_000);
/// Rounds of everybody in which a step must have come to its end.
const ROUNDS_MAX: usize = 10_000;
const BOTH: &[Scope] = &[Scope::PerFlow, Scope::MultiFlow];

/// A frame and whether a step is its own: what is known of a source follows from the order in which
/// its connections end, which must not depend on whose turn it is.
type Frame = (Vec<u8>, bool);

/// Instances that log, and how flows move between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instances {
    One,
    /// What is known of sources moves along with their flows, or stays.
    Two(&'static [Scope]),
}

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    /// Lines of all logs, in no order.
    lines: Vec<String>,
    scans: usize,
    moves: usize,
    flows: u64,
    held: u64,
    /// Lines that the second instance has logged.
    by_second: usize,
}

struct World {
    node: MemoryNode,
    second: Option<InstanceId>,
    scopes: &'static [Scope],
    /// Buckets that do not move as such: those of the sources that scan. A move by buckets would part
    /// a source from what is known of it.
    staying: BucketSet,
    rng: fastrand::Rng,
    outcome: Outcome,
}

impl World {
    fn new(frames: &[Frame], instances: Instances, seed: u64) -> Self {
        let mut node = node(&functions(), seed);
        let (second, scopes) = match instances {
            Instances::One => (None, BOTH),
            Instances::Two(scopes) => (Some(second(&mut node)), scopes),
        };
        assert!(node.now < START);
        node.now = START;
        let rng = fastrand::Rng::with_seed(seed);
        let hash = SteeringHash::new(random_key(seed));
        let scans = frames.iter().filter(|(_, alone)| *alone);
        let staying = scans.map(|(frame, _)| hash.bucket(&flow_of(frame).unwrap())).collect();
        Self { node, second, scopes, staying, rng, outcome: Outcome::default() }
    }

    /// The packets of a step, at one time, which meet moves where there are two instances.
    fn step(&mut self, frames: &[Frame]) {
        let mut moves = Vec::new();
        let moves_in = self.second.is_some() && self.rng.u8(..MOVES_ONE_IN) == 0;
        let begin_at = if moves_in { self.rng.usize(..=frames.len()) } else { usize::MAX };
        for (at, (frame, _)) in frames.iter().enumerate() {
            if at == begin_at {
                moves = self.begin();
            }
            let wire = self.node.wires.get_mut(&(PortId(PORT_IN), queue_of(frame)));
            assert!(wire.unwrap().inject(frame), "a step has room");
            (0..self.rng.u8(..4)).for_each(|_| self.turn());
        }
        if begin_at == frames.len() {
            moves = self.begin();
        }
        self.rest();
        for id in moves {
            let moved = self.node.node.show_move(id).unwrap();
            assert_eq!(moved.phase(), api::MovePhase::Done, "{moved:?}");
            self.outcome.moves += 1;
            self.outcome.flows += moved.flows;
            self.outcome.held += moved.held;
        }
    }

    /// Begins a move by buckets and one by a filter, each to either instance.
    fn begin(&mut self) -> Vec<MoveId> {
        let quarter = self.rng.u16(..4);
        let buckets = (0..BUCKETS as u16).filter(|bucket| bucket % 4 == quarter);
        let mut set = BucketSet::empty();
        buckets.filter_map(Bucket::new).for_each(|bucket| set.insert(bucket));
        let set = Selection::Buckets(set.minus(&self.staying));
        let by_buckets = self.request(set, &[Scope::PerFlow]);
        let filter = match self.rng.usize(..2 * CLIENTS.len()) {
            n if n < CLIENTS.len() => CLIENTS[n],
            _ => SCANNERS,
        };
        let by_filter = self.request(Selection::Filter(filter.parse().unwrap()), self.scopes);
        let mut requests = vec![by_buckets, by_filter];
        self.rng.shuffle(&mut requests);
        // Of two that are about the same flows the second is refused.
        requests.into_iter().filter_map(|request| self.start(request)).collect()
    }

    fn request(&mut self, selection: Selection, scopes: &[Scope]) -> Request {
        let second = self.second.expect("there are two");
        let (from, to) = if self.rng.bool() { (FIRST, second) } else { (second, FIRST) };
        Request::new(from, to, selection).scoped(scopes).unwrap()
    }

    fn start(&mut self, request: Request) -> Option<MoveId> {
        let change = api::Change::default();
        let begun = self.node.node.start_move(&change, request, false, self.node.now);
        begun.ok().map(|begun| MoveId(begun.id))
    }

    /// A turn of anybody.
    fn turn(&mut self) {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        match self.rng.usize(..=workers.len()) {
            n if n < workers.len() => _ = self.node.step_worker(workers[n]),
            _ => self.node.step_node(),
        }
        self.take();
    }

    /// Turns of everybody, at the same time, until nobody has anything to do.
    fn rest(&mut self) {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            self.node.step_node();
            let busy = workers.iter().fold(false, |busy, id| self.node.step_worker(*id) | busy);
            let taken = self.take();
            quiet = if busy || taken || !self.node.node.is_quiet() { 0 } else { quiet + 1 };
            if quiet == 4 {
                return;
            }
        }
        panic!("no rest: {:?}", self.node.node.list_moves());
    }

    fn take(&mut self) -> bool {
        let places: Vec<_> = self.node.wires.keys().copied().collect();
        let mut taken = false;
        for (port, queue) in places {
            while self.node.take(port, queue).is_some() {
                taken = true;
            }
        }
        taken
    }

    fn finish(mut self) -> Outcome {
        self.node.node.stop(self.node.now);
        self.node.settle();
        for (instance, record) in self.node.records.drain(..) {
            let Record::Ids(record) = record else { panic!("of no other function: {record:?}") };
            self.outcome.scans += usize::from(matches!(record, ids::Record::Scan(_)));
            self.outcome.by_second += usize::from(&*instance == SECOND);
            let path = log::Log::of(&record).path();
            self.outcome.lines.push(format!("{path}\t{}", log::line(&record)));
        }
        self.outcome.lines.sort();
        self.outcome
    }
}

const SECOND: &str = "second";

fn second(node: &mut MemoryNode) -> InstanceId {
    let change = api::Change::default();
    let made = node.node.create_instance(&change, SECOND, 0).unwrap();
    let id = InstanceId(u8::try_from(made.id).unwrap());
    node.settle();
    node.node.set_instance_state(&change, id, api::InstanceState::Active).unwrap();
    node.settle();
    id
}

/// Connections that end by their packets or at the stop, so that no timer has a part in it.
fn functions() -> ChainConfig {
    let config = ids::Config { timeouts: crate::patient(), ..ids::Config::default() };
    ChainConfig::new(vec![FunctionConfig::Ids(config)], Timestamp(0)).unwrap()
}

/// All frames, in steps that are the same whatever happens in them.
fn run(frames: &[Frame], instances: Instances, seed: u64) -> Outcome {
    let mut world = World::new(frames, instances, seed);
    let mut steps = fastrand::Rng::with_seed(!seed);
    let mut rest = frames;
    while let Some((_, alone)) = rest.first() {
        let most = if *alone { 1 } else { steps.usize(1..=STEP) };
        let shared = rest.iter().take(most).skip(1).take_while(|(_, alone)| !alone).count();
        let (now, later) = rest.split_at(1 + shared);
        world.node.now = Nanos(world.node.now.0 + steps.u64(1..100_000));
        world.step(now);
        rest = later;
    }
    world.finish()
}

/// What the sources send that scan, and the answers: each port refuses, and is tried again, by which
/// the first connection ends.
fn scans() -> Vec<Frame> {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const SERVER: [u8; 4] = [198, 18, 0, 9];
    let mut frames = Vec::new();
    for (host, tried) in (1..).zip(TRIED) {
        let source = [10, 9, 0, host];
        for port in 1000..1000 + tried {
            let syn = |seq| {
                let step = PacketBuilder::ethernet2(MAC, MAC).ipv4(source, SERVER, 64);
                step.tcp(40_000, port, seq, 1024).syn()
            };
            let step = PacketBuilder::ethernet2(MAC, MAC).ipv4(SERVER, source, 64);
            let refused = step.tcp(port, 40_000, 0, 0).rst().ack(2);
            for step in [syn(1), refused, syn(9_000)] {
                let mut frame = Vec::new();
                step.write(&mut frame, &[]).unwrap();
                frames.push(frame);
            }
        }
    }
    source::readdressed(&frames).into_iter().map(|frame| (frame, true)).collect()
}

/// Frames among which those of scans are.
fn with_scans(frames: Vec<Vec<u8>>) -> Vec<Frame> {
    let mut scans = scans().into_iter();
    let every = frames.len() / scans.len() + 1;
    let mut all = Vec::new();
    for (at, frame) in frames.into_iter().enumerate() {
        all.push((frame, false));
        if at % every == 0 {
            all.extend(scans.next());
        }
    }
    all.extend(scans);
    all
}

/// Frames through one instance and through two: the same logs.
fn compare(name: &str, frames: Vec<Vec<u8>>, seed: u64) -> Outcome {
    let frames = with_scans(frames);
    let one = run(&frames, Instances::One, seed);
    let two = run(&frames, Instances::Two(BOTH), seed);
    let both = one.lines.iter().zip(&two.lines).find(|(one, two)| one != two);
    assert_eq!(both, None, "{name} (seed {seed})");
    assert_eq!(one.lines.len(), two.lines.len(), "{name} (seed {seed})");
    assert_eq!((one.scans, two.scans), (2, 2), "{name} (seed {seed})");
    assert!(two.moves > 0 && two.flows > 0 && two.by_second > 0, "{name} (seed {seed})");
    two
}

#[test]
fn our_own_capture_is_logged_the_same_in_every_field_by_two_instances() {
    let frames = source::readdressed(&fixture::frames());
    for seed in [weir_seed::seed(), 1, 2, 3] {
        compare("fixture", frames.clone(), seed);
    }
}

#[test]
fn http_conversations_are_logged_the_same_in_every_field_by_two_instances() {
    let seed = weir_seed::seed();
    let captures = source::captures().unwrap_or_default();
    let Some(capture) = captures.into_iter().find(|capture| capture.name == "http-489.pcap") else {
        println!("data test skipped: all fields: ../shared/data/traces is absent");
        return;
    };
    let Outcome { lines, moves, flows, held, by_second, .. } =
        compare(&capture.name, capture.frames, seed);
    assert!(held > 0, "no move held a packet");
    println!(
        "data test ran: all fields: {}: {} lines, {by_second} of the second instance; {moves} moves \
         of {flows} flows, {held} packets held",
        capture.name,
        lines.len(),
    );
}

/// What is known of sources stays behind, and their scans are logged otherwise.
#[test]
fn a_scan_whose_source_moves_without_what_is_known_of_it_is_noticed() {
    let frames = with_scans(source::readdressed(&fixture::frames()));
    let one = run(&frames, Instances::One, 1);
    let two = run(&frames, Instances::Two(&[Scope::PerFlow]), 1);
    let of_scans = |outcome: &Outcome| {
        let lines = outcome.lines.iter().filter(|line| line.starts_with("scan\t"));
        lines.cloned().collect::<Vec<_>>()
    };
    assert_ne!(of_scans(&one), of_scans(&two));
    let others = |outcome: &Outcome| outcome.lines.len() - of_scans(outcome).len();
    assert_eq!(others(&one), others(&two));
}
