//! Notifications: events of an end, passed on to who reads them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use weir_api::v1::NotifyRequest;
use weir_nf_api::client::Notes;
use weir_state_transfer::southbound::{Action, SubscriptionId};

use super::Reins;
use crate::{
    fault::Fault,
    sidecar::Sidecar,
    state_manager::{
        end::End,
        operation::{Asked, Failure, FailureKind, Operation, State},
        relay::{Relay, Told},
    },
};
use weir_state_transfer::StateFilter;

/// Events that are on their way to a reader at one time, besides those that wait.
const HANDED_MAX: usize = 8;
/// How long a reader may take for what waits when the notification has ended.
const REST_LIMIT: Duration = Duration::from_secs(10);

/// What a notification tells: that it is in force, events, and how it has ended.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Where it stands.
    Operation(Box<Operation>),
    /// An event or a gap.
    Told(Told),
}

impl Sidecar {
    /// Begins to tell of packets. It is in force when this returns, and ends with the receiver.
    pub(crate) async fn notify(
        self: &Arc<Self>,
        request: &NotifyRequest,
        filter: StateFilter,
    ) -> Result<mpsc::Receiver<Notice>, Fault> {
        let end = self.find_end("end", &request.end).await?;
        let snap = request.snap;
        let asked = Asked::Notify { end: end.clone(), filter: filter.clone(), snap };
        let (operation, reins, reader) = self.begin_operation(asked, "", None).await?;
        let client = self.state().ends.client(&end);
        let enabled = client.enable_events(subscription()?, &filter, Action::Process, snap).await;
        let notes = match enabled {
            Ok(notes) => notes,
            Err(error) => {
                let failure = Failure::of_call(&error, &end);
                let fault = not_enabled(&failure, &end);
                self.end_operation(reins.id, (State::Failed, Some(failure))).await;
                return Err(fault);
            }
        };
        let (sidecar, (sink, notices)) = (Arc::clone(self), mpsc::channel(HANDED_MAX));
        // There is room for the first.
        let _room = sink.try_send(Notice::Operation(Box::new(operation)));
        let limit = (request.limit_ns > 0).then(|| Duration::from_nanos(request.limit_ns));
        tokio::spawn(async move {
            tell(sidecar, (end, notes), (reins, limit), sink).await;
            drop(reader);
        });
        Ok(notices)
    }
}

/// Passes events on until the notification ends, after `limit` at the latest.
async fn tell(
    sidecar: Arc<Sidecar>,
    (end, mut notes): (End, Notes),
    (reins, limit): (Reins, Option<Duration>),
    sink: mpsc::Sender<Notice>,
) {
    let (id, mut relay) = (reins.id, Relay::default());
    let mut over = std::pin::pin!(over(limit));
    let failure = loop {
        tokio::select! {
            note = notes.next() => match note {
                Ok(Some(note)) => relay.push(note),
                Ok(None) => {
                    let reason = format!("{end} has ended the subscription");
                    let failure = Failure::new(FailureKind::Refused, reason);
                    break Some(Failure { end: Some(end), ..failure });
                }
                Err(error) => break Some(Failure::of_call(&error, &end)),
            },
            room = sink.reserve(), if !relay.is_empty() => match room {
                Ok(room) => pass_on(&sidecar, id, &mut relay, room),
                Err(_) => break Some(gone()),
            },
            () = sink.closed() => break Some(gone()),
            failure = reins.cancelled() => break Some(failure),
            () = &mut over => break None,
        }
    };
    // The subscription ends before its last events are read.
    drop(notes);
    let rest = async {
        while !relay.is_empty() {
            let Ok(room) = sink.reserve().await else { return };
            pass_on(&sidecar, id, &mut relay, room);
        }
    };
    // Who does not read them has lost them.
    let _late = tokio::time::timeout(REST_LIMIT, rest).await;
    let state = match failure.as_ref().map(|failure| &failure.kind) {
        None => State::Done,
        Some(FailureKind::Cancelled | FailureKind::Stopping) => State::Cancelled,
        Some(_) => State::Failed,
    };
    sidecar.end_operation(id, (state, failure)).await;
    let ended = sidecar.state().table.borrow().find(id).cloned();
    if let Some(ended) = ended {
        let last = sink.send_timeout(Notice::Operation(Box::new(ended)), REST_LIMIT);
        let _gone = last.await;
    }
}

fn pass_on(sidecar: &Sidecar, id: u64, relay: &mut Relay, room: mpsc::Permit<'_, Notice>) {
    let Some(told) = relay.pop() else { return };
    let (events, lost) = match told {
        Told::Event { .. } => (1, 0),
        Told::Gap(lost) => (0, lost),
    };
    sidecar.state().count_events(id, events, lost);
    room.send(Notice::Told(told));
}

/// Ends when the time of a notification is over, if it has a limit.
async fn over(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn gone() -> Failure {
    Failure::new(FailureKind::Cancelled, "nobody reads its stream any more")
}

/// Why a notification is not in force.
fn not_enabled(failure: &Failure, end: &End) -> Fault {
    let (code, reason) = match failure.kind {
        FailureKind::Unreachable => (tonic::Code::Unavailable, "END_UNREACHABLE"),
        FailureKind::Late => (tonic::Code::DeadlineExceeded, "END_LATE"),
        FailureKind::Refused => (tonic::Code::FailedPrecondition, "END_REFUSES"),
        _ => (tonic::Code::Internal, "END_MALFORMED"),
    };
    Fault::new(code, reason, failure.reason.clone()).object(end.to_string())
}

/// A number that no other subscription has: the first half is of this process, and random.
fn subscription() -> Result<SubscriptionId, Fault> {
    static FIRST: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = match FIRST.get() {
        Some(first) => *first,
        None => {
            let random = getrandom::u64().map_err(|error| {
                Fault::new(tonic::Code::Internal, "NO_RANDOMNESS", error.to_string())
            })?;
            *FIRST.get_or_init(|| random << 32)
        }
    };
    Ok(SubscriptionId(first | NEXT.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX)))
}
