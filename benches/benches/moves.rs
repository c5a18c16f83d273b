//! How long does a move take, by the number of its flows, and how long do up to 20 at once?
//!
//! The shipped node and two workers over memory rings, stepped in turn on one thread: the figure
//! is the work of all three from the request to the end of the move, without traffic. A move by
//! buckets hands over the buckets that the flows are in; a move by filter hands over each flow.
//! Many at once are from one instance to as many others, by buckets: each ends when the last does,
//! as they share the budget of a poll round.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use weir_api::dataplane::v1 as api;
use weir_benches::router::{Router, SEED, key, second_instance};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, ids};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::steering_hash::random_key;
use weir_state_transfer::{
    BUCKETS, Bucket, BucketSet, InstanceId, MoveId, Selection, SteeringHash, WorkerId,
};

/// 489 flows are what the paper's move had.
const FLOWS: [usize; 5] = [1, 489, 10_000, 100_000, 1_000_000];
/// Moves at once, and the flows of each: as in figure 13 of OpenNF.
const AT_ONCE: [usize; 5] = [1, 5, 10, 15, 20];
const EACH: usize = 1_000;
/// Bytes that other work touches between two moves: more than a core's caches have.
const OTHERS: usize = 64 << 20;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("moves");
    group.sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for flows in FLOWS {
        // A million by filter take long.
        group.sample_size(if flows > 100_000 { 10 } else { 20 });
        let filter = "proto=udp".parse().expect("a filter of this bench");
        for (name, selection) in
            [("buckets", by_buckets(flows)), ("filter", Selection::Filter(filter))]
        {
            let mut router = Router::new(2, flows);
            router.warm();
            let other = second_instance(&mut router);
            group.bench_function(BenchmarkId::new(name, flows), |bencher| {
                bencher.iter_custom(|times| {
                    let mut elapsed = Duration::ZERO;
                    for _ in 0..times {
                        elapsed += timed(&mut router, flows, (FIRST, other), &selection);
                        timed(&mut router, flows, (other, FIRST), &selection);
                    }
                    elapsed
                });
            });
        }
    }
    group.finish();
}

/// What a move finds in a busy router: network functions know the flows, and packets of others have
/// taken the caches meanwhile. There, the flows leave the parts of their buckets for the destination's
/// own part; back, they leave that for the parts of their buckets. Both ends are on one core here: what
/// the source has read is in the destination's cache too.
fn cold(criterion: &mut Criterion) {
    const FLOWS: usize = 489;
    let functions = vec![FunctionConfig::Ids(ids::Config::default())];
    let functions = ChainConfig::new(functions, Timestamp(0)).expect("one function");
    let mut router = Router::with_functions(2, FLOWS, functions);
    router.warm();
    let other = second_instance(&mut router);
    let filter = Selection::Filter("proto=udp".parse().expect("a filter of this bench"));
    let mut others = vec![0_u8; OTHERS];
    let mut group = criterion.benchmark_group("moves");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for (name, measured) in [("cold, out of buckets", FIRST), ("cold, back into them", other)] {
        group.bench_function(BenchmarkId::new(name, FLOWS), |bencher| {
            bencher.iter_custom(|times| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..times {
                    for (from, to) in [(FIRST, other), (other, FIRST)] {
                        others.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
                        black_box(&mut others);
                        let took = timed(&mut router, FLOWS, (from, to), &filter);
                        if from == measured {
                            elapsed += took;
                        }
                    }
                }
                elapsed
            });
        });
    }
    group.finish();
}

fn at_once(criterion: &mut Criterion) {
    AT_ONCE.into_iter().for_each(|moves| so_many_at_once(criterion, moves));
}

fn so_many_at_once(criterion: &mut Criterion, count: usize) {
    let mut router = Router::new(2, count * EACH);
    router.warm();
    let others: Vec<_> = (0..count).map(|_| second_instance(&mut router)).collect();
    let buckets = BUCKETS / count;
    let parts = (0..count).map(|n| n * buckets..(n + 1) * buckets);
    let parts = parts.map(|part| part.map(|bucket| Bucket::of(bucket as u32)).collect());
    let moves: Vec<_> = others.into_iter().zip(parts.map(Selection::Buckets)).collect();
    let mut group = criterion.benchmark_group("moves");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.bench_function(BenchmarkId::new("at once", format!("{count} x {EACH}")), |bencher| {
        bencher.iter_custom(|times| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..times {
                let there = moves.iter().map(|(to, part)| (FIRST, *to, part));
                elapsed += timed_at_once(&mut router, there);
                let back = moves.iter().map(|(from, part)| (*from, FIRST, part));
                timed_at_once(&mut router, back);
            }
            elapsed
        });
    });
    group.finish();
}

/// From the first request to the end of the last move.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed_at_once<'a>(
    router: &mut Router,
    moves: impl Iterator<Item = (InstanceId, InstanceId, &'a Selection)>,
) -> Duration {
    let change = api::Change::default();
    let began = Instant::now();
    let mut open = Vec::new();
    for (from, to, selection) in moves {
        let request = Request::new(from, to, selection.clone());
        let stepped = &mut router.stepped;
        let begun = stepped.node.start_move(&change, request, true, stepped.now);
        open.push(MoveId(begun.expect("a move").id));
    }
    while !open.is_empty() {
        router.step_worker(WorkerId(0));
        router.step_worker(WorkerId(1));
        let node = &mut router.stepped;
        node.step_node();
        open.retain(|id| {
            let shown = node.node.show_move(*id).expect("it is remembered");
            assert_ne!(shown.phase(), api::MovePhase::Undone, "{shown:?}");
            shown.ended_ns == 0
        });
    }
    began.elapsed()
}

/// From the request to the end of the move.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(
    router: &mut Router,
    flows: usize,
    (from, to): (InstanceId, InstanceId),
    selection: &Selection,
) -> Duration {
    let request = Request::new(from, to, selection.clone());
    let began = Instant::now();
    let stepped = &mut router.stepped;
    let change = api::Change::default();
    let id = stepped.node.start_move(&change, request, false, stepped.now).expect("a move").id;
    let moved = loop {
        router.step_worker(WorkerId(0));
        router.step_worker(WorkerId(1));
        router.stepped.step_node();
        let shown = router.stepped.node.show_move(MoveId(id)).expect("it is remembered");
        if shown.ended_ns > 0 {
            break shown;
        }
    };
    let elapsed = began.elapsed();
    assert_eq!((moved.phase(), moved.flows), (api::MovePhase::Done, flows as u64));
    elapsed
}

/// The buckets of all flows.
fn by_buckets(flows: usize) -> Selection {
    let hash = SteeringHash::new(random_key(SEED));
    let mut buckets = BucketSet::empty();
    (0..flows).for_each(|flow| buckets.insert(hash.bucket(&key(flow))));
    Selection::Buckets(buckets)
}

criterion_group!(benches, bench, cold, at_once);
criterion_main!(benches);
