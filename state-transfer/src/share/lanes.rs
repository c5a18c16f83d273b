//! Queues by lane, of which only those that have something take room.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::message::Lane;

/// A queue for each lane.
#[derive(Clone)]
pub(super) struct Lanes<T> {
    /// Those that are not empty, by lane.
    busy: Vec<(Lane, VecDeque<T>)>,
    /// Queues that were busy: once there are enough, a lane that fills allocates nothing.
    spare: Vec<VecDeque<T>>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { busy: Vec::new(), spare: Vec::new() }
    }
}

impl<T> Lanes<T> {
    /// The queue of a lane, if anything is in it.
    pub(super) fn get(&self, lane: Lane) -> Option<&VecDeque<T>> {
        self.find(lane).ok().map(|at| &self.busy[at].1)
    }

    /// Changes the queue of a lane.
    pub(super) fn with<R>(&mut self, lane: Lane, change: impl FnOnce(&mut VecDeque<T>) -> R) -> R {
        let at = self.find(lane).unwrap_or_else(|at| {
            self.busy.insert(at, (lane, self.spare.pop().unwrap_or_default()));
            at
        });
        let result = change(&mut self.busy[at].1);
        if self.busy[at].1.is_empty() {
            self.spare.push(self.busy.remove(at).1);
        }
        result
    }

    /// The lanes in which something is, in their order.
    pub(super) fn busy(&self) -> Vec<Lane> {
        self.busy.iter().map(|(lane, _)| *lane).collect()
    }

    /// What is in all of them.
    pub(super) fn into_all(self) -> impl Iterator<Item = T> {
        self.busy.into_iter().flat_map(|(_, queue)| queue)
    }

    /// Whether nothing is in any.
    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    fn find(&self, lane: Lane) -> Result<usize, usize> {
        self.busy.binary_search_by_key(&lane, |(lane, _)| *lane)
    }
}

impl<T: fmt::Debug> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.busy.iter().map(|(lane, queue)| (lane, queue))).finish()
    }
}

impl<T: Hash> Hash for Lanes<T> {
    /// What is in them: how much room there is makes no difference.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.busy.hash(state);
    }
}
