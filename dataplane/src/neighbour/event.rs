//! What is heard and told of neighbours.

use std::net::IpAddr;

use weir_state_transfer::{Nanos, PortId};

use super::adjacency::AdjacencyId;
use crate::packet::MacAddr;

/// How well a neighbour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for.
    Incomplete,
    /// Has answered.
    Reachable,
    /// Has answered, and is asked whether it is still there.
    Probing,
    /// Configured.
    Static,
}

impl NeighbourState {
    /// The name in the API and the CLI.
    pub fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Probing => "probing",
            Self::Static => "static",
        }
    }
}

/// What a message on the link says about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whose.
    pub address: IpAddr,
    /// The link-layer address that it claims.
    pub mac: MacAddr,
    /// How it was said.
    pub kind: HeardKind,
}

/// How a neighbour told its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeardKind {
    /// It asked for an address of ours, and lies on the port's network.
    Request,
    /// It answered us.
    Answer,
    /// It said so unasked.
    Unsolicited,
}

/// What the owner wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask for the address: the station that had it, or all when there is none.
    Probe(IpAddr, Option<MacAddr>),
    /// Tell all workers.
    Resolved(Resolution),
}

/// What became of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The port that it is on.
    pub port: PortId,
    /// Whose.
    pub address: IpAddr,
    /// Its number, or `None` when it failed: it did not answer, or there is no room for it.
    pub id: Option<AdjacencyId>,
}

/// One neighbour as reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourRecord {
    /// The port that it is on.
    pub port: PortId,
    /// Whose.
    pub address: IpAddr,
    /// Its link-layer address, if known.
    pub mac: Option<MacAddr>,
    /// How well it is known.
    pub state: NeighbourState,
    /// When it last answered; when it was first asked for while it is incomplete.
    pub since: Nanos,
}
