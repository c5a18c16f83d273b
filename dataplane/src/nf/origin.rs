//! Sources: whose connections are counted together.

use std::net::IpAddr;

use weir_state_transfer::{FlowId, FlowKey, ServiceId};

/// An address that begins connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// In which service it does.
    pub service: ServiceId,
    /// The address.
    pub address: IpAddr,
}

impl Origin {
    /// The source of a flow.
    pub fn of(key: &FlowKey) -> Self {
        Self { service: key.service(), address: key.src() }
    }

    /// The flows that what is known of the source is about.
    pub fn flow_id(&self) -> FlowId {
        FlowId::host(self.address, self.service)
    }

    /// The source whose flows an id is of.
    pub fn of_id(id: &FlowId) -> Option<Self> {
        id.as_host().map(|(address, service)| Self { service, address })
    }
}
