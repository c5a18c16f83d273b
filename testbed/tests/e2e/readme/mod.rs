//! The examples of documents do what they say: each command of the README runs as a shell takes it,
//! on a node with the configuration that stands in front of it; what it says is refused is refused.

mod client;
mod functions;
mod legs;
mod nodes;
mod peers;
mod text;

use std::path::Path;
use std::process::{Command, Output};

use weir_testbed::namespace::Namespace;
use weir_testbed::process::sibling;

use text::{commands, document, inline};

const README: &str = "README.md";

/// Where a command of the README runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    /// Nowhere: what it makes has tests of its own, and is looked for.
    Make,
    /// Over all configuration that there is.
    Check,
    /// As one of the two processes of each node.
    Node,
    /// On a router, with the first configuration.
    Router,
    /// On a router with network functions.
    Functions,
    /// Where certificates are made.
    Pki,
    /// From another machine.
    Remote,
    /// Beside the network function in Python.
    Kit,
    /// Beside a router with network functions and traffic.
    InstanceKit,
    /// In the namespace of a kernel that translates.
    Agent,
    /// In a namespace that clients can reach.
    Proxy,
    /// At such a client.
    Client,
}

/// Where commands run that begin so; the first decides. Those of `weir` itself: see [`runs`].
const RULES: [(&str, Runs); 12] = [
    ("make ", Runs::Make),
    ("weir-dataplane --check ", Runs::Check),
    ("weir-control --check ", Runs::Check),
    ("weir-dataplane --config ", Runs::Node),
    ("weir-control --config ", Runs::Node),
    ("weir pki ", Runs::Pki),
    ("weir --server https://", Runs::Remote),
    ("cargo run -p weir-nf-api --bin weir-nf-conformance -- ", Runs::Kit),
    ("weir-nf-conformance unix:///run/weir/dataplane.sock ", Runs::InstanceKit),
    ("ip netns exec nat-1 weir-nf-conntrack ", Runs::Agent),
    ("weir-nf-cache ", Runs::Proxy),
    ("curl -x http://10.0.1.9:3128 ", Runs::Client),
];

/// Where a command runs. One of `weir` runs where the configuration in front of it does: behind the
/// first block that is a router, behind the third one that has network functions, up to the last
/// block, which is about the API over the network.
fn runs(command: &text::Command) -> Option<Runs> {
    let by_rule = RULES.iter().find(|(begin, _)| command.line.starts_with(begin));
    match (by_rule, command.configurations) {
        (Some((_, runs)), _) => Some(*runs),
        (None, 1) if command.line.starts_with("weir ") => Some(Runs::Router),
        (None, 3..=6) if command.line.starts_with("weir ") => Some(Runs::Functions),
        (None, _) => None,
    }
}

/// The commands of the README that run so; there are some.
fn those(wanted: Runs) -> Vec<String> {
    let all = commands(&document(README)).into_iter();
    let those: Vec<_> = all.filter(|one| runs(one) == Some(wanted)).map(|one| one.line).collect();
    assert!(!those.is_empty(), "the README has no command that runs as {wanted:?}");
    those
}

/// What stands in documents, and what takes its place: files go to a folder of the test, a domain has
/// an address, and a program that is built already is not built again.
struct Places(Vec<(&'static str, String)>);

impl Places {
    fn new(folder: &Path) -> Self {
        let files = [
            ("/etc/weir/pki", "pki"),
            ("/var/log/weir", "logs"),
            ("/run/weir/control.sock", "control.sock"),
            ("/run/weir/dataplane.sock", "dataplane.sock"),
            ("/run/weir/nat-1.sock", "nat-1.sock"),
            ("/run/cache-1.sock", "cache-1.sock"),
            ("/run/counter.sock", "counter.sock"),
            ("/run/fw-a.sock", "fw-a.sock"),
            ("/run/fw-b.sock", "fw-b.sock"),
            ("/run/ids-a.sock", "ids-a.sock"),
            ("/tmp/counter.sock", "counter.sock"),
            ("/tmp/feed.sock", "feed.sock"),
            ("weir.toml", "weir.toml"),
        ];
        let file = |(text, name)| (text, folder.join(name).display().to_string());
        let mut all: Vec<_> = files.into_iter().map(file).collect();
        let built = "weir-nf-conformance ".to_owned();
        all.push(("cargo run -p weir-nf-api --bin weir-nf-conformance -- ", built));
        let python = programs().ancestors().nth(1).unwrap().join("python").display().to_string();
        all.push(("../../../target/python", python));
        let examples = programs().join("examples").display().to_string() + "/";
        all.push(("cargo run -p weir-client --example ", examples));
        all.push(("http://origin.example/", "http://10.0.3.2:8000/".to_owned()));
        Self(all)
    }

    fn with(mut self, text: &'static str, instead: &str) -> Self {
        self.0.push((text, instead.to_owned()));
        self
    }

    fn put(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (what, instead)| text.replace(what, instead))
    }
}

/// The folder of our programs.
fn programs() -> std::path::PathBuf {
    sibling("weir").unwrap().parent().unwrap().to_owned()
}

/// A command as a shell runs it in a folder and, where it is named, a namespace; our programs are
/// found, and `weir` asks the sidecar of the folder.
fn shell(line: &str, folder: &Path, namespace: Option<&Namespace>) -> Command {
    let mut shell = match namespace {
        Some(namespace) => namespace.command("bash"),
        None => Command::new("bash"),
    };
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let server = format!("unix://{}", folder.join("control.sock").display());
    shell.env("PATH", path).env("WEIR_SERVER", server).current_dir(folder);
    shell.args(["-c", line]);
    shell
}

/// What a command has said, to either stream.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command to its end, in which it has to succeed; what it has said.
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

#[test]
fn every_command_of_a_block_has_a_rule_by_which_it_runs() {
    let all = commands(&document(README));
    let unknown: Vec<_> = all.iter().filter(|one| runs(one).is_none()).collect();
    assert!(unknown.is_empty(), "no test runs {unknown:#?}");
    for (begin, runs) in RULES {
        let is_there = all.iter().any(|one| one.line.starts_with(begin));
        assert!(is_there, "the README has nothing that begins with {begin:?}, as {runs:?} has");
    }
    let new = text::Command { line: "weird status".to_owned(), configurations: 1 };
    assert_eq!(runs(&new), None);
}

#[test]
fn what_is_made_can_be_made() {
    for line in those(Runs::Make) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut make = Command::new("make");
        make.arg("--dry-run").args(line.split_whitespace().skip(1)).current_dir(root);
        succeeds(make);
    }
}

#[test]
fn commands_in_sentences_are_those_of_weir_with_their_options() {
    let all = inline(&document(README));
    assert!(all.len() >= 15, "{all:?}");
    for span in all {
        let words: Vec<_> = span.split_whitespace().skip(1).collect();
        let is_own = |word: &&&str| !word.starts_with('-') && !word.contains(char::is_uppercase);
        let own: Vec<_> = words.iter().take_while(is_own).collect();
        let mut help = Command::new(sibling("weir").unwrap());
        let help = succeeds(std::mem::replace(help.args(own).arg("--help"), Command::new("true")));
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{span}: {option} is not in {help}");
        }
    }
}
