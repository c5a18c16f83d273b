//! The order of steerers at a home: operations wait for those in front of them, in a window.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Cause, Operation, Passed};
use crate::id::WorkerId;
use crate::time::Nanos;

/// One steerer's order of one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window<O> {
    /// All before has been executed, passed or given up.
    next: u64,
    /// What came early, by the place at which it begins.
    waiting: BTreeMap<u64, Waiting<O>>,
    /// What came behind that without a place, since the steerer stamps no more.
    behind: VecDeque<Operation<O>>,
    /// Since when the place `next` is waited for.
    since: Option<Nanos>,
}

/// The windows of a slot, by steerer; those that have not sent anything have none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Windows<O>(BTreeMap<WorkerId, Window<O>>);

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

impl<O> Default for Window<O> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new(), behind: VecDeque::new(), since: None }
    }
}

impl<O> Window<O> {
    /// Whether it is the operation's turn, and nothing else is to be looked at: the common case.
    pub(super) fn is_next(&mut self, sequence: u64) -> bool {
        let is_next = sequence == self.next && self.waiting.is_empty();
        self.next += u64::from(is_next);
        is_next
    }

    /// Puts an operation without a place behind what waits, if anything does.
    ///
    /// # Errors
    /// Gives it back when nothing waits: it is its turn.
    pub(super) fn follow(&mut self, operation: Operation<O>) -> Result<(), Operation<O>> {
        if self.waiting.is_empty() && self.behind.is_empty() {
            return Err(operation);
        }
        self.behind.push_back(operation);
        Ok(())
    }

    /// Puts an operation in its place.
    pub(super) fn insert(&mut self, sequence: u64, operation: Operation<O>) {
        self.waiting.insert(sequence, Waiting::Operation(operation));
    }

    /// Takes note of packets that cause no operation. Of more than `window` things that wait it is
    /// not kept; its place is given up then.
    pub(super) fn pass(&mut self, passed: &Passed, window: usize) {
        if passed.last < self.next || self.waiting.len() >= window {
            return;
        }
        let Passed { first, last, .. } = *passed;
        if first <= self.next && self.waiting.is_empty() {
            self.next = last + 1;
        } else {
            self.waiting.entry(first).or_insert(Waiting::Passed { last });
        }
    }

    /// The next that may be executed. What is `window` or more places ahead does not let the gap
    /// be waited for.
    pub(super) fn pop(&mut self, window: u64, given_up: &mut GivenUp) -> Option<Out<O>> {
        loop {
            let last = self.waiting.last_key_value().map(|(at, _)| *at);
            let Some((first, last)) = self.first().zip(last) else {
                return self.behind.pop_front().map(Out::Execute);
            };
            if first > self.next && last - self.next < window {
                return None;
            }
            let (at, waiting) = self.waiting.pop_first()?;
            given_up.0 += at.saturating_sub(self.next);
            match waiting {
                Waiting::Passed { last } => self.next = self.next.max(last + 1),
                Waiting::Operation(operation) if at < self.next => {
                    return Some(Out::Late(operation));
                }
                Waiting::Operation(operation) => {
                    self.next = at + 1;
                    return Some(Out::Execute(operation));
                }
            }
        }
    }

    /// Gives up the gap in front of what waits.
    pub(super) fn skip(&mut self, given_up: &mut GivenUp) {
        if let Some(first) = self.first() {
            given_up.0 += first.saturating_sub(self.next);
            self.next = self.next.max(first);
        }
    }

    /// Takes note, after operations have been taken, of whether one waits and since when: whether
    /// it begins to.
    pub(super) fn wait(&mut self, progress: bool, now: Nanos) -> bool {
        let began = !self.waiting.is_empty() && (progress || self.since.is_none());
        let before = self.since;
        self.since = match (self.waiting.is_empty(), began) {
            (true, _) => None,
            (false, true) => Some(now),
            (false, false) => before,
        };
        before.is_none() && self.since.is_some()
    }

    /// Since when something waits.
    pub(super) fn since(&self) -> Option<Nanos> {
        self.since
    }

    fn first(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(at, _)| *at)
    }

    fn merge(&mut self, other: Self) {
        self.next = self.next.max(other.next);
        for (at, waiting) in other.waiting {
            self.waiting.entry(at).or_insert(waiting);
        }
        self.behind.extend(other.behind);
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
    const WINDOW: u64 = 4;

    fn operation(sequence: u64) -> Operation<()> {
        let id = OperationId { instance: InstanceId(0), number: sequence };
        let stamp = Some(Stamp { steerer: STEERER, sequence });
        let lane = Lane { slot: Slot(0), steerer: Some(STEERER) };
        Operation { id, floor: 0, view: 1, lane, slot: Slot(0), stamp, follows: false, op: () }
    }

    fn passed(first: u64, last: u64) -> Passed {
        Passed { slot: Slot(0), steerer: STEERER, first, last, cause: Cause::Noop }
    }

    /// What comes out: places in order, late ones negative.
    fn drain(window: &mut Window<()>, given_up: &mut GivenUp) -> Vec<i64> {
        let place = |operation: &Operation<()>| operation.id.number as i64;
        let out = std::iter::from_fn(|| window.pop(WINDOW, given_up));
        out.map(|out| match out {
            Out::Execute(operation) => place(&operation),
            Out::Late(operation) => -place(&operation),
        })
        .collect()
    }

    #[test]
    fn operations_come_out_in_the_order_of_the_steerer() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        window.insert(2, operation(2));
        assert!(drain(&mut window, &mut given_up).is_empty());
        assert!(window.wait(false, Nanos(5)) && window.since() == Some(Nanos(5)));
        window.pass(&passed(1, 1), 4);
        window.insert(0, operation(0));
        assert_eq!(drain(&mut window, &mut given_up), [0, 2]);
        assert!(!window.wait(true, Nanos(6)) && window.since().is_none());
        assert!(window.is_next(3) && !window.is_next(3));
        assert_eq!(given_up, GivenUp(0));
    }

    #[test]
    fn a_gap_is_given_up_when_too_much_has_come_behind_it() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        for sequence in [1, 2, 4] {
            window.insert(sequence, operation(sequence));
        }
        assert_eq!(drain(&mut window, &mut given_up), [1, 2]);
        assert_eq!(given_up, GivenUp(1));
        window.insert(1, operation(1));
        assert_eq!(drain(&mut window, &mut given_up), [-1]);
        window.skip(&mut given_up);
        assert_eq!(drain(&mut window, &mut given_up), [4]);
        assert_eq!(given_up, GivenUp(2));
    }

    #[test]
    fn what_has_no_place_any_more_comes_behind_what_waits_for_its_own() {
        let (mut window, mut given_up) = (Window::default(), GivenUp::default());
        window.insert(1, operation(1));
        window.follow(operation(7)).expect("another waits");
        assert!(drain(&mut window, &mut given_up).is_empty());
        window.insert(0, operation(0));
        assert_eq!(drain(&mut window, &mut given_up), [0, 1, 7]);
        assert_eq!(window.follow(operation(8)), Err(operation(8)));
    }

    #[test]
    fn the_next_home_goes_on_where_the_last_has_stopped() {
        let (mut window, mut next, mut given_up) =
            (Window::default(), Windows::default(), GivenUp::default());
        window.pass(&passed(0, 6), 4);
        window.insert(8, operation(8));
        next.of(STEERER).pass(&passed(7, 7), 4);
        next.merge(Windows([(STEERER, window)].into_iter().collect()));
        assert_eq!(drain(next.of(STEERER), &mut given_up), [8]);
        assert_eq!((given_up, next.steerers()), (GivenUp(0), vec![STEERER]));
    }
}
