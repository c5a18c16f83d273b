//! `weir neighbour`.

use clap::Subcommand;
use weir_api::v1::{ListNeighboursRequest, neighbour_service_client::NeighbourServiceClient};

use super::{
    client::{Client, service},
    failure::Failure,
    output::{columns, show, span},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// All neighbours
    List,
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let Verb::List = verb;
    let mut service = service!(NeighbourServiceClient, client);
    let listed = service.list_neighbours(client.request(ListNeighboursRequest {}));
    show(client.format, &client.call(listed).await?, |listed| {
        let rows = listed.neighbours.iter().map(|neighbour| {
            vec![
                neighbour.address.clone(),
                neighbour.port.clone(),
                neighbour.mac.clone(),
                neighbour.state.clone(),
                span(neighbour.age_ns),
            ]
        });
        columns(&["ADDRESS", "PORT", "MAC", "STATE", "AGE"], rows.collect())
    })
}
