//! What does a NAT cost a packet: on its way through a worker, while it is steered, and when it is
//! looked at whether it is for the router itself?
//!
//! `poll` is the poll round of `forward.rs` with 1,000 known flows, whose packets all go there.
//! `unconcerned` is a NAT behind a firewall whose rules are about other hosts. `hash` finds the hash by
//! which a flow is steered, among many rules or services; `local` has few addresses of the router
//! itself, and besides these a pool of 256 and of 4,096.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::router::{BURST, Router, SEED, frame};
use weir_dataplane::local::{LocalAddresses, PortAddresses};
use weir_dataplane::nf::nat::{Config, Rules, Service, SourceRule};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, firewall};
use weir_dataplane::packet::{Meta, Parsed, parse};
use weir_dataplane::steering::FlowHash;
use weir_state_transfer::{FlowKey, PortId, ServiceId, SteeringHash, WorkerId, protocol};
use weir_testbed::memory_node::port_mac;

const FLOWS: usize = 1_000;
const KEYS: u32 = 4_096;

fn bench(criterion: &mut Criterion) {
    packets(criterion);
    steering(criterion);
    local(criterion);
}

fn packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nat");
    group.throughput(Throughput::Elements(BURST as u64));
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    let nat = |from: &str| FunctionConfig::Nat(config(from));
    for (name, functions) in [
        ("none", vec![]),
        ("firewall", vec![firewall()]),
        ("nat", vec![nat("10.128.0.0/9")]),
        ("firewall_and_nat", vec![firewall(), nat("10.128.0.0/9")]),
        ("unconcerned", vec![firewall(), nat("172.16.0.0/12")]),
    ] {
        let functions = ChainConfig::new(functions, Timestamp(0)).expect("a NAT is the last");
        let mut router = Router::with_functions(1, FLOWS, functions);
        router.warm();
        group.bench_function(format!("poll/{name}"), |bencher| {
            bencher.iter_custom(|bursts| timed(&mut router, bursts));
        });
    }
    group.finish();
}

fn steering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nat");
    group.throughput(Throughput::Elements(u64::from(KEYS)));
    let hash = SteeringHash::new(weir_state_transfer::steering_hash::random_key(SEED));
    let one = Rules::new(vec![source("10.128.0.0/9")], vec![]).expect("a rule");
    let sources: Vec<_> = (0..64).map(|n| source(&format!("172.{n}.0.0/16"))).collect();
    let many = Rules::new(sources, (0..1_024).map(service).collect()).expect("rules");
    for (name, rules, number) in [
        ("no_nat", None, protocol::UDP),
        ("one_rule", Some(&one), protocol::UDP),
        ("1024_services", Some(&many), protocol::UDP),
        ("one_rule_echoes", Some(&one), protocol::ICMP),
        ("64_rules_echoes", Some(&many), protocol::ICMP),
    ] {
        let (hash, keys) = (FlowHash::new(hash.clone(), rules), keys(number));
        group.bench_function(format!("hash/{name}"), |bencher| {
            bencher.iter(|| keys.iter().fold(0, |sum, key| sum ^ hash.hash(black_box(key))));
        });
    }
    group.finish();
}

fn local(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nat");
    let metas: Vec<Meta> = (0..FLOWS).map(|flow| meta(&frame(flow))).collect();
    group.throughput(Throughput::Elements(FLOWS as u64));
    for (name, pool) in [("few", 0), ("pool_256", 256), ("pool_4096", 4_096)] {
        let nets = ["10.0.1.1/24".parse().expect("a network")];
        let port = PortAddresses::new(PortId(1), port_mac(1), nets).expect("an address");
        let outside: BTreeSet<IpAddr> = (0..pool).map(external).collect();
        let addresses = LocalAddresses::new(&[port], &outside);
        group.bench_function(format!("local/{name}"), |bencher| {
            bencher.iter(|| {
                let is_local = |meta: &&Meta| {
                    let meta = black_box(*meta);
                    addresses.is_local(meta) || addresses.is_from_us(&meta.key)
                };
                metas.iter().filter(is_local).count()
            });
        });
    }
    group.finish();
}

fn firewall() -> FunctionConfig {
    let rule = "all: accept any".parse().expect("a rule");
    let rules = firewall::Rules::new(vec![rule]).expect("one rule");
    FunctionConfig::Firewall(firewall::Config { rules, ..firewall::Config::default() })
}

fn config(from: &str) -> Config {
    let rules = Rules::new(vec![source(from)], vec![]).expect("a rule");
    Config { rules, ..Config::default() }
}

fn source(from: &str) -> SourceRule {
    let from = from.parse().expect("a prefix");
    SourceRule { from, to: None, pool: vec![external(0), external(1)], ports: 1..=u16::MAX }
}

fn service(number: u16) -> Service {
    let backend = (Ipv4Addr::from_bits(0xc0a8_0000 + u32::from(number)), 8_080).into();
    let (address, ports) = (external(7), 10_000 + number..=10_000 + number);
    Service { address, protocol: protocol::UDP, ports, backends: vec![backend] }
}

fn external(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc633_0000 + number).into()
}

/// Keys of flows that no rule of the services is about.
fn keys(number: u8) -> Vec<FlowKey> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut key = || {
        let (src, dst) = (0x0a80_0000 | rng.u32(..1 << 16), 0xcb00_7100 | rng.u32(..256));
        let ports = if number == protocol::UDP { (rng.u16(1_024..), 443) } else { (7, 7) };
        FlowKey::v4(src.into(), dst.into(), ports, number, ServiceId(0))
    };
    (0..KEYS).map(|_| key()).collect()
}

fn meta(frame: &[u8]) -> Meta {
    match parse(frame, ServiceId(0)) {
        Ok(Parsed::Ip(meta)) => meta,
        Ok(Parsed::Arp) | Err(_) => panic!("a packet of this bench"),
    }
}

/// The time that bursts take in the worker.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(router: &mut Router, bursts: u64) -> Duration {
    let mut inside = Duration::ZERO;
    for _ in 0..bursts {
        assert_eq!(router.inject(), BURST, "the worker stocks its port");
        let injected = Instant::now();
        router.step_worker(WorkerId(0));
        inside += injected.elapsed();
        assert_eq!(router.take(), BURST, "everything is forwarded");
    }
    inside
}

criterion_group!(benches, bench);
criterion_main!(benches);
