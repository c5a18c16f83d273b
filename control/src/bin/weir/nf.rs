//! `weir nf`.

use clap::Subcommand;
use weir_api::v1::{ListNfsRequest, NfProcess, nf_service_client::NfServiceClient};

use super::{
    client::{Client, service},
    failure::Failure,
    instance::Names,
    output::{columns, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What the network functions of each instance have counted, and those in processes of their own
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
        let counters = columns(&["INSTANCE", "NF", "COUNTER", "VALUE"], rows.collect());
        if listed.processes.is_empty() {
            return counters;
        }
        let rows = listed.processes.iter().map(process).collect();
        let processes = columns(&["PROCESS", "SOCKET", "WHAT", "STATE"], rows);
        match listed.dataplane_error.as_str() {
            "" => format!("{counters}\n{processes}"),
            error => format!("{error}\n\n{processes}"),
        }
    })
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
