//! The node around the machines: workers, rings, instances, and what is checked at each packet.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use weir_state_transfer::mark::Guarantee;

use crate::ends::{DestinationEnd, SourceEnd};
use crate::node::{Command, Event, Node, Steered};
use crate::scope::{FLOWS, Fault, Room, Scope};

/// Everything that changes.
#[derive(Clone, Hash)]
pub(crate) struct Model {
    pub(crate) scope: Shared,
    pub(crate) node: Node,
    pub(crate) workers: Vec<Worker>,
    /// What each instance knows of each flow.
    pub(crate) tables: Vec<[Option<FlowState>; FLOWS]>,
    /// What each instance knows of all flows together: the packets that it has heard of.
    pub(crate) multi_flow: Vec<u64>,
    pub(crate) seen: Seen,
}

/// A worker.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Worker {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    /// The rings to this worker, by sender.
    pub(crate) rings: Vec<VecDeque<Item>>,
    /// Packets received.
    pub(crate) received: usize,
    pub(crate) steered: Steered,
    pub(crate) sources: Vec<SourceEnd>,
    pub(crate) destinations: Vec<DestinationEnd>,
    /// Frames that have not left.
    pub(crate) transmit: VecDeque<Packet>,
}

/// A packet; its number grows with time among those of a steerer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) id: u8,
    pub(crate) flow: u8,
    pub(crate) steerer: u8,
    /// How often the flow's owner had changed when it was steered.
    pub(crate) epoch: u8,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.epoch)
    }
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct FlowState {
    /// The packets that it has seen.
    pub(crate) packets: u64,
    pub(crate) count: u8,
    /// The move that it came by.
    pub(crate) came_by: u8,
}

/// One slot of a ring.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Item {
    Packet(u8, Packet),
    Marker { id: u8, back: bool },
    Move(u8, Message),
}

/// What the ends of a move tell each other.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Message {
    Bucket(u8, Vec<(u8, FlowState)>),
    Flow(u8, FlowState),
    Unknown(u8),
    /// State of several flows.
    MultiFlow(u64),
    /// There is no room for this.
    Refused(u64),
    End,
    /// Nothing is refused any more.
    Ended,
    Pull(u8),
    Undo,
    UndoAnswer {
        accepted: bool,
    },
    Relay(Packet),
    RelayEnd,
}

/// What an observer of the whole node has seen.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Seen {
    pub(crate) processed: u64,
    /// Packets that the ends of moves have counted as lost.
    pub(crate) lost: u64,
    pub(crate) strays: u8,
    /// Packets that were processed, or may leave, out of order.
    pub(crate) reordered: u8,
    /// The last epoch of which a packet was processed, by flow.
    epochs: [u8; FLOWS],
    /// Flows whose state is on its way.
    pub(crate) flying: u8,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    ProcessedTwice(Packet),
    /// A later packet of the flow from the same steerer was processed before.
    Reordered(Packet),
    /// A packet of the flow that was steered by a later table was processed before.
    Overtaken(Packet),
    /// An older packet of the flow has not left the node yet.
    LeftBefore(Packet),
    /// The instance does not know of all the packets of the flow before this one.
    StateIncomplete(Packet),
    /// The instance has not heard of all packets of other flows before this one.
    CrossFlow(Packet),
    TwoOwners(u8),
    /// An end of a move holds more than it may.
    OverQuota,
    /// Something reached no end of a move.
    Astray,
    /// Something is left to do and nobody does it.
    Stuck,
    Lost,
    Stray,
    MoveNotEnded,
}

/// Anything that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A steerer receives a packet and steers it.
    Receive(usize),
    /// A worker carries out a command.
    Command(usize),
    /// A worker takes an item from another.
    Take { worker: usize, from: usize },
    /// A worker carries the source end of a move on by one piece.
    Source(usize, usize),
    /// The same for a destination end.
    Destination(usize, usize),
    /// Frames leave: all, or the oldest.
    Leave { worker: usize, all: bool },
    /// The node takes an event of a worker.
    Event(usize),
    /// The next move is started.
    Start,
    /// The node is asked to undo a move.
    Undo(u8),
    /// The time that a step may take is over.
    Timeout,
}

/// A scope is the same in all states.
#[derive(Clone)]
pub(crate) struct Shared(Rc<Scope>);

impl std::ops::Deref for Shared {
    type Target = Scope;

    fn deref(&self) -> &Scope {
        &self.0
    }
}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Model {
    pub(crate) fn new(scope: Scope) -> Self {
        let mut tables = vec![[None; FLOWS]; scope.homes.len()];
        for flow in &scope.existing {
            let owner = scope.owners[usize::from(*flow)];
            tables[usize::from(owner)][usize::from(*flow)] = Some(FlowState::default());
        }
        let node = Node::new(&scope);
        let multi_flow = vec![0; scope.homes.len()];
        let worker = Worker {
            commands: VecDeque::new(),
            events: VecDeque::new(),
            rings: vec![VecDeque::new(); scope.workers],
            received: 0,
            steered: Steered::new(scope.owners),
            sources: Vec::new(),
            destinations: Vec::new(),
            transmit: VecDeque::new(),
        };
        let workers = vec![worker; scope.workers];
        let (scope, seen) = (Shared(Rc::new(scope)), Seen::default());
        Self { scope, node, workers, tables, multi_flow, seen }
    }

    /// Everything that may happen; some of it may turn out to change nothing.
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        steps.clear();
        steps.extend(self.eager());
        if !steps.is_empty() {
            return;
        }
        for (number, worker) in self.workers.iter().enumerate() {
            let flows = self.scope.script.get(number).map_or(0, Vec::len);
            if worker.received < flows && self.may_receive(number) {
                steps.push(Step::Receive(number));
            }
            if !worker.commands.is_empty() {
                steps.push(Step::Command(number));
            }
            let full = (0..worker.rings.len()).filter(|from| !worker.rings[*from].is_empty());
            steps.extend(full.map(|from| Step::Take { worker: number, from }));
            steps.extend((0..worker.sources.len()).map(|end| Step::Source(number, end)));
            steps.extend((0..worker.destinations.len()).map(|end| Step::Destination(number, end)));
            if !worker.transmit.is_empty() {
                steps.push(Step::Leave { worker: number, all: true });
            }
            if !worker.events.is_empty() {
                steps.push(Step::Event(number));
            }
        }
        self.node.steps(&self.scope, steps);
        steps.retain(|step| match *step {
            Step::Receive(worker) | Step::Leave { worker, .. } => !self.may_wait(worker, *step),
            _ => true,
        });
    }

    /// Carries out a step; whether it has changed anything.
    pub(crate) fn take(&mut self, step: Step) -> Result<bool, Violation> {
        match step {
            Step::Receive(steerer) => self.receive(steerer)?,
            Step::Command(worker) => self.carry_out(worker),
            Step::Take { worker, from } => {
                if let Some(item) = self.workers[worker].rings[from].pop_front() {
                    self.item(worker, from, item)?;
                }
            }
            Step::Source(worker, end) => return self.step_source(worker, end),
            Step::Destination(worker, end) => return self.step_destination(worker, end),
            Step::Leave { worker, all } => self.leave(worker, all),
            Step::Event(worker) => {
                if let Some(event) = self.workers[worker].events.pop_front() {
                    self.event(event);
                }
            }
            Step::Start => self.start(),
            Step::Undo(id) => return Ok(self.undo(id)),
            Step::Timeout => return Ok(self.time_out()),
        }
        let within = |worker: &Worker| {
            worker.sources.iter().all(|end| end.kept() <= self.scope.hold)
                && worker.destinations.iter().all(|end| end.held() <= self.scope.hold)
        };
        if self.workers.iter().all(within) { Ok(true) } else { Err(Violation::OverQuota) }
    }

    /// What holds when nothing more can happen.
    pub(crate) fn check_end(&self) -> Result<(), Violation> {
        let Seen { processed, lost, strays, flying, .. } = self.seen;
        let heard_of = self.multi_flow.iter().fold(0, |all, known| all | known);
        let all = u64::MAX.checked_shr(64 - self.scope.packets() as u32).unwrap_or(0);
        let idle = |worker: &Worker| {
            worker.rings.iter().all(VecDeque::is_empty)
                && worker.sources.is_empty()
                && worker.destinations.is_empty()
        };
        if !self.workers.iter().all(idle) || flying != 0 {
            return Err(Violation::Stuck);
        }
        if !self.node.has_ended(&self.scope) {
            return Err(Violation::MoveNotEnded);
        }
        if processed | lost != all || processed & lost != 0 || heard_of != processed {
            return Err(Violation::Lost);
        }
        // The oracle bites without this hint, which the machines give themselves.
        if strays > 0 && self.scope.fault.is_none() {
            return Err(Violation::Stray);
        }
        for flow in 0..FLOWS as u8 {
            self.check_owner(flow)?;
        }
        Ok(())
    }

    /// The owner, and nobody else, knows of every packet of the flow.
    fn check_owner(&self, flow: u8) -> Result<(), Violation> {
        let seen = self.scope.of_flow(flow) & self.seen.processed;
        for (instance, table) in self.tables.iter().enumerate() {
            let known = table[usize::from(flow)];
            if usize::from(self.node.steered.owners[usize::from(flow)]) != instance {
                if known.is_some() {
                    return Err(Violation::TwoOwners(flow));
                }
            } else if known.map_or(0, |known| known.packets) != seen {
                return Err(Violation::Lost);
            }
        }
        Ok(())
    }

    /// A worker with a backlog receives nothing.
    fn may_receive(&self, steerer: usize) -> bool {
        self.workers.iter().all(|worker| worker.rings[steerer].len() <= self.scope.slots)
    }

    fn receive(&mut self, steerer: usize) -> Result<(), Violation> {
        let worker = &mut self.workers[steerer];
        let n = worker.received;
        worker.received += 1;
        let flow = self.scope.script[steerer][n];
        let Steered { owners, epochs } = worker.steered;
        let epoch = epochs[usize::from(flow)];
        let id = self.scope.packet(steerer, n);
        let packet = Packet { id, flow, steerer: steerer as u8, epoch };
        let instance = owners[usize::from(flow)];
        let home = self.scope.homes[usize::from(instance)];
        if home == steerer {
            return self.deliver(home, instance, packet);
        }
        self.push(steerer, home, Item::Packet(instance, packet));
        Ok(())
    }

    pub(crate) fn push(&mut self, from: usize, to: usize, item: Item) {
        self.workers[to].rings[from].push_back(item);
    }

    pub(crate) fn has_room(&self, from: usize, to: usize) -> bool {
        self.workers[to].rings[from].len() < self.scope.slots
    }

    /// An instance processes a packet and transmits it.
    pub(crate) fn process(&mut self, instance: u8, packet: Packet) -> Result<(), Violation> {
        let (flow, home) = (usize::from(packet.flow), self.scope.homes[usize::from(instance)]);
        let seen = &self.seen;
        if (seen.processed | seen.lost) & (1 << packet.id) != 0 {
            return Err(Violation::ProcessedTwice(packet));
        }
        self.check_order(packet, home)?;
        let seen = &mut self.seen;
        let before = self.scope.of_flow(packet.flow) & seen.processed;
        seen.processed |= 1 << packet.id;
        let entry = &mut self.tables[usize::from(instance)][flow];
        let is_new = entry.is_none();
        let state = entry.get_or_insert_default();
        if state.packets != before {
            return Err(Violation::StateIncomplete(packet));
        }
        state.packets |= 1 << packet.id;
        state.count += 1;
        self.hear_of(instance, packet)?;
        if self.scope.slow.contains(&home) {
            self.workers[home].transmit.push_back(packet);
        }
        if is_new { self.one_owner(packet.flow) } else { Ok(()) }
    }

    /// Packets of a flow are processed in order, and what is older has left: unless this is not
    /// promised.
    fn check_order(&mut self, packet: Packet, home: usize) -> Result<(), Violation> {
        let flow = usize::from(packet.flow);
        let later = self.scope.later(usize::from(packet.steerer), packet.flow, packet.id);
        // What waits to be transmitted elsewhere may leave at any time, so also after this.
        let others = self.workers.iter().enumerate().filter(|(number, _)| *number != home);
        let older = |other: &Packet| other.flow == packet.flow && other.epoch < packet.epoch;
        let left_before = others.flat_map(|(_, worker)| &worker.transmit).any(older);
        let seen = &mut self.seen;
        let violation = if seen.processed & later != 0 {
            Violation::Reordered(packet)
        } else if packet.epoch < seen.epochs[flow] {
            Violation::Overtaken(packet)
        } else if left_before {
            Violation::LeftBefore(packet)
        } else {
            seen.epochs[flow] = packet.epoch;
            return Ok(());
        };
        seen.reordered += 1;
        if self.scope.guarantee == Guarantee::Ordered { Err(violation) } else { Ok(()) }
    }

    /// What an instance knows of several flows is all that has happened, once they have moved.
    fn hear_of(&mut self, instance: u8, packet: Packet) -> Result<(), Violation> {
        let known = &mut self.multi_flow[usize::from(instance)];
        let before = self.seen.processed & !(1 << packet.id);
        let promised = self.scope.guarantee != Guarantee::None && self.scope.all_move();
        if self.scope.multi_flow == Some(Room::Ample) && promised && *known != before {
            return Err(Violation::CrossFlow(packet));
        }
        *known |= 1 << packet.id;
        Ok(())
    }

    /// The state of a flow is in one place at most.
    pub(crate) fn one_owner(&self, flow: u8) -> Result<(), Violation> {
        let known = self.tables.iter().filter(|table| table[usize::from(flow)].is_some()).count();
        if known + usize::from(self.seen.flying >> flow & 1) > 1 {
            return Err(Violation::TwoOwners(flow));
        }
        Ok(())
    }

    fn leave(&mut self, worker: usize, all: bool) {
        let worker = &mut self.workers[worker];
        let frames = if all { worker.transmit.len() } else { worker.transmit.len().min(1) };
        worker.transmit.drain(..frames);
        for end in &mut worker.sources {
            end.frames_left(frames);
        }
    }

    pub(crate) fn is_broken(&self, fault: Fault) -> bool {
        self.scope.fault == Some(fault)
    }
}
