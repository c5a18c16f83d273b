//! `weir.dataplane.v1.SteeringService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;

/// Serves the steering table.
#[derive(Debug)]
pub(super) struct SteeringService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::steering_service_server::SteeringService for SteeringService {
    async fn get_steering(
        &self,
        _request: Request<api::GetSteeringRequest>,
    ) -> Result<Response<api::GetSteeringResponse>, Status> {
        self.0.read(|node, _| node.show_steering()).await.map(Response::new)
    }
}
