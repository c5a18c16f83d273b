//! `weir policy`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::PolicyRouteState,
    v1::{ListPolicyRoutesRequest, policy_route_service_client::PolicyRouteServiceClient},
};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{columns, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All policy routes, in the order in which packets are compared with them
    List,
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let Verb::List = verb;
    let mut service = service!(PolicyRouteServiceClient, client);
    let listed = service.list_policy_routes(client.request(ListPolicyRoutesRequest {}));
    show(client.format, &client.call(listed).await?, |listed| {
        let titles = ["NAME", "FROM", "FILTER", "VIA", "PORT", "PACKETS", "BYTES", "HELD", "LOST"];
        columns(&titles, listed.routes.iter().map(row).collect())
    })
}

fn row(state: &PolicyRouteState) -> Vec<String> {
    let route = state.route.clone().unwrap_or_default();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let filter = match (route.filter.as_str(), route.both_ways) {
        ("any", _) | (_, false) => route.filter,
        (filter, true) => format!("{filter} both ways"),
    };
    let held = match route.holds {
        true => format!("{} holds", state.holding),
        false => state.holding.to_string(),
    };
    vec![
        route.name,
        or_dash(route.from),
        filter,
        or_dash(route.via),
        route.port,
        state.packets.to_string(),
        state.bytes.to_string(),
        held,
        (state.overflow + state.undelivered).to_string(),
    ]
}
