//! The node: the coordinator, its commands, and the tables that it publishes.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use weir_state_transfer::mark::{Command as Next, Coordinator, Event as MoveEvent, Steerers};
use weir_state_transfer::{MoveId, Nanos, WorkerId};

use crate::ends::{DestinationEnd, SourceEnd};
use crate::model::{Item, Model, Step};
use crate::scope::{FLOWS, Fault, Grouping, Owners, Scope};

/// The node's thread.
#[derive(Clone)]
pub(crate) struct Node {
    coordinator: Coordinator,
    /// The moves that were started, by number less one.
    records: Vec<Record>,
    /// Moves that have flipped and not ended, with the owners before.
    flipped: Vec<(u8, Owners)>,
    pub(crate) steered: Steered,
    pub(crate) undos: u8,
}

#[derive(Clone, Hash)]
struct Record {
    spec: Option<Spec>,
    prepared: u8,
    /// Ends at which it is done.
    done: u8,
    outcome: Option<Outcome>,
    ended: bool,
}

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Done,
    Undone,
}

/// What both ends of a move must know.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Spec {
    pub(crate) id: u8,
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) from_worker: usize,
    pub(crate) to_worker: usize,
    /// Flows under the move, a bit each.
    pub(crate) flows: u8,
    pub(crate) by: Grouping,
}

impl Spec {
    pub(crate) fn concerns(&self, flow: u8) -> bool {
        self.flows >> flow & 1 == 1
    }
}

/// A steering table.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Steered {
    pub(crate) owners: Owners,
    /// How often each flow's owner has changed.
    pub(crate) epochs: [u8; FLOWS],
}

impl Steered {
    pub(crate) fn new(owners: Owners) -> Self {
        Self { owners, epochs: [0; FLOWS] }
    }

    /// Whether no owner has changed.
    pub(crate) fn is_first(&self) -> bool {
        self.epochs == [0; FLOWS]
    }
}

/// From the node to a worker.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Command {
    Steer(Steered, Flip),
    Prepare(Spec),
    Forget(u8),
    Ask(u8),
}

/// A marker to be sent when a steerer adopts a table.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Flip {
    id: u8,
    pub(crate) to: usize,
    back: bool,
}

/// From a worker to the node.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Event {
    Prepared(u8),
    Exporting(u8),
    Undoing(u8),
    Done(u8),
    Undone(u8),
}

const STEP: Duration = Duration::from_secs(1);
const NOW: Nanos = Nanos(0);

impl Node {
    pub(crate) fn new(scope: &Scope) -> Self {
        Self {
            coordinator: Coordinator::new(16, STEP),
            records: Vec::new(),
            flipped: Vec::new(),
            steered: Steered::new(scope.owners),
            undos: scope.undos,
        }
    }

    pub(crate) fn steps(&self, scope: &Scope, steps: &mut Vec<Step>) {
        if self.records.len() < scope.moves.len() {
            steps.push(Step::Start);
        }
        if self.undos == 0 {
            return;
        }
        if scope.timeout {
            steps.extend(self.coordinator.poll_timeout().map(|_| Step::Timeout));
        } else {
            steps.extend(self.coordinator.moves().map(|(id, _)| Step::Undo(id.0 as u8)));
        }
    }

    /// Whether every move has ended, and the coordinator waits for nothing.
    pub(crate) fn has_ended(&self, scope: &Scope) -> bool {
        self.records.len() == scope.moves.len()
            && self.records.iter().all(|record| record.ended)
            && self.coordinator.is_idle()
            && self.flipped.is_empty()
    }

    /// What became of each move.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        self.records.iter().map(|record| record.outcome.unwrap_or(Outcome::Undone))
    }

    /// Whether the first move has not been started.
    pub(crate) fn starts_first(&self) -> bool {
        self.records.is_empty()
    }

    fn spec(&self, id: MoveId) -> Option<Spec> {
        self.records[id.0 as usize - 1].spec
    }
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (id, moving) in self.coordinator.moves() {
            (id, moving.phase as u8, moving.reason.is_some()).hash(state);
        }
        self.coordinator.poll_timeout().hash(state);
        (&self.records, &self.flipped, self.steered, self.undos).hash(state);
    }
}

impl Model {
    pub(crate) fn start(&mut self) {
        let change = &self.scope.moves[self.node.records.len()];
        let request = self.scope.request(change);
        self.node.records.push(Record {
            spec: None,
            prepared: 0,
            done: 0,
            outcome: None,
            ended: false,
        });
        let started = self.node.coordinator.start(request, false, NOW);
        started.expect("the coordinator has room");
        self.carry_on_moves();
    }

    pub(crate) fn undo(&mut self, id: u8) -> bool {
        let id = MoveId(u64::from(id));
        let before = self.node.coordinator.get(id).map(|moving| moving.phase);
        let accepted = self.node.coordinator.undo(id, "it was asked to be undone");
        self.carry_on_moves();
        self.settle_time();
        let changed = before != self.node.coordinator.get(id).map(|moving| moving.phase);
        self.node.undos -= u8::from(changed);
        accepted && changed
    }

    pub(crate) fn time_out(&mut self) -> bool {
        let Some(due) = self.node.coordinator.poll_timeout() else { return false };
        self.node.undos = self.node.undos.saturating_sub(1);
        self.node.coordinator.handle_timeout(due);
        self.carry_on_moves();
        true
    }

    /// What the coordinator wants to be called for at once is not left to the schedule.
    fn settle_time(&mut self) {
        while self.node.coordinator.poll_timeout().is_some_and(|due| due <= NOW) {
            self.node.coordinator.handle_timeout(NOW);
            self.carry_on_moves();
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        let (id, event) = match event {
            Event::Prepared(id) => {
                let record = &mut self.node.records[usize::from(id) - 1];
                record.prepared += 1;
                if record.prepared < 2 {
                    return;
                }
                (id, MoveEvent::Prepared)
            }
            Event::Exporting(id) => (id, MoveEvent::Exporting),
            Event::Undoing(id) => (id, MoveEvent::Undoing),
            Event::Done(id) => {
                let record = &mut self.node.records[usize::from(id) - 1];
                record.done += 1;
                if record.done < 2 {
                    return;
                }
                (id, MoveEvent::Done)
            }
            Event::Undone(id) => (id, MoveEvent::Undone),
        };
        let outcome = match event {
            MoveEvent::Done => Some(Outcome::Done),
            MoveEvent::Undone => Some(Outcome::Undone),
            _ => None,
        };
        if outcome.is_some() {
            self.node.records[usize::from(id) - 1].outcome = outcome;
        }
        self.node.coordinator.event(MoveId(u64::from(id)), event, NOW);
        self.carry_on_moves();
        self.settle_time();
    }

    fn carry_on_moves(&mut self) {
        while let Some(next) = self.node.coordinator.poll_command() {
            match next {
                Next::Prepare(id) => self.prepare(id),
                Next::Flip(id) => self.flip(id),
                Next::Ask(id) => {
                    if let Some(spec) = self.node.spec(id) {
                        self.tell(spec.to_worker, Command::Ask(spec.id));
                    }
                }
                Next::FlipBack(id) => self.flip_back(id),
                Next::Forget(id) => {
                    if let Some(spec) = self.node.spec(id) {
                        self.tell(spec.from_worker, Command::Forget(spec.id));
                        self.tell(spec.to_worker, Command::Forget(spec.id));
                    }
                }
                Next::End(id, _) => self.end(id),
            }
        }
    }

    fn prepare(&mut self, id: MoveId) {
        let moving = self.node.coordinator.get(id).expect("it is to be prepared");
        let owner = |flow: u8| self.node.steered.owners[usize::from(flow)];
        let request = &moving.request;
        let concerned = (0..FLOWS as u8).filter(|flow| {
            self.scope.selects(&request.selection, *flow) && owner(*flow) == request.from.0
        });
        let spec = Spec {
            id: id.0 as u8,
            from: request.from.0,
            to: request.to.0,
            from_worker: self.scope.homes[usize::from(request.from.0)],
            to_worker: self.scope.homes[usize::from(request.to.0)],
            flows: concerned.fold(0, |mask, flow| mask | 1 << flow),
            by: self.scope.by,
        };
        self.node.records[id.0 as usize - 1].spec = Some(spec);
        self.tell(spec.from_worker, Command::Prepare(spec));
        if spec.to_worker != spec.from_worker {
            self.tell(spec.to_worker, Command::Prepare(spec));
        }
    }

    fn flip(&mut self, id: MoveId) {
        let Some(spec) = self.node.spec(id) else { return };
        let before = self.node.steered.owners;
        self.node.flipped.push((spec.id, before));
        self.publish(moved(before, &spec), Flip { id: spec.id, to: spec.from_worker, back: false });
    }

    fn flip_back(&mut self, id: MoveId) {
        let Some(spec) = self.node.spec(id) else { return };
        let place = self.node.flipped.iter().position(|(other, _)| *other == spec.id);
        let Some(place) = place else { return };
        let (_, mut owners) = self.node.flipped.remove(place);
        for (other, before) in &mut self.node.flipped[place..] {
            *before = owners;
            let other = self.node.records[usize::from(*other) - 1].spec;
            owners = moved(owners, &other.expect("it has not ended"));
        }
        self.publish(owners, Flip { id: spec.id, to: spec.to_worker, back: true });
    }

    fn end(&mut self, id: MoveId) {
        let Some(record) = self.node.records.get_mut(id.0 as usize - 1) else { return };
        record.ended = true;
        let Some(spec) = record.spec.take() else { return };
        if let Some(place) = self.node.flipped.iter().position(|(other, _)| *other == spec.id) {
            for (_, before) in &mut self.node.flipped[..place] {
                *before = moved(*before, &spec);
            }
            self.node.flipped.remove(place);
        }
    }

    fn publish(&mut self, owners: Owners, flip: Flip) {
        let steered = &mut self.node.steered;
        for (flow, epoch) in steered.epochs.iter_mut().enumerate() {
            *epoch += u8::from(owners[flow] != steered.owners[flow]);
        }
        steered.owners = owners;
        let steered = *steered;
        for steerer in 0..self.scope.script.len() {
            self.tell(steerer, Command::Steer(steered, flip));
        }
    }

    fn tell(&mut self, worker: usize, command: Command) {
        self.workers[worker].commands.push_back(command);
    }

    /// A worker carries out its next command.
    pub(crate) fn carry_out(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        match worker.commands.pop_front() {
            Some(Command::Steer(steered, flip)) => {
                worker.steered = steered;
                self.send_marker(number, flip);
            }
            Some(Command::Prepare(spec)) => {
                let numbers = 0..self.scope.script.len();
                let steerers: Steerers = numbers.map(|number| WorkerId(number as u8)).collect();
                let (hold, promise) = (self.scope.hold, self.scope.guarantee);
                if spec.from_worker == number {
                    let state = (promise, self.scope.multi_flow.is_some());
                    worker.sources.push(SourceEnd::new(spec, steerers, hold, state));
                    worker.events.push_back(Event::Prepared(spec.id));
                }
                if spec.to_worker == number {
                    let end = DestinationEnd::new(spec, steerers, hold, promise);
                    worker.destinations.push(end);
                    worker.events.push_back(Event::Prepared(spec.id));
                }
            }
            Some(Command::Forget(id)) => {
                worker.sources.retain(|end| end.spec.id != id);
                worker.destinations.retain(|end| end.spec.id != id);
            }
            Some(Command::Ask(id)) => {
                let end = worker.destinations.iter_mut().find(|end| end.spec.id == id);
                let must = end.is_some_and(|end| end.destination.ask());
                self.ask(number, id, must);
            }
            None => {}
        }
    }

    fn send_marker(&mut self, steerer: usize, Flip { id, to, back }: Flip) {
        if to == steerer && !self.is_broken(Fault::OwnMarkerByRing) {
            self.marker(to, steerer, id, back);
            return;
        }
        self.push(steerer, to, Item::Marker { id, back });
        let fault = self.scope.fault;
        let ring = self.workers[to].rings[steerer].make_contiguous();
        if let [packets @ .., Item::Packet(_, last), Item::Marker { back: false, .. }] = &*ring {
            let alike = |item: &Item| matches!(item, Item::Packet(_, p) if p.flow == last.flow);
            let behind = match fault {
                Some(Fault::MarkerEarly) => packets.len(),
                Some(Fault::LastByBytes) => {
                    packets.iter().position(alike).map_or(packets.len() + 1, |first| first + 1)
                }
                _ => return,
            };
            ring[behind..].rotate_right(1);
        }
    }
}

fn moved(mut owners: Owners, spec: &Spec) -> Owners {
    for flow in (0..FLOWS as u8).filter(|flow| spec.concerns(*flow)) {
        let owner = &mut owners[usize::from(flow)];
        if *owner == spec.from {
            *owner = spec.to;
        }
    }
    owners
}
