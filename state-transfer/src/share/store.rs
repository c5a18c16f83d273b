//! What an instance must offer so that its state can be shared.

use super::slot::{Slot, SlotSet};
use crate::id::InstanceId;
use crate::southbound::Cursor;
use crate::time::Nanos;

/// The state of an instance that a share makes one with that of others, by slot.
///
/// It is called on the thread that processes the instance's packets, between two of them. Which
/// slot a group is in says [`Slot::of`].
pub trait Store {
    /// An operation on a group, which it names. It is kept until it is answered, and sent again if
    /// the home fails.
    type Op: Clone;
    /// What an operation gives back.
    type Answer: Clone;
    /// Some state of one slot, on its way to another instance. The store says how much: so much
    /// that packets do not wait for long while one is made or taken in.
    type Piece: Clone;

    /// Executes an operation. The share sees to it that this happens at one instance only, and
    /// once; it must depend on nothing but the state, the operation and the time.
    fn execute(&mut self, slot: Slot, op: &Self::Op, now: Nanos) -> Self::Answer;

    /// The slots of which it has state. This must be quick: it is kept as groups come and go.
    fn occupied(&self) -> SlotSet;

    /// The next piece of a slot; none when that was all.
    fn copy(&self, slot: Slot, cursor: &mut Cursor) -> Option<Self::Piece>;

    /// An instance begins to give away what it has of a slot, maybe anew: what came of that before
    /// comes again.
    fn giving(&mut self, _slot: Slot, _from: InstanceId) {}

    /// Takes in a piece: a join (see [`crate::merge`]), as pieces may come from several instances
    /// in any order, and more than once. Of a piece that is a replica, which its holder keeps, that
    /// one is not told.
    fn join(&mut self, slot: Slot, piece: Self::Piece, from: Option<InstanceId>, now: Nanos);

    /// All that an instance gives of a slot was taken in, and that one has forgotten it. Until then it
    /// may fail, and keep what it has; so what makes a difference is done here.
    fn given(&mut self, _slot: Slot, _from: InstanceId) {}

    /// Forgets a slot whose pieces have been handed over, without the records that the end of
    /// anything in it would make.
    fn remove(&mut self, slot: Slot);
}
