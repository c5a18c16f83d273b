//! What an instance says of a packet, and what a share says back.

use super::slot::Slot;
use crate::id::WorkerId;

/// A packet of a share at an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival<P> {
    /// The slot of the group whose state it concerns.
    pub slot: Slot,
    /// The worker that received it.
    pub steerer: WorkerId,
    /// Its place in the order of its steerer, if that has stamped it.
    pub sequence: Option<u64>,
    /// The last place of the steerer's order that came before, when it has none itself.
    pub(super) follows: Option<u64>,
    /// The packet.
    pub packet: P,
}

impl<P> Arrival<P> {
    /// A packet of a slot that a worker received, and its place in that worker's order if it has
    /// been stamped.
    pub fn new(slot: Slot, steerer: WorkerId, sequence: Option<u64>, packet: P) -> Self {
        Self { slot, steerer, sequence, follows: None, packet }
    }

    /// The same without the packet, and the packet.
    pub(super) fn split(self) -> (Arrival<()>, P) {
        let Self { slot, steerer, sequence, follows, packet } = self;
        (Arrival { slot, steerer, sequence, follows, packet: () }, packet)
    }
}

/// What a packet needs of the shared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need<O> {
    /// That depends on what the packets before it come to: it is asked again at its turn.
    Unknown,
    /// Nothing.
    Nothing,
    /// An update without a result. The packet does not wait for it: the update is executed after
    /// those that this instance asked for before and before those that it asks for later, but
    /// another instance may see it only after the packet has gone on.
    Update(O),
    /// An operation without whose result it can not go on.
    Answer(O),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn<P> {
    /// It is its turn: process it.
    Process(P),
    /// It is its turn: say what it needs, by [`super::Member::decided`], before anything else.
    Decide(Arrival<P>),
    /// It waits; [`super::Member::next`] gives it back.
    Kept,
    /// As many wait as may: it must be dropped, and counted.
    Full(P),
    /// The instance does not share, or no more: process it with the instance's own state.
    Alone(P),
}

/// A packet that has waited and may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next<P, A> {
    /// It has waited for its turn only: process it.
    Process(P),
    /// It is its turn: say what it needs, by [`super::Member::decided`], before anything else.
    Decide(Arrival<P>),
    /// Its operation was executed, with this result.
    Answered(P, A),
    /// Its operation missed its place in the order of the steerer, and was not executed: it must
    /// be dropped, and counted.
    Late(P),
    /// There was no answer in time. Whether its operation was executed, or will be, is not known;
    /// if an answer comes, [`super::Member::poll_stray`] gives it.
    Unanswered(P),
}
