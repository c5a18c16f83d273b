//! A share of the data plane, followed until it has ended.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tonic::{Code, Status};
use weir_api::dataplane::v1::{
    Change, EndShareRequest, Share, SharePhase, StartShareRequest, WatchShareRequest,
};

use super::{Reins, times::FINISH_LIMIT};
use crate::{
    fault::Fault,
    sidecar::Sidecar,
    southbound::{scope_message, transient},
    state_manager::{
        end::End,
        operation::{Asked, Failure, FailureKind, ShareAsked, State},
    },
    store::Ending,
};

/// How long to wait before a data plane that is not reached is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks the data plane for a share. One of which the caller will not know, as it goes away meanwhile
/// or the data plane does not answer, is looked for and ended.
pub(super) async fn start(
    sidecar: &Arc<Sidecar>,
    asked: &ShareAsked,
    request_id: &str,
) -> Result<Share, Fault> {
    let request = StartShareRequest {
        change: Some(Change { request_id: request_id.to_owned(), generation: 0 }),
        instances: asked.instances.iter().filter_map(End::number).collect(),
        // The data plane refuses fields that sources do not have.
        filter: asked.filter.to_string(),
        scopes: asked.scopes.iter().map(|scope| scope_message(*scope).into()).collect(),
        mode: asked.mode.into(),
    };
    let (tell, told) = oneshot::channel();
    let (asking, id) = (Arc::clone(sidecar), request_id.to_owned());
    tokio::spawn(async move {
        let answer = asking.southbound().shares().start_share(request).await;
        if answer.as_ref().is_err_and(transient) {
            asking.state().unsettled.add(&id);
        }
        if tell.send(answer).is_err() {
            asking.state().unsettled.add(&id);
        }
    });
    let answer = told.await.unwrap_or_else(|_| Err(Status::unknown("nobody asks for the share")));
    let share = answer.map_err(|status| Fault::unsure("share", &status))?;
    let none = || Fault::from_dataplane(&Status::internal("the data plane tells of no share"));
    share.into_inner().share.ok_or_else(none)
}

/// The share of a request, unless it is over. Its number alone does not tell it: those of a data
/// plane that was started again begin anew.
pub(super) async fn find(sidecar: &Sidecar, request_id: &str) -> Result<Option<Share>, Status> {
    let listed = sidecar.southbound().list_shares().await?;
    let mut of_it = listed.into_iter().filter(|share| share.request_id == request_id);
    Ok(of_it.find(|share| share.phase() != SharePhase::Ended))
}

/// Has the data plane end the share of a request. It is asked until it has been.
pub(super) async fn end(sidecar: &Sidecar, request_id: &str) {
    loop {
        let ended = async {
            let found = find(sidecar, request_id).await?;
            let Some(share) = found else { return Ok(()) };
            let asked = EndShareRequest { change: None, id: share.id };
            sidecar.southbound().shares().end_share(asked).await.map(drop)
        };
        match ended.await.map_err(|status: Status| status.code()) {
            // One that it does not know, or that has ended, shares nothing.
            Ok(()) | Err(Code::NotFound | Code::FailedPrecondition) => return,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// A share that the data plane carries out.
pub(super) struct Follow {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) reins: Reins,
    pub(super) begun: Share,
    /// How long it may still last; none if it lasts until it is cancelled.
    pub(super) left: Option<Duration>,
}

/// Why a share is to end.
enum Why {
    /// Its time is over.
    Over,
    Told(Failure),
}

impl Follow {
    /// Follows it to its end.
    pub(super) async fn run(self) {
        let Self { sidecar, reins, begun, left } = self;
        let (id, request_id) = (reins.id, begun.request_id.clone());
        let over = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let mut last = std::pin::pin!(follow(&sidecar, id, begun));
        let why = match reins.ending {
            // An earlier sidecar may have had it ended.
            Some(Ending::Cancelled) => Why::Told(reins.cancelled().await),
            Some(Ending::Over) => Why::Over,
            None => tokio::select! {
                last = &mut last => return sidecar.end_operation(id, outcome(last, None)).await,
                failure = reins.cancelled() => Why::Told(failure),
                () = over => Why::Over,
            },
        };
        if let Why::Over = why {
            // A cancel is written down before it is answered.
            sidecar.note_ending(&request_id, Ending::Over).await;
        }
        if let Why::Told(Failure { kind: FailureKind::Stopping, .. }) = why {
            // The data plane goes on without a sidecar, and the next one takes it up.
            return;
        }
        let ending = async { tokio::join!(end(&sidecar, &request_id), last).1 };
        match tokio::time::timeout(FINISH_LIMIT, ending).await {
            Ok(last) => sidecar.end_operation(id, outcome(last, Some(why))).await,
            Err(_) => {
                let reason = format!(
                    "the data plane has not ended it within {FINISH_LIMIT:?}; it is asked again \
                     when the sidecar reaches it again"
                );
                let late = Failure::new(FailureKind::Late, reason);
                sidecar.give_up_operation(id, (State::Failed, Some(late))).await;
            }
        }
    }
}

/// Notes each phase of a share; the last, or why there is none.
async fn follow(sidecar: &Sidecar, id: u64, begun: Share) -> Result<Share, Failure> {
    let mut seen = begun;
    loop {
        note(sidecar, id, &seen).await;
        if seen.phase() == SharePhase::Ended {
            return Ok(seen);
        }
        let request = WatchShareRequest { id: seen.id };
        let watched = sidecar.southbound().watched_shares().watch_share(request).await;
        let watched = async {
            let mut stream = watched?.into_inner();
            while let Some(next) = stream.message().await? {
                let Some(next) = next.share else { continue };
                if next.request_id != seen.request_id {
                    return Err(Status::not_found("it is another of this number"));
                }
                note(sidecar, id, &next).await;
                seen = next;
            }
            Ok(())
        };
        match watched.await {
            Ok(()) if seen.phase() == SharePhase::Ended => {}
            Err(status) if status.code() == Code::NotFound => return Err(unknown()),
            // Who dies says nothing that is to be relied on.
            Ok(()) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Notes how far a share is, and who shares now.
async fn note(sidecar: &Sidecar, id: u64, share: &Share) {
    let known = sidecar.state().watch().borrow().find(id).map(|found| found.asked.clone());
    if let Some(Asked::Share(asked)) = known
        && share.phase() == SharePhase::Steady
        && asked.instances.iter().filter_map(End::number).ne(share.instances.iter().copied())
        && let Ok(instances) = sidecar.members(share).await
    {
        // Some have failed, or could not join.
        let asked = Asked::Share(ShareAsked { instances, ..asked });
        sidecar.state().change(id, asked);
    }
    sidecar.state().progress(id, |progress| progress.shared = Some(share.clone()));
}

fn unknown() -> Failure {
    let reason = "the data plane does not know the share: it was started again, and its instances \
                  share nothing";
    Failure::new(FailureKind::Unreachable, reason)
}

/// What a share has come to; `why` it was asked to end.
fn outcome(last: Result<Share, Failure>, why: Option<Why>) -> (State, Option<Failure>) {
    match (why, last) {
        (Some(Why::Over), _) => (State::Done, None),
        (Some(Why::Told(failure)), _) => (State::Cancelled, Some(failure)),
        (None, Ok(last)) => {
            let reason = format!("the data plane has ended it: {}", last.reason);
            (State::Failed, Some(Failure::new(FailureKind::Dataplane, reason)))
        }
        (None, Err(failure)) => (State::Failed, Some(failure)),
    }
}
