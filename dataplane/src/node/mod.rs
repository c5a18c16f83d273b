//! The node: what the data plane is made of, and every change of it.
//!
//! Requests and worker events go in with the time, commands to workers come out. There is no I/O
//! here: the `agent` serves the API around it, the `driver` runs the workers, and tests step both.

mod error;
mod flips;
mod flows;
mod functions;
mod instances;
mod live;
mod moves;
mod neighbours;
mod policies;
mod ports;
mod probes;
mod queries;
mod report;
mod requests;
mod routes;
mod shares;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weir_state_transfer::southbound::EventLimits;
use weir_state_transfer::{InstanceId, Nanos, PortId, WorkerId};

pub use error::NodeError;
pub use functions::InstanceAsNf;
pub use instances::FIRST;
pub use live::LiveWatch;
pub use moves::instance_id;
pub use ports::{Kernel, LiveState, PortSetup, WayOut};
pub use probes::NEXT_HOPS_PROBED_MAX;
pub use shares::ShareRequest;
pub use workers::Spawn;

use crate::counters::WorkerCounters;
use crate::instance::{FlowHasher, FlowTable, Part};
use crate::neighbour::NeighbourRecord;
use crate::nf::ChainConfig;
use crate::port::TxQueue;
use crate::route_table::RouteWriter;
use crate::steering::Steering;
use crate::worker::{Event, NfReport, Shared, Steered};
use instances::InstanceRecord;
use moves::MoveBook;
use ports::PortRecord;
use queries::Queries;
use requests::Requests;
use shares::ShareBook;
use workers::WorkerHandle;

/// The bounds and defaults of a node.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Workers at most.
    pub workers_max: usize,
    /// Instances at most.
    pub instances_max: usize,
    /// Slots of each ring between two workers.
    pub ring: usize,
    /// Flows of one bucket at most.
    pub flows_per_bucket: usize,
    /// Flows at most that one instance owns outside its buckets.
    pub own_flows: usize,
    /// Packets that each end of a move may hold.
    pub hold: usize,
    /// Shares at most.
    pub shares_max: usize,
    /// The bounds of each share.
    pub share: weir_state_transfer::share::Limits,
    /// Moves in progress or queued at most.
    pub moves_max: usize,
    /// How long a step of a move may take before it is undone.
    pub step_timeout: Duration,
    /// CPU time a second that an instance may take, unless it says otherwise, in nanoseconds.
    pub capacity_ns: u64,
    /// The network functions that each instance runs.
    pub functions: ChainConfig,
    /// Subscriptions to the packets of each instance, and what they keep.
    pub events: EventLimits,
}

/// What identifies a process of the data plane.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Random for each start.
    pub incarnation: u64,
    /// The process.
    pub pid: u32,
    /// How its workers idle.
    pub poll: &'static str,
}

/// The data plane of one node.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    limits: Limits,
    shared: Shared,
    hasher: FlowHasher,
    routes: RouteWriter,
    configured_routes: BTreeSet<IpNet>,
    barriers: routes::Barriers,
    policies: policies::PolicyBook,
    probes: probes::ProbeBook,
    ports: BTreeMap<PortId, PortRecord>,
    workers: BTreeMap<WorkerId, WorkerHandle>,
    instances: BTreeMap<InstanceId, InstanceRecord>,
    steered: Arc<Steered>,
    moves: MoveBook,
    shares: ShareBook,
    requests: Requests,
    flows: flows::Queries,
    records: functions::Records,
    neighbours: Queries<NeighbourRecord>,
    nfs: Queries<NfReport>,
    generation: u64,
    spawns: VecDeque<Spawn>,
    /// Empty tables of instances that are gone, for those that come.
    spare_tables: Vec<FlowTable>,
    /// Transmit queues of workers that have left, for those that come.
    spare_ways_out: Vec<TxQueue>,
    /// Counters of workers that have left: what they counted stays in the balance.
    retired: Vec<Arc<WorkerCounters>>,
    stopping: bool,
}

impl Node {
    /// A node whose first instance, called `first`, owns every flow and runs on the first of
    /// `cores` workers; a core that is `None` leaves its worker unpinned.
    pub fn new(
        identity: Identity,
        limits: Limits,
        shared: Shared,
        routes: RouteWriter,
        hasher: FlowHasher,
        first: &str,
        cores: &[Option<usize>],
    ) -> Self {
        let steered = shared.steered.clone();
        let moves = MoveBook::new(limits.moves_max, limits.step_timeout);
        let shares = ShareBook::new(limits.shares_max, limits.step_timeout);
        let mut node = Self {
            identity,
            limits,
            shared,
            hasher,
            routes,
            configured_routes: BTreeSet::new(),
            barriers: routes::Barriers::new(),
            policies: policies::PolicyBook::default(),
            probes: probes::ProbeBook::default(),
            ports: BTreeMap::new(),
            workers: BTreeMap::new(),
            instances: BTreeMap::new(),
            steered,
            moves,
            shares,
            requests: Requests::default(),
            flows: flows::Queries::default(),
            records: functions::Records::default(),
            neighbours: Queries::default(),
            nfs: Queries::default(),
            generation: 1,
            spawns: VecDeque::new(),
            spare_tables: Vec::new(),
            spare_ways_out: Vec::new(),
            retired: Vec::new(),
            stopping: false,
        };
        for core in cores {
            node.start_worker(*core);
        }
        node.start_first_instance(first);
        node
    }

    /// Takes the events of all workers and carries on what they allow; says whether there was
    /// anything to carry on.
    pub fn handle_events(&mut self, now: Nanos) -> bool {
        let mut events = Vec::new();
        for (id, worker) in &mut self.workers {
            while let Ok(event) = worker.ends.events.pop() {
                events.push((*id, event));
            }
        }
        let due = self.poll_timeout().is_some_and(|limit| limit <= now);
        let eventful = due || !events.is_empty();
        for (worker, event) in events {
            self.handle_event(worker, event, now);
        }
        self.handle_timeout(now);
        if self.stopping && self.moves.coordinator.is_idle() && self.shares.is_idle() {
            self.end_flows();
        }
        eventful
    }

    /// Lets time pass: undoes what takes too long.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.moves.coordinator.handle_timeout(now);
        self.carry_on_moves(now);
        self.shares.coordinator.handle_timeout(now);
        self.carry_on_shares(now);
        self.release_late(now);
        self.forget_probes(now);
        self.flush_commands();
    }

    /// When [`Node::handle_timeout`] must be called, if ever.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let moves = self.moves.coordinator.poll_timeout();
        let others = [self.shares.coordinator.poll_timeout(), self.policies.poll_timeout()];
        moves.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// A worker that waits for a thread to run it.
    pub fn poll_spawn(&mut self) -> Option<Spawn> {
        self.spawns.pop_front()
    }

    /// Begins to stop: no new change is accepted, moves in progress are undone or finished, shares
    /// end, and then what network functions know of flows ends, with its records.
    pub fn stop(&mut self, now: Nanos) {
        self.stopping = true;
        let moves: Vec<_> = self.moves.coordinator.moves().map(|(id, _)| id).collect();
        for id in moves {
            self.moves.coordinator.undo(id, "the data plane is stopping");
        }
        self.carry_on_moves(now);
        self.end_shares(now);
    }

    /// Whether nothing is in progress: a node that stops may be taken down.
    pub fn is_quiet(&self) -> bool {
        self.moves.coordinator.is_idle()
            && self.shares.is_quiet(self.stopping)
            && self.workers.values().all(|w| w.backlog.is_empty())
            && self.records.is_quiet()
    }

    fn handle_event(&mut self, worker: WorkerId, event: Event, now: Nanos) {
        match event {
            Event::Ready(id) => self.instance_is_ready(id),
            Event::Removed(instance) => self.instance_is_removed(*instance),
            Event::Records(id, records) => self.records.take(&self.instances, id, records),
            Event::Nfs(query, found) => self.nfs.answer(query, self.records.complete(found)),
            Event::FlowsEnded => self.records.flows_ended(worker),
            Event::Steers(generation, _before) => self.worker_steers(worker, generation),
            Event::GaveUp(given) => self.worker_gave_up(worker, *given),
            Event::Fenced(leaving) => self.fenced(leaving),
            Event::Disconnected(leaving) => self.disconnected(leaving),
            Event::Retired(retired) => self.worker_is_retired(worker, *retired),
            Event::Flows(query, flows) => self.flows.piece(query, flows),
            Event::Neighbours(query, found) => self.neighbours.answer(query, found),
            Event::Answered(probe) => self.answered(probe),
            Event::CaughtUp(nonce, from) => self.caught_up(nonce, from, worker),
            Event::Prepared(id) | Event::Exporting(id, _) | Event::Undoing(id) => {
                self.move_event(id, &event, now);
            }
            Event::Ended(end) => self.end_is_back(end, now),
            Event::Stamped(id, view) => self.stamped(id, view, now),
            Event::Share(id, at, event) => self.share_event(id, at, event, now),
        }
    }

    /// Checks that a change may be made, and that it was based on what is.
    fn check_change(&self, expected: u64) -> Result<(), NodeError> {
        if self.stopping {
            return Err(NodeError::Stopping);
        }
        if expected != 0 && expected != self.generation {
            return Err(NodeError::Stale { expected, actual: self.generation });
        }
        Ok(())
    }

    /// Publishes a steering table to all workers.
    fn publish(&mut self, steering: Steering, flips: &[crate::worker::Flip]) {
        let workers = self.steered.workers;
        self.publish_with(steering, workers, flips);
    }

    fn publish_with(
        &mut self,
        steering: Steering,
        workers: [WorkerId; 256],
        flips: &[crate::worker::Flip],
    ) {
        let generation = self.steered.generation + 1;
        let policies = self.steered.policies.clone();
        self.steer_by(Steered { steering, workers, policies, generation }, flips);
    }

    fn steer_by(&mut self, steered: Steered, flips: &[crate::worker::Flip]) {
        self.steered = Arc::new(steered);
        for worker in self.workers.values_mut() {
            worker.command(crate::worker::Command::Steer(self.steered.clone(), flips.to_vec()));
        }
    }

    fn flow_table(&mut self) -> FlowTable {
        let Limits { own_flows, functions, .. } = &self.limits;
        let make = || match functions.is_empty() {
            true => FlowTable::new(*own_flows, self.hasher.clone()),
            false => FlowTable::with_states(*own_flows, self.hasher.clone(), functions.has_nat()),
        };
        self.spare_tables.pop().unwrap_or_else(make)
    }

    fn part(&self) -> Box<Part> {
        let Limits { flows_per_bucket, functions, .. } = &self.limits;
        Box::new(match functions.is_empty() {
            true => Part::new(*flows_per_bucket),
            false => Part::with_states(*flows_per_bucket, &self.hasher, functions.has_nat()),
        })
    }
}
