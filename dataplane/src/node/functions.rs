//! What the node does for the network functions of its instances: their records, what one that is
//! gone has known, and the end of all flows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use weir_state_transfer::merge::Replica;
use weir_state_transfer::{InstanceId, WorkerId};

use super::Node;
use super::instances::InstanceRecord;
use crate::nf::Chain;
use crate::nf::ids::Record;
use crate::worker::{Command, NfReport};

/// Records that wait for whoever keeps them, at most; further ones are counted, and lost.
const RECORDS_MAX: usize = 65_536;

/// Records of network functions on their way to whoever keeps them.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: VecDeque<(Arc<str>, Record)>,
    lost: u64,
    /// Workers that still end flows, once all are to be ended.
    ending: Option<BTreeSet<WorkerId>>,
    /// Instances that there have been: each counts as another replica.
    lives: u64,
}

impl Records {
    pub(super) fn take(
        &mut self,
        instances: &BTreeMap<InstanceId, InstanceRecord>,
        id: InstanceId,
        records: impl IntoIterator<Item = Record>,
    ) {
        let Some(name) = instances.get(&id).map(|instance| instance.name.clone()) else { return };
        for record in records {
            // When the node stops there are as many at most as functions knew of flows.
            if self.waiting.len() < RECORDS_MAX || self.ending.is_some() {
                self.waiting.push_back((name.clone(), record));
            } else {
                self.lost += 1;
            }
        }
    }

    pub(super) fn flows_ended(&mut self, worker: WorkerId) {
        self.ending.iter_mut().for_each(|ending| {
            ending.remove(&worker);
        });
    }

    /// Whether no records wait and no flow is being ended.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.ending.as_ref().is_none_or(BTreeSet::is_empty)
    }
}

impl Node {
    /// The oldest record that a network function has made, with the name of its instance.
    pub fn poll_record(&mut self) -> Option<(Arc<str>, Record)> {
        self.records.waiting.pop_front()
    }

    /// Records that were lost because nobody took them.
    pub fn lost_records(&self) -> u64 {
        self.records.lost
    }

    /// Asks all workers what the network functions of their instances have counted. Answers come
    /// through `to`, which is dropped at the end.
    pub fn report_nfs(&mut self, to: Sender<Vec<NfReport>>) {
        let workers: Vec<_> = self.running().collect();
        let query = self.nfs.ask(to, workers.len());
        for worker in workers {
            self.tell(worker, Command::ReportNfs(query));
        }
    }

    /// Ends all that network functions know of flows, once.
    pub(super) fn end_flows(&mut self) {
        if self.records.ending.is_some() || self.limits.functions.is_empty() {
            return;
        }
        let running: BTreeSet<_> = self.running().collect();
        for worker in &running {
            self.tell(*worker, Command::EndFlows);
        }
        self.records.ending = Some(running);
    }

    /// The network functions of an instance that begins, and which life that is.
    pub(super) fn chain(&mut self, id: InstanceId) -> (Chain, u64) {
        self.records.lives += 1;
        // Each has room for numbers of its own behind it: functions count on from there.
        let incarnation = self.identity.incarnation.wrapping_add(self.records.lives << 32);
        let replica = Replica { instance: u32::from(id.0), incarnation };
        let hash = self.steered.steering.hash();
        (Chain::new(&self.limits.functions, hash, replica), self.records.lives)
    }

    /// What the network functions of an instance that is gone knew of more than one flow goes to
    /// the longest-lived of those that stay.
    pub(super) fn inherit(&mut self, id: InstanceId, mut gone: Chain) {
        let records = gone.take_records(usize::MAX);
        self.records.take(&self.instances, id, records);
        let stays = |(other, record): &(&InstanceId, &InstanceRecord)| {
            **other != id && !record.is_stopping()
        };
        let heir = self.instances.iter().filter(stays).min_by_key(|(_, record)| record.life);
        if let Some((heir, worker)) = heir.map(|(heir, record)| (*heir, record.worker))
            && !gone.is_empty()
        {
            self.tell(worker, Command::Inherit(heir, gone));
        }
    }
}
