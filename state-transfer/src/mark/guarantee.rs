//! What a move promises of the packets of its flows.

use std::fmt;
use std::str::FromStr;

use crate::quote::quoted;

/// What a move promises of the packets of its flows (OpenNF, section 5.1).
///
/// Whatever it is, a flow has one owner at any time, and a move that is undone before the first
/// flow has left the source ends as if it had not begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// Nothing. The source exports as soon as the first steerer has flipped, and nobody holds
    /// packets. One whose flow has no state where it comes is dropped and counted: at the source
    /// once the export has begun, at the destination until the flow, or its bucket, has arrived. A
    /// flow that begins meanwhile begins at the destination when all has arrived.
    None,
    /// Every packet is processed, once, with the state of its flow. What is saved is order: the
    /// source exports as soon as all markers are in, though what it has sent may not have left, and
    /// what waits for a next hop stays there; a packet that comes when its flow has arrived does
    /// not wait for older ones that are still held.
    LossFree,
    /// Besides, the packets of a flow are processed in the order in which they came, and what was
    /// sent the old way leaves before what is sent the new way.
    #[default]
    Ordered,
}

impl Guarantee {
    /// Every guarantee, the least first.
    pub const ALL: [Self; 3] = [Self::None, Self::LossFree, Self::Ordered];

    /// Its name, as in `loss-free`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LossFree => "loss-free",
            Self::Ordered => "ordered",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no guarantee.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is none of none, loss-free, ordered", quoted(.0))]
pub struct UnknownGuarantee(String);

impl FromStr for Guarantee {
    type Err = UnknownGuarantee;

    fn from_str(text: &str) -> Result<Self, UnknownGuarantee> {
        let known = Self::ALL.into_iter().find(|guarantee| guarantee.name() == text);
        known.ok_or_else(|| UnknownGuarantee(text.to_owned()))
    }
}
