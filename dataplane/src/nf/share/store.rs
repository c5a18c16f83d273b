//! The functions of an instance as the store of a share.

use weir_state_transfer::share::{Slot, SlotSet, Store};
use weir_state_transfer::southbound::Cursor;
use weir_state_transfer::{InstanceId, Nanos, ShareId};

use super::{Answer, Giving, Operation, Piece};
use crate::nf::chain::Chain;

/// What the functions of an instance know of the sources of a share.
pub(crate) struct Shared<'a> {
    pub(crate) chain: &'a mut Chain,
    pub(crate) share: ShareId,
}

/// A cursor has the function in its upper bits, and below how far that has come.
const FUNCTION_SHIFT: u32 = 56;

impl Store for Shared<'_> {
    type Op = Operation;
    type Answer = Answer;
    type Piece = Piece;

    fn execute(&mut self, _slot: Slot, operation: &Operation, now: Nanos) -> Answer {
        self.chain.execute(operation, now)
    }

    fn occupied(&self) -> SlotSet {
        let mut occupied = SlotSet::default();
        for shared in self.chain.functions.iter().filter_map(|function| function.shared()) {
            shared.occupied(self.share, &mut occupied);
        }
        occupied
    }

    fn copy(&self, slot: Slot, cursor: &mut Cursor) -> Option<Piece> {
        let below = (1 << FUNCTION_SHIFT) - 1;
        loop {
            let function = (cursor.0 >> FUNCTION_SHIFT) as u8;
            let mut inner = Cursor(cursor.0 & below);
            let of = self.chain.functions.get(usize::from(function))?;
            if let Some(what) = of.copy(self.share, slot, &mut inner) {
                cursor.0 = (u64::from(function) << FUNCTION_SHIFT) | (inner.0 & below);
                return Some(Piece { function, what });
            }
            cursor.0 = u64::from(function + 1) << FUNCTION_SHIFT;
        }
    }

    fn giving(&mut self, slot: Slot, from: InstanceId) {
        let giving = Giving { share: self.share, slot, from };
        for function in &mut self.chain.functions {
            function.shared_mut().into_iter().for_each(|shared| shared.giving(giving));
        }
    }

    fn join(&mut self, slot: Slot, piece: Piece, from: Option<InstanceId>, _now: Nanos) {
        let Piece { function, what } = piece;
        self.chain.changed_by_share = true;
        if let Some(function) = self.chain.functions.get_mut(usize::from(function)) {
            function.join(what, from.map(|from| Giving { share: self.share, slot, from }));
        }
    }

    fn given(&mut self, slot: Slot, from: InstanceId) {
        let giving = Giving { share: self.share, slot, from };
        self.chain.functions.iter_mut().for_each(|function| function.given(giving));
    }

    fn remove(&mut self, slot: Slot) {
        self.chain.changed_by_share = true;
        for known in self.chain.functions.iter_mut().filter_map(|function| function.sources_mut()) {
            known.remove_slot(self.share, slot);
        }
    }
}
