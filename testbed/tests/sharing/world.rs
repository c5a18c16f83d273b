//! A node and the hosts around it: packets of sources that ask for more than they may have, while
//! instances join and leave.

mod closing;

use std::time::Duration;

use etherparse::PacketBuilder;
use fastrand::Rng;
use weir_api::dataplane::v1 as api;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::share::Mode;
use weir_state_transfer::{
    FlowKey, InstanceId, Nanos, ServiceId, ShareId, SteeringHash, WorkerId, protocol,
};
use weir_testbed::memory_node::{MemoryNode, Plan, host, host_mac, port_mac};
use weir_testbed::schedule::{Failure, Kind};

use crate::counts::{Counting, Counts};
use crate::judge::Judge;
use crate::relays::Relays;
use crate::setup::{IN, OUT, TIMEOUT, node, phase, plan, start_share_by};
use crate::total::Total;
use closing::protocol_of;

/// What is different from a node as it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// The rings are cut, and all passes as it is.
    Spliced,
    /// Workers panic, homes in executions too, which they are to survive.
    Panics,
    /// No share is started.
    NotShared,
    /// The share is strong, and is judged as if it were strict.
    OnlyStrong,
    /// The same, while some join in each round of traffic.
    StrongAsOthersJoin,
    /// While some join, they tell of connections that sources do not have.
    TooMuchAsOthersJoin,
    /// Messages between instances are lost.
    Lost,
    /// Messages overtake the one in front of them.
    Swapped,
    /// Instances forget what they know of sources.
    Forgetful,
}

impl Broken {
    /// Whether it shows only where messages of several workers wait for each other, and in longer walks.
    fn shows_seldom(self) -> bool {
        matches!(self, Self::Swapped | Self::StrongAsOthersJoin)
    }

    /// Whether some join in each round of traffic.
    fn joins(self) -> bool {
        matches!(self, Self::StrongAsOthersJoin | Self::TooMuchAsOthersJoin)
    }
}

/// The patience of a share whose workers panic.
const SHORT: Duration = Duration::from_millis(100);
/// Rounds of traffic, at the end of each of which all connections end.
const EPOCHS: usize = 3;
/// Flows of an epoch, and sources that they come from.
const FLOWS: u16 = 24;
const SOURCES: u8 = 3;

#[derive(Debug)]
pub(crate) struct World {
    broken: Broken,
    rng: Rng,
    mode: Mode,
    /// The secret of the share.
    key: u64,
    steps: usize,
    instances: Vec<InstanceId>,
    share: Option<ShareId>,
    judge: Judge,
    total: Total,
    relays: Option<Relays>,
    counting: Counting,
    /// Panics, and instances of the share that have failed, which the judge knows of.
    judged: (u64, u64),
    hash: SteeringHash,
    owners: Vec<u8>,
    /// The last field: frames that are elsewhere come home before it goes.
    node: MemoryNode,
}

impl World {
    pub(crate) fn new(seed: u64, key: u64, broken: Broken) -> Result<Self, Failure> {
        let mut rng = Rng::with_seed(seed);
        let fewest = if broken.joins() { 3 } else { 2 };
        let seldom = broken.shows_seldom();
        let (workers, instances) =
            (rng.usize(if seldom { 2 } else { 1 }..=3), rng.usize(fewest..=4));
        let only_strong = matches!(broken, Broken::OnlyStrong | Broken::StrongAsOthersJoin);
        // In a strict one those that overtake wait for those in front.
        let may_be_strict = broken != Broken::Swapped;
        let (most, strict) = (rng.u32(1..=4), only_strong || (rng.bool() && may_be_strict));
        let mut plan: Plan = plan(workers, most);
        if broken == Broken::Panics {
            plan.limits.share.patience = SHORT;
            // What waits for a place that was lost leaves at once, when nobody takes any.
            plan.port_ring = 512;
            // A flow that was given up may begin anew in the next epoch.
            plan.flow_timeout = TIMEOUT / 2;
        }
        plan.limits.ring = [8, 16, 256][rng.usize(..3)];
        let (mut node, instances) = node(&plan, instances, seed);
        let counting = Counting::new(&mut node, &instances);
        let mode = if strict && !only_strong { Mode::Strict } else { Mode::Strong };
        let owners = node.node.show_steering().owners;
        let mut world = Self {
            broken,
            steps: rng.usize(if seldom { 400 } else { 100 }..600),
            mode,
            key,
            judge: Judge::new(most, strict, &instances, &instances),
            instances,
            share: None,
            total: Total { schedules: 1, ..Total::default() },
            relays: None,
            counting,
            judged: (0, 0),
            hash: SteeringHash::new(weir_state_transfer::steering_hash::random_key(seed)),
            owners,
            rng,
            node,
        };
        if broken != Broken::NotShared {
            world.start()?;
        }
        if matches!(broken, Broken::Spliced | Broken::Lost | Broken::Swapped) {
            world.relays = Some(Relays::new(&mut world.node, broken, plan.limits.ring));
        }
        Ok(world)
    }

    /// Runs the schedule.
    pub(crate) fn walk(mut self) -> Result<Total, Failure> {
        for _ in 0..EPOCHS {
            if self.broken.joins() {
                self.join_again();
            }
            self.begin_connections()?;
            if self.rng.bool() {
                self.change_members();
            }
            if self.broken == Broken::Panics && self.rng.bool() {
                self.panic();
            }
            self.close_connections()?;
            self.end_connections()?;
        }
        if self.relays.is_none() && self.share.is_some() {
            self.finish()?;
        }
        Ok(self.total)
    }

    /// All but two leave and join again.
    fn join_again(&mut self) {
        let all = self.instances.clone();
        self.have_members(&all[..2]);
        self.settle();
        self.have_members(&all);
        if self.broken == Broken::TooMuchAsOthersJoin {
            self.counting.tell(&mut self.node, all[2], 10..10 + SOURCES, (5, 0));
        }
    }

    /// All instances share.
    fn start(&mut self) -> Result<(), Failure> {
        let what = ("any", self.mode);
        let started = start_share_by(&mut self.node, &self.instances, what, self.key);
        let share = started.map_err(|error| Kind::Refused.at(error))?;
        self.share = Some(share);
        self.settle();
        match phase(&self.node, share) {
            api::SharePhase::Steady => Ok(()),
            phase => Err(Kind::Stuck.at(format!("the share is {phase:?}"))),
        }
    }

    /// Something happens; of these flows some close or begin anew, or others send.
    fn step(&mut self, closing: Option<&[u16]>) {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        match self.rng.u8(..16) {
            0..4 => match closing {
                Some(flows) => {
                    let flow = flows[self.rng.usize(..flows.len())];
                    self.close(flow);
                }
                None => {
                    let flow = self.rng.u16(..FLOWS);
                    self.send_of(flow);
                }
            },
            4..11 => {
                let worker = workers[self.rng.usize(..workers.len())];
                self.poll(worker);
            }
            11 => self.node.step_node(),
            12 => self.node.now = Nanos(self.node.now.0 + self.rng.u64(..2_000)),
            13 if self.broken == Broken::Panics && self.rng.u8(..4) == 0 => self.panic(),
            13 if self.rng.u8(..8) == 0 => self.change_members(),
            13 if self.broken == Broken::Forgetful => self.forget(),
            _ => _ = self.take(),
        }
    }

    /// A few packets of a flow come in, always by the same queue.
    fn send_of(&mut self, number: u16) {
        let (address, sport, protocol) = (address(number), 1000 + number, protocol_of(number));
        let (ends, ports) = ((closing::source(number).into(), host(OUT.0)), (sport, 53));
        let key = FlowKey::v4(ends.0, ends.1, ports, protocol, ServiceId(0));
        let owner = InstanceId(self.owners[self.hash.bucket(&key).index()]);
        let queue = self.queue(number);
        for _ in 0..self.rng.u8(1..=3) {
            let flow = self.judge.flow(number, (address, owner, queue));
            let packet = match protocol {
                protocol::TCP => Self::syn(number, flow.has_closed(), flow.sent),
                _ => datagram(number, flow.sent),
            };
            if self.node.wires.get_mut(&(IN, queue)).unwrap().inject(&packet) {
                flow.sent += 1;
            }
        }
    }

    /// The queue by which the packets of a flow come in.
    fn queue(&self, flow: u16) -> u16 {
        let queues = self.node.wires.keys().filter(|(port, _)| *port == IN).count() as u16;
        flow % queues
    }

    fn poll(&mut self, worker: WorkerId) {
        if let Some(relays) = &mut self.relays {
            relays.pass(worker);
        }
        self.node.step_worker(worker);
        let held = self.node.node.counters().balance.unwrap().held;
        self.total.waited += u64::from(held > 0);
    }

    fn panic(&mut self) {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        let worker = workers[self.rng.usize(..workers.len())];
        let stages =
            [FaultStage::Taken, FaultStage::Forwarding, FaultStage::Function, FaultStage::Executed];
        let stage = stages[self.rng.usize(..stages.len())];
        let fault = Fault { stage, packets: self.rng.u64(1..4) };
        self.node.node.panic_worker(worker, fault).unwrap();
    }

    fn forget(&mut self) {
        let at = self.instances[self.rng.usize(..self.instances.len())];
        self.counting.forget(&mut self.node, at);
    }

    /// Instances leave and join, whatever is under way to them.
    fn change_members(&mut self) {
        let chosen: Vec<_> =
            self.instances.iter().copied().filter(|_| self.rng.u8(..3) > 0).collect();
        self.have_members(&chosen);
    }

    fn have_members(&mut self, chosen: &[InstanceId]) {
        let Some(share) = self.share.filter(|_| self.relays.is_none()) else { return };
        if phase(&self.node, share) != api::SharePhase::Steady || chosen.len() < 2 {
            return;
        }
        self.judge.members_change(&self.members());
        if chosen == self.members() {
            return;
        }
        let (change, now) = (api::Change::default(), self.node.now);
        self.node.node.change_share(&change, share, chosen, now).unwrap();
        self.judge.members_change(chosen);
        self.total.changes += 1;
        let held = self.node.node.counters().balance.unwrap().held;
        self.total.busy_changes += u64::from(held > 0);
    }

    /// Who shares, in their order.
    fn members(&self) -> Vec<InstanceId> {
        let Some(share) = self.share else { return self.instances.clone() };
        let shown = self.node.node.show_share(share).unwrap().instances;
        let shares = |id: &InstanceId| shown.contains(&u32::from(id.0));
        self.instances.iter().copied().filter(shares).collect()
    }

    fn settle(&mut self) {
        if self.relays.is_some() {
            self.rounds(200);
            return;
        }
        loop {
            self.node.settle();
            // What was taken is completed. What was lost with its place in the order is given up.
            let held = self.node.node.counters().balance.unwrap().held;
            match (self.take(), self.broken == Broken::Panics && held > 0) {
                (true, _) => {}
                (false, true) => self.pass_time(SHORT / 4),
                (false, false) => return,
            }
        }
    }

    /// Rounds of everybody.
    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.node.now = Nanos(self.node.now.0 + 1_000_000);
            self.node.step_node();
            let workers: Vec<_> = self.node.workers.keys().copied().collect();
            workers.into_iter().for_each(|worker| self.poll(worker));
            self.take();
        }
    }

    fn pass_time(&mut self, time: Duration) {
        self.node.now = Nanos(self.node.now.0 + time.as_nanos() as u64);
    }

    /// Takes what has left; whether anything has.
    fn take(&mut self) -> bool {
        let mut taken = false;
        let queues: Vec<_> = self.node.wires.keys().copied().collect();
        for (port, queue) in queues {
            while let Some(packet) = self.node.take(port, queue) {
                self.judge.left(&packet);
                taken = true;
            }
        }
        taken
    }

    /// Packets come, until nothing is under way any more, which is judged.
    fn begin_connections(&mut self) -> Result<(), Failure> {
        for _ in 0..self.steps {
            self.step(None);
        }
        let counts = self.come_to_rest()?;
        self.judge.check(&self.node, counts, &mut self.total)
    }

    /// Time passes until all connections have ended, which is judged.
    fn end_connections(&mut self) -> Result<(), Failure> {
        self.time_out();
        let counts = self.come_to_rest()?;
        self.judge.check_end(&self.node, counts, &mut self.total)
    }

    fn time_out(&mut self) {
        self.pass_time(TIMEOUT);
        // The hand of the sweep goes all the way round.
        self.rounds(100);
    }

    /// Lets all that is under way end; what has been counted then. Who shares no more, since all who
    /// have shared have failed, shares anew.
    fn come_to_rest(&mut self) -> Result<Counts, Failure> {
        self.settle();
        if self.broken == Broken::Panics {
            self.wait_for_places();
        }
        if self.broken == Broken::TooMuchAsOthersJoin {
            self.counting.tell(&mut self.node, self.instances[2], 10..10 + SOURCES, (5, 5));
            self.settle();
        }
        let panics = self.panics();
        if let Some(share) = self.share {
            let before = self.judge.members().len() as u64;
            let shown = self.node.node.show_share(share).unwrap();
            self.judge.members_change(&self.members());
            let failed = match shown.phase() {
                api::SharePhase::Ended => before,
                _ => shown.failed.len() as u64 - self.judged.1,
            };
            self.judge.panicked(panics - self.judged.0, failed);
            (self.total.failed, self.judged.1) =
                (self.total.failed + failed, self.judged.1 + failed);
            match shown.phase() {
                api::SharePhase::Steady => {}
                api::SharePhase::Ended if self.broken == Broken::Panics => {
                    self.judge.members_change(&self.instances);
                    self.judged.1 = 0;
                    self.start()?;
                }
                phase => return Err(Kind::Stuck.at(format!("the share is {phase:?}"))),
            }
        }
        self.total.panics += panics - self.judged.0;
        self.judged.0 = panics;
        Ok(self.counting.ask(&mut self.node, self.relays.as_mut()))
    }

    /// What comes behind a place that was lost in a panic waits at its home, though no packet does, and
    /// then may bring forth more of that kind.
    fn wait_for_places(&mut self) {
        for _ in 0..4 {
            self.pass_time(SHORT / 2);
            self.settle();
        }
    }

    /// How often workers have panicked.
    fn panics(&self) -> u64 {
        self.node.node.list_workers().iter().map(|worker| worker.restarts).sum()
    }

    /// All share, and what nobody has open any more is forgotten; or the share ends first.
    fn finish(&mut self) -> Result<(), Failure> {
        if self.panics() == 0 && self.rng.bool() {
            self.begin_connections()?;
            self.end_share()?;
            self.time_out();
            let counts = self.counting.ask(&mut self.node, None);
            // One that was asked for earlier may have come only now.
            return if self.panics() == 0 { self.judge.check_replicas(&counts) } else { Ok(()) };
        }
        let all = self.instances.clone();
        self.have_members(&all);
        self.settle();
        self.end_connections()?;
        let counts = self.counting.ask(&mut self.node, None);
        if !self.judge.is_astray() && !counts.is_empty() {
            return Err(Kind::Counted.at(format!("nobody has anything open: {counts:?}")));
        }
        self.end_share()
    }

    fn end_share(&mut self) -> Result<(), Failure> {
        let Some(share) = self.share else { return Ok(()) };
        let ended = self.node.node.end_share(&api::Change::default(), share, self.node.now);
        ended.map_err(|error| Kind::Refused.at(error))?;
        self.settle();
        match phase(&self.node, share) {
            api::SharePhase::Ended => Ok(()),
            phase => Err(Kind::Stuck.at(format!("the share is {phase:?}"))),
        }
    }
}

/// The last byte of the address that a flow is from.
fn address(flow: u16) -> u8 {
    10 + (flow % u16::from(SOURCES)) as u8
}

/// A packet of a flow of UDP.
fn datagram(flow: u16, sequence: u32) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
        .ipv4(closing::source(flow), host(OUT.0).octets(), 64)
        .udp(1000 + flow, 53);
    let mut packet = Vec::new();
    headers.write(&mut packet, &sequence.to_be_bytes()).unwrap();
    packet
}
