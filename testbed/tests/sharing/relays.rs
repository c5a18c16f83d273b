//! The rings between workers, cut, with a fault in between.

use std::collections::BTreeMap;

use weir_dataplane::worker::{Item, Splice};
use weir_state_transfer::WorkerId;
use weir_testbed::memory_node::MemoryNode;

use crate::world::Broken;

#[derive(Debug)]
pub(crate) struct Relays {
    splices: BTreeMap<(WorkerId, WorkerId), Splice>,
    broken: Broken,
    /// Messages of shares that have passed.
    messages: u64,
}

impl Relays {
    /// Cuts every ring of a node at rest.
    pub(crate) fn new(node: &mut MemoryNode, broken: Broken, slots: usize) -> Self {
        let ids: Vec<_> = node.workers.keys().copied().collect();
        let mut splices = BTreeMap::new();
        for (to, worker) in &mut node.workers {
            for from in &ids {
                let splice = worker.splice(*from, slots).expect("all workers are connected");
                splices.insert((*from, *to), splice);
            }
        }
        Self { splices, broken, messages: 0 }
    }

    /// Passes on all that was sent to a worker.
    pub(crate) fn pass(&mut self, to: WorkerId) {
        let towards = self.splices.iter_mut().filter(|((_, receiver), _)| *receiver == to);
        for (_, splice) in towards {
            let mut items: Vec<_> = std::iter::from_fn(|| splice.take()).collect();
            match self.broken {
                Broken::Lost => items.retain(|item| {
                    self.messages += u64::from(matches!(item, Item::Share(_)));
                    !matches!(item, Item::Share(_)) || !self.messages.is_multiple_of(20)
                }),
                Broken::Swapped => {
                    let is_share = |item: &Item| matches!(item, Item::Share(_));
                    for at in 1..items.len() {
                        if is_share(&items[at - 1]) && is_share(&items[at]) {
                            items.swap(at - 1, at);
                        }
                    }
                }
                Broken::Nothing | Broken::Spliced | Broken::Panics | Broken::NotShared => {}
                Broken::OnlyStrong | Broken::StrongAsOthersJoin => {}
                Broken::TooMuchAsOthersJoin | Broken::Forgetful => {}
            }
            items.into_iter().for_each(|item| splice.pass(item));
            splice.flush();
        }
    }
}
