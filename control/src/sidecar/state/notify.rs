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
use weir_state_transfer::southbound::{Action, Note, SubscriptionId};

use super::Reins;
use crate::{
    fault::Fault,
    filters,
    sidecar::Sidecar,
    state_manager::{
        end::End,
        operation::{Asked, Failure, FailureKind, Operation, State},
        relay::{EVENTS_MAX, Relay, Told},
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
    ) -> Result<mpsc::Receiver<Notice>, Fault> {
        let end = self.find_end("end", &request.end).await?;
        let filter = self.packets_at(&end, &request.filter).await?;
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
        let relay = Relay::new(request.count);
        tokio::spawn(async move {
            tell(sidecar, (end, notes), (reins, limit), (relay, sink)).await;
            drop(reader);
        });
        Ok(notices)
    }

    /// The filter of a text that picks packets of an end. Ports of an instance may go by their names,
    /// which the data plane knows.
    async fn packets_at(&self, end: &End, text: &str) -> Result<StateFilter, Fault> {
        let Some(place) = filters::port_name(text) else { return filters::packets(text) };
        if !end.is_instance() {
            let fix = format!("give the number that {end} itself has for the port");
            return filters::packets(text).map_err(|fault| fault.fix(fix));
        }
        let name = &text[place.clone()];
        let ports = self.southbound.list_ports().await;
        let ports = ports.map_err(|status| Fault::from_dataplane(&status))?;
        let port = ports.iter().find(|port| port.name == name).ok_or_else(|| {
            Fault::not_found("ports", name).one_of(ports.iter().map(|port| &port.name))
        })?;
        let mut text = text.to_owned();
        text.replace_range(place, &port.id.to_string());
        filters::packets(&text)
    }
}

/// Passes events on until the notification ends: after `limit` at the latest, or when as many were told
/// as are wanted.
async fn tell(
    sidecar: Arc<Sidecar>,
    (end, mut notes): (End, Notes),
    (reins, limit): (Reins, Option<Duration>),
    (mut relay, sink): (Relay, mpsc::Sender<Notice>),
) {
    let id = reins.id;
    let mut over = std::pin::pin!(over(limit));
    let failure = loop {
        if relay.is_over() {
            break None;
        }
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
    // What has come is told, and the subscription ends before that is read.
    for _ in 0..EVENTS_MAX {
        let Some(note) = tokio::task::unconstrained(come(&mut notes)).await else { break };
        relay.push(note);
    }
    drop(notes);
    let rest = async {
        while !relay.is_empty() {
            let Ok(room) = sink.reserve().await else { return };
            pass_on(&sidecar, id, &mut relay, room);
        }
    };
    // Who does not read them has lost them.
    let _late = tokio::time::timeout(REST_LIMIT, rest).await;
    // Whoever ends behind the last that is wanted ends nothing.
    let failure = failure.filter(|_| !relay.is_over());
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

/// An event that has come, if one waits.
async fn come(notes: &mut Notes) -> Option<Note> {
    tokio::select! {
        biased;
        note = notes.next() => note.ok().flatten(),
        () = std::future::ready(()) => None,
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
