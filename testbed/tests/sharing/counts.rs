//! What instances have counted of sources, as they tell it themselves.

use std::collections::BTreeMap;
use std::ops::Range;

use weir_dataplane::nf::firewall::{Origin, Source};
use weir_dataplane::nf::schema::FIREWALL_SOURCE;
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::merge::{Join as _, Replica};
use weir_state_transfer::{InstanceId, Nanos, ServiceId};
use weir_testbed::asked::Asked;
use weir_testbed::memory_node::MemoryNode;

use crate::relays::Relays;
use crate::setup::IN;

/// The last byte of a source's address.
pub(crate) type Address = u8;

/// What each instance knows of each source.
#[derive(Clone, Default)]
pub(crate) struct Counts(BTreeMap<(Address, InstanceId), Source>);

/// The instances of a node, each of which can be asked.
#[derive(Debug)]
pub(crate) struct Counting(Vec<(InstanceId, Asked)>);

impl Counting {
    pub(crate) fn new(node: &mut MemoryNode, instances: &[InstanceId]) -> Self {
        Self(instances.iter().map(|id| (*id, Asked::new(node, *id))).collect())
    }

    /// Asks all instances, while everybody takes turns and no time passes.
    pub(crate) fn ask(&self, node: &mut MemoryNode, mut relays: Option<&mut Relays>) -> Counts {
        let mut counts = Counts::default();
        for (id, asked) in &self.0 {
            let turn = || turn(node, relays.as_deref_mut());
            let (chunks, _) = asked.get(turn, Scope::MultiFlow, 0).unwrap();
            let sources = chunks.iter().filter(|chunk| chunk.schema == FIREWALL_SOURCE.schema);
            counts.0.extend(sources.map(|chunk| ((address(chunk), *id), source(chunk))));
        }
        counts
    }

    /// Tells an instance of connections that another, which is not of the node, has seen begin and
    /// end.
    pub(crate) fn tell(
        &self,
        node: &mut MemoryNode,
        at: InstanceId,
        sources: Range<Address>,
        (begun, ended): (u64, u64),
    ) {
        let by = Replica { instance: 99, incarnation: 1 };
        let mut source = Source::default();
        source.open.up.add(by, begun);
        source.open.down.add(by, ended);
        let origin =
            |address| Origin { service: ServiceId(0), address: [10, 0, IN.0, address].into() };
        let chunk = |address| source.to_chunk(origin(address).flow_id(), Nanos(0));
        let chunks: Vec<_> = sources.map(chunk).collect();
        let (_, asked) = self.0.iter().find(|(id, _)| *id == at).unwrap();
        let put = asked.put(|| turn(node, None), Scope::MultiFlow, &chunks).unwrap();
        assert_eq!(put.taken, chunks.len() as u64);
    }

    /// Has an instance forget all sources.
    pub(crate) fn forget(&self, node: &mut MemoryNode, at: InstanceId) {
        let (_, asked) = self.0.iter().find(|(id, _)| *id == at).unwrap();
        let (chunks, _) = asked.get(|| turn(node, None), Scope::MultiFlow, 0).unwrap();
        let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        asked.del(|| turn(node, None), Scope::MultiFlow, &ids).unwrap();
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(at, source)| (at, source.open.value()))).finish()
    }
}

impl Counts {
    /// Connections of a source that are open as one instance has counted them.
    pub(crate) fn at(&self, source: Address, instance: InstanceId) -> i128 {
        self.0.get(&(source, instance)).map_or(0, |source| source.open.value())
    }

    /// The same as some instances have counted them together.
    pub(crate) fn of(&self, source: Address, instances: &[InstanceId]) -> i128 {
        let known =
            self.0.iter().filter(|((other, at), _)| *other == source && instances.contains(at));
        let mut all = Source::default();
        known.for_each(|(_, source)| all.join(source));
        all.open.value()
    }

    /// Who of some instances knows a source.
    pub(crate) fn knowing(&self, source: Address, instances: &[InstanceId]) -> Vec<InstanceId> {
        let all = instances.iter().copied();
        all.filter(|instance| self.0.contains_key(&(source, *instance))).collect()
    }

    /// Whether nobody knows anything of any source.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn turn(node: &mut MemoryNode, mut relays: Option<&mut Relays>) {
    node.step_node();
    for worker in node.workers.keys().copied().collect::<Vec<_>>() {
        if let Some(relays) = &mut relays {
            relays.pass(worker);
        }
        node.step_worker(worker);
    }
}

fn address(chunk: &Chunk) -> Address {
    match Origin::of_id(&chunk.id).unwrap().address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(address) => panic!("nobody has sent from {address}"),
    }
}

fn source(chunk: &Chunk) -> Source {
    Source::decode(chunk.schema, &chunk.body, Nanos(0)).unwrap()
}
