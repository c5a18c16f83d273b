//! A node with several workers between hosts and two slow network functions, and a random schedule.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::{FIRST, instance_id};
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BucketSet, PortId, Selection, WorkerId};
use weir_testbed::memory_node::{MemoryNode, Plan};
use weir_testbed::schedule::{Failure, Kind};

use crate::controller::{Care, Lead, Step, is_answered};
use crate::function::{Function, answer, packet};
use crate::relays::Relays;
use crate::sink::{Number, Sink};

/// By which packets come, by which they leave unless a policy says otherwise, and two functions.
pub(crate) const IN: u8 = 0;
pub(crate) const OUT: u8 = 1;
const FUNCTIONS: [u8; 2] = [2, 3];
const PORTS: u8 = 4;
/// Source ports of the flows, and of one that is there so that the last host is known.
const FLOWS: std::ops::Range<u16> = 1_000..1_012;
const GREETING: u16 = 999;
const STEPS: usize = 600;
/// Rounds in which nothing happens, after which nothing will.
const QUIET_ROUNDS: usize = 50;
/// Rounds in which all must have ended.
const ROUNDS_MAX: usize = 20_000;

/// What leaves towards a function.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Of a flow.
    Packet(u16, Number),
    /// An echo request, and the answer to it.
    Echo(Vec<u8>),
}

/// What schedules have come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) packets: u64,
    pub(crate) led: u64,
    pub(crate) held: u64,
    /// Held for sure.
    pub(crate) surely: u64,
    pub(crate) overflow: u64,
    pub(crate) parked: u64,
    pub(crate) outages: u64,
    /// Dropped for other reasons than overflow, which the schedule excuses.
    pub(crate) excused: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.led += other.led;
        self.held += other.held;
        self.surely += other.surely;
        self.overflow += other.overflow;
        self.parked += other.parked;
        self.outages += other.outages;
        self.excused += other.excused;
    }
}

/// What a schedule may do to the router.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Ports of functions go down, for less than a release waits.
    outages: bool,
    /// Fewer packets may wait for next hops than come.
    small_park: bool,
    /// Hosts miss requests for their link addresses.
    deaf: bool,
}

pub(crate) struct World {
    relays: Relays,
    node: MemoryNode,
    rng: fastrand::Rng,
    care: Care,
    weather: Weather,
    workers: usize,
    /// A worker that has no turn for a while, if there is such a one.
    lazy: usize,
    queues: u16,
    leads: Vec<Lead>,
    functions: [Function; 2],
    /// The last packet of each flow that a function has passed on.
    passed: BTreeMap<u16, Number>,
    sink: Sink,
    summary: Summary,
}

impl World {
    pub(crate) fn new(seed: u64, care: Care) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // So that they wait for each other, and for nothing else.
        let many = care.lacks_little();
        let workers = if many { 3 } else { rng.usize(1..=3) };
        let queues = if many { 3 } else { rng.u16(1..=workers as u16) };
        let weather = Weather {
            outages: rng.u8(..3) == 0 && !many,
            small_park: rng.u8(..4) == 0 && !many,
            deaf: rng.u8(..3) == 0 && !many,
        };
        let mut plan = Plan {
            workers,
            ports: PORTS,
            queues,
            // Has room for all that is let go at one time when a neighbour is known.
            port_ring: 512,
            frames: 16_384,
            parked: if weather.small_park { rng.u32(1..4) } else { 256 },
            hosts_known: rng.bool() || many,
            ..Plan::default()
        };
        plan.limits.hold = if rng.u8(..4) == 0 && !many { rng.usize(0..40) } else { 2_048 };
        let mut node = MemoryNode::new(&plan, seed);
        spread(&mut node, workers);
        greet(&mut node, queues);
        let leads = [(0, 1_000..=1_003), (1, 1_002..=1_007), (2, 1_006..=1_010)];
        let leads = leads.into_iter().map(|(n, sports)| Lead {
            name: format!("p{n}"),
            sports,
            to: FUNCTIONS[rng.usize(..2)],
            step: Step::Steady,
        });
        let leads: Vec<_> = leads.collect();
        let routes: Vec<_> = leads.iter().map(|lead| lead.route(false)).collect();
        node.node.put_policies(&api::Change::default(), &routes, node.now).unwrap();
        node.settle();
        let relays = match care == Care::EarlyMarkers || rng.bool() {
            true => Relays::new(&mut node, care == Care::EarlyMarkers),
            false => Relays::default(),
        };
        let functions = FUNCTIONS.map(|port| Function::new(port, queues));
        let (passed, sink, summary) = Default::default();
        Self {
            relays,
            node,
            rng,
            care,
            weather,
            workers,
            lazy: usize::MAX,
            queues,
            leads,
            functions,
            passed,
            sink,
            summary,
        }
    }

    pub(crate) fn run(mut self) -> Result<Summary, Failure> {
        let longer = if self.care.lacks_little() { 4 } else { 1 };
        for _ in 0..longer * STEPS {
            self.act()?;
        }
        self.finish()
    }

    fn act(&mut self) -> Result<(), Failure> {
        self.node.now.0 += self.rng.u64(..1_000_000);
        if self.rng.u8(..40) == 0 {
            self.lazy = self.rng.usize(..2 * self.workers);
        }
        match self.rng.u8(..21) {
            0..=7 => self.inject(),
            8 | 9 => self.node.step_node(),
            10..=13 => {
                let worker = self.rng.usize(..self.workers);
                if worker != self.lazy {
                    self.step_worker(worker, false)?;
                }
            }
            14 | 15 => {
                let (which, count) = (self.rng.usize(..2), self.rng.usize(..12));
                self.process(which, count);
            }
            16..=19 => {
                let lead = self.rng.usize(..self.leads.len());
                self.lead_on(lead, true)?;
            }
            _ if self.weather.outages => {
                let (which, is_down) = (self.rng.usize(..2), self.rng.bool());
                self.set_down(which, is_down);
            }
            _ => {}
        }
        Ok(())
    }

    /// A packet of some flow comes, always by the same queue.
    fn inject(&mut self) {
        let flow = self.rng.u16(FLOWS);
        let is_adopted = self.node.node.list_policies().adopted;
        let lead = first(&self.leads, flow).map(|n| &self.leads[n]);
        let is_held = lead.is_some_and(|lead| match lead.step {
            Step::Held(_) => is_adopted,
            Step::Processed => true,
            Step::Steady | Step::Released => false,
        });
        let number = self.sink.send(flow, is_held);
        let queue = flow % self.queues;
        let wire = self.node.wires.get_mut(&(PortId(IN), queue)).unwrap();
        assert!(wire.inject(&packet(IN, flow, number)));
        self.summary.packets += 1;
    }

    fn set_down(&mut self, which: usize, is_down: bool) {
        for queue in 0..self.queues {
            self.node.wires[&(PortId(FUNCTIONS[which]), queue)].set_down(is_down);
        }
        self.summary.outages += u64::from(is_down);
    }

    fn step_worker(&mut self, number: usize, in_the_end: bool) -> Result<(), Failure> {
        let worker = WorkerId(number as u8);
        self.relays.pass(worker, &mut self.rng, in_the_end);
        self.node.step_worker(worker);
        for port in 0..PORTS {
            for queue in 0..self.queues {
                while let Some(frame) = self.node.take(PortId(port), queue) {
                    self.left(port, &frame, in_the_end)?;
                }
            }
        }
        self.summary.parked += u64::from(self.waits_for_neighbours() > 0);
        Ok(())
    }

    fn left(&mut self, port: u8, frame: &[u8], in_the_end: bool) -> Result<(), Failure> {
        if frame[12..14] == [8, 6] {
            if in_the_end || !self.weather.deaf || self.rng.bool() {
                let queue = self.rng.u16(..self.queues);
                assert!(self.node.answer(PortId(port), queue));
            }
            return Ok(());
        }
        let function = FUNCTIONS.iter().position(|function| *function == port);
        if let (Some(function), Some(reply)) = (function, answer(port, frame)) {
            self.functions[function].take(Frame::Echo(reply));
            return Ok(());
        }
        let flow = u16::from_be_bytes([frame[34], frame[35]]);
        let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
        match function {
            Some(function) => self.functions[function].take(Frame::Packet(flow, number)),
            None if port == OUT => self.sink.take(flow, number)?,
            None => {
                let drops = self.node.node.counters().drops;
                let (weather, now) = (self.weather, self.node.now);
                let what = format!("port {port} at {now:?}: {frame:02x?}, {drops:?}, {weather:?}");
                return Err(Kind::Corrupted.at(what));
            }
        }
        Ok(())
    }

    /// A network function passes on what it has.
    fn process(&mut self, which: usize, count: usize) {
        for _ in 0..count {
            match self.functions[which].process(&mut self.node) {
                Some(Frame::Packet(flow, number)) => drop(self.passed.insert(flow, number)),
                Some(Frame::Echo(_)) => self.hold_up(),
                None => break,
            }
        }
    }

    /// Of what came in front of an echo, some waits for a while where a careful controller waits for it.
    fn hold_up(&mut self) {
        match self.care {
            Care::OnlyAnswers => self.lazy = self.rng.usize(..self.workers),
            Care::EarlyMarkers => {
                self.relays.stall(WorkerId(self.rng.u8(..self.workers as u8)));
            }
            Care::Full | Care::NoHold | Care::NoWait => {}
        }
    }

    /// Takes a lead one step further, if it can be; one that is steady begins anew if it may.
    fn lead_on(&mut self, which: usize, may_begin: bool) -> Result<(), Failure> {
        let shown = self.node.node.list_policies();
        let state = shown.routes[which].clone();
        let elsewhere = FUNCTIONS[usize::from(self.leads[which].to == FUNCTIONS[0])];
        let next = match self.leads[which].step {
            Step::Steady if may_begin && self.care == Care::NoHold => {
                self.leads[which].to = elsewhere;
                self.put(which, false)?;
                Step::Released
            }
            Step::Steady if may_begin => {
                self.put(which, true)?;
                self.ask(which)?
            }
            Step::Held(nonce) => self.hear(which, nonce)?,
            Step::Processed => {
                self.let_come(which)?;
                let state = self.node.node.list_policies().routes[which].clone();
                self.leads[which].to = elsewhere;
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

    /// Has all that was sent come to where it is held, or leaves it where it is.
    fn let_come(&mut self, which: usize) -> Result<(), Failure> {
        // What is in a ring to a worker that sends by a port is lost when that goes down.
        let may_be_lost = self.weather.outages && usize::from(self.queues) < self.workers;
        let all_came = self.care == Care::Full && !may_be_lost && self.rng.bool();
        for round in 0..20 {
            let worker = round % self.workers;
            if all_came {
                self.step_worker(worker, true)?;
            }
        }
        self.sink.release(|flow| first(&self.leads, flow) == Some(which), all_came);
        Ok(())
    }

    /// Asks where it leads whether all that was sent there is processed.
    fn ask(&mut self, which: usize) -> Result<Step, Failure> {
        let (hop, nonce) = (self.leads[which].hop(), self.rng.u64(..));
        let asked = self.node.node.begin_probe(&[hop], nonce, self.node.now);
        asked.map(|()| Step::Held(nonce)).map_err(|why| Kind::Refused.at(why))
    }

    fn hear(&mut self, which: usize, nonce: u64) -> Result<Step, Failure> {
        let Some(unanswered) = self.node.node.unanswered(nonce) else { return self.ask(which) };
        if !is_answered(self.care, &unanswered) {
            if self.rng.u8(..16) == 0 {
                self.node.node.repeat_probe(nonce);
            }
            return Ok(Step::Held(nonce));
        }
        self.node.node.end_probe(nonce);
        if [Care::Full, Care::EarlyMarkers].contains(&self.care) {
            self.is_processed(which)?;
        }
        Ok(Step::Processed)
    }

    /// All that a function had of a lead has come to its end, where that can be seen at once.
    fn is_processed(&self, which: usize) -> Result<(), Failure> {
        if usize::from(self.queues) < self.workers {
            return Ok(());
        }
        let is_led = |flow: u16| first(&self.leads, flow) == Some(which);
        let mut passed = self.passed.iter().filter(|(flow, _)| is_led(**flow));
        match passed.find(|(flow, number)| self.sink.last(**flow) < **number) {
            None => Ok(()),
            Some(late) => Err(Kind::Early.at(format!("{late:?} has not come of lead {which}"))),
        }
    }

    fn put(&mut self, which: usize, holds: bool) -> Result<(), Failure> {
        let route = self.leads[which].route(holds);
        let put = self.node.node.put_policies(&api::Change::default(), &[route], self.node.now);
        put.map_err(|why| Kind::Refused.at(why))
    }

    fn waits_for_neighbours(&self) -> u64 {
        let frames = self.node.node.counters().frames;
        frames.iter().find(|place| place.place == "parked").map_or(0, |place| place.frames)
    }

    /// Brings all that was begun to its end, and looks at what has come of it.
    fn finish(mut self) -> Result<Summary, Failure> {
        self.set_down(0, false);
        self.set_down(1, false);
        let mut quiet = 0;
        for round in 0.. {
            if round == ROUNDS_MAX {
                return Err(Kind::Stuck.at(format!("{:?}", self.leads)));
            }
            self.node.now.0 += 1_000_000;
            self.node.step_node();
            for worker in 0..self.workers {
                self.step_worker(worker, true)?;
            }
            for function in 0..2 {
                self.process(function, usize::MAX);
            }
            for lead in 0..self.leads.len() {
                self.lead_on(lead, false)?;
            }
            let is_steady = self.leads.iter().all(|lead| lead.step == Step::Steady);
            let is_idle = self.functions.iter().all(Function::is_idle);
            let is_quiet = is_steady && is_idle && self.waits_for_neighbours() == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            if quiet == QUIET_ROUNDS {
                break;
            }
        }
        self.node.settle();
        self.judge()
    }

    fn judge(mut self) -> Result<Summary, Failure> {
        let counters = self.node.node.counters();
        let Weather { outages, small_park, deaf } = self.weather;
        let is_excused = |reason: &str| match reason {
            "policy_hold_full" => true,
            "port_down" => outages,
            "park_full" => small_park || deaf,
            _ => false,
        };
        if let Some(drop) = counters.drops.iter().find(|drop| !is_excused(&drop.reason)) {
            let (workers, queues, weather) = (self.workers, self.queues, self.weather);
            let what = format!("{drop:?} by {workers} workers, {queues} queues, in {weather:?}");
            return Err(Kind::Dropped.at(what));
        }
        let dropped: u64 = counters.drops.iter().map(|drop| drop.packets).sum();
        let full = counters.drops.iter().find(|drop| drop.reason == "policy_hold_full");
        let full = full.map_or(0, |drop| drop.packets);
        self.sink.judge(dropped, full)?;
        let balance = counters.balance.unwrap();
        if (balance.unaccounted, balance.held, balance.in_rings) != (0, 0, 0) {
            return Err(Kind::Balance.at(format!("{balance:?}")));
        }
        let shown = self.node.node.list_policies().routes;
        for (n, state) in shown.iter().enumerate() {
            let expected = self.sink.sent(|flow| first(&self.leads, flow) == Some(n));
            if (state.packets, state.holding, state.undelivered) != (expected, 0, 0) {
                return Err(Kind::Counted.at(format!("{expected} packets: {state:?}")));
            }
        }
        self.summary.overflow = shown.iter().map(|state| state.overflow).sum();
        self.summary.surely = self.sink.held();
        self.summary.excused = dropped - full;
        match self.summary.overflow == full {
            true => Ok(self.summary),
            false => Err(Kind::Counted.at(format!("{full} found no room: {shown:?}"))),
        }
    }
}

/// The lead that decides for a flow.
fn first(leads: &[Lead], flow: u16) -> Option<usize> {
    leads.iter().position(|lead| lead.sports.contains(&flow))
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

/// Has the host behind the router be known: what comes back from functions waits for nobody.
fn greet(node: &mut MemoryNode, queues: u16) {
    let greeting = packet(IN, GREETING, 0);
    assert!(node.wires.get_mut(&(PortId(IN), 0)).unwrap().inject(&greeting));
    for _ in 0..2 {
        node.settle();
        for queue in 0..queues {
            while let Some(frame) = node.take(PortId(OUT), queue) {
                if frame[12..14] == [8, 6] {
                    assert!(node.answer(PortId(OUT), 0));
                }
            }
        }
    }
    node.settle();
}
