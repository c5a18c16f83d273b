//! What flows had counted before they came here, and which connections they are: the kernel begins
//! each entry at nothing.

use std::collections::HashMap;

use crate::entry::{Connection, Counters, Entry};
use crate::tuple::Tuple;

/// Counters of flows that were put in, each as long as its entry is the one that was made then.
#[derive(Debug)]
pub(crate) struct Carried {
    /// The number of this kernel and network namespace.
    kernel: u64,
    most: usize,
    flows: HashMap<(Tuple, u16), Brought>,
}

#[derive(Clone, Copy, Debug)]
struct Brought {
    /// The kernel's number of the entry.
    id: u32,
    counters: [Counters; 2],
    connection: Connection,
}

impl Carried {
    /// In this kernel, of so many flows at most.
    pub(crate) fn new(kernel: u64, most: usize) -> Self {
        Self { kernel, most, flows: HashMap::new() }
    }

    /// Adds to what the kernel knows of an entry what its flow has brought.
    pub(crate) fn complete(&mut self, mut entry: Entry) -> Entry {
        let name = (entry.original, entry.zone);
        (entry.connection.kernel, entry.connection.number) = (self.kernel, entry.id);
        match self.flows.get(&name) {
            Some(brought) if brought.id == entry.id => {
                let [original, reply] = brought.counters;
                let [of_original, of_reply] = entry.counters;
                entry.counters = [of_original.plus(original), of_reply.plus(reply)];
                entry.connection = brought.connection;
            }
            Some(_) => drop(self.flows.remove(&name)),
            None => {}
        }
        entry
    }

    /// Whether there is room for one more flow, or this is known.
    pub(crate) fn has_room(&self, entry: &Entry) -> bool {
        self.flows.len() < self.most || self.flows.contains_key(&(entry.original, entry.zone))
    }

    /// An entry was made for a flow that brings another.
    pub(crate) fn keep(&mut self, made: &Entry, brought: &Entry) {
        let Entry { counters, connection, .. } = *brought;
        let brought = Brought { id: made.id, counters, connection };
        self.flows.insert((made.original, made.zone), brought);
    }

    /// A flow is gone.
    pub(crate) fn forget(&mut self, entry: &Entry) {
        self.flows.remove(&(entry.original, entry.zone));
    }

    /// Forgets flows whose entries are not among those that there are.
    pub(crate) fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.flows.retain(|_, brought| is_there(brought.id));
    }
}
