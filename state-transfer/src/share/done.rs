//! The operations of a slot that have been executed: one that is repeated is not executed again.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Operation, Outcome};
use crate::id::{InstanceId, WorkerId};

/// What was answered to each asker, for as long as it may ask again.
///
/// An asker says with each operation which of its lane is the oldest without an answer; what is
/// older is forgotten. So there is no more of a lane than its asker may have waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Done<A>(BTreeMap<(InstanceId, Option<WorkerId>), Answered<A>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answered<A> {
    /// The asker waits for no answer to what is older.
    floor: u64,
    /// By number, oldest first.
    outcomes: VecDeque<(u64, Outcome<A>)>,
}

/// Whether an operation has been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<A> {
    /// It has not.
    New,
    /// It has, with this outcome.
    Done(Outcome<A>),
    /// Its asker waits for no answer any more.
    Over,
}

impl<A> Default for Done<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A: Clone> Done<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks an operation up, and forgets what its asker needs no more.
    pub(super) fn seen<O>(&mut self, operation: &Operation<O>) -> Seen<A> {
        let Some(answered) = self.0.get_mut(&key(operation)) else { return Seen::New };
        answered.raise(operation.floor);
        let number = operation.id.number;
        if number < answered.floor {
            return Seen::Over;
        }
        let known = answered.outcomes.iter().rev().find(|(other, _)| *other == number);
        known.map_or(Seen::New, |(_, outcome)| Seen::Done(outcome.clone()))
    }

    /// Remembers what an operation was answered.
    pub(super) fn note<O>(&mut self, operation: &Operation<O>, outcome: Outcome<A>) {
        let blank = Answered { floor: operation.floor, outcomes: VecDeque::new() };
        self.0.entry(key(operation)).or_insert(blank).insert(operation.id.number, outcome);
    }

    /// Takes in what another home of the slot has executed before.
    pub(super) fn merge(&mut self, other: Self) {
        for (key, other) in other.0 {
            let blank = Answered { floor: other.floor, outcomes: VecDeque::new() };
            let answered = self.0.entry(key).or_insert(blank);
            for (number, outcome) in other.outcomes {
                answered.insert(number, outcome);
            }
            answered.raise(other.floor);
        }
    }

    /// Forgets askers that take no part any more.
    pub(super) fn retain(&mut self, takes_part: impl Fn(InstanceId) -> bool) {
        self.0.retain(|(instance, _), _| takes_part(*instance));
    }
}

impl<A> Answered<A> {
    fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while self.outcomes.front().is_some_and(|(number, _)| *number < self.floor) {
            self.outcomes.pop_front();
        }
    }

    fn insert(&mut self, number: u64, outcome: Outcome<A>) {
        let at = self.outcomes.partition_point(|(other, _)| *other < number);
        if self.outcomes.get(at).is_none_or(|(other, _)| *other != number) {
            self.outcomes.insert(at, (number, outcome));
        }
    }
}

fn key<O>(operation: &Operation<O>) -> (InstanceId, Option<WorkerId>) {
    (operation.id.instance, operation.lane.steerer)
}

#[cfg(test)]
mod tests {
    use super::super::message::{Lane, OperationId};
    use super::super::slot::Slot;
    use super::*;

    fn operation(number: u64, floor: u64) -> Operation<()> {
        let id = OperationId { instance: InstanceId(1), number };
        let lane = Lane { slot: Slot(0), steerer: None };
        Operation { id, floor, view: 1, lane, slot: Slot(0), stamp: None, follows: None, op: () }
    }

    #[test]
    fn what_was_executed_is_known_until_its_answer_has_come() {
        let mut done = Done::default();
        for number in 1..4 {
            assert_eq!(done.seen(&operation(number, 1)), Seen::New);
            done.note(&operation(number, 1), Outcome::Done(number));
        }
        assert_eq!(done.seen(&operation(2, 1)), Seen::Done(Outcome::Done(2)));
        assert_eq!(done.seen(&operation(4, 3)), Seen::New);
        assert_eq!(done.seen(&operation(2, 1)), Seen::Over);
        assert_eq!(done.seen(&operation(3, 3)), Seen::Done(Outcome::Done(3)));
    }

    #[test]
    fn two_homes_know_together_what_each_has_executed() {
        let (mut one, mut other) = (Done::default(), Done::default());
        one.note(&operation(2, 1), Outcome::Done(2));
        other.note(&operation(1, 1), Outcome::Done(1));
        one.merge(other);
        assert_eq!(one.seen(&operation(1, 1)), Seen::Done(Outcome::Done(1)));
        one.retain(|instance| instance != InstanceId(1));
        assert!(one.is_empty());
    }
}
