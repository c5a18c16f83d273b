//! Flow reports: a bounded piece a poll round, so that listing flows delays no packet.

use std::collections::VecDeque;

use weir_state_transfer::InstanceId;

use super::{Event, FlowQuery, FlowRecord, Forwarder, Instances};
use crate::instance::Cursor;
use crate::steering::FlowHash;

/// Reports in progress.
#[derive(Debug, Default)]
pub(super) struct Reports {
    queries: VecDeque<Report>,
}

#[derive(Debug)]
struct Report {
    query: FlowQuery,
    /// Instances that have not been reported, last first.
    rest: Option<Vec<InstanceId>>,
    cursor: Cursor,
}

/// Sets of the flow table looked at in one poll round.
const LOOK: usize = 128;

impl Reports {
    pub(super) fn start(&mut self, query: FlowQuery) {
        self.queries.push_back(Report { query, rest: None, cursor: Cursor::default() });
    }

    /// Reports a piece; whether there is more. Waits while the node is behind with events.
    pub(super) fn piece(&mut self, instances: &mut Instances, forwarder: &mut Forwarder) -> bool {
        let Some(report) = self.queries.front_mut() else { return false };
        if forwarder.events_wait() {
            return true;
        }
        let id = report.query.id;
        match report.piece(instances, &forwarder.steering_hash) {
            Some(flows) if flows.is_empty() => {}
            Some(flows) => forwarder.tell(Event::Flows(id, flows)),
            None => {
                self.queries.pop_front();
                forwarder.tell(Event::Flows(id, Vec::new()));
            }
        }
        !self.queries.is_empty()
    }
}

impl Report {
    fn piece(&mut self, instances: &mut Instances, hash: &FlowHash) -> Option<Vec<FlowRecord>> {
        let wanted = self.query.instance;
        let rest = self.rest.get_or_insert_with(|| {
            let all = instances.iter().map(|instance| instance.id);
            all.filter(|id| wanted.is_none_or(|wanted| wanted == *id)).collect()
        });
        let instance = *rest.last()?;
        let mut flows = Vec::new();
        if let Some(found) = instances.find(instance) {
            let query = &self.query;
            found.flows.visit(&mut self.cursor, LOOK, |entry| {
                if query.filter.as_ref().is_none_or(|filter| filter.matches(&entry.key)) {
                    flows.push(FlowRecord {
                        instance,
                        key: entry.key,
                        bucket: hash.bucket(&entry.key),
                        packets: entry.packets,
                        bytes: entry.bytes,
                        first_seen: entry.first_seen(),
                        last_seen: entry.last_seen(),
                        digest: entry.digest,
                    });
                }
            });
        } else {
            self.cursor = Cursor::end();
        }
        if self.cursor.is_done() {
            rest.pop();
            self.cursor = Cursor::default();
        }
        Some(flows)
    }
}
