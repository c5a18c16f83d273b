//! Switch instances: a router each, with flows, rules and counters of its own.

pub mod digest;
mod entry;
mod part;
mod table;

use std::sync::Arc;

use weir_state_transfer::{InstanceId, Nanos};

pub use entry::Entry;
pub use part::{Part, Slot};
pub(crate) use table::Cursor;
pub use table::{FlowHasher, FlowTable, Place};

use crate::counters::InstanceCounters;

/// A switch instance as its worker holds it.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) flows: FlowTable,
    pub(crate) counters: Arc<InstanceCounters>,
    /// Packets processed in this poll round: its share of the round's cost.
    pub(crate) round: u64,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, flows: FlowTable, counters: Arc<InstanceCounters>) -> Self {
        Self { id, flows, counters, round: 0 }
    }

    /// Ends flows that have been idle since `before`, a bounded piece of the table at a time.
    pub(crate) fn sweep(&mut self, sets: usize, before: Nanos) {
        self.flows.sweep(sets, before);
        self.counters.flows.set(self.flows.len() as u64);
    }
}
