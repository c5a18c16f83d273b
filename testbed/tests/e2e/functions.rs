//! Network functions in the instances: a firewall between real hosts, and logs that are those of a
//! single instance however often flows are moved.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use weir_api::dataplane::v1::MovePhase;
use weir_testbed::dataplane::Selection;
use weir_testbed::folder::Folder;
use weir_testbed::node::{Node, Shape};
use weir_testbed::process::Process;
use weir_testbed::topology::Topology;
use weir_testbed::traffic::Report;
use weir_testbed::wait::LIMIT;

use super::{Setup, let_flow};

const FLOWS: usize = 400;
const RATE: u64 = 20_000;
/// HTTP requests, each over a connection of its own.
const REQUESTS: usize = 40;

/// Lines of a log of all instances, split into fields, under the names that stand at its head.
pub(super) fn lines(logs: &Path, name: &str) -> Vec<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for instance in fs::read_dir(logs).unwrap() {
        let Ok(text) = fs::read_to_string(instance.unwrap().path().join(name)) else { continue };
        let head = text.lines().find_map(|line| line.strip_prefix("#fields\t")).unwrap();
        let names: Vec<_> = head.split('\t').collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields = names.iter().zip(line.split('\t'));
            all.push(fields.map(|(name, value)| (name.to_string(), value.to_owned())).collect());
        }
    }
    all
}

fn end(line: &BTreeMap<String, String>, side: &str) -> SocketAddr {
    let (host, port) = (&line[&format!("id.{side}_h")], &line[&format!("id.{side}_p")]);
    SocketAddr::new(host.parse().unwrap(), port.parse().unwrap())
}

/// A node whose instances log what they see.
pub(super) fn logging(logs: &Folder) -> Setup {
    let tables = format!("[[nf]]\nkind = \"ids\"\nlogs = \"{}\"\n", logs.path().display());
    Setup::new(&Shape { tables, ..Shape::default() })
}

#[test]
#[ignore = "needs root"]
fn the_firewall_lets_pass_what_its_rules_say_and_tells_the_rest() {
    let tables = "[[nf]]\nkind = \"firewall\"\n\
                  rules = [\"out: accept src=10.0.1.0/24\", \"no: reject any\"]\n";
    // The hosts behind the other ports may not begin anything, which the warm-up would.
    let topology = Topology::new(2).unwrap();
    let shape = Shape { tables: tables.to_owned(), ..Shape::default() };
    let node = Node::start(&topology, &shape, None).unwrap();
    let dataplane = node.connect().unwrap();
    let [inside, outside] = [0, 1].map(|host| &topology.hosts[host].namespace);
    // Answers come back though no rule is about them.
    let said = inside.run("ping -n -c 3 -i 0.01 -W 10 10.0.2.2").unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    let mut command = outside.command("ping");
    command.args("-n -c 1 -W 10 10.0.1.2".split(' '));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Packet filtered") && said.contains("100% packet loss"), "{said}");
    let drops = dataplane.counters().unwrap().drops;
    let dropped = drops.iter().find(|drop| drop.reason == "firewall").unwrap();
    assert_eq!(dropped.packets, 1);
    let firewall = &dataplane.nfs().unwrap()[0];
    let counted = |name: &str| {
        let counter = firewall.counters.iter().find(|counter| counter.name == name);
        counter.unwrap_or_else(|| panic!("{name} in {firewall:?}")).value
    };
    assert_eq!((counted("dropped.rule_reject"), counted("rule.no")), (1, 1));
    assert_eq!((counted("rule.out"), counted("accepted")), (1, 6));
    dataplane.balance_at_rest().unwrap();
}

#[test]
#[ignore = "needs root"]
fn each_flow_is_logged_once_with_all_its_packets_wherever_it_was() {
    let logs = Folder::new().unwrap();
    let setup = logging(&logs);
    let first = setup.dataplane.instances().unwrap()[0].id;
    let second = setup.dataplane.add_instance("second").unwrap().id;
    let traffic = setup.traffic(FLOWS, RATE);
    let_flow(&traffic, 5_000);
    let selections = [
        Selection::Buckets("0-2047".to_owned()),
        Selection::Filter("proto=udp,src=10.0.0.0/15".to_owned()),
    ];
    let mut moved = 0;
    for selection in selections.iter().cycle().take(8) {
        for (from, to) in [(first, second), (second, first)] {
            let started = setup.dataplane.start_move(from, to, selection.clone()).unwrap();
            let ended = setup.dataplane.finish_move(started.id).unwrap();
            assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
            moved += ended.flows;
            let_flow(&traffic, 1_000);
        }
    }
    assert!(moved > 0);
    let report = traffic.stop().unwrap();
    setup.assert_exact(&report);
    setup.node.stop().unwrap();
    assert_each_flow_is_logged_once(&logs, &report);
}

/// Asserts that all instances together have one line for each flow, with all of its packets.
pub(super) fn assert_each_flow_is_logged_once(logs: &Folder, report: &Report) {
    let mut expected: BTreeMap<[SocketAddr; 2], u64> = BTreeMap::new();
    for (flow, state) in report.states.iter().filter(|(_, state)| state.packets > 0) {
        let mut ends = [flow.source, flow.destination];
        ends.sort();
        *expected.entry(ends).or_default() += state.packets;
    }
    let mut logged = BTreeMap::new();
    for line in lines(logs.path(), "conn.log") {
        let mut ends = [end(&line, "orig"), end(&line, "resp")];
        ends.sort();
        if !expected.contains_key(&ends) {
            continue;
        }
        let packets = |side: &str| line[&format!("{side}_pkts")].parse::<u64>().unwrap();
        let again = logged.insert(ends, packets("orig") + packets("resp"));
        assert_eq!(again, None, "{ends:?} is logged twice");
    }
    let differs = |ends: &&[SocketAddr; 2]| logged.get(*ends) != expected.get(*ends);
    let first = expected.keys().filter(differs).take(5);
    let first: Vec<_> = first.map(|ends| (ends, logged.get(ends), expected[ends])).collect();
    assert!(first.is_empty(), "flows, packets logged and packets sent, such as {first:?}");
}

#[test]
#[ignore = "needs root"]
fn requests_pass_a_firewall_and_are_logged_once_while_their_connections_are_moved() {
    let logs = Folder::new().unwrap();
    // Answers pass only where the firewall knows their connection.
    let tables = format!(
        "[[nf]]\nkind = \"firewall\"\nrules = [\"out: accept src=10.0.1.0/24\"]\n\
         [[nf]]\nkind = \"ids\"\nlogs = \"{}\"\n",
        logs.path().display()
    );
    let topology = Topology::new(2).unwrap();
    let node = Node::start(&topology, &Shape { tables, ..Shape::default() }, None).unwrap();
    let dataplane = node.connect().unwrap();
    let first = dataplane.instances().unwrap()[0].id;
    let second = dataplane.add_instance("second").unwrap().id;
    let [client, server] = [0, 1].map(|host| &topology.hosts[host].namespace);
    let served = Folder::new().unwrap();
    fs::write(served.path().join("page"), vec![b'x'; 200_000]).unwrap();
    let mut command = server.command("python3");
    command.args(["-u", "-m", "http.server", "-b", "10.0.2.2", "8080", "-d"]).arg(served.path());
    let mut http = Process::spawn("http", &command, &logs.path().join("http.txt")).unwrap();
    http.wait_for_line("Serving HTTP", LIMIT).unwrap();
    let fetch = format!(
        "import urllib.request\nfor n in range({REQUESTS}):\n \
         assert len(urllib.request.urlopen(f'http://10.0.2.2:8080/page?{{n}}').read()) == 200000\n"
    );
    let mut command = client.command("python3");
    command.args(["-c", &fetch]);
    let mut fetching = command.spawn().unwrap();
    let mut moves = 0;
    let status = loop {
        if let Some(status) = fetching.try_wait().unwrap() {
            break status;
        }
        let ways = if moves % 2 == 0 { (first, second) } else { (second, first) };
        let selection = Selection::Filter("proto=tcp,dport=8080".to_owned());
        let started = dataplane.start_move(ways.0, ways.1, selection).unwrap();
        let ended = dataplane.finish_move(started.id).unwrap();
        assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
        moves += 1;
    };
    assert!(status.success() && moves > 2, "{status} after {moves} moves");
    node.stop().unwrap();

    let requests = lines(logs.path(), "http.log");
    let mut uris: Vec<_> = requests.iter().map(|line| line["uri"].clone()).collect();
    uris.sort();
    let mut expected: Vec<_> = (0..REQUESTS).map(|n| format!("/page?{n}")).collect();
    expected.sort();
    assert_eq!(uris, expected);
    let whole = |line: &BTreeMap<String, String>| {
        (line["status_code"].as_str(), line["response_body_len"].as_str()) == ("200", "200000")
    };
    assert!(requests.iter().all(whole), "{requests:?}");
    let web: Vec<_> = lines(logs.path(), "conn.log")
        .into_iter()
        .filter(|line| line["id.resp_p"] == "8080")
        .collect();
    assert_eq!(web.len(), REQUESTS);
    let ended = |line: &BTreeMap<String, String>| line["conn_state"] == "SF";
    assert!(web.iter().all(ended), "{web:?}");
    println!("{moves} moves during {REQUESTS} requests");
}
