//! What does it cost to find the entry of a known flow, and to learn that there is none?
//!
//! Flows are looked up in random order and their entries are touched as forwarding does. With
//! 100,000 flows the table is larger than the caches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::router::key;
use weir_dataplane::instance::{Entry, FlowHasher, FlowTable, Part};
use weir_state_transfer::{BUCKETS, Bucket, FlowKey, SteeringHash, steering_hash};
use zerocopy::FromZeros;

const SEED: u64 = 1;
const LOOKUPS: usize = 4096;
const FLOWS_PER_BUCKET: usize = 64;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow_table");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let hash = SteeringHash::new(steering_hash::random_key(SEED));
    for flows in [1, 1_000, 100_000] {
        let mut table = table(&hash, flows);
        let known = lookups(&hash, 0, flows);
        group.bench_function(BenchmarkId::new("hit", flows), |bencher| {
            bencher.iter(|| {
                for (key, bucket) in &known {
                    let place = table.find(black_box(key), *bucket).expect("the flow is known");
                    table.entry_mut(place).packets += 1;
                }
            });
        });
    }
    let table = table(&hash, 100_000);
    let unknown = lookups(&hash, 100_000, 100_000);
    group.bench_function(BenchmarkId::new("miss", 100_000), |bencher| {
        bencher.iter(|| {
            for (key, bucket) in &unknown {
                assert!(table.find(black_box(key), *bucket).is_none());
            }
        });
    });
    group.finish();
}

/// An instance's table that owns every bucket.
fn table(hash: &SteeringHash, flows: usize) -> FlowTable {
    let mut table = FlowTable::new(8, FlowHasher::with_seed(SEED));
    for bucket in (0..BUCKETS as u16).filter_map(Bucket::new) {
        table.put_bucket(bucket, Box::new(Part::new(FLOWS_PER_BUCKET)));
    }
    for key in (0..flows).map(key) {
        let mut entry = Entry::new_zeroed();
        entry.key = key;
        table.insert(entry, hash.bucket(&key)).expect("a bucket has room");
    }
    table
}

/// Flows in random order, from `flows` of them that follow `first`.
fn lookups(hash: &SteeringHash, first: usize, flows: usize) -> Vec<(FlowKey, Bucket)> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut lookup = || {
        let key = key(first + rng.usize(..flows));
        (key, hash.bucket(&key))
    };
    (0..LOOKUPS).map(|_| lookup()).collect()
}

criterion_group!(benches, bench);
criterion_main!(benches);
