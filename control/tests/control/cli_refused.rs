//! What `weir` says of words that it does not take: which it does.

use std::process::Output;

use weir_state_transfer::filter::{FIELDS, FIELDS_OF_PACKETS};

use crate::support::{
    node::{Node, weir},
    state::Pair,
};

const FILTER: [&str; 6] = ["--from", "sw1", "--to", "sw2", "--filter", "any"];

/// The line of an error that says what to do.
fn fix(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("  fix "));
    line.unwrap_or_else(|| panic!("no fix: {said}")).trim().to_owned()
}

fn help(command: &[&str]) -> String {
    let output = weir(&[command, &["--help"]].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_taken_is_named_where_something_else_was_given() {
    let node = Node::new(2);
    let running = node.start();
    let long = "x".repeat(99);
    let directory = node.directory.0.join("pki");
    let directory = directory.to_str().unwrap();
    assert!(weir(&["pki", "init", directory]).status.success());
    let issue = ["pki", "issue", directory, "--role", "server", "--name"];
    let share = |instances| ["share", "--filter", "any", "--instances", instances].to_vec();
    let with = |begin: &[&'static str], more: &[&'static str]| [begin, more].concat();
    for (arguments, names) in [
        (vec!["flow", "list", "--filter", "colour=red"], "sport, dport"),
        (vec!["move", "--from", "sw1", "--to", "sw2", "--filter", "proto=tcpp"], "nf processes"),
        (vec!["notify", "sw1", "--filter", "tcp_flag=syn"], "tcp_flags, in_port"),
        (vec!["share", "--filter", "sorce=1", "--instances", "sw1,sw2"], "src, dst"),
        (vec!["move", "--from", "sw1", "--to", "sw2", "--buckets", "4096"], "0-4095"),
        (with(&["move", "--time-limit", "2h"], &FILTER), "3600s or less"),
        (with(&["copy", "--every", "1ms"], &FILTER), "10ms or more"),
        (vec!["notify", "sw1", "--filter", "any", "--snap", "70000"], "so many or less"),
        (share("sw1"), "weir instance list"),
        (share("sw1,1"), "once"),
        (vec!["scale", "--to", "0"], "ask for 1 to 64"),
        (vec!["route", "add", "10.0.0.0/8", "--via", "x", "--port", "p0"], "name an address"),
        (with(&["--request-id"], &[long.leak(), "scale", "auto", "on"]), "a shorter one"),
        ([&issue[..], &["ca"]].concat(), "not ca"),
        ([&issue[..], &["edge-1"]].concat(), "add --san"),
    ] {
        let refused = running.weir(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        let fix = fix(&refused);
        assert!(fix.contains(names) && !fix.contains("--help"), "{arguments:?}: {fix}");
    }
    for (arguments, names) in [
        (&["instance", "show", "sw9"][..], "name one of sw1, sw2"),
        (&["port", "show", "p9"], "name one of p0"),
        (&["flow", "list", "--instance", "sw9"], "name one of sw1, sw2"),
        (&["copy", "--from", "sw9", "--to", "sw1", "--filter", "any"], "name one of sw1, sw2"),
        (&["share", "--filter", "any", "--instances", "sw1,sw9"], "name one of sw1, sw2"),
    ] {
        let refused = running.weir(arguments);
        assert_eq!(refused.status.code(), Some(3), "{arguments:?}: {refused:?}");
        let fix = fix(&refused);
        assert!(fix.starts_with(names), "{arguments:?}: {fix}");
    }
}

#[test]
fn help_names_the_fields_of_filters() {
    let of_flows = [&["flow", "list"][..], &["move"], &["copy"], &["share"]];
    let of_flows = of_flows.map(|command| (command, FIELDS));
    for (command, fields) in of_flows.into_iter().chain([(&["notify"][..], FIELDS_OF_PACKETS)]) {
        let help = help(command);
        let words: Vec<&str> = help.split(|c: char| c != '_' && !c.is_ascii_alphabetic()).collect();
        for field in fields {
            assert!(words.contains(field), "{command:?}: {field} is not in {help}");
        }
    }
}

/// `--limit` is of numbers, and the options of times say so.
#[test]
fn each_limit_has_one_meaning_and_old_names_are_taken() {
    for command in [&["flow", "list"][..], &["scale", "log"], &["scale", "list"]] {
        let help = help(command);
        assert!(help.contains("--limit <LIMIT>") && help.contains("At most so many"), "{help}");
    }
    let ends = &FILTER[..];
    let share = &["--instances", "sw1,sw2", "--filter", "any"][..];
    for (command, rest, option) in [
        ("move", ends, "--time-limit"),
        ("copy", ends, "--round-time-limit"),
        ("notify", &["sw1", "--filter", "any"], "--time-limit"),
        ("share", share, "--time-limit"),
    ] {
        let help = help(&[command]);
        assert!(help.contains(option) && !help.contains("--limit"), "{help}");
        for option in [option, "--limit"] {
            let refused = weir(&[&[command, option, "never"], rest].concat());
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(said.contains("a time is a number and a unit"), "{said}");
        }
    }
}

#[test]
fn a_port_in_a_filter_goes_by_its_name_or_number() {
    let pair = Pair::new();
    let running = pair.start();
    let notify =
        |end, filter| running.weir(&["notify", end, "--filter", filter, "--time-limit", "10ms"]);
    for filter in ["in_port=p0", "proto=tcp, in_port = p0 ,dport=80", "in_port=1"] {
        let told = notify("sw1", filter);
        assert!(told.status.success(), "{told:?}");
    }
    let listed = running.weir(&["operation", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert_eq!(listed.matches("in_port=1").count(), 3, "{listed}");
    assert!(listed.contains("proto=tcp,dport=80,in_port=1"), "{listed}");
    for filter in ["in_port=p9", "in_port=256"] {
        let refused = notify("sw1", filter);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(fix(&refused).starts_with("name one of p0"), "{refused:?}");
    }
    let refused = notify("a", "in_port=p0");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(fix(&refused), "give the number that nf/a itself has for the port");
}
