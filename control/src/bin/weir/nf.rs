//! `weir nf`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::{Nf, NfCounter},
    v1::{ListNfsRequest, nf_service_client::NfServiceClient},
};

use super::{
    client::{Client, service},
    failure::Failure,
    instance::Names,
    output::Listing,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What the network functions of each instance have counted
    List,
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    let Verb::List = verb;
    let names = Names::read(client).await;
    let mut service = service!(NfServiceClient, client);
    let mut stream = client.call(service.list_nfs(client.request(ListNfsRequest {}))).await?;
    let header = ["INSTANCE", "NF", "COUNTER", "VALUE"];
    let mut listing = Listing::begin(client.format, "nfs", &row(header))?;
    while let Some(part) = client.next(&mut stream).await? {
        listing.part(&part, |part| part.nfs.iter().map(|nf| rows(nf, &names)).collect())?;
    }
    listing.end()
}

/// A line for each counter.
fn rows(nf: &Nf, names: &Names) -> String {
    let name = names.show(nf.instance);
    let line =
        |counter: &NfCounter| row([&name, &nf.kind, &counter.name, &counter.value.to_string()]);
    nf.counters.iter().map(line).collect()
}

fn row([instance, nf, counter, value]: [&str; 4]) -> String {
    format!("{instance:<16} {nf:<10} {counter:<32} {value:>20}\n")
}
