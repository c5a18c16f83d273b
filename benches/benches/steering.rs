//! What does it cost to find the owner of a packet's flow?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_dataplane::steering::Steering;
use weir_state_transfer::{
    FlowKey, InstanceId, Selection, ServiceId, SteeringHash, protocol, steering_hash,
};

const SEED: u64 = 1;
const FLOWS: u32 = 4096;

fn bench(criterion: &mut Criterion) {
    let hash = SteeringHash::new(steering_hash::random_key(SEED));
    let packets: Vec<_> = flows().into_iter().map(|key| (key, hash.hash(&key))).collect();
    let mut group = criterion.benchmark_group("steering");
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    group.bench_function("hash", |bencher| {
        bencher.iter(|| packets.iter().fold(0, |sum, (key, _)| sum ^ hash.hash(black_box(key))));
    });

    let plain = Steering::new(hash, InstanceId(0), 65_536);
    let tables = [
        ("owner/no_rules", plain.clone()),
        ("owner/1000_flows", with_flows(&plain)),
        ("owner/8_rules", with_rules(&plain)),
    ];
    for (name, steering) in tables {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let owners =
                    packets.iter().map(|(key, hash)| steering.owner(black_box(key), *hash));
                owners.fold(0, |sum, owner| sum ^ owner.0)
            });
        });
    }
    group.finish();
}

/// Half IPv4, half IPv6; TCP and UDP.
fn flows() -> Vec<FlowKey> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    (0..FLOWS)
        .map(|index| {
            let ports = (rng.u16(1024..), 443);
            let protocol = if rng.bool() { protocol::TCP } else { protocol::UDP };
            if index % 2 == 0 {
                let (src, dst) = ([10, 0, 0, rng.u8(..)].into(), [192, 0, 2, rng.u8(..)].into());
                FlowKey::v4(src, dst, ports, protocol, ServiceId(0))
            } else {
                let net = 0x2001_0db8 << 96;
                let (src, dst) = ((net | rng.u128(..256)).into(), (net | rng.u128(..256)).into());
                FlowKey::v6(src, dst, ports, protocol, ServiceId(0))
            }
        })
        .collect()
}

/// A thousand flows by name, every other one among those of the bench.
fn with_flows(plain: &Steering) -> Steering {
    flows().into_iter().step_by(4).take(500).enumerate().fold(plain.clone(), |table, (n, key)| {
        let other = FlowKey::v4(
            [172, 16, 0, 1].into(),
            [172, 16, 0, 2].into(),
            (n as u16, 1),
            protocol::UDP,
            ServiceId(0),
        );
        [key, other].iter().fold(table, |table, key| moved(&table, &exact(key)))
    })
}

/// Eight filters of which few of the flows match any.
fn with_rules(plain: &Steering) -> Steering {
    let filters = [
        "src=172.16.0.0/12",
        "dport=53",
        "proto=udp,dport=5000-5999",
        "src=2001:db8:1::/48",
        "proto=sctp",
        "src=192.168.0.0/16,dst=10.0.0.0/8",
        "src=10.0.0.7",
        "service=9",
    ];
    filters.iter().fold(plain.clone(), |table, filter| moved(&table, filter))
}

fn exact(key: &FlowKey) -> String {
    format!(
        "src={},dst={},proto={},sport={},dport={},service={},symmetric=false",
        key.src(),
        key.dst(),
        key.protocol(),
        key.src_port(),
        key.dst_port(),
        key.service()
    )
}

fn moved(table: &Steering, filter: &str) -> Steering {
    let filter = filter.parse().expect("a filter of this bench");
    table
        .moved(&Selection::Filter(filter), InstanceId(0), InstanceId(1))
        .expect("within the bounds")
}

criterion_group!(benches, bench);
criterion_main!(benches);
