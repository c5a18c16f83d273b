//! `weir.dataplane.v1.PolicyRouteService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::status::{change, invalid};
use crate::policy::POLICIES_MAX;

/// Serves the policy routes.
#[derive(Debug)]
pub(super) struct PolicyRouteService(pub(super) NodeHandle);

#[tonic::async_trait]
impl api::policy_route_service_server::PolicyRouteService for PolicyRouteService {
    async fn list_policy_routes(
        &self,
        _request: Request<api::ListPolicyRoutesRequest>,
    ) -> Result<Response<api::ListPolicyRoutesResponse>, Status> {
        Ok(Response::new(self.0.read(|node, _| node.list_policies()).await?))
    }

    async fn put_policy_routes(
        &self,
        request: Request<api::PutPolicyRoutesRequest>,
    ) -> Result<Response<api::PutPolicyRoutesResponse>, Status> {
        let api::PutPolicyRoutesRequest { change: named, routes } = request.into_inner();
        let change = change(named)?;
        bounded("routes", routes.len())?;
        self.0.change(move |node, _| node.put_policies(&change, &routes)).await??;
        Ok(Response::new(api::PutPolicyRoutesResponse {}))
    }

    async fn remove_policy_routes(
        &self,
        request: Request<api::RemovePolicyRoutesRequest>,
    ) -> Result<Response<api::RemovePolicyRoutesResponse>, Status> {
        let api::RemovePolicyRoutesRequest { change: named, names } = request.into_inner();
        let change = change(named)?;
        bounded("names", names.len())?;
        self.0.change(move |node, _| node.remove_policies(&change, &names)).await??;
        Ok(Response::new(api::RemovePolicyRoutesResponse {}))
    }
}

/// Refuses more than there may be.
fn bounded(field: &str, count: usize) -> Result<(), Status> {
    if count <= POLICIES_MAX {
        return Ok(());
    }
    Err(invalid(field, &format!("are more than {POLICIES_MAX}")))
}
