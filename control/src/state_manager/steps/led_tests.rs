//! A move that leads packets, in a world of numbered packets: tasks fail before and after their effect,
//! sidecars are killed at every task, and data planes are started again.

use std::collections::BTreeMap;

use super::tests::{failure, flow, id_number};
use super::*;

/// What is said of a data plane that is another than that which was asked to hold.
const STARTED_AGAIN: &str = "the data plane was started again";
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
enum Flaw {
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
}

struct World {
    rng: fastrand::Rng,
    flaw: Flaw,
    /// The chance that something goes wrong at a task, and how often it still may.
    chance: f64,
    trouble: u32,
    led: Led,
    desired: bool,
    incarnation: u64,
    held: Vec<(u8, u64)>,
    /// On their way to the source.
    sent: Vec<(u8, u64)>,
    /// The number of the last packet of each flow.
    last: Flows,
    source: Flows,
    destination: Flows,
    /// What the destination had of the same flows.
    own: Flows,
    /// Flows that the source has got by another way, since all has moved.
    fresh: Flows,
    journal: Option<(LeadStep, Vec<Piece>)>,
    /// The data plane that was asked to hold, and that which was found when packets went back.
    asked: u64,
    found: u64,
    /// Packets were held, and all that were held have been led.
    stopped: bool,
    released: bool,
    /// It was started again meanwhile, or at all.
    unheld: bool,
    broken: bool,
    killed: u32,
    answer: Option<(State, String)>,
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
    fn new(rng: &mut fastrand::Rng, flaw: Flaw) -> Self {
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
            held: Vec::new(),
            sent: Vec::new(),
            last: source.clone(),
            source,
            destination: own.clone(),
            own,
            fresh: Flows::new(),
            journal: None,
            asked: 7,
            found: 7,
            stopped: false,
            released: false,
            unheld: false,
            broken: false,
            killed: 0,
            answer: None,
            strangers: 0,
        }
    }

    /// Packets come, some of those on their way arrive, and now and then something is started again.
    fn time_passes(&mut self) {
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
            // The rest is of the configuration, until somebody puts what is desired.
            self.led = Led::ToSource;
            self.broken = true;
            self.unheld |= self.stopped && !self.released;
        }
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
            Task::Stop => (self.led, self.stopped) = (Led::Held, true),
            Task::Drain if self.flaw != Flaw::Early => self.arrive(self.sent.len()),
            Task::Carry(scope) => {
                for (number, last) in version_at(&self.source) {
                    if steps.carry(scope, &flow(number), last)? == Carry::Put {
                        self.destination.insert(number, last);
                    }
                }
            }
            Task::Assure if self.is_restarted() => return Err(failure(STARTED_AGAIN)),
            Task::Lead => {
                if self.is_restarted() {
                    steps.broke_its_promise(failure(STARTED_AGAIN));
                }
                (self.led, self.released) = (Led::ToDestination, true);
                let held: Vec<_> = self.held.drain(..).collect();
                held.into_iter().for_each(|packet| self.take(false, packet));
            }
            Task::GoBack => {
                if self.is_restarted() {
                    steps.adds(STARTED_AGAIN);
                }
                (self.led, self.found) = (Led::ToSource, self.incarnation);
                let held: Vec<_> = self.held.drain(..).collect();
                self.sent.extend(held);
            }
            Task::List(scope) => {
                for (number, last) in version_at(&self.source) {
                    steps.carry(scope, &flow(number), last)?;
                }
            }
            Task::Delete(scope) => {
                for id in steps.carried(scope) {
                    self.source.remove(&id_number(&id));
                }
            }
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
                self.answer = Some((state, failure.map_or_else(String::new, |why| why.reason)));
            }
            Task::Drain | Task::Assure => {}
            other => panic!("{other:?} is of a move to another node"),
        }
        Ok(())
    }

    fn note(&mut self, step: LeadStep, steps: &Steps) {
        let moved = if step == LeadStep::Lead { steps.pieces().to_vec() } else { Vec::new() };
        self.journal = Some((step, moved));
        self.desired |= step == LeadStep::Lead;
    }

    /// What a sidecar finds that is started again; none when there is nothing.
    fn next_sidecar(&mut self) -> Option<Steps> {
        self.killed += 1;
        let (step, mut moved) = self.journal.clone()?;
        if step == LeadStep::Lead && self.rng.bool() {
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

    fn run(&mut self) {
        let mut steps = Steps::led(filter(), &scopes());
        while let Some(task) = steps.task() {
            self.time_passes();
            let turn = self.turn(task);
            let has_effect = !matches!(turn, Turn::FailsBefore | Turn::KilledBefore);
            let outcome = if has_effect { self.carry_out(task, &mut steps) } else { Ok(()) };
            match (turn, outcome) {
                (Turn::KilledBefore | Turn::KilledBehind, _) => match self.next_sidecar() {
                    Some(next) => steps = next,
                    None => break,
                },
                (Turn::Well, Ok(())) => steps.done(),
                (Turn::Well, Err(why)) => steps.failed(why),
                _ if self.flaw == Flaw::Hasty && matches!(task, Task::Note(_)) => steps.done(),
                _ if self.flaw == Flaw::Forgetful && task == Task::GoBack => steps.done(),
                _ => steps.failed(failure("it broke")),
            }
        }
        // What is desired is put again when it has ended.
        if self.desired && self.led == Led::ToSource {
            self.led = Led::ToDestination;
        }
        self.arrive(self.sent.len());
    }

    /// What is wrong in the end.
    fn judge(&self) -> Option<String> {
        let wrong = |what: &str| Some(what.to_owned());
        if self.journal.is_some() || !self.held.is_empty() || self.led == Led::Held {
            return wrong("it has not ended");
        }
        if self.fresh.iter().any(|fresh| self.source.get(fresh.0) != Some(fresh.1)) {
            return wrong("what has come since was deleted");
        }
        if self.strangers > 0 && !self.broken {
            return wrong("a packet met who did not expect it");
        }
        let Some((state, why)) = &self.answer else {
            // Killed before anything was written down.
            let is_as_before = self.led == Led::ToSource && self.destination == self.own;
            return if is_as_before { None } else { wrong("nobody knows of it") };
        };
        let all_at = |place: &Flows| (1..=FLOWS).all(|number| place.contains_key(&number));
        let whole = |place: &Flows| self.broken || *place == self.last;
        let is_right = match state {
            State::Done => {
                let left = self.source.keys().all(|number| self.fresh.contains_key(number));
                left && whole(&self.destination) && self.led == Led::ToDestination && !self.unheld
            }
            State::Undone => {
                let is_clean = self.killed > 0 || self.destination == self.own;
                // Later, or before anything was to be held, it has lost nothing.
                let is_told = self.found == self.asked || why.contains(STARTED_AGAIN);
                whole(&self.source) && self.led == Led::ToSource && is_clean && is_told
            }
            _ => all_at(&self.source) || all_at(&self.destination),
        };
        if is_right { None } else { Some(format!("{state:?} is wrong: {why}")) }
    }
}

fn filter() -> StateFilter {
    "any".parse().unwrap()
}

fn scopes() -> BTreeSet<Scope> {
    [Scope::PerFlow].into()
}

/// Runs until something is wrong; what, and how all have ended.
fn runs(count: u32, flaw: Flaw) -> (Option<String>, BTreeMap<String, u32>) {
    let seed = fastrand::u64(..);
    eprintln!("{flaw:?}: seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut ends = BTreeMap::<String, u32>::new();
    for number in 0..count {
        let mut world = World::new(&mut rng, flaw);
        world.run();
        if let Some(wrong) = world.judge() {
            return (Some(format!("run {number}: {wrong}")), ends);
        }
        let state = world.answer.as_ref().map(|(state, _)| *state);
        *ends.entry(format!("{state:?}")).or_default() += 1;
    }
    (None, ends)
}

#[test]
fn whatever_fails_or_dies_a_move_that_leads_packets_keeps_what_it_promises_or_says_that_it_did_not()
{
    let (wrong, ends) = runs(40_000, Flaw::None);
    assert_eq!(wrong, None);
    eprintln!("{ends:?}");
    let all = ["Some(Done)", "Some(Undone)", "Some(Failed)", "None"];
    assert!(all.iter().all(|end| ends[*end] > 100), "{ends:?}");
}

#[test]
fn the_judge_of_moves_that_lead_packets_sees_what_is_done_wrong() {
    for flaw in [Flaw::Blind, Flaw::Careless, Flaw::Hasty, Flaw::Early, Flaw::Forgetful] {
        let (wrong, _) = runs(40_000, flaw);
        eprintln!("{flaw:?}: {wrong:?}");
        assert!(wrong.is_some(), "{flaw:?}");
    }
}

#[test]
fn what_has_to_be_done_is_tried_again_after_waits_that_have_a_bound() {
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Hold, Vec::new());
    let mut waits = Vec::new();
    for _ in 0..100 {
        assert_eq!(steps.task(), Some(Task::GoBack));
        steps.failed(failure("nobody answers"));
        waits.push(steps.wait());
    }
    assert!(waits.is_sorted() && waits[0] == WAIT_FIRST && waits[99] == WAIT_MAX, "{waits:?}");
    steps.done();
    steps.failed(failure("the disk is full"));
    assert_eq!((steps.task(), steps.wait()), (Some(Task::Close), WAIT_FIRST));
    steps.done();
    assert_eq!(steps.ended().0, State::Undone);
}

#[test]
fn an_id_of_which_any_piece_has_come_since_is_not_deleted() {
    let pieces = [(1, 5), (1, 6), (2, 7), (2, 8)];
    let piece = |(number, version)| Piece { scope: Scope::PerFlow, id: flow(number), version };
    let moved = pieces.map(piece).to_vec();
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Lead, moved);
    for (number, version) in [(1, 6), (1, 5), (2, 7), (2, 9), (2, 8), (3, 1)] {
        steps.carry(Scope::PerFlow, &flow(number), version).unwrap();
    }
    assert_eq!(steps.carried(Scope::PerFlow), [flow(1), flow(1)]);
    assert_eq!(steps.left_behind().listed, [flow(2)]);
}
