//! The rings between workers, cut, so that what they carry takes its time.

use std::collections::{BTreeMap, VecDeque};

use weir_dataplane::worker::{Item, Splice};
use weir_state_transfer::WorkerId;
use weir_testbed::memory_node::MemoryNode;

/// What a ring may have in it.
const SLOTS: usize = 8_192;

/// A ring that was cut, and what is on its way from one half to the other.
#[derive(Debug)]
struct Relay {
    splice: Splice,
    late: VecDeque<Item>,
}

#[derive(Debug, Default)]
pub(crate) struct Relays {
    relays: BTreeMap<(WorkerId, WorkerId), Relay>,
    /// Whether those who have caught up say so in front of what they have steered.
    early: bool,
    /// Nothing else passes to this worker.
    stalled: Option<WorkerId>,
}

impl Relays {
    /// Cuts every ring of a node at rest.
    pub(crate) fn new(node: &mut MemoryNode, early: bool) -> Self {
        let ids: Vec<_> = node.workers.keys().copied().collect();
        let mut relays = BTreeMap::new();
        for (to, worker) in &mut node.workers {
            for from in &ids {
                let splice = worker.splice(*from, SLOTS).expect("all workers are connected");
                relays.insert((*from, *to), Relay { splice, late: VecDeque::new() });
            }
        }
        Self { relays, early, stalled: None }
    }

    /// Only those who have caught up say so to a worker, and nothing else passes, until another stalls.
    pub(crate) fn stall(&mut self, to: WorkerId) {
        self.stalled = Some(to);
    }

    /// Passes on some of what was sent to a worker, `all` of it or as much as it happens.
    pub(crate) fn pass(&mut self, to: WorkerId, rng: &mut fastrand::Rng, all: bool) {
        let towards = self.relays.iter_mut().filter(|((_, receiver), _)| *receiver == to);
        for (_, Relay { splice, late }) in towards {
            while let Some(item) = splice.take() {
                match self.early && matches!(item, Item::CaughtUp(_)) {
                    true => splice.pass(item),
                    false => late.push_back(item),
                }
            }
            let count = match all {
                true => late.len(),
                false if self.stalled == Some(to) => 0,
                false if rng.u8(..4) > 0 => 0,
                false => rng.usize(..=late.len()),
            };
            late.drain(..count).for_each(|item| splice.pass(item));
            splice.flush();
        }
    }
}
