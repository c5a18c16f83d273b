//! Strict shares of which instances fail, and share anew with others before those that they have
//! left have settled: stamps and markers of both are under way then.

use std::ops::AddAssign;
use std::time::Duration;

use fastrand::Rng;
use weir_api::dataplane::v1 as api;
use weir_dataplane::worker::{Fault, FaultStage};
use weir_state_transfer::share::Mode;
use weir_state_transfer::{InstanceId, Nanos, ShareId, WorkerId};
use weir_testbed::memory_node::MemoryNode;
use weir_testbed::schedule::{Failure, Kind, walk};

use crate::must_hold;
use crate::setup::{
    IN, OUT, SEED, asks, node, packet, phase, plan, port_at, send, start_share_by, start_share_of,
};

/// How long a packet waits for its answer.
const PATIENCE: Duration = Duration::from_millis(100);

/// What has happened in schedules.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    schedules: u64,
    left: u64,
    panics: u64,
    /// Shares that began while one that an instance of them had failed in was changing still.
    anew: u64,
}

impl AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.left += other.left;
        self.panics += other.panics;
        self.anew += other.anew;
    }
}

struct World {
    rng: Rng,
    instances: Vec<InstanceId>,
    sent: u64,
    total: Total,
    node: MemoryNode,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (workers, instances) = (rng.usize(2..=3), rng.usize(4..=6));
        let mut plan = plan(workers, 100);
        plan.limits.share.patience = PATIENCE;
        plan.limits.ring = [16, 256][rng.usize(..2)];
        let (node, instances) = node(&plan, instances, seed);
        let total = Total { schedules: 1, ..Total::default() };
        Self { rng, instances, sent: 0, total, node }
    }

    fn walk(mut self) -> Result<Total, Failure> {
        for _ in 0..self.rng.usize(200..600) {
            self.step()?;
        }
        self.settle()?;
        self.check()?;
        Ok(self.total)
    }

    fn step(&mut self) -> Result<(), Failure> {
        let workers: Vec<_> = self.node.workers.keys().copied().collect();
        let worker = workers[self.rng.usize(..workers.len())];
        match self.rng.u8(..32) {
            0..10 => self.send(),
            10..22 => _ = self.node.step_worker(worker),
            22..25 => self.node.step_node(),
            25 => self.pass_time(PATIENCE / 50),
            26 => {
                let stages = [FaultStage::Executed, FaultStage::Taken, FaultStage::Function];
                let fault = Fault { stage: stages[self.rng.usize(..3)], packets: 1 };
                self.node.node.panic_worker(worker, fault).unwrap();
            }
            27..29 => return self.start(),
            29 => self.change(),
            _ => self.take(),
        }
        Ok(())
    }

    fn send(&mut self) {
        let (address, sport) = (self.rng.u8(10..14), self.rng.u16(1000..1100));
        let queues = self.node.workers.len() as u16;
        let queue = self.rng.u16(..queues);
        let wire = self.node.wires.get_mut(&(IN, queue)).unwrap();
        self.sent += u64::from(wire.inject(&packet(address, sport)));
    }

    /// Some that share with nobody begin to, as far as the node knows already.
    fn start(&mut self) -> Result<(), Failure> {
        let shares = self.node.node.list_shares();
        let live = shares.iter().filter(|share| share.phase() != api::SharePhase::Ended);
        let number = |id: &InstanceId| u32::from(id.0);
        let lives = |share: &api::Share, id: &InstanceId| {
            share.instances.contains(&number(id)) && !share.failed.contains(&number(id))
        };
        let is_free = |id: &InstanceId| !live.clone().any(|share| lives(share, id));
        let free: Vec<_> = self.instances.iter().copied().filter(is_free).collect();
        if free.len() < 2 {
            return Ok(());
        }
        let left_behind = live.clone().any(|share| {
            share.phase() == api::SharePhase::Changing
                && free.iter().any(|id| share.failed.contains(&number(id)))
        });
        let key = self.rng.u64(..);
        match start_share_by(&mut self.node, &free, ("any", Mode::Strict), key) {
            Ok(_) => self.total.anew += u64::from(left_behind),
            // One that leaves has not left.
            Err(error) if error.to_string().contains("is of the same flows") => {}
            Err(error) => return Err(Kind::Refused.at(error)),
        }
        Ok(())
    }

    /// An instance of some share leaves it, or the share ends.
    fn change(&mut self) {
        let shares = self.node.node.list_shares();
        let steady: Vec<_> =
            shares.iter().filter(|share| share.phase() == api::SharePhase::Steady).collect();
        let Some(share) = self.rng.choice(&steady) else { return };
        let (id, change, now) = (ShareId(share.id), api::Change::default(), self.node.now);
        let mut members: Vec<_> = share.instances.iter().map(|id| InstanceId(*id as u8)).collect();
        if members.len() > 2 && self.rng.bool() {
            members.remove(self.rng.usize(..members.len()));
            self.node.node.change_share(&change, id, &members, now).unwrap();
        } else if self.rng.u8(..4) == 0 {
            self.node.node.end_share(&change, id, now).unwrap();
        }
    }

    fn take(&mut self) {
        for queue in 0..self.node.workers.len() as u16 {
            while self.node.take(OUT, queue).is_some() {
                self.total.left += 1;
            }
        }
    }

    fn pass_time(&mut self, time: Duration) {
        self.node.now = Nanos(self.node.now.0 + time.as_nanos() as u64);
    }

    /// Lets all that is under way end.
    fn settle(&mut self) -> Result<(), Failure> {
        for _ in 0..100 {
            self.node.settle();
            self.take();
            if self.node.node.counters().balance.unwrap().held == 0 {
                self.node.settle();
                self.take();
                return Ok(());
            }
            self.pass_time(PATIENCE / 4);
        }
        Err(Kind::Stuck.at("packets wait for ever"))
    }

    fn check(&mut self) -> Result<(), Failure> {
        let workers = self.node.node.list_workers();
        self.total.panics = workers.iter().map(|worker| worker.restarts).sum();
        let counters = self.node.node.counters();
        let balance = counters.balance.unwrap();
        let dropped: u64 = counters.drops.iter().map(|drop| drop.packets).sum();
        if (balance.unaccounted, balance.in_rings) != (0, 0)
            || self.sent != self.total.left + dropped
        {
            return Err(Kind::Balance.at(format!("{} sent: {counters:?}", self.sent)));
        }
        let excused = ["firewall", "worker_panic", "poisoned", "share_unanswered", "share_late"];
        let mut drops = counters.drops.iter().filter(|drop| drop.packets > 0);
        if let Some(drop) = drops.find(|drop| !excused.contains(&&*drop.reason)) {
            return Err(Kind::Dropped.at(format!("{} {}", drop.packets, drop.reason)));
        }
        let at_rest = [api::SharePhase::Steady, api::SharePhase::Ended];
        let shares = self.node.node.list_shares();
        match shares.iter().find(|share| !at_rest.contains(&share.phase())) {
            Some(share) => Err(Kind::Stuck.at(format!("{share:?}"))),
            None => Ok(()),
        }
    }
}

#[test]
fn who_has_failed_shares_anew_with_others_and_no_worker_is_hurt() {
    let total = must_hold(500, |seed| walk(|| World::new(seed).walk()));
    if weir_seed::given().is_none() {
        assert!(total.anew > total.schedules / 20 && total.panics > total.schedules);
    }
}

/// The first and the fourth instance are on one worker; the others are not heard of for a while.
#[test]
fn what_is_stamped_for_a_share_that_was_left_and_for_the_next_fits_on_a_packet() {
    crate::mute_panics();
    let (mut node, ids) = node(&plan(3, 3), 4, SEED);
    let first = start_share_of(&mut node, &ids[..3], "any", Mode::Strict).unwrap();
    node.settle();
    let alone = |node: &mut MemoryNode| {
        node.step_worker(WorkerId(0));
        node.step_node();
    };
    let fault = Fault { stage: FaultStage::Executed, packets: 1 };
    node.node.panic_worker(WorkerId(0), fault).unwrap();
    for address in 100.. {
        assert!(address < 250, "some sources have their homes there");
        let port = port_at(&node, ids[1], address, 1000);
        send(&mut node, address, port);
        alone(&mut node);
        // It asks the home, whose answer it does not hear.
        node.step_worker(WorkerId(1));
        alone(&mut node);
        if !node.node.show_share(first).unwrap().failed.is_empty() {
            break;
        }
    }
    let second = start_share_of(&mut node, &[ids[0], ids[3]], "any", Mode::Strict).unwrap();
    (0..50).for_each(|_| alone(&mut node));
    assert_eq!(phase(&node, first), api::SharePhase::Changing, "the others have not settled");
    for id in [ids[0], ids[3]] {
        let port = port_at(&node, id, 9, 1000);
        send(&mut node, 9, port);
    }
    (0..10).for_each(|_| alone(&mut node));
    node.settle();
    for share in [first, second] {
        assert_eq!(phase(&node, share), api::SharePhase::Steady);
    }
    while crate::setup::left(&mut node) > 0 {}
    assert!(asks(&mut node, ids[3], 9, 3000) && !asks(&mut node, ids[0], 9, 5000), "it has three");
}

#[test]
fn what_is_known_of_hosts_is_in_one_share_of_an_instance_whatever_its_filter_says_besides() {
    let (mut node, ids) = node(&plan(2, 3), 2, SEED);
    for mode in [Mode::Strict, Mode::Strong] {
        let share = start_share_of(&mut node, &ids, "proto=tcp", mode).unwrap();
        node.settle();
        for filter in ["proto=udp", "dst=10.0.0.0/8,proto=udp", "dport=7"] {
            let refused = start_share_of(&mut node, &ids, filter, mode).unwrap_err();
            assert!(refused.to_string().contains("is of the same flows"), "{refused}");
        }
        assert!(asks(&mut node, ids[0], 9, 1000 + share.0 as u16 * 2000));
        node.node.end_share(&api::Change::default(), share, node.now).unwrap();
        node.settle();
    }
}
