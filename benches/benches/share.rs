//! How much longer does a packet wait whose fate is decided at the home of its source?
//!
//! A packet that would begin a connection comes to an instance whose firewall lets no source have
//! one, so that nothing is kept of it. `alone` is judged where it is; `shared` asks the instance of
//! another worker, whose answer comes back; `ring there and back` is what two rings cost alone, with
//! items of their kind. All on one thread: the workers take their turns, and the three take turns
//! with each other. What a share adds is the difference of the first two; it is printed in round
//! trips of the ring too, beside what OpenNF's share adds.

use std::io::{self, Write};
use std::time::Instant;

use etherparse::PacketBuilder;
use rtrb::{Consumer, Producer, RingBuffer};
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

/// Times that each is measured.
const TIMES: usize = 20_000;
/// Of these, those in front that are not counted.
const WARM_UP: usize = 1_000;
/// Round trips of the ring in a measurement: one is shorter than reading the clock.
const ROUND_TRIPS: u32 = 64;
/// What OpenNF's share adds to a packet, at least, in nanoseconds.
const OPENNF_NS: f64 = 13e6;

/// Nanoseconds of each time.
#[derive(Debug, Default)]
struct Times(Vec<f64>);

fn main() -> io::Result<()> {
    let (mut one, mut two) = (node(false), node(true));
    let (own, foreign) = (packet(1), elsewhere(&mut two));
    let (region, mut frames) = Region::heap(1, FrameSize::B2048);
    let mut rings = Rings::new(Item::Transmit(PortId(0), frames.pop().expect("there is one")));
    let [mut alone, mut shared, mut ring] = [const { Times(Vec::new()) }; 3];
    for _ in 0..TIMES {
        alone.0.push(timed(|| {
            inject(&mut one, &own);
            step(&mut one, ASKER);
        }));
        shared.0.push(timed(|| {
            inject(&mut two, &foreign);
            [ASKER, HOME, ASKER].into_iter().for_each(|worker| step(&mut two, worker));
        }));
        let trips = timed(|| (0..ROUND_TRIPS).for_each(|_| rings.there_and_back()));
        ring.0.push(trips / f64::from(ROUND_TRIPS));
    }
    drop((rings, region));
    // One after the other was measured, so each has its pair.
    let added = shared.0.iter().zip(&alone.0).map(|(shared, alone)| shared - alone).collect();
    let [alone, shared, ring, added] = [alone, shared, ring, Times(added)].map(Times::quantiles);
    let mut out = io::stdout();
    let row = |name: &str, [p50, p99]: [f64; 2]| format!("{name:<40}{p50:>10.0}{p99:>10.0}\n");
    // The ring's median for both: what it costs when nothing is in its way.
    let ratio = added.map(|added| added / ring[0]);
    write!(
        out,
        "\nA packet whose fate is decided at another instance, nanoseconds\n\n{:<40}{:>10}{:>10}\n{}{}{}{}{}{}",
        "",
        "p50",
        "p99",
        row("alone", alone),
        row("in a strong share", shared),
        row("ring there and back", ring),
        row("the share adds", added),
        row("of it, round trips of the ring (p50)", ratio),
        row("OpenNF adds at least 13 ms, times that", added.map(|added| OPENNF_NS / added)),
    )
}

/// How long something takes, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64
}

impl Times {
    /// The median and the 99th percentile.
    fn quantiles(self) -> [f64; 2] {
        let mut sorted = self.0;
        sorted.drain(..WARM_UP);
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        [last / 2, last * 99 / 100].map(|place| sorted[place])
    }
}

/// Two rings, and the item that goes round.
struct Rings {
    there: (Producer<Item>, Consumer<Item>),
    back: (Producer<Item>, Consumer<Item>),
    item: Option<Item>,
}

impl Rings {
    fn new(item: Item) -> Self {
        Self { there: RingBuffer::new(256), back: RingBuffer::new(256), item: Some(item) }
    }

    fn there_and_back(&mut self) {
        let item = self.item.take().expect("it is back");
        self.there.0.push(item).expect("there is room");
        let item = self.there.1.pop().expect("it was pushed");
        self.back.0.push(item).expect("there is room");
        self.item = self.back.1.pop().ok();
    }
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
