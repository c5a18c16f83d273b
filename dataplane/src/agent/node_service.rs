//! `weir.dataplane.v1.NodeService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;

/// Serves facts and counters of the process.
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
}
