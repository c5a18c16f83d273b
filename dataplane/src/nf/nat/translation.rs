//! A translation: state of one flow.

use std::net::IpAddr;

use weir_state_transfer::{FlowKey, Nanos};

use crate::nf::connection::Connection;

/// What one flow is translated to, and its connection. All of it travels when the flow is moved.
///
/// A flow has two names, and its translation is found under both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// As the end that has begun it knows it: its key is that of the flow before its translation.
    pub(super) connection: Connection,
    pub(super) translated: FlowKey,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// That of the first packet.
    There,
    /// The other.
    Back,
}

impl Translation {
    /// The flow as the end that has begun it knows it.
    pub fn original(&self) -> &FlowKey {
        self.connection.key()
    }

    /// The flow as the other end knows it: its packets come with the reverse of this key.
    pub fn translated(&self) -> &FlowKey {
        &self.translated
    }

    /// What the translation is found under, by [`super::flow_key`] and [`FlowKey::both_ways`]: by
    /// both names of the flow, which are the same where nothing is translated.
    pub fn keys(&self) -> [FlowKey; 2] {
        [self.original().both_ways(), self.translated.both_ways()]
    }

    /// The second of [`Translation::keys`], if it is another than the first.
    pub fn second_key(&self) -> Option<FlowKey> {
        let [first, second] = self.keys();
        (second != first).then_some(second)
    }

    /// The external address that its flow uses, if its source is translated.
    pub fn external(&self) -> Option<IpAddr> {
        let external = self.translated.src();
        (external != self.original().src()).then_some(external)
    }

    /// When it ends if no packet comes.
    pub fn deadline(&self) -> Nanos {
        self.connection.deadline()
    }

    /// Whether it has ended.
    #[inline]
    pub fn is_over(&self, now: Nanos) -> bool {
        self.connection.is_over(now)
    }

    /// Whether nothing is translated: the flow is known, so that its answers are not either.
    pub(crate) fn is_plain(&self) -> bool {
        *self.original() == self.translated
    }

    /// The flow of a packet as the end knows it that has begun the flow, in the packet's direction;
    /// none if the packet goes past the translation.
    pub(crate) fn first_name(&self, flow: &FlowKey) -> Option<FlowKey> {
        self.way(flow).map(|way| match way {
            Way::There => *flow,
            Way::Back => self.original().reversed(),
        })
    }

    /// Which way a packet of a flow goes; none if it goes past the translation.
    pub(super) fn way(&self, flow: &FlowKey) -> Option<Way> {
        if flow == self.original() {
            Some(Way::There)
        } else if *flow == self.translated.reversed() {
            Some(Way::Back)
        } else {
            None
        }
    }
}
