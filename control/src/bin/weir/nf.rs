//! `weir nf`.

use clap::Subcommand;
use weir_api::{
    dataplane::v1::{Nf, NfCounter},
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
    show(client.format, &client.call(listed).await?, |listed| table(&listed.processes))
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

/// A row for each kind of state that a process has, whose names are free text; then the filter fields
/// that only it knows, and why those that do not answer do not.
fn table(processes: &[NfProcess]) -> String {
    let header = ["PROCESS", "SOCKET", "ANSWERS", "WHAT", "SCOPE", "MERGE", "STATE"];
    let mut text = columns(&header, processes.iter().flat_map(process).collect());
    for nf in processes {
        match &nf.description {
            None => text += &format!("{} does not answer: {}\n", nf.name, escape::line(&nf.error)),
            Some(said) if said.fields.is_empty() => {}
            Some(said) => {
                let fields = escape::line(&said.fields.join(", "));
                text += &format!("{} knows the filter fields {fields}\n", nf.name);
            }
        }
    }
    text
}

fn process(nf: &NfProcess) -> Vec<Vec<String>> {
    let row = |answers: &str, what: &str, [scope, merge, state]: [&str; 3]| {
        [&nf.name, &nf.socket, answers, what, scope, merge, state].map(str::to_owned).to_vec()
    };
    let Some(said) = &nf.description else { return vec![row("no", "-", ["-"; 3])] };
    let what = format!("{} {}", said.name, said.version);
    let kinds = said.kinds.iter().map(|kind| {
        let merge = kind.merge_rules().map(|rule| word(rule.as_str_name(), "MERGE_RULE_"));
        let merge = merge.collect::<Vec<_>>().join("+");
        let merge = if merge.is_empty() { "-" } else { &merge };
        row("yes", &what, [&word(kind.scope().as_str_name(), "SCOPE_"), merge, &kind.name])
    });
    let rows: Vec<_> = kinds.collect();
    if rows.is_empty() { vec![row("yes", &what, ["-"; 3])] } else { rows }
}

/// The word of a value of an enum of the API, without what all of it begin with.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use weir_api::nf::v1::{DescribeResponse, MergeRule, Scope, StateKind};

    use super::*;

    #[test]
    fn each_kind_of_state_has_a_row_and_each_error_a_line() {
        let kind = |scope: Scope, rules: &[MergeRule], name: &str| StateKind {
            scope: scope.into(),
            merge_rules: rules.iter().map(|rule| (*rule).into()).collect(),
            name: name.to_owned(),
            ..StateKind::default()
        };
        let said = DescribeResponse {
            name: "counter".to_owned(),
            version: "2.0".to_owned(),
            kinds: vec![
                kind(Scope::PerFlow, &[], "packets, bytes"),
                kind(Scope::AllFlows, &[MergeRule::Counter, MergeRule::Max], "packets"),
            ],
            fields: vec!["http.host".to_owned(), "http.url".to_owned()],
            ..DescribeResponse::default()
        };
        let answers = NfProcess {
            name: "a".to_owned(),
            socket: "/run/a".to_owned(),
            description: Some(said.clone()),
            error: String::new(),
        };
        let has_none = NfProcess {
            name: "b".to_owned(),
            description: Some(DescribeResponse { kinds: Vec::new(), fields: Vec::new(), ..said }),
            ..answers.clone()
        };
        let silent = NfProcess {
            name: "c".to_owned(),
            description: None,
            error: "connect: no\nsuch file".to_owned(),
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
            &["PROCESS", "SOCKET", "ANSWERS", "WHAT", "SCOPE", "MERGE", "STATE"][..],
            &["a", "/run/a", "yes", "counter 2.0", "per-flow", "-", "packets, bytes"],
            &["a", "/run/a", "yes", "counter 2.0", "all-flows", "counter+max", "packets"],
            &["b", "/run/a", "yes", "counter 2.0", "-", "-", "-"],
            &["c", "/run/a", "no", "-", "-", "-", "-"],
            &["a knows the filter fields http.host, http.url"],
            &["c does not answer: connect: no\\nsuch file"],
        ];
        assert_eq!(cells, expected);
    }
}
