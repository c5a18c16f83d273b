//! Frames through a node over memory ports, its workers stepped in random order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::Duration;

use ipnet::IpNet;
use weir_api::dataplane::v1 as api;
use weir_dataplane::nf::assets::Asset;
use weir_dataplane::nf::ids::record::{ConnId, Uid};
use weir_dataplane::nf::{ChainConfig, Record, Timestamp, ids};
use weir_dataplane::node::Limits;
use weir_dataplane::route_table::NextHop;
use weir_dataplane::worker::FlowQuery;
use weir_state_transfer::{FlowKey, Nanos, PortId, ServiceId, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan};

use crate::naive::{Expected, PORT_OUT, State, flow_of};
use crate::source::PORT_IN;

const WORKERS: u8 = 2;
const QUEUES: u16 = 2;
/// What a poll round may send at most fits several times.
const PORT_RING: usize = 1024;
/// Rounds in which what is waited for must have happened once there is no traffic.
const ROUNDS_MAX: usize = 100_000;

/// A replay in progress.
pub(crate) struct Replay<'a> {
    pub(crate) stepped: MemoryNode,
    pub(crate) rng: fastrand::Rng,
    frames: &'a [Vec<u8>],
    next: usize,
    outcome: Outcome,
}

/// What came of a replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Frames that left by the port that leads to everywhere, by flow, in order.
    pub(crate) forwarded: HashMap<FlowKey, Vec<Vec<u8>>>,
    /// Frames that went back, in no order: each flow's are alike.
    answers: Vec<Vec<u8>>,
    /// Packets by what they ended as, other than transmitted.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) states: HashMap<FlowKey, State>,
    /// Lines that network functions have logged, in no order, without their times.
    pub(crate) logged: Vec<String>,
}

impl<'a> Replay<'a> {
    /// A router with one instance and a default route of each family.
    pub(crate) fn new(frames: &'a [Vec<u8>], functions: &ChainConfig, seed: u64) -> Self {
        let stepped = node(functions, seed);
        let rng = fastrand::Rng::with_seed(seed);
        Self { stepped, rng, frames, next: 0, outcome: Outcome::default() }
    }

    /// Whether all frames are in.
    pub(crate) fn is_fed(&self) -> bool {
        self.next == self.frames.len()
    }

    /// Goes on with the traffic until a condition holds.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut rounds = 0;
        while !condition(self) {
            self.round();
            rounds = if self.is_fed() { rounds + 1 } else { 0 };
            assert!(rounds < ROUNDS_MAX, "in vain: {what}");
        }
    }

    /// Lets everything come out and ends.
    pub(crate) fn finish(mut self) -> Outcome {
        self.stepped.settle();
        while self.take_all() > 0 {
            self.stepped.settle();
        }
        let balance = self.stepped.node.counters().balance.unwrap();
        let at_rest = (balance.held, balance.in_rings, balance.unaccounted, balance.overload);
        assert_eq!(at_rest, (0, 0, 0, 0), "{balance:?}");
        assert_eq!(balance.received, self.frames.len() as u64, "{balance:?}");
        self.count_refused(&balance);
        self.read_states();
        self.stepped.node.stop(self.stepped.now);
        self.stepped.settle();
        let records = self.stepped.records.drain(..).map(|(_, record)| record);
        self.outcome.logged = records.filter_map(timeless).collect();
        self.outcome.logged.sort();
        // Each instance tells which hosts it sees.
        self.outcome.logged.dedup_by(|one, other| one == other && one.starts_with(HOST));
        self.outcome.answers.sort();
        self.outcome
    }

    fn round(&mut self) {
        self.stepped.now = Nanos(self.stepped.now.0 + 10_000);
        for _ in 0..self.rng.u8(..12) {
            let Some(frame) = self.frames.get(self.next) else { break };
            let wire = self.stepped.wires.get_mut(&(PortId(PORT_IN), queue_of(frame))).unwrap();
            if !wire.inject(frame) {
                break;
            }
            self.next += 1;
        }
        for _ in 0..self.rng.u8(1..4) {
            let worker = WorkerId(self.rng.u8(..WORKERS));
            self.stepped.step_worker(worker);
        }
        if self.rng.bool() {
            self.stepped.step_node();
        }
        // Now and then frames stay in the rings of the port.
        if self.rng.u8(..4) > 0 {
            self.take_all();
        }
    }

    /// Takes what has been sent; how many frames.
    fn take_all(&mut self) -> usize {
        let mut taken = 0;
        for queue in 0..QUEUES {
            while let Some(frame) = self.stepped.take(PortId(PORT_OUT), queue) {
                let flow = flow_of(&frame).expect("what a router sends is a packet");
                self.outcome.forwarded.entry(flow).or_default().push(frame);
                taken += 1;
            }
            while let Some(frame) = self.stepped.take(PortId(PORT_IN), queue) {
                self.outcome.answers.push(frame);
                taken += 1;
            }
        }
        taken
    }

    fn count_refused(&mut self, balance: &api::Balance) {
        let drops = self.stepped.node.counters().drops;
        self.outcome.refused = drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect();
        self.outcome.refused.insert("consumed".to_owned(), balance.consumed);
    }

    fn read_states(&mut self) {
        let (to, pieces) = mpsc::channel();
        self.stepped.node.report_flows(FlowQuery { id: 0, filter: None, instance: None }, to);
        self.stepped.settle();
        for flow in pieces.into_iter().flatten() {
            let state = State { packets: flow.packets, bytes: flow.bytes, digest: flow.digest };
            let other = self.outcome.states.insert(flow.key, state);
            assert_eq!(other, None, "{:?} has two owners", flow.key);
        }
    }
}

impl Outcome {
    /// Where another outcome differs, if it does.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        difference("packets", &self.forwarded, &other.forwarded)
            .or_else(|| difference("state", &self.states, &other.states))
            .or_else(|| {
                (self.answers != other.answers).then(|| {
                    let (one, many) = (self.answers.len(), other.answers.len());
                    format!("answers: {one} and {many}")
                })
            })
            .or_else(|| {
                (self.refused != other.refused)
                    .then(|| format!("refused {:?} and {:?}", self.refused, other.refused))
            })
    }

    /// Where the logs differ, if they do.
    pub(crate) fn log_difference(&self, other: &Self) -> Option<String> {
        let both = self.logged.iter().zip(&other.logged).find(|(one, other)| one != other);
        let lengths = (self.logged.len(), other.logged.len());
        match both {
            Some((one, other)) => Some(format!("logged {one:?} and {other:?}")),
            None => (lengths.0 != lengths.1).then(|| format!("logged {lengths:?} lines")),
        }
    }

    /// Where the outcome differs from what was expected, if it does.
    pub(crate) fn difference_to(&self, expected: &Expected) -> Option<String> {
        let refused = self.refused.values().sum::<u64>();
        difference("packets", &self.forwarded, &expected.forwarded)
            .or_else(|| difference("state", &self.states, &expected.states))
            .or_else(|| {
                (refused != expected.refused)
                    .then(|| format!("refused {:?}, expected {}", self.refused, expected.refused))
            })
    }
}

/// The first flow that two maps say different things of.
fn difference<T: PartialEq + std::fmt::Debug>(
    what: &str,
    one: &HashMap<FlowKey, T>,
    other: &HashMap<FlowKey, T>,
) -> Option<String> {
    let mut flows: Vec<_> = one.keys().chain(other.keys()).collect();
    flows.sort();
    let flow = flows.into_iter().find(|flow| one.get(flow) != other.get(flow))?;
    Some(format!("{what} of {flow:?}: {:?} and {:?}", one.get(flow), other.get(flow)))
}

/// What lines about hosts begin with.
const HOST: &str = "host\t";

/// A record as a line, but for when it was made: that is up to the order of the rounds. What else
/// is known of sources and hosts is not the same in many instances until it is copied.
fn timeless(record: Record) -> Option<String> {
    let mut record = match record {
        Record::Ids(record) => record,
        Record::Asset(record) => {
            return (record.asset == Asset::Host).then(|| format!("{HOST}{}", record.host));
        }
    };
    let host = Ipv4Addr::UNSPECIFIED;
    let key = FlowKey::v4(host, host, (0, 0), 0, ServiceId(0));
    let nameless = |id: &mut ConnId| id.uid = Uid::of(&key, Timestamp(0));
    match &mut record {
        ids::Record::Conn(record) => {
            nameless(&mut record.id);
            // One that lasts no time has no bytes in Zeek's logs.
            (record.ts, record.duration) = (Timestamp(0), Duration::from_secs(1));
        }
        ids::Record::Http(record) => {
            nameless(&mut record.id);
            record.ts = Timestamp(0);
        }
        ids::Record::Scan(_) => return None,
    }
    Some(ids::log::line(&record))
}

/// The packets of a flow come in by one queue, in both directions, as a network card would have it.
pub(crate) fn queue_of(frame: &[u8]) -> u16 {
    let mut hasher = std::hash::DefaultHasher::new();
    flow_of(frame).map(|key| key.both_ways()).hash(&mut hasher);
    (hasher.finish() % u64::from(QUEUES)) as u16
}

/// Networks that no capture has, so that each packet goes by the default route.
fn addresses(port: u8) -> Vec<IpNet> {
    let nets = [format!("100.127.{port}.1/24"), format!("2001:db8:ffff:{port}::1/64")];
    nets.iter().map(|net| net.parse().expect("an address")).collect()
}

/// A node with one instance, two workers and default routes to the host at the port out.
pub(crate) fn node(functions: &ChainConfig, seed: u64) -> MemoryNode {
    let limits = Limits { functions: functions.clone(), ..Plan::default().limits };
    let plan = Plan {
        limits,
        workers: usize::from(WORKERS),
        queues: QUEUES,
        // Twice what waits in all rings: no answer is left out for want of a frame.
        frames: 16 * PORT_RING as u32,
        port_ring: PORT_RING,
        // The worker that answers for a next hop may long not have its turn.
        parked: 8 * PORT_RING as u32,
        addresses,
        ..Plan::default()
    };
    let mut stepped = MemoryNode::new(&plan, seed);
    let routes = [("0.0.0.0/0", "100.127.1.2"), ("::/0", "2001:db8:ffff:1::2")];
    for (prefix, via) in routes {
        let hop = NextHop { port: PortId(PORT_OUT), via: Some(via.parse().unwrap()) };
        stepped.node.set_route(prefix.parse().unwrap(), hop).unwrap();
    }
    stepped.settle();
    stepped
}
