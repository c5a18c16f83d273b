//! What all moves of a worker together may do in one poll round.

/// What is left of a round's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Pieces that may be exported: flows, or buckets by pointer.
    pub(super) pieces: usize,
    /// Sets of flow tables that hold anything, or sixteen that do not, and parked packets, that may be
    /// looked at.
    pub(super) looks: usize,
    /// Packets that may be released, sent back, taken back, or taken from park to park.
    pub(super) packets: usize,
}

impl Budget {
    /// That of a whole round.
    pub(super) const ROUND: Self = Self { pieces: 64, looks: 512, packets: 64 };

    /// Whether another piece may be exported; it is then paid for.
    pub(super) fn piece(&mut self) -> bool {
        take(&mut self.pieces)
    }

    /// Whether another packet may be released; it is then paid for.
    pub(super) fn packet(&mut self) -> bool {
        take(&mut self.packets)
    }

    /// Pays for what was looked at: a look that can not be cut short may cost more than is left.
    pub(super) fn looked_at(&mut self, count: usize) {
        self.looks = self.looks.saturating_sub(count);
    }
}

fn take(left: &mut usize) -> bool {
    let may = *left > 0;
    *left -= usize::from(may);
    may
}
