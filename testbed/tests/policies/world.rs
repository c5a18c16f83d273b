//! A node with several workers between hosts and two slow network functions, and a random schedule.

use std::collections::VecDeque;
use std::ops::AddAssign;

use etherparse::PacketBuilder;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::{FIRST, instance_id};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BucketSet, PortId, Selection};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};
use weir_testbed::schedule::{Failure, Kind};

use crate::controller::{Care, Lead, Step};
use crate::sink::Sink;

/// By which packets come, by which they leave unless a policy says otherwise, and two functions.
const IN: u8 = 0;
const OUT: u8 = 1;
const FUNCTIONS: [u8; 2] = [2, 3];
const PORTS: u8 = 4;
/// Source ports of the flows.
const FLOWS: std::ops::Range<u16> = 1_000..1_012;
const STEPS: usize = 400;
/// Rounds in which all must have ended.
const ROUNDS_MAX: usize = 20_000;

/// What schedules have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) packets: u64,
    pub(crate) led: u64,
    pub(crate) held: u64,
    pub(crate) overflow: u64,
    pub(crate) parked: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.led += other.led;
        self.held += other.held;
        self.overflow += other.overflow;
        self.parked += other.parked;
    }
}

pub(crate) struct World {
    node: MemoryNode,
    rng: fastrand::Rng,
    care: Care,
    workers: usize,
    leads: Vec<Lead>,
    /// What waits at each network function: flows and numbers.
    functions: [VecDeque<(u16, u32)>; 2],
    sink: Sink,
    summary: Summary,
}

impl World {
    pub(crate) fn new(seed: u64, care: Care) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let workers = rng.usize(1..=3);
        let mut plan = Plan {
            workers,
            ports: PORTS,
            queues: workers as u16,
            port_ring: 256,
            frames: 16_384,
            parked: 256,
            hosts_known: rng.bool(),
            ..Plan::default()
        };
        plan.limits.hold = if rng.u8(..4) == 0 { rng.usize(0..40) } else { 2_048 };
        let mut node = MemoryNode::new(&plan, seed);
        spread(&mut node, workers);
        let leads = [(0, 1_000..=1_003), (1, 1_002..=1_007), (2, 1_006..=1_010)];
        let leads = leads.into_iter().map(|(n, sports)| Lead {
            name: format!("p{n}"),
            sports,
            to: FUNCTIONS[rng.usize(..2)],
            step: Step::Steady,
        });
        let leads: Vec<_> = leads.collect();
        let routes: Vec<_> = leads.iter().map(|lead| lead.route(false)).collect();
        node.node.put_policies(&api::Change::default(), &routes).unwrap();
        node.settle();
        let (functions, sink) = Default::default();
        Self { node, rng, care, workers, leads, functions, sink, summary: Summary::default() }
    }

    pub(crate) fn run(mut self) -> Result<Summary, Failure> {
        for _ in 0..STEPS {
            self.act()?;
        }
        self.finish()
    }

    fn act(&mut self) -> Result<(), Failure> {
        match self.rng.u8(..10) {
            0..=4 => self.inject(),
            5 => self.node.step_node(),
            6 | 7 => {
                let worker = self.rng.usize(..self.workers);
                self.step_worker(worker)?;
            }
            8 => {
                let (which, count) = (self.rng.usize(..2), self.rng.usize(..12));
                self.process(which, count)?;
            }
            _ => {
                let lead = self.rng.usize(..self.leads.len());
                self.lead_on(lead, true)?;
            }
        }
        Ok(())
    }

    /// A packet of some flow comes, always by the same queue.
    fn inject(&mut self) {
        let flow = self.rng.u16(FLOWS);
        let queue = flow % self.workers as u16;
        let number = self.sink.send(flow);
        let headers = PacketBuilder::ethernet2(host_mac(IN).0, port_mac(IN).0)
            .ipv4(host(IN).octets(), host(OUT).octets(), 64)
            .udp(flow, 53);
        let mut packet = Vec::new();
        headers.write(&mut packet, &number.to_be_bytes()).unwrap();
        assert!(self.node.wires.get_mut(&(PortId(IN), queue)).unwrap().inject(&packet));
        self.summary.packets += 1;
    }

    fn step_worker(&mut self, number: usize) -> Result<(), Failure> {
        self.node.step_worker(weir_state_transfer::WorkerId(number as u8));
        for port in 0..PORTS {
            for queue in 0..self.workers as u16 {
                while let Some(frame) = self.node.take(PortId(port), queue) {
                    self.left(port, &frame)?;
                }
            }
        }
        self.summary.parked += u64::from(self.waits_for_neighbours() > 0);
        Ok(())
    }

    fn left(&mut self, port: u8, frame: &[u8]) -> Result<(), Failure> {
        if frame[12..14] == [8, 6] {
            let queue = self.rng.u16(..self.workers as u16);
            assert!(self.node.answer(PortId(port), queue));
            return Ok(());
        }
        let flow = u16::from_be_bytes([frame[34], frame[35]]);
        let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
        match FUNCTIONS.iter().position(|function| *function == port) {
            Some(function) => self.functions[function].push_back((flow, number)),
            None if port == OUT => self.sink.take(flow, number)?,
            None => {
                let drops = self.node.node.counters().drops;
                return Err(Kind::Corrupted.at(format!("port {port}: {frame:02x?}, {drops:?}")));
            }
        }
        Ok(())
    }

    /// A network function passes on what it has.
    fn process(&mut self, which: usize, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let Some((flow, number)) = self.functions[which].pop_front() else { break };
            self.sink.take(flow, number)?;
        }
        Ok(())
    }

    /// Takes a lead one step further, if it can be; one that is steady begins anew if it may.
    fn lead_on(&mut self, which: usize, may_begin: bool) -> Result<(), Failure> {
        let shown = self.node.node.list_policies();
        let state = shown.routes[which].clone();
        let function = FUNCTIONS.iter().position(|port| *port == self.leads[which].to).unwrap();
        let is_processed = self.functions[function].is_empty() && self.waits_for_neighbours() == 0;
        let next = match self.leads[which].step {
            Step::Steady if may_begin && self.care == Care::NoHold => {
                self.leads[which].to = FUNCTIONS[1 - function];
                self.put(which, false)?;
                Step::Released
            }
            Step::Steady if may_begin => {
                self.put(which, true)?;
                Step::Held
            }
            Step::Held if self.care == Care::NoWait || (shown.adopted && is_processed) => {
                Step::Processed
            }
            Step::Processed => {
                self.leads[which].to = FUNCTIONS[1 - function];
                self.summary.led += 1;
                self.summary.held += state.holding;
                self.put(which, false)?;
                Step::Released
            }
            Step::Released if shown.adopted && state.holding == 0 => Step::Steady,
            step => step,
        };
        self.leads[which].step = next;
        Ok(())
    }

    fn put(&mut self, which: usize, holds: bool) -> Result<(), Failure> {
        let route = self.leads[which].route(holds);
        let put = self.node.node.put_policies(&api::Change::default(), &[route]);
        put.map_err(|why| Kind::Refused.at(why))
    }

    fn waits_for_neighbours(&self) -> u64 {
        let frames = self.node.node.counters().frames;
        frames.iter().find(|place| place.place == "parked").map_or(0, |place| place.frames)
    }

    /// Brings all that was begun to its end, and looks at what has come of it.
    fn finish(mut self) -> Result<Summary, Failure> {
        for round in 0.. {
            if round == ROUNDS_MAX {
                return Err(Kind::Stuck.at(format!("{:?}", self.leads)));
            }
            self.node.now.0 += 1_000_000;
            self.node.step_node();
            for worker in 0..self.workers {
                self.step_worker(worker)?;
            }
            for function in 0..2 {
                self.process(function, usize::MAX)?;
            }
            for lead in 0..self.leads.len() {
                self.lead_on(lead, false)?;
            }
            let is_steady = self.leads.iter().all(|lead| lead.step == Step::Steady);
            if is_steady && round > 50 && self.waits_for_neighbours() == 0 {
                break;
            }
        }
        self.node.settle();
        self.judge()
    }

    fn judge(mut self) -> Result<Summary, Failure> {
        let counters = self.node.node.counters();
        let unexcused = counters.drops.iter().find(|drop| drop.reason != "policy_hold_full");
        if let Some(drop) = unexcused {
            return Err(Kind::Dropped.at(format!("{drop:?}")));
        }
        let dropped: u64 = counters.drops.iter().map(|drop| drop.packets).sum();
        self.sink.is_complete_but_for(dropped)?;
        let balance = counters.balance.unwrap();
        if (balance.unaccounted, balance.held, balance.in_rings) != (0, 0, 0) {
            return Err(Kind::Balance.at(format!("{balance:?}")));
        }
        let shown = self.node.node.list_policies().routes;
        for (n, state) in shown.iter().enumerate() {
            let first = |flow: u16| self.leads.iter().position(|lead| lead.sports.contains(&flow));
            let expected = self.sink.sent(|flow| first(flow) == Some(n));
            if (state.packets, state.holding) != (expected, 0) {
                return Err(Kind::Counted.at(format!("{expected} packets: {state:?}")));
            }
        }
        self.summary.overflow = shown.iter().map(|state| state.overflow).sum();
        match self.summary.overflow == dropped {
            true => Ok(self.summary),
            false => Err(Kind::Counted.at(format!("{dropped} were dropped: {shown:?}"))),
        }
    }
}

/// Gives each worker an instance, and each instance buckets.
pub(crate) fn spread(node: &mut MemoryNode, workers: usize) {
    let change = api::Change::default();
    for n in 1..workers {
        let made = node.node.create_instance(&change, &format!("i{n}"), 0).unwrap();
        node.settle();
        let to = instance_id("to", made.id).unwrap();
        node.node.set_instance_state(&change, to, api::InstanceState::Active).unwrap();
        let size = 4096 / workers;
        let buckets = format!("{}-{}", n * size, (n + 1) * size - 1);
        let selection = Selection::Buckets(buckets.parse::<BucketSet>().unwrap());
        let request = Request::new(FIRST, to, selection);
        node.node.start_move(&change, request, true, node.now).unwrap();
        node.settle();
    }
}
