//! `weir.dataplane.v1.NodeService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::watching::{Watched, Watching, watch};
use crate::node::{Node, NodeError};

/// Serves facts, counters and changes of the process.
#[derive(Debug)]
pub(super) struct NodeService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::node_service_server::NodeService for NodeService {
    async fn get_node(
        &self,
        _request: Request<api::GetNodeRequest>,
    ) -> Result<Response<api::GetNodeResponse>, Status> {
        self.0.read(|node, now| node.show(now)).await.map(Response::new)
    }

    async fn get_counters(
        &self,
        _request: Request<api::GetCountersRequest>,
    ) -> Result<Response<api::GetCountersResponse>, Status> {
        self.0.read(|node, _| node.counters()).await.map(Response::new)
    }

    type WatchNodeStream = Watching<api::WatchNodeResponse>;

    async fn watch_node(
        &self,
        request: Request<api::WatchNodeRequest>,
    ) -> Result<Response<Self::WatchNodeStream>, Status> {
        watch::<api::WatchNodeResponse>(&self.0, request.into_inner().move_request_prefix).await
    }
}

/// The states of instances and the phases of moves.
type States = (Vec<(u32, i32)>, Vec<(u64, i32)>);

impl Watched for api::WatchNodeResponse {
    /// What the request ids of its moves begin with.
    type Of = String;
    type Step = States;
    type Message = Self;
    // They are long.
    const BACKLOG: usize = 1;

    fn show(node: &Node, of: &String) -> Result<Self, NodeError> {
        Ok(node.show_states(of))
    }

    fn step(&self) -> States {
        let instances = self.instances.iter().map(|instance| (instance.id, instance.state));
        let moves = self.moves.iter().map(|shown| (shown.id, shown.phase));
        (instances.collect(), moves.collect())
    }

    fn is_last(&self) -> bool {
        false
    }

    fn message(self) -> Self {
        self
    }
}
