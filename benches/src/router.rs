//! A router over memory ports, and flows from one of its hosts to the other.

use std::net::Ipv4Addr;

use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::ChainConfig;
use weir_state_transfer::{
    BUCKETS, FlowKey, InstanceId, Nanos, PortId, ServiceId, WorkerId, protocol,
};
use weir_testbed::memory_node::{MemoryNode, Plan, host, port_mac};

/// Packets of a burst.
pub const BURST: usize = 32;
/// Length of each frame in bytes: the shortest of Ethernet.
const FRAME: usize = 60;
/// The seed of the node and of the order of its flows.
pub const SEED: u64 = 1;
/// Time that passes in a poll round: about what a burst takes.
const ROUND: u64 = 3_000;

/// A router with a host at each of two ports, and UDP flows from one to the other.
#[derive(Debug)]
pub struct Router {
    /// The node, its workers and its wires.
    pub stepped: MemoryNode,
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Router {
    /// A router with so many workers, one queue a port for each, and so many flows, by their numbers
    /// from 0 on.
    ///
    /// # Panics
    /// With more than 2^24 flows.
    pub fn new(workers: u8, flows: usize) -> Self {
        Self::with_flows(workers, &Vec::from_iter(0..flows))
    }

    /// The same with the flows of these numbers, each below 2^24.
    ///
    /// # Panics
    /// With a greater number.
    pub fn with_flows(workers: u8, numbers: &[usize]) -> Self {
        Self::made(workers, numbers, ChainConfig::default())
    }

    /// A router with so many flows, whose instances have these network functions.
    ///
    /// # Panics
    /// With more than 2^24 flows.
    pub fn with_functions(workers: u8, flows: usize, functions: ChainConfig) -> Self {
        Self::made(workers, &Vec::from_iter(0..flows), functions)
    }

    fn made(workers: u8, numbers: &[usize], functions: ChainConfig) -> Self {
        let flows = numbers.len();
        let mut plan = Plan {
            workers: usize::from(workers),
            queues: u16::from(workers),
            frames: 8192,
            port_ring: 256,
            ..Plan::default()
        };
        plan.limits.own_flows = 2 * flows;
        plan.limits.functions = functions;
        // Twice what a bucket has on average, for those that have more.
        let a_bucket = (2 * flows / BUCKETS).next_power_of_two();
        plan.limits.flows_per_bucket = plan.limits.flows_per_bucket.max(a_bucket);
        let mut frames: Vec<_> = numbers.iter().map(|flow| frame(*flow)).collect();
        fastrand::Rng::with_seed(SEED).shuffle(&mut frames);
        Self { stepped: MemoryNode::new(&plan, SEED), frames, next: 0 }
    }

    /// Sends a packet of each flow, so that the flow table knows them all.
    pub fn warm(&mut self) {
        let mut sent = 0;
        while sent < self.frames.len() {
            sent += self.inject();
            self.step_worker(WorkerId(0));
            self.take();
        }
        self.stepped.settle();
        self.take();
        self.stepped.settle();
    }

    /// Puts the next burst on the wire; how many packets.
    pub fn inject(&mut self) -> usize {
        let wire = self.stepped.wires.get_mut(&(PortId(0), 0)).expect("the queue is there");
        for sent in 0..BURST {
            if !wire.inject(&self.frames[self.next]) {
                return sent;
            }
            self.next = (self.next + 1) % self.frames.len();
        }
        BURST
    }

    /// Puts a packet of each of some flows on the wire to a worker.
    ///
    /// # Panics
    /// When the wire has no room.
    pub fn inject_to(&mut self, worker: WorkerId, frames: &[Vec<u8>]) {
        let queue = (PortId(0), worker.0.into());
        let wire = self.stepped.wires.get_mut(&queue).expect("the queue is there");
        frames.iter().for_each(|frame| assert!(wire.inject(frame), "the worker stocks its port"));
    }

    /// One poll round of a worker.
    pub fn step_worker(&mut self, worker: WorkerId) {
        self.stepped.now = Nanos(self.stepped.now.0 + ROUND);
        self.stepped.step_worker(worker);
    }

    /// Takes what has been sent and completes it; how many packets.
    pub fn take(&mut self) -> usize {
        let mut taken = 0;
        for ((port, _), wire) in &mut self.stepped.wires {
            if *port == PortId(1) {
                while let Some(frame) = wire.take() {
                    wire.complete(frame);
                    taken += 1;
                }
            }
        }
        taken
    }
}

/// Another instance, at the worker that has the fewest.
///
/// # Panics
/// When there are as many as there may be.
pub fn second_instance(router: &mut Router) -> InstanceId {
    let stepped = &mut router.stepped;
    let change = api::Change::default();
    let name = format!("sw{}", stepped.node.list_instances(stepped.now).instances.len() + 1);
    let made = stepped.node.create_instance(&change, &name, 0).expect("there is room");
    stepped.settle();
    let id = InstanceId(u8::try_from(made.id).expect("an instance number"));
    let active = api::InstanceState::Active;
    stepped.node.set_instance_state(&change, id, active).expect("it is ready");
    stepped.settle();
    id
}

/// The key of a flow.
pub fn key(flow: usize) -> FlowKey {
    let (source, ports) = ends(flow);
    FlowKey::v4(source, host(1), ports, protocol::UDP, ServiceId(0))
}

/// A packet of a flow, from the host at port 0 to that at port 1.
pub fn frame(flow: usize) -> Vec<u8> {
    let (source, (from, to)) = ends(flow);
    let mut frame = vec![0; FRAME];
    frame[..6].copy_from_slice(&port_mac(0).0);
    frame[6..12].copy_from_slice(&[2, 0, 0, 1, 0, 0]);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, protocol::UDP]);
    frame[26..30].copy_from_slice(&source.octets());
    frame[30..34].copy_from_slice(&host(1).octets());
    frame[34..36].copy_from_slice(&from.to_be_bytes());
    frame[36..38].copy_from_slice(&to.to_be_bytes());
    frame[38..40].copy_from_slice(&[0, 26]);
    let words = frame[14..34].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    // The sum of ten words folds into 16 bits in one step here: no address begins with 0xff.
    let checksum = u16::try_from(folded).map_or(0, |folded| !folded);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Source address and ports of a flow: 64 flows a host, from 10.128.0.0 on, and from ports spread
/// over the whole range, as hosts choose them. Steering goes by the XOR of all words, so ports that
/// count up as the hosts do would meet in few buckets.
fn ends(flow: usize) -> (Ipv4Addr, (u16, u16)) {
    assert!(flow < 1 << 24, "a bench has few flows");
    let host = u32::try_from(flow / 64).expect("of these");
    let port = u16::try_from(flow % 64).expect("a remainder");
    (Ipv4Addr::from_bits(0x0a80_0000 + host), (1_021 * (port + 1) - 1, 30_000))
}
