//! What steering becomes when a move is undone: the moves that have flipped since are replayed.

use weir_state_transfer::MoveId;
use weir_state_transfer::filter::Selection;
use weir_state_transfer::mark::Request;

use crate::steering::Steering;

/// Moves that have flipped, oldest first, from the oldest that has not ended on.
#[derive(Debug, Default)]
pub(super) struct Flips(Vec<Flipped>);

/// A move that has flipped.
#[derive(Debug)]
struct Flipped {
    id: MoveId,
    request: Request,
    /// The table before it.
    before: Steering,
    done: bool,
}

/// Moves that have flipped since the oldest that has not ended, and it.
const FLIPPED: usize = 256;
/// Those of them that may yet be undone while flows are steered by rules or one by one: each more
/// doubles what is tried before a flip.
const OPEN: usize = 8;

impl Flips {
    /// A move flips the table `before`; [`Flips::may_follow`] must have said that it may.
    pub(super) fn push(&mut self, id: MoveId, request: Request, before: Steering) {
        self.0.push(Flipped { id, request, before, done: false });
    }

    /// Whether steering has room for what is left when any of the moves that are open are undone,
    /// with the next one among them. Rules take different room without a move that came before
    /// them.
    pub(super) fn may_follow(&self, next: &Request, is_open: impl Fn(MoveId) -> bool) -> bool {
        let Some(oldest) = self.0.first() else { return true };
        let before = self.0.iter().map(|flipped| (&flipped.request, is_open(flipped.id)));
        let replay: Vec<_> = before.chain([(next, true)]).collect();
        if replay.len() > FLIPPED {
            return false;
        }
        let by_bucket =
            |(request, _): &(&Request, bool)| matches!(request.selection, Selection::Buckets(_));
        if oldest.before.is_plain() && replay.iter().all(by_bucket) {
            return true;
        }
        let open = replay.iter().filter(|(_, is_open)| *is_open).count();
        open <= OPEN && every_replay_fits(&oldest.before, &replay)
    }

    /// The table as if the move had not been; none if it has not flipped. The others concern other
    /// flows, or they would have waited, and fit, or they would have been given up.
    pub(super) fn undo(&mut self, id: MoveId) -> Option<Steering> {
        let place = self.0.iter().position(|flipped| flipped.id == id)?;
        let mut steering = self.0.remove(place).before;
        for later in &mut self.0[place..] {
            let Request { selection, from, to, .. } = &later.request;
            let moved = steering.moved(selection, *from, *to);
            later.before = steering;
            steering = moved.expect("tried in this order when the last of them flipped");
        }
        self.settle();
        Some(steering)
    }

    /// A move has ended. It is replayed in its place as long as one before it may be undone.
    pub(super) fn end(&mut self, id: MoveId) {
        if let Some(flipped) = self.0.iter_mut().find(|flipped| flipped.id == id) {
            flipped.done = true;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let settled = self.0.iter().take_while(|flipped| flipped.done).count();
        self.0.drain(..settled);
    }
}

/// Whether the table has room for the moves in this order, with any that are open left out.
fn every_replay_fits(table: &Steering, moves: &[(&Request, bool)]) -> bool {
    let Some(((first, is_open), rest)) = moves.split_first() else { return true };
    (!is_open || every_replay_fits(table, rest))
        && table
            .moved(&first.selection, first.from, first.to)
            .is_ok_and(|moved| every_replay_fits(&moved, rest))
}
