//! What the proxy knows: objects, connections, statistics, and who has subscribed to its requests.
//!
//! All of it belongs to one thread and is changed between two steps of the proxy. Nothing here
//! waits; time comes in with each step.

mod connections;
mod objects;
mod requests;
mod southbound;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::HeaderMap;
use tokio::sync::Notify;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::time::Nanos;
use weir_state_transfer::{FlowId, FlowKey};

pub(crate) use connections::{Connections, Held};
pub(crate) use requests::Admission;
use requests::Requests;

use crate::clock;
use crate::refusals::Refusals;
use crate::settings::Limits;
use crate::statistics::{Figure, Statistics};
use crate::store::{Object, Store, Url};

/// URLs that are remembered to have been invalidated, so that a response that was on its way then is
/// not kept.
const INVALIDATED_MAX: usize = 1_024;
/// The version of what nothing has changed yet: a get of all gives what is above 0.
const FIRST: u64 = 1;

/// What the proxy knows.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) limits: Limits,
    replica: Replica,
    now: Now,
    store: Store,
    statistics: Statistics,
    pub(crate) connections: Connections,
    requests: Requests,
    /// What this process has refused: unlike statistics it is no state that is copied.
    refusals: Refusals,
    /// All updates: what versions are taken from.
    updates: u64,
    /// Bytes of bodies that are being collected.
    collecting: usize,
    invalidated: VecDeque<(u64, Url)>,
    /// Whether it may take over connections.
    repairs: bool,
    /// Connections that the last call has passed over, as they are in use.
    passed_over: Vec<FlowId>,
    /// Wakes who passes events on.
    wake: Arc<Notify>,
}

/// What time it is: by the calendar, and since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: SystemTime,
    pub(crate) since_start: Nanos,
    pub(crate) instant: Instant,
}

/// What there is for a request.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// An object that answers it.
    Fresh(Rc<Object>),
    /// An object that the origin has to be asked about.
    Stale(Rc<Object>),
    /// Nothing.
    Nothing,
}

impl Cache {
    pub(crate) fn new(limits: Limits, replica: Replica, repairs: bool, wake: Arc<Notify>) -> Self {
        let now =
            Now { wall: SystemTime::UNIX_EPOCH, since_start: Nanos(0), instant: clock::now() };
        Self {
            limits,
            replica,
            now,
            store: Store::new(limits.store),
            statistics: Statistics::of_version(FIRST),
            connections: Connections::default(),
            requests: Requests::new(limits.connections),
            refusals: Refusals::default(),
            updates: FIRST,
            collecting: 0,
            invalidated: VecDeque::new(),
            repairs,
            passed_over: Vec::new(),
            wake,
        }
    }

    /// Counts.
    pub(crate) fn count(&mut self, figure: Figure, count: u64) {
        let version = self.update();
        self.statistics.add(self.replica, figure, count, version);
    }

    /// Counts a refusal; see [`Refusals::add`].
    pub(crate) fn refused(&mut self, reason: &'static str) -> Option<u64> {
        self.refusals.add(reason, self.now.since_start)
    }

    /// What there is for a request of a client, who then has fetched it.
    pub(crate) fn look_up(&mut self, url: &Url, request: &HeaderMap, client: IpAddr) -> Lookup {
        let Some(object) = self.store.find(url, request) else { return Lookup::Nothing };
        if !object.freshness.satisfies(url, request, &object.selecting, self.now.wall) {
            return Lookup::Stale(object);
        }
        self.touch(&object, client);
        Lookup::Fresh(object)
    }

    /// A client has fetched an object that is there.
    pub(crate) fn touch(&mut self, object: &Object, client: IpAddr) {
        let version = self.update();
        self.store.touch(object, client, version);
    }

    /// Takes in a response of an origin, unless what it is of was invalidated since it was asked
    /// for.
    pub(crate) fn insert(&mut self, object: Object, client: IpAddr, asked: Moment) {
        let of_url = |(_, url): &&(u64, Url)| *url == object.url;
        let later = |(update, _): &(u64, Url)| *update > asked.0;
        let forgotten =
            self.invalidated.len() == INVALIDATED_MAX && self.invalidated.iter().all(later);
        if forgotten || self.invalidated.iter().filter(of_url).any(later) {
            return;
        }
        let version = self.update();
        self.store.insert(object, client, version);
        self.count(Figure::Stored, 1);
        self.count_evicted();
    }

    /// A request has changed what a URL is of (RFC 9111, section 4.4).
    pub(crate) fn invalidate(&mut self, url: &Url) {
        let gone = self.store.invalidate(url) as u64;
        if gone > 0 {
            self.count(Figure::Invalidated, gone);
        }
        if self.invalidated.len() == INVALIDATED_MAX {
            self.invalidated.pop_front();
        }
        let update = self.update();
        self.invalidated.push_back((update, url.clone()));
    }

    /// This moment, in updates.
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.updates)
    }

    /// A request of a connection has come.
    pub(crate) fn admit(&mut self, key: &FlowKey, head: impl FnOnce() -> Vec<u8>) -> Admission {
        let admission = self.requests.admit(key, head, self.now.since_start);
        if matches!(admission, Admission::Drop) {
            // That is told where somebody has subscribed.
            self.wake.notify_one();
        }
        admission
    }

    /// Whether what is answered since a moment changes nothing here any more: see
    /// [`Requests::is_frozen`].
    pub(crate) fn is_frozen(&self, key: &FlowKey, admitted: Moment) -> bool {
        self.requests.is_frozen(key, admitted.0)
    }

    /// Room for so many bytes more of bodies that are being collected, a quarter of the store
    /// together at most; whether there is.
    pub(crate) fn collect(&mut self, more: usize) -> bool {
        let fits = self.collecting + more <= self.limits.store / 4;
        self.collecting += if fits { more } else { 0 };
        fits
    }

    /// So many bytes are not collected any more.
    pub(crate) fn collected(&mut self, bytes: usize) {
        self.collecting -= bytes;
    }

    /// The calendar time of this step.
    pub(crate) fn wall(&self) -> SystemTime {
        self.now.wall
    }

    fn count_evicted(&mut self) {
        let evicted = self.store.take_evicted();
        if evicted > 0 {
            self.count(Figure::Evicted, evicted);
        }
    }

    /// The number of one update more. A peer that says more than there can be ends the count: then
    /// all versions are the same.
    fn update(&mut self) -> u64 {
        self.updates = self.updates.saturating_add(1);
        self.updates
    }
}

/// A moment, in updates of a cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment(u64);

/// The cache, for the tasks of its thread.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    cache: Rc<RefCell<Cache>>,
    started: Instant,
}

impl Shared {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache: Rc::new(RefCell::new(cache)), started: clock::now() }
    }

    /// One step. It must not begin another.
    pub(crate) fn with<T>(&self, step: impl FnOnce(&mut Cache) -> T) -> T {
        let mut cache = self.cache.borrow_mut();
        let instant = clock::now();
        let since = instant.duration_since(self.started);
        let since_start = Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        cache.now = Now { wall: clock::wall(), since_start, instant };
        step(&mut cache)
    }
}
