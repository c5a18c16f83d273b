//! What an earlier sidecar has left, and requests of which nobody knows whether they were carried
//! out: found at the data plane, and taken up or ended.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use prost::{Message as _, Name as _};
use tonic::Code;
use weir_api::{
    dataplane::v1::{Share, SharePhase},
    v1::{MoveRequest, ShareRequest, StateOperation, StateOperationKind},
};

use super::{
    Reader, instances,
    lead::Lead,
    listing::{answer_with, going_on, not_taken_up, operation_in},
    processes::{Move, Way},
    sharing,
    times::FINISH_LIMIT,
};
use crate::{
    fault::Fault,
    service::goes_on,
    sidecar::{Sidecar, changes::LIMIT},
    southbound::ended,
    state_manager::{
        end::End,
        operation::{Asked, Failure, FailureKind, MoveAsked, Operation, Selection, State},
    },
    store::{Answer, Ending, LedMove, StoreError},
};

/// How long the right to change is held for something to end that nobody follows.
const END_LIMIT: Duration = Duration::from_secs(5);
/// The wait until it is seen what a task has left that a fault has cut off: a fault that comes again
/// comes no faster.
const CUT_OFF_WAIT: Duration = Duration::from_secs(1);
/// Times that the data plane is looked at for what it may have begun late, once each time that it is
/// read (`[scaling] interval`).
const LOOKS: u32 = 30;
/// Requests that are looked for at one time. Of more the store has them, and the next sidecar looks,
/// or this one when it has reached the data plane anew.
const UNSETTLED_MAX: usize = 64;

/// Requests for shares that nobody follows: the data plane was sent them and may carry them out yet, or
/// has them and is to end them.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Mutex<BTreeMap<String, u32>>);

impl Unsettled {
    /// One more.
    pub(super) fn add(&self, request_id: &str) {
        let mut all = self.all();
        if all.len() < UNSETTLED_MAX {
            all.insert(request_id.to_owned(), LOOKS);
        }
    }

    fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The data plane was looked at.
    fn looked(&self) {
        self.all().retain(|_, looks| {
            *looks -= 1;
            *looks > 0
        });
    }

    fn settled(&self, request_id: &str) {
        self.all().remove(request_id);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

impl Sidecar {
    /// Goes on with all moves that earlier sidecars have left in the journal: from the first moment on
    /// they are in the way of others about the same.
    pub(in crate::sidecar) async fn take_up_led_moves(self: &Arc<Self>) -> Result<(), StoreError> {
        for row in self.store.run(|database| database.led_moves()).await? {
            self.take_up_led_move(row).await;
        }
        Ok(())
    }

    /// Goes on with a move that the journal has, and no task.
    async fn take_up_led_move(self: &Arc<Self>, row: LedMove) {
        tracing::info!(operation = row.operation, step = ?row.step, "takes up a move");
        let asked = MoveAsked {
            from: End::Nf(row.ends.0.clone()),
            to: End::Nf(row.ends.1.clone()),
            selection: Selection::Filter(row.filter.clone()),
            scopes: row.scopes.clone(),
            guarantee: row.guarantee,
        };
        let begun = Asked::Move(asked.clone());
        let (reins, reader) = self.go_on_with(begun, &row.request_id, row.operation).await;
        let moved = Move {
            sidecar: Arc::clone(self),
            reins,
            asked,
            filter: row.filter.clone(),
            limit: FINISH_LIMIT,
            way: Way::Led(Box::new(Lead::taken_up(row))),
            again: false,
        };
        tokio::spawn(async move {
            let _followed = reader;
            moved.run().await;
        });
    }

    /// Sees to an operation whose task a fault has cut off, so that who waits for its end gets one.
    /// A move that the journal has is taken up, as packets may be held; a share of the data plane is
    /// ended as one that nobody follows.
    pub(super) async fn end_cut_off(self: &Arc<Self>, id: u64) {
        let journal = loop {
            tokio::select! {
                () = tokio::time::sleep(CUT_OFF_WAIT) => {}
                () = self.stopped() => return self.state.forget(id),
            }
            match self.store.keep(|database| database.led_moves()).await {
                Ok(journal) => break journal,
                Err(error) => tracing::warn!(%error, operation = id, "what it left is not read"),
            }
        };
        if let Some(row) = journal.into_iter().find(|row| row.operation == id) {
            return self.take_up_led_move(row).await;
        }
        let found = self.state.table.borrow().find(id).cloned();
        let Some(Operation { asked, request_id, .. }) = found else { return };
        let reason = "a fault of the sidecar has cut it off, of which the log of the sidecar tells: \
                      what it has done until then is not undone";
        let end = (State::Failed, Some(Failure::new(FailureKind::Internal, reason)));
        if matches!(asked, Asked::Share(_)) {
            self.give_up_operation(id, end).await;
            self.state.unsettled.add(&request_id);
        } else {
            self.end_operation(id, end).await;
        }
    }

    /// Takes up what others have left at the data plane, when that is reached anew, and else what may
    /// have been begun there meanwhile.
    pub(in crate::sidecar) async fn take_up_left(
        self: &Arc<Self>,
        anew: bool,
    ) -> Result<(), Fault> {
        // Moves that can not be taken up yet keep no share from being so.
        let moves = if anew { self.take_up_cancelled_moves(None).await } else { Ok(()) };
        if anew || !self.state.unsettled.is_empty() {
            self.take_up_shares().await?;
        }
        moves
    }

    /// Takes up one that goes on and that nobody follows, for who asks about it.
    pub(super) async fn take_up_kept(self: &Arc<Self>, kept: &StateOperation) -> Result<(), Fault> {
        let job = async {
            match kept.kind() {
                StateOperationKind::Share => self.take_up_shares().await,
                _ => self.take_up_cancelled_moves(Some(&kept.request_id)).await,
            }
        };
        tokio::time::timeout(LIMIT, job).await.unwrap_or_else(|_| {
            let message = format!("operation {} is not taken up within {LIMIT:?}", kept.id);
            Err(Fault { message, ..not_taken_up(kept.id) })
        })
    }

    /// Takes a move or a copy up again that an earlier sidecar left, unless this one knows it: it is
    /// kept as `known`, which goes on or was ended by a sidecar that stopped.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        known: &StateOperation,
        begin: impl AsyncFnOnce(u64) -> Result<(Operation, Reader), Fault>,
    ) -> Result<Option<Reader>, Fault> {
        let _guard = self.turn().await?;
        let id = known.id;
        if self.state.table.borrow().find(id).is_some() {
            return Ok(self.state.follow(id));
        }
        tracing::info!(operation = id, "is taken up again");
        let has_ended = !goes_on(known.state());
        if has_ended {
            // Should this sidecar die, it is not told that it has ended.
            let (of, answer) = (known.request_id.clone(), answer_with(going_on(known)));
            self.store.run(move |database| database.amend(&of, &answer, true)).await?;
        }
        let begun = begin(id).await;
        let has_not_begun = |fault: &Fault| has_ended || fault.code != Code::Unavailable;
        if begun.as_ref().is_err_and(has_not_begun) {
            let (of, answer) = (known.request_id.clone(), answer_with(known.clone()));
            self.store.keep(move |database| database.amend(&of, &answer, false)).await?;
        }
        begun.map(|(_, reader)| Some(reader))
    }

    /// Carries out what moves were told that an earlier sidecar has begun: to go back. One that it has
    /// given up, or that can not be taken up for good, is undone if it still can be. One that can not
    /// be now, as an end does not answer or too much goes on, stays, and the others do not wait for it.
    /// With `only`, that of this request alone.
    ///
    /// # Errors
    /// Why some are left: they are tried again.
    async fn take_up_cancelled_moves(self: &Arc<Self>, only: Option<&str>) -> Result<(), Fault> {
        let mut all = self.store.run(|database| database.ending(&MoveRequest::full_name())).await?;
        all.retain(|answer| only.is_none_or(|only| answer.request_id == only));
        let mut left = Ok(());
        for answer in all {
            if self.state.goes_on(&answer.request_id) {
                continue;
            }
            if let Err(fault) = self.take_up_cancelled_move(&answer).await {
                tracing::warn!(request_id = answer.request_id, %fault, "it is not taken up yet");
                left = Err(fault);
            }
        }
        left
    }

    async fn take_up_cancelled_move(self: &Arc<Self>, answer: &Answer) -> Result<(), Fault> {
        let known = operation_of(answer).filter(|known| goes_on(known.state()));
        if let Some(known) = known {
            let request = MoveRequest::decode(answer.request.as_slice()).unwrap_or_default();
            match self.end_move(known.id, &request).await {
                Err(fault) if !passes(&fault) => {
                    tracing::warn!(operation = known.id, %fault, "it is not taken up again");
                }
                taken_up => return taken_up,
            }
        }
        self.undo_left(&answer.request_id).await
    }

    /// Takes up a move that is to end, unless this sidecar knows it.
    async fn end_move(self: &Arc<Self>, id: u64, request: &MoveRequest) -> Result<(), Fault> {
        let _guard = self.changes.lock().await;
        if self.state.table.borrow().find(id).is_some() {
            return Ok(());
        }
        tracing::info!(operation = id, "is taken up again, to end");
        self.begin_state_move(request, Some(id)).await.map(drop)
    }

    /// Undoes a move that was given up, if it has not ended.
    async fn undo_left(&self, request_id: &str) -> Result<(), Fault> {
        let found = instances::find(self, request_id).await;
        let found = found.map_err(|status| Fault::from_dataplane(&status))?;
        if found.is_some_and(|found| !ended(found.phase())) {
            tracing::info!(request_id, "undoes a move that was given up");
            let undoing = instances::undo(self, request_id);
            if tokio::time::timeout(END_LIMIT, undoing).await.is_err() {
                let message = "the data plane does not undo a move";
                return Err(Fault::new(Code::Unavailable, "DATAPLANE_UNREACHABLE", message));
            }
        }
        let request_id = request_id.to_owned();
        Ok(self.store.keep(move |database| database.close(&request_id)).await?)
    }

    /// Takes up the shares that an earlier sidecar began, by what it was asked; those that the data
    /// plane does not have any more, too, so that it is told how they ended. One that nobody was told
    /// of, or that could not be ended, is ended.
    pub(crate) async fn take_up_shares(self: &Arc<Self>) -> Result<(), Fault> {
        let _guard = self.changes.lock().await;
        // What is begun while it is listed would be taken for unknown.
        let listed = self.southbound.list_shares().await;
        let listed = listed.map_err(|status| Fault::from_dataplane(&status))?;
        let begun = self.store.run(|database| database.begun(&ShareRequest::full_name())).await?;
        self.state.unsettled.looked();
        for answer in begun {
            if self.state.goes_on(&answer.request_id) {
                continue;
            }
            let share = listed.iter().find(|share| share.request_id == answer.request_id);
            let known = operation_of(&answer).filter(|known| goes_on(known.state()));
            let Some(known) = known else {
                self.end_unfollowed(answer, share).await;
                continue;
            };
            let operation = known.id;
            if self.state.table.borrow().find(operation).is_some() {
                continue;
            }
            match self.adopt_share(known, &answer, share).await {
                Ok(()) => self.state.unsettled.settled(&answer.request_id),
                Err(fault) => tracing::warn!(operation, %fault, "it is not taken up again"),
            }
        }
        Ok(())
    }

    /// Ends a share that no operation follows, if it goes on.
    async fn end_unfollowed(&self, answer: Answer, share: Option<&Share>) {
        let request_id = answer.request_id;
        if let Some(share) = share {
            if share.phase() != SharePhase::Ended {
                tracing::info!(share = share.id, "ends a share that no operation follows");
                let ending = sharing::end(self, &request_id);
                if tokio::time::timeout(END_LIMIT, ending).await.is_err() {
                    // Nobody else can change anything meanwhile: it is ended when the data plane is
                    // reached again.
                    tracing::warn!(share = share.id, "the data plane does not end it");
                    self.state.unsettled.add(&request_id);
                    return;
                }
            }
            self.state.unsettled.settled(&request_id);
        }
        if answer.goes_on {
            let closed = self.store.keep(move |database| database.close(&request_id)).await;
            if let Err(error) = closed {
                tracing::warn!(%error, "that a share is over is not kept");
            }
        }
    }

    /// Writes down that what a request has begun is to end, before it is ended.
    pub(super) async fn note_ending(&self, request_id: &str, why: Ending) {
        let id = request_id.to_owned();
        if let Err(error) = self.store.keep(move |database| database.to_end(&id, why)).await {
            tracing::warn!(%error, request_id, "that it is to end is not kept");
        }
    }
}

/// Whether what is refused may be done when it is asked again later.
fn passes(fault: &Fault) -> bool {
    use Code::{Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown};
    // What goes on now ends.
    ["OPERATION_IN_THE_WAY", "OPERATION_IN_PROGRESS"].contains(&&*fault.reason)
        || [Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown]
            .contains(&fault.code)
}

/// The operation that an answer tells of.
fn operation_of(answer: &Answer) -> Option<StateOperation> {
    operation_in(&answer.response).filter(|_| answer.answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_passes_and_what_is_wrong_does_not() {
        let refused = |reason| Fault::precondition(reason, "it is refused");
        for reason in ["OPERATION_IN_THE_WAY", "OPERATION_IN_PROGRESS"] {
            assert!(passes(&refused(reason)), "{reason}");
        }
        assert!(!passes(&refused("NOT_LOSS_FREE")));
        assert!(passes(&Fault::new(Code::Unavailable, "DATAPLANE_UNREACHABLE", "nobody answers")));
    }
}
