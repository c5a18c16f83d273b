//! What `weir` shows of a node and leaves out when it is asked to.

use crate::support::{
    nf::flow,
    node::{Node, Running, block_on},
    state::Pair,
};

/// What a command that has to succeed writes to standard output.
fn shown(running: &Running, arguments: &[&str]) -> String {
    let output = running.weir(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn functions_are_listed_of_an_instance_by_kind_and_without_zeros() {
    let node = Node::new(2);
    let running = node.start();
    let id = node.fake.model().instances.keys().nth(1).unwrap().to_string();
    let list = |filters: &[&str]| -> Vec<String> {
        let text = shown(&running, &[&["nf", "list"], filters].concat());
        let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().skip(1).map(row).collect()
    };
    let second = ["sw2 firewall accepted 12", "sw2 firewall refused 0", "sw2 ids scans 0"];
    assert_eq!(list(&[])[3..], second);
    assert_eq!(list(&["--instance", "sw2"]), second);
    assert_eq!(list(&["--instance", &id]), second);
    assert_eq!(list(&["--nf", "ids"]), ["sw1 ids scans 0", "sw2 ids scans 0"]);
    assert_eq!(list(&["--nonzero"]), ["sw1 firewall accepted 12", "sw2 firewall accepted 12"]);
    assert_eq!(list(&["--nonzero", "--nf", "ids"]), [""; 0]);
    let json = shown(&running, &["-o", "json", "nf", "list", "--instance", "sw1", "--nonzero"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["nfs"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["nfs"][0]["counters"].as_array().unwrap().len(), 1, "{json}");
    for (filter, there_is) in
        [(["--nf", "fire"], "name one of firewall, ids"), (["--instance", "sw9"], "sw1, sw2")]
    {
        let refused = running.weir(&[&["nf", "list"], &filter[..]].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0), "{refused:?}");
        assert!(said.contains(there_is), "{said}");
    }
}

#[test]
fn processes_are_listed_with_what_they_have_counted() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 3);
    let running = pair.start();
    let rows = || -> Vec<String> {
        let text = shown(&running, &["nf", "processes"]);
        let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(row).collect()
    };
    assert!(
        rows()
            .ends_with(&["PROCESS COUNTER VALUE", "a packets 3", "b packets 0"].map(str::to_owned))
    );
    let json = shown(&running, &["-o", "json", "nf", "processes"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let counter = serde_json::json!({"name": "packets", "value": "3"});
    assert_eq!(json["processes"][0]["counters"], serde_json::json!([counter]), "{json}");
    // What it is, it says without its thread.
    pair.b.hang(true);
    let told = rows();
    pair.b.hang(false);
    let why = "b does not tell its counters: the network function did not answer get_counters";
    assert!(told.iter().any(|line| line.starts_with(why)), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("b ") && line.contains(" yes monitor 1 ")));
    assert_eq!(told.last().unwrap(), "a packets 3");
}

#[test]
fn status_and_plans_tell_of_a_share_that_keeps_the_node_from_scaling() {
    let node = Node::new(3);
    let running = node.start();
    let told = |arguments: &[&str]| shown(&running, arguments);
    assert!(told(&["status"]).contains("\noperation   none\n"));
    assert!(!told(&["scale", "plan", "--to", "1"]).contains("in the way"));
    let share = ["share", "--instances", "sw1,sw2", "--filter", "src=10.0.0.0/8", "--no-wait"];
    told(&share);
    let status = told(&["status"]);
    let line = "1 share running, steady, 2 instances, instance/sw1,instance/sw2, src=10.0.0.0/8";
    assert!(status.contains(&format!("\noperation   {line}\n")), "{status}");
    let plan = told(&["scale", "plan", "--to", "1"]);
    assert!(plan.contains("3 -> 1 instances") && plan.contains("remove:"), "{plan}");
    let refused = running.weir(&["scale", "--to", "1"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for (label, refused) in [("in the way", "cannot scale"), ("fix", "weir operation cancel 1")] {
        let line = plan.lines().find(|line| line.starts_with(label)).expect(&plan);
        let what = line.strip_prefix(label).unwrap().trim();
        assert!(what.contains(refused) && said.contains(what), "{plan}{said}");
    }
    let plan = told(&["-o", "json", "scale", "plan", "--to", "1"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["obstacle"]["object"], "operations/1", "{plan}");
    assert_eq!(plan["obstacle"]["reason"], "OPERATION_IN_THE_WAY", "{plan}");
    // Nothing is in the way of nothing.
    assert!(!told(&["scale", "plan", "--to", "3"]).contains("in the way"));
    told(&["operation", "cancel", "1"]);
    block_on(running.state_ended(1));
    assert!(told(&["status"]).contains("\noperation   none\n"));
    assert!(!told(&["scale", "plan", "--to", "1"]).contains("in the way"));
}
