//! How long does a move take, by the number of its flows?
//!
//! The shipped node and two workers over memory rings, stepped in turn on one thread: the figure
//! is the work of all three from the request to the end of the move, without traffic. A move by
//! buckets hands over the buckets that the flows are in; a move by filter hands over each flow.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use weir_api::dataplane::v1 as api;
use weir_benches::router::{Router, SEED, key};
use weir_dataplane::node::FIRST;
use weir_state_transfer::mark::Request;
use weir_state_transfer::steering_hash::random_key;
use weir_state_transfer::{BucketSet, InstanceId, MoveId, Selection, SteeringHash, WorkerId};

/// 489 flows are what the paper's move had.
const FLOWS: [usize; 4] = [1, 489, 10_000, 100_000];

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("moves");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for flows in FLOWS {
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

/// An instance at the other worker.
fn second_instance(router: &mut Router) -> InstanceId {
    let stepped = &mut router.stepped;
    let change = api::Change::default();
    let made = stepped.node.create_instance(&change, "sw2", 0).expect("there is room");
    stepped.settle();
    let id = InstanceId(u8::try_from(made.id).expect("an instance number"));
    let active = api::InstanceState::Active;
    stepped.node.set_instance_state(&change, id, active).expect("it is ready");
    stepped.settle();
    id
}

/// The buckets of all flows.
fn by_buckets(flows: usize) -> Selection {
    let hash = SteeringHash::new(random_key(SEED));
    let mut buckets = BucketSet::empty();
    (0..flows).for_each(|flow| buckets.insert(hash.bucket(&key(flow))));
    Selection::Buckets(buckets)
}

criterion_group!(benches, bench);
criterion_main!(benches);
