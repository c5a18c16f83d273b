//! Subscriptions to requests. A request is to the proxy what a packet is to other functions: its
//! events have the head of the request as their bytes.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use weir_state_transfer::FlowKey;
use weir_state_transfer::id::PortId;
use weir_state_transfer::southbound::{
    Action, Arrival, Event, EventLimits, Events, EventsError, Marks, Note, SubscriptionId,
};
use weir_state_transfer::state_filter::{PacketFields, StateFilter};
use weir_state_transfer::time::Nanos;

/// The flags of a segment that carries a request.
const PUSH_AND_ACK: u8 = 0x18;
const SUBSCRIPTIONS_MAX: usize = 16;
const QUEUE_MAX: usize = 256;

/// The subscriptions, and the requests that they keep.
#[derive(Debug)]
pub(crate) struct Requests {
    events: Events<Asked>,
    /// The filters of those that have requests dropped or kept, and the update at which each began.
    freezing: BTreeMap<SubscriptionId, (StateFilter, u64)>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is answered; its head, when somebody may be told of it.
    Go(Option<Vec<u8>>),
    /// It waits until it is released, and then has its head again.
    Wait(oneshot::Receiver<Vec<u8>>),
    /// It is not answered, and its connection ends.
    Drop,
}

/// A request that may have to wait.
#[derive(Debug)]
struct Asked {
    head: Vec<u8>,
    go: Option<oneshot::Sender<Vec<u8>>>,
}

impl AsRef<[u8]> for Asked {
    fn as_ref(&self) -> &[u8] {
        &self.head
    }
}

impl Requests {
    /// No subscriptions, and so many requests that wait at most.
    pub(super) fn new(kept_max: usize) -> Self {
        let limits = EventLimits {
            subscriptions_max: SUBSCRIPTIONS_MAX,
            buffer_max: kept_max,
            queue_max: QUEUE_MAX,
        };
        Self { events: Events::new(limits), freezing: BTreeMap::new() }
    }

    /// A request has come.
    pub(crate) fn admit(
        &mut self,
        key: &FlowKey,
        head: impl FnOnce() -> Vec<u8>,
        now: Nanos,
    ) -> Admission {
        if self.events.is_idle() {
            return Admission::Go(None);
        }
        let (go, wait) = oneshot::channel();
        let asked = Asked { head: head(), go: Some(go) };
        match self.events.arrive(&fields(key), Marks::default(), asked, now) {
            Arrival::Process(asked) => Admission::Go(Some(asked.head)),
            Arrival::Kept => Admission::Wait(wait),
            Arrival::Drop(_) | Arrival::Full(_) => Admission::Drop,
        }
    }

    /// A request has been answered, after so many updates.
    pub(super) fn answered(&mut self, key: &FlowKey, head: &[u8], version: u64, now: Nanos) {
        self.events.processed(&fields(key), head, version, now);
    }

    /// Whether a subscription has the requests of a connection dropped or kept.
    pub(super) fn freezes(&self, key: &FlowKey) -> bool {
        self.freezing.values().any(|(filter, _)| filter.matches(&fields(key)))
    }

    /// Whether such a subscription began after a request was admitted. What its answer would still
    /// change is left as it is then: who has subscribed counts on it.
    pub(super) fn is_frozen(&self, key: &FlowKey, admitted: u64) -> bool {
        let mut later = self.freezing.values().filter(|(_, since)| *since > admitted);
        later.any(|(filter, _)| filter.matches(&fields(key)))
    }

    pub(super) fn enable(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        (snap, since): (usize, u64),
    ) -> Result<(), EventsError> {
        self.events.enable(id, filter.clone(), action, snap)?;
        if action != Action::Process {
            self.freezing.insert(id, (filter, since));
        }
        Ok(())
    }

    pub(super) fn disable(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        self.events.disable(id)?;
        self.freezing.remove(&id);
        while let Some(asked) = self.events.release() {
            // A client that has gone away does not wait.
            let _told = asked.go.map(|go| go.send(asked.head));
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, id: SubscriptionId) -> Option<Note> {
        self.events.poll(id)
    }

    pub(super) fn give_back(&mut self, event: Event) {
        self.events.give_back(event);
    }
}

fn fields(key: &FlowKey) -> PacketFields<'_> {
    PacketFields { key, tcp_flags: Some(PUSH_AND_ACK), in_port: PortId(0) }
}
