//! Client connections as per-flow state: those that wait for their next request.
//!
//! One whose request is being answered finishes where it is. A get passes it over, says so, counts it
//! ([`Figure::InUse`]) and logs it; a deletion leaves it, and says so too.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tracing::info;
use weir_state_transfer::chunk::{BodyError, Chunk, decode_body};
use weir_state_transfer::flow_id::FlowId;
use weir_state_transfer::id::ServiceId;
use weir_state_transfer::southbound::{Cursor, Get, More, PutError};
use weir_state_transfer::wire::Writer;
use weir_state_transfer::{FlowKey, protocol};

use super::{Cache, Moment};
use crate::connection::{Activity, Repaired, repair};
use crate::kinds::CONNECTION;
use crate::statistics::Figure;

/// The client connections, by the number of each.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: BTreeMap<u64, Held>,
    numbers: HashMap<FlowKey, u64>,
    next: u64,
    /// Those that have come from elsewhere and are served by nobody yet.
    adopted: Vec<u64>,
}

/// A client connection.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The flow, from the client on.
    pub(crate) key: FlowKey,
    pub(crate) stream: Arc<TcpStream>,
    pub(crate) activity: Arc<Activity>,
    /// The update that has changed it last.
    version: u64,
    /// Requests that it has had.
    requests: u64,
    /// The time stamp that its segments had when it became idle: it does not change while it is.
    stamp: Option<u32>,
    /// The update that had changed it last when it was given last.
    given: Option<u64>,
    /// Its last answer ended while who has subscribed counted on that nothing changes.
    hidden: bool,
}

impl Connections {
    /// One more, of a client that has connected; its number.
    pub(crate) fn add(&mut self, held: Held) -> u64 {
        self.next += 1;
        let old = self.numbers.insert(held.key.both_ways(), self.next);
        old.map(|old| self.all.remove(&old));
        self.all.insert(self.next, held);
        self.next
    }

    /// One has ended.
    pub(crate) fn remove(&mut self, number: u64) {
        let Some(held) = self.all.remove(&number) else { return };
        let flow = held.key.both_ways();
        if self.numbers.get(&flow) == Some(&number) {
            self.numbers.remove(&flow);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that have come from elsewhere since this was asked for last, with their numbers.
    pub(crate) fn take_adopted(&mut self) -> Vec<(u64, Held)> {
        let numbers = std::mem::take(&mut self.adopted);
        let held = |number: u64| Some((number, self.all.get(&number)?.clone()));
        numbers.into_iter().filter_map(held).collect()
    }
}

impl Held {
    /// A connection from a client to an address here.
    pub(crate) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        own: SocketAddr,
        activity: Activity,
    ) -> Option<Self> {
        let (stream, activity) = (Arc::new(stream), Arc::new(activity));
        let ports = (peer.port(), own.port());
        let (peer, own) = (peer.ip().to_canonical(), own.ip().to_canonical());
        let key = FlowKey::new(peer, own, ports, protocol::TCP, ServiceId(0))?;
        Some(Self {
            key,
            stream,
            activity,
            version: 0,
            requests: 0,
            stamp: None,
            given: None,
            hidden: false,
        })
    }
}

impl Cache {
    /// A request of a connection has been answered; its head, when somebody may be told of it.
    pub(crate) fn answered(&mut self, number: u64, head: Option<&[u8]>, admitted: Moment) {
        let version = self.update();
        let Some(held) = self.connections.all.get_mut(&number) else { return };
        (held.version, held.requests, held.stamp) = (version, held.requests + 1, None);
        let key = held.key;
        let is_frozen = self.requests.is_frozen(&key, admitted.0);
        held.hidden = is_frozen;
        held.activity.end(self.now.instant);
        if let Some(head) = head.filter(|_| !is_frozen) {
            self.requests.answered(&key, head, version, self.now.since_start);
            self.wake.notify_one();
        }
    }

    pub(super) fn give_connections(
        &mut self,
        get: &Get<'_>,
        cursor: &mut Cursor,
        out: &mut Vec<Chunk>,
    ) -> More {
        if !self.repairs {
            return More::No;
        }
        let (mut in_use, mut more) = (Vec::new(), More::No);
        for (number, held) in self.connections.all.range_mut(cursor.0..) {
            if out.len() == get.max {
                (cursor.0, more) = (*number, More::Yes);
                break;
            }
            let id = FlowId::flow(&held.key);
            if !get.filter.picks(&id, get.extent) {
                continue;
            }
            held.hidden &= self.requests.freezes(&held.key);
            match held.chunk(self.now.instant, self.limits.idle) {
                Some(chunk) => out.push(chunk),
                None => {
                    info!(connection = %id, "in use: it finishes here");
                    in_use.push(id);
                }
            }
        }
        if !in_use.is_empty() {
            self.count(Figure::InUse, in_use.len() as u64);
            self.passed_over.extend(in_use);
        }
        more
    }

    pub(super) fn take_connection(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        CONNECTION.check(chunk)?;
        let key = chunk
            .id
            .key()
            .filter(|key| key.protocol() == protocol::TCP && key.service() == ServiceId(0));
        let key = key.ok_or_else(|| PutError::wrong_id(chunk))?;
        let state = decode_body(chunk.schema, CONNECTION.schema, &chunk.body, |reader| {
            Ok((reader.u64()?, Repaired::take(reader)?))
        });
        let bad = |error: BodyError| PutError::bad_body(chunk, &error);
        let (requests, state) = state.map_err(bad)?;
        let known = self.connections.numbers.get(&key.both_ways()).copied();
        let held = known.and_then(|number| self.connections.all.get(&number));
        if let Some(held) = held.filter(|held| (1..held.version).contains(&chunk.version)) {
            return Err(PutError::older(chunk, held.version));
        }
        if known.is_none() && self.connections.len() >= self.limits.connections {
            return Err(PutError::full(chunk, "connections", self.limits.connections));
        }
        let old = match known {
            Some(number) => Some(self.replaced(number).map_err(|error| refused(chunk, &error))?),
            None => None,
        };
        let age = chunk.age.min(self.limits.idle);
        let now = state.stamp().map(|stamp| stamp.wrapping_add(millis(age)));
        let (stream, held) = match (revive(&key, &state.with_stamp(now)), old) {
            (Ok(stream), _) => {
                let (version, stamp) = (chunk.version.max(super::FIRST), state.stamp());
                (stream, Restored { age, version, requests, stamp })
            }
            (Err(error), None) => return Err(refused(chunk, &error)),
            // It goes on as it was.
            (Err(error), Some((old, restored))) => {
                let stream = revive(&key, &old).map_err(|error| refused(chunk, &error))?;
                self.adopt(key, stream, restored);
                return Err(refused(chunk, &error));
            }
        };
        self.updates = self.updates.max(chunk.version);
        self.adopt(key, stream, held);
        Ok(())
    }

    /// Takes a connection out of the kernel in whose place another comes; what it was.
    fn replaced(&mut self, number: u64) -> io::Result<(Repaired, Restored)> {
        let in_use = || io::Error::other("it is in use here");
        let held = self.connections.all.get(&number).ok_or_else(in_use)?;
        let since = held.activity.idle_since().filter(|_| !held.hidden).ok_or_else(in_use)?;
        let state = repair::get(&held.stream)?.ok_or_else(in_use)?;
        repair::forget(&held.stream)?;
        let age = self.now.instant.saturating_duration_since(since);
        let Held { version, requests, stamp, .. } = *held;
        Ok((state, Restored { age, version, requests, stamp }))
    }

    /// Has a connection that is in the kernel again served.
    fn adopt(&mut self, key: FlowKey, stream: TcpStream, restored: Restored) {
        let Restored { age, version, requests, stamp } = restored;
        let since = self.now.instant.checked_sub(age).unwrap_or(self.now.instant);
        let (stream, activity) = (Arc::new(stream), Arc::new(Activity::idle(since)));
        let (given, hidden) = (None, false);
        let held = Held { key, stream, activity, version, requests, stamp, given, hidden };
        let number = self.connections.add(held);
        self.connections.adopted.push(number);
    }

    pub(super) fn forget_connections(&mut self, ids: &[FlowId]) -> usize {
        let mut forgotten = 0;
        for id in ids {
            let flow = id.key().map(|key| key.both_ways());
            let number = flow.and_then(|flow| self.connections.numbers.get(&flow).copied());
            let Some(number) = number else { continue };
            let Some(held) = self.connections.all.get(&number) else { continue };
            // One that has had a request since it was given is not what goes on elsewhere.
            let is_as_given = held.given.is_none_or(|given| given == held.version);
            let may_go = is_as_given && !held.hidden && held.activity.idle_since().is_some();
            if !may_go {
                self.passed_over.push(id.clone());
                continue;
            }
            // Its task finds its socket closed.
            if repair::forget(&held.stream).is_ok() {
                self.connections.remove(number);
                forgotten += 1;
            }
        }
        forgotten
    }
}

impl Held {
    /// A copy of it, unless it is in use.
    fn chunk(&mut self, now: std::time::Instant, idle: Duration) -> Option<Chunk> {
        let since = self.activity.idle_since().filter(|_| !self.hidden)?;
        let age = now.saturating_duration_since(since);
        let state = repair::get(&self.stream).ok().flatten()?;
        // The stamp goes on by itself: what it was when the connection became idle does not.
        let then = self.stamp.or(state.stamp().map(|stamp| stamp.wrapping_sub(millis(age))));
        (self.stamp, self.given) = (then, Some(self.version));
        let body = Writer::bytes_of(|out| {
            out.u64(self.requests);
            state.with_stamp(then).put(out);
        });
        let time_left = Some(idle.saturating_sub(age));
        let chunk = CONNECTION.chunk(FlowId::flow(&self.key), body);
        Some(Chunk { version: self.version, age, time_left, ..chunk })
    }
}

/// What is known of a connection besides what the kernel knows.
#[derive(Clone, Copy, Debug)]
struct Restored {
    age: Duration,
    version: u64,
    requests: u64,
    stamp: Option<u32>,
}

/// Puts a connection into the kernel.
fn revive(key: &FlowKey, state: &Repaired) -> io::Result<TcpStream> {
    let (own, peer) = ((key.dst(), key.dst_port()).into(), (key.src(), key.src_port()).into());
    TcpStream::from_std(repair::put(own, peer, state)?)
}

/// A connection that the kernel does not let in.
fn refused(chunk: &Chunk, error: &io::Error) -> PutError {
    let why = format!("the connection can not go on here: {error}");
    PutError::BadBody { id: Box::new(chunk.id.clone()), why }
}

/// The low bits of so many milliseconds, as time stamps have them.
fn millis(time: Duration) -> u32 {
    time.as_millis() as u32
}
