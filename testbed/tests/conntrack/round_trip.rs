//! Entries of every kind that is moved, from one kernel into another.

use std::net::{TcpStream, UdpSocket};
use std::process::Command;

use weir_nf_api::client::RefusalReason;
use weir_state_transfer::chunk::Chunk;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::sibling;

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
        let listener = server.enter(|| std::net::TcpListener::bind((at, 5001))).unwrap().unwrap();
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
    let output = command.args([&agent.address(), "--complete"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}");
    assert!(output.status.success());
    assert!(said.contains("pass events-actions") && !said.contains("FAIL"));
}
