//! The coordinator of moves: queues those that overlap, gives commands, watches the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Request;
use crate::id::MoveId;
use crate::time::Nanos;

/// Every move of a node that has not ended, and what is to be done next.
///
/// Inputs are requests, events of the workers and the time; outputs are [`Command`]s.
#[derive(Clone, Debug)]
pub struct Coordinator {
    moves: BTreeMap<MoveId, Move>,
    next_id: MoveId,
    commands: VecDeque<Command>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    moves_max: usize,
    step: Duration,
}

/// One move.
#[derive(Clone, Debug)]
pub struct Move {
    /// What it was asked to do.
    pub request: Request,
    /// How far it is.
    pub phase: Phase,
    /// When it must have left its phase; none once it can only finish.
    deadline: Option<Nanos>,
    /// Why it is being undone.
    pub reason: Option<&'static str>,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Behind a move that it overlaps.
    Queued,
    /// The destination and the source prepare.
    Preparing,
    /// Steerers have been told to flip; the source waits for markers and drains.
    Draining,
    /// The first piece has left the source: the move finishes.
    Exporting,
    /// Asked to undo; the source has not answered.
    Asking,
    /// Everything goes back to the source.
    Undoing,
    /// The destination owns the flows.
    Done,
    /// The source owns the flows, as if the move had not begun.
    Undone,
}

/// Why a move is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Source and destination are the same instance.
    #[error("source and destination are the same instance")]
    SameInstance,
    /// It overlaps a move in progress and the caller does not want to wait.
    #[error("move {0} is in progress and concerns the same flows")]
    Busy(MoveId),
    /// The bound on moves in progress is reached.
    #[error("{0} moves are in progress, which is the bound")]
    TooMany(usize),
    /// State of all flows is never moved.
    #[error("state of all flows always applies, at every instance: copy it")]
    AllFlows,
    /// Buckets name no state of several flows.
    #[error("buckets name no state of several flows: name the flows by a filter, or any")]
    BucketsMultiFlow,
}

/// What the node must do for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tell both ends to prepare; answer with [`Event::Prepared`] or [`Event::Unprepared`].
    Prepare(MoveId),
    /// Publish steering in which the flows belong to the destination.
    Flip(MoveId),
    /// Tell the destination to ask the source to undo.
    Ask(MoveId),
    /// Publish steering in which the flows belong to the source again.
    FlipBack(MoveId),
    /// Tell both ends to forget a move that has not flipped.
    Forget(MoveId),
    /// The move has ended; why it was undone, if it was.
    End(MoveId, Option<&'static str>),
}

/// What happened to a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both ends are prepared.
    Prepared,
    /// An end can not prepare.
    Unprepared(&'static str),
    /// The source exports.
    Exporting,
    /// The source takes everything back; the destination relays.
    Undoing,
    /// The destination has everything.
    Done,
    /// The source has everything back.
    Undone,
}

impl Coordinator {
    /// A coordinator of at most `moves_max` moves at a time; a phase that can still be undone
    /// takes at most `step`.
    pub fn new(moves_max: usize, step: Duration) -> Self {
        Self {
            moves: BTreeMap::new(),
            next_id: MoveId(1),
            commands: VecDeque::new(),
            limits: Limits { moves_max, step },
        }
    }

    /// Starts a move, or queues it behind those that it overlaps unless `no_queue`.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why nothing was begun.
    pub fn start(
        &mut self,
        request: Request,
        no_queue: bool,
        now: Nanos,
    ) -> Result<MoveId, Refused> {
        if request.from == request.to {
            return Err(Refused::SameInstance);
        }
        if self.moves.len() >= self.limits.moves_max {
            return Err(Refused::TooMany(self.limits.moves_max));
        }
        if let (true, Some(id)) = (no_queue, self.conflict(self.next_id, &request)) {
            return Err(Refused::Busy(id));
        }
        let id = self.next_id;
        self.next_id = MoveId(id.0 + 1);
        self.moves.insert(id, Move { request, phase: Phase::Queued, deadline: None, reason: None });
        self.start_queued(now);
        Ok(id)
    }

    /// Takes note of what happened to a move.
    pub fn event(&mut self, id: MoveId, event: Event, now: Nanos) {
        let deadline = now + self.limits.step;
        let Some(moving) = self.moves.get_mut(&id) else { return };
        let (phase, command, deadline) = match (moving.phase, event) {
            (Phase::Preparing, Event::Prepared) => {
                (Phase::Draining, Some(Command::Flip(id)), Some(deadline))
            }
            (Phase::Preparing, Event::Unprepared(reason)) => {
                self.commands.push_back(Command::Forget(id));
                (Phase::Undone, Some(Command::End(id, Some(reason))), None)
            }
            (Phase::Draining | Phase::Asking, Event::Exporting) => (Phase::Exporting, None, None),
            (Phase::Draining | Phase::Asking, Event::Undoing) => {
                moving.reason.get_or_insert("the hold filled up before the source had drained");
                (Phase::Undoing, Some(Command::FlipBack(id)), None)
            }
            (Phase::Draining | Phase::Asking | Phase::Exporting, Event::Done) => {
                (Phase::Done, Some(Command::End(id, None)), None)
            }
            (Phase::Undoing, Event::Undone) => {
                (Phase::Undone, Some(Command::End(id, moving.reason)), None)
            }
            (phase, _) => {
                debug_assert!(false, "move {id}: {event:?} while {phase:?}");
                return;
            }
        };
        moving.phase = phase;
        moving.deadline = deadline;
        self.commands.extend(command);
        if matches!(phase, Phase::Done | Phase::Undone) {
            self.moves.remove(&id);
            self.start_queued(now);
        }
    }

    /// Asks to undo a move; whether it can still be undone.
    pub fn undo(&mut self, id: MoveId, reason: &'static str) -> bool {
        let Some(moving) = self.moves.get_mut(&id) else { return false };
        let command = match moving.phase {
            Phase::Queued => Command::End(id, Some(reason)),
            Phase::Preparing => Command::Forget(id),
            Phase::Draining => Command::Ask(id),
            Phase::Asking | Phase::Undoing => return true,
            Phase::Exporting | Phase::Done | Phase::Undone => return false,
        };
        moving.reason.get_or_insert(reason);
        moving.deadline = None;
        self.commands.push_back(command);
        if moving.phase == Phase::Draining {
            moving.phase = Phase::Asking;
        } else {
            if moving.phase == Phase::Preparing {
                self.commands.push_back(Command::End(id, Some(reason)));
            }
            self.moves.remove(&id);
        }
        true
    }

    /// Gives up a move that could not be flipped after all.
    pub fn give_up(&mut self, id: MoveId, reason: &'static str) {
        if let Some(moving) = self.moves.remove(&id) {
            debug_assert_eq!(moving.phase, Phase::Draining, "it was told to flip");
            self.commands.extend([Command::Forget(id), Command::End(id, Some(reason))]);
        }
    }

    /// Undoes what has taken too long, and starts what need not wait any more.
    pub fn handle_timeout(&mut self, now: Nanos) {
        let late: Vec<_> = self
            .moves
            .iter()
            .filter(|(_, moving)| moving.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.undo(id, "a step took longer than its limit");
        }
        self.start_queued(now);
    }

    /// When [`Coordinator::handle_timeout`] must be called, if ever; at once when a move has been
    /// undone or given up that another waited for.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let due = |(id, moving): (&MoveId, &Move)| match moving.phase {
            // Nothing is in its way any more: it is due.
            Phase::Queued => self.conflict(*id, &moving.request).is_none().then_some(Nanos(0)),
            _ => moving.deadline,
        };
        self.moves.iter().filter_map(due).min()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The moves that have not ended, oldest first.
    pub fn moves(&self) -> impl Iterator<Item = (MoveId, &Move)> {
        self.moves.iter().map(|(id, moving)| (*id, moving))
    }

    /// A move that has not ended.
    pub fn get(&self, id: MoveId) -> Option<&Move> {
        self.moves.get(&id)
    }

    /// Whether no move is in progress or queued.
    pub fn is_idle(&self) -> bool {
        self.moves.is_empty()
    }

    fn start_queued(&mut self, now: Nanos) {
        let queued: Vec<_> = self
            .moves
            .iter()
            .filter(|(_, moving)| moving.phase == Phase::Queued)
            .map(|(id, _)| *id)
            .collect();
        for id in queued {
            if self.conflict(id, &self.moves[&id].request).is_some() {
                continue;
            }
            if let Some(moving) = self.moves.get_mut(&id) {
                moving.phase = Phase::Preparing;
                moving.deadline = Some(now + self.limits.step);
                self.commands.push_back(Command::Prepare(id));
            }
        }
    }

    /// The oldest move before `id` that shares an instance and may share a flow with it.
    ///
    /// Moves between four different instances concern different flows, whatever they select.
    fn conflict(&self, id: MoveId, request: &Request) -> Option<MoveId> {
        self.moves
            .range(..id)
            .find(|(_, other)| {
                let other = &other.request;
                let ends = [other.from, other.to];
                (ends.contains(&request.from) || ends.contains(&request.to))
                    && other.selection.overlaps(&request.selection)
            })
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::BucketSet;
    use crate::filter::Selection;
    use crate::id::InstanceId;

    const NOW: Nanos = Nanos(0);

    fn coordinator() -> Coordinator {
        Coordinator::new(4, Duration::from_secs(1))
    }

    fn buckets(from: u8, to: u8, set: &str) -> Request {
        let selection = Selection::Buckets(set.parse::<BucketSet>().unwrap());
        Request::new(InstanceId(from), InstanceId(to), selection)
    }

    fn commands(coordinator: &mut Coordinator) -> Vec<Command> {
        std::iter::from_fn(|| coordinator.poll_command()).collect()
    }

    #[test]
    fn a_move_goes_from_prepare_to_end() {
        let mut coordinator = coordinator();
        let id = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
        assert_eq!(commands(&mut coordinator), [Command::Prepare(id)]);
        coordinator.event(id, Event::Prepared, NOW);
        assert_eq!(commands(&mut coordinator), [Command::Flip(id)]);
        coordinator.event(id, Event::Exporting, NOW);
        assert!(!coordinator.undo(id, "too late"));
        coordinator.event(id, Event::Done, NOW);
        assert_eq!(commands(&mut coordinator), [Command::End(id, None)]);
        assert!(coordinator.is_idle());
    }

    #[test]
    fn overlapping_moves_wait_and_others_do_not() {
        let mut coordinator = coordinator();
        let first = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
        let second = coordinator.start(buckets(2, 3, "7-9"), false, NOW).unwrap();
        let third = coordinator.start(buckets(1, 2, "8-9"), false, NOW).unwrap();
        let other = buckets(1, 3, "0");
        assert_eq!(coordinator.start(other, true, NOW), Err(Refused::Busy(first)));
        assert_eq!(commands(&mut coordinator), [Command::Prepare(first)]);
        coordinator.event(first, Event::Prepared, NOW);
        coordinator.event(first, Event::Done, NOW);
        let after = [Command::Flip(first), Command::End(first, None), Command::Prepare(second)];
        assert_eq!(commands(&mut coordinator), after);
        coordinator.event(second, Event::Unprepared("no room"), NOW);
        let end = Command::End(second, Some("no room"));
        let after = [Command::Forget(second), end, Command::Prepare(third)];
        assert_eq!(commands(&mut coordinator), after);
    }

    #[test]
    fn a_step_that_takes_too_long_is_undone() {
        let mut coordinator = coordinator();
        let id = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
        coordinator.event(id, Event::Prepared, NOW);
        commands(&mut coordinator);
        let late = coordinator.poll_timeout().unwrap();
        coordinator.handle_timeout(late);
        assert_eq!(commands(&mut coordinator), [Command::Ask(id)]);
        coordinator.event(id, Event::Undoing, late);
        assert_eq!(commands(&mut coordinator), [Command::FlipBack(id)]);
        coordinator.event(id, Event::Undone, late);
        let why = Some("a step took longer than its limit");
        assert_eq!(commands(&mut coordinator), [Command::End(id, why)]);
    }

    #[test]
    fn a_move_that_is_undone_before_it_has_begun_says_why() {
        let mut coordinator = coordinator();
        let first = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
        let second = coordinator.start(buckets(1, 2, "7"), false, NOW).unwrap();
        assert!(coordinator.undo(second, "asked"));
        let queued = [Command::Prepare(first), Command::End(second, Some("asked"))];
        assert_eq!(commands(&mut coordinator), queued);
        let late = coordinator.poll_timeout().unwrap();
        coordinator.handle_timeout(late);
        let why = Some("a step took longer than its limit");
        assert_eq!(commands(&mut coordinator), [Command::Forget(first), Command::End(first, why)]);
        let third = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
        coordinator.event(third, Event::Prepared, NOW);
        coordinator.give_up(third, "no room");
        let ended = commands(&mut coordinator).pop();
        assert_eq!(ended, Some(Command::End(third, Some("no room"))));
    }

    #[test]
    fn what_waited_for_a_move_that_is_undone_or_given_up_is_due_at_once() {
        for prepared in [false, true] {
            let mut coordinator = coordinator();
            let first = coordinator.start(buckets(1, 2, "0-7"), false, NOW).unwrap();
            let second = coordinator.start(buckets(1, 3, "7-9"), false, NOW).unwrap();
            assert_eq!(coordinator.poll_timeout(), Some(NOW + Duration::from_secs(1)));
            if prepared {
                coordinator.event(first, Event::Prepared, NOW);
                coordinator.give_up(first, "no room");
            } else {
                assert!(coordinator.undo(first, "asked"));
            }
            commands(&mut coordinator);
            assert_eq!(coordinator.poll_timeout(), Some(NOW));
            coordinator.handle_timeout(NOW);
            assert_eq!(commands(&mut coordinator), [Command::Prepare(second)]);
        }
    }

    #[test]
    fn a_move_to_itself_and_one_too_many_are_refused() {
        let mut coordinator = Coordinator::new(1, Duration::from_secs(1));
        assert_eq!(coordinator.start(buckets(1, 1, "0"), false, NOW), Err(Refused::SameInstance));
        coordinator.start(buckets(1, 2, "0"), false, NOW).unwrap();
        assert_eq!(coordinator.start(buckets(3, 4, "1"), false, NOW), Err(Refused::TooMany(1)));
    }
}
