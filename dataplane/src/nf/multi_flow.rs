//! What functions know of several flows, on its way from the chain of one instance to that of
//! another.

#[cfg(test)]
mod tests;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};
use weir_state_transfer::{Chunk, FlowId, Nanos, StateFilter};

use super::Chain;
use super::chain::During;
use super::chain::faults::Faults;
use super::function::{Function, Moment};

/// Ids that are told of what stays behind.
const TOLD: usize = 16;

/// Pieces of what one function knows of several flows.
#[derive(Debug)]
pub struct MultiFlow {
    /// The place of the function in its chain: the same at every instance.
    pub(crate) function: usize,
    /// The pieces.
    pub pieces: Vec<Piece>,
}

/// A piece of what a function knew of several flows, which it has given away.
#[derive(Debug)]
pub struct Piece {
    pub(super) chunk: Chunk,
    /// As which replica it was counted there, if it was.
    pub(super) by: Option<Replica>,
}

/// How far the taking out has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MultiFlowCursor {
    function: usize,
    cursor: Cursor,
}

/// Pieces that stay: a filter names them only in part, and they have other users; or the function that
/// knows them has panicked when it was asked for them.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// How many.
    pub(crate) count: u64,
    /// What the first of those that have other users are about.
    pub(crate) first: Vec<FlowId>,
}

impl Chain {
    /// Takes out the next of what the functions know of several flows and a filter names as a
    /// whole, `max` pieces at most, which may be none; what it names only in part is noted. With them
    /// comes how many are lost: a function that panics when it is to forget a piece may have forgotten
    /// it or not, so that it is not given away. `None` when there is no more.
    ///
    /// What comes while it goes on may be taken or not.
    pub(crate) fn take_multi_flow(
        &mut self,
        cursor: &mut MultiFlowCursor,
        filter: &StateFilter,
        max: usize,
        now: Nanos,
        left: &mut LeftBehind,
    ) -> Option<(MultiFlow, u64)> {
        let place = cursor.function;
        if self.is_inheriting() {
            self.take_over(max, self.moment(now));
            return Some((MultiFlow { function: place, pieces: Vec::new() }, 0));
        }
        let now = self.moment(now);
        let Self { functions, faults, .. } = self;
        let function = &mut **functions.get_mut(place)?;
        let get = Get { filter, extent: Extent::Overlaps, since: 0, max };
        let mut chunks = Vec::new();
        let at = &mut cursor.cursor;
        let next = next_chunks(faults, (place, function), &get, at, &mut chunks, now);
        if next.more == More::No {
            *cursor = MultiFlowCursor { function: place + 1, cursor: Cursor::default() };
        }
        left.count += u64::from(next.has_panicked);
        left.separate(filter, &mut chunks);
        let picked = chunks.len();
        let take = |chunk| {
            faults.guard(place, During::MultiFlow, || {
                let piece = Piece::of(function, chunk);
                function.del_multi_flow(std::slice::from_ref(&piece.chunk.id));
                piece
            })
        };
        let pieces: Vec<_> = chunks.into_iter().filter_map(take).collect();
        let lost = (picked - pieces.len()) as u64;
        Some((MultiFlow { function: place, pieces }, lost))
    }

    /// Joins what another instance has taken out; what there is no room for comes back. With that
    /// comes how many pieces are lost, as the function has panicked when it was to take them in.
    pub(crate) fn join_multi_flow(&mut self, state: MultiFlow, now: Nanos) -> (MultiFlow, u64) {
        let MultiFlow { function, mut pieces } = state;
        let now = self.moment(now);
        let Self { functions, faults, .. } = self;
        let mut lost = 0;
        if let Some(here) = functions.get_mut(function) {
            pieces.retain(|piece| {
                let joined =
                    faults.guard(function, During::MultiFlow, || piece.join(&mut **here, now));
                lost += u64::from(joined.is_none());
                joined.is_some_and(|joined| joined.is_err())
            });
        }
        (MultiFlow { function, pieces }, lost)
    }
}

/// What a get has come to.
pub(super) struct Next {
    pub(super) more: More,
    /// The function has panicked at a piece, which it has not given.
    pub(super) has_panicked: bool,
}

/// Asks a function for the next of what it knows of several flows. If it panics, the get goes on behind
/// the piece that it has come to; where it has come no further, what is left of the function is passed
/// over, as it would panic again.
pub(super) fn next_chunks(
    faults: &mut Faults,
    (place, function): (usize, &dyn Function),
    get: &Get<'_>,
    cursor: &mut Cursor,
    chunks: &mut Vec<Chunk>,
    now: Moment,
) -> Next {
    let before = *cursor;
    let more = faults
        .guard(place, During::MultiFlow, || function.get_multi_flow(get, cursor, chunks, now));
    let is_further = *cursor != before;
    let after_panic = if is_further { More::Yes } else { More::No };
    Next { more: more.unwrap_or(after_panic), has_panicked: more.is_none() }
}

impl Piece {
    /// A piece of what a function knows, which it is about to forget.
    pub(super) fn of(function: &dyn Function, chunk: Chunk) -> Self {
        let by = function.counted_as(&chunk.id);
        Self { chunk, by }
    }

    /// Joins it with what a function knows.
    pub(super) fn join(&self, here: &mut dyn Function, now: Moment) -> Result<(), PutError> {
        match self.by {
            Some(by) => here.inherit(&self.chunk, by, now),
            None => here.put_multi_flow(&self.chunk, now),
        }
    }
}

impl LeftBehind {
    /// Takes away the pieces that a filter names only in part.
    fn separate(&mut self, filter: &StateFilter, chunks: &mut Vec<Chunk>) {
        chunks.retain(|chunk| {
            let goes = filter.picks(&chunk.id, Extent::Contains);
            if !goes {
                self.count += 1;
                self.first.extend((self.first.len() < TOLD).then(|| chunk.id.clone()));
            }
            goes
        });
    }
}
