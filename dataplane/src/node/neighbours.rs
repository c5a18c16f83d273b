//! Neighbour reports: asked of the workers that own ports.

use std::sync::mpsc::Sender;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::Nanos;

use super::Node;
use crate::neighbour::NeighbourRecord;
use crate::worker::Command;

impl Node {
    /// Asks all workers for their neighbours. Answers come through `to`, which is dropped at
    /// the end.
    pub fn report_neighbours(&mut self, to: Sender<Vec<NeighbourRecord>>) {
        let workers: Vec<_> = self.running().collect();
        let query = self.neighbours.ask(to, workers.len());
        for worker in workers {
            self.tell(worker, Command::ReportNeighbours(query));
        }
    }

    /// A neighbour, as the API shows it.
    pub fn show_neighbour(&self, record: &NeighbourRecord, now: Nanos) -> api::Neighbour {
        api::Neighbour {
            port: self.ports.get(&record.port).map(|port| port.name.clone()).unwrap_or_default(),
            address: record.address.to_string(),
            mac: record.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            state: record.state.name().to_owned(),
            age_ns: now.since(record.since).as_nanos() as u64,
        }
    }
}
