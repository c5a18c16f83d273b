//! Linearizability of recorded histories, by the search of Wing and Gong (1993) with Lowe's memory
//! of what was tried (2017).

use std::collections::HashSet;
use std::hash::Hash;

/// One operation of a history, at most 64 in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record<O, A> {
    pub(crate) op: O,
    /// What it returned; none if it has not: then it may have been executed or not.
    pub(crate) answer: Option<A>,
    /// The operations that had returned when it was invoked, one bit each.
    pub(crate) before: u64,
}

/// Whether there is an order of all operations that have returned, and of some that have not, in
/// which each gives what it returned, and none comes before one that had returned when it was
/// invoked. `apply` executes an operation one after the other.
pub(crate) fn linearizable<O, A: PartialEq, S: Clone + Eq + Hash>(
    history: &[Record<O, A>],
    initial: S,
    apply: impl Fn(&mut S, &O) -> A,
) -> bool {
    assert!(history.len() <= 64, "a bit for each operation");
    let bits = history.iter().enumerate();
    let returned = bits.filter(|(_, record)| record.answer.is_some());
    let returned = returned.fold(0u64, |mask, (at, _)| mask | 1 << at);
    let mut tried = HashSet::new();
    let mut stack = vec![(0u64, initial)];
    while let Some((done, state)) = stack.pop() {
        if returned & !done == 0 {
            return true;
        }
        for (at, record) in history.iter().enumerate() {
            if done >> at & 1 == 1 || record.before & !done != 0 {
                continue;
            }
            let mut next = state.clone();
            let answer = apply(&mut next, &record.op);
            let next = (done | 1 << at, next);
            if record.answer.as_ref().is_none_or(|returned| *returned == answer)
                && tried.insert(next.clone())
            {
                stack.push(next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a register: write returns nothing, read the value.
    #[derive(Clone, Copy, Debug)]
    enum Op {
        Write(u8),
        Read,
    }

    use Op::{Read, Write};

    fn apply(register: &mut u8, op: &Op) -> Option<u8> {
        match op {
            Write(value) => {
                *register = *value;
                None
            }
            Read => Some(*register),
        }
    }

    /// A history by its events: number, and at the invocation the operation, at the return what it
    /// gives.
    enum Event {
        Invoke(Op),
        Return(usize, Option<u8>),
    }

    use Event::{Invoke, Return};

    fn check(events: &[Event]) -> bool {
        let mut history = Vec::new();
        let mut returned = 0;
        for event in events {
            match event {
                Invoke(op) => history.push(Record { op: *op, answer: None, before: returned }),
                Return(at, answer) => {
                    history[*at].answer = Some(*answer);
                    returned |= 1 << at;
                }
            }
        }
        linearizable(&history, 0, apply)
    }

    #[test]
    fn one_after_the_other_gives_what_was_written_last() {
        assert!(check(&[Invoke(Write(1)), Return(0, None), Invoke(Read), Return(1, Some(1))]));
        assert!(!check(&[Invoke(Write(1)), Return(0, None), Invoke(Read), Return(1, Some(0))]));
    }

    #[test]
    fn at_the_same_time_gives_either() {
        for value in [0, 1] {
            let write = [Invoke(Write(1)), Invoke(Read), Return(1, Some(value)), Return(0, None)];
            assert!(check(&write), "{value}");
        }
    }

    #[test]
    fn what_has_been_read_stays_written() {
        let read = |first, second| {
            let reads = [Return(1, Some(first)), Invoke(Read), Return(2, Some(second))];
            check(&[Invoke(Write(1)), Invoke(Read)].into_iter().chain(reads).collect::<Vec<_>>())
        };
        assert!(read(0, 0) && read(0, 1) && read(1, 1));
        assert!(!read(1, 0), "the write has not returned, but its value has been seen");
    }

    #[test]
    fn two_readers_see_two_writes_in_one_order() {
        let writes = || [Invoke(Write(1)), Invoke(Write(2))];
        let reads = |values: [u8; 4]| {
            let read = |(at, value): (usize, u8)| [Invoke(Read), Return(2 + at, Some(value))];
            check(
                &writes()
                    .into_iter()
                    .chain(values.into_iter().enumerate().flat_map(read))
                    .collect::<Vec<_>>(),
            )
        };
        assert!(reads([1, 1, 2, 2]) && reads([0, 2, 2, 1]));
        assert!(!reads([1, 2, 1, 2]) && !reads([2, 1, 2, 2]));
    }

    #[test]
    fn the_search_finds_every_order_of_many() {
        // Ten writes at the same time, and after them a read of each that came last.
        for last in 1..=10 {
            let mut events: Vec<_> = (1..=10).map(|value| Invoke(Write(value))).collect();
            events.extend((0..10).map(|at| Return(at, None)));
            events.extend([Invoke(Read), Return(10, Some(last))]);
            assert!(check(&events));
        }
        let mut events: Vec<_> = (1..=10).map(|value| Invoke(Write(value))).collect();
        events.extend((0..10).map(|at| Return(at, None)));
        events.extend([Invoke(Read), Return(10, Some(11))]);
        assert!(!check(&events));
    }
}
