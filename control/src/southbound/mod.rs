//! The client of the data plane's API.
//!
//! The connection is made when it is first needed and again when it was lost. Each request has a
//! time limit, the reading of a listing too, so a data plane that hangs holds nobody up.

mod convert;
mod view;

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status, Streaming, TimeoutExpired,
    transport::{Channel, Endpoint, Uri},
};
use weir_api::causes::{root_cause, words};
use weir_api::dataplane::v1::{
    AddRouteRequest, Change, CreateInstanceRequest, GetCountersRequest, GetCountersResponse,
    GetNodeRequest, GetNodeResponse, GetSteeringRequest, InstanceState, ListInstancesRequest,
    ListInstancesResponse, ListMovesRequest, ListPortsRequest, ListRoutesRequest,
    ListSharesRequest, ListWorkersRequest, Move, Port, RemoveInstanceRequest, Route,
    SetInstanceStateRequest, Share, StartMoveRequest, UndoMoveRequest, WatchNodeRequest,
    WatchNodeResponse, Worker, flow_service_client::FlowServiceClient,
    instance_service_client::InstanceServiceClient, move_service_client::MoveServiceClient,
    neighbour_service_client::NeighbourServiceClient, nf_service_client::NfServiceClient,
    node_service_client::NodeServiceClient, policy_route_service_client::PolicyRouteServiceClient,
    port_service_client::PortServiceClient, route_service_client::RouteServiceClient,
    share_service_client::ShareServiceClient, start_move_request::Selection,
    steering_service_client::SteeringServiceClient, worker_service_client::WorkerServiceClient,
};

pub use self::{
    convert::{ended, find_instance, observed, running},
    view::View,
};
use crate::scaling::{
    machine::{Action, Request},
    plan::Running,
};
pub use weir_nf_api::{scope_message, scope_of};

/// How long the data plane may take to answer one request.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How long the data plane may take to list all its routes.
const LISTING_LIMIT: Duration = Duration::from_secs(30);
/// Largest message accepted from the data plane, in bytes: what it sends at most.
const MESSAGE_MAX: usize = 8 << 20;

/// A data plane, reached through its Unix socket.
#[derive(Debug, Clone)]
pub struct Southbound {
    channel: Channel,
    /// A connection for long listings: what their readers leave unread fills its window, and must
    /// not hold up anything else.
    listings: Channel,
    /// A connection for what is watched for as long as an operation lasts: a connection has so many
    /// streams at one time, and what operations are asked to do must not wait for their ends.
    watches: Channel,
    socket: PathBuf,
}

/// A client of one of the data plane's services, with the limits set.
macro_rules! client {
    ($name:ident, $client:ident, $channel:ident) => {
        #[doc = concat!("A [`", stringify!($client), "`] on its connection.")]
        pub fn $name(&self) -> $client<Channel> {
            $client::new(self.$channel.clone()).max_decoding_message_size(MESSAGE_MAX)
        }
    };
}

impl Southbound {
    /// A data plane at this socket; connects when first asked. Must be called inside a runtime.
    pub fn new(socket: &Path) -> Self {
        let [channel, listings, watches] = std::array::from_fn(|_| connection(socket));
        Self { channel, listings, watches, socket: socket.to_owned() }
    }

    /// The socket that it is reached by.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    client!(instances, InstanceServiceClient, channel);
    client!(moves, MoveServiceClient, channel);
    client!(watched_moves, MoveServiceClient, watches);
    client!(shares, ShareServiceClient, channel);
    client!(watched_shares, ShareServiceClient, watches);
    client!(workers, WorkerServiceClient, channel);
    client!(routes, RouteServiceClient, channel);
    client!(policies, PolicyRouteServiceClient, channel);
    client!(neighbours, NeighbourServiceClient, channel);
    client!(nfs, NfServiceClient, channel);
    client!(flows, FlowServiceClient, listings);

    /// Facts of the process.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn node(&self) -> Result<GetNodeResponse, Status> {
        let mut client = NodeServiceClient::new(self.channel.clone());
        Ok(client.get_node(GetNodeRequest {}).await?.into_inner())
    }

    /// Every counter and the balance.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn counters(&self) -> Result<GetCountersResponse, Status> {
        let client = NodeServiceClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_MAX);
        Ok(client.get_counters(GetCountersRequest {}).await?.into_inner())
    }

    /// The ports.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_ports(&self) -> Result<Vec<Port>, Status> {
        let client = PortServiceClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_MAX);
        Ok(client.list_ports(ListPortsRequest {}).await?.into_inner().ports)
    }

    /// The workers.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_workers(&self) -> Result<Vec<Worker>, Status> {
        let response = self.workers().list_workers(ListWorkersRequest {}).await?;
        Ok(response.into_inner().workers)
    }

    /// The instances and when their counters were read.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_instances(&self) -> Result<ListInstancesResponse, Status> {
        Ok(self.instances().list_instances(ListInstancesRequest {}).await?.into_inner())
    }

    /// Moves in progress and the last that ended.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_moves(&self) -> Result<Vec<Move>, Status> {
        Ok(self.moves().list_moves(ListMovesRequest {}).await?.into_inner().moves)
    }

    /// Shares that there are and the last that ended.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_shares(&self) -> Result<Vec<Share>, Status> {
        Ok(self.shares().list_shares(ListSharesRequest {}).await?.into_inner().shares)
    }

    /// All routes.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn list_routes(&self) -> Result<Vec<Route>, Status> {
        let listing = async {
            let mut stream = self.routes().list_routes(ListRoutesRequest {}).await?.into_inner();
            let mut routes = Vec::new();
            while let Some(message) = stream.message().await? {
                routes.extend(message.routes);
            }
            Ok(routes)
        };
        let late = || Status::deadline_exceeded(format!("no routes within {LISTING_LIMIT:?}"));
        tokio::time::timeout(LISTING_LIMIT, listing).await.unwrap_or_else(|_| Err(late()))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn add_route(&self, change: Change, route: Route) -> Result<(), Status> {
        let request = AddRouteRequest { change: Some(change), route: Some(route) };
        self.routes().add_route(request).await?;
        Ok(())
    }

    /// The instances, and the moves whose request ids begin with `prefix`, at each change.
    async fn watch(&self, prefix: &str) -> Result<Streaming<WatchNodeResponse>, Status> {
        let client = NodeServiceClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(MESSAGE_MAX);
        let request = WatchNodeRequest { move_request_prefix: prefix.to_owned() };
        Ok(client.watch_node(request).await?.into_inner())
    }

    /// What a plan starts from.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn running(&self) -> Result<Running, Status> {
        let mut steering =
            SteeringServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let steering = async { steering.get_steering(GetSteeringRequest {}).await };
        let (instances, steering) = tokio::try_join!(self.list_instances(), steering)?;
        Ok(running(&instances.instances, &steering.into_inner()))
    }

    /// Asks for one action of a scale operation.
    ///
    /// # Errors
    /// As the data plane says, or UNAVAILABLE.
    pub async fn perform(&self, action: &Action) -> Result<(), Status> {
        let change = Some(Change { request_id: action.request_id.clone(), generation: 0 });
        let mut instances = self.instances();
        let mut moves = self.moves();
        match &action.request {
            Request::Create(name) => {
                let name = name.clone();
                let request = CreateInstanceRequest { change, name, capacity_ns: 0 };
                instances.create_instance(request).await.map(drop)
            }
            Request::Activate(id) => {
                let state = InstanceState::Active as i32;
                let request = SetInstanceStateRequest { change, id: *id, state };
                instances.set_instance_state(request).await.map(drop)
            }
            Request::Pause(id) => {
                let state = InstanceState::Paused as i32;
                let request = SetInstanceStateRequest { change, id: *id, state };
                instances.set_instance_state(request).await.map(drop)
            }
            Request::Remove(id) => {
                let request = RemoveInstanceRequest { change, id: *id };
                instances.remove_instance(request).await.map(drop)
            }
            Request::Move { source, destination, buckets } => {
                let request = StartMoveRequest {
                    change,
                    from: *source,
                    to: *destination,
                    selection: Some(Selection::Buckets(buckets.to_string())),
                    ..StartMoveRequest::default()
                };
                moves.start_move(request).await.map(drop)
            }
            Request::UndoMove(id) => moves.undo_move(UndoMoveRequest { id: *id }).await.map(drop),
        }
    }
}

/// A connection that is made when it is first used, and again when it was lost.
fn connection(socket: &Path) -> Channel {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://dataplane")
        .timeout(REQUEST_LIMIT)
        .connect_timeout(REQUEST_LIMIT)
        .connect_with_connector_lazy(connector)
}

/// Whether the data plane has not answered within [`REQUEST_LIMIT`], which the library makes a request
/// of that was cancelled.
pub fn timed_out(status: &Status) -> bool {
    status.source().is_some_and(|why| root_cause(why).is::<TimeoutExpired>())
}

/// Why the data plane has not answered a request, or what it says.
pub fn why(status: &Status) -> String {
    if timed_out(status) { format!("no answer within {REQUEST_LIMIT:?}") } else { words(status) }
}

/// Whether a request came to nothing for reasons that have nothing to do with it, so that it
/// should be asked again. It may have been carried out all the same.
pub fn transient(status: &Status) -> bool {
    match status.code() {
        // A connection that breaks is UNKNOWN to the library.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => true,
        // What the library makes of a stream that breaks has a source; what the data plane says has
        // none.
        Code::Internal => status.source().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_breaks_is_transient_and_a_refusal_is_not() {
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(broken.code(), Code::Unknown);
        let mut reset = Status::internal("h2 protocol error");
        reset.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        for passes in [&broken, &reset, &Status::deadline_exceeded(""), &Status::cancelled("")] {
            assert!(transient(passes), "{passes:?}");
        }
        for stays in [Status::internal("no random number"), Status::not_found("")] {
            assert!(!transient(&stays), "{stays:?}");
        }
    }
}
