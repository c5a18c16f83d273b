//! Moves between two instances: the data plane's, which this follows.

use std::{sync::Arc, time::Duration};

use super::{FailureKind, Reins};
use crate::{
    sidecar::Sidecar,
    southbound::{ended, scope_message},
    state_manager::{
        end::End,
        operation::{Failure, MoveAsked, Selection, State},
    },
};
use tonic::{Code, Status};
use weir_api::dataplane::v1::{
    Change, Move as Moved, MovePhase, StartMoveRequest, UndoMoveRequest, WatchMoveRequest,
    start_move_request::Selection as Named,
};

/// How long a move may go on that can not be undone any more, and undoing it may take.
const FINISH_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait before a data plane that is not reached is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks the data plane for a move.
pub(super) async fn start(
    sidecar: &Sidecar,
    asked: &MoveAsked,
    request_id: &str,
) -> Result<Moved, Status> {
    let (End::Instance { id: from, .. }, End::Instance { id: to, .. }) = (&asked.from, &asked.to)
    else {
        return Err(Status::internal("the data plane moves between instances only"));
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
    let started = sidecar.southbound().moves().start_move(request).await?.into_inner();
    started.r#move.ok_or_else(|| Status::internal("the data plane tells of no move"))
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
        let mut why: Option<Failure> = None;
        let mut limit = std::pin::pin!(tokio::time::sleep(self.limit));
        let mut last = std::pin::pin!(follow(&sidecar, id, self.begun));
        let end = loop {
            let failure = tokio::select! {
                last = &mut last => break outcome(last, why),
                failure = self.reins.cancelled(), if why.is_none() => failure,
                () = &mut limit => match why {
                    Some(why) => break lost(&why),
                    None => {
                        let reason = format!("it did not end within {:?}", self.limit);
                        Failure::new(FailureKind::Late, reason)
                    }
                },
            };
            if failure.kind == FailureKind::Stopping {
                // The data plane goes on without a sidecar.
                return;
            }
            // One that can not be undone any more refuses, and finishes.
            if undo(&sidecar, &request_id).await.is_ok() {
                sidecar.undo_operation(id, &failure);
            }
            why = Some(failure);
            limit.set(tokio::time::sleep(FINISH_LIMIT));
        };
        sidecar.state().versions().moved(&self.ends.0, &self.ends.1);
        sidecar.end_operation(id, end).await;
    }
}

/// Asks for a move to go back. Its number alone does not tell it: those of a data plane that was
/// started again begin anew.
async fn undo(sidecar: &Sidecar, request_id: &str) -> Result<(), Status> {
    let listed = sidecar.southbound().list_moves().await?;
    let found = listed.iter().find(|listed| listed.request_id == request_id);
    let id = found.ok_or_else(|| Status::not_found("there is no such move"))?.id;
    sidecar.southbound().moves().undo_move(UndoMoveRequest { id }).await.map(drop)
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
        let watched =
            sidecar.southbound().moves().watch_move(WatchMoveRequest { id: number }).await;
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
        Ok(last) if last.phase() == MovePhase::Done => (State::Done, None),
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
        "{}, and the data plane has neither undone nor finished it {FINISH_LIMIT:?} later: see weir \
         move list",
        why.reason
    );
    (State::Failed, Some(Failure { reason, ..why.clone() }))
}
