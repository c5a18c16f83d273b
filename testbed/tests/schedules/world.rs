//! A node, the wires around it, and the reference beside it.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use weir_api::dataplane::v1 as api;
use weir_dataplane::node::NodeError;
use weir_frame::Frame;
use weir_state_transfer::mark::{Guarantee, Refused, Request};
use weir_state_transfer::{InstanceId, MoveId, Nanos, PortId, SteeringHash, WorkerId};
use weir_testbed::schedule::{Failure, Kind};

use crate::action::Action;
use crate::faults::{Fault, Relays};
use crate::memory_node::MemoryNode;
use crate::reference::Reference;
use crate::shape::Shape;

/// Everything that a schedule acts upon.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) reference: Reference,
    pub(crate) shape: Shape,
    /// What was asked for: a worker panics so often at most.
    pub(crate) panics: u64,
    /// Workers that have left.
    pub(crate) workers_left: u64,
    /// Frames that were taken and not completed.
    air: BTreeMap<(PortId, u16), VecDeque<Frame>>,
    /// How often the host at each port was asked for its link address and has not answered.
    asked: BTreeMap<PortId, u64>,
    /// Packets that were completed before they were taken.
    early: BTreeMap<(PortId, u16), VecDeque<Vec<u8>>>,
    fault: Option<Fault>,
    relays: Option<Relays>,
    /// The last field: frames that are elsewhere come home before it goes.
    pub(crate) node: MemoryNode,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Option<Fault>) -> Result<(Self, Rng), Failure> {
        let mut rng = Rng::with_seed(seed);
        let mut shape = Shape::new(&mut rng, seed);
        if fault.is_some() {
            // A splice would be lost with its worker, and a panic, a link or a host excuses a loss.
            (shape.workers_change, shape.panics, shape.links_fail) = (false, false, false);
            shape.set_hosts_unknown(fault == Some(Fault::ParkedLate));
            // Moves promise all, but for faults that are just that.
            shape.least = Guarantee::Ordered;
        }
        if fault.is_some_and(Fault::is_of_functions) {
            shape.set_functions();
        }
        if fault == Some(Fault::ParkedLate) {
            // Many packets wait for next hops until moves have come.
            (shape.plan.port_ring, shape.plan.frames) = (64, 4_096);
            shape.plan.neighbours.tries = u8::MAX;
            shape.set_hosts_unknown(true);
            shape.steps *= 3;
        }
        shape.plan.ports_astray = shape.nat && fault == Some(Fault::PortsAstray);
        let mut node = MemoryNode::new(&shape.plan, seed);
        let key = weir_state_transfer::steering_hash::random_key(seed);
        let sizes = (shape.plan.ports, shape.plan.queues);
        let hash = SteeringHash::new(key);
        let reference = Reference::new(shape.flows, sizes, &hash, shape.nat, &mut rng);
        // These faults are at the wires and in an instance, not in the rings.
        let spliced = fault.filter(|fault| !fault.is_spared_splices());
        let slots = shape.plan.limits.ring;
        let relays = spliced.map(|fault| Relays::new(&mut node, fault, slots, seed));
        let mut world = Self {
            node,
            reference,
            shape,
            panics: 0,
            workers_left: 0,
            air: BTreeMap::new(),
            asked: BTreeMap::new(),
            early: BTreeMap::new(),
            fault,
            relays,
        };
        for n in 1..world.shape.instances {
            world.apply(&Action::Create(u32::try_from(n).expect("a handful")))?;
        }
        world.settle()?;
        for id in world.instances() {
            world.apply(&Action::Activate(id))?;
        }
        Ok((world, rng))
    }

    /// Whether what workers send each other passes by [`Action::Pass`] only.
    pub(crate) fn is_spliced(&self) -> bool {
        self.relays.is_some()
    }

    /// The instances that there are.
    pub(crate) fn instances(&self) -> Vec<InstanceId> {
        self.list().iter().map(id_of).collect()
    }

    pub(crate) fn list(&self) -> Vec<api::Instance> {
        self.node.node.list_instances(self.node.now).instances
    }

    /// Lets an action happen, and checks what can be seen of it.
    pub(crate) fn apply(&mut self, action: &Action) -> Result<(), Failure> {
        let change = api::Change::default();
        match action {
            Action::Inject { flow, lane, packets } => {
                (0..*packets).for_each(|_| self.inject(*flow, *lane));
            }
            Action::Poll(worker) => self.poll(*worker).map(drop)?,
            Action::Node => {
                self.node.step_node();
                self.forge();
            }
            Action::Take(port, queue, packets) => {
                // What is completed early must lie on its wire for a while.
                let slow = self.fault == Some(Fault::CompletedEarly);
                for _ in 0..if slow { 1 } else { *packets } {
                    self.take(*port, *queue)?;
                }
            }
            Action::Complete(port, queue) => self.complete(*port, *queue),
            Action::Pass(worker) => {
                if let Some(relays) = &mut self.relays {
                    relays.pass(*worker);
                }
            }
            Action::Sleep(nanos) => self.node.now = Nanos(self.node.now.0 + nanos),
            Action::Move(request, no_queue) => self.start_move(request, *no_queue)?,
            Action::Undo(id) => excuse(self.node.node.undo_move(*id, self.node.now))?,
            Action::Create(n) => {
                excuse(self.node.node.create_instance(&change, &format!("i{n}"), 0))?;
            }
            Action::Activate(id) => excuse(self.set_state(*id, api::InstanceState::Active))?,
            Action::Remove(id) => {
                if self.set_state(*id, api::InstanceState::Paused).is_ok() {
                    excuse(self.node.node.remove_instance(&change, *id))?;
                }
            }
            Action::AddWorker => excuse(self.node.node.add_worker(&change, None))?,
            Action::RemoveWorker(id) => excuse(self.node.node.remove_worker(&change, *id))?,
            Action::Link(port, up) => self.link(*port, *up),
            Action::Answer(port, queue) => self.answer(*port, *queue),
            Action::Panic(id, fault) => {
                self.panics += 1;
                excuse(self.node.node.panic_worker(*id, *fault))?;
            }
        }
        Ok(())
    }

    pub(crate) fn set_state(
        &mut self,
        id: InstanceId,
        state: api::InstanceState,
    ) -> Result<api::Instance, NodeError> {
        self.node.node.set_instance_state(&api::Change::default(), id, state)
    }

    /// Starts a move, which the node may refuse for want of room only.
    pub(crate) fn start_move(&mut self, request: &Request, no_queue: bool) -> Result<(), Failure> {
        let change = api::Change::default();
        let made = Request { guarantee: self.made_of(request), ..request.clone() };
        let started = self.node.node.start_move(&change, made, no_queue, self.node.now);
        match started {
            Ok(_) if request.from == request.to => Err(Kind::Refused.at("a move to self is begun")),
            Ok(shown) => {
                self.reference.move_begins(MoveId(shown.id), request);
                Ok(())
            }
            Err(NodeError::Move(Refused::SameInstance)) if request.from == request.to => Ok(()),
            Err(NodeError::Move(Refused::Busy(_) | Refused::TooMany(_)))
            | Err(NodeError::Steering(_)) => Ok(()),
            Err(error) => excuse::<()>(Err(error)),
        }
    }

    /// What a move is asked to promise: less than is asked for, if that is the fault.
    fn made_of(&self, request: &Request) -> Guarantee {
        match self.fault {
            Some(Fault::NoGuarantee) => Guarantee::None,
            Some(Fault::OnlyLossFree) => Guarantee::LossFree,
            Some(_) | None => request.guarantee,
        }
    }

    /// A packet comes in, if there are not too many inside and the port can receive it.
    pub(crate) fn inject(&mut self, flow: usize, lane: usize) {
        let lost = self.dropped_outside() + self.in_transit();
        if self.reference.outstanding() - lost >= self.shape.credit as u64 {
            return;
        }
        let Some(packet) = self.reference.next(flow, lane) else { return };
        let Some(found) = self.reference.flows.get(flow).and_then(|flow| flow.lanes.get(lane))
        else {
            return;
        };
        let place = (found.port, found.queue);
        if self.node.wires.get_mut(&place).is_some_and(|wire| wire.inject(&packet)) {
            self.reference.inject(flow, lane, self.node.now);
        }
    }

    /// All links are up.
    pub(crate) fn mend_links(&mut self) {
        (0..self.shape.plan.ports).for_each(|port| self.link(PortId(port), true));
    }

    fn link(&mut self, port: PortId, up: bool) {
        for (_, wire) in self.node.wires.range((port, 0)..=(port, u16::MAX)) {
            wire.set_down(!up);
        }
    }

    /// Packets that were not sent because of what is outside of the router.
    pub(crate) fn dropped_outside(&self) -> u64 {
        self.dropped("port_down") + self.dropped("neighbour_unresolved")
    }

    /// Packets that were dropped because a move promised nothing.
    pub(crate) fn in_transit(&self) -> u64 {
        if self.shape.least > Guarantee::None && self.fault != Some(Fault::NoGuarantee) {
            return 0;
        }
        let drops = self.node.node.counters().drops;
        let of_it = drops.iter().filter(|drop| drop.reason == "state_in_transit");
        of_it.map(|drop| drop.packets).sum()
    }

    /// Packets that were dropped for a reason that the schedule excuses.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        if !self.shape.links_fail && !self.shape.hosts_unknown {
            return 0;
        }
        let drops = self.node.node.counters().drops;
        drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum()
    }

    /// The host at a port answers once, if it was asked.
    fn answer(&mut self, port: PortId, queue: u16) {
        if let Some(asked) = self.asked.get_mut(&port).filter(|asked| **asked > 0)
            && self.node.answer(port, queue)
        {
            *asked -= 1;
        }
    }

    /// A worker takes its turn; whether it did anything.
    fn poll(&mut self, worker: WorkerId) -> Result<bool, Failure> {
        let busy = self.node.step_worker(worker);
        if self.fault == Some(Fault::CompletedEarly) {
            self.complete_early();
        }
        self.workers_left += u64::from(!self.node.workers.contains_key(&worker));
        for worker in self.node.workers.values() {
            if worker.counters().stray.get() > 0 {
                return Err(Kind::Stray.at(format!("at worker {}", worker.id())));
            }
        }
        Ok(busy)
    }

    /// Takes what has left by a queue, if anything has, and judges it.
    fn take(&mut self, port: PortId, queue: u16) -> Result<bool, Failure> {
        let place = (port, queue);
        if let Some(early) = self.early.get_mut(&place)
            && let Some(packet) = early.pop_front()
        {
            self.reference.take(port, &packet, self.node.now)?;
            return Ok(true);
        }
        let Some(frame) = self.node.wires.get_mut(&place).and_then(|wire| wire.take()) else {
            return Ok(false);
        };
        if frame.data().get(12..14) == Some(&ARP) {
            *self.asked.entry(port).or_default() += 1;
        } else {
            self.reference.take(port, frame.data(), self.node.now)?;
        }
        self.air.entry(place).or_default().push_back(frame);
        Ok(true)
    }

    /// Completes what was taken off a wire.
    fn complete(&mut self, port: PortId, queue: u16) {
        let place = (port, queue);
        let (Some(wire), Some(air)) = (self.node.wires.get_mut(&place), self.air.get_mut(&place))
        else {
            return;
        };
        while wire.completable() > 0
            && let Some(frame) = air.pop_front()
        {
            wire.complete(frame);
        }
    }

    /// Completes what no one has taken.
    fn complete_early(&mut self) {
        for (place, wire) in &mut self.node.wires {
            while wire.completable() > 0
                && let Some(frame) = wire.take()
            {
                self.early.entry(*place).or_default().push_back(frame.data().to_vec());
                wire.complete(frame);
            }
        }
    }

    /// Whether a request for a link address is on its way from worker to worker.
    fn is_asking(&self) -> bool {
        let balance = || self.node.node.counters().balance.unwrap_or_default();
        self.shape.hosts_unknown && balance().in_rings > 0
    }

    fn forge(&mut self) {
        if let Some(relays) = &mut self.relays {
            relays.forge(&self.node.node);
        }
    }

    /// Rounds of everybody, with time passing and every wire emptied, until nobody has anything
    /// to do.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let wires: Vec<_> = self.node.wires.keys().copied().collect();
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            self.node.now = Nanos(self.node.now.0 + ROUND);
            self.apply(&Action::Node)?;
            let mut busy = false;
            for worker in self.node.workers.keys().copied().collect::<Vec<_>>() {
                self.apply(&Action::Pass(worker))?;
                busy |= self.poll(worker)?;
            }
            for (port, queue) in &wires {
                while self.take(*port, *queue)? {
                    busy = true;
                }
                self.complete(*port, *queue);
                self.answer(*port, *queue);
            }
            busy |= self.node.workers.values().any(|w| w.counters().frames.parked.get() > 0);
            quiet = if busy || !self.node.node.is_quiet() { 0 } else { quiet + 1 };
            if quiet >= QUIET_ROUNDS && !self.is_asking() {
                return Ok(());
            }
        }
        let moves: Vec<_> = self.node.node.list_moves();
        Err(Kind::Stuck.at(format!("{moves:?}")))
    }
}

/// The number of an instance.
pub(crate) fn id_of(instance: &api::Instance) -> InstanceId {
    InstanceId(u8::try_from(instance.id).expect("a small number"))
}

/// The node may refuse what is not possible as things are; it may not do so for another reason.
fn excuse<T>(result: Result<T, NodeError>) -> Result<(), Failure> {
    match result {
        Ok(_)
        | Err(
            NodeError::Precondition { .. }
            | NodeError::Exhausted { .. }
            | NodeError::Exists { .. }
            | NodeError::NotFound { .. },
        ) => Ok(()),
        Err(error) => Err(Kind::Refused.at(error)),
    }
}

/// The EtherType of a request for a link address.
const ARP: [u8; 2] = [8, 6];
/// Nanoseconds of a round while everything comes to rest.
const ROUND: u64 = 200_000;
/// Rounds without anything to do, so many that housekeeping has been done in one.
const QUIET_ROUNDS: usize = 12;
/// Rounds in which everything comes to rest, even a move that times out first.
const ROUNDS_MAX: usize = 20_000;
