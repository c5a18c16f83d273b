//! Neighbours: the link-layer addresses of next hops, and the packets that wait for them.
//!
//! A neighbour belongs to a port. The worker that owns the port runs ARP and neighbour discovery
//! for it ([`Owner`]) and is the only writer of its part of the [`AdjacencyTable`], which every
//! worker reads. Packets for a neighbour that is not known yet wait at the worker of their
//! instance ([`Parked`]).

mod adjacency;
mod directory;
mod event;
mod owner;
mod parked;
mod probe;

pub use adjacency::{Adjacency, AdjacencyId, AdjacencyTable};
pub use directory::Directory;
pub use event::{Heard, HeardKind, NeighbourRecord, NeighbourState, Output, Resolution};
pub use owner::{Owner, OwnerLimits};
pub use parked::{Parked, ParkedLimits, Refused};
pub use probe::write_probe;

#[cfg(test)]
mod tests;
