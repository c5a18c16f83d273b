//! What a worker does for the network functions of its instances besides showing them packets: it
//! passes on their records, and ends what they know of flows when the node stops.

use super::{Event, Forwarder, Instances, NfReport};
use crate::instance::Instance;

/// Records passed on in one poll round, at most.
const RECORDS: usize = 64;
/// Flows ended in one poll round, at most.
const ENDED: usize = 64;

/// What is in progress.
#[derive(Debug, Default)]
pub(super) struct Functions {
    ending: bool,
    /// Flows are ended, or have been.
    ended: bool,
}

impl Functions {
    /// Ends all that is known of flows, in pieces.
    pub(super) fn end_flows(&mut self) {
        (self.ending, self.ended) = (true, true);
    }

    /// Whether flows are ended: then no packet is received any more, which would begin others.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// A bounded piece; whether there is more to do at once. Records wait at their functions, in
    /// their bounds, while the node is behind with events.
    pub(super) fn step(&mut self, instances: &mut Instances, forwarder: &mut Forwarder) -> bool {
        for instance in instances.iter_mut().filter(|instance| !instance.chain.is_empty()) {
            if instance.chain.has_records() && !forwarder.events_wait() {
                let records = instance.chain.take_records(RECORDS);
                forwarder.tell(Event::Records(instance.id, records));
            }
        }
        if !self.ending || forwarder.events_wait() {
            return self.ending;
        }
        let mut ended = true;
        for instance in instances.iter_mut() {
            ended &= instance.end_flows(ENDED);
            forwarder.note_caught(instance);
        }
        if ended {
            self.ending = false;
            forwarder.tell(Event::FlowsEnded);
        }
        self.ending
    }
}

/// What the network functions of an instance have counted.
pub(super) fn report(instance: &Instance) -> Vec<NfReport> {
    let id = instance.id;
    let known = instance.flows.known() as u64;
    let full = instance.counters.functions_full.get();
    let kept = (instance.flows.kept() + instance.flows.kept_of_copies()) as u64;
    let of_all = [("flows", known), ("flows_without_room", full), ("kept_bytes", kept)];
    let report = |(kind, counters): (&'static str, Vec<(String, u64)>)| {
        // A firewall keeps nothing of streams.
        let shown = if kind == "ids" { &of_all[..] } else { &of_all[..2] };
        let of_all = shown.iter().map(|(name, value)| ((*name).to_owned(), *value));
        NfReport { instance: id, kind, counters: of_all.chain(counters).collect() }
    };
    instance.chain.counters().map(report).collect()
}
