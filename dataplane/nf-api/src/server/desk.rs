//! How requests reach the network function, which belongs to one thread.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use weir_state_transfer::southbound::{Event, EventsError, Note, Southbound, SubscriptionId};

use super::LIMIT;
use crate::status;

/// Calls that wait at most; further callers wait until there is room.
const CALLS_MAX: usize = 64;
/// Calls that are carried out in one turn at most.
pub const CALLS_A_TURN: usize = 8;
/// Bytes of chunks taken and given in a turn, after which no further call begins in it: whoever is
/// between two packets is not to be so for long.
pub const BYTES_A_TURN: usize = 64 << 10;
/// Notes of one subscription that are on their way to its subscriber at most. All others wait, and
/// are bounded, at the network function.
const NOTES_MAX: usize = 64;

/// Work for the thread of the network function; how many bytes of chunks it takes or gives.
type Call = Box<dyn FnOnce(&mut dyn Southbound, &mut Subscribers) -> usize + Send>;
/// What comes of it, or why it was not done.
type Done<T> = Result<T, String>;

pub(super) fn pair(wake: impl Fn() + Send + Sync + 'static) -> (Handle, Desk) {
    let (to, calls) = mpsc::channel(CALLS_MAX);
    let handle = Handle { calls: to, wake: Wake(Arc::new(wake)), limit: LIMIT };
    (handle, Desk { calls, subscribers: Subscribers::default() })
}

/// Where the thread of a network function serves what it is asked.
#[derive(Debug)]
pub struct Desk {
    calls: mpsc::Receiver<Call>,
    subscribers: Subscribers,
}

impl Desk {
    /// Carries out at most [`CALLS_A_TURN`] calls, or as many as there is time for by
    /// [`BYTES_A_TURN`], and passes events on: to be called between two packets. How many calls there
    /// were.
    pub fn serve(&mut self, function: &mut dyn Southbound) -> usize {
        let (mut calls, mut bytes) = (0, 0);
        while calls < CALLS_A_TURN
            && bytes < BYTES_A_TURN
            && let Ok(call) = self.calls.try_recv()
        {
            bytes += call(function, &mut self.subscribers);
            calls += 1;
        }
        self.subscribers.pass_on(function);
        calls
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether nobody can call any more: the server has ended.
    pub fn is_closed(&self) -> bool {
        self.calls.is_closed() && self.calls.is_empty()
    }
}

/// The way to the network function. Calls are carried out one after the other, in their order.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    calls: mpsc::Sender<Call>,
    pub(super) wake: Wake,
    /// How long a call may take, and how long a peer may keep a stream waiting.
    pub(super) limit: Duration,
}

impl Handle {
    /// Whether the desk is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.calls.is_closed()
    }

    /// What the network function answers.
    ///
    /// # Errors
    /// UNAVAILABLE when its thread has ended, DEADLINE_EXCEEDED when it does not serve in time. What
    /// was asked may still be done then. INTERNAL when what the function relies on has failed.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut dyn Southbound, &mut Subscribers) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.weighed(move |function, subscribers| (call(function, subscribers), 0)).await
    }

    /// The same of a call that says how many bytes of chunks it has taken or given.
    ///
    /// # Errors
    /// As those of [`Self::call`].
    pub(super) async fn weighed<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut dyn Southbound, &mut Subscribers) -> (T, usize) + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel::<Done<T>>();
        let call = move |function: &mut dyn Southbound, subscribers: &mut Subscribers| {
            let (given, bytes) = call(function, subscribers);
            let done = function.take_failure().map_or(Ok(given), Err);
            // A caller that has gone away does not want its answer.
            drop(answer.send(done));
            bytes
        };
        let answer = async {
            self.calls.send(Box::new(call)).await.ok()?;
            self.wake.wake();
            answered.await.ok()
        };
        let answer = tokio::time::timeout(self.limit, answer).await;
        let answer = answer.map_err(|_| status::busy(self.limit))?;
        answer.ok_or_else(status::stopping)?.map_err(|why| status::failed(&why))
    }
}

/// Tells the thread of the network function that there is something to serve.
#[derive(Clone)]
pub(super) struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    pub(super) fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// Who is told of events.
#[derive(Debug, Default)]
pub(super) struct Subscribers(BTreeMap<SubscriptionId, Subscriber>);

#[derive(Debug)]
struct Subscriber {
    notes: mpsc::Sender<Note>,
    spent: mpsc::Receiver<Event>,
}

/// What a subscriber has of its subscription.
#[derive(Debug)]
pub(super) struct Subscribed {
    /// What it is told.
    pub(super) notes: mpsc::Receiver<Note>,
    /// Where it gives events back. There is always room.
    pub(super) spent: mpsc::Sender<Event>,
}

impl Subscribers {
    /// One more, of a subscription that the network function has taken.
    pub(super) fn add(&mut self, id: SubscriptionId) -> Subscribed {
        let (to, notes) = mpsc::channel(NOTES_MAX);
        // Those that were on their way, and one in its hand.
        let (spent, back) = mpsc::channel(NOTES_MAX + 1);
        self.0.insert(id, Subscriber { notes: to, spent: back });
        Subscribed { notes, spent }
    }

    /// Ends a subscription and its stream.
    ///
    /// # Errors
    /// When the network function has none of that number.
    pub(super) fn end(
        &mut self,
        function: &mut dyn Southbound,
        id: SubscriptionId,
    ) -> Result<(), EventsError> {
        self.0.remove(&id);
        function.disable_events(id)
    }

    fn pass_on(&mut self, function: &mut dyn Southbound) {
        self.0.retain(|id, subscriber| {
            while let Ok(event) = subscriber.spent.try_recv() {
                function.give_back(event);
            }
            if subscriber.notes.is_closed() {
                // It has gone away.
                let _ended = function.disable_events(*id);
                return false;
            }
            while let Ok(room) = subscriber.notes.try_reserve() {
                let Some(note) = function.poll_event(*id) else { break };
                room.send(note);
            }
            true
        });
    }
}
