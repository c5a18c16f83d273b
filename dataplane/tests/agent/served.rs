//! A node without ports behind an agent, on a thread of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic::transport::Channel;
use weir_api::dataplane::v1 as api;
use weir_api::dataplane::v1::{
    fault_service_client::FaultServiceClient, flow_service_client::FlowServiceClient,
    instance_service_client::InstanceServiceClient, move_service_client::MoveServiceClient,
    neighbour_service_client::NeighbourServiceClient, nf_service_client::NfServiceClient,
    node_service_client::NodeServiceClient, policy_route_service_client::PolicyRouteServiceClient,
    route_service_client::RouteServiceClient, share_service_client::ShareServiceClient,
    steering_service_client::SteeringServiceClient, worker_service_client::WorkerServiceClient,
};
use weir_api::nf::v1::{self as nf, network_function_service_client::NetworkFunctionServiceClient};
use weir_dataplane::agent::{Agent, Socket};
use weir_dataplane::boot::boot;
use weir_dataplane::config::{Config, Machine};
use weir_dataplane::driver::{Clock, Threads, Waker};
use weir_nf_api::client::{INSTANCE, LIFE};

/// Small, so that many of them fit beside each other.
const CONFIG: &str = "
[dataplane]
workers_max = 3
handover_ring = 64
[[worker]]
[[worker]]
[moves]
hold = 64
step_timeout = '60s'
moves_max = 4
[neighbour]
park = 64
[memory]
huge_pages = 'off'
";

/// What every configuration needs, for tests that need none.
const PORT: &str = "\n[[port]]\nname = 'null'\nbackend = 'pcap'\ntx = '/dev/null'\n";

/// A running agent; to be stopped by [`Served::stop`].
pub(crate) struct Served {
    folder: PathBuf,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Makes a client of a service.
macro_rules! client {
    ($name:ident, $client:ident) => {
        pub(crate) async fn $name(&self) -> $client<Channel> {
            $client::new(self.channel().await)
        }
    };
}

impl Served {
    client!(node, NodeServiceClient);
    client!(workers, WorkerServiceClient);
    client!(instances, InstanceServiceClient);
    client!(steering, SteeringServiceClient);
    client!(moves, MoveServiceClient);
    client!(shares, ShareServiceClient);
    client!(routes, RouteServiceClient);
    client!(policies, PolicyRouteServiceClient);
    client!(neighbours, NeighbourServiceClient);
    client!(flows, FlowServiceClient);
    client!(nfs, NfServiceClient);
    client!(faults, FaultServiceClient);

    pub(crate) fn start(more: &str) -> Self {
        Self::begin(more, false)
    }

    pub(crate) fn start_with_faults() -> Self {
        Self::begin("", true)
    }

    fn begin(more: &str, faults: bool) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("weir-agent-{}-{number}", std::process::id()));
        let path = folder.join("dataplane.sock");
        let port = if more.contains("[[port]]") { "" } else { PORT };
        let text = format!("{CONFIG}{more}{port}");
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let machine = Machine::this().unwrap();
                let (config, _) = Config::parse("test.toml", text.as_bytes(), &machine).unwrap();
                let process = config.process();
                let socket = Socket::bind(&path).unwrap();
                let clock = Clock::start();
                let node = boot(&config, process.poll, None, clock).unwrap();
                let (waker, events) = Waker::new().unwrap();
                let workers_max = usize::from(process.workers_max);
                let threads =
                    Threads::new(workers_max, process.poll, process.idle, clock, waker).unwrap();
                let cores = machine.cores;
                let agent = Agent { node, threads, events, clock, cores, faults, logs: None };
                let stop = async { stopped.await.unwrap() };
                let served = agent.serve(&socket, stop, || ready.send(()).unwrap()).await;
                let (_node, threads) = served.unwrap();
                threads.stop();
            });
        });
        is_ready.recv().expect("the agent becomes ready");
        Self { folder, stop, thread }
    }

    /// Stops it as SIGTERM does, and checks that nothing is left.
    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("the agent runs");
        tokio::task::spawn_blocking(move || self.thread.join()).await.unwrap().unwrap();
        std::fs::remove_dir(&self.folder).expect("the socket is gone");
    }

    pub(crate) async fn health(&self) -> tonic_health::pb::health_client::HealthClient<Channel> {
        tonic_health::pb::health_client::HealthClient::new(self.channel().await)
    }

    /// Creates an instance, waits until it is ready, and activates it.
    pub(crate) async fn create(&self, name: &str, request_id: &str) -> u32 {
        let mut instances = self.instances().await;
        let change = Some(api::Change { request_id: request_id.to_owned(), generation: 0 });
        let request = api::CreateInstanceRequest { change, name: name.to_owned(), capacity_ns: 0 };
        let created = instances.create_instance(request).await.unwrap().into_inner();
        let id = created.instance.unwrap().id;
        loop {
            let listed = instances.list_instances(api::ListInstancesRequest {}).await.unwrap();
            let listed = listed.into_inner().instances;
            let state = listed.iter().find(|instance| instance.id == id).unwrap().state();
            if state == api::InstanceState::Ready {
                break;
            }
            assert_eq!(state, api::InstanceState::Starting);
        }
        let mut request = api::SetInstanceStateRequest { change: None, id, state: 0 };
        request.set_state(api::InstanceState::Active);
        instances.set_instance_state(request).await.unwrap();
        id
    }

    /// The life of an instance, if there is one of that number.
    pub(crate) async fn life(&self, id: u32) -> Option<u64> {
        let listed = self.instances().await.list_instances(api::ListInstancesRequest {}).await;
        let listed = listed.unwrap().into_inner().instances;
        listed.iter().find(|instance| instance.id == id).map(|instance| instance.life)
    }

    /// The name by which an instance says that its state can be asked for, in a life if one is named.
    pub(crate) async fn describe(&self, id: u32, life: Option<&str>) -> Result<String, Status> {
        let mut request = tonic::Request::new(nf::DescribeRequest {});
        let metadata = request.metadata_mut();
        metadata.insert(INSTANCE, id.into());
        if let Some(life) = life {
            metadata.insert(LIFE, life.parse().unwrap());
        }
        let mut client = NetworkFunctionServiceClient::new(self.channel().await);
        Ok(client.describe(request).await?.into_inner().name)
    }

    pub(crate) async fn start_move(
        &self,
        from: u32,
        to: u32,
        buckets: &str,
        request_id: &str,
    ) -> Result<api::Move, Status> {
        let request = api::StartMoveRequest {
            change: Some(api::Change { request_id: request_id.to_owned(), generation: 0 }),
            from,
            to,
            selection: Some(api::start_move_request::Selection::Buckets(buckets.to_owned())),
            ..api::StartMoveRequest::default()
        };
        let started = self.moves().await.start_move(request).await?;
        Ok(started.into_inner().r#move.unwrap())
    }

    /// The phases of a move until it ends.
    pub(crate) async fn watch(&self, id: u64) -> Vec<api::MovePhase> {
        let request = api::WatchMoveRequest { id };
        let mut stream = self.moves().await.watch_move(request).await.unwrap().into_inner();
        let mut phases = Vec::new();
        while let Some(shown) = stream.next().await {
            phases.push(shown.unwrap().r#move.unwrap().phase());
        }
        phases
    }

    async fn channel(&self) -> Channel {
        let path = self.folder.join("dataplane.sock");
        let endpoint = format!("unix://{}", path.display());
        let endpoint = tonic::transport::Endpoint::try_from(endpoint).unwrap();
        endpoint.connect().await.unwrap()
    }
}
