//! `weir.dataplane.v1.RouteService`.

use tonic::{Request, Response, Status};
use weir_api::dataplane::v1 as api;

use super::NodeHandle;
use super::status::{change, invalid};

/// Serves the routes.
#[derive(Debug)]
pub(super) struct RouteService(pub(super) NodeHandle);

/// Routes in one message of a stream.
const ROUTES: usize = 512;

#[tonic::async_trait]
impl api::route_service_server::RouteService for RouteService {
    type ListRoutesStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<api::ListRoutesResponse, Status>>>;

    async fn list_routes(
        &self,
        _request: Request<api::ListRoutesRequest>,
    ) -> Result<Response<Self::ListRoutesStream>, Status> {
        let routes: Vec<_> = self.0.read(|node, _| node.list_routes().collect()).await?;
        let piece = |routes: &[api::Route]| Ok(api::ListRoutesResponse { routes: routes.to_vec() });
        let pieces: Vec<_> = routes.chunks(ROUTES).map(piece).collect();
        Ok(Response::new(tokio_stream::iter(pieces)))
    }

    async fn add_route(
        &self,
        request: Request<api::AddRouteRequest>,
    ) -> Result<Response<api::AddRouteResponse>, Status> {
        let api::AddRouteRequest { change: named, route } = request.into_inner();
        let change = change(named)?;
        let route = route.ok_or_else(|| invalid("route", "is missing"))?;
        self.0.change(move |node, _| node.add_route(&change, &route)).await??;
        Ok(Response::new(api::AddRouteResponse {}))
    }

    async fn remove_route(
        &self,
        request: Request<api::RemoveRouteRequest>,
    ) -> Result<Response<api::RemoveRouteResponse>, Status> {
        let api::RemoveRouteRequest { change: named, prefix } = request.into_inner();
        let change = change(named)?;
        let removed = self.0.change(move |node, _| node.remove_route(&change, &prefix)).await??;
        Ok(Response::new(removed))
    }
}
