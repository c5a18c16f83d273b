//! The state that is shared in these tests: which visitors a slot has had.

use weir_state_transfer::share::{Slot, SlotSet, Store};
use weir_state_transfer::southbound::Cursor;
use weir_state_transfer::{InstanceId, Nanos};

/// Comes by and sees who was there before: so an answer tells all that was executed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Visit(pub(crate) u8);

/// Visitors, one bit each.
pub(crate) type Visitors = u64;

/// The visitors of each slot, as one instance knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Visits {
    pub(crate) slots: Vec<Visitors>,
    /// What was executed since the last look.
    pub(crate) executed: Vec<(Slot, u8)>,
}

impl Visits {
    /// Every instance has had a visitor of its own in each slot before the share.
    pub(crate) fn new(me: InstanceId, slots: usize) -> Self {
        Self { slots: vec![own(me); slots], executed: Vec::new() }
    }
}

/// The visitor whom an instance has had before the share.
pub(crate) fn own(instance: InstanceId) -> Visitors {
    1 << (60 + instance.0)
}

pub(crate) fn visit(visitors: &mut Visitors, Visit(visitor): &Visit) -> Visitors {
    let before = *visitors;
    *visitors |= 1 << visitor;
    before
}

impl Store for Visits {
    type Op = Visit;
    type Answer = Visitors;
    /// One visitor.
    type Piece = Visitors;

    fn execute(&mut self, slot: Slot, op: &Visit, _: Nanos) -> Visitors {
        self.executed.push((slot, op.0));
        visit(&mut self.slots[usize::from(slot.0)], op)
    }

    fn occupied(&self) -> SlotSet {
        let slots = self.slots.iter().enumerate().filter(|(_, visitors)| **visitors != 0);
        slots.map(|(slot, _)| Slot(slot as u16)).collect()
    }

    fn copy(&self, slot: Slot, cursor: &mut Cursor) -> Option<Visitors> {
        let left = self.slots[usize::from(slot.0)].checked_shr(cursor.0 as u32)?;
        let next = cursor.0 + u64::from(left.trailing_zeros());
        (left != 0).then(|| {
            cursor.0 = next + 1;
            1 << next
        })
    }

    fn join(&mut self, slot: Slot, piece: Visitors, _: Nanos) {
        self.slots[usize::from(slot.0)] |= piece;
    }

    fn remove(&mut self, slot: Slot) {
        self.slots[usize::from(slot.0)] = 0;
    }
}
