//! `weir.dataplane.v1.InstanceService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::status::{change, invalid};
use crate::node::instance_id;

/// Serves the switch instances.
#[derive(Debug)]
pub(super) struct InstanceService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::instance_service_server::InstanceService for InstanceService {
    async fn list_instances(
        &self,
        _request: Request<api::ListInstancesRequest>,
    ) -> Result<Response<api::ListInstancesResponse>, Status> {
        self.0.read(|node, now| node.list_instances(now)).await.map(Response::new)
    }

    async fn create_instance(
        &self,
        request: Request<api::CreateInstanceRequest>,
    ) -> Result<Response<api::CreateInstanceResponse>, Status> {
        let api::CreateInstanceRequest { change: named, name, capacity_ns } = request.into_inner();
        let change = change(named)?;
        let created = self
            .0
            .change(move |node, _| node.create_instance(&change, &name, capacity_ns))
            .await??;
        let instance = Some(created);
        Ok(Response::new(api::CreateInstanceResponse { instance }))
    }

    async fn set_instance_state(
        &self,
        request: Request<api::SetInstanceStateRequest>,
    ) -> Result<Response<api::SetInstanceStateResponse>, Status> {
        let request = request.into_inner();
        let state = request.state();
        let change = change(request.change)?;
        let id = instance_id("id", request.id)?;
        if !matches!(state, api::InstanceState::Active | api::InstanceState::Paused) {
            return Err(invalid("state", "only ACTIVE and PAUSED can be asked for"));
        }
        let set =
            self.0.change(move |node, _| node.set_instance_state(&change, id, state)).await??;
        let instance = Some(set);
        Ok(Response::new(api::SetInstanceStateResponse { instance }))
    }

    async fn remove_instance(
        &self,
        request: Request<api::RemoveInstanceRequest>,
    ) -> Result<Response<api::RemoveInstanceResponse>, Status> {
        let api::RemoveInstanceRequest { change: named, id } = request.into_inner();
        let change = change(named)?;
        let id = instance_id("id", id)?;
        self.0.change(move |node, _| node.remove_instance(&change, id)).await??;
        Ok(Response::new(api::RemoveInstanceResponse {}))
    }
}
