//! What a full clone of an instance does instead of a move (replication of virtual machines).
//!
//! At the clone both copies have the state of all flows, and from then on each gets the packets of
//! its own flows only. Of the flows of the other each keeps a connection that never goes on, and
//! logs it (OpenNF, section 8.4).

use std::collections::BTreeMap;

use weir_dataplane::nf::ids::{Config, Connection, Ids, Record, Timestamp};
use weir_state_transfer::FlowKey;
use weir_state_transfer::merge::Replica;

use super::conversations::{Packet, segment};

/// Between two packets, in nanoseconds: 10,000 in a second.
const APART: u64 = 100_000;

/// An instance of the intrusion detection with what it knows of single flows and has logged.
struct Instance {
    ids: Ids,
    connections: BTreeMap<FlowKey, Option<Connection>>,
    records: Vec<Record>,
}

/// What one instance logs of all packets.
pub(super) fn single(packets: &[Packet]) -> Vec<Record> {
    let mut instance = Instance::new(1);
    instance.take(packets, 0, |_| true);
    instance.finish()
}

/// What an instance and its clone log together when it is cloned in front of the packet `at`, and
/// the flows that `to_clone` chooses then go to the clone.
pub(super) fn cloned(
    packets: &[Packet],
    at: usize,
    to_clone: impl Fn(&FlowKey) -> bool,
) -> [Vec<Record>; 2] {
    let (before, after) = packets.split_at(at);
    let mut original = Instance::new(1);
    original.take(before, 0, |_| true);
    let mut clone = original.cloned();
    let chosen = |packet: &Packet| to_clone(&packet.key) || to_clone(&packet.key.reversed());
    original.take(after, at, |packet| !chosen(packet));
    clone.take(after, at, chosen);
    [original.finish(), clone.finish()]
}

impl Instance {
    fn new(instance: u32) -> Self {
        let ids = Ids::new(Config::default(), Replica { instance, incarnation: 1 });
        Self { ids, connections: BTreeMap::new(), records: Vec::new() }
    }

    /// A copy of all that it knows. What it has logged so far stands in its own log only.
    fn cloned(&self) -> Self {
        let Self { ids, connections, .. } = self;
        Self { ids: ids.clone(), connections: connections.clone(), records: Vec::new() }
    }

    fn take(&mut self, packets: &[Packet], first: usize, is_own: impl Fn(&Packet) -> bool) {
        for (at, packet) in (first..).zip(packets).filter(|(_, packet)| is_own(packet)) {
            let Some(meta) = segment(&packet.frame) else { continue };
            let connection = self.connections.entry(packet.key.both_ways()).or_default();
            self.ids.packet(connection, &meta, &packet.frame, Timestamp(at as u64 * APART));
            self.records.extend(self.ids.drain());
        }
    }

    fn finish(mut self) -> Vec<Record> {
        for connection in self.connections.values_mut() {
            self.ids.end(connection);
        }
        self.records.extend(self.ids.drain());
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::super::conversations::Conversations;
    use super::super::generated;
    use super::super::logs::Logs;
    use super::*;

    fn to_port_80(key: &FlowKey) -> bool {
        key.dst_port() == 80
    }

    #[test]
    fn each_flow_that_is_open_at_the_clone_is_logged_wrongly_once() {
        let all = Conversations::new(&generated::frames(40, 4)).unwrap();
        let should = Logs::of(&single(&all.packets)).unwrap();
        assert_eq!(should.conns.len(), 40);
        let open = all.all_open();
        let parts = cloned(&all.packets, open.start + open.len() / 2, to_port_80);
        let at_clone = Logs::of(&parts[1]).unwrap().conns.len();
        let both = Logs::of(&parts.concat()).unwrap();
        let difference = both.difference(&should);
        assert_eq!((at_clone, both.conns.len()), (40, 80));
        // The entries of transactions that were in progress come in addition.
        assert!(difference.unexpected >= 40 && difference.missing == 0, "{difference:?}");
    }

    #[test]
    fn a_clone_that_takes_over_everything_and_an_original_that_forgets_differ_in_nothing() {
        let all = Conversations::new(&generated::frames(10, 5)).unwrap();
        let should = Logs::of(&single(&all.packets)).unwrap();
        let at = all.packets.len() / 2;
        let mut original = Instance::new(1);
        original.take(&all.packets[..at], 0, |_| true);
        let mut clone = original.cloned();
        original.connections.clear();
        clone.take(&all.packets[at..], at, |_| true);
        let both = [original.finish(), clone.finish()].concat();
        assert_eq!(Logs::of(&both).unwrap().difference(&should).entries(), 0);
    }

    #[test]
    fn a_clone_knows_all_that_the_original_knows() {
        let all = Conversations::new(&generated::frames(10, 5)).unwrap();
        let mut original = Instance::new(1);
        // The first packet of each, with no answer: connections that failed, and their sources.
        let firsts: Vec<_> =
            (0..10).filter_map(|n| all.packets.iter().find(|p| p.flow == n)).collect();
        for packet in firsts {
            original.take(std::slice::from_ref(packet), 0, |_| true);
        }
        for connection in original.connections.values_mut() {
            original.ids.end(connection);
        }
        original.take(&all.packets, 0, |_| true);
        let clone = original.cloned();
        assert_eq!(original.ids.sources().len(), 10);
        assert_eq!(clone.ids.get_all_flows(), original.ids.get_all_flows());
        for source in original.ids.sources() {
            assert_eq!(clone.ids.source(&source), original.ids.source(&source));
        }
        assert_eq!(clone.connections.len(), original.connections.len());
        assert!(clone.records.is_empty());
    }

    #[test]
    fn a_clone_before_the_first_packet_or_behind_the_last_of_all_flows_is_told_apart() {
        let all = Conversations::new(&generated::frames(10, 6)).unwrap();
        let should = Logs::of(&single(&all.packets)).unwrap();
        let differ = |at| {
            let both = cloned(&all.packets, at, to_port_80).concat();
            Logs::of(&both).unwrap().difference(&should).entries()
        };
        assert_eq!(differ(0), 0);
        // Both copies then log every flow whole: each is there twice.
        assert!(differ(all.packets.len()) >= 10);
    }
}
