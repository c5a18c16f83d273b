//! Subscriptions to the packets of an instance: what they make of packets, and what they are told.

use weir_state_transfer::southbound::{
    Action, Arrival, Event, EventLimits, Events, EventsError, Marks, Note, SubscriptionId,
};
use weir_state_transfer::state_filter::{PacketFields, StateFilter};
use weir_state_transfer::{FlowKey, Nanos, PortId, protocol};

use crate::packet::Meta;
use crate::worker::Packet;

/// Where the flags lie in a TCP header (RFC 9293, section 3.1).
const FLAGS_AT: usize = 13;

/// The subscriptions to the packets of one instance, with the packets that they keep.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    events: Events<Packet>,
    /// Those that keep packets.
    keeping: Vec<SubscriptionId>,
}

/// What a filter compares of a packet, apart from the packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    key: FlowKey,
    tcp_flags: Option<u8>,
    in_port: PortId,
}

impl Fields {
    pub(super) fn of(frame: &[u8], meta: &Meta, in_port: PortId) -> Self {
        Self { key: meta.key, tcp_flags: tcp_flags(frame, meta), in_port }
    }

    pub(super) fn key(&self) -> &FlowKey {
        &self.key
    }

    fn show(&self) -> PacketFields<'_> {
        PacketFields { key: &self.key, tcp_flags: self.tcp_flags, in_port: self.in_port }
    }
}

impl Subscriptions {
    pub(crate) fn new(limits: EventLimits) -> Self {
        let keeping = Vec::with_capacity(limits.subscriptions_max);
        Self { events: Events::new(limits), keeping }
    }

    /// Whether nobody has subscribed and nothing is kept: packets need not be shown.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.events.is_idle()
    }

    /// Packets that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.events.kept()
    }

    /// A subscription that keeps packets, if there is one.
    pub(crate) fn keeping(&self) -> Option<SubscriptionId> {
        self.keeping.first().copied()
    }

    /// See [`Events::enable`].
    pub(super) fn enable(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        self.events.enable(id, filter, action, snap)?;
        if action == Action::Buffer {
            self.keeping.push(id);
        }
        Ok(())
    }

    /// See [`Events::disable`].
    pub(super) fn disable(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        self.keeping.retain(|keeping| *keeping != id);
        self.events.disable(id)
    }

    /// Ends them all, as when the instance is removed: what is kept can be released.
    pub(crate) fn end(&mut self) {
        self.keeping.clear();
        self.events.disable_all();
    }

    /// A packet has come.
    pub(super) fn arrive(&mut self, packet: Packet, now: Nanos) -> Arrival<Packet> {
        let fields = Fields::of(packet.frame.data(), &packet.meta, packet.port);
        self.events.arrive(&fields.show(), Marks::default(), packet, now)
    }

    /// A packet has been processed, and the state of its flow is of this version then.
    pub(super) fn processed(&mut self, fields: &Fields, frame: &[u8], version: u64, now: Nanos) {
        self.events.processed(&fields.show(), frame, version, now);
    }

    /// The oldest packet that no subscription keeps any more.
    pub(crate) fn release(&mut self) -> Option<Packet> {
        self.events.release()
    }

    /// See [`Events::may_release`].
    pub(crate) fn may_release(&self) -> bool {
        self.events.may_release()
    }

    /// See [`Events::tidy`].
    pub(crate) fn tidy(&mut self) -> bool {
        self.events.tidy()
    }

    pub(super) fn poll(&mut self, id: SubscriptionId) -> Option<Note> {
        self.events.poll(id)
    }

    pub(super) fn give_back(&mut self, event: Event) {
        self.events.give_back(event);
    }
}

/// The flags of a TCP segment that is whole.
fn tcp_flags(frame: &[u8], meta: &Meta) -> Option<u8> {
    let segment = meta.l4_bytes(frame).filter(|_| meta.protocol == protocol::TCP)?;
    segment.get(FLAGS_AT).copied()
}
