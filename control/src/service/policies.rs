//! `PolicyRouteService`: what is asked before the routes.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        ListPolicyRoutesRequest, ListPolicyRoutesResponse,
        policy_route_service_server::PolicyRouteService,
    },
};

use super::{Answer, Api, answer, southbound};

#[tonic::async_trait]
impl PolicyRouteService for Api {
    async fn list_policy_routes(
        &self,
        _: Request<ListPolicyRoutesRequest>,
    ) -> Answer<ListPolicyRoutesResponse> {
        let mut client = self.sidecar.southbound().policies();
        let listed = client.list_policy_routes(dataplane::ListPolicyRoutesRequest {}).await;
        answer(listed.map_err(southbound).map(|listed| {
            let dataplane::ListPolicyRoutesResponse { routes, adopted } = listed.into_inner();
            ListPolicyRoutesResponse { routes, adopted }
        }))
    }
}
