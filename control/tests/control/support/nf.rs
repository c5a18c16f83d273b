//! A network function in a process of its own, as far as a sidecar can tell: it counts packets by
//! flow, by host, by network and in all, on a thread of its own that serves `weir.nf.v1`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};
use weir_api::socket::Socket;
use weir_nf_api::{
    Description,
    server::{self, Service},
};
use weir_state_transfer::{
    FlowId, FlowKey, Nanos, PortId, Prefix, ServiceId,
    chunk::{Chunk, Schema, Scope, decode_body},
    flow_id::Ends,
    merge::{Counter, Join as _, MergeRule, Replica},
    southbound::{
        Action, Arrival, Cursor, Event, EventLimits, Events, EventsError, Get, Marks, More, Note,
        PutError, Southbound, StateKind, SubscriptionId,
    },
    state_filter::{PacketFields, StateFilter},
    wire::Writer,
};

use super::spoiling::{Lies, Spoil, Spoiling};

const FLOW: Schema = Schema { kind: 0x7101, revision: 1 };
const HOST: Schema = Schema { kind: 0x7102, revision: 1 };
const TOTAL: Schema = Schema { kind: 0x7103, revision: 1 };
const KINDS: [StateKind; 3] = [
    StateKind {
        scope: Scope::PerFlow,
        schema: FLOW,
        name: "packets of a flow",
        merge_rules: &[MergeRule::Newer],
    },
    StateKind {
        scope: Scope::MultiFlow,
        schema: HOST,
        name: "packets of a host or network",
        merge_rules: &[MergeRule::Counter],
    },
    StateKind {
        scope: Scope::AllFlows,
        schema: TOTAL,
        name: "packets",
        merge_rules: &[MergeRule::Counter],
    },
];
/// How long one that dies may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LIMITS: EventLimits = EventLimits { subscriptions_max: 8, buffer_max: 256, queue_max: 256 };

/// What the function knows.
pub(crate) struct Monitor {
    replica: Replica,
    /// Packets and version.
    pub(crate) flows: BTreeMap<FlowKey, (u64, u64)>,
    /// Packets of hosts, and of the network 10.0.0.0/8, with versions.
    pub(crate) hosts: BTreeMap<Prefix, (Counter, u64)>,
    total: (Counter, u64),
    updates: u64,
    events: Events<Vec<u8>>,
    /// Flows at most.
    pub(crate) flows_max: usize,
    /// Once it has so many flows, it answers nothing.
    pub(crate) hangs_at: usize,
    /// Once it has deleted so many flows, it answers nothing.
    pub(crate) hangs_deleted: usize,
    /// Flows that it has deleted.
    pub(crate) deleted: usize,
    /// Flows in use, which finish here.
    pub(crate) in_use: BTreeSet<FlowKey>,
    /// Flows that are in use once they have been given.
    pub(crate) used_later: BTreeSet<FlowKey>,
    /// Flows of which a packet comes once they have been given.
    pub(crate) changes_later: BTreeSet<FlowKey>,
    /// Flows that end once they have been given.
    pub(crate) ends_later: BTreeSet<FlowKey>,
    /// Flows in use that the last call has passed over.
    passed_over: Vec<FlowId>,
    /// A packet comes of each flow that it deletes, right behind.
    pub(crate) busy: bool,
    /// It refuses what is older than what it knows.
    pub(crate) keeps_newer: bool,
    /// It gives whatever state it has, and not what a filter picks.
    pub(crate) ignores_filters: bool,
    /// It says that filters are compared with other names of its state too.
    pub(crate) other_names: bool,
    /// Subscriptions in force.
    pub(crate) subscriptions: usize,
}

impl Monitor {
    pub(crate) fn new(instance: u32) -> Self {
        Self {
            replica: Replica { instance, incarnation: 1 },
            flows: BTreeMap::new(),
            hosts: BTreeMap::new(),
            total: Default::default(),
            updates: 0,
            events: Events::new(LIMITS),
            flows_max: usize::MAX,
            hangs_at: usize::MAX,
            hangs_deleted: usize::MAX,
            deleted: 0,
            in_use: BTreeSet::new(),
            used_later: BTreeSet::new(),
            changes_later: BTreeSet::new(),
            ends_later: BTreeSet::new(),
            passed_over: Vec::new(),
            busy: false,
            keeps_newer: false,
            ignores_filters: false,
            other_names: false,
            subscriptions: 0,
        }
    }

    /// So many packets of a flow have come.
    pub(crate) fn packets(&mut self, key: &FlowKey, count: u64) {
        for _ in 0..count {
            let packet = vec![self.updates as u8; 60];
            if let Arrival::Process(packet) =
                self.events.arrive(&fields(key), Marks::default(), packet, Nanos(self.updates))
            {
                self.count(key);
                self.events.processed(&fields(key), &packet, self.updates, Nanos(self.updates));
            }
        }
    }

    fn count(&mut self, key: &FlowKey) {
        self.updates += 1;
        let flow = self.flows.entry(key.both_ways()).or_default();
        *flow = (flow.0 + 1, self.updates);
        let network = "10.0.0.0/8".parse().expect("a network");
        for place in [Prefix::host(key.src()), Prefix::host(key.dst()), network] {
            let host = self.hosts.entry(place).or_default();
            host.0.add(self.replica, 1);
            host.1 = self.updates;
        }
        self.total.0.add(self.replica, 1);
        self.total.1 = self.updates;
    }

    /// Packets of a host, those that others have counted too.
    pub(crate) fn of_host(&self, host: IpAddr) -> u64 {
        self.hosts.get(&Prefix::host(host)).map_or(0, |(counter, _)| counter.value())
    }

    /// Packets of all flows.
    pub(crate) fn of_flows(&self) -> u64 {
        self.flows.values().map(|(packets, _)| packets).sum()
    }

    fn hangs(&self) -> bool {
        self.flows.len() >= self.hangs_at || self.deleted >= self.hangs_deleted
    }

    /// Merged state is a change where it says something new.
    fn merge(&mut self, own: &mut (Counter, u64), other: &Counter) {
        let before = own.0.clone();
        own.0.join(other);
        if own.0 != before {
            self.updates += 1;
            own.1 = self.updates;
        }
    }
}

fn give<T>(
    (get, ignores_filters): (&Get<'_>, bool),
    cursor: &mut Cursor,
    out: &mut Vec<Chunk>,
    (from, chunk): (impl Iterator<Item = T>, impl Fn(T) -> Chunk),
) -> More {
    let mut left = from.skip(cursor.0 as usize);
    for item in left.by_ref().take(get.max) {
        cursor.0 += 1;
        let chunk = chunk(item);
        if ignores_filters || get.filter.picks(&chunk.id, get.extent) {
            out.push(chunk);
        }
    }
    if left.next().is_some() { More::Yes } else { More::No }
}

fn chunk(kind: usize, id: FlowId, version: u64, body: impl FnOnce(&mut Writer)) -> Chunk {
    Chunk { version, ..KINDS[kind].chunk(id, Writer::bytes_of(body)) }
}

fn counter(chunk: &Chunk, schema: Schema) -> Result<Counter, PutError> {
    decode_body(chunk.schema, schema, &chunk.body, Counter::take).map_err(|error| {
        PutError::BadBody { id: Box::new(chunk.id.clone()), why: error.to_string() }
    })
}

fn fields(key: &FlowKey) -> PacketFields<'_> {
    PacketFields { key, tcp_flags: Some(0x02), in_port: PortId(0) }
}

impl Southbound for Monitor {
    fn kinds(&self) -> &[StateKind] {
        &KINDS
    }

    fn counters(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        vec![("packets".into(), self.total.0.value())]
    }

    fn get_per_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        let more = give(
            (get, self.ignores_filters),
            cursor,
            out,
            (self.flows.iter(), |(key, (packets, version))| {
                chunk(0, FlowId::flow(key), *version, |out| out.u64(*packets))
            }),
        );
        let is_idle = |chunk: &Chunk| chunk.id.key().is_none_or(|key| !self.in_use.contains(&key));
        let (given, in_use): (Vec<_>, Vec<_>) = out.drain(..).partition(is_idle);
        self.passed_over.extend(in_use.into_iter().map(|chunk| chunk.id));
        *out = given;
        for key in out.iter().filter_map(|chunk| self.used_later.take(&chunk.id.key()?)) {
            self.in_use.insert(key);
        }
        let changed = out.iter().filter_map(|chunk| self.changes_later.take(&chunk.id.key()?));
        changed.collect::<Vec<_>>().iter().for_each(|key| self.count(key));
        for key in out.iter().filter_map(|chunk| self.ends_later.take(&chunk.id.key()?)) {
            self.flows.remove(&key);
        }
        more
    }

    fn put_per_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        KINDS[0].check(&chunk)?;
        let key = chunk.id.key().ok_or_else(|| PutError::wrong_id(&chunk))?.both_ways();
        let packets = decode_body(chunk.schema, FLOW, &chunk.body, |reader| reader.u64());
        let packets = packets.map_err(|error| PutError::BadBody {
            id: Box::new(chunk.id.clone()),
            why: error.to_string(),
        })?;
        let known = self.flows.get(&key).map_or(0, |(_, version)| *version);
        if self.keeps_newer && chunk.version < known {
            return Err(PutError::older(&chunk, known));
        }
        if !self.flows.contains_key(&key) && self.flows.len() >= self.flows_max {
            let id = Box::new(chunk.id);
            return Err(PutError::Full { id, what: "flows", most: self.flows_max });
        }
        self.updates = self.updates.max(chunk.version);
        self.flows.insert(key, (packets, chunk.version));
        Ok(())
    }

    fn del_per_flow(&mut self, ids: &[FlowId]) -> usize {
        let key = |id: &FlowId| id.key().map(|key| key.both_ways());
        let (in_use, idle): (Vec<_>, Vec<_>) =
            ids.iter().partition(|id| key(id).is_some_and(|key| self.in_use.contains(&key)));
        self.passed_over.extend(in_use.into_iter().cloned());
        let deleted: Vec<FlowKey> = idle
            .into_iter()
            .filter_map(key)
            .filter(|key| self.flows.remove(key).is_some())
            .collect();
        self.deleted += deleted.len();
        if self.busy {
            deleted.iter().for_each(|key| self.count(key));
        }
        deleted.len()
    }

    fn get_multi_flow(&mut self, get: &Get<'_>, cursor: &mut Cursor, out: &mut Vec<Chunk>) -> More {
        give(
            (get, self.ignores_filters),
            cursor,
            out,
            (self.hosts.iter(), |(place, (counter, version))| {
                let id = FlowId::new(Ends::Host(*place), None, Some(ServiceId(0)));
                chunk(1, id, *version, |out| counter.put(out))
            }),
        )
    }

    fn put_multi_flow(&mut self, chunk: Chunk) -> Result<(), PutError> {
        KINDS[1].check(&chunk)?;
        let Ends::Host(place) = chunk.id.ends else { return Err(PutError::wrong_id(&chunk)) };
        let other = counter(&chunk, HOST)?;
        let mut own = self.hosts.remove(&place).unwrap_or_default();
        self.merge(&mut own, &other);
        self.hosts.insert(place, own);
        Ok(())
    }

    fn del_multi_flow(&mut self, ids: &[FlowId]) -> usize {
        let known = |id: &&FlowId| match &id.ends {
            Ends::Host(place) => self.hosts.remove(place).is_some(),
            Ends::Any | Ends::Pair { .. } => false,
        };
        ids.iter().filter(known).count()
    }

    fn get_all_flows(&mut self) -> Vec<Chunk> {
        let (total, version) = &self.total;
        vec![chunk(2, FlowId::default(), *version, |out| total.put(out))]
    }

    fn put_all_flows(&mut self, chunk: Chunk) -> Result<(), PutError> {
        let other = counter(&chunk, TOTAL)?;
        let mut own = std::mem::take(&mut self.total);
        self.merge(&mut own, &other);
        self.total = own;
        Ok(())
    }

    fn enable_events(
        &mut self,
        id: SubscriptionId,
        filter: StateFilter,
        action: Action,
        snap: usize,
    ) -> Result<(), EventsError> {
        self.events.enable(id, filter, action, snap).inspect(|()| self.subscriptions += 1)
    }

    fn disable_events(&mut self, id: SubscriptionId) -> Result<(), EventsError> {
        self.events.disable(id).inspect(|()| self.subscriptions -= 1)
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
}

/// A function that is served until this is dropped.
pub(crate) struct Nf {
    monitor: Arc<Mutex<Monitor>>,
    hangs: Arc<AtomicBool>,
    /// It hangs, and a call waits.
    waits: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    spoil: Arc<Mutex<Option<(Scope, Spoil)>>>,
    /// What it says that is not so.
    pub(crate) lies: Arc<Lies>,
    thread: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Nf {
    /// Serves a function on a socket.
    pub(crate) fn start(socket: &Path, monitor: Monitor) -> Self {
        let (service, mut nf) = Self::unserved(monitor);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let service =
            Spoiling { inner: service, spoil: Arc::clone(&nf.spoil), lies: Arc::clone(&nf.lies) };
        let within = runtime.enter();
        let socket = Socket::bind(socket).expect("a socket");
        runtime.spawn(async move {
            server::serve(service, &socket, std::future::pending()).await.expect("it is served");
        });
        drop(within);
        nf.runtime = Some(runtime);
        nf
    }

    /// A function on its thread, and what serves it.
    pub(crate) fn unserved(monitor: Monitor) -> (Service, Self) {
        let other_names = monitor.other_names;
        let monitor = Arc::new(Mutex::new(monitor));
        let [hangs, waits, stop] = std::array::from_fn(|_| Arc::<AtomicBool>::default());
        let wake = Arc::<Mutex<Option<Thread>>>::default();
        let sleeper = Arc::clone(&wake);
        let description = Description {
            common_versions: true,
            other_names,
            ..Description::new("monitor", "1", &KINDS)
        };
        let (service, mut desk) = server::pair(description, move || {
            if let Some(thread) = &*sleeper.lock().expect("nobody panics here") {
                thread.unpark();
            }
        });
        let (function, stopped) = (monitor.clone(), stop.clone());
        let (hung, waiting) = (hangs.clone(), waits.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let hangs = hung.load(Ordering::Relaxed);
                if !hangs {
                    let mut function = function.lock().expect("nobody panics here");
                    while !function.hangs() && desk.serve(&mut *function) > 0 {}
                }
                waiting.store(hangs && !desk.is_empty(), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(5));
            }
        });
        *wake.lock().expect("nobody panics here") = Some(thread.thread().clone());
        let (spoil, lies, thread) = (Arc::default(), Arc::default(), Some(thread));
        (service, Self { monitor, hangs, waits, stop, spoil, lies, thread, runtime: None })
    }

    /// The function, between two packets.
    pub(crate) fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().expect("nobody panics here")
    }

    /// Whether it hangs, and a call waits for it.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// What becomes of the state of a scope that it gives from here on.
    pub(crate) fn spoil(&self, scope: Scope, spoil: Option<Spoil>) {
        *self.spoil.lock().expect("nobody panics here") = spoil.map(|spoil| (scope, spoil));
    }

    /// Whether it answers nothing.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }
}

impl Nf {
    /// It dies: nobody serves its socket any more.
    pub(crate) fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not on a thread that runs tasks.
            let ended = thread::spawn(move || runtime.shutdown_timeout(STOP_LIMIT)).join();
            assert!(ended.is_ok() || thread::panicking(), "it can not die");
        }
    }
}

impl Drop for Nf {
    fn drop(&mut self) {
        self.die();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            assert!(thread.join().is_ok() || thread::panicking(), "the function panicked");
        }
    }
}

/// The flow from the host 10.0.NETWORK.HOST to a server.
pub(crate) fn flow(network: u8, host: u8, port: u16) -> FlowKey {
    let (src, dst) = ([10, 0, network, host].into(), [192, 168, 0, 1].into());
    FlowKey::v4(src, dst, (port, 80), 6, ServiceId(0))
}
