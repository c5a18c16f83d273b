//! The operations in progress and the last that ended, both bounded.

use std::collections::{BTreeMap, VecDeque};

use weir_api::dataplane::v1::Guarantee;
use weir_state_transfer::Nanos;

use super::{
    conflict,
    end::End,
    operation::{Asked, Failure, MoveAsked, Operation, Progress, State},
};

/// Operations at one time.
pub const RUNNING_MAX: usize = 64;
/// Ended operations that are remembered.
pub const ENDED_MAX: usize = 256;

/// Why an operation is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// One in progress is about the same state.
    #[error("operation {0} is in the way")]
    InTheWay(u64),
    /// There are too many.
    #[error("{RUNNING_MAX} operations at one time are the most")]
    Full,
}

/// All operations that are known.
#[derive(Debug, Default)]
pub struct Table {
    running: BTreeMap<u64, Operation>,
    ended: VecDeque<Operation>,
}

impl Table {
    /// Whether an operation could be begun.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, asked: &Asked) -> Result<(), BeginError> {
        if let Some(other) = conflict::in_the_way(asked, self.running.values()) {
            return Err(BeginError::InTheWay(other.id));
        }
        if self.running.len() >= RUNNING_MAX { Err(BeginError::Full) } else { Ok(()) }
    }

    /// Whether an operation could be changed to what is asked.
    ///
    /// # Errors
    /// Which other is in the way.
    pub fn check_change(&self, id: u64, asked: &Asked) -> Result<(), BeginError> {
        let others = self.running.values().filter(|other| other.id != id);
        conflict::in_the_way(asked, others)
            .map_or(Ok(()), |other| Err(BeginError::InTheWay(other.id)))
    }

    /// An operation is another from here on.
    pub fn change(&mut self, id: u64, asked: Asked) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.asked = asked;
        }
    }

    /// Takes in an operation that begins, under a number that is not in use.
    ///
    /// # Errors
    /// Why it may not begin.
    pub fn begin(&mut self, operation: Operation) -> Result<(), BeginError> {
        self.check(&operation.asked)?;
        self.go_on(operation);
        Ok(())
    }

    /// Takes in an operation that has begun before, whatever is in progress.
    pub fn go_on(&mut self, operation: Operation) {
        self.ended.retain(|ended| ended.id != operation.id);
        self.running.insert(operation.id, operation);
    }

    /// Notes how far an operation has come.
    pub fn progress(&mut self, id: u64, note: impl FnOnce(&mut Progress)) {
        if let Some(operation) = self.running.get_mut(&id) {
            note(&mut operation.progress);
        }
    }

    /// An operation goes back.
    pub fn undo(&mut self, id: u64, failure: &Failure) {
        if let Some(operation) = self.running.get_mut(&id) {
            operation.state = State::Undoing;
            operation.failure = Some(failure.clone());
        }
    }

    /// What keeps an operation from coming further now, or has it go back; whether that is another.
    pub fn waits(&mut self, id: u64, failure: Option<&Failure>) -> bool {
        let Some(operation) = self.running.get_mut(&id) else { return false };
        let is_other = operation.failure.as_ref() != failure;
        if is_other {
            operation.failure = failure.cloned();
        }
        is_other
    }

    /// An operation in progress, as it looks when it has ended.
    pub fn ending(
        &self,
        id: u64,
        (state, failure): (State, Option<Failure>),
        now: Nanos,
    ) -> Option<Operation> {
        debug_assert!(state.ended(), "{state:?} is no end");
        let operation = self.running.get(&id)?.clone();
        Some(Operation { state, failure, ended: Some(now), ..operation })
    }

    /// An operation has ended; what it looks like then, if it was in progress.
    pub fn end(&mut self, id: u64, end: (State, Option<Failure>), now: Nanos) -> Option<Operation> {
        let operation = self.ending(id, end, now)?;
        self.running.remove(&id);
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(operation.clone());
        Some(operation)
    }

    /// Forgets an operation that has not begun after all; whether it was in progress.
    pub fn forget(&mut self, id: u64) -> bool {
        self.running.remove(&id).is_some()
    }

    /// A move in progress that has one of these instances as an end, and which.
    pub fn moves_at<'n>(&self, instances: &'n [String]) -> Option<(u64, &'n str)> {
        self.running.values().find_map(|operation| {
            let Asked::Move(MoveAsked { from, to, .. }) = &operation.asked else { return None };
            let is = |end: &End, wanted: &str| {
                matches!(end, End::Instance { name, .. } if name == wanted)
            };
            let found = instances.iter().find(|name| is(from, name) || is(to, name))?;
            (!(from.is_instance() && to.is_instance())).then_some((operation.id, found.as_str()))
        })
    }

    /// A move in progress whose packets the data plane holds.
    pub fn leading(&self) -> Option<u64> {
        self.running.values().find_map(|operation| {
            let Asked::Move(asked) = &operation.asked else { return None };
            let of_processes = !asked.from.is_instance() && !asked.to.is_instance();
            (of_processes && asked.guarantee != Guarantee::None).then_some(operation.id)
        })
    }

    /// The operation of a number.
    pub fn find(&self, id: u64) -> Option<&Operation> {
        self.running.get(&id).or_else(|| self.ended.iter().find(|ended| ended.id == id))
    }

    /// The operation that a request has asked for.
    pub fn of_request(&self, request_id: &str) -> Option<&Operation> {
        let mut all = self.running.values().chain(self.ended.iter().rev());
        all.find(|operation| !request_id.is_empty() && operation.request_id == request_id)
    }

    /// Whether an operation in progress was asked for by a request.
    pub fn goes_on(&self, request_id: &str) -> bool {
        self.running.values().any(|operation| operation.request_id == request_id)
    }

    /// All of them, newest first.
    pub fn newest_first(&self) -> Vec<&Operation> {
        let mut all: Vec<_> = self.running.values().chain(&self.ended).collect();
        all.sort_by_key(|operation| std::cmp::Reverse(operation.id));
        all
    }

    /// How many are in progress.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::operation::FailureKind;
    use super::*;

    fn operation(id: u64) -> Operation {
        let (end, filter) = (End::Nf("a".to_owned()), "any".parse().unwrap());
        Operation {
            id,
            request_id: String::new(),
            asked: Asked::Notify { end, filter, snap: 0 },
            state: State::Running,
            progress: Progress::default(),
            failure: None,
            started: Nanos(id),
            ended: None,
            started_unix_ns: 0,
        }
    }

    #[test]
    fn both_kinds_are_bounded_and_listed_newest_first() {
        let mut table = Table::default();
        for id in 0..RUNNING_MAX as u64 {
            table.begin(operation(id)).unwrap();
        }
        assert_eq!(table.begin(operation(99)), Err(BeginError::Full));
        for id in 0..1_000 {
            assert!(table.end(id, (State::Done, None), Nanos(2_000)).is_some());
            table.begin(operation(RUNNING_MAX as u64 + id)).unwrap();
        }
        assert_eq!((table.running(), table.ended.len()), (RUNNING_MAX, ENDED_MAX));
        let ids: Vec<u64> = table.newest_first().iter().map(|operation| operation.id).collect();
        assert_eq!((ids[0], ids.len()), (1_063, RUNNING_MAX + ENDED_MAX));
        assert!(ids.is_sorted_by(|one, two| one > two));
        assert_eq!(table.find(999).unwrap().state, State::Done);
        assert_eq!(table.find(999).unwrap().elapsed_ns(Nanos(9_000)), 1_001);
        assert!(table.find(1).is_none());
    }

    #[test]
    fn an_operation_ends_once() {
        let mut table = Table::default();
        table.begin(operation(7)).unwrap();
        table.progress(7, |progress| progress.chunks = 3);
        let why = Failure::new(FailureKind::Late, "it waits");
        assert!(table.waits(7, Some(&why)) && !table.waits(7, Some(&why)));
        assert!(table.waits(7, None) && table.find(7).unwrap().failure.is_none());
        let ended = table.end(7, (State::Cancelled, None), Nanos(9)).unwrap();
        assert_eq!((ended.progress.chunks, ended.ended), (3, Some(Nanos(9))));
        assert_eq!(table.end(7, (State::Done, None), Nanos(10)), None);
        assert_eq!(table.find(7).unwrap().state, State::Cancelled);
    }
}
