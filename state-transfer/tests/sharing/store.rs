//! The state that is shared in these tests: which visitors a slot has had.

use std::cell::Cell;
use std::hash::{Hash, Hasher};

use weir_state_transfer::share::{Slot, SlotSet, Store};
use weir_state_transfer::southbound::Cursor;
use weir_state_transfer::{InstanceId, Nanos};

/// Comes by and sees who was there before: so an answer tells all that was executed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Visit(pub(crate) u8);

/// Visitors, one bit each.
pub(crate) type Visitors = u64;

/// The visitors of each slot, as one instance knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visits {
    pub(crate) slots: Vec<Visitors>,
    /// What was executed since the last look.
    pub(crate) executed: Vec<Executed>,
    /// One piece has all the visitors of a slot; otherwise one.
    whole: bool,
    /// Slots that have been copied to the end.
    copied: Cell<u64>,
    /// Instances of which pieces came, one bit each, that have not been said to have given all; by
    /// slot.
    giving: Vec<u8>,
}

impl Visits {
    /// Every instance has had a visitor of its own in each slot before the share.
    pub(crate) fn new(me: InstanceId, slots: usize, whole: bool) -> Self {
        let (executed, copied) = (Vec::new(), Cell::new(0));
        Self { slots: vec![own(me); slots], executed, whole, copied, giving: vec![0; slots] }
    }
}

/// An operation that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Executed {
    pub(crate) slot: Slot,
    pub(crate) visitor: u8,
    /// Who was there before.
    pub(crate) before: Visitors,
    /// The slot had been copied to the end.
    pub(crate) copied: bool,
    /// Instances that were giving something of the slot, one bit each.
    pub(crate) giving: u8,
}

impl Hash for Visits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.slots, &self.executed, self.copied.get(), &self.giving).hash(state);
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
    /// Visitors.
    type Piece = Visitors;

    fn execute(&mut self, slot: Slot, op: &Visit, _: Nanos) -> Visitors {
        let before = visit(&mut self.slots[usize::from(slot.0)], op);
        let copied = self.copied.get() >> slot.0 & 1 == 1;
        let giving = self.giving[usize::from(slot.0)];
        self.executed.push(Executed { slot, visitor: op.0, before, copied, giving });
        before
    }

    fn occupied(&self) -> SlotSet {
        let slots = self.slots.iter().enumerate().filter(|(_, visitors)| **visitors != 0);
        slots.map(|(slot, _)| Slot(slot as u16)).collect()
    }

    fn copy(&self, slot: Slot, cursor: &mut Cursor) -> Option<Visitors> {
        let all = self.slots[usize::from(slot.0)];
        let left = all.checked_shr(cursor.0 as u32).unwrap_or(0);
        if left == 0 {
            self.copied.set(self.copied.get() | 1 << slot.0);
            return None;
        }
        let first = cursor.0 + u64::from(left.trailing_zeros());
        cursor.0 = if self.whole { 64 } else { first + 1 };
        Some(if self.whole { all } else { 1 << first })
    }

    fn join(&mut self, slot: Slot, piece: Visitors, from: Option<InstanceId>, _: Nanos) {
        self.slots[usize::from(slot.0)] |= piece;
        from.into_iter().for_each(|from| self.giving[usize::from(slot.0)] |= 1 << from.0);
    }

    fn given(&mut self, slot: Slot, from: InstanceId) {
        self.giving[usize::from(slot.0)] &= !(1 << from.0);
    }

    fn remove(&mut self, slot: Slot) {
        self.copied.set(self.copied.get() & !(1 << slot.0));
        self.slots[usize::from(slot.0)] = 0;
        self.giving[usize::from(slot.0)] = 0;
    }
}
