//! Numbers that are used again only when no reader can still hold them.

use std::collections::VecDeque;

/// Hands out the numbers below a limit, and takes them back in two steps.
///
/// A reader may have read a number just before the writer took it out of use, and follow it until
/// the end of its poll round; so a number that was retired is free again only when the caller
/// says that all readers have begun a later round.
#[derive(Debug)]
pub(super) struct Recycler {
    limit: u32,
    /// Numbers from here on were never used.
    fresh: u32,
    free: Vec<u32>,
    /// Retired numbers, each with the generation at which that happened, oldest first.
    retired: VecDeque<(u64, u32)>,
}

impl Recycler {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, fresh: 0, free: Vec::new(), retired: VecDeque::new() }
    }

    /// How many numbers can be taken.
    pub(super) fn available(&self) -> usize {
        self.free.len() + (self.limit - self.fresh) as usize
    }

    /// How many numbers wait for readers.
    pub(super) fn waiting(&self) -> usize {
        self.retired.len()
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let number = (self.fresh < self.limit).then_some(self.fresh)?;
            self.fresh += 1;
            Some(number)
        })
    }

    pub(super) fn retire(&mut self, number: u32, generation: u64) {
        self.retired.push_back((generation, number));
    }

    /// Frees what was retired up to `generation`.
    pub(super) fn quiesced(&mut self, generation: u64) {
        while let Some(&(at, number)) = self.retired.front()
            && at <= generation
        {
            self.retired.pop_front();
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_number_comes_back_only_after_its_generation() {
        let mut recycler = Recycler::new(2);
        assert_eq!((recycler.take(), recycler.take(), recycler.take()), (Some(0), Some(1), None));
        recycler.retire(0, 5);
        recycler.quiesced(4);
        assert_eq!((recycler.take(), recycler.waiting()), (None, 1));
        recycler.quiesced(5);
        assert_eq!((recycler.available(), recycler.take()), (1, Some(0)));
    }
}
