//! Protocol MARK: changes the owner of flows between two instances of one process.
//!
//! ```text
//!   steerers                 source                       destination
//!      │ old way: packets ──────► processes                     │
//!      ├─ flips ─────────────────────────────────────────────►  │ new way: packets are held
//!      ├─ MARKER, behind the last old packet ──► │              │
//!      │                     all markers in      │              │
//!      │                     transmit drained    │              │
//!      │                     ├─ bucket, flows … ─┼────────────► │ releases in order, piece by piece
//!      │                     └─ END ─────────────┴────────────► │ releases the rest; owner
//! ```
//!
//! Nothing is lost, because every packet is in one ring or one hold and is processed once. Order
//! is kept, because every old packet of a steerer precedes its marker, the source exports after
//! all markers and only when what it sent has left, and the destination processes no packet of
//! a flow before that flow's state. No clock takes part (OpenNF, section 5.1.2, asks for a
//! controller on the path instead; here no packet visits one).
//!
//! Until the first piece has been exported the move can be undone: the destination relays what it
//! holds to the source, steerers flip back and send their markers to the destination, and the
//! source processes what was relayed before what came directly.
//!
//! This is a move that promises most. One with a lesser [`Guarantee`] leaves steps out.
//!
//! [`Source`] and [`Destination`] are driven by the two workers, [`Coordinator`] by the node.

mod coordinator;
mod destination;
mod guarantee;
mod hold;
mod request;
mod source;

pub use coordinator::{Command, Coordinator, Event, Move, Phase, Refused};
pub use destination::Destination;
pub use guarantee::{Guarantee, UnknownGuarantee};
pub use hold::Hold;
pub use request::Request;
pub use source::{Source, UndoAnswer};

use crate::id::WorkerId;

/// What an end of a move says of a packet that is under the move.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict<P> {
    /// Its flow is here: process it.
    Process(P),
    /// It waits; `first` says that it is the first of its group to do so.
    Held {
        /// No other packet of the group was waiting.
        first: bool,
    },
    /// The hold is at its quota: the packet is lost and must be counted.
    Full(P),
    /// The state of its flow is not here, and nobody waits for it: the packet is lost and must be
    /// counted.
    InTransit(P),
    /// It can not be here in a correct run; it belongs to the other end.
    Stray(P),
}

/// A set of steerers, each named by the worker that polls it.
///
/// A worker flips all the queues that it polls in the same poll round and sends one marker for
/// them, so the marker is the worker's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Steerers(u64);

impl Steerers {
    /// Workers that a set can name: ids 0 to 63.
    pub const MAX: usize = 64;

    /// Adds a steerer and says whether it was missing.
    ///
    /// # Panics
    ///
    /// When the id is not below [`Steerers::MAX`], which the configuration's bound on workers
    /// excludes.
    pub fn insert(&mut self, steerer: WorkerId) -> bool {
        let bit = Self::bit(steerer);
        let missing = self.0 & bit == 0;
        self.0 |= bit;
        missing
    }

    /// Whether the steerer is in the set.
    pub fn contains(self, steerer: WorkerId) -> bool {
        self.0 & Self::bit(steerer) != 0
    }

    /// Whether every steerer of `other` is in this set.
    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    fn bit(steerer: WorkerId) -> u64 {
        assert!(usize::from(steerer.0) < Self::MAX, "worker ids are bounded by the configuration");
        1 << steerer.0
    }
}

impl FromIterator<WorkerId> for Steerers {
    fn from_iter<I: IntoIterator<Item = WorkerId>>(workers: I) -> Self {
        let mut set = Self::default();
        for worker in workers {
            set.insert(worker);
        }
        set
    }
}
