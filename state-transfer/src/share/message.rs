//! What the instances of a share tell each other.

use super::done::Done;
use super::order::Windows;
use super::slot::{Slot, SlotSet};
use crate::id::{InstanceId, WorkerId};

/// A message from one instance of a share to another.
///
/// Those between two instances must arrive once and in order, as they do in the ring between two
/// workers. `O` is what an operation is, `A` its answer, `C` a piece of state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message<O, A, C> {
    /// An operation, to the home of its slot.
    Operation(Operation<O>),
    /// What became of an operation, to who asked for it.
    Answer(Answer<A>),
    /// Packets that cause no operation, to the home of their slot.
    Passed(Passed),
    /// The sender asks by another view from here on; to every other participant.
    Fence {
        /// The number of the view.
        view: u64,
        /// Slots of the receiver of which the sender has something that it hands over later.
        owed: SlotSet,
    },
    /// State of groups of a slot.
    Piece(Slot, C),
    /// What the sender knows of a slot besides its state, which follows.
    Ledger(Box<Ledger<O, A>>),
    /// All that the sender had of a slot is in front of this.
    Handed(Slot),
}

/// An operation on the state of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operation<O> {
    /// Who asks, and which of its operations this is: what is repeated is executed once.
    pub id: OperationId,
    /// The oldest operation of this asker, in this lane, whose answer it waits for.
    pub(super) floor: u64,
    /// The view by which it was sent.
    pub(super) view: u64,
    pub(super) lane: Lane,
    /// Where its group is.
    pub slot: Slot,
    /// Its place in the order of its steerer, if the share is strict.
    pub stamp: Option<Stamp>,
    /// The place of its steerer's order that it comes behind, when it has none itself.
    pub(super) follows: Option<u64>,
    /// What is to be done.
    pub op: O,
}

/// The number of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// Who asks.
    pub instance: InstanceId,
    /// Grows with each of its operations, and never twice the same while the share lives.
    pub number: u64,
}

/// The place of a packet in the order in which a steerer received those of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The worker that received it: it polls the receive queue.
    pub steerer: WorkerId,
    /// How many of the slot it had stamped before.
    pub sequence: u64,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer<A> {
    /// Its number.
    pub number: u64,
    pub(super) lane: Lane,
    /// The answer.
    pub outcome: Outcome<A>,
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome<A> {
    /// It was executed.
    Done(A),
    /// It has missed its place in the order of its steerer, and was not executed.
    Late,
}

impl<A> Outcome<A> {
    /// The answer, if it was executed.
    pub(super) fn done(self) -> Option<A> {
        match self {
            Self::Done(answer) => Some(answer),
            Self::Late => None,
        }
    }
}

/// Packets of a steerer that cause no operation, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Passed {
    /// Their slot.
    pub slot: Slot,
    /// Who stamped them.
    pub steerer: WorkerId,
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Why.
    pub cause: Cause,
}

/// Why a packet causes no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It needs none.
    Noop,
    /// It was dropped on its way.
    Skipped,
}

/// What a home of a slot knows besides its state. It goes in front of the state, so that if the
/// home fails in between, no operation of which there may be traces is executed again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger<O, A> {
    pub(super) slot: Slot,
    pub(super) done: Done<A>,
    pub(super) windows: Windows<O>,
    pub(super) held: Vec<Operation<O>>,
}

/// Packets that are processed in the order in which they come to an instance: of a slot, and of
/// one steerer if the share is strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) slot: Slot,
    pub(super) steerer: Option<WorkerId>,
}
