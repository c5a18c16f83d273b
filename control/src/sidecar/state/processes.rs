//! Moves of which an end is a process of its own, or of another node: get, put and del.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use weir_nf_api::client::Query;
use weir_state_transfer::{Chunk, StateFilter, chunk::Scope};

use super::{
    Reins,
    arrival::Arrival,
    carry::{Carrier, Count, decode, delete, put_back, repeated},
    departure::Departure,
    ends::knows_fields,
    lead::{Lead, Led},
    room::Room,
    times::{FINISH_LIMIT, Times, too_late},
};
use crate::{
    sidecar::Sidecar,
    state_manager::{
        end::End,
        lead::{LeadStep, Stage},
        operation::{Failure, FailureKind, MoveAsked, State},
        steps::{Carry, Manner, Steps, Task},
    },
};

/// A move by get, put and del.
pub(super) struct Move {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) reins: Reins,
    pub(super) asked: MoveAsked,
    pub(super) filter: StateFilter,
    pub(super) limit: Duration,
    pub(super) way: Way,
    /// An earlier sidecar has begun it, and left it.
    pub(super) again: bool,
}

/// Where the other end of a move is.
pub(super) enum Way {
    /// Both are of this node.
    Here,
    /// The destination is of another, once that was asked.
    Leaving(Option<Box<Departure>>),
    /// The source is of another.
    Arriving(Box<Arrival>),
    /// Both are of this node, and the data plane leads their packets.
    Led(Box<Lead>),
}

impl Move {
    /// Runs it to its end; one that does not come further when the sidecar stops is left to the next.
    pub(super) async fn run(self) {
        let Self { sidecar, reins, asked, filter, limit, mut way, again } = self;
        let source = sidecar.state().ends.life(&asked.from);
        let (sidecar, filter) = (&sidecar, &filter);
        let job = Job { sidecar, asked: &asked, reins: &reins, filter, limit, source };
        let mut steps = way.steps(filter.clone(), &asked.scopes);
        if again {
            steps = steps.again();
        }
        let mut times = Times::new(limit);
        let acquainted = tokio::select! {
            known = job.acquaint(&mut way, &mut steps, limit) => known,
            failure = reins.cancelled() => Err(failure),
            late = times.late() => Err(late),
        };
        if let Err(failure) = acquainted {
            steps.failed(failure);
        }
        job.tell_undoing(&steps);
        while let Some(task) = steps.task() {
            if matches!(task, Task::Remove(_))
                && let Some(why) = job.source_is_lost().await
            {
                steps.source_is_lost(why);
                continue;
            }
            let outcome = job.attempt(&mut way, &mut steps, task, &mut times).await;
            let Err(failure) = outcome else {
                steps.done();
                sidecar.operation_waits(reins.id, steps.failure());
                continue;
            };
            steps.failed(failure.clone());
            if let Some(wait) = steps.wait() {
                tracing::warn!(operation = reins.id, ?task, why = failure.reason, "is tried again");
                sidecar.operation_waits(reins.id, Some(&failure));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = times.finish(), if task.manner() == Manner::Finishing => {}
                    () = sidecar.stopped() => return,
                }
                if task.manner() == Manner::Insisting {
                    continue;
                }
            }
            // Of these nothing is tried again once their time is over.
            while times.is_over() && is_finishing(&steps) {
                steps.failed(too_late(FINISH_LIMIT));
            }
            job.tell_undoing(&steps);
        }
        // Versions of what has come need not be above those that were copied while it came.
        sidecar.state().versions().moved(&asked.from, &asked.to);
        way.end(sidecar, reins.id, steps.ended()).await;
    }
}

impl Way {
    fn steps(&self, filter: StateFilter, scopes: &BTreeSet<Scope>) -> Steps {
        match self {
            Self::Here => Steps::new(filter, scopes),
            Self::Leaving(_) => Steps::leaving(filter, scopes),
            Self::Arriving(_) => Steps::arriving(filter, scopes),
            Self::Led(lead) => lead.steps(),
        }
    }

    /// Notes how the move has ended, and tells the other node.
    async fn end(self, sidecar: &Sidecar, id: u64, end: (State, Option<Failure>)) {
        match self {
            Self::Here | Self::Leaving(None) => {}
            Self::Led(_) => {
                // It has ended. The data plane may have been started again meanwhile.
                if let Err(fault) = sidecar.program_policies().await {
                    tracing::warn!(error = %fault, "policy routes are not as they shall be");
                }
                return;
            }
            // One that could not delete has the receipt all the same. Its failure is told already.
            Self::Leaving(Some(mut departure)) => drop(departure.release().await),
            Self::Arriving(mut arrival) => {
                sidecar.end_operation(id, end.clone()).await;
                return arrival.end(end.0, end.1.as_ref());
            }
        }
        sidecar.end_operation(id, end).await;
    }
}

/// What all steps of a move have.
pub(super) struct Job<'a> {
    pub(super) sidecar: &'a Arc<Sidecar>,
    pub(super) asked: &'a MoveAsked,
    pub(super) reins: &'a Reins,
    pub(super) filter: &'a StateFilter,
    pub(super) limit: Duration,
    /// By what the process of the source was recognised at first; empty where nothing was known of it.
    source: String,
}

impl Job<'_> {
    /// Sees that both ends answer, and that the destination has the kinds of state of the source.
    async fn acquaint(
        &self,
        way: &mut Way,
        steps: &mut Steps,
        limit: Duration,
    ) -> Result<(), Failure> {
        let MoveAsked { from, to, scopes, .. } = self.asked;
        match way {
            Way::Here => {
                self.sidecar.acquaint((from, to), self.filter, scopes.iter()).await?;
                self.sidecar.recognise_in(steps, to).await
            }
            Way::Led(lead) if lead.is_taken_up() => Ok(()),
            Way::Led(lead) => {
                self.sidecar.acquaint((from, to), self.filter, scopes.iter()).await?;
                lead.acquaint(self.sidecar, to).await?;
                self.sidecar.recognise_in(steps, to).await
            }
            Way::Leaving(departure) => {
                let source = self.sidecar.state().ends.client(from).describe().await;
                let source = source.map_err(|error| Failure::of_call(&error, from))?;
                knows_fields(from, &source, self.filter)?;
                let what = (self.reins.id, self.filter.to_string(), limit);
                let opened = Departure::open(self.sidecar, self.asked, what, &source).await?;
                *departure = Some(Box::new(opened));
                Ok(())
            }
            // That was done before it began.
            Way::Arriving(_) => Ok(()),
        }
    }

    /// Why the source has not got any more what was taken from it, if that is so: it was started again, or
    /// nobody is there. One that hangs has it.
    async fn source_is_lost(&self) -> Option<Failure> {
        let (ends, from) = (&self.sidecar.state().ends, &self.asked.from);
        if self.source.is_empty() {
            return None;
        }
        let why = if ends.life(from) != self.source {
            "it was started again".to_owned()
        } else {
            let failure = Failure::of_call(&ends.client(from).describe().await.err()?, from);
            (failure.kind == FailureKind::Unreachable).then_some(failure.reason)?
        };
        let reason = format!(
            "{from} has lost what was taken from it, as far as anybody knows, so {} keeps that: {why}",
            self.asked.to
        );
        let failure = Failure::new(FailureKind::Unreachable, reason);
        Some(Failure { end: Some(from.clone()), ..failure })
    }

    /// Tells who follows the operation that it goes back, if it does.
    fn tell_undoing(&self, steps: &Steps) {
        if let Some(failure) = steps.undoing().filter(|_| steps.task().is_some()) {
            self.sidecar.undo_operation(self.reins.id, failure);
        }
    }

    /// Carries out a step as it is to be.
    async fn attempt(
        &self,
        way: &mut Way,
        steps: &mut Steps,
        task: Task,
        times: &mut Times,
    ) -> Result<(), Failure> {
        let room = match way {
            Way::Led(lead) => Some(lead.room()),
            _ => None,
        };
        let stage = stage_before(task).filter(|_| matches!(way, Way::Led(_)));
        if let Some(stage) = stage {
            tokio::select! {
                biased;
                () = self.sidecar.pause_at(stage) => {}
                failure = self.reins.cancelled(), if steps.undoable() => return Err(failure),
                late = times.late(), if steps.undoable() => return Err(late),
                full = self.no_room(room.as_ref()), if steps.undoable() => return Err(full),
            }
        }
        let manner = task.manner();
        let step = self.step(way, steps, task);
        match manner {
            Manner::CutOff => tokio::select! {
                outcome = step => outcome,
                failure = self.reins.cancelled() => Err(failure),
                late = times.late() => Err(late),
                full = self.no_room(room.as_ref()) => Err(full),
            },
            Manner::Whole => step.await,
            Manner::Finishing => tokio::select! {
                biased;
                late = times.finish() => Err(late),
                outcome = step => outcome,
            },
            Manner::Insisting => {
                let outcome = tokio::time::timeout(FINISH_LIMIT, step).await;
                outcome.unwrap_or_else(|_| Err(too_late(FINISH_LIMIT)))
            }
        }
    }

    /// Returns why a move goes back whose packets find no room, if any are held.
    async fn no_room(&self, room: Option<&Room>) -> Failure {
        match room {
            Some(room) => room.is_over(self.sidecar).await,
            None => std::future::pending().await,
        }
    }

    /// Carries out a step.
    async fn step(&self, way: &mut Way, steps: &mut Steps, task: Task) -> Result<(), Failure> {
        let ends = &self.sidecar.state().ends;
        let (from, to) = (&self.asked.from, &self.asked.to);
        if let Way::Led(lead) = way
            && let Some(done) = self.lead(lead, task, steps).await
        {
            return done;
        }
        match (task, way) {
            (Task::List(scope), _) => self.list(scope, steps).await,
            (Task::Survey(scope), _) => self.survey(scope, steps).await,
            (Task::Carry(scope), way) => {
                self.sidecar.state().versions().moved(from, to);
                self.carry(way, scope, steps).await
            }
            (Task::Delete(scope), way) => self.delete_moved(way, scope, steps).await,
            (Task::Remove(scope), _) => {
                let deleted = delete((to, &ends.client(to)), scope, &steps.to_remove(scope)).await;
                deleted.map(|deleted| steps.stays(deleted.in_use))
            }
            (Task::PutBack, _) => put_back(to, &ends.client(to), steps.to_put_back()).await,
            (Task::Confirm, Way::Leaving(Some(departure))) => departure.confirm().await,
            (Task::Release, Way::Leaving(Some(departure))) => departure.release().await,
            (Task::Recall, Way::Leaving(Some(departure))) => departure.recall().await,
            (Task::Receive, Way::Arriving(arrival)) => {
                self.sidecar.state().versions().moved(from, to);
                let mut count = Count::new(self.sidecar, self.reins.id);
                let writer = ends.client(to).refusing_older();
                let received = arrival.receive((to, &writer), steps, &mut count).await;
                count.end(Some(arrival.taken()));
                received
            }
            (Task::Hold, Way::Arriving(arrival)) => arrival.hold(steps, self.reins).await,
            // The other node was not asked, so it knows nothing; and no other way has these.
            (Task::Confirm | Task::Release | Task::Recall | Task::Receive | Task::Hold, _)
            | (Task::Note(_) | Task::Stop | Task::Drain | Task::Assure, _)
            | (Task::Lead | Task::Recognise | Task::Unlead | Task::GoBack, _)
            | (Task::Settle | Task::Close, _) => Ok(()),
        }
    }

    /// A step that only a move that leads packets has.
    async fn lead(
        &self,
        lead: &mut Lead,
        task: Task,
        steps: &mut Steps,
    ) -> Option<Result<(), Failure>> {
        let (sidecar, from, to) = (self.sidecar, &self.asked.from, &self.asked.to);
        let done = match task {
            Task::Note(step) => lead.note(sidecar, step, steps.pieces()).await,
            Task::Stop => lead.stop(sidecar, self.limit).await,
            Task::Drain => lead.drain(sidecar, from).await,
            Task::Assure => match lead.assure(sidecar).await {
                Ok(()) => self.recognise(lead, steps).await,
                failed => failed,
            },
            Task::Recognise => match lead.lead_again(sidecar).await {
                Ok(is_restarted) => {
                    if is_restarted {
                        steps.compares();
                    }
                    self.recognise(lead, steps).await
                }
                Err(failure) => Err(failure),
            },
            Task::Lead => lead.lead(sidecar).await.map(|led| match led {
                Led::Well => {}
                Led::Broken(failure) => steps.broke_its_promise(failure),
                Led::Lapsed(failure) => {
                    steps.lets_go(failure);
                    self.tell_undoing(steps);
                }
            }),
            Task::Unlead => lead.unlead(sidecar).await,
            Task::Settle => lead.drain(sidecar, from).await,
            Task::GoBack => lead.go_back(sidecar).await.map(|said| {
                said.iter().for_each(|remark| steps.adds(remark));
            }),
            Task::Close => lead.close(sidecar, steps.ended()).await,
            // One that was taken up may have left the configuration.
            Task::List(_) | Task::Delete(_) => {
                return sidecar.state().ends.known(from).err().map(Err);
            }
            Task::Remove(_) => return sidecar.state().ends.known(to).err().map(Err),
            _ => return None,
        };
        Some(done)
    }

    /// Sees that the destination of a move that leads packets is still the process that it was.
    async fn recognise(&self, lead: &Lead, steps: &mut Steps) -> Result<(), Failure> {
        lead.recognise(self.sidecar, &self.asked.to).await?;
        self.sidecar.recognise_in(steps, &self.asked.to).await
    }

    /// What the source has, of a move that an earlier sidecar has begun.
    async fn list(&self, scope: Scope, steps: &mut Steps) -> Result<(), Failure> {
        let (from, query) = (&self.asked.from, Query::new(self.filter.clone()));
        let failed = |error| Failure::of_call(&error, from);
        let reader = self.sidecar.state().ends.reader(from);
        let mut chunks = reader.get(scope, &query).await.map_err(failed)?;
        steps.lists(scope);
        while let Some(encoded) = chunks.next_encoded().await.map_err(failed)? {
            for bytes in encoded {
                let chunk = decode(&bytes, from)?;
                steps.carry(scope, &chunk.id, chunk.version)?;
            }
        }
        steps.passed_over(scope, chunks.in_use());
        self.tell_in_use(chunks.in_use());
        self.tell_left_behind(steps);
        Ok(())
    }

    /// Tells who follows the operation what stays at the source.
    fn tell_left_behind(&self, steps: &Steps) {
        let left_behind = steps.left_behind().clone();
        self.sidecar.state().progress(self.reins.id, |progress| progress.left_behind = left_behind);
    }

    /// Tells who follows the operation that so many flows more finish at the source.
    pub(super) fn tell_in_use(&self, more: u64) {
        // Nothing holds the source to the truth.
        let add = |in_use: u64| in_use.saturating_add(more);
        self.sidecar
            .state()
            .progress(self.reins.id, |progress| progress.in_use = add(progress.in_use));
    }

    async fn survey(&self, scope: Scope, steps: &mut Steps) -> Result<(), Failure> {
        let (to, query) = (&self.asked.to, Query::new(self.filter.clone()));
        let failed = |error| Failure::of_call(&error, to);
        let reader = self.sidecar.state().ends.reader(to);
        let mut chunks = reader.get(scope, &query).await.map_err(failed)?;
        while let Some(encoded) = chunks.next_encoded().await.map_err(failed)? {
            for bytes in encoded {
                let flow = decode(&bytes, to)?.id;
                steps.there(scope, &flow, bytes)?;
            }
        }
        Ok(())
    }

    async fn carry(&self, way: &mut Way, scope: Scope, steps: &mut Steps) -> Result<(), Failure> {
        let (from, to) = (&self.asked.from, &self.asked.to);
        let ends = &self.sidecar.state().ends;
        // What only overlaps is told apart from what moves by its id.
        let (query, reader) = (Query::new(self.filter.clone()), ends.reader(from));
        let mut count = Count::new(self.sidecar, self.reins.id);
        let (mut kept, told) = (0, &mut count);
        let mut keep = |chunk: &Chunk, size: usize| {
            if !steps.is_new(scope, &chunk.id, chunk.schema, chunk.edition())? {
                // Where a flow of an instance ends, one that was given may take its place.
                let is_instance = matches!(from, End::Instance { .. });
                return if is_instance { Ok(false) } else { Err(repeated(from, &chunk.id)) };
            }
            let put = steps.carry(scope, &chunk.id, chunk.version)? == Carry::Put;
            if put {
                told.add(size);
                kept += 1;
            }
            Ok(put)
        };
        let (taken, in_use, failure) = match way {
            Way::Leaving(Some(departure)) => {
                let sent = departure.carry((from, &reader), (scope, &query), &mut keep).await;
                let (in_use, failure) = sent.map_or_else(|why| (0, Some(why)), |n| (n, None));
                (Some(kept), in_use, failure)
            }
            _ => {
                // What would change nothing there must not be deleted here.
                let to = (to, ends.client(to).refusing_older());
                let carried = Carrier { from: (from, reader), to, scope }.run(&query, keep).await;
                (carried.taken, carried.in_use, carried.failure)
            }
        };
        // One that has taken in less, and does not say why, may have any of it.
        let is_malformed = |failure: &Failure| failure.kind == FailureKind::Malformed;
        if let Some(taken) = taken.filter(|_| !failure.as_ref().is_some_and(is_malformed)) {
            steps.taken(taken);
        }
        count.end(taken);
        self.tell_left_behind(steps);
        self.tell_in_use(in_use);
        if let Some(failure) = failure {
            return Err(failure);
        }
        match way {
            Way::Here | Way::Led(_) => self.sidecar.recognise_in(steps, to).await,
            Way::Leaving(_) | Way::Arriving(_) => Ok(()),
        }
    }
}

fn is_finishing(steps: &Steps) -> bool {
    steps.task().is_some_and(|task| task.manner() == Manner::Finishing)
}

/// Where a move stands still before a task, if a test has it so.
fn stage_before(task: Task) -> Option<Stage> {
    match task {
        Task::Note(LeadStep::Hold) => Some(Stage::Hold),
        Task::Stop => Some(Stage::Held),
        Task::Drain => Some(Stage::Probe),
        Task::Carry(_) => Some(Stage::Carry),
        Task::Note(LeadStep::Lead) => Some(Stage::Lead),
        Task::Lead => Some(Stage::Led),
        Task::Delete(_) => Some(Stage::Delete),
        Task::Close => Some(Stage::End),
        _ => None,
    }
}
