//! `weir.dataplane.v1.PortService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;

/// Serves the ports.
#[derive(Debug)]
pub(super) struct PortService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::port_service_server::PortService for PortService {
    async fn list_ports(
        &self,
        _request: Request<api::ListPortsRequest>,
    ) -> Result<Response<api::ListPortsResponse>, Status> {
        let ports = self.0.read(|node, _| node.list_ports()).await?;
        Ok(Response::new(api::ListPortsResponse { ports }))
    }
}
