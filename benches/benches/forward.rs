//! What does a packet cost a worker, from receive ring to transmit ring?
//!
//! This is the shipped poll round over memory ports: receive, parse, steer, find the flow, decide
//! by its cached decision, count, rewrite, transmit, complete. One worker, one instance, bursts of
//! 32 frames of 60 bytes whose headers are cold in no cache. Only the poll round is timed; the far
//! end of the wire, which a kernel or a card would be, is not, and its cost stands beside it as
//! `far_end`.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::router::{BURST, Router};
use weir_state_transfer::WorkerId;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    group.throughput(Throughput::Elements(BURST as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    for flows in [1, 1_000, 100_000] {
        let mut router = Router::new(1, flows);
        router.warm();
        group.bench_function(BenchmarkId::new("poll", flows), |bencher| {
            bencher.iter_custom(|bursts| timed(&mut router, bursts).0);
        });
    }
    let mut router = Router::new(1, 1_000);
    router.warm();
    group.bench_function("far_end", |bencher| {
        bencher.iter_custom(|bursts| timed(&mut router, bursts).1);
    });
    group.finish();
}

/// The time that bursts take in the worker, and at the far end of its wires.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(router: &mut Router, bursts: u64) -> (Duration, Duration) {
    let (mut inside, mut outside) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..bursts {
        let began = Instant::now();
        assert_eq!(router.inject(), BURST, "the worker stocks its port");
        let injected = Instant::now();
        router.step_worker(WorkerId(0));
        let polled = Instant::now();
        assert_eq!(router.take(), BURST, "everything is forwarded");
        inside += polled - injected;
        outside += (injected - began) + polled.elapsed();
    }
    (inside, outside)
}

criterion_group!(benches, bench);
criterion_main!(benches);
