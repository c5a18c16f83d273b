//! `RouteService`: routes, kept in the store and programmed into the data plane.

use tonic::Request;
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        AddRouteRequest, AddRouteResponse, ListRoutesRequest, ListRoutesResponse,
        RemoveRouteRequest, RemoveRouteResponse, route_service_server::RouteService,
    },
};

use super::{
    Answer, Api, answer, message, southbound,
    stream::{self, Answers},
    workers::forwarded,
};
use crate::{fault::Fault, store::DesiredRoute};

#[tonic::async_trait]
impl RouteService for Api {
    type ListRoutesStream = Answers<ListRoutesResponse>;

    async fn list_routes(
        &self,
        _: Request<ListRoutesRequest>,
    ) -> Answer<Answers<ListRoutesResponse>> {
        let mut client = self.sidecar.southbound().routes();
        let listed = client.list_routes(dataplane::ListRoutesRequest {}).await;
        let listed = listed.map_err(southbound)?.into_inner();
        stream::spawn(|sink| {
            stream::forward(listed, sink, |part: dataplane::ListRoutesResponse| {
                ListRoutesResponse { routes: part.routes }
            })
        })
    }

    async fn add_route(&self, request: Request<AddRouteRequest>) -> Answer<AddRouteResponse> {
        let request = message(request);
        let job = async {
            let mut route = request.route.clone().unwrap_or_default();
            route.prefix = canonical(&route.prefix)?;
            if !route.via.is_empty() && route.via.parse::<std::net::IpAddr>().is_err() {
                let message = format!("{:?} is not an address", route.via);
                return Err(Fault::invalid("NEXT_HOP", message).object("route.via"));
            }
            let change = forwarded(request.change.as_ref()).unwrap_or_default();
            let added = self.sidecar.southbound().add_route(change, route.clone()).await;
            added.map_err(southbound)?;
            let dataplane::Route { prefix, via, port } = route;
            let kept = DesiredRoute { prefix, via, port };
            self.sidecar.store().run(move |database| database.add_route(&kept)).await?;
            Ok(AddRouteResponse {})
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }

    async fn remove_route(
        &self,
        request: Request<RemoveRouteRequest>,
    ) -> Answer<RemoveRouteResponse> {
        let request = message(request);
        let job = async {
            let prefix = canonical(&request.prefix)?;
            let ask = dataplane::RemoveRouteRequest {
                change: forwarded(request.change.as_ref()),
                prefix: prefix.clone(),
            };
            let removed = self.sidecar.southbound().routes().remove_route(ask).await;
            removed.map_err(southbound)?;
            self.sidecar.store().run(move |database| database.remove_route(&prefix)).await?;
            Ok(RemoveRouteResponse {})
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }
}

/// The prefix as everybody writes it. One with host bits is refused: it may name another network
/// than its author thinks.
fn canonical(prefix: &str) -> Result<String, Fault> {
    let parsed: Result<ipnet::IpNet, _> = prefix.parse();
    let parsed = parsed.map_err(|_| {
        Fault::invalid("PREFIX", format!("{prefix:?} is not a prefix"))
            .object("prefix")
            .fix("write it as in 10.1.0.0/16 or 2001:db8::/32")
    })?;
    let network = parsed.trunc();
    if parsed != network {
        let message = format!("bits are set behind the prefix {parsed}");
        let fault = Fault::invalid("PREFIX", message).object("prefix");
        return Err(fault.fix(format!("did you mean {network}?")));
    }
    Ok(network.to_string())
}
