//! Selective invocation by a control application: all connections pass a light kernel; those that
//! look suspicious go to one that inspects what it passes, and no other does.

use std::net::SocketAddr;

use tokio::runtime::Builder;
use tokio::time::timeout;
use weir_client::{Client, Guarantee, Notify};
use weir_testbed::namespace::Namespace;
use weir_testbed::wait::LIMIT;

use crate::conversations::{Conversations, OTHER_PORT};
use crate::figures::{Host, Kernel, counted, entries};
use crate::led::{BYTES, HOLD, assert_nothing_lost};
use crate::switch::{NAMES, Switch};

#[path = "../../../control/client/examples/selective_invocation.rs"]
mod application;

/// Connections, half of them over IPv6, and how many of them are to the suspicious port. Each of
/// these takes two policy routes, of which there are 64 with all others.
const CONNECTIONS: usize = 24;
const SUSPICIOUS: usize = 8;
/// Four bytes each that the heavy kernel looks for at the beginning of every packet.
const SIGNATURES: u32 = 300;

/// A firewall that drops what belongs to no connection, and counts what it passes.
const LIGHT: &str = "\
add table inet weir; \
add counter inet weir strangers; \
add counter inet weir suspicious; \
add counter inet weir others; \
add chain inet weir pass { type filter hook forward priority 0; }; \
add rule inet weir pass ct state invalid counter name strangers drop; \
add chain inet weir count; \
add rule inet weir pass jump count; \
add rule inet weir count tcp dport 5002 counter name suspicious return; \
add rule inet weir count tcp sport 5002 counter name suspicious return; \
add rule inet weir count meta l4proto tcp counter name others";

/// The same that also inspects each packet.
fn heavy() -> String {
    let mut rules = format!(
        "{LIGHT}; add counter inet weir inspected; add counter inet weir found; \
         add chain inet weir inspect; add rule inet weir pass jump inspect; \
         add rule inet weir inspect meta l4proto tcp counter name inspected"
    );
    for signature in 0..SIGNATURES {
        // Behind a TCP header with timestamps.
        let bytes = signature.wrapping_mul(0x9e37_79b1);
        rules += &format!(
            "; add rule inet weir inspect meta l4proto tcp @th,256,32 {bytes:#x} counter name found"
        );
    }
    rules
}

/// Firewalls that do not translate, and know a connection only by its beginning or by their agent.
fn firewalls() -> Switch {
    let switch = Switch::between([LIGHT, &heavy()], "nothing", HOLD);
    for kernel in &switch.kernels {
        kernel.set("net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
    }
    switch
}

/// The connections that a kernel knows: those of the suspicious port, and the others.
fn connections_of(kernel: &Namespace) -> [usize; 2] {
    let port = format!("dport={OTHER_PORT}");
    let mut entries = entries(kernel);
    entries.retain(|line| line.split_whitespace().nth(2) == Some("tcp"));
    let suspicious = entries.iter().filter(|line| line.contains(&port)).count();
    [suspicious, entries.len() - suspicious]
}

#[test]
#[ignore = "needs root"]
fn only_suspicious_connections_are_inspected_and_none_loses_or_reorders_a_packet() {
    let mut switch = firewalls();
    let _sidecar = switch.start_sidecar(None);
    let targets = (0..CONNECTIONS).map(|number| -> SocketAddr {
        let port = if number < SUSPICIOUS { OTHER_PORT } else { 5_001 };
        let host = if number % 2 == 0 { "203.0.113.2" } else { "[fd02::2]" };
        format!("{host}:{port}").parse().unwrap()
    });
    let targets: Vec<_> = targets.collect();
    let seed = weir_seed::seed();
    let talk = Conversations::start(&switch.client, &switch.server, &targets, seed);
    talk.let_flow(BYTES).unwrap();
    let [light, heavy] = &switch.kernels;
    let others = CONNECTIONS - SUSPICIOUS;
    assert_eq!((connections_of(light), connections_of(heavy)), ([SUSPICIOUS, others], [0, 0]));

    let asking = Builder::new_current_thread().enable_all().build().unwrap();
    let mut moved = Vec::new();
    asking.block_on(async {
        let client = Client::unix(&switch.control_socket()).await.unwrap();
        // Every packet of such connections is told of, in both directions.
        let suspicious = format!("proto=tcp,dport={OTHER_PORT}");
        let mut events = client.notify(&Notify::new("r1", &suspicious)).await.unwrap();
        let goes_on = |flow: &str| {
            moved.push(flow.to_owned());
            moved.len() < SUSPICIOUS
        };
        let ends = (NAMES[0], NAMES[1]);
        let invoked = application::invoke(&client, &mut events, ends, Guarantee::Ordered, goes_on);
        timeout(LIMIT, invoked).await.unwrap().unwrap();
    });
    println!("{moved:#?}");
    assert_eq!((connections_of(light), connections_of(heavy)), ([0, others], [SUSPICIOUS, 0]));
    let before = counted(light, "suspicious");
    let inspected = counted(heavy, "inspected");
    talk.let_flow(BYTES).unwrap();
    // All packets of the suspicious, and none of the others.
    assert_eq!(counted(light, "suspicious"), before, "they still pass the light one");
    assert!(counted(heavy, "inspected") > inspected);
    let ended = talk.finish().unwrap();
    let bytes = ended.bytes;
    println!("{bytes} bytes arrived as they were sent");
    let figures = |kernel| ["suspicious", "others"].map(|name| counted(kernel, name));
    println!("light: {:?}, {:?}", figures(light), Kernel::of(light));
    println!("heavy: {:?}, {:?}", figures(heavy), Kernel::of(heavy));
    let inspected = counted(heavy, "inspected");
    assert_eq!(figures(heavy), [inspected, 0]);
    assert!(figures(light).iter().all(|count| *count > 0));
    for host in [&switch.client, &switch.server] {
        let figures = Host::of(host);
        assert_eq!(figures.out_of_order, 0, "{figures:?}");
    }
    assert_nothing_lost(&switch);
}
