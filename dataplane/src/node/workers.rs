//! The workers of a node: started, connected with each other, and taken out of service.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_api::dataplane::v1 as api;
use weir_frame::HomeId;
use weir_state_transfer::WorkerId;

use super::{Node, NodeError};
use crate::counters::WorkerCounters;
use crate::port::RxQueue;
use crate::worker::{Command, Fault, GivenUp, Retired, Worker, WorkerEnds, ring};

/// A worker that waits for a thread.
#[derive(Debug)]
pub struct Spawn {
    /// The worker.
    pub worker: Box<Worker>,
    /// The core to pin it to.
    pub core: Option<usize>,
}

/// What the node knows of a worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) ends: WorkerEnds,
    pub(super) counters: Arc<WorkerCounters>,
    pub(super) core: Option<usize>,
    /// Commands that did not fit into the ring.
    pub(super) backlog: VecDeque<Command>,
    /// The steering generation that it has adopted.
    pub(super) steers: u64,
    /// Whether it was given what packets of policy routes are held in.
    pub(super) has_hold: bool,
    state: State,
    /// Receive queues that it has given up and nobody polls yet.
    queues: Vec<RxQueue>,
    /// Whether a command was pushed since the last look: the thread may sleep.
    pushed: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It has given its queues up; the others pass its last packets.
    Draining {
        waiting: usize,
    },
    /// The others stop sending to it.
    Disconnecting {
        waiting: usize,
    },
    /// It empties its rings and ends.
    Retiring,
}

impl WorkerHandle {
    /// Gives a command, behind those given before.
    pub(super) fn command(&mut self, command: Command) {
        self.backlog.push_back(command);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            self.pushed = true;
            if let Err(rtrb::PushError::Full(command)) = self.ends.commands.push(command) {
                self.backlog.push_front(command);
                return;
            }
        }
    }
}

impl Node {
    /// Starts a worker, connects it with all others and gives it its share of frames and ways
    /// out.
    pub(super) fn start_worker(&mut self, core: Option<usize>) -> WorkerId {
        let id = (0..=u8::MAX)
            .map(WorkerId)
            .find(|id| !self.workers.contains_key(id))
            .expect("the bound on workers is below 64");
        let counters = Arc::new(WorkerCounters::default());
        let (worker, ends) = Worker::new(id, &self.shared, counters.clone());
        let handle = WorkerHandle {
            ends,
            counters,
            core,
            backlog: VecDeque::new(),
            steers: 0,
            has_hold: false,
            state: State::Running,
            queues: Vec::new(),
            pushed: false,
        };
        self.workers.insert(id, handle);
        self.connect(id);
        self.share_frames();
        self.give_ways_out(id);
        let steered = self.steered.clone();
        if let Some(handle) = self.workers.get_mut(&id) {
            handle.command(Command::Steer(steered, Vec::new()));
        }
        self.spawns.push_back(Spawn { worker: Box::new(worker), core });
        id
    }

    /// Makes the rings between a worker and all, itself included.
    fn connect(&mut self, new: WorkerId) {
        let (slots, frames) = (self.limits.ring, self.shared.region.frames() as usize);
        let ids: Vec<_> = self.workers.keys().copied().collect();
        for other in ids {
            let (outbox, inbox) = ring(slots, frames);
            if other == new {
                self.tell(new, Command::Connect(new, outbox, inbox));
                continue;
            }
            let (back_outbox, back_inbox) = ring(slots, frames);
            self.tell(new, Command::Connect(other, outbox, back_inbox));
            self.tell(other, Command::Connect(new, back_outbox, inbox));
        }
    }

    /// Divides the homes of frames evenly among the running workers.
    pub(super) fn share_frames(&mut self) {
        let running: Vec<_> = self.running().collect();
        if running.is_empty() {
            return;
        }
        let homes = &self.shared.homes;
        for partition in 0..homes.partitions() {
            let WorkerId(home) = running[partition % running.len()];
            homes.assign(partition, HomeId(home));
        }
        for worker in running {
            self.tell(worker, Command::SortFrames);
        }
    }

    pub(super) fn tell(&mut self, worker: WorkerId, command: Command) {
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.command(command);
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = WorkerId> + '_ {
        let running = self.workers.iter().filter(|(_, handle)| handle.state == State::Running);
        running.map(|(id, _)| *id)
    }

    /// Pushes what did not fit into the command rings.
    pub(super) fn flush_commands(&mut self) {
        for handle in self.workers.values_mut() {
            handle.flush();
        }
    }

    /// Workers that were given a command since the last call: their threads may sleep.
    pub fn take_pushed(&mut self) -> Vec<WorkerId> {
        let pushed = self.workers.iter_mut().filter(|(_, handle)| handle.pushed);
        pushed
            .map(|(id, handle)| {
                handle.pushed = false;
                *id
            })
            .collect()
    }

    pub(super) fn worker_steers(&mut self, worker: WorkerId, generation: u64) {
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.steers = generation;
        }
        let reached = self.workers.values().map(|handle| handle.steers).min().unwrap_or(0);
        self.routes_quiesced(reached);
    }

    /// Adds a worker, pinned to a core or not.
    ///
    /// # Errors
    ///
    /// At the bound on workers, and while moves are in progress or a worker leaves, which count
    /// on the workers that there are.
    pub fn add_worker(
        &mut self,
        change: &api::Change,
        core: Option<usize>,
    ) -> Result<api::Worker, NodeError> {
        if let Some(made) = self.requests.answer(&change.request_id)
            && let Some(worker) = self.worker(WorkerId(made as u8))
        {
            return Ok(worker);
        }
        self.check_change(change.generation)?;
        if self.workers.len() >= self.limits.workers_max {
            return Err(NodeError::Exhausted {
                what: "the number of workers",
                bound: self.limits.workers_max,
                hint: "raise workers_max in [dataplane] and restart",
            });
        }
        self.check_no_moves()?;
        self.check_nothing_held()?;
        self.check_no_strict_share()?;
        self.check_nobody_leaves()?;
        let id = self.start_worker(core);
        self.generation += 1;
        self.requests.remember(&change.request_id, u64::from(id.0));
        self.worker(id).ok_or_else(|| NodeError::no("worker", id))
    }

    /// Takes a worker out of service; its queues go to the others when its last packet has
    /// passed.
    ///
    /// # Errors
    ///
    /// When it runs instances, is the last one, or transmits for others, and while moves are in
    /// progress or another leaves.
    pub fn remove_worker(&mut self, change: &api::Change, id: WorkerId) -> Result<(), NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(());
        }
        self.check_change(change.generation)?;
        if !self.running().any(|running| running == id) {
            return Err(NodeError::no("worker", id));
        }
        let object = format!("worker {id}");
        if self.running().count() == 1 {
            return Err(NodeError::precondition(object, "is the last one"));
        }
        let runs = self.instances.iter().find(|(_, instance)| instance.worker == id);
        if let Some((instance, _)) = runs {
            let reason = format!("runs instance {instance}: scale in or remove that first");
            return Err(NodeError::precondition(object, reason));
        }
        if self.transmits_for_others(id) {
            let reason =
                "transmits for workers that have no queue of their own: remove those first";
            return Err(NodeError::precondition(object, reason));
        }
        self.check_no_moves()?;
        self.check_nothing_held()?;
        self.check_no_strict_share()?;
        self.check_nobody_leaves()?;
        self.generation += 1;
        let waiting = self.workers.len();
        if let Some(handle) = self.workers.get_mut(&id) {
            handle.state = State::Draining { waiting };
            handle.command(Command::GiveUp);
        }
        self.requests.remember(&change.request_id, u64::from(id.0));
        Ok(())
    }

    /// A worker has given up its queues and the neighbours of its ports.
    pub(super) fn worker_gave_up(&mut self, worker: WorkerId, given: GivenUp) {
        self.share_frames();
        self.take_over_ports(worker, given.owners);
        if let Some(handle) = self.workers.get_mut(&worker) {
            handle.queues = given.queues;
        }
    }

    /// A worker has passed the last packet that a leaving one has steered to it.
    pub(super) fn fenced(&mut self, leaving: WorkerId) {
        let Some(handle) = self.workers.get_mut(&leaving) else { return };
        let State::Draining { waiting } = &mut handle.state else { return };
        *waiting -= 1;
        if *waiting > 0 {
            return;
        }
        let queues = std::mem::take(&mut handle.queues);
        let waiting = self.running().count();
        if let Some(handle) = self.workers.get_mut(&leaving) {
            handle.state = State::Disconnecting { waiting };
        }
        self.place_queues(queues);
        for other in self.running().collect::<Vec<_>>() {
            self.tell(other, Command::Disconnect(leaving));
        }
    }

    /// A worker sends nothing more to a leaving one.
    pub(super) fn disconnected(&mut self, leaving: WorkerId) {
        let Some(handle) = self.workers.get_mut(&leaving) else { return };
        let State::Disconnecting { waiting } = &mut handle.state else { return };
        *waiting -= 1;
        if *waiting == 0 {
            handle.state = State::Retiring;
            handle.command(Command::Retire);
        }
    }

    /// A worker has ended: what it had goes to others.
    pub(super) fn worker_is_retired(&mut self, id: WorkerId, retired: Retired) {
        let running: Vec<_> = self.running().collect();
        for other in &running {
            self.tell(*other, Command::ForgetWorker(id));
        }
        if let Some(heir) = running.first() {
            self.tell(*heir, Command::AdoptFrames(retired.frames));
        }
        self.spare_ways_out.extend(retired.ways_out);
        if let Some(handle) = self.workers.remove(&id) {
            self.retired.push(handle.counters);
        }
    }

    /// The running workers, as the API shows them.
    pub fn list_workers(&self) -> Vec<api::Worker> {
        self.workers.keys().filter_map(|id| self.worker(*id)).collect()
    }

    fn worker(&self, id: WorkerId) -> Option<api::Worker> {
        let handle = self.workers.get(&id)?;
        let counters = &handle.counters;
        let state = match handle.state {
            State::Running if counters.sleeping.get() == 1 => "sleeping",
            State::Running => "polling",
            State::Draining { .. } | State::Disconnecting { .. } | State::Retiring => "stopping",
        };
        let instances = self.instances.iter().filter(|(_, instance)| instance.worker == id);
        Some(api::Worker {
            id: u32::from(id.0),
            core: handle.core.and_then(|core| i32::try_from(core).ok()).unwrap_or(-1),
            state: state.to_owned(),
            instances: instances.map(|(id, _)| u32::from(id.0)).collect(),
            polls: counters.polls.get(),
            empty_polls: counters.empty_polls.get(),
            packets: counters.packets.get(),
            handed_over: counters.handed_over.get(),
            busy_ns: counters.busy_ns.get(),
            sleeps: counters.sleeps.get(),
            restarts: counters.restarts.get(),
        })
    }

    /// Makes a worker panic: for tests.
    ///
    /// # Errors
    ///
    /// When there is no such worker.
    pub fn panic_worker(&mut self, id: WorkerId, fault: Fault) -> Result<(), NodeError> {
        if !self.workers.contains_key(&id) {
            return Err(NodeError::no("worker", id));
        }
        self.tell(id, Command::Panic(fault));
        Ok(())
    }

    /// A move waits for a marker of every worker, and one that leaves may be gone before its own;
    /// a worker that leaves counts on those that there are.
    pub(super) fn check_nobody_leaves(&self) -> Result<(), NodeError> {
        match self.workers.iter().find(|(_, handle)| handle.state != State::Running) {
            Some((id, _)) => {
                let reason = "is leaving: repeat the request when it is gone";
                Err(NodeError::precondition(format!("worker {id}"), reason))
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_no_moves(&self) -> Result<(), NodeError> {
        match self.moves.coordinator.moves().next() {
            Some((id, _)) => {
                let reason = "is in progress and counts on the workers that there are: wait for it";
                Err(NodeError::precondition(format!("move {id}"), reason))
            }
            None => Ok(()),
        }
    }
}
