//! What can be asked of a sidecar, with defaults for all that need not be said.

use std::time::Duration;

use weir_api::{
    dataplane::v1::Change,
    v1::{CopyRequest, MoveRequest, NotifyRequest, ShareRequest, move_request::Selection},
};
/// What a move promises of the packets of its flows, in which order a share has operations executed,
/// and how many flows a piece of state is about.
pub use weir_api::{
    dataplane::v1::{Guarantee, ShareMode},
    nf::v1::Scope,
};

use crate::Error;

/// A move of state from an end to another.
#[derive(Clone, Debug)]
pub struct Move {
    /// The source: the name or number of an instance, or the name of a network function.
    pub from: String,
    /// The destination; `PEER/END` for one of another node.
    pub to: String,
    /// Which state, as in `src=10.0.0.0/8,proto=tcp,dport=80`, or `any`.
    pub filter: String,
    /// Of which scopes: per-flow, multi-flow or both.
    pub scopes: Vec<Scope>,
    /// What is promised of packets; between processes [`Guarantee::None`] unless
    /// Weir leads their packets (legs), and between nodes always.
    pub guarantee: Guarantee,
    /// How long it may take, an hour at most; undoing it may take 30 s more.
    pub limit: Duration,
    /// Identifies the request, 64 bytes at most, so that repeating it is harmless; random if none.
    pub request_id: Option<String>,
}

impl Move {
    /// A move of per-flow state that keeps the order of packets and may take a minute.
    pub fn new(from: &str, to: &str, filter: &str) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            filter: filter.to_owned(),
            scopes: vec![Scope::PerFlow],
            guarantee: Guarantee::Ordered,
            limit: Duration::from_secs(60),
            request_id: None,
        }
    }

    pub(crate) fn request(&self) -> Result<MoveRequest, Error> {
        Ok(MoveRequest {
            change: Some(change(self.request_id.as_deref())?),
            from: self.from.clone(),
            to: self.to.clone(),
            selection: Some(Selection::Filter(self.filter.clone())),
            scopes: self.scopes.iter().map(|scope| (*scope).into()).collect(),
            guarantee: self.guarantee.into(),
            limit_ns: nanos(self.limit),
        })
    }
}

/// A copy of state from an end to another, where it is merged with what is there.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The source: the name or number of an instance, or the name of a network function.
    pub from: String,
    /// The destination.
    pub to: String,
    /// Which state, as that of a move.
    pub filter: String,
    /// Of which scopes.
    pub scopes: Vec<Scope>,
    /// From the end of a round to the beginning of the next, at least 10 ms; none for one round.
    pub every: Option<Duration>,
    /// Rounds of a copy that repeats; none for no end.
    pub rounds: Option<u64>,
    /// How long a copy that repeats lasts: after that no round begins. None for no end.
    pub time_limit: Option<Duration>,
    /// How long each round may take, an hour at most.
    pub limit: Duration,
    /// Identifies the request, 64 bytes at most, so that repeating it is harmless; random if none.
    pub request_id: Option<String>,
}

impl Copy {
    /// One round of multi-flow state, which may take a minute.
    pub fn new(from: &str, to: &str, filter: &str) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            filter: filter.to_owned(),
            scopes: vec![Scope::MultiFlow],
            every: None,
            rounds: None,
            time_limit: None,
            limit: Duration::from_secs(60),
            request_id: None,
        }
    }

    pub(crate) fn request(&self) -> Result<CopyRequest, Error> {
        Ok(CopyRequest {
            change: Some(change(self.request_id.as_deref())?),
            from: self.from.clone(),
            to: self.to.clone(),
            filter: self.filter.clone(),
            scopes: self.scopes.iter().map(|scope| (*scope).into()).collect(),
            interval_ns: self.every.map_or(0, nanos),
            rounds: self.rounds.unwrap_or(0),
            limit_ns: nanos(self.limit),
            time_limit_ns: self.time_limit.map_or(0, at_least_one),
        })
    }
}

/// Instances that are to act on the same multi-flow state.
#[derive(Clone, Debug)]
pub struct Share {
    /// Their names or numbers, two at least.
    pub instances: Vec<String>,
    /// What is shared: the state of sources that it names as a whole, as `src=10.0.0.0/8` or `any`
    /// do.
    pub filter: String,
    /// The order of operations on it.
    pub mode: ShareMode,
    /// How long it lasts; none until it is cancelled.
    pub limit: Option<Duration>,
    /// Identifies the request, 64 bytes at most, so that repeating it is harmless; random if none.
    pub request_id: Option<String>,
}

impl Share {
    /// A strong share that lasts until it is cancelled.
    pub fn new(instances: &[&str], filter: &str) -> Self {
        Self {
            instances: names(instances),
            filter: filter.to_owned(),
            mode: ShareMode::Strong,
            limit: None,
            request_id: None,
        }
    }

    pub(crate) fn request(&self) -> Result<ShareRequest, Error> {
        Ok(ShareRequest {
            change: Some(change(self.request_id.as_deref())?),
            instances: self.instances.clone(),
            filter: self.filter.clone(),
            scopes: vec![Scope::MultiFlow.into()],
            mode: self.mode.into(),
            limit_ns: self.limit.map_or(0, at_least_one),
        })
    }
}

/// Being told of packets of an end.
#[derive(Clone, Debug)]
pub struct Notify {
    /// The end: the name or number of an instance, or the name of a network function.
    pub end: String,
    /// Which packets, as in `proto=tcp,tcp_flags=syn/syn+ack`, or `any`.
    pub filter: String,
    /// How many of the first bytes of each packet come along, 65,535 at most.
    pub snap: u32,
    /// How long it lasts; none for no end.
    pub limit: Option<Duration>,
    /// Events after which it ends; none for no end.
    pub count: Option<u64>,
}

impl Notify {
    /// One without bytes of packets and without an end.
    pub fn new(end: &str, filter: &str) -> Self {
        Self { end: end.to_owned(), filter: filter.to_owned(), snap: 0, limit: None, count: None }
    }

    pub(crate) fn request(&self) -> NotifyRequest {
        NotifyRequest {
            end: self.end.clone(),
            filter: self.filter.clone(),
            snap: self.snap,
            limit_ns: self.limit.map_or(0, at_least_one),
            count: self.count.unwrap_or(0),
        }
    }
}

pub(crate) fn names(instances: &[&str]) -> Vec<String> {
    instances.iter().map(|name| (*name).to_owned()).collect()
}

/// Identifies a change.
pub(crate) fn change(request_id: Option<&str>) -> Result<Change, Error> {
    let request_id = match request_id {
        Some(id) => id.to_owned(),
        None => self::request_id()?,
    };
    Ok(Change { request_id, generation: 0 })
}

/// A request id that no other request has, for who may ask again.
///
/// # Errors
/// When the system has no randomness.
pub fn request_id() -> Result<String, Error> {
    let random = getrandom::u64();
    let random = random.map_err(|error| Error::broken(&format!("no randomness: {error}")))?;
    Ok(format!("c-{random:016x}"))
}

/// A limit that there is: 0 is none.
fn at_least_one(limit: Duration) -> u64 {
    nanos(limit).max(1)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
