//! A small network function: it counts packets by flow, by host and in all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use weir_state_transfer::chunk::{BodyError, Chunk, Schema, Scope, decode_body};
use weir_state_transfer::flow_id::Ends;
use weir_state_transfer::id::{PortId, ServiceId};
use weir_state_transfer::merge::{Counter, Join as _, MergeRule, Replica};
use weir_state_transfer::southbound::{
    Action, Arrival, Cursor, Event, EventLimits, Events, EventsError, Get, Marks, More, Note,
    PutError, Southbound, StateKind, SubscriptionId,
};
use weir_state_transfer::state_filter::{PacketFields, StateFilter};
use weir_state_transfer::time::Nanos;
use weir_state_transfer::wire::Writer;
use weir_state_transfer::{FlowId, FlowKey, ShareId};

use crate::faulty::Fault;

const FLOW: Schema = Schema { kind: 0x7001, revision: 1 };
const HOST: Schema = Schema { kind: 0x7002, revision: 1 };
const TOTAL: Schema = Schema { kind: 0x7003, revision: 3 };
pub(crate) const KINDS: [StateKind; 3] = [
    StateKind {
        scope: Scope::PerFlow,
        schema: FLOW,
        name: "packets of a flow",
        merge_rules: &[MergeRule::Newer],
    },
    StateKind {
        scope: Scope::MultiFlow,
        schema: HOST,
        name: "packets of a host",
        merge_rules: &[MergeRule::Counter],
    },
    StateKind {
        scope: Scope::AllFlows,
        schema: TOTAL,
        name: "packets",
        merge_rules: &[MergeRule::Counter],
    },
];
/// Flows at most.
pub(crate) const FLOWS_MAX: usize = 20_000;
const LIMITS: EventLimits = EventLimits { subscriptions_max: 4, buffer_max: 4_096, queue_max: 256 };

/// Packets and bytes by flow, packets by host and in all.
pub(crate) struct Counting {
    replica: Replica,
    flows: BTreeMap<FlowKey, Flow>,
    hosts: BTreeMap<IpAddr, (Counter, u64)>,
    total: (Counter, u64),
    /// All updates: what versions are taken from.
    updates: u64,
    events: Events<Packet>,
    /// Flows that finish here.
    pub(crate) in_use: BTreeSet<FlowKey>,
    passed_over: Vec<FlowId>,
    /// Whether state was put or deleted, or packets were to be dropped or kept.
    pub(crate) disturbed: bool,
    pub(crate) fault: Fault,
}

#[derive(Clone, Copy)]
struct Flow {
    packets: u64,
    bytes: u64,
    version: u64,
}

/// A packet of a flow.
pub(crate) struct Packet {
    pub(crate) key: FlowKey,
    pub(crate) bytes: Vec<u8>,
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Counting {
    pub(crate) fn new(instance: u32) -> Self {
        Self {
            replica: Replica { instance, incarnation: 1 },
            flows: BTreeMap::new(),
            hosts: BTreeMap::new(),
            total: Default::default(),
            updates: 0,
            events: Events::new(LIMITS),
            in_use: BTreeSet::new(),
            passed_over: Vec::new(),
            disturbed: false,
            fault: Fault::None,
        }
    }

    /// Whether there is no subscription.
    pub(crate) fn is_free(&self) -> bool {
        self.events.is_idle()
    }

    /// A packet has come.
    pub(crate) fn packet(&mut self, packet: Packet, now: Nanos) {
        let key = packet.key;
        match self.events.arrive(&fields(&key), Marks::default(), packet, now) {
            Arrival::Process(packet) => self.process(&packet, now),
            Arrival::Drop(packet) if self.fault == Fault::DropCounts => self.process(&packet, now),
            Arrival::Kept if self.fault == Fault::BufferCounts => self.count(&key, 60),
            Arrival::Kept | Arrival::Drop(_) | Arrival::Full(_) => {}
        }
        while let Some(packet) = self.release() {
            self.process(&packet, now);
        }
    }

    fn release(&mut self) -> Option<Packet> {
        self.events.release()
    }

    fn process(&mut self, packet: &Packet, now: Nanos) {
        self.count(&packet.key, packet.bytes.len() as u64);
        let version = self.updates + u64::from(self.fault == Fault::EventVersion) * 1_000_000;
        self.events.processed(&fields(&packet.key), &packet.bytes, version, now);
    }

    fn count(&mut self, key: &FlowKey, bytes: u64) {
        self.updates += 1;
        let version = self.updates;
        let flow =
            self.flows.entry(key.both_ways()).or_insert(Flow { packets: 0, bytes: 0, version: 0 });
        *flow = Flow { packets: flow.packets + 1, bytes: flow.bytes + bytes, version };
        for host in [key.src(), key.dst()] {
            let host = self.hosts.entry(host).or_default();
            host.0.add(self.replica, 1);
            host.1 = version;
        }
        self.total.0.add(self.replica, 1);
        self.total.1 = version;
    }

    /// All flows.
    pub(crate) fn flows(&self) -> impl Iterator<Item = FlowKey> {
        self.flows.keys().copied()
    }

    /// Packets of all flows together, those of others too.
    pub(crate) fn packets(&self) -> u64 {
        self.flows.values().map(|flow| flow.packets).sum()
    }

    fn merge(&self, own: &mut Counter, other: &Counter) {
        match self.fault {
            Fault::MergeReplaces => *own = other.clone(),
            Fault::PutAdds => other.parts().for_each(|(replica, part)| own.add(replica, part)),
            _ => own.join(other),
        }
    }

    fn give<T>(
        &self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
        (from, chunk): (impl Iterator<Item = T>, impl Fn(T) -> Chunk),
    ) -> More {
        // What is put or deleted between two pieces moves the places of others.
        let place = usize::try_from(cursor.0).expect("a place");
        let mut left = from.skip(place);
        for item in left.by_ref().take(get.max) {
            cursor.0 += 1;
            let chunk = chunk(item);
            let filter = match self.fault {
                Fault::GetIgnoresPorts => &StateFilter::from(weir_state_transfer::Filter {
                    src: weir_state_transfer::filter::Endpoint {
                        ports: None,
                        ..get.filter.flows.src
                    },
                    dst: weir_state_transfer::filter::Endpoint {
                        ports: None,
                        ..get.filter.flows.dst
                    },
                    ..get.filter.flows
                }),
                Fault::GetIgnoresFilter => &StateFilter::default(),
                _ => get.filter,
            };
            if filter.picks(&chunk.id, get.extent) {
                out.push(chunk);
            }
        }
        if left.next().is_some() { More::Yes } else { More::No }
    }
}

impl Southbound for Counting {
    fn kinds(&self) -> &[StateKind] {
        &KINDS
    }

    fn counters(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        vec![("packets".into(), self.total.0.value()), ("flows".into(), self.flows.len() as u64)]
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        let more = self.give(get, cursor, out, (self.flows.iter(), flow_chunk));
        let is_idle = |chunk: &Chunk| chunk.id.key().is_none_or(|key| !self.in_use.contains(&key));
        let (given, in_use): (Vec<_>, Vec<_>) = out.drain(..).partition(is_idle);
        self.passed_over.extend(in_use.into_iter().map(|chunk| chunk.id));
        *out = given;
        if self.fault == Fault::GetTwice {
            out.extend(out.first().cloned());
        }
        more
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.disturbed = true;
        let key = chunk.id.key().ok_or_else(|| wrong_id(&chunk));
        let key = match self.fault {
            Fault::TakesAnyId => key.unwrap_or_else(|_| any_key()),
            _ => key?,
        };
        let state = decode_body(chunk.schema, FLOW, &chunk.body, |reader| {
            Ok((reader.u64()?, reader.u64()?))
        });
        if self.fault == Fault::BodyHalfTaken && state.is_err() {
            self.count(&key, 1);
        }
        let (packets, bytes) = state.map_err(|error| bad_body(&chunk, &error))?;
        let is_known = self.flows.contains_key(&key.both_ways());
        if !is_known && self.flows.len() >= FLOWS_MAX {
            let id = Box::new(chunk.id);
            return Err(PutError::Full { id, what: "flows", most: FLOWS_MAX });
        }
        let known = self.flows.get(&key.both_ways());
        if let Some(known) = known.filter(|known| (1..known.version).contains(&chunk.version))
            && self.fault != Fault::PutTakesOlder
        {
            return Err(PutError::older(&chunk, known.version));
        }
        let old = known.map_or(0, |flow| flow.packets);
        let packets = packets + if self.fault == Fault::PutAdds { old } else { 0 };
        self.updates = self.updates.max(chunk.version);
        let version = match self.fault {
            Fault::PutLosesVersion => 1,
            _ => chunk.version,
        };
        self.flows.insert(key.both_ways(), Flow { packets, bytes, version });
        Ok(())
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        self.disturbed = true;
        if self.fault == Fault::DelForgetsAll {
            self.flows.clear();
            return ids.len();
        }
        let known = |id: &&FlowId| {
            id.key().is_some_and(|key| match self.fault {
                _ if self.in_use.contains(&key) => {
                    self.passed_over.push((*id).clone());
                    false
                }
                Fault::DelKeeps => self.flows.contains_key(&key.both_ways()),
                _ => self.flows.remove(&key.both_ways()).is_some(),
            })
        };
        ids.iter().filter(known).count()
    }

    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        self.give(get, cursor, out, (self.hosts.iter(), host_chunk))
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        self.disturbed = true;
        let host = match &chunk.id.ends {
            Ends::Host(prefix) if prefix.is_host() => prefix.address(),
            _ => return Err(wrong_id(&chunk)),
        };
        let other = decode_body(chunk.schema, HOST, &chunk.body, Counter::take)
            .map_err(|error| bad_body(&chunk, &error))?;
        let mut own = self.hosts.remove(&host).unwrap_or_default();
        self.merge(&mut own.0, &other);
        self.updates = self.updates.max(chunk.version);
        own.1 = own.1.max(chunk.version);
        self.hosts.insert(host, own);
        Ok(())
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        self.disturbed = true;
        let known = |id: &&FlowId| match &id.ends {
            Ends::Host(prefix) if self.fault == Fault::DelKeeps => {
                self.hosts.contains_key(&prefix.address())
            }
            Ends::Host(prefix) => self.hosts.remove(&prefix.address()).is_some(),
            Ends::Any | Ends::Pair { .. } => false,
        };
        ids.iter().filter(known).count()
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        let (total, version) = &self.total;
        let body = Writer::bytes_of(|out| total.put(out));
        vec![chunk(FlowId::default(), (Scope::AllFlows, TOTAL), *version, body)]
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        let other = decode_body(chunk.schema, TOTAL, &chunk.body, Counter::take)
            .map_err(|error| bad_body(&chunk, &error))?;
        let mut own = self.total.0.clone();
        self.merge(&mut own, &other);
        self.updates = self.updates.max(chunk.version);
        self.total = (own, self.total.1.max(chunk.version));
        Ok(())
    }

    fn enable_events(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        let filter = match self.fault {
            Fault::EventsOfAll => StateFilter::default(),
            _ => filter,
        };
        let refuses = matches!(self.fault, Fault::RefusesDrop | Fault::RefusesDropAsSaid);
        if refuses && action == Action::Drop {
            return Err(EventsError::NotOffered(action));
        }
        if self.fault == Fault::SharesNow && action == Action::Buffer {
            return Err(EventsError::Sharing(ShareId(3)));
        }
        // What asks for packets that there are none of is in nobody's way.
        self.disturbed |= action != Action::Process && filter == StateFilter::default();
        if self.fault == Fault::Duplicates {
            let _replaced = self.events.disable(id);
        }
        let first_only = self.fault == Fault::OneIsTold && id.0.is_multiple_of(2);
        let snap = if self.fault == Fault::SnapIgnored { 1_500 } else { snap };
        let filter = if first_only { "proto=253".parse().expect("a filter") } else { filter };
        self.events.enable(id, filter, action, snap)
    }

    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        let ended = self.events.disable(id);
        if self.fault == Fault::BufferIsLost {
            while self.release().is_some() {}
        }
        match self.fault {
            Fault::UnknownIsFine => Ok(()),
            _ => ended,
        }
    }

    fn poll_event(&mut self, id: SubscriptionId) -> Option<Note> {
        self.events.poll(id)
    }

    fn give_back(&mut self, event: Event) {
        self.events.give_back(event);
    }

    fn take_in_use(&mut self) -> Vec<FlowId> {
        std::mem::take(&mut self.passed_over)
    }

    fn take_failure(&mut self) -> Option<String> {
        (self.fault == Fault::Fails).then(|| "what it counts with is gone".to_owned())
    }
}

fn fields(key: &FlowKey) -> PacketFields<'_> {
    PacketFields { key, tcp_flags: Some(0x10), in_port: PortId(0) }
}

fn any_key() -> FlowKey {
    FlowKey::v4([1, 2, 3, 4].into(), [4, 3, 2, 1].into(), (1, 2), 17, ServiceId(0))
}

fn flow_chunk((key, flow): (&FlowKey, &Flow)) -> Chunk {
    let body = Writer::bytes_of(|out| {
        out.u64(flow.packets);
        out.u64(flow.bytes);
    });
    chunk(FlowId::flow(key), (Scope::PerFlow, FLOW), flow.version, body)
}

fn host_chunk((host, (counter, version)): (&IpAddr, &(Counter, u64))) -> Chunk {
    let body = Writer::bytes_of(|out| counter.put(out));
    chunk(FlowId::host(*host, ServiceId(0)), (Scope::MultiFlow, HOST), *version, body)
}

fn chunk(id: FlowId, (scope, schema): (Scope, Schema), version: u64, body: Vec<u8>) -> Chunk {
    Chunk { id, scope, schema, version, age: Duration::ZERO, time_left: None, body }
}

fn wrong_id(chunk: &Chunk) -> PutError {
    PutError::WrongId { scope: chunk.scope, id: Box::new(chunk.id.clone()) }
}

fn bad_body(chunk: &Chunk, error: &BodyError) -> PutError {
    PutError::BadBody { id: Box::new(chunk.id.clone()), why: error.to_string() }
}
