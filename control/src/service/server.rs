//! The server: limits, health, reflection, and the listeners before it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{service::Routes, transport};
use weir_api::preface::KEEP_ALIVE;
use weir_api::v1::{
    counter_service_server::CounterServiceServer, flow_service_server::FlowServiceServer,
    instance_service_server::InstanceServiceServer, move_service_server::MoveServiceServer,
    neighbour_service_server::NeighbourServiceServer, nf_service_server::NfServiceServer,
    policy_route_service_server::PolicyRouteServiceServer, port_service_server::PortServiceServer,
    route_service_server::RouteServiceServer, scale_service_server::ScaleServiceServer,
    state_service_server::StateServiceServer, stats_service_server::StatsServiceServer,
    status_service_server::StatusServiceServer, transfer_service_server::TransferServiceServer,
    worker_service_server::WorkerServiceServer,
};

use super::Api;
use crate::{
    listen::{
        ACCEPTED_MAX, Authorise, Limits, ListenError, TlsFiles, listen_tcp, listen_unix,
        prepare_socket,
    },
    sidecar::Sidecar,
};

/// The largest request, in bytes. All requests are small; a route is the largest.
const REQUEST_MAX: usize = 64 << 10;
/// The largest message of another node, in bytes: the largest chunk fits.
const CHUNKS_MAX: usize = 2 << 20;
const _: () = assert!(weir_state_transfer::chunk::CHUNK_MAX + 64 < CHUNKS_MAX);
/// Limits of one connection. The library's own defaults leave some of them open.
const STREAMS_MAX: u32 = 100;
/// Bytes that may be on their way without having been read: of a stream, which bounds how fast state
/// comes over a long line, and of all streams of a connection. One that is not read leaves room for
/// another, and for verdicts.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const HEADER_LIST_MAX: u32 = 16 << 10;
const FRAME_MAX: u32 = 16 << 10;
const LOCAL_RESETS_MAX: usize = 1_024;
const PENDING_RESETS_MAX: usize = 20;
const CONNECTION_AGE: Duration = Duration::from_secs(24 * 3_600);
/// How long a request may take to be answered, or a stream to begin.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long streams in progress may go on when the server is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener cannot be set up.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Other nodes would not know this one.
    #[error(
        "{cert}: it names no node, as [[control.peer]] needs: weir pki issue DIR --name NODE --role \
         node --san HOST"
    )]
    NoNode {
        /// The certificate.
        cert: PathBuf,
    },
    /// The descriptors of the API are broken.
    #[error("cannot serve reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A server that runs until it is stopped.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    task: JoinHandle<Result<(), transport::Error>>,
    /// The TCP address, with the port that the system chose.
    pub listening: Option<std::net::SocketAddr>,
}

/// Serves the API of a sidecar on its Unix socket, and on TCP when it is told to.
///
/// # Errors
/// When a listener cannot be set up; then nothing is served.
pub async fn serve(sidecar: &Arc<Sidecar>) -> Result<Server, ServeError> {
    let control = &sidecar.config().control;
    let (accepted, connections) = mpsc::channel(ACCEPTED_MAX);
    let socket = control.socket.clone();
    let mut listening = None;
    // The configuration refuses an address without TLS.
    if let (Some(address), Some(tls)) = (control.listen, &control.tls) {
        let system = |source| ListenError::System { what: address.to_string(), source };
        let listener = TcpListener::bind(address).await.map_err(system)?;
        listening = listener.local_addr().ok();
        let files = TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() };
        if !control.peer.is_empty() && files.node()?.is_none() {
            return Err(ServeError::NoNode { cert: tls.cert.clone() });
        }
        tokio::spawn(listen_tcp(listener, &files, Limits::default(), accepted.clone())?);
    }
    let listener = prepare_socket(&socket).await?;
    tokio::spawn(listen_unix(listener, Limits::default(), accepted));
    let services = services(Api::new(Arc::clone(sidecar))).await?;
    let stopping = Arc::clone(sidecar);
    let task =
        tokio::spawn(limited().layer(Authorise).add_routes(services).serve_with_incoming_shutdown(
            ReceiverStream::new(connections),
            async move {
                stopping.stopped().await;
                // A verdict may come by a new connection.
                stopping.state().arrivals.idle().await;
            },
        ));
    Ok(Server { socket, task, listening })
}

impl Server {
    /// Waits until the server has ended after [`Sidecar::stop`], and removes its socket.
    pub async fn ended(self) {
        let mut task = self.task;
        match tokio::time::timeout(STOP_LIMIT, &mut task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(outcome) => tracing::warn!(?outcome, "the server ended badly"),
            Err(_) => task.abort(),
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

fn limited() -> transport::Server {
    transport::Server::builder()
        .timeout(ANSWER_LIMIT)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_LIST_MAX)
        .max_frame_size(FRAME_MAX)
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
        .max_connection_age(CONNECTION_AGE)
}

/// Adds each service with the request limit, and its entry in the health service.
macro_rules! add_services {
    ($routes:ident, $health:ident, $api:ident, [$($server:ident),+ $(,)?]) => {$(
        $health.set_serving::<$server<Api>>().await;
        $routes = $routes
            .add_service($server::new($api.clone()).max_decoding_message_size(REQUEST_MAX));
    )+};
}

async fn services(api: Api) -> Result<Routes, ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health_service);
    add_services!(
        routes,
        health,
        api,
        [
            StatusServiceServer,
            PortServiceServer,
            WorkerServiceServer,
            InstanceServiceServer,
            ScaleServiceServer,
            MoveServiceServer,
            RouteServiceServer,
            PolicyRouteServiceServer,
            NeighbourServiceServer,
            NfServiceServer,
            FlowServiceServer,
            CounterServiceServer,
            StatsServiceServer,
            StateServiceServer,
        ]
    );
    health.set_serving::<TransferServiceServer<Api>>().await;
    let transfer = TransferServiceServer::new(api).max_decoding_message_size(CHUNKS_MAX);
    routes = routes.add_service(transfer);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(weir_api::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}
