//! The order of steerers at a home: operations wait for those in front of them, in a window.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Cause, Operation, OperationId, Passed};
use crate::id::WorkerId;
use crate::time::Nanos;

/// One steerer's order of one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window<O> {
    /// All before has been executed, passed or given up.
    next: u64,
    /// What came early, by the place at which it begins.
    waiting: BTreeMap<Place, Early<O>>,
    /// The operations among that which the steerer has not stamped: one that is asked for again waits
    /// once.
    behind: BTreeSet<OperationId>,
    /// Of what waits, nothing does for longer; none until that is watched.
    since: Option<Nanos>,
}

/// The windows of a slot, by steerer; those that have not sent anything have none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Windows<O>(BTreeMap<WorkerId, Window<O>>);

/// A place in the order of a steerer, or one behind it of what the steerer has not stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// The number that the steerer gave.
    at: u64,
    /// The how manieth it is behind that: 0 is what the steerer gave the number to.
    behind: u64,
}

/// What came before its turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Early<O> {
    since: Nanos,
    what: Waiting<O>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Waiting<O> {
    Operation(Operation<O>),
    Passed { last: u64 },
}

/// What is to be done next with an operation that has come out of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Out<O> {
    /// It is its turn.
    Execute(Operation<O>),
    /// Its place has been given up.
    Late(Operation<O>),
}

/// What a window has counted, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct GivenUp(pub(super) u64);

impl Place {
    /// Behind all that may wait.
    pub(super) const END: Self = Self { at: u64::MAX, behind: u64::MAX };

    fn of(at: u64) -> Self {
        Self { at, behind: 0 }
    }

    /// The places of the steerer that are in front of it.
    fn in_front(self) -> u64 {
        self.at + u64::from(self.behind > 0)
    }
}

impl<O> Default for Window<O> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), behind: BTreeSet::new(), since: None }
    }
}

impl<O> Window<O> {
    /// Whether it is the operation's turn, and nothing else is to be looked at: the common case.
    pub(super) fn is_next(&mut self, sequence: u64) -> bool {
        let is_next = sequence == self.next && self.waiting.is_empty();
        self.next += u64::from(is_next);
        is_next
    }

    /// Whether it is not the turn yet of what comes behind a place.
    pub(super) fn waits(&self, at: u64) -> bool {
        at >= self.next
    }

    /// Puts an operation that has no place behind one.
    pub(super) fn follow(&mut self, at: u64, operation: Operation<O>, now: Nanos) {
        self.put_behind(at, Early { since: now, what: Waiting::Operation(operation) });
    }

    /// Puts an operation in its place.
    pub(super) fn insert(&mut self, sequence: u64, operation: Operation<O>, now: Nanos) {
        let early = Early { since: now, what: Waiting::Operation(operation) };
        self.waiting.insert(Place::of(sequence), early);
    }

    /// Takes note of packets that cause no operation. Of more than `window` things that wait it is
    /// not kept; its place is given up then.
    pub(super) fn pass(&mut self, passed: &Passed, window: usize, now: Nanos) {
        if passed.last < self.next || self.waiting.len() > window {
            return;
        }
        let Passed { first, last, .. } = *passed;
        if first <= self.next && self.waiting.is_empty() {
            self.next = last + 1;
        } else {
            let early = Early { since: now, what: Waiting::Passed { last } };
            self.waiting.entry(Place::of(first)).or_insert(early);
        }
    }

    /// The next that may be executed. What is `window` or more places ahead does not let the gap
    /// be waited for, nor do more than so many things that wait, nor what is no further than
    /// `overdue`.
    pub(super) fn pop(
        &mut self,
        window: usize,
        overdue: Option<Place>,
        given_up: &mut GivenUp,
    ) -> Option<Out<O>> {
        loop {
            let (first, last) = (self.first()?, self.last()?);
            let is_full =
                last.at.saturating_sub(self.next) >= window as u64 || self.waiting.len() > window;
            let is_overdue = overdue.is_some_and(|overdue| first <= overdue);
            if first.in_front() > self.next && !is_full && !is_overdue {
                return None;
            }
            let (place, early) = self.waiting.pop_first()?;
            given_up.0 += place.in_front().saturating_sub(self.next);
            let is_late = place.at < self.next;
            self.next = self.next.max(place.in_front());
            match early.what {
                Waiting::Passed { last } => self.next = self.next.max(last + 1),
                Waiting::Operation(operation) if place.behind > 0 => {
                    self.behind.remove(&operation.id);
                    return Some(Out::Execute(operation));
                }
                Waiting::Operation(operation) if is_late => return Some(Out::Late(operation)),
                Waiting::Operation(operation) => {
                    self.next = place.at + 1;
                    return Some(Out::Execute(operation));
                }
            }
        }
    }

    /// The last that has waited since then or longer: what is in front of it will not come. Since
    /// when the others wait is to be [looked at](Self::watch) anew.
    pub(super) fn overdue(&mut self, then: Nanos) -> Option<Place> {
        self.since = None;
        let waiting = self.waiting.iter().rev();
        waiting.into_iter().find(|(_, early)| early.since <= then).map(|(place, _)| *place)
    }

    /// Takes note, after operations have been taken, of whether any waits and since when: then, if
    /// it was not known before.
    pub(super) fn watch(&mut self) -> Option<Nanos> {
        let is_known = self.since.is_some();
        if self.waiting.is_empty() || !is_known {
            self.since = self.waiting.values().map(|early| early.since).min();
        }
        self.since.filter(|_| !is_known)
    }

    /// Since when something may wait.
    pub(super) fn since(&self) -> Option<Nanos> {
        self.since
    }

    fn first(&self) -> Option<Place> {
        self.waiting.first_key_value().map(|(place, _)| *place)
    }

    fn last(&self) -> Option<Place> {
        self.waiting.last_key_value().map(|(place, _)| *place)
    }

    /// Behind all that is at or behind the same place already.
    fn put_behind(&mut self, at: u64, early: Early<O>) {
        if let Waiting::Operation(operation) = &early.what
            && !self.behind.insert(operation.id)
        {
            return;
        }
        let before = self.waiting.range(..=Place { at, behind: u64::MAX }).next_back();
        let behind =
            before.filter(|(place, _)| place.at == at).map_or(0, |(place, _)| place.behind);
        self.waiting.insert(Place { at, behind: behind + 1 }, early);
    }

    fn merge(&mut self, other: Self) {
        self.next = self.next.max(other.next);
        for (place, early) in other.waiting {
            if place.behind > 0 {
                self.put_behind(place.at, early);
            } else {
                self.waiting.entry(place).or_insert(early);
            }
        }
        self.since = None;
    }
}

impl<O> Default for Windows<O> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<O> Windows<O> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The window of a steerer, if there is one.
    pub(super) fn find(&mut self, steerer: WorkerId) -> Option<&mut Window<O>> {
        self.0.get_mut(&steerer)
    }

    /// The window of a steerer.
    pub(super) fn of(&mut self, steerer: WorkerId) -> &mut Window<O> {
        self.0.entry(steerer).or_default()
    }

    /// The steerers that have one.
    pub(super) fn steerers(&self) -> Vec<WorkerId> {
        self.0.keys().copied().collect()
    }

    /// Takes in what another home of the slot knew.
    pub(super) fn merge(&mut self, other: Self) {
        for (steerer, window) in other.0 {
            self.of(steerer).merge(window);
        }
    }
}

impl Passed {
    /// Adds the packet behind the last one, if this is it.
    pub(super) fn extend(&mut self, next: &Self) -> bool {
        let follows = self.slot == next.slot
            && self.steerer == next.steerer
            && self.cause == next.cause
            && self.last + 1 == next.first;
        if follows {
            self.last = next.last;
        }
        follows
    }

    /// How many packets of this cause there are.
    pub(super) fn count(&self, cause: Cause) -> u64 {
        if self.cause == cause { self.last - self.first + 1 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Lane, OperationId, Stamp};
    use super::super::slot::Slot;
    use super::*;
    use crate::id::InstanceId;

    const STEERER: WorkerId = WorkerId(0);
    const WINDOW: usize = 4;
    const NOW: Nanos = Nanos(5);

    fn operation(number: u64) -> Operation<()> {
        let id = OperationId { instance: InstanceId(0), number };
        let stamp = Some(Stamp { steerer: STEERER, sequence: number });
        let lane = Lane { slot: Slot(0), steerer: Some(STEERER) };
        Operation { id, floor: 0, view: 1, lane, slot: Slot(0), stamp, follows: None, op: () }
    }

    fn passed(first: u64, last: u64) -> Passed {
        Passed { slot: Slot(0), steerer: STEERER, first, last, cause: Cause::Noop }
    }

    /// What comes out: numbers in order, late ones negative.
    fn drain(window: &mut Window<()>, given_up: &mut GivenUp) -> Vec<i64> {
        drain_to(window, None, given_up)
    }

    fn drain_to(
        window: &mut Window<()>,
        overdue: Option<Place>,
        given_up: &mut GivenUp,
    ) -> Vec<i64> {
        let number = |operation: &Operation<()>| operation.id.number as i64;
        let out = std::iter::from_fn(|| window.pop(WINDOW, overdue, given_up));
        out.map(|out| match out {
            Out::Execute(operation) => number(&operation),
            Out::Late(operation) => -number(&operation),
        })
        .collect()
    }

    #[test]
    fn operations_come_out_in_the_order_of_the_steerer() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        window.insert(2, operation(2), NOW);
        assert!(drain(&mut window, &mut given_up).is_empty());
        assert_eq!((window.watch(), window.since()), (Some(NOW), Some(NOW)));
        window.pass(&passed(1, 1), 4, NOW);
        window.insert(0, operation(0), NOW);
        assert_eq!(drain(&mut window, &mut given_up), [0, 2]);
        assert_eq!((window.watch(), window.since()), (None, None));
        assert!(window.is_next(3) && !window.is_next(3));
        assert_eq!(given_up, GivenUp(0));
    }

    #[test]
    fn what_is_asked_for_again_waits_once_whoever_tells_of_it() {
        let waits = |numbers: &[u64]| {
            let mut window = Window::default();
            numbers.iter().for_each(|number| window.follow(0, operation(*number), NOW));
            window
        };
        let (mut window, mut given_up) = (waits(&[1, 2, 1, 2, 1, 2]), GivenUp::default());
        window.merge(waits(&[2, 3]));
        // Of more the gap would not be waited for.
        assert!(drain(&mut window, &mut given_up).is_empty());
        window.insert(0, operation(9), NOW);
        assert_eq!(drain(&mut window, &mut given_up), [9, 1, 2, 3]);
        assert_eq!((given_up, window.behind.len()), (GivenUp(0), 0));
    }

    #[test]
    fn a_gap_is_given_up_when_too_much_has_come_behind_it() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        for sequence in [1, 2, 4] {
            window.insert(sequence, operation(sequence), NOW);
        }
        assert_eq!(drain(&mut window, &mut given_up), [1, 2]);
        assert_eq!(given_up, GivenUp(1));
        window.insert(1, operation(1), NOW);
        assert_eq!(drain(&mut window, &mut given_up), [-1]);
        let overdue = window.overdue(NOW);
        assert_eq!(drain_to(&mut window, overdue, &mut given_up), [4]);
        assert_eq!(given_up, GivenUp(2));
    }

    #[test]
    fn gaps_behind_each_other_are_given_up_when_what_is_behind_all_has_waited_for_long_enough() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        for sequence in [1, 3, 5, 7] {
            // The third has come later.
            window.insert(sequence, operation(sequence), Nanos(5 + u64::from(sequence == 5)));
        }
        let pop = |window: &mut Window<()>, then, given_up: &mut GivenUp| {
            let overdue = window.overdue(then);
            let out = std::iter::from_fn(|| window.pop(100, overdue, given_up));
            out.map(|out| matches!(out, Out::Execute(_))).collect::<Vec<_>>()
        };
        assert_eq!(window.watch(), Some(NOW));
        assert!(pop(&mut window, Nanos(4), &mut given_up).is_empty());
        assert_eq!(pop(&mut window, NOW, &mut given_up), [true; 4]);
        assert_eq!(given_up, GivenUp(4));
        for (sequence, since) in [(9, 7), (11, 8)] {
            window.insert(sequence, operation(sequence), Nanos(since));
        }
        assert_eq!(pop(&mut window, Nanos(7), &mut given_up), [true]);
        assert_eq!((window.watch(), given_up), (Some(Nanos(8)), GivenUp(5)));
    }

    #[test]
    fn what_has_no_place_waits_for_those_in_front_of_it_and_no_others() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        window.insert(1, operation(1), NOW);
        for number in [7, 6] {
            assert!(window.waits(1));
            window.follow(1, operation(number), NOW);
        }
        window.follow(0, operation(9), NOW);
        assert!(drain(&mut window, &mut given_up).is_empty());
        window.insert(3, operation(3), NOW);
        window.insert(0, operation(0), NOW);
        assert_eq!(drain(&mut window, &mut given_up), [0, 9, 1, 7, 6], "and 3 waits for 2");
        assert!(!window.waits(1) && window.waits(2) && window.since().is_none());
        assert_eq!((window.watch(), given_up), (Some(NOW), GivenUp(0)));
    }

    #[test]
    fn what_has_no_place_waits_no_longer_than_others_and_no_more_does_than_may() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        window.follow(2, operation(7), NOW);
        assert!(drain(&mut window, &mut given_up).is_empty());
        let overdue = window.overdue(NOW);
        assert_eq!(drain_to(&mut window, overdue, &mut given_up), [7]);
        assert_eq!(given_up, GivenUp(3));
        for number in 10..14 {
            window.follow(4, operation(number), NOW);
            assert!(drain(&mut window, &mut given_up).is_empty());
        }
        window.follow(4, operation(14), NOW);
        assert_eq!(drain(&mut window, &mut given_up), [10, 11, 12, 13, 14]);
        assert_eq!(given_up, GivenUp(5));
    }

    #[test]
    fn the_next_home_goes_on_where_the_last_has_stopped() {
        let (mut window, mut next, mut given_up) =
            (Window::default(), Windows::default(), GivenUp::default());
        window.pass(&passed(0, 6), 4, NOW);
        window.insert(8, operation(8), NOW);
        window.follow(8, operation(9), NOW);
        next.of(STEERER).pass(&passed(7, 7), 4, Nanos(7));
        next.merge(Windows([(STEERER, window)].into_iter().collect()));
        assert_eq!(next.of(STEERER).watch(), Some(NOW));
        assert_eq!(drain(next.of(STEERER), &mut given_up), [8, 9]);
        assert_eq!((given_up, next.steerers()), (GivenUp(0), vec![STEERER]));
    }
}
