//! What a network function knows of one flow.

use weir_state_transfer::{FlowKey, Nanos};

use super::{connection, ids, nat};

/// What one function knows of a flow, in both directions.
#[derive(Debug)]
pub enum FlowState {
    /// The connection as the firewall tracks it.
    Firewall(Option<connection::Connection>),
    /// The connection as the intrusion detection sees it.
    Ids(Option<ids::Connection>),
    /// What the NAT translates the flow to.
    Nat(Option<nat::Translation>),
}

impl FlowState {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Firewall(connection) => connection.is_none(),
            Self::Ids(connection) => connection.is_none(),
            Self::Nat(translation) => translation.is_none(),
        }
    }

    /// Whether this is a translation whose time is over.
    pub(crate) fn is_translation_over(&self, now: Nanos) -> bool {
        match self {
            Self::Nat(translation) => translation.as_ref().is_some_and(|known| known.is_over(now)),
            Self::Firewall(_) | Self::Ids(_) => false,
        }
    }

    /// The second name of a flow: what a NAT translates it to.
    pub(crate) fn second_key(&self) -> Option<FlowKey> {
        match self {
            Self::Nat(translation) => translation.as_ref()?.second_key(),
            Self::Firewall(_) | Self::Ids(_) => None,
        }
    }
}
