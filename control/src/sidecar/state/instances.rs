//! Moves between two instances: the data plane's, which this follows.

use std::{sync::Arc, time::Duration};

use super::{FailureKind, Reins, times::FINISH_LIMIT};
use crate::{
    fault::Fault,
    sidecar::Sidecar,
    southbound::{ended, scope_message, transient},
    state_manager::{
        end::End,
        operation::{Failure, MoveAsked, Selection, State},
    },
    store::Ending,
};
use tonic::{Code, Status};
use weir_api::dataplane::v1::{
    Change, Move as Moved, MovePhase, StartMoveRequest, UndoMoveRequest, WatchMoveRequest,
    start_move_request::Selection as Named,
};

/// How long to wait before a data plane that is not reached is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks the data plane for a move.
pub(super) async fn start(
    sidecar: &Sidecar,
    asked: &MoveAsked,
    request_id: &str,
) -> Result<Moved, Fault> {
    let (End::Instance { id: from, .. }, End::Instance { id: to, .. }) = (&asked.from, &asked.to)
    else {
        let message = "the data plane moves between instances only";
        return Err(Fault::from_dataplane(&Status::internal(message)));
    };
    let selection = match &asked.selection {
        // The data plane refuses fields that it does not compare.
        Selection::Filter(filter) => Named::Filter(filter.to_string()),
        Selection::Buckets(buckets) => Named::Buckets(buckets.to_string()),
    };
    let request = StartMoveRequest {
        change: Some(Change { request_id: request_id.to_owned(), generation: 0 }),
        from: *from,
        to: *to,
        selection: Some(selection),
        no_queue: false,
        guarantee: asked.guarantee.into(),
        scopes: asked.scopes.iter().map(|scope| scope_message(*scope).into()).collect(),
        wait: false,
    };
    let started = sidecar.southbound().moves().start_move(request).await;
    let started = started.map_err(|status| Fault::unsure("move", &status))?;
    let none = || Fault::from_dataplane(&Status::internal("the data plane tells of no move"));
    started.into_inner().r#move.ok_or_else(none)
}

/// The move of a request, if the data plane knows it. Its number alone does not tell it: those of a
/// data plane that was started again begin anew.
pub(super) async fn find(sidecar: &Sidecar, request_id: &str) -> Result<Option<Moved>, Status> {
    let mut listed = sidecar.southbound().list_moves().await?.into_iter();
    Ok(listed.find(|listed| listed.request_id == request_id))
}

/// Has the data plane undo the move of a request, and asks until it answers; whether it goes back. One
/// that can not be undone any more finishes.
pub(super) async fn undo(sidecar: &Sidecar, request_id: &str) -> bool {
    loop {
        let asked = async {
            let found = find(sidecar, request_id).await?;
            let id = found.ok_or_else(|| Status::not_found("there is no such move"))?.id;
            sidecar.southbound().moves().undo_move(UndoMoveRequest { id }).await.map(drop)
        };
        match asked.await {
            Ok(()) => return true,
            Err(status) if transient(&status) => tokio::time::sleep(AGAIN).await,
            Err(_) => return false,
        }
    }
}

/// How a move has ended that was to end, and that the data plane does not know.
pub(super) fn ended_unknown(why: Ending) -> (State, Option<Failure>) {
    let (kind, why) = match why {
        Ending::Cancelled => (FailureKind::Cancelled, "it was cancelled"),
        Ending::Over => (FailureKind::Late, "its time was over"),
    };
    let reason = format!(
        "{why}, and how it ended is not known: the data plane does not know the move, as when it was \
         started again"
    );
    (State::Failed, Some(Failure::new(kind, reason)))
}

/// A move that the data plane carries out.
pub(super) struct Follow {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) reins: Reins,
    pub(super) begun: Moved,
    pub(super) ends: (End, End),
    pub(super) limit: Duration,
}

impl Follow {
    /// Follows it to its end.
    pub(super) async fn run(self) {
        let (id, sidecar) = (self.reins.id, Arc::clone(&self.sidecar));
        let request_id = self.begun.request_id.clone();
        let mut last = std::pin::pin!(follow(&sidecar, id, self.begun));
        let late = || {
            let reason = format!("it did not end within {:?}", self.limit);
            Failure::new(FailureKind::Late, reason)
        };
        let why = match self.reins.ending {
            // An earlier sidecar may have had it undone.
            Some(Ending::Cancelled) => Ok(self.reins.cancelled().await),
            Some(Ending::Over) => Ok(late()),
            None => tokio::select! {
                last = &mut last => Err(outcome(last, None)),
                failure = self.reins.cancelled() => Ok(failure),
                () = tokio::time::sleep(self.limit) => {
                    // It holds for the next sidecar, too.
                    sidecar.note_ending(&request_id, Ending::Over).await;
                    Ok(late())
                }
            },
        };
        let end = match why {
            Err(end) => Some(end),
            // The data plane goes on without a sidecar.
            Ok(Failure { kind: FailureKind::Stopping, .. }) => return,
            Ok(why) => {
                let undoing = async {
                    if undo(&sidecar, &request_id).await {
                        sidecar.undo_operation(id, &why);
                    }
                    tokio::time::sleep(FINISH_LIMIT).await;
                };
                let limited = tokio::time::timeout(FINISH_LIMIT, undoing);
                tokio::select! {
                    // What has ended is told, and not asked to go back.
                    biased;
                    last = &mut last => Some(outcome(last, Some(why.clone()))),
                    _late = limited => {
                        sidecar.give_up_operation(id, lost(&why)).await;
                        None
                    }
                }
            }
        };
        sidecar.state().versions().moved(&self.ends.0, &self.ends.1);
        if let Some(end) = end {
            sidecar.end_operation(id, end).await;
        }
    }
}

/// Notes each phase of a move of the data plane; the last, or why there is none.
async fn follow(sidecar: &Sidecar, id: u64, begun: Moved) -> Result<Moved, Failure> {
    let mut seen = begun;
    loop {
        let number = seen.id;
        sidecar.state().progress(id, |progress| progress.moved = Some(seen.clone()));
        if ended(seen.phase()) {
            return Ok(seen);
        }
        let request = WatchMoveRequest { id: number };
        let watched = sidecar.southbound().watched_moves().watch_move(request).await;
        let watched = async {
            let mut stream = watched?.into_inner();
            while let Some(next) = stream.message().await? {
                let Some(next) = next.r#move else { continue };
                if next.request_id != seen.request_id {
                    return Err(Status::not_found("it is another of this number"));
                }
                sidecar.state().progress(id, |progress| progress.moved = Some(next.clone()));
                seen = next;
            }
            Ok(())
        };
        match watched.await {
            Ok(()) if ended(seen.phase()) => {}
            Err(status) if status.code() == Code::NotFound => return Err(unknown()),
            // It is asked again, as long as the operation may take.
            Ok(()) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn unknown() -> Failure {
    let reason = "how the move ended is not known: the data plane does not know the move any more: it \
                  was started again";
    Failure::new(FailureKind::Unreachable, reason)
}

/// What a move of the data plane has come to; `why` it was asked to be undone.
fn outcome(last: Result<Moved, Failure>, why: Option<Failure>) -> (State, Option<Failure>) {
    match last {
        Ok(last) if last.phase() == MovePhase::Done && last.reason.is_empty() => {
            (State::Done, None)
        }
        // It is over, and not all that it was to take along is there.
        Ok(last) if last.phase() == MovePhase::Done => {
            (State::Failed, Some(Failure::new(FailureKind::Dataplane, last.reason)))
        }
        Ok(last) => {
            let own = || Failure::new(FailureKind::Dataplane, last.reason.clone());
            (State::Undone, Some(why.unwrap_or_else(own)))
        }
        Err(failure) => (State::Failed, Some(failure)),
    }
}

/// A move that was asked to be undone, and has neither been nor finished in its time.
fn lost(why: &Failure) -> (State, Option<Failure>) {
    let reason = format!(
        "{}, and the data plane has neither undone nor finished it {FINISH_LIMIT:?} later; it is asked \
         to undo it when the sidecar reaches it again: see weir move list",
        why.reason
    );
    (State::Failed, Some(Failure { reason, ..why.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_is_done_and_has_lost_something_has_failed_and_says_why() {
        let ended = |phase: MovePhase, reason: &str| {
            let last = Moved { phase: phase.into(), reason: reason.to_owned(), ..Moved::default() };
            let (state, failure) = outcome(Ok(last), None);
            (state, failure.map(|failure| (failure.kind, failure.reason)))
        };
        let why = |reason: &str| Some((FailureKind::Dataplane, reason.to_owned()));
        assert_eq!(ended(MovePhase::Done, ""), (State::Done, None));
        assert_eq!(ended(MovePhase::Done, "it panicked"), (State::Failed, why("it panicked")));
        assert_eq!(ended(MovePhase::Undone, "no room"), (State::Undone, why("no room")));
    }
}
