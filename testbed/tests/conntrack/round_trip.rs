//! Entries of every kind that is moved, from one kernel into another.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use weir_nf_api::client::RefusalReason;
use weir_state_transfer::chunk::Chunk;
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::sibling;
use weir_testbed::wait::Deadline;

use crate::agent::{Agent, lasting};
use crate::figures::{self, entries};
use crate::network::{CLIENT, Network, SERVER};

/// Traffic of every kind through kernel A, at rest when this returns. What keeps it open is given.
fn traffic(network: &Network) -> Vec<TcpStream> {
    let Network { client, server, .. } = network;
    let mut open = Vec::new();
    for (to, at) in [
        ("203.0.113.2:5001", SERVER[0]),
        ("[fd02::2]:5001", SERVER[1]),
        ("10.1.0.1:8080", SERVER[0]),
    ] {
        let listener = server.enter(|| TcpListener::bind((at, 5001))).unwrap().unwrap();
        open.push(client.enter(|| TcpStream::connect(to)).unwrap().unwrap());
        open.push(listener.accept().unwrap().0);
    }
    for (from, to) in CLIENT.into_iter().zip(SERVER) {
        client.run(&format!("ping -c 1 -W 5 {to}")).unwrap();
        client.run(&format!("ping -c 1 -W 5 {to}")).unwrap();
        let far = server.enter(|| UdpSocket::bind((to, 53))).unwrap().unwrap();
        let near = client.enter(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
        near.send_to(b"?", (to, 53)).unwrap();
        let (_, back) = far.recv_from(&mut [0; 9]).unwrap();
        far.send_to(b"!", back).unwrap();
        near.recv(&mut [0; 9]).unwrap();
        // One that nobody answers.
        near.send_to(b"?", (to, 54)).unwrap();
    }
    open
}

/// The kernel's own lines about entries that are the test's, without what changes.
fn lines(kernel: &Namespace) -> Vec<String> {
    let mut lines: Vec<_> = entries(kernel).iter().map(|line| figures::lasting(line)).collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs root"]
fn entries_of_every_kind_are_in_another_kernel_what_they_were() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let [a, b] = &network.kernels;
    let _open = traffic(&network);
    let chunks = agents[0].get("any");
    // Per family: two connections or one, two pings, two flows of UDP.
    assert_eq!(chunks.len(), 3 + 4 + 4, "{:#?}", entries(a));
    for _ in 0..2 {
        agents[1].put_all(&chunks);
        assert_eq!(lines(b), lines(a));
        assert_eq!(lasting(&agents[1].get("any")), lasting(&chunks));
    }
    // In pieces, too: of all that it has, what one filter picks.
    let tcp = agents[1].get("proto=tcp");
    assert_eq!((tcp.len(), agents[1].del(&tcp), agents[1].del(&tcp)), (3, 3, 0));
    assert_eq!(agents[1].get("any").len(), chunks.len() - 3);
    // By a name from before translation, and by one from behind it.
    assert_eq!(agents[0].get("src=10.1.0.2,dst=10.1.0.1").len(), 1);
    assert_eq!(agents[0].get("dst=203.0.113.1").len(), 2 + 2 + 2);
    assert_eq!(agents[0].get("dst=198.51.100.0/24").len(), 0);
    assert_eq!(agents[0].get("proto=icmp,icmp.type=8").len(), 2);
    assert_eq!(agents[0].get("proto=icmp,icmp.type=13").len(), 0);
    // The zone is the service.
    assert_eq!(agents[0].get("service=5").len(), 2);
    let seen = |word: &str| lines(b).iter().filter(|line| line.contains(word)).count();
    assert_eq!((seen("zone=5"), seen("mark=0")), (2, 8), "{:#?}", lines(b));
}

#[test]
#[ignore = "needs root"]
fn thousands_of_entries_go_in_pieces_and_each_once() {
    const FLOWS: usize = 5_000;
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let [a, b] = &network.kernels;
    let far = network.server.enter(|| UdpSocket::bind((SERVER[0], 55))).unwrap().unwrap();
    network
        .client
        .enter(|| {
            for port in 0..FLOWS as u16 {
                let near = UdpSocket::bind((CLIENT[0], 10_000 + port)).unwrap();
                near.send_to(b"?", (SERVER[0], 55)).unwrap();
                far.recv_from(&mut [0; 9]).unwrap();
            }
        })
        .unwrap();
    let time = |what: &str, work: &mut dyn FnMut()| {
        let limit = Duration::from_secs(3_600);
        let start = Deadline::after(limit);
        work();
        println!("{what} of {FLOWS} entries: {:?}", limit - start.left());
    };
    let mut chunks = Vec::new();
    time("get", &mut || chunks = agents[0].get("dport=55"));
    let mut ids: Vec<_> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
    ids.dedup();
    assert_eq!((ids.len(), chunks.len()), (FLOWS, FLOWS));
    time("put", &mut || agents[1].put_all(&chunks));
    assert_eq!(lines(b), lines(a));
    time("del", &mut || assert_eq!(agents[0].del(&chunks), FLOWS as u64));
    assert!(entries(a).is_empty());
}

#[test]
#[ignore = "needs root"]
fn statistics_of_two_kernels_become_the_same_whoever_has_them_first() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let open = traffic(&network);
    drop(open);
    let chunks = agents[0].get("any");
    agents[1].put_all(&chunks);
    let [of_a, of_b] = agents.each_ref().map(Agent::all_flows);
    assert!(of_b[0].version > 1, "the entries that were made are counted");
    let told = agents[1].counters();
    assert!(told.contains_key("insert_failed") && told.contains_key("overruns"), "{told:?}");
    assert!(told.values().sum::<u64>() > 0, "the same is told by name: {told:?}");
    for _ in 0..2 {
        agents[1].put_all_flows(&of_a);
        agents[0].put_all_flows(&of_b);
    }
    let [of_a, of_b] = agents.each_ref().map(Agent::all_flows);
    assert_eq!(lasting(&of_a), lasting(&of_b));
}

#[test]
#[ignore = "needs root"]
fn a_connection_with_a_helper_is_refused_by_its_name() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let listener = network.server.enter(|| TcpListener::bind((SERVER[0], 21))).unwrap().unwrap();
    let to = (SERVER[0], 21);
    let _near = network.client.enter(|| TcpStream::connect(to)).unwrap().unwrap();
    let _far = listener.accept().unwrap();
    let chunks = agents[0].get("dport=21");
    let refusal = agents[1].put(&chunks).refusal.expect("there is a helper");
    assert_eq!(refusal.reason, RefusalReason::Unsupported);
    assert!(refusal.message.contains("the helper ftp"), "{refusal}");
    assert!(entries(&network.kernels[1]).is_empty());
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_may_not_or_that_nobody_counts_for_says_so_and_ends() {
    let namespace = Namespace::new().unwrap();
    let folder = Folder::new().unwrap();
    let agent = sibling("weir-nf-conntrack").unwrap();
    let said = |command: &mut Command| {
        let output = command.arg("--socket").arg(folder.path().join("x.sock")).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let uncounted = said(&mut namespace.command(&agent));
    assert!(uncounted.contains("nf_conntrack_acct=1"), "{uncounted}");
    let mut without = namespace.command("setpriv");
    let denied = said(without.args(["--bounding-set", "-net_admin"]).arg(&agent));
    assert!(denied.contains("CAP_NET_ADMIN"), "{denied}");
}

#[test]
#[ignore = "needs root"]
fn a_flow_whose_translation_another_has_is_refused_and_nothing_changes() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let _open = traffic(&network);
    let chunks = agents[0].get("proto=tcp,dst=203.0.113.2");
    agents[1].put_all(&chunks[..1]);
    let before = lines(&network.kernels[1]);
    // The same translation for the connection of another port of the client.
    let key = chunks[0].id.key().unwrap();
    let ports = (key.src_port() ^ 1, key.dst_port());
    let other = weir_state_transfer::FlowKey::new(key.src(), key.dst(), ports, 6, key.service());
    let id = weir_state_transfer::FlowId::flow(&other.unwrap());
    let put = agents[1].put(&[Chunk { id, ..chunks[0].clone() }, chunks[0].clone()]);
    let refusal = put.refusal.expect("it clashes");
    assert_eq!((put.taken, refusal.reason), (0, RefusalReason::Clash), "{refusal}");
    assert!(refusal.message.contains(&format!("sport={}", key.src_port())), "{refusal}");
    assert_eq!(lines(&network.kernels[1]), before);
}

#[test]
#[ignore = "needs root"]
fn the_agent_keeps_the_rules_that_it_says_it_can_keep() {
    let network = Network::new();
    let agent = Agent::start(&network.kernels[0]);
    let _open = traffic(&network);
    assert_eq!(agent.refuses_packets().as_deref(), Some("NOT_OFFERED"));
    let mut command = Command::new(sibling("weir-nf-conformance").unwrap());
    let output = command.args([&agent.address(), "--complete", "--disturb"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(output.status.success());
    assert!(said.contains("pass events-actions") && !said.contains("FAIL"));
}
