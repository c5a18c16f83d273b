//! Busy connections go from one kernel to another and back.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use weir_testbed::namespace::Namespace;
use weir_testbed::wait::{Deadline, LIMIT, until};

use crate::agent::{Agent, lasting};
use crate::conversations::Conversations;
use crate::figures::{Host, Kernel, devices};
use crate::network::{CLIENT, Network, SERVER};
use crate::relay::Order;

/// Connections, a third of them over IPv6, a third to an address that is translated too.
const CONNECTIONS: usize = 60;
/// Bytes that every direction of every connection has to have before and after a move.
const BYTES: u64 = 20_000;

fn targets() -> Vec<SocketAddr> {
    let kinds = ["203.0.113.2:5001", "[fd02::2]:5001", "10.1.0.1:8080"];
    let kinds = kinds.map(|address| address.parse().unwrap());
    kinds.into_iter().cycle().take(CONNECTIONS).collect()
}

/// Moves all connections of TCP from a kernel to the other, with no packet of them on its way.
fn move_all(network: &Network, agents: &[Agent; 2], from: usize) {
    let to = 1 - from;
    let limit = Duration::from_secs(3_600);
    let start = Deadline::after(limit);
    let mut steps = Vec::new();
    let mut step = |name: &str| steps.push(format!("{name} {:?}", limit - start.left()));
    network.relay.tell(Order::Hold);
    step("held and drained after");
    let chunks = agents[from].get("proto=tcp");
    assert_eq!(chunks.len(), CONNECTIONS);
    step("got after");
    agents[to].put_all(&chunks);
    step("put after");
    assert_eq!(lasting(&agents[to].get("proto=tcp")), lasting(&chunks));
    step("compared after");
    assert_eq!(agents[from].del(&chunks), CONNECTIONS as u64);
    let counts = network.relay.tell(Order::Steer(to));
    step("steered after");
    println!("{} connections, {} frames held: {}", chunks.len(), counts.held, steps.join(", "));
    assert!(counts.held > 0, "the connections were not busy");
}

fn print(network: &Network, when: &str) {
    for (name, kernel) in ["A", "B"].iter().zip(&network.kernels) {
        println!("{when}: kernel {name}: {:?}", Kernel::of(kernel));
    }
    for (name, host) in [("client", &network.client), ("server", &network.server)] {
        println!("{when}: {name}: {:?}", Host::of(host));
    }
}

#[test]
#[ignore = "needs root"]
fn busy_connections_go_to_another_kernel_and_back_without_a_lost_packet() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let seed = weir_seed::seed();
    let talk = Conversations::start(&network.client, &network.server, &targets(), seed);
    talk.let_flow(BYTES).unwrap();
    print(&network, "before");
    for (from, when) in [(0, "moved"), (1, "moved back"), (0, "moved again")] {
        move_all(&network, &agents, from);
        talk.let_flow(BYTES).unwrap();
        print(&network, when);
        assert_eq!(Kernel::of(&network.kernels[from]).entries, 0);
        assert_eq!(Kernel::of(&network.kernels[1 - from]).entries, CONNECTIONS);
    }
    // What a flow has counted goes along: the kernel knows only what has passed since.
    let counted: u64 = agents[1].get("proto=tcp").iter().map(|chunk| chunk.version).sum();
    assert!(counted > Kernel::of(&network.kernels[1]).packets);
    let ended = talk.finish().unwrap();
    let bytes = ended.bytes;
    print(&network, "in the end");
    println!("{bytes} bytes arrived as they were sent; agent's packets {counted}");
    for kernel in &network.kernels {
        let figures = Kernel::of(kernel);
        assert_eq!((figures.strangers, figures.invalid, figures.resets), (0, 0, 0));
    }
    for host in [&network.client, &network.server] {
        let figures = Host::of(host);
        assert_eq!((figures.resets_sent, figures.resets_received), (0, 0));
    }
    assert_nothing_lost(&network);
}

#[test]
#[ignore = "needs root"]
fn flows_of_udp_keep_their_translation_in_both_directions() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let flows = CLIENT.into_iter().zip(SERVER).map(|(client, server)| {
        let bind = |namespace: &Namespace, at: &str, port| {
            let socket = namespace.enter(|| UdpSocket::bind((at, port))).unwrap().unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket
        };
        let (near, far) = (bind(&network.client, client, 0), bind(&network.server, server, 99));
        near.connect((server, 99)).unwrap();
        (near, far)
    });
    let flows: Vec<_> = flows.collect();
    let ask = |(near, far): &(UdpSocket, UdpSocket)| {
        near.send(b"?").unwrap();
        far.recv_from(&mut [0; 9]).unwrap().1
    };
    let seen: Vec<SocketAddr> = flows.iter().map(ask).collect();
    network.relay.tell(Order::Hold);
    let chunks = agents[0].get("proto=udp,dport=99");
    agents[1].put_all(&chunks);
    assert_eq!((chunks.len(), agents[0].del(&chunks)), (2, 2));
    network.relay.tell(Order::Steer(1));
    // The server first: only who knows the translation can pass it on.
    for ((near, far), public) in flows.iter().zip(&seen) {
        far.send_to(b"!", public).unwrap();
        assert_eq!(near.recv(&mut [0; 9]).unwrap(), 1);
    }
    assert_eq!(flows.iter().map(ask).collect::<Vec<_>>(), seen);
}

/// Frames that the devices of the switch have received, the relay has, and has sent on; and no device
/// has dropped one. The relay's own questions are as many as the answers to them.
fn assert_nothing_lost(network: &Network) {
    for namespace in network.namespaces() {
        assert_eq!(devices(namespace).0, 0, "frames dropped in {}", namespace.name());
    }
    until("the relay to have and to have sent all frames", LIMIT, || {
        let counts = network.relay.tell(Order::Tell);
        let is_whole = network.missed() == network.missed_at_start;
        (is_whole && counts.sent == counts.received).then_some(())
    })
    .unwrap();
    println!("{:?}", network.relay.tell(Order::Tell));
}

/// The control of the test above: without what the kernel knew, connections do not go on.
#[test]
#[ignore = "needs root"]
fn connections_end_at_a_kernel_that_knows_nothing_of_them() {
    let network = Network::new();
    let agents = network.kernels.each_ref().map(Agent::start);
    let talk = Conversations::start(&network.client, &network.server, &targets(), 1);
    talk.let_flow(BYTES).unwrap();
    network.relay.tell(Order::Hold);
    let chunks = agents[0].get("proto=tcp");
    assert_eq!(agents[0].del(&chunks), CONNECTIONS as u64);
    network.relay.tell(Order::Steer(1));
    assert!(talk.finish().is_err());
    let figures = Kernel::of(&network.kernels[1]);
    println!("kernel B: {figures:?}");
    assert!(figures.strangers + figures.resets > 0);
}
