//! Subscriptions to packets, and what they make of packets: process, buffer or drop.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;

use super::queue::{Queue, Raised};
use super::{Cause, Event, EventsError, Note};
use crate::flow_key::FlowKey;
use crate::state_filter::{PacketFields, StateFilter};
use crate::time::Nanos;

/// Names a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of packets that match a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are processed, and then raise an event.
    Process,
    /// They are kept, in order, until the subscription ends.
    Buffer,
    /// They raise an event and are not processed.
    Drop,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Buffer => "buffer",
            Self::Drop => "drop",
        })
    }
}

/// What a packet is exempt from. Marks stand beside a packet and never in its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It is processed, and raises an event, where others would be kept.
    pub do_not_buffer: bool,
    /// It is processed, and raises an event, where others would be dropped.
    pub do_not_drop: bool,
}

/// Bounds of the events of one network function.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Subscriptions at most.
    pub subscriptions_max: usize,
    /// Packets that are kept at most.
    pub buffer_max: usize,
    /// Events of one subscription that wait for their subscriber at most.
    pub queue_max: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { subscriptions_max: 16, buffer_max: 64, queue_max: 1_024 }
    }
}

/// What is to be done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<P> {
    /// It is to be processed, and [`Events::processed`] told.
    Process(P),
    /// It is kept.
    Kept,
    /// A subscription has it dropped.
    Drop(P),
    /// It should be kept, and there is no room: it is to be dropped and counted.
    Full(P),
}

/// The subscriptions of a network function, the packets that they keep, and their events.
///
/// Every subscription that matches has its say: one that drops outweighs one that buffers, and
/// that outweighs one that lets pass. A packet does not overtake another of its flow that is
/// kept, unless it is marked.
#[derive(Debug)]
pub struct Events<P> {
    limits: EventLimits,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    kept: VecDeque<Kept<P>>,
    /// What is kept of a flow; both directions are one flow.
    kept_of: HashMap<FlowKey, KeptOf>,
    /// How many of the oldest packets stay: a subscription keeps them, or they are behind one that
    /// does. All others are still to be looked at.
    staying: usize,
    /// Subscriptions that have ended: what stayed until then may go.
    ended: u64,
    /// Their queues, of which some is freed at a time.
    gone: Vec<Queue>,
}

/// What is kept of a flow.
#[derive(Debug, Default)]
struct KeptOf {
    packets: usize,
    /// How many subscriptions had ended when a packet of it was found to stay.
    stays_at: Option<u64>,
}

/// Packets that one call of [`Events::release`] looks at, at most.
const LOOKED_AT: usize = 256;

/// Buffers that one call of [`Events::tidy`] frees, at most.
const FREED: usize = 64;

#[derive(Debug)]
struct Subscription {
    filter: StateFilter,
    action: Action,
    queue: Queue,
}

#[derive(Debug)]
struct Kept<P> {
    key: FlowKey,
    tcp_flags: Option<u8>,
    in_port: crate::id::PortId,
    packet: P,
}

impl<P: AsRef<[u8]>> Events<P> {
    /// No subscriptions.
    pub fn new(limits: EventLimits) -> Self {
        Self {
            limits,
            subscriptions: BTreeMap::new(),
            kept: VecDeque::with_capacity(limits.buffer_max),
            kept_of: HashMap::with_capacity(limits.buffer_max),
            staying: 0,
            ended: 0,
            gone: Vec::new(),
        }
    }

    /// Whether nobody has subscribed and nothing is kept: packets need not be shown.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.subscriptions.is_empty() && self.kept.is_empty()
    }

    /// Adds a subscription; its events have so many bytes of their packets at most.
    ///
    /// # Errors
    /// When there is one of that number, or there are as many as there may be.
    pub fn enable(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        if self.subscriptions.contains_key(&id) {
            return Err(EventsError::Exists(id));
        }
        if self.subscriptions.len() >= self.limits.subscriptions_max {
            return Err(EventsError::TooMany(self.limits.subscriptions_max));
        }
        let queue = Queue::new(self.limits.queue_max, snap);
        self.subscriptions.insert(id, Subscription { filter, action, queue });
        Ok(())
    }

    /// Ends a subscription with all events that nobody has taken. What was kept for it alone can
    /// be had from [`Self::release`].
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn disable(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        let ended = self.subscriptions.remove(&id).ok_or(EventsError::Unknown(id))?;
        self.gone.push(ended.queue);
        self.look_again();
        Ok(())
    }

    /// Ends all subscriptions, as [`Self::disable`] does one.
    pub fn disable_all(&mut self) {
        let ended = std::mem::take(&mut self.subscriptions);
        self.gone.extend(ended.into_values().map(|ended| ended.queue));
        self.look_again();
    }

    fn look_again(&mut self) {
        (self.staying, self.ended) = (0, self.ended + 1);
    }

    /// A packet has come. One that is dropped raises its events here.
    pub fn arrive(
        &mut self,
        fields: &PacketFields<'_>,
        marks: Marks,
        packet: P,
        now: Nanos,
    ) -> Arrival<P> {
        if !marks.do_not_drop && self.matching(fields).any(|(_, by)| by.action == Action::Drop) {
            self.raise(fields, packet.as_ref(), (Cause::Dropped, 0), now);
            return Arrival::Drop(packet);
        }
        let flow = fields.key.both_ways();
        let waits = || self.kept_of.contains_key(&flow);
        let buffers = || self.matching(fields).any(|(_, by)| by.action == Action::Buffer);
        if marks.do_not_buffer || (!waits() && !buffers()) {
            return Arrival::Process(packet);
        }
        if self.kept.len() >= self.limits.buffer_max {
            return Arrival::Full(packet);
        }
        self.kept_of.entry(flow).or_default().packets += 1;
        let PacketFields { key, tcp_flags, in_port } = *fields;
        self.kept.push_back(Kept { key: *key, tcp_flags, in_port, packet });
        Arrival::Kept
    }

    /// A packet has been processed: it raises its events. `version` is that of the state of its flow
    /// then.
    pub fn processed(&mut self, fields: &PacketFields<'_>, bytes: &[u8], version: u64, now: Nanos) {
        self.raise(fields, bytes, (Cause::Processed, version), now);
    }

    /// The oldest packet that no subscription keeps any more, to be processed: it is not shown to
    /// [`Self::arrive`] again. None overtakes another of its flow. A call looks at 256 packets at
    /// most: none is to be released for good when [`Self::may_release`] says so too.
    pub fn release(&mut self) -> Option<P> {
        for _ in 0..LOOKED_AT {
            let kept = self.kept.get(self.staying)?;
            let (flow, fields) = (kept.key.both_ways(), kept.fields());
            let is_kept = self.matching(&fields).any(|(_, by)| by.action == Action::Buffer);
            let of = self.kept_of.get_mut(&flow)?;
            if is_kept || of.stays_at == Some(self.ended) {
                of.stays_at = Some(self.ended);
                self.staying += 1;
                continue;
            }
            of.packets -= 1;
            if of.packets == 0 {
                self.kept_of.remove(&flow);
            }
            return self.kept.remove(self.staying).map(|kept| kept.packet);
        }
        None
    }

    /// Whether there are packets that [`Self::release`] has not looked at since it last could have
    /// found another.
    pub fn may_release(&self) -> bool {
        self.staying < self.kept.len()
    }

    /// Frees some of what subscriptions that have ended have left: 64 buffers at most. Whether more is
    /// left.
    pub fn tidy(&mut self) -> bool {
        let is_done = self.gone.last_mut().is_none_or(|queue| queue.free(FREED));
        if is_done {
            self.gone.pop();
        }
        !self.gone.is_empty()
    }

    /// Packets that are kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The next thing that a subscriber is to be told.
    pub fn poll(&mut self, id: SubscriptionId) -> Option<Note> {
        self.subscriptions.get_mut(&id)?.queue.pop()
    }

    /// A subscriber has dealt with an event: its place is free again.
    pub fn give_back(&mut self, event: Event) {
        if let Some(subscription) = self.subscriptions.get_mut(&event.subscription) {
            subscription.queue.give_back(event.packet);
        }
    }

    fn matching<'a>(
        &'a self,
        fields: &'a PacketFields<'_>,
    ) -> impl Iterator<Item = (SubscriptionId, &'a Subscription)> {
        let matching = self.subscriptions.iter().filter(|(_, by)| by.filter.matches(fields));
        matching.map(|(id, by)| (*id, by))
    }

    fn raise(
        &mut self,
        fields: &PacketFields<'_>,
        bytes: &[u8],
        (cause, version): (Cause, u64),
        at: Nanos,
    ) {
        for (id, by) in &mut self.subscriptions {
            if by.filter.matches(fields) {
                let (subscription, key) = (*id, *fields.key);
                by.queue.push(Raised { subscription, key, at, cause, version }, bytes);
            }
        }
    }
}

impl<P> Kept<P> {
    fn fields(&self) -> PacketFields<'_> {
        PacketFields { key: &self.key, tcp_flags: self.tcp_flags, in_port: self.in_port }
    }
}
