//! Flow reports: asked of every worker, given to the caller piece by piece.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use super::Node;
use crate::worker::{Command, FlowQuery, FlowRecord};

/// Flow reports in progress.
#[derive(Debug, Default)]
pub(super) struct Queries {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    to: Sender<Vec<FlowRecord>>,
    workers: usize,
}

impl Queries {
    /// Passes a piece on. The last piece of each worker is empty; the report ends with the last
    /// worker's, when its sender is dropped.
    pub(super) fn piece(&mut self, query: u64, flows: Vec<FlowRecord>) {
        let Some(waiting) = self.waiting.get_mut(&query) else { return };
        if flows.is_empty() {
            waiting.workers -= 1;
        }
        // A caller that has gone away is not an error: the rest goes nowhere.
        let gone = !flows.is_empty() && waiting.to.send(flows).is_err();
        if gone || waiting.workers == 0 {
            self.waiting.remove(&query);
        }
    }
}

impl Node {
    /// Asks all workers for their flows. Pieces come through `to`, which is dropped at the end.
    pub fn report_flows(&mut self, mut query: FlowQuery, to: Sender<Vec<FlowRecord>>) {
        self.flows.last += 1;
        query.id = self.flows.last;
        let workers: Vec<_> = self.running().collect();
        self.flows.waiting.insert(query.id, Waiting { to, workers: workers.len() });
        for worker in workers {
            self.tell(worker, Command::ReportFlows(query.clone()));
        }
    }
}
