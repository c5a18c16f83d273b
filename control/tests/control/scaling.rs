//! The scaling machine against a naive data plane, with a crash at every step.

use std::collections::VecDeque;

use crate::support::model::Model;
use weir_control::{
    scaling::{
        machine::{Action, Machine, Next, Observed},
        operation::{Operation, OperationState, Origin},
        plan::plan,
    },
    southbound::{observed, running},
};
use weir_state_transfer::BUCKETS;

/// A machine, its journal and its data plane.
struct World {
    model: Model,
    machine: Machine,
    /// The operation as it was last saved.
    journal: Operation,
    now_ns: u64,
    /// What the data plane has told and the sidecar has not read yet, oldest first.
    told: VecDeque<Observed>,
}

impl World {
    fn new(mut model: Model, wanted: u32) -> Self {
        let plan = plan(&running(&model.list(0), &model.steering()), wanted).unwrap();
        let token = "s-0123456789abcdef".to_owned();
        let operation = Operation::new(&plan, token, Origin::Command, model.incarnation);
        let machine = Machine::new(operation.clone(), None);
        Self { model, machine, journal: operation, now_ns: 0, told: VecDeque::new() }
    }

    /// What the driver does in one round, up to the actions: it sees what there is.
    fn look(&mut self) -> Next {
        self.pass_time();
        self.told.clear();
        let seen = observed(&self.model.watched(""), true);
        self.see(&seen)
    }

    /// As [`World::look`], but it sees one of what was told, and at most `late` changes late.
    fn look_late(&mut self, late: usize, random: &mut fastrand::Rng) -> Next {
        self.pass_time();
        self.told.push_back(observed(&self.model.watched(""), false));
        let keep = random.usize(..=late) + 1;
        self.told.drain(..self.told.len().saturating_sub(keep));
        let oldest = self.told[0].clone();
        match self.see(&oldest) {
            Next::Look => self.look(),
            next => next,
        }
    }

    fn pass_time(&mut self) {
        self.now_ns += 1_000_000;
        self.model.tick();
        self.model.assert_sound();
        self.model.assert_created_once();
    }

    fn see(&mut self, seen: &Observed) -> Next {
        let next = self.machine.next(seen, self.now_ns);
        self.journal = self.machine.operation().clone();
        next
    }

    fn perform(&mut self, action: &Action) {
        if let Err(status) = self.model.perform(action) {
            self.machine.refused(action, status.message());
        }
    }

    fn crash(&mut self) {
        self.told.clear();
        self.machine = Machine::resume(self.journal.clone(), None);
    }

    fn finish(&mut self) -> OperationState {
        for _ in 0..2_000 {
            match self.look() {
                Next::Ended => return self.machine.operation().state,
                Next::Await | Next::Look => {}
                Next::Do(actions) => actions.iter().for_each(|action| self.perform(action)),
            }
        }
        panic!("no end: {:?}", self.machine.operation());
    }

    /// Exactly the wanted instances, with the buckets spread over them.
    fn assert_reached(&self, count: u32) {
        assert_eq!(self.model.instances.len(), count as usize);
        assert_eq!(self.model.active().len(), count as usize);
        let (least, most) = self.model.spread();
        assert!(most - least <= 1, "{least} to {most} buckets");
    }
}

#[test]
fn scaling_reaches_every_number_from_every_other() {
    for (from, to) in (1..=6).flat_map(|from| (1..=6).map(move |to| (from, to))) {
        let mut world = World::new(Model::new(from, 1), to);
        assert_eq!(world.finish(), OperationState::Done, "{from} to {to}");
        world.assert_reached(to);
    }
}

/// Crashes before or after the `n`th action, and says what became of the operation; `None` when
/// there are fewer actions.
fn crash_at(from: u32, to: u32, n: usize, after: bool) -> Option<(World, bool)> {
    let mut world = World::new(Model::new(from, 7), to);
    let mut count = 0;
    for _ in 0..2_000 {
        match world.look() {
            Next::Ended => return None,
            Next::Await | Next::Look => {}
            Next::Do(actions) => {
                for action in actions {
                    if count == n && !after {
                        let moving = world.journal.moving();
                        world.crash();
                        return Some((world, moving));
                    }
                    world.perform(&action);
                    if count == n {
                        let moving = world.journal.moving();
                        world.crash();
                        return Some((world, moving));
                    }
                    count += 1;
                }
            }
        }
    }
    panic!("no end");
}

#[test]
fn a_sidecar_killed_at_any_action_finishes_once_a_move_has_begun_and_undoes_before() {
    for (from, to) in [(1, 4), (4, 1), (2, 3), (3, 2)] {
        let mut crashes = (0, 0);
        for after in [false, true] {
            for n in 0.. {
                let Some((mut world, moving)) = crash_at(from, to, n, after) else { break };
                let state = world.finish();
                world.model.assert_sound();
                if moving {
                    assert_eq!(state, OperationState::Done, "action {n} of {from} to {to}");
                    world.assert_reached(to);
                    crashes.0 += 1;
                } else {
                    assert_eq!(state, OperationState::Undone, "action {n} of {from} to {to}");
                    world.assert_reached(from);
                    crashes.1 += 1;
                }
            }
        }
        assert!(crashes.0 > 0, "no crash while moving");
        assert!(from > to || crashes.1 > 0, "no crash while preparing");
    }
}

#[test]
fn random_crashes_refusals_undos_and_lost_answers_never_leave_a_bucket_without_an_owner() {
    let mut random = weir_seed::rng();
    let (mut done, mut undone) = (0, 0);
    for _ in 0..400 {
        let (from, to) = (random.u32(1..=5), random.u32(1..=5));
        let mut model = Model::new(from, random.u64(..));
        model.undo_chance = if random.bool() { 0.0 } else { 0.1 };
        let reliable = model.undo_chance == 0.0;
        let before = model.owners.clone();
        let mut world = World::new(model, to);
        let state = run_randomly(&mut world, &mut random);
        world.model.assert_sound();
        match state {
            OperationState::Done => {
                world.assert_reached(to);
                done += 1;
            }
            OperationState::Undone => {
                world.assert_reached(from);
                assert_eq!(world.model.owners, before);
                undone += 1;
            }
            OperationState::Failed => assert!(!reliable, "{}", world.machine.operation().reason),
            state => panic!("ended as {state:?}"),
        }
    }
    assert!(done > 50 && undone > 50, "{done} done, {undone} undone");
}

fn run_randomly(world: &mut World, random: &mut fastrand::Rng) -> OperationState {
    for round in 0..2_000 {
        if round < 200 && random.u8(..) < 2 {
            world.machine.undo("a test");
        }
        let before = world.journal.clone();
        let mut actions = match world.look_late(8, random) {
            Next::Ended => return world.machine.operation().state,
            Next::Await | Next::Look => Vec::new(),
            Next::Do(actions) => actions,
        };
        if round < 200 && random.u8(..) < 8 {
            // Killed before this round was written down.
            world.journal = before;
            world.crash();
            continue;
        }
        random.shuffle(&mut actions);
        for action in actions {
            if round < 200 && random.u8(..) < 12 {
                world.crash();
                break;
            }
            if random.u8(..) < 20 {
                // The answer is lost: whether it was refused stays unknown.
                let _ = world.model.perform(&action);
                continue;
            }
            world.perform(&action);
        }
    }
    panic!("no end: {:?}", world.machine.operation());
}

#[test]
fn a_data_plane_that_restarted_ends_the_operation() {
    let mut world = World::new(Model::new(1, 3), 3);
    world.look();
    world.model.restart();
    assert_eq!(world.finish(), OperationState::Failed);
    assert_eq!(world.machine.operation().reason, "the data plane restarted");
}

#[test]
fn a_data_plane_that_hangs_is_not_waited_for_for_ever() {
    let mut world = World::new(Model::new(1, 3), 3);
    // The instances are created and never get ready.
    for _ in 0..2_000 {
        world.now_ns += 50_000_000;
        let seen = observed(&world.model.watched(""), true);
        match world.machine.next(&seen, world.now_ns) {
            Next::Ended => break,
            Next::Await | Next::Look => {}
            Next::Do(actions) => actions.iter().for_each(|action| world.perform(action)),
        }
    }
    assert_eq!(world.machine.operation().state, OperationState::Failed);
    world.model.assert_sound();
    assert_eq!(world.model.owners, vec![1; BUCKETS]);
}

#[test]
fn a_pause_stops_before_its_step_and_the_next_sidecar_goes_on() {
    let mut world = World::new(Model::new(1, 5), 4);
    world.machine = Machine::new(world.journal.clone(), Some("move:2".parse().unwrap()));
    for _ in 0..200 {
        if let Next::Do(actions) = world.look() {
            actions.iter().for_each(|action| world.perform(action));
        }
    }
    assert_eq!(world.machine.paused_at(), Some("move:2".parse().unwrap()));
    assert_eq!(world.model.moves.len(), 1);
    world.crash();
    assert_eq!(world.finish(), OperationState::Done);
    world.assert_reached(4);
}
