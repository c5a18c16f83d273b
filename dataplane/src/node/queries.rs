//! Questions to all workers: each answers once.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

/// Questions that have not been answered by every worker.
#[derive(Debug)]
pub(super) struct Queries<T> {
    last: u64,
    waiting: BTreeMap<u64, Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    to: Sender<Vec<T>>,
    workers: usize,
}

impl<T> Default for Queries<T> {
    fn default() -> Self {
        Self { last: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Queries<T> {
    /// The number of a new question to so many workers. Answers go through `to`, which is dropped
    /// at the end.
    pub(super) fn ask(&mut self, to: Sender<Vec<T>>, workers: usize) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, Waiting { to, workers });
        self.last
    }

    /// Passes the answer of a worker on.
    pub(super) fn answer(&mut self, query: u64, found: Vec<T>) {
        let Some(waiting) = self.waiting.get_mut(&query) else { return };
        waiting.workers -= 1;
        let gone = waiting.to.send(found).is_err();
        if gone || waiting.workers == 0 {
            self.waiting.remove(&query);
        }
    }
}
