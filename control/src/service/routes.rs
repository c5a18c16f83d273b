//! `RouteService`: routes, kept in the store and programmed into the data plane.

use tonic::{Code, Request};
use weir_api::{
    dataplane::v1 as dataplane,
    v1::{
        AddRouteRequest, AddRouteResponse, ListRoutesRequest, ListRoutesResponse,
        RemoveRouteRequest, RemoveRouteResponse, route_service_server::RouteService,
    },
};
use weir_state_transfer::quote::quoted;

use super::{
    Answer, Api, answer, message, southbound,
    stream::{self, Answers},
    workers::forwarded,
};
use crate::{
    fault::Fault,
    store::{Database, DesiredRoute, KeptRoute, StoreError},
};

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
                let fault = Fault::invalid("NEXT_HOP", message).object("route.via");
                return Err(fault.fix("name an address, or none for a connected network"));
            }
            let dataplane::Route { prefix, via, port } = route.clone();
            let wanted = DesiredRoute { prefix, via, port };
            let before = self.keep(&route.prefix, move |db| db.add_route(&wanted)).await?;
            let change = forwarded(request.change.as_ref()).unwrap_or_default();
            let prefix = route.prefix.clone();
            if let Err(status) = self.sidecar.southbound().add_route(change, route).await {
                self.put_back(prefix, before).await;
                return Err(southbound(status));
            }
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
            let unwanted = prefix.clone();
            let before = self.keep(&prefix, move |db| db.remove_route(&unwanted)).await?;
            match self.sidecar.southbound().routes().remove_route(ask).await {
                Ok(removed) => {
                    // Only what a start brings back need be removed again.
                    if !removed.get_ref().configured {
                        self.put_back(prefix, KeptRoute::default()).await;
                    }
                    Ok(RemoveRouteResponse {})
                }
                // One that callers added may be missing there: its port may have another name now.
                Err(status) if status.code() == Code::NotFound && before.added.is_some() => {
                    self.put_back(prefix, KeptRoute::default()).await;
                    Ok(RemoveRouteResponse {})
                }
                Err(status) => {
                    self.put_back(prefix, before).await;
                    Err(southbound(status))
                }
            }
        };
        answer(self.sidecar.change(&request, request.change.as_ref(), job).await)
    }
}

impl Api {
    /// Keeps what is wanted of a prefix, before it is asked for: what can not be kept is not done.
    /// What was kept before.
    async fn keep(
        &self,
        prefix: &str,
        job: impl FnOnce(&mut Database) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<KeptRoute, Fault> {
        let prefix = prefix.to_owned();
        let keep = move |database: &mut Database| {
            let before = database.route(&prefix)?;
            job(database)?;
            Ok(before)
        };
        Ok(self.sidecar.store().run(keep).await?)
    }

    /// Keeps something else of a prefix than what was kept before the data plane was asked.
    async fn put_back(&self, prefix: String, kept: KeptRoute) {
        let store = self.sidecar.store();
        if let Err(error) = store.run(move |database| database.put_back(&prefix, &kept)).await {
            tracing::warn!(%error, "the store keeps a change of a route that was not made");
        }
    }
}

/// The prefix as everybody writes it. One with host bits is refused: it may name another network
/// than its author thinks.
fn canonical(prefix: &str) -> Result<String, Fault> {
    let parsed: Result<ipnet::IpNet, _> = prefix.parse();
    let parsed = parsed.map_err(|_| {
        Fault::invalid("PREFIX", format!("{} is not a prefix", quoted(prefix)))
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
