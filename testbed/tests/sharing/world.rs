//! A node and the hosts around it: packets of sources that ask for more than they may have, while
//! instances join and leave.

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

use crate::judge::{Judge, Total};
use crate::relays::Relays;
use crate::setup::{IN, OUT, TIMEOUT, node, phase, plan, start_share_of};

/// What is different from a node as it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// The rings are cut, and all passes as it is.
    Spliced,
    /// Workers panic, which they are to survive.
    Panics,
    /// No share is started.
    NotShared,
    /// The share is strong, and is judged as if it were strict.
    OnlyStrong,
    /// Messages between instances are lost.
    Lost,
    /// A message overtakes the one in front of it.
    Swapped,
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
    steps: usize,
    instances: Vec<InstanceId>,
    share: Option<ShareId>,
    /// Instances that share and have done so since nothing was under way.
    members: Vec<InstanceId>,
    judge: Judge,
    total: Total,
    relays: Option<Relays>,
    hash: SteeringHash,
    owners: Vec<u8>,
    /// The last field: frames that are elsewhere come home before it goes.
    node: MemoryNode,
}

impl World {
    pub(crate) fn new(seed: u64, broken: Broken) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (workers, instances) = (rng.usize(1..=3), rng.usize(2..=4));
        let (most, strict) = (rng.u32(1..=4), broken == Broken::OnlyStrong || rng.bool());
        let mut plan: Plan = plan(workers, most);
        if broken == Broken::Panics {
            plan.limits.share.patience = SHORT;
        }
        plan.limits.ring = [8, 16, 256][rng.usize(..3)];
        let (mut node, instances) = node(&plan, instances, seed);
        let mut share = None;
        if broken != Broken::NotShared {
            let mode =
                if strict && broken != Broken::OnlyStrong { Mode::Strict } else { Mode::Strong };
            share = Some(start_share_of(&mut node, &instances, "any", mode).unwrap());
            node.settle();
            assert_eq!(phase(&node, share.unwrap()), api::SharePhase::Steady);
        }
        let cut = matches!(broken, Broken::Spliced | Broken::Lost | Broken::Swapped);
        let relays = cut.then(|| Relays::new(&mut node, broken, plan.limits.ring));
        let owners = node.node.show_steering().owners;
        Self {
            broken,
            steps: rng.usize(100..600),
            members: instances.clone(),
            instances,
            share,
            judge: Judge::new(most as usize, strict, broken == Broken::Panics),
            total: Total { schedules: 1, ..Total::default() },
            relays,
            hash: SteeringHash::new(weir_state_transfer::steering_hash::random_key(seed)),
            owners,
            rng,
            node,
        }
    }

    /// Runs the schedule; what is wrong with it, if anything.
    pub(crate) fn walk(mut self) -> Result<Total, String> {
        for _ in 0..EPOCHS {
            for _ in 0..self.steps {
                self.step();
            }
            self.end_epoch()?;
        }
        if let Some(share) = self.share.filter(|_| self.relays.is_none()) {
            self.node.node.end_share(&api::Change::default(), share, self.node.now).unwrap();
            self.node.settle();
            if phase(&self.node, share) != api::SharePhase::Ended {
                return Err("the share does not end".to_owned());
            }
        }
        Ok(self.total)
    }

    fn step(&mut self) {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        match self.rng.u8(..16) {
            0..4 => self.send(),
            4..11 => {
                let worker = workers[self.rng.usize(..workers.len())];
                self.poll(worker);
            }
            11 => self.node.step_node(),
            12 => self.node.now = Nanos(self.node.now.0 + self.rng.u64(..2_000)),
            13 if self.broken == Broken::Panics && self.rng.u8(..4) == 0 => self.panic(&workers),
            13 if self.rng.u8(..8) == 0 => self.change_members(),
            _ => _ = self.take(),
        }
    }

    /// A few packets of a flow come in, always by the same queue.
    fn send(&mut self) {
        let number = self.rng.u16(..FLOWS);
        let (address, sport) = (10 + (number % u16::from(SOURCES)) as u8, 1000 + number);
        let key = FlowKey::v4(
            [10, 0, IN.0, address].into(),
            host(OUT.0),
            (sport, 53),
            protocol::UDP,
            ServiceId(0),
        );
        let owner = InstanceId(self.owners[self.hash.bucket(&key).index()]);
        if !self.members.contains(&owner) {
            return;
        }
        let queues = self.node.wires.keys().filter(|(port, _)| *port == IN).count() as u16;
        let queue = number % queues;
        for _ in 0..self.rng.u8(1..=3) {
            let flow = self.judge.flow(number, (address, owner, queue));
            let headers = PacketBuilder::ethernet2(host_mac(IN.0).0, port_mac(IN.0).0)
                .ipv4([10, 0, IN.0, address], host(OUT.0).octets(), 64)
                .udp(sport, 53);
            let mut packet = Vec::new();
            headers.write(&mut packet, &flow.sent.to_be_bytes()).unwrap();
            if self.node.wires.get_mut(&(IN, queue)).unwrap().inject(&packet) {
                flow.sent += 1;
            }
        }
    }

    fn poll(&mut self, worker: WorkerId) {
        if let Some(relays) = &mut self.relays {
            relays.pass(worker);
        }
        self.node.step_worker(worker);
        let held = self.node.node.counters().balance.unwrap().held;
        self.total.waited += u64::from(held > 0);
    }

    fn panic(&mut self, workers: &[WorkerId]) {
        let worker = workers[self.rng.usize(..workers.len())];
        let stages = [FaultStage::Taken, FaultStage::Forwarding, FaultStage::Function];
        let stage = stages[self.rng.usize(..stages.len())];
        let fault = Fault { stage, packets: self.rng.u64(1..4) };
        self.node.node.panic_worker(worker, fault).unwrap();
        self.total.panics += 1;
    }

    /// Instances leave and join; who is to leave has nothing under way, and gets no more.
    fn change_members(&mut self) {
        let Some(share) = self.share.filter(|_| self.relays.is_none()) else { return };
        if phase(&self.node, share) != api::SharePhase::Steady {
            return;
        }
        let before = self.node.node.show_share(share).unwrap().instances;
        let shares = |id: &InstanceId| before.contains(&u32::from(id.0));
        self.members = self.instances.iter().copied().filter(shares).collect();
        let chosen: Vec<_> =
            self.instances.iter().copied().filter(|_| self.rng.u8(..3) > 0).collect();
        if chosen.len() < 2 || chosen == self.members {
            return;
        }
        if self.members.iter().any(|member| !chosen.contains(member)) {
            self.settle();
        }
        self.members.retain(|member| chosen.contains(member));
        let (change, now) = (api::Change::default(), self.node.now);
        self.node.node.change_share(&change, share, &chosen, now).unwrap();
        self.total.changes += 1;
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

    /// Lets all that is under way end, judges it, and lets all connections end.
    fn end_epoch(&mut self) -> Result<(), String> {
        self.settle();
        self.judge.check(&self.node, &mut self.total)?;
        if let Some(share) = self.share.filter(|_| self.relays.is_none()) {
            // Those that are away have connections, whose ends are to be told.
            let (change, now) = (api::Change::default(), self.node.now);
            // All share, maybe.
            drop(self.node.node.change_share(&change, share, &self.instances, now));
            self.settle();
            self.members.clone_from(&self.instances);
        }
        self.pass_time(TIMEOUT);
        // The hand of the sweep goes all the way round.
        self.rounds(100);
        self.settle();
        self.judge.begin_epoch();
        Ok(())
    }
}
