//! A move by get, put and del: its steps, and how it goes back.
//!
//! It sees what the destination has, carries the state over, and only when all is there deletes it
//! at the source. Until then it can be undone: what was put is removed again, per-flow state that
//! was replaced is put back. Multi-flow state that was merged with some of the destination's own
//! stays merged, as after a copy: nobody could tell the two apart again, and a merge does no harm.
//! From the first deletion on it is finished.
//!
//! Between two nodes each sidecar has a half of it: that of the source carries, waits for the
//! receipt and deletes; that of the destination sees what is there, takes in what comes, and holds
//! it until the source has deleted or wants it undone. What the two say to each other is
//! `weir_state_transfer::transfer`.

mod finishing;
#[cfg(test)]
mod finishing_tests;
mod led;
#[cfg(test)]
mod led_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use weir_state_transfer::{
    FlowId, StateFilter,
    chunk::{Edition, Schema, Scope},
    flow_id::Extent,
};

pub use super::task::{Manner, Task};

use super::{
    lead::LeadStep,
    operation::{Failure, FailureKind, LeftBehind, State},
};

/// Pieces of state that a move carries, and pieces that the destination may have of what the filter
/// names.
pub const PIECES_MAX: usize = 1 << 18;
/// Bytes of the destination's own per-flow state that are kept until the move is done.
pub const KEPT_MAX: usize = 64 << 20;
/// Times that a step is tried which must not fail: deleting, and what undoes.
const TRIES: u32 = 3;
/// The first wait before a task is tried again that has to be done; each next is twice as long.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A piece of state that is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its scope.
    pub scope: Scope,
    /// What it is about.
    pub id: FlowId,
    /// That of its chunk; 0 where none is counted, or another node counts.
    pub version: u64,
}

/// What becomes of a piece at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// It is put.
    Put,
    /// It stays, as the filter does not name all that it is about.
    Leave,
}

/// A move in progress.
#[derive(Debug)]
pub struct Steps {
    filter: StateFilter,
    todo: VecDeque<Task>,
    /// The destination is of another node, which sees to it.
    leaves: bool,
    /// What the destination has of the same, with the chunks of per-flow state.
    before: BTreeMap<(Scope, FlowId), Vec<Vec<u8>>>,
    kept: usize,
    /// What the destination may have taken in, in this order.
    put: Vec<Piece>,
    /// Where the scope that is carried begins among them.
    carrying: usize,
    /// Which edition gets have given last, by scope, id and schema.
    given: BTreeMap<(Scope, FlowId, Schema), Edition>,
    left_behind: LeftBehind,
    failure: Option<Failure>,
    tries: u32,
    /// How often the task was waited for, which is no try.
    waits: u32,
    /// A step has failed that must not.
    stuck: bool,
    /// By what the destination is recognised.
    recognised: Option<u64>,
    /// It was begun before, and nobody knows how far it came.
    again: bool,
    /// Packets are held meanwhile.
    leads: bool,
    /// What has moved, as it is written down, with the versions of the pieces of an id: nothing else is
    /// deleted.
    moved: Option<led::Moved>,
    /// Flows that are in use at the source, of which the destination has what was put.
    finishing: finishing::Finishing,
}

impl Steps {
    /// A move of what a filter names, scope by scope.
    pub fn new(filter: StateFilter, scopes: &BTreeSet<Scope>) -> Self {
        Self::of_tasks(
            filter,
            [each(Task::Survey, scopes), each(Task::Carry, scopes), each(Task::Delete, scopes)],
        )
    }

    /// The half of a move whose destination is of another node.
    pub fn leaving(filter: StateFilter, scopes: &BTreeSet<Scope>) -> Self {
        let (carry, delete) = (each(Task::Carry, scopes), each(Task::Delete, scopes));
        let tasks = [carry, vec![Task::Confirm], delete, vec![Task::Release]];
        Self { leaves: true, ..Self::of_tasks(filter, tasks) }
    }

    /// The half of a move whose source is of another node.
    pub fn arriving(filter: StateFilter, scopes: &BTreeSet<Scope>) -> Self {
        let tasks = [each(Task::Survey, scopes), vec![Task::Receive, Task::Hold]];
        Self::of_tasks(filter, tasks)
    }

    fn of_tasks(filter: StateFilter, tasks: impl IntoIterator<Item = Vec<Task>>) -> Self {
        Self {
            filter,
            todo: tasks.into_iter().flatten().collect(),
            leaves: false,
            before: BTreeMap::new(),
            kept: 0,
            put: Vec::new(),
            carrying: 0,
            given: BTreeMap::new(),
            left_behind: LeftBehind::default(),
            failure: None,
            tries: 0,
            waits: 0,
            stuck: false,
            recognised: None,
            again: false,
            leads: false,
            moved: None,
            finishing: finishing::Finishing::default(),
        }
    }

    /// The same, begun again: an earlier attempt may have deleted at the source, so that it never
    /// ends as if nothing had happened.
    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// What is to be done; none when it has ended.
    pub fn task(&self) -> Option<Task> {
        self.todo.front().copied()
    }

    /// Whether it may still be told to go back.
    pub fn undoable(&self) -> bool {
        self.task().is_some_and(|task| task.goes_back() && task != Task::Hold)
    }

    /// How long to wait before the task is tried again, which has failed and is waited for.
    pub fn wait(&self) -> Option<Duration> {
        let doubled = WAIT_FIRST.saturating_mul(1 << self.waits.checked_sub(1)?.min(16));
        Some(doubled.min(WAIT_MAX))
    }

    /// Why it does not end as it was asked to, if that is known.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether it goes back.
    pub fn undoing(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| !self.stuck)
    }

    /// The destination has a piece, as this chunk.
    ///
    /// # Errors
    /// When it has too many; the task has failed then.
    pub fn there(&mut self, scope: Scope, id: &FlowId, chunk: Vec<u8>) -> Result<(), Failure> {
        let chunks = self.before.entry((scope, id.one_way())).or_default();
        if scope == Scope::PerFlow {
            self.kept += chunk.len();
            chunks.push(chunk);
        }
        let what = "the destination has more of what the filter names";
        if self.kept > KEPT_MAX { Err(too_much(what)) } else { bounded(self.before.len(), what) }
    }

    /// The process of the destination is recognised by this, behind something that it took in.
    ///
    /// # Errors
    /// When it was another at first: what that took in is lost. The task has failed then.
    pub fn recognised(&mut self, by: u64) -> Result<(), Failure> {
        if *self.recognised.get_or_insert(by) == by {
            return Ok(());
        }
        let reason = "the destination was started again, or was not reached for a while: what it \
                      took in before may be lost";
        Err(Failure::new(FailureKind::Unreachable, reason))
    }

    /// The source has a piece of this version: what becomes of it.
    ///
    /// # Errors
    /// When there are too many; the task has failed then.
    pub fn carry(&mut self, scope: Scope, id: &FlowId, version: u64) -> Result<Carry, Failure> {
        if let Some(moved) = &mut self.moved {
            let place = (scope, id.one_way());
            let Some(versions) = moved.get(&place) else { return Ok(Carry::Leave) };
            if !versions.contains(&version) {
                // It has come since: the destination does not have it. What is deleted is deleted by
                // its id, so all of the id stays.
                moved.remove(&place);
                self.left_behind.add(id.clone());
                return Ok(Carry::Leave);
            }
        } else if !self.filter.picks(id, Extent::Contains) {
            self.left_behind.add(id.clone());
            return Ok(Carry::Leave);
        }
        self.take(scope, id, version).map(|()| Carry::Put)
    }

    /// A piece is put that the filter names.
    ///
    /// # Errors
    /// As those of [`Self::carry`].
    pub fn take(&mut self, scope: Scope, id: &FlowId, version: u64) -> Result<(), Failure> {
        bounded(self.put.len() + 1, "the filter names more state")?;
        self.put.push(Piece { scope, id: id.clone(), version });
        Ok(())
    }

    /// Whether a piece that a get gives was not given before. State that was changed since, or has begun
    /// anew, may come once more.
    ///
    /// # Errors
    /// When there are too many; the task has failed then.
    pub fn is_new(
        &mut self,
        scope: Scope,
        id: &FlowId,
        schema: Schema,
        edition: Edition,
    ) -> Result<bool, Failure> {
        let last = self.given.insert((scope, id.one_way(), schema), edition);
        bounded(self.given.len(), "the filter names more state")?;
        Ok(last != Some(edition))
    }

    /// All that is carried.
    pub fn pieces(&self) -> &[Piece] {
        &self.put
    }

    /// The destination says that of the pieces of this scope it took in so many, the first.
    pub fn taken(&mut self, count: u64) {
        let taken = usize::try_from(count).unwrap_or(usize::MAX);
        self.put.truncate(self.carrying.saturating_add(taken));
    }

    /// The task is done.
    pub fn done(&mut self) {
        if let Some(Task::Carry(_)) = self.todo.pop_front() {
            self.carrying = self.put.len();
        }
        (self.tries, self.waits) = (0, 0);
    }

    /// The task has failed: it is tried again, or the move goes back, or it stays as it is.
    pub fn failed(&mut self, failure: Failure) {
        let Some(task) = self.task() else { return };
        if task.goes_back() {
            self.go_back();
            self.failure = Some(failure);
            return;
        }
        if task == Task::Note(LeadStep::Led) {
            // It goes on all the same: a later sidecar does not know then whether any were lost.
            return self.done();
        }
        // A data plane that is started again is there soon, or the time is over that all this has.
        let is_waited_for = failure.kind == FailureKind::Dataplane
            && matches!(task, Task::Recognise | Task::Settle);
        if task.manner() == Manner::Insisting || is_waited_for {
            self.waits += 1;
            return;
        }
        (self.tries, self.waits) = (self.tries + 1, 0);
        // What is refused is so again.
        let is_refused = matches!(failure.kind, FailureKind::ChunkRefused(_));
        if self.tries < TRIES && !is_refused {
            return;
        }
        let why = match task {
            Task::Delete(scope) => &self.not_deleted(scope),
            Task::Settle | Task::List(_) if self.moved.is_some() => {
                "all state is at the destination, and all may still be at the source"
            }
            Task::List(_) => {
                "nobody knows what the source has of its state, and the destination may have some of it"
            }
            Task::Recognise => {
                "packets are led to the destination, and no more is deleted at the source: what it has \
                 can be moved again without a guarantee"
            }
            Task::Release => "all state has left the source",
            Task::PutBack => {
                "the source has all its state, and the destination not all that it had of the same \
                 flows"
            }
            Task::Recall => "the source has all its state, and the destination may have some of it",
            _ => {
                "the source has all its state, and the destination may have some of it, which it \
                 did not delete"
            }
        };
        let first = self.failure.take().map(|first| format!("{}; ", first.reason));
        let first = first.unwrap_or_default();
        self.failure =
            Some(Failure { reason: format!("{first}{why}: {}", failure.reason), ..failure });
        (self.stuck, self.tries, self.waits) = (true, 0, 0);
        self.todo.clear();
        self.todo.extend(self.leads.then_some(Task::Close));
    }

    /// Something more is to be said of why it goes back.
    pub fn adds(&mut self, remark: &str) {
        if let Some(failure) = &mut self.failure {
            failure.reason = format!("{}; {remark}", failure.reason);
        }
    }

    /// The destination keeps so many flows that it was to delete again, as they are in use there.
    pub fn stays(&mut self, flows: u64) {
        if flows > 0 {
            self.adds(&format!("{flows} flows are in use at the destination, and stay there too"));
            self.stuck = true;
        }
    }

    /// It is about to see what the source has of a scope, once more maybe.
    pub fn lists(&mut self, scope: Scope) {
        self.put.retain(|piece| piece.scope != scope);
    }

    /// It goes on, and has not done all that it was to.
    pub fn falls_short(&mut self, failure: Failure) {
        match &self.failure {
            // A task that is done once more says it once more.
            Some(first) if first.reason.split("; ").any(|said| said == failure.reason) => {}
            Some(_) => self.adds(&failure.reason),
            None => self.failure = Some(failure),
        }
        self.stuck = true;
    }

    /// What came stays, as nobody says whether the source has deleted it.
    pub fn unsettled(&mut self, failure: Failure) {
        self.todo.clear();
        self.failure = Some(failure);
        self.stuck = true;
    }

    /// The source has not got any more what was put at the destination: nothing is removed there.
    pub fn source_is_lost(&mut self, failure: Failure) {
        self.todo.clear();
        self.todo.extend(self.leads.then_some(Task::Close));
        let end = failure.end.clone();
        self.falls_short(failure);
        if let Some(first) = &mut self.failure {
            first.end = first.end.take().or(end);
        }
    }

    fn go_back(&mut self) {
        use LeadStep::Hold;
        let holds_nothing = matches!(self.task(), Some(Task::Survey(_) | Task::Note(Hold)));
        self.todo.clear();
        if self.leads && !holds_nothing {
            self.todo.push_back(Task::GoBack);
        }
        if self.leaves {
            self.todo.push_back(Task::Recall);
            return;
        }
        self.todo.extend(self.undoes());
    }

    /// What undoes what was put.
    fn undoes(&self) -> impl Iterator<Item = Task> + use<> {
        let scopes: BTreeSet<Scope> = self.put.iter().map(|piece| piece.scope).collect();
        let is_per_flow = scopes.contains(&Scope::PerFlow);
        let put_back = is_per_flow.then_some(Task::PutBack);
        let removes = scopes.into_iter().map(Task::Remove);
        removes.chain(put_back).chain(self.leads.then_some(Task::Close))
    }

    /// What a scope's pieces are that were carried, as ids, each once.
    pub fn carried(&self, scope: Scope) -> Vec<FlowId> {
        let mut seen = BTreeSet::new();
        self.of(scope).filter(|id| seen.insert(id.one_way())).cloned().collect()
    }

    /// What the destination has of a scope only by this move.
    pub fn to_remove(&self, scope: Scope) -> Vec<FlowId> {
        let own = |id: &&FlowId| {
            scope == Scope::PerFlow || !self.before.contains_key(&(scope, id.one_way()))
        };
        self.of(scope).filter(own).cloned().collect()
    }

    /// The per-flow state that the destination had in the place of what was put.
    pub fn to_put_back(&self) -> Vec<Vec<u8>> {
        let put: BTreeSet<_> = self.of(Scope::PerFlow).map(FlowId::one_way).collect();
        let replaced = put.into_iter().filter_map(|id| self.before.get(&(Scope::PerFlow, id)));
        replaced.flatten().cloned().collect()
    }

    fn of(&self, wanted: Scope) -> impl Iterator<Item = &FlowId> {
        let stays = move |piece: &Piece| {
            let place = || (piece.scope, piece.id.one_way());
            self.moved.as_ref().is_some_and(|moved| !moved.contains_key(&place()))
        };
        let of_scope = self.put.iter().filter(move |piece| piece.scope == wanted && !stays(piece));
        of_scope.map(|piece| &piece.id)
    }

    /// What stays at the source.
    pub fn left_behind(&self) -> &LeftBehind {
        &self.left_behind
    }

    /// How it has ended, when nothing is to be done.
    pub fn ended(&self) -> (State, Option<Failure>) {
        let Some(failure) = &self.failure else { return (State::Done, None) };
        if self.stuck {
            return (State::Failed, Some(failure.clone()));
        }
        if !self.again {
            return (State::Undone, Some(failure.clone()));
        }
        let reason = format!(
            "{}; this attempt is undone, but one before the sidecar was started again may have moved \
             some of it",
            failure.reason
        );
        (State::Failed, Some(Failure { reason, ..failure.clone() }))
    }
}

/// A task for each scope.
fn each(task: fn(Scope) -> Task, scopes: &BTreeSet<Scope>) -> Vec<Task> {
    scopes.iter().copied().map(task).collect()
}

fn bounded(pieces: usize, what: &str) -> Result<(), Failure> {
    if pieces > PIECES_MAX { Err(too_much(what)) } else { Ok(()) }
}

fn too_much(what: &str) -> Failure {
    let most = KEPT_MAX >> 20;
    let reason = format!(
        "{what} than a move carries, {PIECES_MAX} pieces and {most} MiB of flows in the way: name \
         less in the filter"
    );
    Failure::new(FailureKind::TooMuch, reason)
}
