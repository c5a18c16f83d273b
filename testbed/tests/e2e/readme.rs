//! The examples of the README do what it says: its configuration is accepted, its commands succeed on
//! a node that runs, and its answer is the answer.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use weir_testbed::folder::Folder;
use weir_testbed::node::Shape;
use weir_testbed::process::sibling;
use weir_testbed::wait::{LIMIT, until};

use super::Setup;

/// The blocks of the README in a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(path).unwrap();
    let begin = format!("```{language}\n");
    let rest = text.split(&begin).skip(1);
    rest.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// Its commands that begin so, without comments.
fn commands(program: &str) -> Vec<String> {
    let lines = blocks("sh").join("");
    let commands = lines.lines().flat_map(|line| line.split('#').next().unwrap().split(';'));
    let commands = commands.map(|command| command.trim().to_owned());
    commands.filter(|command| command.starts_with(&format!("{program} "))).collect()
}

/// A program of ours as a line of the README has it.
fn command(line: &str, more: &[String]) -> Command {
    // As a shell takes it: words, of which some are in single quotes.
    let mut words = line.split('\'').enumerate().flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    let mut command = Command::new(sibling(&words.next().unwrap()).unwrap());
    command.args(more).args(words);
    command
}

fn run(line: &str, more: &[String]) -> Output {
    command(line, more).output().unwrap()
}

/// Runs a command that has no end, until the sidecar says that it goes on.
fn goes_on(line: &str, server: &[String]) {
    let mut child = command(line, server).stdout(Stdio::null()).spawn().unwrap();
    let running = || said(&run("weir operation list", server)).contains("running").then_some(());
    let seen = until(line, LIMIT, running);
    child.kill().unwrap();
    child.wait().unwrap();
    seen.unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn its_configuration_is_accepted_with_the_certificates_that_its_commands_make() {
    let folder = Folder::new().unwrap();
    let here = folder.path().display().to_string();
    let made = commands("weir").into_iter().filter(|command| command.starts_with("weir pki"));
    let made: Vec<_> = made.map(|command| command.replace("/etc/weir/pki", &here)).collect();
    assert_eq!(made.len(), 3);
    for command in made {
        let output = run(&command, &[]);
        assert!(output.status.success(), "{command}: {}", said(&output));
    }
    // Where there are other cores, and nothing may be written in a system's folders.
    let text = blocks("toml").join("\n").replace("/etc/weir/pki", &here);
    let lines = text.lines().filter(|line| !line.starts_with("core = "));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(text.contains("[[port]]") && text.contains("[[nf]]") && text.contains("[control.tls]"));
    let path = folder.path().join("weir.toml");
    fs::write(&path, text).unwrap();
    for program in ["weir-dataplane", "weir-control"] {
        let line = format!("{program} --check weir.toml");
        assert!(commands(program).contains(&line), "the README has {line}");
        let output = run(&line.replace("weir.toml", &path.display().to_string()), &[]);
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
}

#[test]
#[ignore = "needs root"]
fn its_commands_succeed_on_a_node_that_runs() {
    let tables = "[[nf]]\nkind = \"ids\"\n".to_owned();
    let mut setup = Setup::new(&Shape { tables, ..Shape::default() });
    setup.node.start_sidecar(None).unwrap();
    let server = setup.node.server();
    let not_here = |command: &String| {
        // Those make certificates, or ask a sidecar on another machine.
        command.starts_with("weir pki") || command.contains("--server")
    };
    let commands: Vec<_> = commands("weir").into_iter().filter(|c| !not_here(c)).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        if command.contains("--every") || command.starts_with("weir notify") {
            goes_on(&command, &server);
            continue;
        }
        let output = run(&command, &server);
        // A machine may lack something.
        let lacks = command == "weir doctor" && output.status.code() == Some(1);
        assert!(output.status.success() || lacks, "{command}: {}", said(&output));
        assert!(!output.stdout.is_empty(), "{command} says nothing");
    }
    let error = blocks("json").concat();
    let asked = [&server[..], &["-o".to_owned(), "json".to_owned()]].concat();
    let output = run("weir port show p9", &asked);
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), error.trim());
    setup.node.stop().unwrap();
}
