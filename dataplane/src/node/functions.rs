//! What the node does for the network functions of its instances: their records, what one that is
//! gone has known, and the end of all flows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use weir_nf_api::server::Desk;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::StateKind;
use weir_state_transfer::{InstanceId, WorkerId};

use super::instances::InstanceRecord;
use super::{Node, NodeError};
use crate::nf::{Chain, REPLICAS_OF_A_LIFE, Record};
use crate::worker::{Command, NfReport};

/// What an instance is for whoever asks for its state.
#[derive(Clone, Debug)]
pub struct InstanceAsNf {
    /// Its name.
    pub name: Arc<str>,
    /// The kinds of state that its network functions have.
    pub kinds: Vec<StateKind>,
    /// Whether flows have other names than the ids of their state: those that a NAT gives them.
    pub other_names: bool,
    /// Which of the instances that there have been it is.
    pub life: u64,
    /// The worker that runs it, always the same one.
    pub worker: WorkerId,
}

/// Records that wait for whoever keeps them, at most; further ones are counted, and lost.
const RECORDS_MAX: usize = 65_536;

/// Records of network functions on their way to whoever keeps them.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: VecDeque<(Arc<str>, Record)>,
    lost: u64,
    /// Of these, those of the instances that there are.
    lost_of: BTreeMap<InstanceId, u64>,
    /// Workers that still end flows, once all are to be ended.
    ending: Option<BTreeSet<WorkerId>>,
    lives: Numbers,
}

/// The numbers of lives: each instance that there is counts as another replica.
#[derive(Debug, Default)]
struct Numbers {
    /// Of all instances that there have been.
    all: u64,
    /// Of those that have had a number: what they count as is numbered without a gap, so that those
    /// that have ended take no more room for being many.
    of_instance: BTreeMap<InstanceId, u64>,
}

impl Numbers {
    /// The next life of an instance, by the number of the process: what it counts as, and which of
    /// all lives it is.
    fn next(&mut self, id: InstanceId, process: u64) -> (Replica, u64) {
        self.all += 1;
        let life = self.of_instance.entry(id).or_default();
        *life += 1;
        // Half of the numbers are left for lives to come.
        let incarnation = (process >> 1).saturating_add(life.saturating_mul(REPLICAS_OF_A_LIFE));
        (Replica { instance: u32::from(id.0), incarnation }, self.all)
    }
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
                self.lose(id, 1);
            }
        }
    }

    fn lose(&mut self, id: InstanceId, records: u64) {
        self.lost += records;
        *self.lost_of.entry(id).or_default() += records;
    }

    /// Adds to what functions have counted what became of their records.
    pub(super) fn complete(&self, mut found: Vec<NfReport>) -> Vec<NfReport> {
        for report in found.iter_mut().filter(|report| report.kind == "ids") {
            let lost = self.lost_of.get(&report.instance).copied().unwrap_or_default();
            report.counters.push(("unwritten_records".to_owned(), lost));
        }
        found
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

    /// Records of an instance were lost on their way to its logs.
    pub fn lose_records(&mut self, instance: &str, records: u64) {
        let found = self.instances.iter().find(|(_, record)| &*record.name == instance);
        match found {
            Some((id, _)) => self.records.lose(*id, records),
            None => self.records.lost += records,
        }
    }

    /// Records that were lost because nobody took them, or the disk did not.
    pub fn lost_records(&self) -> u64 {
        self.records.lost
    }

    /// The instances that there are, in order.
    pub fn instance_ids(&self) -> Vec<InstanceId> {
        self.instances.keys().copied().collect()
    }

    /// Asks what the network functions of an instance have counted. The answer comes through `to`,
    /// which is dropped at the end.
    pub fn report_nfs(&mut self, id: InstanceId, to: Sender<Vec<NfReport>>) {
        if let Some(worker) = self.instances.get(&id).map(|instance| instance.worker) {
            let query = self.nfs.ask(to, 1);
            self.tell(worker, Command::ReportNfs(query, id));
        }
    }

    /// What an instance is as a network function, and which of the lives of its number it is in.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn describe_instance(&self, id: InstanceId) -> Result<InstanceAsNf, NodeError> {
        let record = self.instances.get(&id).ok_or_else(|| NodeError::no("instance", id))?;
        let (name, life, worker) = (record.name.clone(), record.life, record.worker);
        let functions = &self.limits.functions;
        let (kinds, other_names) = (functions.kinds(), functions.has_nat());
        Ok(InstanceAsNf { name, kinds, other_names, life, worker })
    }

    /// Has an instance serve what is asked for of its state at a desk, if it is still in that life.
    ///
    /// # Errors
    /// When there is no such instance any more.
    pub fn serve_instance(
        &mut self,
        id: InstanceId,
        life: u64,
        desk: Desk,
    ) -> Result<(), NodeError> {
        let record = self.instances.get(&id).filter(|record| record.life == life);
        let worker = record.ok_or_else(|| NodeError::no("instance", id))?.worker;
        self.tell(worker, Command::Serve(id, Box::new(desk)));
        Ok(())
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
        let (replica, life) = self.records.lives.next(id, self.identity.incarnation);
        let hash = self.steered.steering.hash();
        (Chain::new(&self.limits.functions, hash, replica), life)
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
        let lost = self.records.lost_of.remove(&id).unwrap_or_default();
        if let Some((heir, worker)) = heir.map(|(heir, record)| (*heir, record.worker))
            && !gone.is_empty()
        {
            *self.records.lost_of.entry(heir).or_default() += lost;
            self.tell(worker, Command::Inherit(heir, gone));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lives_count_as_the_same_and_those_of_an_instance_follow_each_other() {
        let mut rng = weir_seed::rng();
        for process in [0, 5, u64::MAX, rng.u64(..)] {
            let (mut numbers, mut begins) = (Numbers::default(), BTreeMap::new());
            for n in 1..=5_000 {
                let id = InstanceId(rng.u8(1..=250));
                let (Replica { instance, incarnation }, life) = numbers.next(id, process);
                assert_eq!((instance, life), (u32::from(id.0), n));
                if let Some(before) = begins.insert(id, incarnation) {
                    assert_eq!(before + REPLICAS_OF_A_LIFE, incarnation, "{process}");
                }
            }
        }
    }
}
