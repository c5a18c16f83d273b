//! `weir nf`.

use std::collections::BTreeMap;

use clap::Subcommand;
use weir_api::{
    dataplane::v1::{Nf, NfCounter},
    nf::v1::{Counter, StateKind},
    v1::{ListNfProcessesRequest, ListNfsRequest, NfProcess, nf_service_client::NfServiceClient},
};

use super::{
    client::{Client, service},
    escape,
    failure::Failure,
    instance::Names,
    output::{Listing, columns, show},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What the network functions of each instance have counted
    List {
        /// Only this instance's, by name or number
        #[arg(long, default_value = "")]
        instance: String,
        /// Only this function's, as in firewall, ids, assets or nat
        #[arg(long, value_name = "KIND", default_value = "")]
        nf: String,
        /// Only counters that are not 0
        #[arg(long)]
        nonzero: bool,
    },
    /// Network functions in processes of their own, what they say of themselves and have counted
    Processes,
}

pub(crate) async fn run(client: &Client, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List { instance, nf, nonzero } => {
            list(client, ListNfsRequest { instance, nf, nonzero }).await
        }
        Verb::Processes => processes(client).await,
    }
}

async fn processes(client: &Client) -> Result<(), Failure> {
    let mut service = service!(NfServiceClient, client);
    let listed = service.list_nf_processes(client.request(ListNfProcessesRequest {}));
    show(client.format, &client.call(listed).await?, |listed| table(&listed.processes))
}

async fn list(client: &Client, ask: ListNfsRequest) -> Result<(), Failure> {
    let names = Names::read(client).await;
    let mut service = service!(NfServiceClient, client);
    let mut stream = client.call(service.list_nfs(client.request(ask))).await?;
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

/// A row for each kind of state that a process has, whose names are free text, with the revisions of
/// it that are taken in; then the filter fields that only it knows, and why those that do not answer
/// do not; then a row for each counter.
fn table(processes: &[NfProcess]) -> String {
    let header = ["PROCESS", "SOCKET", "ANSWERS", "WHAT", "SCOPE", "MERGE", "REVISIONS", "STATE"];
    let mut text = columns(&header, processes.iter().flat_map(process).collect());
    for nf in processes {
        let (name, error) = (&nf.name, escape::line(&nf.error));
        let Some(said) = &nf.description else {
            text += &format!("{name} does not answer: {error}\n");
            continue;
        };
        if !said.fields.is_empty() {
            let fields = escape::line(&said.fields.join(", "));
            text += &format!("{name} knows the filter fields {fields}\n");
        }
        if !error.is_empty() {
            text += &format!("{name} does not tell its counters: {error}\n");
        }
    }
    let counters: Vec<_> = processes.iter().flat_map(counters).collect();
    if !counters.is_empty() {
        text += &columns(&["PROCESS", "COUNTER", "VALUE"], counters);
    }
    text
}

fn counters(nf: &NfProcess) -> impl Iterator<Item = Vec<String>> {
    let cells =
        |counter: &Counter| vec![nf.name.clone(), counter.name.clone(), counter.value.to_string()];
    nf.counters.iter().map(cells)
}

fn process(nf: &NfProcess) -> Vec<Vec<String>> {
    let row = |answers: &str, what: &str, [scope, merge, revisions, state]: [&str; 4]| {
        let cells = [&nf.name, &nf.socket, answers, what, scope, merge, revisions, state];
        cells.map(str::to_owned).to_vec()
    };
    let Some(said) = &nf.description else { return vec![row("no", "-", ["-"; 4])] };
    let what = format!("{} {}", said.name, said.version);
    let kinds = kinds(&said.kinds).map(|(kind, revisions)| {
        let merge = kind.merge_rules().map(|rule| word(rule.as_str_name(), "MERGE_RULE_"));
        let merge = merge.collect::<Vec<_>>().join("+");
        let merge = if merge.is_empty() { "-" } else { &merge };
        let scope = word(kind.scope().as_str_name(), "SCOPE_");
        row("yes", &what, [&scope, merge, &revisions, &kind.name])
    });
    let rows: Vec<_> = kinds.collect();
    if rows.is_empty() { vec![row("yes", &what, ["-"; 4])] } else { rows }
}

/// Each kind of state once, as its latest revision describes it: that is given. With all revisions
/// that are taken in, the latest first.
fn kinds(listed: &[StateKind]) -> impl Iterator<Item = (&StateKind, String)> {
    let mut kinds: BTreeMap<u32, BTreeMap<u32, &StateKind>> = BTreeMap::new();
    for kind in listed {
        kinds.entry(kind.schema).or_default().insert(kind.revision, kind);
    }
    kinds.into_values().filter_map(|revisions| {
        let latest = *revisions.last_key_value()?.1;
        let revisions: Vec<String> = revisions.keys().rev().map(u32::to_string).collect();
        Some((latest, revisions.join(", ")))
    })
}

/// The word of a value of an enum of the API, without what all of it begin with.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use weir_api::nf::v1::{DescribeResponse, MergeRule, Scope};

    use super::*;

    #[test]
    fn each_kind_of_state_has_a_row_and_each_error_a_line() {
        let kind = |scope: Scope, schema, revision, rules: &[MergeRule], name: &str| StateKind {
            scope: scope.into(),
            schema,
            revision,
            merge_rules: rules.iter().map(|rule| (*rule).into()).collect(),
            name: name.to_owned(),
        };
        let said = DescribeResponse {
            name: "counter".to_owned(),
            version: "2.0".to_owned(),
            kinds: vec![
                kind(Scope::PerFlow, 7, 1, &[], "packets"),
                kind(Scope::AllFlows, 8, 1, &[MergeRule::Counter, MergeRule::Max], "packets"),
                kind(Scope::PerFlow, 7, 3, &[], "packets, bytes"),
            ],
            fields: vec!["http.host".to_owned(), "http.url".to_owned()],
            ..DescribeResponse::default()
        };
        let answers = NfProcess {
            name: "a".to_owned(),
            socket: "/run/a".to_owned(),
            description: Some(said.clone()),
            error: String::new(),
            counters: vec![Counter { name: "packets".to_owned(), value: 12 }],
        };
        let has_none = NfProcess {
            name: "b".to_owned(),
            description: Some(DescribeResponse { kinds: Vec::new(), fields: Vec::new(), ..said }),
            error: "it is\nbusy".to_owned(),
            counters: Vec::new(),
            ..answers.clone()
        };
        let silent = NfProcess {
            name: "c".to_owned(),
            description: None,
            error: "connect: no\nsuch file".to_owned(),
            counters: Vec::new(),
            ..answers.clone()
        };
        let text = table(&[answers, has_none, silent]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let cells = |line: &[&str]| -> Vec<String> {
            line.iter().filter(|cell| !cell.is_empty()).map(|&cell| cell.to_owned()).collect()
        };
        let cells: Vec<_> = lines.iter().map(|line| cells(line)).collect();
        let expected = [
            &["PROCESS", "SOCKET", "ANSWERS", "WHAT", "SCOPE", "MERGE", "REVISIONS", "STATE"][..],
            &["a", "/run/a", "yes", "counter 2.0", "per-flow", "-", "3, 1", "packets, bytes"],
            &["a", "/run/a", "yes", "counter 2.0", "all-flows", "counter+max", "1", "packets"],
            &["b", "/run/a", "yes", "counter 2.0", "-", "-", "-", "-"],
            &["c", "/run/a", "no", "-", "-", "-", "-", "-"],
            &["a knows the filter fields http.host, http.url"],
            &["b does not tell its counters: it is\\nbusy"],
            &["c does not answer: connect: no\\nsuch file"],
            &["PROCESS", "COUNTER", "VALUE"],
            &["a", "packets", "12"],
        ];
        assert_eq!(cells, expected);
    }
}
