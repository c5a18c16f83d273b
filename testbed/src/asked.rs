//! An instance of a [`MemoryNode`](crate::memory_node::MemoryNode), asked for its state as a
//! network function, without a socket.

use std::pin::pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tonic::{Response, Status, Streaming};
use weir_api::nf::v1::network_function_service_client::NetworkFunctionServiceClient;
use weir_api::nf::v1::network_function_service_server::NetworkFunctionServiceServer;
use weir_api::nf::v1::{self as api, Action};
use weir_nf_api::Description;
use weir_nf_api::server::{Service, pair, server};
use weir_state_transfer::chunk::{Chunk, Scope};
use weir_state_transfer::wire::Writer;
use weir_state_transfer::{FlowId, InstanceId};

use crate::memory_node::MemoryNode;

/// Longer than any call takes.
const LIMIT: Duration = Duration::from_secs(60);

/// An instance as a network function, and who asks it.
///
/// Each call is given `turn`, which has everybody take a turn, until there is an answer.
#[derive(Debug)]
pub struct Asked {
    client: NetworkFunctionServiceClient<NetworkFunctionServiceServer<Service>>,
    runtime: Runtime,
}

impl Asked {
    /// Has an instance served. It is to be asked by nobody else.
    ///
    /// # Panics
    /// When there is no such instance.
    pub fn new(node: &mut MemoryNode, id: InstanceId) -> Self {
        let as_nf = node.node.describe_instance(id).expect("it is there");
        let mut description = Description::new(&as_nf.name, "1", &as_nf.kinds);
        description.common_versions = true;
        let (service, desk) = pair(description, || {});
        node.node.serve_instance(id, as_nf.life, desk).expect("it is there");
        let runtime = Builder::new_current_thread().enable_all().build();
        let client = NetworkFunctionServiceClient::new(server(service));
        Self { client, runtime: runtime.expect("a thread may have a runtime") }
    }

    /// The chunks of a scope that have changed after so many changes, and how many there were before.
    ///
    /// # Errors
    /// What the instance says.
    ///
    /// # Panics
    /// When a chunk is none.
    pub fn get(
        &self,
        turn: impl FnMut(),
        scope: Scope,
        since: u64,
    ) -> Result<(Vec<Chunk>, u64), Status> {
        let mut client = self.client.clone();
        let (filter, extent) = ("any".to_owned(), api::Extent::Overlaps.into());
        let request = api::GetRequest { filter, extent, since };
        let get = async move {
            let answers = match scope {
                Scope::PerFlow => client.get_per_flow(request).await?,
                Scope::MultiFlow => client.get_multi_flow(request).await?,
                Scope::AllFlows => client.get_all_flows(api::GetAllFlowsRequest { since }).await?,
            };
            let (mut answers, mut chunks, mut changes) = (answers.into_inner(), Vec::new(), 0);
            while let Some(answer) = answers.message().await? {
                let decoded = answer.chunks.iter().map(|bytes| Chunk::decode(bytes));
                chunks.extend(decoded.map(|chunk| chunk.expect("its own bytes")));
                changes = answer.changes.unwrap_or(changes);
            }
            Ok((chunks, changes))
        };
        self.call(turn, get)
    }

    /// Puts chunks of a scope, in one message.
    ///
    /// # Errors
    /// What the instance says.
    ///
    /// # Panics
    /// When a chunk is too large.
    pub fn put(
        &self,
        turn: impl FnMut(),
        scope: Scope,
        chunks: &[Chunk],
    ) -> Result<api::PutResponse, Status> {
        let mut client = self.client.clone();
        let encoded = chunks.iter().map(|chunk| chunk.encode().expect("one that was given"));
        let request = api::PutRequest { chunks: encoded.collect(), refuse_older: false };
        let request = tokio_stream::once(request);
        let put = async move {
            match scope {
                Scope::PerFlow => client.put_per_flow(request).await,
                Scope::MultiFlow => client.put_multi_flow(request).await,
                Scope::AllFlows => client.put_all_flows(request).await,
            }
        };
        self.call(turn, put).map(Response::into_inner)
    }

    /// Has flow ids of a scope forgotten.
    ///
    /// # Errors
    /// What the instance says.
    pub fn del(&self, turn: impl FnMut(), scope: Scope, ids: &[FlowId]) -> Result<u64, Status> {
        let mut client = self.client.clone();
        let ids = ids.iter().map(|id| Writer::bytes_of(|out| id.put(out))).collect();
        let request = api::DelRequest { ids };
        let del = async move {
            match scope {
                Scope::PerFlow => client.del_per_flow(request).await,
                Scope::MultiFlow => client.del_multi_flow(request).await,
                Scope::AllFlows => Ok(Response::new(api::DelResponse::default())),
            }
        };
        self.call(turn, del).map(|deleted| deleted.into_inner().deleted)
    }

    /// Subscribes to packets; the subscription ends with what comes back.
    ///
    /// # Errors
    /// What the instance says.
    pub fn subscribe(
        &self,
        turn: impl FnMut(),
        subscription: u64,
        filter: &str,
        action: Action,
    ) -> Result<Streaming<api::EnableEventsResponse>, Status> {
        let mut client = self.client.clone();
        let (filter, action) = (filter.to_owned(), action.into());
        let request = api::EnableEventsRequest { subscription, filter, action, snap: 2_000 };
        let subscribe = async move { client.enable_events(request).await };
        self.call(turn, subscribe).map(Response::into_inner)
    }

    fn call<T>(
        &self,
        mut turn: impl FnMut(),
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let turns = async {
            let mut call = pin!(call);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut call => return answer,
                    () = tokio::task::yield_now() => turn(),
                }
            }
        };
        let within = async { tokio::time::timeout(LIMIT, turns).await };
        self.runtime
            .block_on(within)
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
    }
}
