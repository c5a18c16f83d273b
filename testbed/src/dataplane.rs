//! The southbound API of a data plane, as tests and the demo use it.

use std::path::Path;

use anyhow::Result;
use tonic::Status;
use weir_api::dataplane::v1::fault_service_client::FaultServiceClient;
use weir_api::dataplane::v1::flow_service_client::FlowServiceClient;
use weir_api::dataplane::v1::instance_service_client::InstanceServiceClient;
use weir_api::dataplane::v1::move_service_client::MoveServiceClient;
use weir_api::dataplane::v1::nf_service_client::NfServiceClient;
use weir_api::dataplane::v1::node_service_client::NodeServiceClient;
use weir_api::dataplane::v1::port_service_client::PortServiceClient;
use weir_api::dataplane::v1::route_service_client::RouteServiceClient;
use weir_api::dataplane::v1::steering_service_client::SteeringServiceClient;
use weir_api::dataplane::v1::worker_service_client::WorkerServiceClient;
use weir_api::dataplane::v1::{
    AddRouteRequest, AddWorkerRequest, Balance, CreateInstanceRequest, Flow, GetCountersRequest,
    GetCountersResponse, GetNodeRequest, GetNodeResponse, GetSteeringRequest, GetSteeringResponse,
    Guarantee, Instance, InstanceState, ListFlowsRequest, ListInstancesRequest, ListMovesRequest,
    ListNfsRequest, ListPortsRequest, ListRoutesRequest, ListWorkersRequest, Move, Nf,
    PanicWorkerRequest, Port, RemoveInstanceRequest, RemoveWorkerRequest, Route,
    SetInstanceStateRequest, StartMoveRequest, WatchMoveRequest, Worker, start_move_request,
};

use crate::rpc::{Rpc, change};
use crate::wait;

/// A client of one service; flows and steering tables come in large messages.
macro_rules! service {
    ($client:ident, $channel:expr) => {
        $client::new($channel).max_decoding_message_size(64 << 20)
    };
}

/// Which flows a move is about.
#[derive(Clone, Debug)]
pub enum Selection {
    /// As in `src=10.0.1.0/24,proto=udp`.
    Filter(String),
    /// As in `0-1023,2048`.
    Buckets(String),
}

/// A connection to a data plane.
#[derive(Debug)]
pub struct Dataplane {
    /// For calls that have no method here.
    pub rpc: Rpc,
}

impl Dataplane {
    /// Connects to the socket of a data plane.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn connect(socket: &Path) -> Result<Self> {
        Ok(Self { rpc: Rpc::connect(socket)? })
    }

    /// Facts of the process.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn node(&self) -> Result<GetNodeResponse, Status> {
        self.rpc.call(async |c| service!(NodeServiceClient, c).get_node(GetNodeRequest {}).await)
    }

    /// All counters.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn counters(&self) -> Result<GetCountersResponse, Status> {
        let ask = GetCountersRequest {};
        self.rpc.call(async |c| service!(NodeServiceClient, c).get_counters(ask).await)
    }

    /// Waits until the packets balance and none is on its way, and returns the balance.
    ///
    /// # Errors
    /// With the last balance, when that does not come.
    pub fn balance_at_rest(&self) -> Result<Balance> {
        let mut last = Balance::default();
        let at_rest = wait::until("the packets to balance", wait::LIMIT, || {
            last = self.counters().ok()?.balance?;
            (last.unaccounted == 0 && last.in_rings == 0 && last.held == 0).then_some(())
        });
        at_rest.map(|()| last).map_err(|error| error.context(format!("{last:?}")))
    }

    /// All ports.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn ports(&self) -> Result<Vec<Port>, Status> {
        let ask = ListPortsRequest {};
        let ports =
            self.rpc.call(async |c| service!(PortServiceClient, c).list_ports(ask).await)?;
        Ok(ports.ports)
    }

    /// All workers.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn workers(&self) -> Result<Vec<Worker>, Status> {
        let ask = ListWorkersRequest {};
        let listed =
            self.rpc.call(async |c| service!(WorkerServiceClient, c).list_workers(ask).await)?;
        Ok(listed.workers)
    }

    /// Starts one more worker, unpinned.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn add_worker(&self) -> Result<Worker, Status> {
        let ask = AddWorkerRequest { change: change(), core: -1 };
        let added =
            self.rpc.call(async |c| service!(WorkerServiceClient, c).add_worker(ask).await)?;
        added.worker.ok_or_else(|| Status::internal("no worker in the answer"))
    }

    /// Takes a worker out of service and waits until it is gone.
    ///
    /// # Errors
    /// What the data plane answered, or that the worker is still there after the usual limit.
    pub fn remove_worker(&self, id: u32) -> Result<()> {
        let ask = RemoveWorkerRequest { change: change(), id };
        self.rpc.call(async |c| service!(WorkerServiceClient, c).remove_worker(ask).await)?;
        wait::until("the worker to be gone", wait::LIMIT, || {
            let workers = self.workers().ok()?;
            workers.iter().all(|worker| worker.id != id).then_some(())
        })
    }

    /// All instances.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn instances(&self) -> Result<Vec<Instance>, Status> {
        let ask = ListInstancesRequest {};
        let listed = self
            .rpc
            .call(async |c| service!(InstanceServiceClient, c).list_instances(ask).await)?;
        Ok(listed.instances)
    }

    /// Creates an instance, waits until it reports itself ready, and activates it.
    ///
    /// # Errors
    /// What the data plane answered, or that it did not become ready.
    pub fn add_instance(&self, name: &str) -> Result<Instance> {
        let ask = CreateInstanceRequest { change: change(), name: name.to_owned(), capacity_ns: 0 };
        self.rpc.call(async |c| service!(InstanceServiceClient, c).create_instance(ask).await)?;
        let ready = wait::until("the instance to be ready", wait::LIMIT, || {
            let instances = self.instances().ok()?;
            let ready = |i: &Instance| i.name == name && i.state() == InstanceState::Ready;
            instances.into_iter().find(ready)
        })?;
        let state = InstanceState::Active.into();
        let ask = SetInstanceStateRequest { change: change(), id: ready.id, state };
        self.rpc
            .call(async |c| service!(InstanceServiceClient, c).set_instance_state(ask).await)?;
        Ok(ready)
    }

    /// Pauses an instance that owns nothing and removes it; waits until it is gone.
    ///
    /// # Errors
    /// What the data plane answered, or that it is not gone in time.
    pub fn remove_instance(&self, id: u32) -> Result<()> {
        let state = InstanceState::Paused.into();
        let ask = SetInstanceStateRequest { change: change(), id, state };
        self.rpc
            .call(async |c| service!(InstanceServiceClient, c).set_instance_state(ask).await)?;
        let ask = RemoveInstanceRequest { change: change(), id };
        self.rpc.call(async |c| service!(InstanceServiceClient, c).remove_instance(ask).await)?;
        wait::until("the instance to be gone", wait::LIMIT, || {
            let instances = self.instances().ok()?;
            instances.iter().all(|instance| instance.id != id).then_some(())
        })
    }

    /// Who owns what.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn steering(&self) -> Result<GetSteeringResponse, Status> {
        let ask = GetSteeringRequest {};
        self.rpc.call(async |c| service!(SteeringServiceClient, c).get_steering(ask).await)
    }

    /// The flows of all instances that match a filter; all when it is empty.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn flows(&self, filter: &str) -> Result<Vec<Flow>, Status> {
        let ask = ListFlowsRequest { filter: filter.to_owned(), instance: 0, limit: 0 };
        let mut flows = Vec::new();
        self.rpc.follow(
            async |c| service!(FlowServiceClient, c).list_flows(ask).await,
            |part| {
                flows.extend(part.flows);
                true
            },
        )?;
        Ok(flows)
    }

    /// Starts a move.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn start_move(&self, from: u32, to: u32, selection: Selection) -> Result<Move, Status> {
        self.ask_for_move(from, to, selection, Guarantee::Ordered, false)
    }

    /// Makes a move that promises so much, and waits until it has ended: in one call, so that nobody
    /// who asks meanwhile takes a core from it.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn make_move(
        &self,
        from: u32,
        to: u32,
        selection: Selection,
        guarantee: Guarantee,
    ) -> Result<Move, Status> {
        self.ask_for_move(from, to, selection, guarantee, true)
    }

    fn ask_for_move(
        &self,
        from: u32,
        to: u32,
        selection: Selection,
        guarantee: Guarantee,
        wait: bool,
    ) -> Result<Move, Status> {
        let selection = Some(match selection {
            Selection::Filter(filter) => start_move_request::Selection::Filter(filter),
            Selection::Buckets(buckets) => start_move_request::Selection::Buckets(buckets),
        });
        let ask = StartMoveRequest {
            change: change(),
            from,
            to,
            selection,
            guarantee: guarantee.into(),
            wait,
            ..StartMoveRequest::default()
        };
        let started =
            self.rpc.call(async |c| service!(MoveServiceClient, c).start_move(ask).await)?;
        Ok(started.r#move.unwrap_or_default())
    }

    /// Follows a move to its end.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn finish_move(&self, id: u64) -> Result<Move, Status> {
        let mut last = Move::default();
        let ask = WatchMoveRequest { id };
        self.rpc.follow(
            async |c| service!(MoveServiceClient, c).watch_move(ask).await,
            |seen| {
                last = seen.r#move.unwrap_or_default();
                true
            },
        )?;
        Ok(last)
    }

    /// Moves in progress and the last ones that ended.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn moves(&self) -> Result<Vec<Move>, Status> {
        let ask = ListMovesRequest {};
        let moves =
            self.rpc.call(async |c| service!(MoveServiceClient, c).list_moves(ask).await)?;
        Ok(moves.moves)
    }

    /// What the network functions of the instances have counted.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn nfs(&self) -> Result<Vec<Nf>, Status> {
        let ask = ListNfsRequest {};
        let mut nfs = Vec::new();
        self.rpc.follow(
            async |c| service!(NfServiceClient, c).list_nfs(ask).await,
            |part| {
                nfs.extend(part.nfs);
                true
            },
        )?;
        Ok(nfs)
    }

    /// All routes.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn routes(&self) -> Result<Vec<Route>, Status> {
        let ask = ListRoutesRequest {};
        let mut routes = Vec::new();
        self.rpc.follow(
            async |c| service!(RouteServiceClient, c).list_routes(ask).await,
            |part| {
                routes.extend(part.routes);
                true
            },
        )?;
        Ok(routes)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// What the data plane answered.
    pub fn add_route(&self, prefix: &str, via: &str, port: &str) -> Result<(), Status> {
        let [prefix, via, port] = [prefix, via, port].map(str::to_owned);
        let ask = AddRouteRequest { change: change(), route: Some(Route { prefix, via, port }) };
        self.rpc.call(async |c| service!(RouteServiceClient, c).add_route(ask).await)?;
        Ok(())
    }

    /// Makes a worker panic after so many more packets.
    ///
    /// # Errors
    /// What the data plane answered; it must have been started with `--faults`.
    pub fn panic_worker(&self, worker: u32, after_packets: u64) -> Result<(), Status> {
        let ask = PanicWorkerRequest { worker, after_packets, ..Default::default() };
        self.rpc.call(async |c| service!(FaultServiceClient, c).panic_worker(ask).await)?;
        Ok(())
    }
}
