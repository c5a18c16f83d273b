//! What does it cost to find the route of a destination?
//!
//! Prefix lengths are spread about as in the Internet's tables: most IPv4 routes are /24 with one
//! in fifty longer, IPv6 routes are /32 to /48. Destinations are random within random routes.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weir_dataplane::route_table::{NextHop, RouteLimits, RouteTable};
use weir_state_transfer::{FlowKey, PortId, ServiceId, protocol};

const SEED: u64 = 1;
const LOOKUPS: usize = 4096;
const NEXT_HOPS: u8 = 4;

/// A random prefix of a family.
type Draw = fn(&mut fastrand::Rng) -> IpNet;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lpm");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let families: [(&str, Draw); 2] = [("v4", prefix_v4), ("v6", prefix_v6)];
    for (family, draw) in families {
        for routes in [1, 10_000, 100_000] {
            let (table, keys) = table(routes, draw);
            group.bench_function(BenchmarkId::new(family, routes), |bencher| {
                bencher.iter(|| {
                    for key in &keys {
                        black_box(table.lookup(black_box(key)).expect("there is a route"));
                    }
                });
            });
        }
    }
    group.finish();
}

/// A table of so many routes, and destinations within them.
fn table(routes: usize, draw: Draw) -> (RouteTable, Vec<FlowKey>) {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let (table, mut writer) = RouteTable::new(RouteLimits::default());
    let mut prefixes = Vec::new();
    while writer.len() < routes {
        let prefix = draw(&mut rng);
        let hop = NextHop { port: PortId(rng.u8(..NEXT_HOPS)), via: None };
        writer.add(prefix, hop).expect("within the default bounds");
        prefixes.push(prefix);
    }
    let keys = (0..LOOKUPS)
        .map(|_| {
            let prefix = prefixes[rng.usize(..prefixes.len())];
            within(prefix, &mut rng)
        })
        .collect();
    (table, keys)
}

fn prefix_v4(rng: &mut fastrand::Rng) -> IpNet {
    let length = match rng.u8(..50) {
        0 => rng.u8(25..=32),
        1..=30 => 24,
        _ => rng.u8(12..=23),
    };
    let address = Ipv4Addr::new(rng.u8(1..224), rng.u8(..), rng.u8(..), rng.u8(..));
    Ipv4Net::new(address, length).expect("a length of IPv4").trunc().into()
}

/// Two thousand providers, and customers in a few parts of each.
fn prefix_v6(rng: &mut fastrand::Rng) -> IpNet {
    let provider = 0x2a00_0000_u128 + (rng.u128(..16) << 16) + rng.u128(..128);
    let customer = (rng.u128(..4) << 8) + rng.u128(..256);
    let length = if rng.u8(..10) == 0 { rng.u8(32..=40) } else { 48 };
    let address = Ipv6Addr::from_bits(provider << 96 | customer << 80);
    Ipv6Net::new(address, length).expect("a length of IPv6").trunc().into()
}

fn within(prefix: IpNet, rng: &mut fastrand::Rng) -> FlowKey {
    let service = ServiceId(0);
    match prefix {
        IpNet::V4(net) => {
            let dst = Ipv4Addr::from_bits(
                net.addr().to_bits() | (rng.u32(..) & net.hostmask().to_bits()),
            );
            FlowKey::v4(Ipv4Addr::LOCALHOST, dst, (1, 2), protocol::UDP, service)
        }
        IpNet::V6(net) => {
            let dst = Ipv6Addr::from_bits(
                net.addr().to_bits() | (rng.u128(..) & net.hostmask().to_bits()),
            );
            FlowKey::v6(Ipv6Addr::LOCALHOST, dst, (1, 2), protocol::UDP, service)
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
