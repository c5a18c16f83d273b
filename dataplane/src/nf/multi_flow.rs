//! What functions know of several flows, on its way from the chain of one instance to that of
//! another.

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};
use weir_state_transfer::{Chunk, FlowId, Nanos, StateFilter};

use super::Chain;
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

/// Pieces that a filter names only in part: they have other users, and stay.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// How many.
    pub(crate) count: u64,
    /// What the first of them are about.
    pub(crate) first: Vec<FlowId>,
}

impl Chain {
    /// Takes out the next of what the functions know of several flows and a filter names as a
    /// whole, `max` pieces at most, which may be none; what it names only in part is noted. `None`
    /// when there is no more.
    ///
    /// What comes while it goes on may be taken or not.
    pub(crate) fn take_multi_flow(
        &mut self,
        cursor: &mut MultiFlowCursor,
        filter: &StateFilter,
        max: usize,
        now: Nanos,
        left: &mut LeftBehind,
    ) -> Option<MultiFlow> {
        let place = cursor.function;
        if self.is_inheriting() {
            self.take_over(max, self.moment(now));
            return Some(MultiFlow { function: place, pieces: Vec::new() });
        }
        let now = self.moment(now);
        let function = self.functions.get_mut(place)?;
        let get = Get { filter, extent: Extent::Overlaps, since: 0, max };
        let mut chunks = Vec::new();
        if function.get_multi_flow(&get, &mut cursor.cursor, &mut chunks, now) == More::No {
            *cursor = MultiFlowCursor { function: place + 1, cursor: Cursor::default() };
        }
        left.separate(filter, &mut chunks);
        let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        let pieces = chunks.into_iter().map(|chunk| Piece::of(&**function, chunk)).collect();
        function.del_multi_flow(&ids);
        Some(MultiFlow { function: place, pieces })
    }

    /// Joins what another instance has taken out; what there is no room for comes back.
    pub(crate) fn join_multi_flow(&mut self, state: MultiFlow, now: Nanos) -> MultiFlow {
        let MultiFlow { function, mut pieces } = state;
        let now = self.moment(now);
        if let Some(here) = self.functions.get_mut(function) {
            pieces.retain(|piece| piece.join(&mut **here, now).is_err());
        }
        MultiFlow { function, pieces }
    }
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

#[cfg(test)]
mod tests {
    use weir_state_transfer::flow_id::Ends;

    use super::*;
    use crate::nf::schema::IDS_SOURCE;

    /// A piece about all hosts of a network.
    fn of_network(network: &str) -> Chunk {
        let id = FlowId::new(Ends::Host(network.parse().unwrap()), None, None);
        IDS_SOURCE.chunk(id, Vec::new())
    }

    #[test]
    fn what_a_filter_names_only_in_part_stays_and_is_told_of() {
        let filter: StateFilter = "src=10.1.0.0/16".parse().unwrap();
        let networks = (0..40).map(|n| format!("10.{}.0.0/{}", n % 2, 8 + n % 2 * 12));
        let mut chunks: Vec<_> = networks.map(|network| of_network(&network)).collect();
        let mut left = LeftBehind::default();
        left.separate(&filter, &mut chunks);
        assert!(
            chunks.len() == 20 && chunks.iter().all(|chunk| *chunk == of_network("10.1.0.0/20"))
        );
        assert_eq!((left.count, left.first.len()), (20, TOLD));
        assert_eq!(left.first[0].to_string(), "host=10.0.0.0/8");
    }
}
