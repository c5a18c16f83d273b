//! The agent: serves `weir.dataplane.v1` on a Unix socket, on a thread of its own, never on a packet
//! thread.
//!
//! Each service is a thin translation between messages and the [`Node`], which has one owner;
//! services reach it through a bounded queue of calls.

mod fault_service;
mod fields;
mod flow_service;
mod handle;
mod instance_nf;
mod instance_service;
mod log_files;
mod logs;
mod move_service;
mod neighbour_service;
mod nf_service;
mod node_service;
mod owner;
mod policy_service;
mod port_service;
mod report;
mod route_service;
mod share_service;
mod status;
mod steering_service;
mod watching;
mod worker_service;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;
use weir_api::dataplane::v1::{
    fault_service_server::FaultServiceServer, flow_service_server::FlowServiceServer,
    instance_service_server::InstanceServiceServer, move_service_server::MoveServiceServer,
    neighbour_service_server::NeighbourServiceServer, nf_service_server::NfServiceServer,
    node_service_server::NodeServiceServer, policy_route_service_server::PolicyRouteServiceServer,
    port_service_server::PortServiceServer, route_service_server::RouteServiceServer,
    share_service_server::ShareServiceServer, steering_service_server::SteeringServiceServer,
    worker_service_server::WorkerServiceServer,
};
use weir_api::preface::KEEP_ALIVE;

pub use logs::{Directories, Logs};
pub use weir_api::socket::{Socket, SocketError};

use weir_nf_api::server::server;

use crate::driver::{Clock, Cores, Sleeper, Threads, Waker};
use crate::node::{LiveWatch, Node};
use fault_service::FaultService;
use flow_service::FlowService;
use handle::{CALLS_MAX, NodeHandle};
use instance_nf::InstanceNfs;
use instance_service::InstanceService;
use move_service::MoveService;
use neighbour_service::NeighbourService;
use nf_service::NfService;
use node_service::NodeService;
use owner::Owner;
use policy_service::PolicyRouteService;
use port_service::PortService;
use route_service::RouteService;
use share_service::ShareService;
use steering_service::SteeringService;
use worker_service::WorkerService;

/// Longest message that is accepted, in bytes.
const REQUEST_MAX: usize = 1 << 20;
/// Longest message that is sent, in bytes: the moves in progress and those remembered, each of
/// which may name every other bucket by itself.
const RESPONSE_MAX: usize = 8 << 20;
/// Streams of one connection at one time.
const STREAMS_MAX: u32 = 64;
/// Longest time in which answers are finished when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the agent serves.
#[derive(Debug)]
pub struct Agent {
    /// The node; its workers may wait for their threads.
    pub node: Node,
    /// Where the workers run.
    pub threads: Threads,
    /// What the workers wake when they have told the node something.
    pub events: Sleeper,
    /// The time of node and workers.
    pub clock: Clock,
    /// The cores that workers may be pinned to.
    pub cores: Cores,
    /// Whether faults are served.
    pub faults: bool,
    /// Where the records of network functions go; without, they are dropped.
    pub logs: Option<Logs>,
}

impl Agent {
    /// Serves `socket` until `stop` comes; then ends the moves, answers what is asked, and gives the
    /// node and its threads back. `ready` is called when every worker has begun.
    ///
    /// # Errors
    ///
    /// [`AgentError`].
    pub async fn serve(
        self,
        socket: &Socket,
        stop: impl Future<Output = ()>,
        ready: impl FnOnce(),
    ) -> Result<(Node, Threads), AgentError> {
        let (calls, from_services) = mpsc::channel(CALLS_MAX);
        let (changes, to_services) = watch::channel(0);
        let handle = NodeHandle::new(calls, to_services);
        let services =
            services(handle.clone(), self.threads.wakers(), self.cores, self.faults).await;
        let (connections, accepted) = mpsc::channel(1);
        let (leave, left) = oneshot::channel::<()>();
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEP_ALIVE.0))
            .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
            .add_routes(services)
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), async {
                // The sender is dropped on every way out: that is the signal too.
                let _left = left.await;
            });
        let owner = Owner {
            node: self.node,
            threads: self.threads,
            clock: self.clock,
            calls: from_services,
            changes,
            logs: self.logs,
            lost_told: 0,
        };
        let watch = watch_live(owner.node.live_watch());
        let (end, ended) = oneshot::channel();
        let owner = owner.run(self.events, ended);
        let until_stop = async {
            stop.await;
            // The owner is there until this comes.
            let _told = end.send(());
            std::future::pending::<()>().await;
        };
        let until_ready = async {
            if has_begun(&handle).await.is_ok() {
                ready();
            }
            std::future::pending::<()>().await;
        };
        let mut server = std::pin::pin!(server);
        let kept = tokio::select! {
            kept = owner => kept?,
            served = &mut server => return Err(AgentError::Server(served.err())),
            () = socket.accept(connections) => return Err(AgentError::Server(None)),
            () = until_stop => unreachable!("it waits for ever"),
            () = until_ready => unreachable!("it waits for ever"),
            () = watch => unreachable!("it waits for ever"),
        };
        drop(leave);
        // Streams that their readers do not end are cut off.
        let _finished = tokio::time::timeout(FAREWELL, server).await;
        Ok(kept)
    }
}

/// Why the agent ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The server ended.
    #[error("the agent does not serve any more")]
    Server(#[source] Option<tonic::transport::Error>),
    /// The events of the workers cannot be waited for.
    #[error("the events of the workers cannot be waited for")]
    Events(#[source] io::Error),
    /// A worker gets no thread.
    #[error("a worker gets no thread")]
    Thread(#[source] io::Error),
}

/// How often devices are asked whether they take live frames.
const WATCH: Duration = Duration::from_secs(1);

/// Looks after ports that send live frames, for ever. The kernel may let wait who asks about devices, so
/// that is done beside the agent.
async fn watch_live(watch: Option<LiveWatch>) {
    let Some(watch) = watch.map(Arc::new) else { return std::future::pending().await };
    loop {
        tokio::time::sleep(WATCH).await;
        let looking = watch.clone();
        let told = tokio::task::spawn_blocking(move || looking.look()).await;
        told.unwrap_or_default().iter().for_each(|change| tracing::warn!("{change}"));
    }
}

/// Returns when every worker has carried out what it was told so far: each answers in its turn.
async fn has_begun(node: &NodeHandle) -> Result<(), Status> {
    let (from_node, answers) = std::sync::mpsc::channel();
    let mut answers = report::Report::new(answers, node.changes());
    node.change(move |node, _| node.report_neighbours(from_node)).await?;
    while answers.next().await.is_some() {}
    Ok(())
}

/// All services with their limits.
async fn services(
    node: NodeHandle,
    wakers: Arc<[Waker]>,
    cores: Cores,
    faults: bool,
) -> tonic::service::Routes {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = RoutesBuilder::default();
    routes.add_service(health_service);
    /// Adds a service with its message limits, and reports it as healthy.
    macro_rules! add {
        ($server:ty, $service:expr) => {
            let server = <$server>::new($service)
                .max_decoding_message_size(REQUEST_MAX)
                .max_encoding_message_size(RESPONSE_MAX);
            set_serving(&health, &server).await;
            routes.add_service(server);
        };
    }
    add!(NodeServiceServer<_>, NodeService(node.clone()));
    add!(PortServiceServer<_>, PortService(node.clone()));
    add!(WorkerServiceServer<_>, WorkerService { node: node.clone(), cores });
    add!(InstanceServiceServer<_>, InstanceService(node.clone()));
    add!(SteeringServiceServer<_>, SteeringService(node.clone()));
    add!(MoveServiceServer<_>, MoveService(node.clone()));
    add!(ShareServiceServer<_>, ShareService(node.clone()));
    add!(RouteServiceServer<_>, RouteService(node.clone()));
    add!(PolicyRouteServiceServer<_>, PolicyRouteService(node.clone()));
    add!(NeighbourServiceServer<_>, NeighbourService(node.clone()));
    add!(NfServiceServer<_>, NfService(node.clone()));
    add!(FlowServiceServer<_>, FlowService::new(node.clone()));
    let instances = server(InstanceNfs::new(node.clone(), wakers));
    set_serving(&health, &instances).await;
    routes.add_service(instances);
    if faults {
        add!(FaultServiceServer<_>, FaultService(node));
    }
    routes.routes()
}

/// Reports a service as healthy; it is an argument for its type's sake.
async fn set_serving<S: NamedService>(health: &HealthReporter, _service: &S) {
    health.set_serving::<S>().await;
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use weir_api::dataplane::v1 as api;
    use weir_state_transfer::{BUCKETS, Bucket, BucketSet};

    use super::RESPONSE_MAX;

    #[test]
    fn all_moves_fit_in_one_message_however_their_buckets_are_told() {
        let mut buckets = BucketSet::empty();
        (0..BUCKETS as u16).step_by(2).filter_map(Bucket::new).for_each(|b| buckets.insert(b));
        let worst = api::Move {
            id: u64::MAX,
            request_id: "x".repeat(64),
            selection: Some(api::r#move::Selection::Buckets(buckets.to_string())),
            reason: "x".repeat(200),
            started_ns: u64::MAX,
            ended_ns: u64::MAX,
            packets_during: u64::MAX,
            ..api::Move::default()
        };
        // In progress at most, and remembered.
        let all = api::ListMovesResponse { moves: vec![worst; 256 + 256] };
        assert!(all.encoded_len() < RESPONSE_MAX, "{} bytes", all.encoded_len());
    }
}
