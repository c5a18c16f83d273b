//! `weir nf`.

use clap::Subcommand;
use weir_api::v1::{ListNfsRequest, nf_service_client::NfServiceClient};

use super::{
    client::{Client, service},
    failure::Failure,
    instance::Names,
    output::{columns, show},
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
    let listed = service.list_nfs(client.request(ListNfsRequest {}));
    show(client.format, &client.call(listed).await?, |listed| {
        let rows = listed.nfs.iter().flat_map(|nf| {
            let name = names.show(nf.instance);
            nf.counters.iter().map(move |counter| {
                let (kind, value) = (nf.kind.clone(), counter.value.to_string());
                vec![name.clone(), kind, counter.name.clone(), value]
            })
        });
        columns(&["INSTANCE", "NF", "COUNTER", "VALUE"], rows.collect())
    })
}
