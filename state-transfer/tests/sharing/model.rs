//! The node around the machines: steerers, rings, instances, the coordinator.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use weir_state_transfer::share::{
    Arrival, Cause, Coordinator, Event, Member, Message, Need, Next, Phase, Slot, Stamp, Stamper,
    Surroundings, Turn, View,
};
use weir_state_transfer::{InstanceId, Nanos, ShareId, WorkerId, mark};

use crate::node::slot_of_state;
use crate::scope::{Fault, Kind, Load, Scope};
use crate::seen::{Seen, Violation};
use crate::store::{Visit, Visitors, Visits};

/// A packet; its number grows with time among those of a steerer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) id: u8,
    pub(crate) steerer: u8,
    pub(crate) load: Load,
}

pub(crate) type Told = Message<Visit, Visitors, Visitors>;

/// Everything that changes.
#[derive(Clone, Hash)]
pub(crate) struct Model {
    pub(crate) scope: Shared,
    pub(crate) coordinator: Coordinator,
    pub(crate) ends: Vec<End>,
    pub(crate) stampers: Vec<Stamper>,
    pub(crate) stamped: Vec<InstanceId>,
    pub(crate) received: Vec<usize>,
    /// Packets on their way to instances, by steerer and instance, and markers behind those that
    /// were stamped for other members.
    pub(crate) steered: Vec<Vec<VecDeque<Option<Arrival<Packet>>>>>,
    /// Instances whose ends go when all that is in the rings to them has been taken, and those that
    /// get new ones then.
    pub(crate) going: Vec<usize>,
    pub(crate) coming: Vec<usize>,
    /// Markers that are on their way.
    pub(crate) markers: usize,
    /// For which view the last were sent.
    pub(crate) marked_for: u64,
    /// Messages between instances, by sender and receiver.
    pub(crate) rings: Vec<Vec<VecDeque<Told>>>,
    pub(crate) acted: usize,
    /// Operations that have come, by steerer, for a fault.
    came: Vec<u64>,
    pub(crate) last_view: Option<View>,
    pub(crate) now: Nanos,
    pub(crate) seen: Seen,
}

/// An instance.
#[derive(Clone, Debug, Hash)]
pub(crate) struct End {
    pub(crate) member: Option<Member<Visit, Visitors, Visitors, Packet>>,
    pub(crate) store: Visits,
    pub(crate) commands: VecDeque<View>,
    /// It can hand over a piece.
    pub(crate) busy: bool,
    pub(crate) failed: bool,
    /// It has been told to share.
    pub(crate) shares: bool,
    /// Once it has been told that the share ends: the slots whose home it was.
    pub(crate) ended: Option<Vec<Slot>>,
    /// The last answer of each slot, for a fault.
    pub(crate) replica: Vec<Option<Visitors>>,
}

/// Anything that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A steerer receives a packet and steers it.
    Receive(usize),
    /// An instance takes a packet of a steerer.
    Packet { at: usize, steerer: usize },
    /// An instance takes a message.
    Message { at: usize, from: usize },
    /// An instance adopts a view.
    Adopt(usize),
    /// An instance hands over a piece.
    Hand(usize),
    /// The next thing is done with the share.
    Act,
    /// Time passes.
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

pub(crate) const ID: ShareId = ShareId(1);

impl Model {
    pub(crate) fn new(scope: Scope) -> Self {
        let count = scope.instances;
        let end = |number| {
            let store = Visits::new(InstanceId(number as u8), scope.limits.slots, !scope.stepped);
            let (commands, replica) = (VecDeque::new(), vec![None; scope.limits.slots]);
            End {
                member: None,
                store,
                commands,
                busy: false,
                failed: false,
                shares: false,
                ended: None,
                replica,
            }
        };
        let steerers = scope.script.len();
        let mut model = Self {
            coordinator: Coordinator::new(1, Duration::from_secs(1)),
            ends: (0..count).map(end).collect(),
            stampers: (0..steerers)
                .map(|steerer| Stamper::new(WorkerId(steerer as u8), scope.limits))
                .collect(),
            stamped: Vec::new(),
            going: Vec::new(),
            coming: Vec::new(),
            markers: 0,
            marked_for: 0,
            received: vec![0; steerers],
            steered: vec![vec![VecDeque::new(); count]; steerers],
            rings: vec![vec![VecDeque::new(); count]; count],
            acted: 0,
            came: vec![0; steerers],
            last_view: None,
            now: Nanos(1),
            seen: Seen::new(&scope),
            scope: Shared(Rc::new(scope)),
        };
        let moves = mark::Coordinator::new(1, Duration::from_secs(1));
        let around = Surroundings { moves: &moves, removing: &[] };
        model.coordinator.start(model.scope.request(), &around, model.now).expect("nothing else");
        model.command();
        model.replace();
        while model.scope.started && model.stir_share() {}
        // A packet may as well lie in the ring, unless it matters whether it has a stamp.
        for (steerer, loads) in model.scope.script.clone().iter().enumerate() {
            let first = if model.scope.stamps_change() { 0 } else { loads.len() };
            (0..first).for_each(|_| model.receive(steerer));
        }
        model
    }

    /// Everything that may happen; some of it may turn out to change nothing.
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        steps.clear();
        for at in 0..self.ends.len() {
            if !self.ends[at].commands.is_empty() {
                steps.push(Step::Adopt(at));
            }
            if self.scope.stepped && self.ends[at].busy {
                steps.push(Step::Hand(at));
            }
            for from in 0..self.ends.len() {
                if !self.rings[from][at].is_empty() {
                    steps.push(Step::Message { at, from });
                }
            }
            for steerer in 0..self.steered.len() {
                if !self.steered[steerer][at].is_empty() {
                    steps.push(Step::Packet { at, steerer });
                }
            }
        }
        let script = self.scope.script.iter().zip(&self.received);
        for (steerer, (loads, received)) in script.enumerate() {
            if *received < loads.len() {
                steps.push(Step::Receive(steerer));
            }
        }
        if self.scope.timeouts || steps.is_empty() {
            steps.push(Step::Timeout);
        }
        if self.acted < self.scope.acts.len() {
            steps.push(Step::Act);
        }
    }

    /// Does a step; whether it has changed anything.
    pub(crate) fn take(&mut self, step: Step) -> Result<bool, Violation> {
        let changed = self.try_take(step)?;
        self.replace();
        Ok(changed)
    }

    fn try_take(&mut self, step: Step) -> Result<bool, Violation> {
        match step {
            Step::Receive(steerer) => self.receive(steerer),
            Step::Packet { at, steerer } => {
                let Some(arrival) = self.steered[steerer][at].pop_front() else { return Ok(false) };
                arrival.map_or(Ok(()), |arrival| self.packet(at, arrival))?;
                self.mark();
            }
            Step::Message { at, from } => {
                let Some(mut message) = self.rings[from][at].pop_front() else {
                    return Ok(false);
                };
                if self.scope.fault == Some(Fault::NoWindow) {
                    self.number_as_they_come(&mut message);
                }
                let (now, sender) = (self.now, InstanceId(from as u8));
                let end = &mut self.ends[at];
                if let Some(member) = &mut end.member {
                    member.message(sender, message, &mut end.store, now);
                }
                self.after(at)?;
            }
            Step::Adopt(at) => {
                let Some(view) = self.ends[at].commands.pop_front() else { return Ok(false) };
                self.adopt(at, view)?;
            }
            Step::Hand(at) => {
                self.ends[at].busy = false;
                self.hand(at, 1);
                self.after(at)?;
            }
            Step::Act => return self.act(),
            Step::Timeout => return self.timeout(),
        }
        Ok(true)
    }

    /// What is checked when nothing more can happen.
    pub(crate) fn check_end(&self) -> Result<(), Violation> {
        let waits = |end: &End| {
            let member = end.member.as_ref().filter(|_| !end.failed);
            member.is_some_and(|member| member.waiting() + member.held() > 0)
        };
        let steady = |id| self.coordinator.get(id).is_none_or(|share| share.phase == Phase::Steady);
        if self.acted < self.scope.acts.len() || self.ends.iter().any(waits) || !steady(ID) {
            return Err(Violation::Stuck);
        }
        self.seen.check_end(self)
    }

    /// The last view that was told.
    pub(crate) fn shared_last(&self) -> Option<View> {
        self.last_view.clone()
    }

    fn receive(&mut self, steerer: usize) {
        let n = self.received[steerer];
        self.received[steerer] += 1;
        let load = self.scope.script[steerer][n];
        let id = self.scope.packet(steerer, n);
        let packet = Packet { id, steerer: steerer as u8, load };
        let to = usize::from(load.to);
        if self.ends[to].failed {
            self.seen.dropped |= 1 << id;
            return;
        }
        let stamps = self.stamped.contains(&InstanceId(load.to));
        let stamp = stamps.then(|| self.stampers[steerer].stamp(load.slot));
        let sequence = stamp.map(|stamp| stamp.sequence);
        let (slot, worker) = (load.slot, WorkerId(steerer as u8));
        let arrival = Arrival::new(slot, worker, sequence, packet);
        self.steered[steerer][to].push_back(Some(arrival));
    }

    fn packet(&mut self, at: usize, arrival: Arrival<Packet>) -> Result<(), Violation> {
        let Arrival { slot, steerer, sequence, packet, .. } = arrival;
        let (now, fault, kind) = (self.now, self.scope.fault, packet.load.kind);
        let end = &mut self.ends[at];
        self.seen.arrive(&packet, sequence);
        let Some(member) = &mut end.member else { return self.alone(at, &packet) };
        if kind == Kind::Dropped {
            self.seen.dropped |= 1 << packet.id;
            let stamp = sequence.map(|sequence| Stamp { steerer, sequence });
            stamp.into_iter().for_each(|stamp| member.pass(slot, stamp, Cause::Skipped));
            return self.after(at);
        }
        if fault == Some(Fault::Overtakes) && kind == Kind::Plain {
            return self.seen.process(&self.scope, &packet);
        }
        let replica = end.replica[usize::from(slot.0)];
        if let (Some(Fault::StaleReplica), Kind::Wait, Some(known)) = (fault, kind, replica) {
            self.seen.ask(&packet);
            self.seen.answer(packet.id, known);
            return self.seen.process(&self.scope, &packet);
        }
        let need = match kind {
            Kind::Plain | Kind::Dropped => Need::Nothing,
            Kind::Blind => Need::Update(Visit(packet.id)),
            Kind::Wait => Need::Answer(Visit(packet.id)),
            Kind::Lazy => Need::Unknown,
        };
        if matches!(need, Need::Update(_) | Need::Answer(_)) {
            self.seen.ask(&packet);
        }
        let turn = member.packet(need, arrival, &mut end.store, now);
        self.turn(at, &turn)?;
        self.after(at)
    }

    fn turn(&mut self, at: usize, turn: &Turn<Packet>) -> Result<(), Violation> {
        match *turn {
            Turn::Process(packet) => self.seen.process(&self.scope, &packet),
            Turn::Alone(packet) => self.alone(at, &packet),
            Turn::Kept => Ok(()),
            Turn::Full(packet) => {
                self.seen.lost |= 1 << packet.id;
                Ok(())
            }
            Turn::Decide(arrival) => {
                let packet = arrival.packet;
                self.seen.ask(&packet);
                let (now, end) = (self.now, &mut self.ends[at]);
                let Some(member) = &mut end.member else { return Ok(()) };
                let need = Need::Answer(Visit(packet.id));
                let turn = member.decided(need, arrival, &mut end.store, now);
                self.turn(at, &turn)
            }
        }
    }

    fn adopt(&mut self, at: usize, view: View) -> Result<(), Violation> {
        let (now, fault) = (self.now, self.scope.fault);
        let (slots, key) = (self.scope.limits.slots, self.scope.key);
        let end = &mut self.ends[at];
        let Some(member) = &mut end.member else { return Ok(()) };
        if !std::mem::replace(&mut end.shares, true) && !self.scope.members.contains(&(at as u8)) {
            self.seen.join(at as u8);
        }
        if view.is_alone() && end.ended.is_none() {
            let me = InstanceId(at as u8);
            let slots = (0..slots as u16).map(Slot);
            end.ended = Some(slots.filter(|slot| member.home(*slot) == me).collect());
        }
        let view = if fault == Some(Fault::TwoHomes) && at == 1 {
            View::new(view.number, &view.members, &view.leaving, (slots, key + 1))
        } else {
            view
        };
        member.adopt(view, &mut end.store, now);
        self.after(at)
    }

    /// Hands over pieces, as many as asked for, or all.
    fn hand(&mut self, at: usize, pieces: usize) {
        let (now, end) = (self.now, &mut self.ends[at]);
        if let Some(member) = &mut end.member {
            end.busy = member.step(pieces, &mut end.store, now);
        }
    }

    /// What the driver does when an instance has been given something.
    fn after(&mut self, at: usize) -> Result<(), Violation> {
        let all = if self.scope.stepped { 0 } else { usize::MAX };
        self.hand(at, all);
        loop {
            let (now, end) = (self.now, &mut self.ends[at]);
            let Some(member) = &mut end.member else { return Ok(()) };
            let next = member.next(&mut end.store, now);
            self.executed(at)?;
            let Some(next) = next else { break };
            match next {
                Next::Process(packet) => self.seen.process(&self.scope, &packet)?,
                Next::Decide(arrival) => {
                    self.turn(at, &Turn::Decide(arrival))?;
                }
                Next::Answered(packet, answer) => {
                    self.ends[at].replica[usize::from(packet.load.slot.0)] = Some(answer);
                    self.seen.answer(packet.id, answer);
                    self.seen.process(&self.scope, &packet)?;
                }
                Next::Late(packet) | Next::Unanswered(packet) => {
                    self.seen.lost |= 1 << packet.id;
                }
            }
        }
        self.hand(at, all);
        self.send(at);
        self.settled(at);
        Ok(())
    }

    fn executed(&mut self, at: usize) -> Result<(), Violation> {
        for executed in std::mem::take(&mut self.ends[at].store.executed) {
            let (steerer, n) = self.place(executed.visitor);
            let load = self.scope.script[steerer][n];
            let packet = Packet { id: executed.visitor, steerer: steerer as u8, load };
            let gone = self.ends.iter().enumerate().filter(|(_, end)| end.failed);
            if gone.fold(executed.giving, |giving, (at, _)| giving & !(1 << at)) != 0 {
                return Err(Violation::NotGiven(executed.visitor));
            }
            // When the share has ended, what an instance does in a slot is its own business.
            let ended = self.ends[at].ended.as_ref();
            let others = if ended.is_some() { 0 } else { self.known(at, executed.slot) };
            let known = executed.before | others;
            let replaced = |homes: &Vec<Slot>| executed.copied || !homes.contains(&executed.slot);
            if usize::from(load.to) == at && ended.is_some_and(replaced) {
                self.seen.execute_alone(&packet, known)?;
            } else {
                self.seen.execute(&self.scope, at as u8, (executed, known), &packet)?;
            }
        }
        Ok(())
    }

    pub(crate) fn place(&self, id: u8) -> (usize, usize) {
        let mut n = usize::from(id);
        let lens = self.scope.script.iter().map(Vec::len).enumerate();
        for (steerer, len) in lens {
            if n < len {
                return (steerer, n);
            }
            n -= len;
        }
        unreachable!("every packet is in the script")
    }

    fn send(&mut self, at: usize) {
        let (fault, repeated) = (self.scope.fault, self.scope.repeated);
        while let Some(member) = &mut self.ends[at].member
            && let Some((to, message)) = member.poll_output()
        {
            let to = usize::from(to.0);
            if self.ends[to].failed {
                self.seen.bereave(slot_of_state(&message).as_slice());
            } else {
                crate::faults::push(&mut self.rings[at][to], message, (fault, repeated));
            }
        }
    }

    fn settled(&mut self, at: usize) {
        let Some(member) = &mut self.ends[at].member else { return };
        if let Some(number) = member.poll_settled() {
            self.coordinator.event(ID, Event::Settled(InstanceId(at as u8), number));
            self.command();
        }
    }

    /// Places that homes have given up.
    pub(crate) fn given_up(&self) -> u64 {
        let members = self.ends.iter().filter_map(|end| end.member.as_ref());
        members.map(|member| member.counters().given_up).sum()
    }

    /// Time passes until something is due.
    fn timeout(&mut self) -> Result<bool, Violation> {
        let live = self.ends.iter().filter(|end| !end.failed);
        let due = live.filter_map(|end| end.member.as_ref()?.poll_timeout()).min();
        let Some(due) = due else { return Ok(false) };
        self.now = self.now.max(due);
        for at in 0..self.ends.len() {
            let (now, end) = (self.now, &mut self.ends[at]);
            if let Some(member) = &mut end.member {
                member.handle_timeout(&mut end.store, now);
                self.after(at)?;
            }
        }
        Ok(true)
    }

    /// Does one thing that the share needs to start; whether there was any.
    fn stir_share(&mut self) -> bool {
        let mut steps = Vec::new();
        self.steps(&mut steps);
        let of_it =
            |step: &Step| matches!(step, Step::Adopt(_) | Step::Hand(_) | Step::Message { .. });
        let step = steps.into_iter().find(of_it);
        step.is_some_and(|step| self.take(step).expect("nothing is wrong at the start"))
    }

    /// As if there were no window: each operation has the next place when it comes.
    fn number_as_they_come(&mut self, message: &mut Told) {
        if let Message::Operation(operation) = message
            && let Some(stamp) = &mut operation.stamp
        {
            let came = &mut self.came[usize::from(stamp.steerer.0)];
            stamp.sequence = *came;
            *came += 1;
        }
    }
}
