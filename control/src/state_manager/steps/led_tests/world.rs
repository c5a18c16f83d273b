//! What a move that leads packets is about, and what becomes of it: functions, a data plane and a
//! journal.

use std::collections::BTreeMap;

use super::super::tests::{failure, flow, id_number};
use super::super::*;

/// What is said of a data plane that is another than that which was asked to hold.
const STARTED_AGAIN: &str = "the data plane was started again";
/// And of one that has held packets for as long as it was to.
const LAPSED: &str = "the hold was over";
/// Flows at the source.
const FLOWS: u8 = 4;

/// What a function knows of a flow: the number of its last packet, by which it is versioned too.
type Flows = BTreeMap<u8, u64>;

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Led {
    ToSource,
    Held,
    ToDestination,
}

/// What a world does wrong, for the controls of the judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flaw {
    None,
    /// Nobody looks whether the data plane is the same.
    Blind,
    /// What is deleted is not compared with what has moved.
    Careless,
    /// What can not be written down is done all the same.
    Hasty,
    /// Packets are led before the source has what it was sent.
    Early,
    /// What is written down is forgotten when packets are held still.
    Forgetful,
    /// Nobody looks whether the destination is the same.
    Trusting,
    /// Nobody reads that packets have been led.
    Amnesic,
    /// It is written down before they are.
    Boastful,
    /// Nobody looks whether the hold was over.
    Deaf,
}

pub(super) struct World {
    rng: fastrand::Rng,
    flaw: Flaw,
    /// The chance that something goes wrong at a task, and how often it still may.
    chance: f64,
    trouble: u32,
    led: Led,
    desired: bool,
    incarnation: u64,
    /// Of the destination: at first, written down, and now.
    lives: [u32; 2],
    held: Vec<(u8, u64)>,
    /// What was held last has gone on to the source.
    lapsed: bool,
    /// On their way to the source.
    sent: Vec<(u8, u64)>,
    /// The number of the last packet of each flow.
    last: Flows,
    source: Flows,
    destination: Flows,
    /// What the destination had of the same flows.
    own: Flows,
    /// What it took in.
    carried: Flows,
    /// The source has deleted what the destination did not take in.
    is_lost: bool,
    /// It was started again when nobody looked any more.
    is_late: bool,
    /// Flows that the source has got by another way, since all has moved.
    fresh: Flows,
    journal: Option<(LeadStep, Vec<Piece>)>,
    /// The data plane that was asked to hold, and that which was found when packets went back.
    asked: u64,
    found: u64,
    /// That which leads, as far as the sidecar knows.
    led_by: u64,
    /// Packets were held, and all that were held have been led.
    stopped: bool,
    released: bool,
    /// That none of them was lost is known, and was written down unless that failed; and it was, so that
    /// every sidecar knows.
    is_known: bool,
    is_noted: bool,
    /// It was started again meanwhile, or at all.
    unheld: bool,
    broken: bool,
    killed: u32,
    pub(super) answer: Option<(State, String)>,
    /// What is told to be left at the source.
    left_behind: Vec<u8>,
    /// Packets that met a function that did not expect them.
    strangers: u32,
}

/// How a task goes.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Well,
    FailsBefore,
    FailsBehind,
    KilledBefore,
    KilledBehind,
}

impl World {
    pub(super) fn new(rng: &mut fastrand::Rng, flaw: Flaw) -> Self {
        let source: Flows = (1..=FLOWS).map(|number| (number, rng.u64(1..9))).collect();
        let own: Flows = (1..=FLOWS).filter(|_| rng.u8(..4) == 0).map(|flow| (flow, 0)).collect();
        let chance = [0.0, 0.05, 0.2, 0.5][rng.usize(..4)];
        let mut rng = rng.fork();
        Self {
            chance,
            trouble: rng.u32(..20),
            rng,
            flaw,
            led: Led::ToSource,
            desired: false,
            incarnation: 7,
            lives: [0; 2],
            held: Vec::new(),
            lapsed: false,
            sent: Vec::new(),
            last: source.clone(),
            source,
            destination: own.clone(),
            own,
            carried: Flows::new(),
            is_lost: false,
            is_late: false,
            fresh: Flows::new(),
            journal: None,
            asked: 7,
            found: 7,
            led_by: 7,
            stopped: false,
            released: false,
            is_known: false,
            is_noted: false,
            unheld: false,
            broken: false,
            killed: 0,
            answer: None,
            left_behind: Vec::new(),
            strangers: 0,
        }
    }

    /// Packets come, some of those on their way arrive, and now and then something is started again, or
    /// packets are held for as long as they were to be.
    fn time_passes(&mut self, task: Task) {
        for _ in 0..self.rng.u32(..4) {
            let number = self.rng.u8(1..=FLOWS);
            let last = self.last.get_mut(&number).unwrap();
            *last += 1;
            let packet = (number, *last);
            match self.led {
                Led::Held => self.held.push(packet),
                Led::ToSource => self.sent.push(packet),
                Led::ToDestination => self.take(false, packet),
            }
        }
        let arrive = self.rng.usize(..=self.sent.len());
        self.arrive(arrive);
        if self.trouble > 0 && self.rng.f64() < self.chance / 8.0 {
            self.trouble -= 1;
            self.incarnation += 1;
            self.held.clear();
            self.lapsed = false;
            self.is_late |= matches!(task, Task::Delete(_));
            // The rest is of the configuration, until somebody puts what is desired.
            self.led = Led::ToSource;
            self.broken = true;
            self.unheld |= self.stopped && !self.released;
        }
        let may_lapse = self.led == Led::Held && self.fresh.is_empty() && self.trouble > 0;
        if may_lapse && self.rng.f64() < self.chance / 8.0 {
            self.trouble -= 1;
            self.lapse();
            self.led = Led::ToSource;
        }
    }

    fn lapse(&mut self) {
        self.lapsed = true;
        self.sent.append(&mut self.held);
    }

    /// The destination is started again and has nothing, now and then: not behind the last look at it, nor
    /// once the source has deleted, when nobody has the state any more.
    fn destination_dies(&mut self, task: Task) {
        let is_seen = matches!(task, Task::Delete(_) | Task::Close);
        let has_deleted = (1..=FLOWS).any(|number| !self.source.contains_key(&number));
        if is_seen || has_deleted || self.trouble == 0 || self.rng.f64() >= self.chance / 8.0 {
            return;
        }
        self.trouble -= 1;
        self.lives[1] += 1;
        self.destination.clear();
    }

    fn recognise(&self) -> Result<(), Failure> {
        let is_same = self.lives[0] == self.lives[1] || self.flaw == Flaw::Trusting;
        if is_same { Ok(()) } else { Err(failure("the destination was started again")) }
    }

    fn arrive(&mut self, count: usize) {
        let packets: Vec<_> = self.sent.drain(..count).collect();
        packets.into_iter().for_each(|packet| self.take(true, packet));
    }

    /// A packet comes to a function.
    fn take(&mut self, is_source: bool, (number, packet): (u8, u64)) {
        let place = if is_source { &mut self.source } else { &mut self.destination };
        let known = place.get(&number).copied();
        if known == Some(packet - 1) {
            place.insert(number, packet);
        } else {
            self.strangers += 1;
        }
    }

    fn is_restarted(&self) -> bool {
        self.flaw != Flaw::Blind && self.incarnation != self.asked
    }

    fn turn(&mut self, task: Task) -> Turn {
        if self.trouble == 0 || self.rng.f64() >= self.chance {
            return Turn::Well;
        }
        self.trouble -= 1;
        let all = [Turn::FailsBefore, Turn::FailsBehind, Turn::KilledBefore, Turn::KilledBehind];
        let turn = all[self.rng.usize(..4)];
        // What is written is written, or is not.
        let is_write = matches!(task, Task::Note(_) | Task::Close);
        if is_write && turn == Turn::FailsBehind { Turn::FailsBefore } else { turn }
    }

    /// The effect of a task.
    fn carry_out(&mut self, task: Task, steps: &mut Steps) -> Result<(), Failure> {
        let version_at = |place: &Flows| -> Vec<(u8, u64)> {
            place.iter().map(|(number, last)| (*number, *last)).collect()
        };
        match task {
            Task::Survey(scope) => {
                for (number, last) in version_at(&self.destination) {
                    steps.there(scope, &flow(number), vec![number, last as u8])?;
                }
            }
            Task::Note(step) => self.note(step, steps),
            Task::Stop => (self.led, self.stopped, self.lapsed) = (Led::Held, true, false),
            Task::Drain if self.flaw != Flaw::Early => self.arrive(self.sent.len()),
            Task::Settle => self.arrive(self.sent.len()),
            Task::Carry(scope) => {
                for (number, last) in version_at(&self.source) {
                    if steps.carry(scope, &flow(number), last)? == Carry::Put {
                        self.destination.insert(number, last);
                        self.carried.insert(number, last);
                    }
                }
            }
            Task::Assure if self.has_lapsed() => return Err(failure(LAPSED)),
            Task::Assure if self.is_restarted() => return Err(failure(STARTED_AGAIN)),
            Task::Assure => return self.recognise(),
            Task::Recognise => {
                self.lead_again(steps);
                return self.recognise();
            }
            Task::Lead => self.lead(steps),
            Task::Unlead => (self.journal, self.desired) = (Some((LeadStep::Carry, vec![])), false),
            Task::GoBack => {
                if self.is_restarted() {
                    steps.adds(STARTED_AGAIN);
                }
                (self.led, self.found) = (Led::ToSource, self.incarnation);
                let held: Vec<_> = self.held.drain(..).collect();
                self.sent.extend(held);
            }
            Task::List(scope) => {
                steps.lists(scope);
                for (number, last) in version_at(&self.source) {
                    steps.carry(scope, &flow(number), last)?;
                }
            }
            Task::Delete(scope) => self.delete(&steps.carried(scope)),
            Task::Remove(scope) => {
                for id in steps.to_remove(scope) {
                    self.destination.remove(&id_number(&id));
                }
            }
            Task::PutBack => {
                for chunk in steps.to_put_back() {
                    self.destination.insert(chunk[0], u64::from(chunk[1]));
                }
            }
            Task::Close => {
                self.journal = None;
                let (state, failure) = steps.ended();
                self.left_behind = steps.left_behind().listed.iter().map(id_number).collect();
                self.answer = Some((state, failure.map_or_else(String::new, |why| why.reason)));
            }
            Task::Drain => {}
            other => panic!("{other:?} is of a move to another node"),
        }
        Ok(())
    }

    fn delete(&mut self, ids: &[FlowId]) {
        for number in ids.iter().map(id_number) {
            let deleted = self.source.remove(&number);
            let is_there = deleted.is_none() || deleted.as_ref() == self.carried.get(&number);
            self.is_lost |= !is_there && !self.is_late;
        }
    }

    fn has_lapsed(&self) -> bool {
        self.lapsed && self.flaw != Flaw::Deaf
    }

    fn lead_again(&mut self, steps: &mut Steps) {
        if self.flaw != Flaw::Blind && self.incarnation != self.led_by {
            (self.led, self.led_by) = (Led::ToDestination, self.incarnation);
            steps.compares();
        }
    }

    fn lead(&mut self, steps: &mut Steps) {
        let has_led = matches!(self.journal, Some((LeadStep::Led, _)));
        if self.is_restarted() {
            if !has_led || self.flaw == Flaw::Amnesic {
                steps.broke_its_promise(failure(STARTED_AGAIN));
            }
        } else if self.has_lapsed() && self.led == Led::ToSource && !has_led {
            return steps.lets_go(failure(LAPSED));
        } else if self.led == Led::Held && self.fresh.is_empty() && self.rng.u8(..50) == 0 {
            // In the moment in which it was asked to lead: others have gone to the source before.
            self.lapse();
            (self.unheld, self.broken) = (true, true);
        }
        if self.has_lapsed() && !has_led {
            steps.broke_its_promise(failure(LAPSED));
        }
        (self.led, self.released) = (Led::ToDestination, true);
        let held: Vec<_> = self.held.drain(..).collect();
        held.into_iter().for_each(|packet| self.take(false, packet));
    }

    fn note(&mut self, step: LeadStep, steps: &Steps) {
        let (before, pieces) = (self.journal.take(), steps.pieces().to_vec());
        let moved = match step {
            LeadStep::Hold | LeadStep::Carry => Vec::new(),
            LeadStep::Lead => pieces,
            LeadStep::Led => before.map(|(_, moved)| moved).unwrap_or_default(),
        };
        let is_early = step == LeadStep::Lead && self.flaw == Flaw::Boastful;
        self.journal = Some((if is_early { LeadStep::Led } else { step }, moved));
        self.desired |= step == LeadStep::Lead;
    }

    /// What a sidecar finds that is started again; none when there is nothing.
    fn next_sidecar(&mut self) -> Option<Steps> {
        (self.killed, self.is_known, self.led_by) = (self.killed + 1, false, self.asked);
        let (step, mut moved) = self.journal.clone()?;
        let may_begin = matches!(step, LeadStep::Lead | LeadStep::Led) && !self.lapsed;
        if may_begin && self.rng.bool() {
            // A connection of the same addresses, or another, begins at the source.
            let (number, last) = (self.rng.u8(1..=2 * FLOWS), 1_000 + self.rng.u64(..9));
            self.source.insert(number, last);
            self.fresh.insert(number, last);
        }
        if self.flaw == Flaw::Careless {
            let all = self.source.iter();
            let piece = |(number, version): (&u8, &u64)| Piece {
                scope: Scope::PerFlow,
                id: flow(*number),
                version: *version,
            };
            moved = all.map(piece).collect();
        }
        Some(Steps::taken_up(filter(), &scopes(), step, moved))
    }

    pub(super) fn run(&mut self) {
        let mut steps = Steps::led(filter(), &scopes());
        while let Some(task) = steps.task() {
            self.time_passes(task);
            self.destination_dies(task);
            let turn = self.turn(task);
            self.is_noted |= self.is_known && task == Task::Recognise;
            let has_effect = !matches!(turn, Turn::FailsBefore | Turn::KilledBefore);
            let outcome = if has_effect { self.carry_out(task, &mut steps) } else { Ok(()) };
            match (turn, outcome) {
                (Turn::KilledBefore | Turn::KilledBehind, _) => match self.next_sidecar() {
                    Some(next) => steps = next,
                    None => break,
                },
                (Turn::Well, Ok(())) => {
                    self.is_known |= task == Task::Lead && steps.failure().is_none();
                    steps.done();
                }
                (Turn::Well, Err(why)) => steps.failed(why),
                _ if self.flaw == Flaw::Hasty && matches!(task, Task::Note(_)) => steps.done(),
                _ if self.flaw == Flaw::Forgetful && task == Task::GoBack => steps.done(),
                _ => {
                    self.is_known &= task != Task::Note(LeadStep::Led);
                    steps.failed(failure("it broke"));
                }
            }
        }
        // What is desired is put again when it has ended.
        if self.desired && self.led == Led::ToSource {
            self.led = Led::ToDestination;
        }
        self.arrive(self.sent.len());
    }

    /// What is wrong in the end.
    pub(super) fn judge(&self) -> Option<String> {
        let wrong = |what: &str| Some(what.to_owned());
        if self.journal.is_some() || !self.held.is_empty() || self.led == Led::Held {
            return wrong("it has not ended");
        }
        if self.is_lost {
            return wrong("what has changed since was deleted");
        }
        if self.fresh.iter().any(|fresh| self.source.get(fresh.0) != Some(fresh.1)) {
            return wrong("what has come since was deleted");
        }
        let has_died = self.lives[0] != self.lives[1];
        if self.strangers > 0 && !self.broken && !has_died {
            return wrong("a packet met who did not expect it");
        }
        let Some((state, why)) = &self.answer else {
            // Killed before anything was written down.
            let is_own = has_died || self.destination == self.own;
            let is_as_before = self.led == Led::ToSource && is_own;
            return if is_as_before { None } else { wrong("nobody knows of it") };
        };
        if self.is_noted && why.contains(STARTED_AGAIN) {
            return wrong("it is told to have lost packets that it had led");
        }
        let all_at = |place: &Flows| (1..=FLOWS).all(|number| place.contains_key(&number));
        let whole = |place: &Flows| self.broken || *place == self.last;
        let is_right = match state {
            State::Done => {
                // Packets that came to the source meanwhile have changed what it has.
                let is_told = |number: &u8| self.broken && self.left_behind.contains(number);
                let stays = |number: &u8| self.fresh.contains_key(number) || is_told(number);
                let left = all_at(&self.destination) && self.source.keys().all(stays);
                left && whole(&self.destination) && self.led == Led::ToDestination && !self.unheld
            }
            State::Undone => {
                let is_clean = self.killed > 0 || has_died || self.destination == self.own;
                // Later, or before anything was to be held, it has lost nothing.
                let is_told = self.found == self.asked || why.contains(STARTED_AGAIN);
                whole(&self.source) && self.led == Led::ToSource && is_clean && is_told
            }
            _ => all_at(&self.source) || all_at(&self.destination),
        };
        if is_right { None } else { Some(format!("{state:?} is wrong: {why}")) }
    }
}

pub(super) fn filter() -> StateFilter {
    "any".parse().unwrap()
}

pub(super) fn scopes() -> BTreeSet<Scope> {
    [Scope::PerFlow].into()
}
