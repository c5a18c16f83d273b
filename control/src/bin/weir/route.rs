//! `weir route`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::Route,
    v1::{
        AddRouteRequest, ListRoutesRequest, RemoveRouteRequest,
        route_service_client::RouteServiceClient,
    },
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{Listing, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All routes
    List,
    /// Add a route, or replace the one of this prefix
    Add {
        /// As in 10.1.0.0/16 or 2001:db8::/32
        prefix: String,
        /// Next hop; none for a directly connected network
        #[arg(long, default_value = "")]
        via: String,
        /// Name of the port that it leaves by
        #[arg(long)]
        port: String,
    },
    /// Remove a route
    Remove {
        /// As in 10.1.0.0/16 or 2001:db8::/32
        prefix: String,
    },
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let mut service = service!(RouteServiceClient, client);
    match verb {
        Verb::List => list(client).await,
        Verb::Add { prefix, via, port } => {
            let route = Some(Route { prefix, via, port });
            let ask = AddRouteRequest { change: client.change()?, route };
            let added = client.call(service.add_route(client.request(ask))).await?;
            show(client.format, &added, |_| String::new())
        }
        Verb::Remove { prefix } => {
            let ask = RemoveRouteRequest { change: client.change()?, prefix };
            let removed = client.call(service.remove_route(client.request(ask))).await?;
            show(client.format, &removed, |_| String::new())
        }
    }
}

async fn list(client: &Client) -> Result<(), Failure> {
    let mut service = service!(RouteServiceClient, client);
    let mut stream = client.call(service.list_routes(client.request(ListRoutesRequest {}))).await?;
    let mut listing = Listing::begin(client.format, "routes", &row("PREFIX", "VIA", "PORT"))?;
    while let Some(part) = client.next(&mut stream).await? {
        listing.part(&part, |part| {
            part.routes.iter().map(|route| row(&route.prefix, &route.via, &route.port)).collect()
        })?;
    }
    listing.end()
}

fn row(prefix: &str, via: &str, port: &str) -> String {
    let via = if via.is_empty() { "-" } else { via };
    format!("{prefix:<43}  {via:<39}  {port}\n")
}
