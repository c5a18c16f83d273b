//! The southbound API around the naive data plane. Time passes when somebody looks.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};
use weir_api::dataplane::v1::{self as api, move_service_server::MoveServiceServer};
use weir_api::nf::v1::network_function_service_server::NetworkFunctionServiceServer;
use weir_control::clock::Clock;

use super::{
    model::Model,
    nf::{Monitor, Nf},
    node::{Thread, run_thread},
};

/// How fast time passes for watchers.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A data plane that outlives sidecars.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    shared: Shared,
    /// The state of its first instance.
    nf: Nf,
    _thread: Thread,
}

#[derive(Clone)]
pub(super) struct Shared {
    model: Arc<Mutex<Model>>,
    clock: Clock,
    /// Has a receiver for each listing of flows that is open.
    listings: watch::Sender<()>,
    /// The same for each move that is watched.
    watched: watch::Sender<()>,
}

impl Fake {
    /// Serves a data plane with this many instances on a socket in `directory`.
    pub(crate) fn start(directory: &Path, instances: u32) -> Self {
        let socket = directory.join("dataplane.sock");
        let model = Arc::new(Mutex::new(Model::new(instances, 11)));
        let (listings, watched) = (watch::Sender::new(()), watch::Sender::new(()));
        let shared = Shared { model, clock: Clock::start(), listings, watched };
        let (served, path) = (shared.clone(), socket.clone());
        let (state, nf) = Nf::unserved(Monitor::new(1));
        let thread = run_thread(move |ready| async move {
            let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
            ready.send(()).unwrap();
            Server::builder()
                // As many as the data plane takes.
                .max_concurrent_streams(64)
                .add_service(api::node_service_server::NodeServiceServer::new(served.clone()))
                .add_service(api::port_service_server::PortServiceServer::new(served.clone()))
                .add_service(api::worker_service_server::WorkerServiceServer::new(served.clone()))
                .add_service(api::instance_service_server::InstanceServiceServer::new(
                    served.clone(),
                ))
                .add_service(api::steering_service_server::SteeringServiceServer::new(
                    served.clone(),
                ))
                .add_service(MoveServiceServer::new(served.clone()))
                .add_service(api::share_service_server::ShareServiceServer::new(served.clone()))
                .add_service(api::route_service_server::RouteServiceServer::new(served.clone()))
                .add_service(api::policy_route_service_server::PolicyRouteServiceServer::new(
                    served.clone(),
                ))
                .add_service(api::neighbour_service_server::NeighbourServiceServer::new(
                    served.clone(),
                ))
                .add_service(api::nf_service_server::NfServiceServer::new(served.clone()))
                .add_service(api::flow_service_server::FlowServiceServer::new(served))
                .add_service(NetworkFunctionServiceServer::with_interceptor(state, first_instance))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { socket, shared, nf, _thread: thread }
    }

    /// The state of its first instance.
    pub(crate) fn instance(&self) -> MutexGuard<'_, Monitor> {
        self.nf.monitor()
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.shared.model.lock().unwrap()
    }

    /// Moves that are watched.
    pub(crate) fn watched_moves(&self) -> usize {
        self.shared.watched.receiver_count()
    }

    /// Listings of flows that are open.
    pub(crate) fn listings(&self) -> usize {
        self.shared.listings.receiver_count()
    }
}

/// Lets calls pass that name the first instance.
fn first_instance(request: Request<()>) -> Result<Request<()>, Status> {
    let named = request.metadata().get(weir_nf_api::client::INSTANCE).map(|name| name.to_str());
    match named {
        Some(Ok("1")) => Ok(request),
        named => Err(Status::not_found(format!(
            "there is no instance {}",
            named.map_or("", |n| n.unwrap_or("?"))
        ))),
    }
}

impl Shared {
    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn stream<T: Send + 'static>(messages: Vec<T>) -> Answer<Answers<T>> {
    ok(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok))))
}

pub(super) fn id_of(change: Option<api::Change>) -> String {
    change.unwrap_or_default().request_id
}

#[tonic::async_trait]
impl api::node_service_server::NodeService for Shared {
    async fn get_node(&self, _: Request<api::GetNodeRequest>) -> Answer<api::GetNodeResponse> {
        ok(api::GetNodeResponse {
            version: "0.1.0".to_owned(),
            incarnation: self.model().incarnation,
            instances_max: 8,
            poll: "adaptive".to_owned(),
            ..Default::default()
        })
    }

    async fn get_counters(
        &self,
        _: Request<api::GetCountersRequest>,
    ) -> Answer<api::GetCountersResponse> {
        let balance = Some(self.model().balance);
        let drops = vec![api::DropCount {
            reason: "ttl_exceeded".to_owned(),
            packets: 3,
            meaning: "the packet went through too many routers".to_owned(),
        }];
        let frames = vec![api::FramePlace { place: "free".to_owned(), frames: 4096 }];
        ok(api::GetCountersResponse { balance, drops, frames, handover_packets: 9 })
    }

    type WatchNodeStream = Answers<api::WatchNodeResponse>;

    async fn watch_node(
        &self,
        request: Request<api::WatchNodeRequest>,
    ) -> Answer<Self::WatchNodeStream> {
        let prefix = request.into_inner().move_request_prefix;
        let (to, changes) = mpsc::channel(1);
        tokio::spawn(tell_changes(self.clone(), prefix, to));
        ok(Box::pin(ReceiverStream::new(changes)))
    }
}

/// Time passes while somebody watches.
async fn tell_changes(
    shared: Shared,
    prefix: String,
    to: mpsc::Sender<Result<api::WatchNodeResponse, Status>>,
) {
    let mut told = None;
    while !to.is_closed() {
        let shown = {
            let mut model = shared.model();
            model.tick();
            model.watched(&prefix)
        };
        if told.as_ref() != Some(&shown) {
            told = Some(shown.clone());
            // The watcher has gone: the loop ends.
            let _gone = to.send(Ok(shown)).await;
        }
        tokio::time::sleep(TICK).await;
    }
}

#[tonic::async_trait]
impl api::port_service_server::PortService for Shared {
    async fn list_ports(
        &self,
        _: Request<api::ListPortsRequest>,
    ) -> Answer<api::ListPortsResponse> {
        let queues = vec![api::Queue { id: 0, rx_packets: 5, ..Default::default() }];
        let addresses = vec!["10.0.0.1/24".to_owned()];
        let name = "p0".to_owned();
        let link = "down".to_owned();
        let port = api::Port { id: 1, name, addresses, queues, link, ..Default::default() };
        ok(api::ListPortsResponse { ports: vec![port] })
    }
}

#[tonic::async_trait]
impl api::worker_service_server::WorkerService for Shared {
    async fn list_workers(
        &self,
        _: Request<api::ListWorkersRequest>,
    ) -> Answer<api::ListWorkersResponse> {
        let worker = |id| api::Worker { id, core: -1, instances: vec![1], ..Default::default() };
        let restarted = api::Worker { restarts: 2, ..worker(1) };
        ok(api::ListWorkersResponse { workers: vec![worker(0), restarted] })
    }

    async fn add_worker(
        &self,
        request: Request<api::AddWorkerRequest>,
    ) -> Answer<api::AddWorkerResponse> {
        let core = request.into_inner().core;
        let worker = Some(api::Worker { id: 2, core, ..Default::default() });
        ok(api::AddWorkerResponse { worker })
    }

    async fn remove_worker(
        &self,
        request: Request<api::RemoveWorkerRequest>,
    ) -> Answer<api::RemoveWorkerResponse> {
        match request.into_inner().id {
            0 | 1 => Err(Status::failed_precondition("one of its instances owns flows")),
            _ => ok(api::RemoveWorkerResponse {}),
        }
    }
}

#[tonic::async_trait]
impl api::instance_service_server::InstanceService for Shared {
    async fn list_instances(
        &self,
        _: Request<api::ListInstancesRequest>,
    ) -> Answer<api::ListInstancesResponse> {
        let mut model = self.model();
        model.tick();
        let at_ns = self.clock.now_ns();
        ok(api::ListInstancesResponse { instances: model.list(at_ns), at_ns })
    }

    async fn create_instance(
        &self,
        request: Request<api::CreateInstanceRequest>,
    ) -> Answer<api::CreateInstanceResponse> {
        let request = request.into_inner();
        let mut model = self.model();
        let id = model.create(&id_of(request.change), &request.name)?;
        let instance = model.instances.get(&(id as u32)).cloned();
        ok(api::CreateInstanceResponse { instance })
    }

    async fn set_instance_state(
        &self,
        request: Request<api::SetInstanceStateRequest>,
    ) -> Answer<api::SetInstanceStateResponse> {
        let request = request.into_inner();
        let state = request.state();
        let mut model = self.model();
        let id = model.set_state(&id_of(request.change), request.id, state)?;
        let instance = model.instances.get(&(id as u32)).cloned();
        ok(api::SetInstanceStateResponse { instance })
    }

    async fn remove_instance(
        &self,
        request: Request<api::RemoveInstanceRequest>,
    ) -> Answer<api::RemoveInstanceResponse> {
        let request = request.into_inner();
        self.model().remove(&id_of(request.change), request.id)?;
        ok(api::RemoveInstanceResponse {})
    }
}

#[tonic::async_trait]
impl api::steering_service_server::SteeringService for Shared {
    async fn get_steering(
        &self,
        _: Request<api::GetSteeringRequest>,
    ) -> Answer<api::GetSteeringResponse> {
        ok(self.model().steering())
    }
}

#[tonic::async_trait]
impl api::move_service_server::MoveService for Shared {
    async fn start_move(
        &self,
        request: Request<api::StartMoveRequest>,
    ) -> Answer<api::StartMoveResponse> {
        use api::{r#move::Selection as Moved, start_move_request::Selection};
        let request = request.into_inner();
        let selection = match request.selection {
            Some(Selection::Buckets(buckets)) => Moved::Buckets(buckets),
            Some(Selection::Filter(filter)) if filter.contains('=') => Moved::Filter(filter),
            _ => return Err(Status::invalid_argument("that is no filter")),
        };
        let (begun, is_mute) = {
            let mut model = self.model();
            let id = id_of(request.change);
            let id = model.start_move(&id, request.from, request.to, selection)?;
            let begun = model.moves.iter_mut().find(|m| m.id == id).map(|begun| {
                (begun.guarantee, begun.scopes) = (request.guarantee, request.scopes);
                begun.clone()
            });
            (begun, model.mute_moves)
        };
        if is_mute {
            std::future::pending::<()>().await;
        }
        ok(api::StartMoveResponse { r#move: begun })
    }

    async fn list_moves(
        &self,
        _: Request<api::ListMovesRequest>,
    ) -> Answer<api::ListMovesResponse> {
        let mut model = self.model();
        model.tick();
        ok(api::ListMovesResponse { moves: model.moves.clone() })
    }

    type WatchMoveStream = Answers<api::WatchMoveResponse>;

    async fn watch_move(
        &self,
        request: Request<api::WatchMoveRequest>,
    ) -> Answer<Self::WatchMoveStream> {
        let shown = self.model().find_move(request.into_inner().id)?.clone();
        let (to, moves) = mpsc::channel(16);
        tokio::spawn(tell_move(self.clone(), shown, to));
        ok(Box::pin(ReceiverStream::new(moves)))
    }

    async fn undo_move(
        &self,
        request: Request<api::UndoMoveRequest>,
    ) -> Answer<api::UndoMoveResponse> {
        let mut model = self.model();
        let id = model.undo_move(request.into_inner().id)?;
        ok(api::UndoMoveResponse { r#move: model.moves.iter().find(|m| m.id == id).cloned() })
    }
}

/// Time passes for a move while somebody watches.
async fn tell_move(
    shared: Shared,
    mut shown: api::Move,
    to: mpsc::Sender<Result<api::WatchMoveResponse, Status>>,
) {
    let (mut told, _watched) = (None, shared.watched.subscribe());
    while !to.is_closed() {
        if told.as_ref() != Some(&shown) {
            told = Some(shown.clone());
            // The watcher has gone: the loop ends.
            let _gone = to.send(Ok(api::WatchMoveResponse { r#move: Some(shown.clone()) })).await;
        }
        if weir_control::southbound::ended(shown.phase()) {
            return;
        }
        tokio::time::sleep(TICK).await;
        let next = {
            let mut model = shared.model();
            model.tick();
            model.find_move(shown.id).cloned()
        };
        match next {
            Ok(next) => shown = next,
            Err(status) => {
                let _gone = to.send(Err(status)).await;
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl api::route_service_server::RouteService for Shared {
    type ListRoutesStream = Answers<api::ListRoutesResponse>;

    async fn list_routes(
        &self,
        _: Request<api::ListRoutesRequest>,
    ) -> Answer<Self::ListRoutesStream> {
        let routes = self.model().routes.values().cloned().collect();
        stream(vec![api::ListRoutesResponse { routes }])
    }

    async fn add_route(
        &self,
        request: Request<api::AddRouteRequest>,
    ) -> Answer<api::AddRouteResponse> {
        let route = request.into_inner().route.unwrap_or_default();
        if route.port != "p0" {
            return Err(Status::not_found(format!("there is no port {}", route.port)));
        }
        self.model().routes.insert(route.prefix.clone(), route);
        ok(api::AddRouteResponse {})
    }

    async fn remove_route(
        &self,
        request: Request<api::RemoveRouteRequest>,
    ) -> Answer<api::RemoveRouteResponse> {
        let prefix = request.into_inner().prefix;
        let mut model = self.model();
        let configured = model.configured.contains_key(&prefix);
        match model.routes.remove(&prefix) {
            Some(_) => ok(api::RemoveRouteResponse { configured }),
            None => Err(Status::not_found(format!("there is no route {prefix}"))),
        }
    }
}

#[tonic::async_trait]
impl api::neighbour_service_server::NeighbourService for Shared {
    async fn list_neighbours(
        &self,
        _: Request<api::ListNeighboursRequest>,
    ) -> Answer<api::ListNeighboursResponse> {
        let (port, address) = ("p0".to_owned(), "10.0.0.2".to_owned());
        let neighbour = api::Neighbour { port, address, ..Default::default() };
        ok(api::ListNeighboursResponse { neighbours: vec![neighbour] })
    }
}

#[tonic::async_trait]
impl api::nf_service_server::NfService for Shared {
    type ListNfsStream = Answers<api::ListNfsResponse>;

    async fn list_nfs(&self, _: Request<api::ListNfsRequest>) -> Answer<Self::ListNfsStream> {
        let counter = |name: &str, value| api::NfCounter { name: name.to_owned(), value };
        let messages = (1..=2).map(move |instance| {
            let nf = |kind: &str, counters| api::Nf { instance, kind: kind.to_owned(), counters };
            let firewall = nf("firewall", vec![counter("accepted", 12), counter("refused", 0)]);
            let nfs = vec![firewall, nf("ids", vec![counter("scans", 0)])];
            Ok(api::ListNfsResponse { nfs })
        });
        ok(Box::pin(tokio_stream::iter(messages)))
    }
}

#[tonic::async_trait]
impl api::flow_service_server::FlowService for Shared {
    type ListFlowsStream = Answers<api::ListFlowsResponse>;

    async fn list_flows(
        &self,
        request: Request<api::ListFlowsRequest>,
    ) -> Answer<Self::ListFlowsStream> {
        let limit = request.into_inner().limit;
        let count = if limit == 0 { 5 } else { limit };
        // Long listings are long in bytes too.
        let src = if count > 5 { "x".repeat(64 << 10) } else { "10.0.0.2".to_owned() };
        let open = self.listings.subscribe();
        let messages = (1..=count).map(move |packets| {
            let _open_until_the_stream_is_dropped = &open;
            let flow = api::Flow { instance: 1, src: src.clone(), packets, ..Default::default() };
            Ok(api::ListFlowsResponse { flows: vec![flow] })
        });
        ok(Box::pin(tokio_stream::iter(messages)))
    }
}
