//! The client: a network function in a process of its own, asked as the trait is.
//!
//! The connection is made when it is first needed, and again when it was lost or the path leads to
//! the socket of another process. Whatever is waited for has a time limit, so that a process that
//! hangs or dies holds nobody up.

mod connection;
mod error;
mod get;
mod notes;
mod put;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weir_api::nf::v1 as api;
use weir_state_transfer::FlowId;
use weir_state_transfer::chunk::Scope;
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::{Action, SubscriptionId};
use weir_state_transfer::state_filter::StateFilter;

pub use connection::{INSTANCE, LIFE, connect};
pub use error::CallError;
pub use get::Chunks;
pub use notes::Notes;
pub use put::{Put, Refusal};
pub use weir_api::nf::v1::{Counter, RefusalReason};

use connection::{Stubs, Way};

pub use crate::convert::IDS_MAX;
use crate::convert::{GETS_MAX, action_to, id_to};
use crate::counters;
use crate::description::Description;

/// A network function in a process of its own, or an instance of a data plane.
#[derive(Clone, Debug)]
pub struct Client {
    api: Api,
    limit: Duration,
    refuse_older: bool,
    /// Connections that were made: shared by all clones.
    connections: Arc<AtomicU64>,
    /// Gets that may yet begin: shared by all clones.
    gets: Arc<Semaphore>,
}

/// What a client asks by; all its clones ask by the same.
#[derive(Clone, Debug)]
enum Api {
    /// The socket of a network function.
    Socket(Arc<Way>),
    /// A connection that others have too.
    Channel(Box<Stubs>),
}

/// Which state a get asks for.
#[derive(Clone, Debug)]
pub struct Query {
    /// What it is about.
    pub filter: StateFilter,
    /// How much of what a piece is about the filter must name.
    pub extent: Extent,
    /// Only chunks of a version above this one, or that have changed after this count where changes
    /// are counted apart; 0 for all.
    pub since: u64,
}

/// What has become of what was to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Of how many ids there was state, which is forgotten.
    pub count: u64,
    /// How many flows stay, because they are in use, or have been since they were given.
    pub in_use: u64,
    /// Which these are, as far as it says so.
    pub in_use_ids: Vec<FlowId>,
}

impl Query {
    /// All state that overlaps with what the filter names.
    pub fn new(filter: StateFilter) -> Self {
        Self { filter, extent: Extent::Overlaps, since: 0 }
    }
}

impl Client {
    /// A network function that serves a Unix socket. It may take `limit` to answer, for each piece
    /// of a get, and to take the next of what is put. To be called within a tokio runtime.
    pub fn unix(path: &Path, limit: Duration) -> Self {
        let connections = Arc::<AtomicU64>::default();
        let api = Api::Socket(Arc::new(Way::new(path, limit, Arc::clone(&connections))));
        Self { api, limit, refuse_older: false, connections, gets: turns() }
    }

    /// An instance of the data plane, whose socket serves this API for each of them; the channel is
    /// as [`connect`] makes it. One that is not there, or not in this life if one is given, is refused
    /// with NOT_FOUND.
    pub fn instance(channel: Channel, instance: u32, life: Option<u64>, limit: Duration) -> Self {
        let api = Api::Channel(Box::new(connection::stubs(channel, Some(instance), life)));
        Self { api, limit, refuse_older: false, connections: Arc::default(), gets: turns() }
    }

    /// The same with another limit.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The same, which has chunks refused that are older than what is known. Otherwise they count as
    /// taken in, and change nothing.
    pub fn refusing_older(&self) -> Self {
        Self { refuse_older: true, ..self.clone() }
    }

    /// How many connections were made to its socket so far: while that does not grow, its process
    /// is the same.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What it is.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn describe(&self) -> Result<Description, CallError> {
        let mut api = self.api();
        let request = api::DescribeRequest {};
        let answer = within("describe", self.limit, api.describe(request)).await?;
        Description::of_message(answer.into_inner()).map_err(CallError::malformed("describe"))
    }

    /// What it has counted; nothing where it does not tell that.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn counters(&self) -> Result<Vec<Counter>, CallError> {
        let mut api = self.api();
        let request = api::GetCountersRequest {};
        match within("get_counters", self.limit, api.get_counters(request)).await {
            Ok(answer) => counters::of_message(answer.into_inner())
                .map_err(CallError::malformed("get_counters")),
            Err(CallError::Refused { code: Code::Unimplemented, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Per-flow state.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_per_flow(&self, query: &Query) -> Result<Chunks, CallError> {
        self.get(Scope::PerFlow, query).await
    }

    /// Multi-flow state.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_multi_flow(&self, query: &Query) -> Result<Chunks, CallError> {
        self.get(Scope::MultiFlow, query).await
    }

    /// All-flows state of a version above `since`; 0 for all.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get_all_flows(&self, since: u64) -> Result<Chunks, CallError> {
        self.get(Scope::AllFlows, &Query { since, ..Query::new(StateFilter::default()) }).await
    }

    /// Puts per-flow state, as encoded chunks.
    ///
    /// # Errors
    /// [`CallError`]; how much was taken in is not known then, and all may be put again.
    pub async fn put_per_flow(
        &self,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Put, CallError> {
        self.put(Scope::PerFlow, chunks).await
    }

    /// Merges multi-flow state, as encoded chunks.
    ///
    /// # Errors
    /// As those of [`Self::put_per_flow`].
    pub async fn put_multi_flow(
        &self,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Put, CallError> {
        self.put(Scope::MultiFlow, chunks).await
    }

    /// Merges all-flows state, as encoded chunks.
    ///
    /// # Errors
    /// As those of [`Self::put_per_flow`].
    pub async fn put_all_flows(
        &self,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Put, CallError> {
        self.put(Scope::AllFlows, chunks).await
    }

    /// Forgets flows, silently.
    ///
    /// # Errors
    /// [`CallError`]; some may be forgotten then.
    pub async fn del_per_flow(&self, ids: &[FlowId]) -> Result<Deleted, CallError> {
        self.del(Scope::PerFlow, ids).await
    }

    /// Forgets multi-flow state, silently.
    ///
    /// # Errors
    /// [`CallError`]; some may be forgotten then.
    pub async fn del_multi_flow(&self, ids: &[FlowId]) -> Result<Deleted, CallError> {
        self.del(Scope::MultiFlow, ids).await
    }

    /// Subscribes to packets. It is in force when this returns, until it is disabled or what this
    /// returns is dropped.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn enable_events(
        &self,
        id: SubscriptionId,
        filter: &StateFilter,
        action: Action,
        snap: u32,
    ) -> Result<Notes, CallError> {
        let mut api = self.api();
        let request = api::EnableEventsRequest {
            subscription: id.0,
            filter: filter.to_string(),
            action: action_to(action).into(),
            snap,
        };
        let begun = async {
            let mut stream = api.enable_events(request).await?.into_inner();
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let (stream, first) = within("enable_events", self.limit, begun).await?;
        Notes::begin(self.clone(), id, stream, first)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn disable_events(&self, id: SubscriptionId) -> Result<(), CallError> {
        let mut api = self.api();
        let request = api::DisableEventsRequest { subscription: id.0 };
        within("disable_events", self.limit, api.disable_events(request)).await.map(drop)
    }

    /// State of a scope; all of it when that is all-flows. One that comes behind four others of this
    /// client and its clones waits until one of them has ended, for 60 s at most, and where the
    /// function serves others meanwhile, for its limit.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn get(&self, scope: Scope, query: &Query) -> Result<Chunks, CallError> {
        Chunks::begin(self, scope, query).await
    }

    /// Puts state of a scope, as encoded chunks. It takes as long as the function takes chunks or
    /// answers other calls: who waits for it sets an end.
    ///
    /// # Errors
    /// As those of [`Self::put_per_flow`].
    pub async fn put(
        &self,
        scope: Scope,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<Put, CallError> {
        put::run(self, scope, chunks).await
    }

    /// Forgets state of a scope, silently. State of all flows is never deleted.
    ///
    /// # Errors
    /// [`CallError`]; some may be forgotten then.
    pub async fn del(&self, scope: Scope, ids: &[FlowId]) -> Result<Deleted, CallError> {
        let mut all = Deleted::default();
        for ids in ids.chunks(IDS_MAX) {
            let mut api = self.api();
            let request = api::DelRequest { ids: ids.iter().map(id_to).collect() };
            let answer = async {
                match scope {
                    Scope::PerFlow => api.del_per_flow(request).await,
                    Scope::MultiFlow => api.del_multi_flow(request).await,
                    Scope::AllFlows => Err(Status::invalid_argument("it is never deleted")),
                }
            };
            let answer = within("del", self.limit, answer).await?.into_inner();
            // Nothing holds it to the truth.
            all.count = all.count.saturating_add(answer.deleted);
            all.in_use = all.in_use.saturating_add(answer.in_use);
            let said: HashSet<_> = answer.in_use_ids.into_iter().collect();
            all.in_use_ids.extend(ids.iter().filter(|id| said.contains(&id_to(id))).cloned());
        }
        Ok(all)
    }

    /// The stubs, for one call.
    pub(crate) fn api(&self) -> Stubs {
        match &self.api {
            Api::Socket(way) => way.stubs(),
            Api::Channel(stubs) => Stubs::clone(stubs),
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}

/// As many as a network function serves at one time.
fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(GETS_MAX))
}

/// What comes of a call within its limit.
pub(crate) async fn within<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|status| CallError::of(&status)),
        Err(_) => Err(CallError::Late { call, limit }),
    }
}
