//! How much longer does a packet wait whose fate is decided at the home of its source?
//!
//! A packet that would begin a connection comes to an instance whose firewall lets no source have
//! one, so that nothing is kept of it. `alone` is judged where it is; `shared` asks the instance of
//! another worker, whose answer comes back. `ring_there_and_back` is what two rings cost alone, with
//! items of their kind. All on one thread: the workers take their turns. What a share adds is the
//! difference of the first two, as a multiple of the third.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use rtrb::RingBuffer;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::firewall::{Config, Limits, Rules};
use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp};
use weir_dataplane::node::{FIRST, ShareRequest};
use weir_dataplane::worker::Item;
use weir_frame::{FrameSize, Region};
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::share::Mode;
use weir_state_transfer::{InstanceId, Nanos, PortId, StateFilter, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};

const SEED: u64 = 1;
/// Time that passes in a poll round.
const ROUND: u64 = 1_000;
/// The worker of the instance that owns every flow, and the other.
const ASKER: WorkerId = WorkerId(0);
const HOME: WorkerId = WorkerId(1);

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("share");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    let mut alone = node(false);
    let packet = packet(1);
    group.bench_function("alone", |bencher| {
        bencher.iter(|| {
            inject(&mut alone, &packet);
            step(&mut alone, ASKER);
        });
    });
    let mut shared = node(true);
    let packet = elsewhere(&mut shared);
    group.bench_function("shared", |bencher| {
        bencher.iter(|| {
            inject(&mut shared, &packet);
            [ASKER, HOME, ASKER].into_iter().for_each(|worker| step(&mut shared, worker));
        });
    });
    let (_region, mut frames) = Region::heap(1, FrameSize::B2048);
    let (mut there, mut there_out) = RingBuffer::new(256);
    let (mut back, mut back_out) = RingBuffer::new(256);
    let mut item = Some(Item::Transmit(PortId(0), frames.pop().expect("there is one")));
    group.bench_function("ring_there_and_back", |bencher| {
        bencher.iter(|| {
            there.push(item.take().expect("it is back")).expect("there is room");
            back.push(there_out.pop().expect("it was pushed")).expect("there is room");
            item = back_out.pop().ok();
        });
    });
    group.finish();
}

/// A node with an instance on each of two workers, whose firewalls refuse every source.
fn node(shares: bool) -> MemoryNode {
    let rules = Rules::new(vec!["all: accept any".parse().expect("a rule")]).expect("rules");
    let limits = Limits { connections_max: Some(0), ..Limits::default() };
    let firewall = Config { rules, limits, ..Config::default() };
    let mut plan = Plan { frames: 8192, port_ring: 256, ..Plan::default() };
    plan.limits.functions =
        ChainConfig::new(vec![FunctionConfig::Firewall(firewall)], Timestamp(0)).expect("a chain");
    let mut node = MemoryNode::new(&plan, SEED);
    let change = api::Change::default();
    let made = node.node.create_instance(&change, "i1", 0).expect("there is room");
    node.settle();
    assert_eq!(made.worker, u32::from(HOME.0), "the other worker has more room");
    let other = InstanceId(u8::try_from(made.id).expect("a small number"));
    node.node.set_instance_state(&change, other, api::InstanceState::Active).expect("it is ready");
    if shares {
        let asked = ShareRequest {
            instances: vec![FIRST, other],
            filter: StateFilter::default(),
            scopes: vec![Scope::MultiFlow],
            mode: Mode::Strong,
        };
        node.node.start_share(&change, asked, SEED, node.now).expect("nothing is in its way");
    }
    node.settle();
    node
}

/// A packet of a source whose home is the other instance.
fn elsewhere(node: &mut MemoryNode) -> Vec<u8> {
    let mut packets = (1..=250).map(packet);
    let found = packets.find(|packet| {
        let before = refused(node);
        inject(node, packet);
        step(node, ASKER);
        let asks = refused(node) == before;
        node.settle();
        asks
    });
    found.expect("some have")
}

/// A packet of a host of the first network.
fn packet(address: u8) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(0).0, port_mac(0).0)
        .ipv4([10, 0, 0, address.max(2)], host(1).octets(), 64)
        .udp(1000, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &[]).expect("it is short");
    packet
}

fn inject(node: &mut MemoryNode, packet: &[u8]) {
    let wire = node.wires.get_mut(&(PortId(0), 0)).expect("the queue is there");
    assert!(wire.inject(packet), "nothing else is received");
}

fn step(node: &mut MemoryNode, worker: WorkerId) {
    node.now = Nanos(node.now.0 + ROUND);
    node.step_worker(worker);
}

fn refused(node: &MemoryNode) -> u64 {
    node.node.counters().drops.iter().map(|drop| drop.packets).sum()
}

criterion_group!(benches, bench);
criterion_main!(benches);
