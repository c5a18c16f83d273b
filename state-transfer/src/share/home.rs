//! The home side of a share: executes the operations of its slots, once and in one order.

use std::collections::{BTreeMap, BTreeSet};

use super::done::{Done, Seen};
use super::limits::Limits;
use super::message::{
    Answer, Cause, Ledger, Message, Operation, OperationId, Outcome, Passed, Stamp,
};
use super::order::{GivenUp, Out, Place, Windows};
use super::sent::Sent;
use super::slot::Slot;
use super::store::Store;
use super::view::View;
use crate::id::{InstanceId, WorkerId};
use crate::time::Nanos;

/// The slots whose home an instance is, was or will be.
#[derive(Clone, Debug, Hash)]
pub(super) struct Home<O, A> {
    pub(super) me: InstanceId,
    pub(super) limits: Limits,
    pub(super) view: View,
    pub(super) rows: Vec<Row<O, A>>,
    pub(super) counters: Counters,
    /// Windows in which something waits, or did.
    blocked: BTreeSet<(Slot, WorkerId)>,
    /// No window has to be looked at before.
    due: Option<Nanos>,
}

/// What a home knows of a slot besides its state.
#[derive(Clone, Debug, Hash)]
pub(super) struct Row<O, A> {
    pub(super) phase: Phase,
    /// The share ends: what is asked for by this view or later ones waits until the others have their
    /// replicas.
    pub(super) ends: Option<u64>,
    /// Who will yet hand over what it has of the slot.
    pub(super) owed_by: Vec<InstanceId>,
    pub(super) done: Done<A>,
    pub(super) windows: Windows<O>,
    /// Operations that wait until the slot is open, or until the view by which they were sent is
    /// adopted: one that is asked for again waits once.
    pub(super) held: BTreeMap<OperationId, Operation<O>>,
}

/// Whose a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// This instance executes its operations.
    Open,
    /// This instance waits for the state of the slot.
    Closed,
    /// Another is its home.
    Elsewhere,
}

/// What an instance of a share has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Operations executed here.
    pub executed: u64,
    /// Operations that had been executed before, and were not again.
    pub repeated: u64,
    /// Operations that missed their place in the order of their steerer.
    pub late: u64,
    /// Places in the order of a steerer that were given up: by the window, or after half the patience.
    pub given_up: u64,
    /// Places of packets that were dropped on their way.
    pub skipped: u64,
    /// Packets refused because as many wait as may.
    pub full: u64,
    /// Packets that went on without an answer, after the patience.
    pub unanswered: u64,
    /// Messages sent on, since the home of their slot is another.
    pub forwarded: u64,
}

/// What a home works with.
pub(super) struct Work<'a, S: Store> {
    pub(super) store: &'a mut S,
    pub(super) now: Nanos,
    pub(super) sent: &'a mut Sent<S::Op, S::Answer, S::Piece>,
}

impl<O, A> Row<O, A> {
    /// Keeps what waits for the slot; of one that was asked for twice what was sent by the earlier view.
    fn hold(&mut self, operation: Operation<O>) {
        match self.held.get(&operation.id) {
            Some(held) if held.view <= operation.view => {}
            _ => _ = self.held.insert(operation.id, operation),
        }
    }
}

impl<O: Clone, A: Clone> Home<O, A> {
    /// An instance that does not share yet: all slots are its own.
    pub(super) fn new(me: InstanceId, limits: Limits) -> Self {
        let row = || Row {
            phase: Phase::Open,
            ends: None,
            owed_by: Vec::new(),
            done: Done::default(),
            windows: Windows::default(),
            held: BTreeMap::new(),
        };
        let rows = (0..limits.slots).map(|_| row()).collect();
        let counters = Counters::default();
        let (view, blocked) = (View::alone(), BTreeSet::new());
        Self { me, limits, view, rows, counters, blocked, due: None }
    }

    /// An operation has come.
    pub(super) fn operation<S>(&mut self, operation: Operation<O>, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        let asker = operation.id.instance;
        let is_known = asker == self.me || self.view.has_participant(asker);
        if operation.view <= self.view.number && !is_known {
            return self.skip(&operation, work);
        }
        let Some(row) = self.rows.get_mut(operation.slot.index()) else { return };
        match row.phase {
            _ if operation.view > self.view.number => row.hold(operation),
            Phase::Open if row.ends.is_some_and(|first| operation.view >= first) => {
                row.hold(operation);
            }
            Phase::Closed => row.hold(operation),
            Phase::Open => self.take(operation, work),
            Phase::Elsewhere => {
                let home = self.view.home(operation.slot, self.me);
                self.counters.forwarded += 1;
                work.sent.push(home, Message::Operation(operation));
            }
        }
    }

    /// Of who has failed nothing more is executed, as nobody remembers what was. Its place is free.
    fn skip<S>(&mut self, operation: &Operation<O>, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        if let Some(Stamp { steerer, sequence }) = operation.stamp {
            let (slot, first, last) = (operation.slot, sequence, sequence);
            self.pass(Passed { slot, steerer, first, last, cause: Cause::Skipped }, work);
        }
    }

    /// Packets of which nothing else comes.
    pub(super) fn pass<S>(&mut self, passed: Passed, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        let Some(row) = self.rows.get_mut(passed.slot.index()) else { return };
        if row.phase == Phase::Elsewhere {
            let home = self.view.home(passed.slot, self.me);
            self.counters.forwarded += 1;
            work.sent.push(home, Message::Passed(passed));
            return;
        }
        self.counters.skipped += passed.count(Cause::Skipped);
        row.windows.of(passed.steerer).pass(&passed, self.limits.window, work.now);
        if row.phase == Phase::Open {
            self.drain((passed.slot, passed.steerer), None, work);
        }
    }

    /// What another knew of a slot.
    pub(super) fn learn(&mut self, ledger: Ledger<O, A>) {
        let Some(row) = self.rows.get_mut(ledger.slot.index()) else { return };
        row.done.merge(ledger.done);
        row.windows.merge(ledger.windows);
        ledger.held.into_iter().for_each(|operation| row.hold(operation));
    }

    /// What was known of a slot is another's: all of it was handed over.
    pub(super) fn forget(&mut self, slot: Slot) {
        let view = self.view.number;
        let row = &mut self.rows[slot.index()];
        (row.done, row.windows) = (Done::default(), Windows::default());
        row.held.retain(|_, held| held.view > view);
    }

    /// Executes what has waited for a slot that is open from here on.
    ///
    /// Nobody has an answer to any of it, so every order is right that keeps each asker's own.
    pub(super) fn open<S>(&mut self, slot: Slot, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        let view = self.view.number;
        let row = &mut self.rows[slot.index()];
        row.phase = Phase::Open;
        let of_it = |_: &OperationId, held: &mut Operation<O>| {
            held.view <= view && row.ends.is_none_or(|first| held.view < first)
        };
        let held = row.held.extract_if(.., of_it);
        let mut held: Vec<_> = held.map(|(_, operation)| operation).collect();
        held.sort_by_key(|operation| operation.id.number);
        for operation in held {
            self.take(operation, work);
        }
        for steerer in self.rows[slot.index()].windows.steerers() {
            self.drain((slot, steerer), None, work);
        }
    }

    /// Gives up all gaps of a slot that ends: nothing will fill them.
    pub(super) fn finish<S>(&mut self, slot: Slot, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        for steerer in self.rows[slot.index()].windows.steerers() {
            self.release((slot, steerer), Some(Place::END), work);
        }
    }

    /// Gives up gaps that have been waited for for too long.
    pub(super) fn handle_timeout<S>(&mut self, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        if self.due.is_none_or(|due| work.now < due) {
            return;
        }
        self.due = None;
        let then = work.now - self.limits.gap();
        for (slot, steerer) in std::mem::take(&mut self.blocked) {
            let row = &mut self.rows[slot.index()];
            let Some(window) = row.windows.find(steerer) else { continue };
            let Some(since) = window.since() else { continue };
            if since <= then && row.phase == Phase::Open {
                let overdue = window.overdue(then);
                self.drain((slot, steerer), overdue, work);
            } else {
                self.watch((slot, steerer), since.max(then));
            }
        }
    }

    /// When [`Home::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.due
    }

    /// Windows that are looked at when their time has come.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.blocked.len()
    }

    /// An operation whose slot is open: what it gave back, if it had been executed before;
    /// otherwise it is its turn, or it waits for it.
    fn take<S>(&mut self, operation: Operation<O>, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        let row = &mut self.rows[operation.slot.index()];
        match (row.done.seen(&operation), operation.stamp) {
            (Seen::Over, _) => self.counters.repeated += 1,
            (Seen::Done(outcome), _) => {
                self.counters.repeated += 1;
                answer(&operation, outcome, work);
            }
            (Seen::New, None) => {
                let steerer = operation.lane.steerer;
                let in_front = steerer.zip(operation.follows);
                match in_front.filter(|(steerer, place)| row.windows.of(*steerer).waits(*place)) {
                    Some((steerer, place)) => {
                        let slot = operation.slot;
                        row.windows.of(steerer).follow(place, operation, work.now);
                        self.drain((slot, steerer), None, work);
                    }
                    None => self.execute(&operation, work),
                }
            }
            (Seen::New, Some(stamp)) => {
                let window = row.windows.of(stamp.steerer);
                if window.is_next(stamp.sequence) {
                    self.execute(&operation, work);
                    return;
                }
                let slot = operation.slot;
                window.insert(stamp.sequence, operation, work.now);
                self.drain((slot, stamp.steerer), None, work);
            }
        }
    }

    /// Executes what is next in a window, and has what waits watched.
    fn drain<S>(
        &mut self,
        (slot, steerer): (Slot, WorkerId),
        overdue: Option<Place>,
        work: &mut Work<'_, S>,
    ) where
        S: Store<Op = O, Answer = A>,
    {
        let GivenUp(places) = self.release((slot, steerer), overdue, work);
        self.counters.given_up += places;
        if let Some(since) = self.rows[slot.index()].windows.of(steerer).watch() {
            self.watch((slot, steerer), since.max(work.now - self.limits.gap()));
        }
    }

    /// Executes what is next in a window, as far as there is no gap behind what is overdue.
    fn release<S>(
        &mut self,
        (slot, steerer): (Slot, WorkerId),
        overdue: Option<Place>,
        work: &mut Work<'_, S>,
    ) -> GivenUp
    where
        S: Store<Op = O, Answer = A>,
    {
        let mut given_up = GivenUp::default();
        loop {
            let row = &mut self.rows[slot.index()];
            let window = row.windows.of(steerer);
            let Some(out) = window.pop(self.limits.window, overdue, &mut given_up) else { break };
            let (Out::Execute(operation) | Out::Late(operation)) = &out;
            match (row.done.seen(operation), &out) {
                (Seen::Over, _) => self.counters.repeated += 1,
                (Seen::Done(outcome), _) => {
                    self.counters.repeated += 1;
                    answer(operation, outcome, work);
                }
                (Seen::New, Out::Execute(operation)) => self.execute(operation, work),
                (Seen::New, Out::Late(operation)) => {
                    self.counters.late += 1;
                    row.done.note(operation, Outcome::Late);
                    answer(operation, Outcome::Late, work);
                }
            }
        }
        given_up
    }

    fn execute<S>(&mut self, operation: &Operation<O>, work: &mut Work<'_, S>)
    where
        S: Store<Op = O, Answer = A>,
    {
        let outcome = Outcome::Done(work.store.execute(operation.slot, &operation.op, work.now));
        self.counters.executed += 1;
        self.rows[operation.slot.index()].done.note(operation, outcome.clone());
        answer(operation, outcome, work);
    }

    /// A window has a gap since then.
    fn watch(&mut self, window: (Slot, WorkerId), since: Nanos) {
        self.blocked.insert(window);
        let due = since + self.limits.gap();
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
    }
}

fn answer<S: Store>(
    operation: &Operation<S::Op>,
    outcome: Outcome<S::Answer>,
    work: &mut Work<'_, S>,
) {
    let answer = Answer { number: operation.id.number, lane: operation.lane, outcome };
    work.sent.push(operation.id.instance, Message::Answer(answer));
}
