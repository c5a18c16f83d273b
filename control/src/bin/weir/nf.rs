//! `weir nf`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::{Nf, NfCounter},
    v1::{ListNfProcessesRequest, ListNfsRequest, NfProcess, nf_service_client::NfServiceClient},
};

use super::{
    client::{Client, service},
    failure::Failure,
    instance::Names,
    output::{Listing, columns, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What the network functions of each instance have counted
    List,
    /// Network functions in processes of their own, and what they say of themselves
    Processes,
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => list(client).await,
        Verb::Processes => processes(client).await,
    }
}

async fn processes(client: &Client) -> Result<(), Failure> {
    let mut service = service!(NfServiceClient, client);
    let listed = service.list_nf_processes(client.request(ListNfProcessesRequest {}));
    show(client.format, &client.call(listed).await?, |listed| {
        let rows = listed.processes.iter().map(process).collect();
        columns(&["PROCESS", "SOCKET", "WHAT", "STATE"], rows)
    })
}

async fn list(client: &Client) -> Result<(), Failure> {
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

fn process(nf: &NfProcess) -> Vec<String> {
    let (what, state) = match &nf.description {
        Some(said) => {
            let kinds: Vec<_> = said.kinds.iter().map(|kind| kind.name.as_str()).collect();
            (format!("{} {}", said.name, said.version), kinds.join(", "))
        }
        None => ("does not answer".to_owned(), nf.error.clone()),
    };
    vec![nf.name.clone(), nf.socket.clone(), what, state]
}
