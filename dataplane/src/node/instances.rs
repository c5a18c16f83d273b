//! The instances of a node and their lifecycle.

use std::sync::Arc;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::bucket::BucketSet;
use weir_state_transfer::quote::quoted;
use weir_state_transfer::{InstanceId, Nanos, WorkerId};

use super::{Node, NodeError};
use crate::counters::InstanceCounters;
use crate::instance::{FlowTable, Instance};
use crate::worker::Command;

/// The instance that owns every flow when the node starts.
pub const FIRST: InstanceId = InstanceId(1);

/// Flow tables kept for instances to come.
const SPARE_TABLES: usize = 4;

/// What the node knows of an instance.
#[derive(Debug)]
pub(super) struct InstanceRecord {
    pub(super) name: Arc<str>,
    pub(super) worker: WorkerId,
    pub(super) counters: Arc<InstanceCounters>,
    /// Which of the instances that there have been it is.
    pub(super) life: u64,
    state: api::InstanceState,
    capacity_ns: u64,
}

impl InstanceRecord {
    /// Whether it is on its way out.
    pub(super) fn is_stopping(&self) -> bool {
        self.state == api::InstanceState::Stopping
    }
}

impl Node {
    /// The first instance is active from the start and owns every bucket.
    pub(super) fn start_first_instance(&mut self, name: &str) {
        let (id, worker) = (FIRST, WorkerId(0));
        let mut flows = self.flow_table();
        for bucket in BucketSet::all().iter() {
            flows.put_bucket(bucket, self.part());
        }
        self.add_instance(id, name, worker, self.limits.capacity_ns, flows);
        if let Some(record) = self.instances.get_mut(&id) {
            record.state = api::InstanceState::Active;
        }
    }

    fn add_instance(
        &mut self,
        id: InstanceId,
        name: &str,
        worker: WorkerId,
        capacity_ns: u64,
        flows: FlowTable,
    ) {
        let counters = Arc::new(InstanceCounters::default());
        let (chain, life) = self.chain(id);
        let record = InstanceRecord {
            life,
            name: name.into(),
            worker,
            counters: counters.clone(),
            state: api::InstanceState::Starting,
            capacity_ns,
        };
        self.instances.insert(id, record);
        let limits = self.limits.events;
        let instance = Instance::new(id, flows, chain, counters, limits);
        self.tell(worker, Command::AddInstance(Box::new(instance)));
        let mut workers = self.steered.workers;
        workers[usize::from(id.0)] = worker;
        self.publish_with(self.steered.steering.clone(), workers, &[]);
    }

    /// Creates an instance on the worker with the most room; 0 takes the default capacity.
    ///
    /// # Errors
    ///
    /// When the name is taken or malformed, and at the bound on instances.
    pub fn create_instance(
        &mut self,
        change: &api::Change,
        name: &str,
        capacity_ns: u64,
    ) -> Result<api::Instance, NodeError> {
        if let Some(made) = self.requests.answer(&change.request_id) {
            return self.instance(InstanceId(made as u8));
        }
        self.check_change(change.generation)?;
        check_name(name)?;
        if self.instances.values().any(|instance| &*instance.name == name) {
            return Err(NodeError::Exists { kind: "instance", name: name.to_owned() });
        }
        let id = self.free_instance_id()?;
        let worker = self.roomiest_worker();
        let capacity_ns = if capacity_ns == 0 { self.limits.capacity_ns } else { capacity_ns };
        let flows = self.flow_table();
        self.add_instance(id, name, worker, capacity_ns, flows);
        self.generation += 1;
        self.requests.remember(&change.request_id, u64::from(id.0));
        self.instance(id)
    }

    /// Changes the state of an instance: READY or PAUSED to ACTIVE, or ACTIVE to PAUSED.
    ///
    /// # Errors
    ///
    /// When the change is not one of these, or an instance that owns flows is to be paused.
    pub fn set_instance_state(
        &mut self,
        change: &api::Change,
        id: InstanceId,
        state: api::InstanceState,
    ) -> Result<api::Instance, NodeError> {
        use api::InstanceState::{Active, Paused, Ready};
        if self.requests.answer(&change.request_id).is_some() {
            return self.instance(id);
        }
        self.check_change(change.generation)?;
        let record = self.instances.get(&id).ok_or_else(|| NodeError::no("instance", id))?;
        let object = format!("instance {}", record.name);
        match (record.state, state) {
            (from, to) if from == to => {}
            (Ready | Paused, Active) => {}
            (Active, Paused) => self.check_owns_nothing(id, &object)?,
            (from, to) => {
                let reason = format!("is {} and can not become {}", word(from), word(to));
                return Err(NodeError::precondition(object, reason));
            }
        }
        if let Some(record) = self.instances.get_mut(&id) {
            record.state = state;
        }
        self.generation += 1;
        self.requests.remember(&change.request_id, u64::from(id.0));
        self.instance(id)
    }

    /// Removes an instance that is READY or PAUSED.
    ///
    /// # Errors
    ///
    /// When it is in another state or owns flows.
    pub fn remove_instance(
        &mut self,
        change: &api::Change,
        id: InstanceId,
    ) -> Result<(), NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(());
        }
        self.check_change(change.generation)?;
        let record = self.instances.get(&id).ok_or_else(|| NodeError::no("instance", id))?;
        let object = format!("instance {}", record.name);
        if !matches!(record.state, api::InstanceState::Ready | api::InstanceState::Paused) {
            let reason = format!("is {}: pause it first", word(record.state));
            return Err(NodeError::precondition(object, reason));
        }
        let owns_nothing = self.check_owns_nothing(id, &object);
        if let Some(share) = self.shares.coordinator.share_of(id) {
            // It could leave, but its flows are not moved while others share them.
            let or = if owns_nothing.is_ok() { ", or take it out" } else { "" };
            let reason = format!("takes part in share {share}: end that first{or}");
            return Err(NodeError::precondition(object, reason));
        }
        owns_nothing?;
        let worker = record.worker;
        if let Some(record) = self.instances.get_mut(&id) {
            record.state = api::InstanceState::Stopping;
        }
        self.tell(worker, Command::RemoveInstance(id));
        self.generation += 1;
        self.requests.remember(&change.request_id, u64::from(id.0));
        Ok(())
    }

    /// The instances, as the API shows them.
    pub fn list_instances(&self, now: Nanos) -> api::ListInstancesResponse {
        api::ListInstancesResponse { instances: self.instances(), at_ns: now.0 }
    }

    pub(super) fn instances(&self) -> Vec<api::Instance> {
        self.instances.keys().filter_map(|id| self.instance(*id).ok()).collect()
    }

    pub(super) fn instance_is_ready(&mut self, id: InstanceId) {
        if let Some(record) = self.instances.get_mut(&id)
            && record.state == api::InstanceState::Starting
        {
            record.state = api::InstanceState::Ready;
        }
    }

    /// An instance is gone. Its table is freed here, not on a packet thread, or kept: clearing the
    /// memory of a new one takes longer than anything else in a scale-out.
    pub(super) fn instance_is_removed(&mut self, gone: Instance) {
        let Instance { id, flows, chain, .. } = gone;
        self.inherit(id, chain);
        self.instances.remove(&id);
        if flows.is_empty() && flows.buckets() == 0 && self.spare_tables.len() < SPARE_TABLES {
            self.spare_tables.push(flows);
        }
    }

    /// An instance that may own flows.
    pub(super) fn active(&self, id: InstanceId) -> Result<&InstanceRecord, NodeError> {
        let record = self.instances.get(&id).ok_or_else(|| NodeError::no("instance", id))?;
        if record.state != api::InstanceState::Active {
            let reason = format!("is {}: it must be ACTIVE", word(record.state));
            return Err(NodeError::precondition(format!("instance {}", record.name), reason));
        }
        Ok(record)
    }

    fn instance(&self, id: InstanceId) -> Result<api::Instance, NodeError> {
        let record = self.instances.get(&id).ok_or_else(|| NodeError::no("instance", id))?;
        let counters = &record.counters;
        Ok(api::Instance {
            id: u32::from(id.0),
            name: record.name.to_string(),
            state: record.state.into(),
            worker: u32::from(record.worker.0),
            buckets: self.steered.steering.owned_buckets(id).len() as u32,
            flows: counters.flows.get(),
            packets: counters.packets.get(),
            bytes: counters.bytes.get(),
            busy_ns: counters.busy_ns.get(),
            capacity_ns: record.capacity_ns,
            flow_hits: counters.hits.get(),
            flow_misses: counters.misses.get(),
            life: record.life,
        })
    }

    fn check_owns_nothing(&self, id: InstanceId, object: &str) -> Result<(), NodeError> {
        let moving = self.moves.coordinator.moves().find(|(_, moving)| {
            let request = &moving.request;
            request.from == id || request.to == id
        });
        if let Some((id, _)) = moving {
            return Err(NodeError::precondition(object, format!("takes part in move {id}")));
        }
        if self.steered.steering.mentions(id) {
            let reason = "still owns buckets, rules or flows of steering: move them first";
            return Err(NodeError::precondition(object, reason));
        }
        Ok(())
    }

    fn free_instance_id(&self) -> Result<InstanceId, NodeError> {
        let bound = self.limits.instances_max;
        let free = (1..=u8::MAX).map(InstanceId).find(|id| !self.instances.contains_key(id));
        free.filter(|_| self.instances.len() < bound).ok_or(NodeError::Exhausted {
            what: "the number of instances",
            bound,
            hint: "remove one, or raise instances_max in [dataplane] and restart",
        })
    }

    /// The worker whose instances have declared the least capacity.
    fn roomiest_worker(&self) -> WorkerId {
        let declared = |worker: WorkerId| -> u64 {
            let instances = self.instances.values().filter(|instance| instance.worker == worker);
            instances.map(|instance| instance.capacity_ns.max(1)).sum()
        };
        self.running().min_by_key(|worker| declared(*worker)).unwrap_or_default()
    }
}

fn check_name(name: &str) -> Result<(), NodeError> {
    let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(is_valid) {
        let reason = format!("{} is not 1 to {NAME_MAX} of a-z, 0-9 and '-'", quoted(name));
        return Err(NodeError::invalid("name", reason));
    }
    Ok(())
}

/// Characters of an instance's name at most.
const NAME_MAX: usize = 63;

fn word(state: api::InstanceState) -> &'static str {
    state.as_str_name().trim_start_matches("INSTANCE_STATE_")
}
