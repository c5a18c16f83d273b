//! Operations on state as they run: a task each, around the logic of the state manager.

mod arrival;
mod arrivals;
mod begin;
mod carry;
mod copy;
mod deletion;
mod departure;
mod ends;
mod instances;
mod lead;
mod listing;
mod notify;
mod opening;
mod probe;
mod processes;
mod room;
mod share;
mod sharing;
mod take_up;
#[cfg(test)]
mod tests;
mod times;
mod transfer_message;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;
use tonic::Code;
use weir_api::v1::{StateOperation, StateOperationKind, StateOperationState};
use weir_state_transfer::Nanos;

use self::{arrivals::Arrivals, ends::Ends, take_up::Unsettled};
pub(crate) use self::{
    ends::Listed,
    listing::{Found, not_taken_up},
    notify::Notice,
    transfer_message::outcome_to as outcome_message,
};
use super::{Sidecar, peer::Peers};
use crate::{
    config::Control,
    fault::Fault,
    service::{goes_on, state_message},
    state_manager::{
        operation::{Asked, Failure, FailureKind, Operation, Progress, State},
        table::{BeginError, Table},
        versions::Versions,
    },
    store::{Database, Ending, Numbered, StoreError},
};

/// How long operations may take to end when the sidecar stops.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long an end may take to answer one call, or to take the next of what is put.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long an end may take for the next piece of a get, or to say what it is: less, so that who waits
/// for that is not blamed.
const GET_LIMIT: Duration = Duration::from_secs(5);

/// All operations on state, and the ends that they reach.
#[derive(Debug)]
pub(crate) struct StateOperations {
    table: watch::Sender<Table>,
    unsettled: Unsettled,
    versions: Mutex<Versions>,
    running: Mutex<BTreeMap<u64, Running>>,
    /// Has a receiver for each operation that has ended and of which the store is yet to keep how.
    keeping: watch::Sender<()>,
    pub(crate) ends: Ends,
    pub(crate) peers: Peers,
    pub(crate) arrivals: Arrivals,
}

/// What others have of an operation in progress.
#[derive(Debug)]
struct Running {
    /// Tells it to end, and why.
    cancel: watch::Sender<Option<FailureKind>>,
    /// Has a receiver for each stream of it.
    readers: watch::Sender<()>,
}

/// What an operation's task has of it. When it is dropped and the operation has not ended, as when
/// its caller goes away while it is begun, the operation is forgotten; when its task panics, it has
/// failed, or is taken up.
#[derive(Debug)]
pub(super) struct Reins {
    sidecar: Arc<Sidecar>,
    pub(super) id: u64,
    /// An earlier sidecar has begun it, or an attempt of which nobody knows how far it came.
    pub(super) again: bool,
    /// It was to end before this began, and why.
    pub(super) ending: Option<Ending>,
    cancel: watch::Receiver<Option<FailureKind>>,
    readers: watch::Sender<()>,
}

/// Held by who follows an operation.
pub(crate) type Reader = watch::Receiver<()>;

impl StateOperations {
    pub(super) fn new(control: &Control) -> Self {
        Self {
            table: watch::Sender::new(Table::default()),
            unsettled: Unsettled::default(),
            versions: Mutex::default(),
            running: Mutex::default(),
            keeping: watch::Sender::default(),
            ends: Ends::new(control),
            peers: Peers::new(control),
            arrivals: Arrivals::default(),
        }
    }

    /// All operations, as they change.
    pub(crate) fn watch(&self) -> watch::Receiver<Table> {
        self.table.subscribe()
    }

    /// Follows an operation that is in progress.
    pub(crate) fn follow(&self, id: u64) -> Option<Reader> {
        self.running().get(&id).map(|running| running.readers.subscribe())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().expect("nobody panics while it is held")
    }

    pub(super) fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().expect("nobody panics while it is held")
    }

    /// Whether a move in progress leads packets.
    pub(in crate::sidecar) fn leads(&self) -> bool {
        self.table.borrow().leading().is_some()
    }

    pub(super) fn progress(&self, id: u64, note: impl FnOnce(&mut Progress)) {
        self.table.send_modify(|table| table.progress(id, note));
    }

    /// Whether an operation in progress was asked for by a request.
    pub(super) fn goes_on(&self, request_id: &str) -> bool {
        self.table.borrow().goes_on(request_id)
    }

    /// Notes that an operation is another from here on.
    fn change(&self, id: u64, asked: Asked) {
        self.table.send_modify(|table| table.change(id, asked));
    }

    /// Notes that events of a notification were told, or were lost.
    fn count_events(&self, id: u64, events: u64, lost: u64) {
        // Nobody waits for that: who follows the notification has the events.
        self.table.send_if_modified(|table| {
            table.progress(id, |progress| {
                progress.events += events;
                progress.events_lost += lost;
            });
            false
        });
    }

    /// Forgets an operation that has not begun after all, or that goes on without this sidecar.
    fn forget(&self, id: u64) {
        self.running().remove(&id);
        self.table.send_if_modified(|table| table.forget(id));
    }

    /// Tells all operations that the sidecar stops, and waits until they have ended and the store has
    /// how.
    pub(super) async fn stop(&self) {
        for running in self.running().values() {
            running.cancel.send_replace(Some(FailureKind::Stopping));
        }
        let mut table = self.watch();
        let ended = async {
            // What it gives keeps the table from others.
            drop(table.wait_for(|table| table.running() == 0).await);
            self.keeping.closed().await;
        };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::warn!("operations on state are cut off");
        }
    }
}

impl Drop for Reins {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.sidecar.state.forget(self.id);
        }
        let (sidecar, id) = (Arc::clone(&self.sidecar), self.id);
        tokio::spawn(async move { sidecar.end_cut_off(id).await });
    }
}

impl Reins {
    /// Ends when the operation is told to end.
    pub(super) async fn cancelled(&self) -> Failure {
        let mut cancel = self.cancel.clone();
        let told = cancel.wait_for(Option::is_some).await;
        // A sender that has gone is as good.
        let kind = told.ok().and_then(|kind| kind.clone()).unwrap_or(FailureKind::Stopping);
        let reason = match kind {
            FailureKind::Stopping => "the sidecar stops",
            _ => "it was cancelled",
        };
        Failure::new(kind, reason)
    }

    /// Ends when the operation is told to end, or, if it lives with its streams, when the last of
    /// them has ended.
    pub(super) async fn cancelled_or_abandoned(&self, with_streams: bool) -> Failure {
        let readers = self.readers.clone();
        tokio::select! {
            failure = self.cancelled() => failure,
            () = readers.closed(), if with_streams => {
                Failure::new(FailureKind::Cancelled, "nobody reads its stream any more")
            }
        }
    }
}

impl Sidecar {
    /// Operations on state.
    pub(crate) fn state(&self) -> &StateOperations {
        &self.state
    }

    /// Time as the state manager sees it.
    pub(crate) fn now(&self) -> Nanos {
        Nanos(self.clock.now_ns())
    }

    /// Takes in an operation under a number of its own, or under that which it had before: at an
    /// attempt that was not answered, or at an earlier sidecar. One that was cancelled before it is
    /// told so again.
    pub(super) async fn begin_operation(
        self: &Arc<Self>,
        asked: Asked,
        request_id: &str,
        id: Option<u64>,
    ) -> Result<(Operation, Reins, Reader), Fault> {
        self.state.table.borrow().check(&asked).map_err(refused)?;
        let of = request_id.to_owned();
        let Numbered { id, again, ending } = match id {
            Some(id) => {
                let ending = self.store.run(move |database| database.take_up(&of)).await?;
                Numbered { id, again: true, ending }
            }
            None => self.store.run(move |database| database.number_operation(&of)).await?,
        };
        let operation = self.operation_of(id, request_id, asked);
        let mut begun = Ok(());
        let taken = operation.clone();
        self.state.table.send_modify(|table| begun = table.begin(taken));
        begun.map_err(refused)?;
        let (reins, reader) = self.reins(Numbered { id, again, ending });
        if self.stopping() {
            return Err(Fault::new(Code::Unavailable, "STOPPING", "the sidecar stops"));
        }
        tracing::info!(operation = id, asked = ?operation.asked, "begins");
        Ok((operation, reins, reader))
    }

    /// Takes in an operation that an earlier sidecar has begun and that goes on whatever else does.
    async fn go_on_with(
        self: &Arc<Self>,
        asked: Asked,
        request_id: &str,
        id: u64,
    ) -> (Reins, Reader) {
        let of = request_id.to_owned();
        if let Err(error) = self.store.run(move |database| database.take_up(&of)).await {
            tracing::warn!(%error, operation = id, "that an operation goes on is not kept");
        }
        let operation = self.operation_of(id, request_id, asked);
        self.state.table.send_modify(|table| table.go_on(operation));
        // It takes no orders any more.
        self.reins(Numbered { id, again: true, ending: None })
    }

    fn operation_of(&self, id: u64, request_id: &str, asked: Asked) -> Operation {
        Operation {
            id,
            request_id: request_id.to_owned(),
            asked,
            state: State::Running,
            progress: Progress::default(),
            failure: None,
            started: self.now(),
            ended: None,
            started_unix_ns: self.clock.unix_ns(),
        }
    }

    fn reins(self: &Arc<Self>, Numbered { id, again, ending }: Numbered) -> (Reins, Reader) {
        let is_cancelled = ending == Some(Ending::Cancelled);
        let (cancel, cancelled) = watch::channel(is_cancelled.then_some(FailureKind::Cancelled));
        let (readers, reader) = watch::channel(());
        let sidecar = Arc::clone(self);
        let readers_of = readers.clone();
        let reins = Reins { sidecar, id, again, ending, cancel: cancelled, readers: readers_of };
        self.state.running().insert(id, Running { cancel, readers });
        (reins, reader)
    }

    /// Refuses to remove instances that state is moved from or to: what comes would go with them, and
    /// nobody could undo. Moves between instances are the data plane's, which sees to both.
    pub(super) fn refuse_during_state_moves(&self, removed: &[String]) -> Result<(), Fault> {
        let table = self.state.table.borrow();
        let Some((id, name)) = table.moves_at(removed) else { return Ok(()) };
        let message = format!("operation {id} moves state from or to {name}, which would go");
        Err(Fault::precondition("OPERATION_IN_THE_WAY", message)
            .object(format!("operations/{id}"))
            .fix(format!("wait until it has ended, or weir operation cancel {id}")))
    }

    /// Notes how an operation has ended, for who follows it and for who asks again.
    pub(super) async fn end_operation(&self, id: u64, end: (State, Option<Failure>)) {
        self.note_end(id, end, false).await;
    }

    /// The same of one whose share or move the data plane may not have ended.
    pub(super) async fn give_up_operation(&self, id: u64, end: (State, Option<Failure>)) {
        self.note_end(id, end, true).await;
    }

    async fn note_end(&self, id: u64, end: (State, Option<Failure>), goes_on: bool) {
        let now = self.now();
        let _keeping = self.state.keeping.subscribe();
        let mut ended = None;
        self.state.table.send_modify(|table| ended = table.end(id, end, now));
        self.state.running().remove(&id);
        let Some(operation) = ended else { return };
        tell_end(&operation);
        let Some((id, answer)) = answer_to(&operation, now) else { return };
        let kept = self.store.keep(move |database| database.amend(&id, &answer, goes_on)).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "how an operation ended is not kept");
        }
    }

    /// Notes how a move has ended that is in the journal, and forgets it there. Until both are kept it
    /// goes on.
    async fn end_led_operation(
        &self,
        id: u64,
        end: (State, Option<Failure>),
    ) -> Result<(), StoreError> {
        let now = self.now();
        let ended = self.state.table.borrow().ending(id, end.clone(), now);
        let answer = ended.as_ref().and_then(|ended| answer_to(ended, now));
        let job = move |database: &mut Database| {
            let answer = answer.as_ref().map(|(id, answer)| (id.as_str(), answer.as_slice()));
            database.end_lead(id, answer)
        };
        self.store.keep(job).await?;
        self.state.table.send_modify(|table| drop(table.end(id, end, now)));
        self.state.running().remove(&id);
        ended.iter().for_each(tell_end);
        Ok(())
    }

    /// Notes why a move does not come further now, or goes back; none when it goes on.
    pub(super) fn operation_waits(&self, id: u64, why: Option<&Failure>) {
        self.state.table.send_if_modified(|table| table.waits(id, why));
    }

    /// What is answered now to the request of an operation that this sidecar knows.
    pub(super) fn state_answer(&self, request_id: &str) -> Option<Vec<u8>> {
        let (table, now) = (self.state.table.borrow(), self.now());
        table.of_request(request_id).map(|operation| answer_of(operation, now))
    }

    /// Notes that a move goes back.
    pub(super) fn undo_operation(&self, id: u64, failure: &Failure) {
        self.state.table.send_modify(|table| table.undo(id, failure));
    }

    /// Tells an operation to end: this sidecar, or the next if this one dies before. One that nobody
    /// follows yet is ended by who takes it up, so that the data plane is not asked here. The caller
    /// holds the right to change.
    pub(crate) async fn cancel_operation(&self, id: u64) -> Result<StateOperation, Fault> {
        let operation = match self.look_for(id).await? {
            Found::Here(operation) if !operation.state.ended() => {
                state_message(&operation, self.now())
            }
            Found::Kept(kept) if goes_on(kept.state()) => *kept,
            Found::Kept(kept) if kept.state() == StateOperationState::Left => {
                let message = format!("operation {id} was left: {}", kept.reason);
                return Err(Fault::precondition("OPERATION_LEFT", message)
                    .object(format!("operations/{id}"))
                    .fix("ask for it again with its request id, then cancel it"));
            }
            Found::Here(_) | Found::Kept(_) => {
                let message = format!("operation {id} has ended: there is nothing to cancel");
                let fault = Fault::precondition("OPERATION_ENDED", message);
                return Err(fault.object(format!("operations/{id}")));
            }
        };
        let request_id = operation.request_id.clone();
        let cancelled = Ending::Cancelled;
        self.store.run(move |database| database.to_end(&request_id, cancelled)).await?;
        if !self.tell_cancelled(id) && operation.kind() == StateOperationKind::Share {
            self.state.unsettled.add(&operation.request_id);
        }
        Ok(operation)
    }

    /// Tells the task of an operation that it was cancelled; whether it has one.
    fn tell_cancelled(&self, id: u64) -> bool {
        let running = self.state.running();
        let Some(running) = running.get(&id) else { return false };
        running.cancel.send_replace(Some(FailureKind::Cancelled));
        true
    }
}

fn tell_end(operation: &Operation) {
    let why = operation.failure.as_ref().map_or("", |failure| failure.reason.as_str());
    tracing::info!(operation = operation.id, state = ?operation.state, why, "ended");
}

/// The request of an operation that has ended, and what it is answered from now on; what a sidecar ends
/// because it stops, the next takes up all the same.
fn answer_to(operation: &Operation, now: Nanos) -> Option<(String, Vec<u8>)> {
    let is_told = !operation.request_id.is_empty();
    is_told.then(|| (operation.request_id.clone(), answer_of(operation, now)))
}

/// The answer to the request of an operation: all have the same form.
fn answer_of(operation: &Operation, now: Nanos) -> Vec<u8> {
    listing::answer_with(state_message(operation, now))
}

fn refused(error: BeginError) -> Fault {
    match error {
        BeginError::InTheWay(id) => {
            let message = format!("operation {id} is about the same state: {error}");
            Fault::precondition("OPERATION_IN_THE_WAY", message)
                .object(format!("operations/{id}"))
                .fix(format!("wait until it has ended, or weir operation cancel {id}"))
        }
        BeginError::Full => {
            Fault::new(Code::ResourceExhausted, "OPERATIONS_MAX", error.to_string())
                .object("operations")
                .fix("wait until one has ended, or cancel one: weir operation list")
        }
    }
}
