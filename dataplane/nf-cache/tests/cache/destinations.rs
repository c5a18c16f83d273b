//! Where clients may have the proxy go.

use weir_nf_cache::Figure;

use crate::client::Client;
use crate::origin::Origin;
use crate::process::Process;
use crate::running::{Peer, Running};

/// All that leads to an origin at 127.0.0.1, by number and by name.
const HOSTS: [&str; 7] = [
    "127.0.0.1",
    "localhost",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "[::ffff:0.0.0.0]",
    "127.1",
    "2130706433",
];

#[test]
fn what_only_this_machine_can_reach_is_refused_by_whatever_name() {
    let origin = Origin::plain();
    let port = origin.address.port();
    let proxy = Running::start(1, |settings| {
        (settings.to_local, settings.connect_ports) = (false, vec![port]);
    });
    let others = ["[::1]", "[::]", "169.254.169.254", "[fe80::1]", "127.9.9.9"];
    let hosts = HOSTS.iter().chain(&others);
    let mut client = proxy.client();
    for host in hosts.clone() {
        let answer = client.get(&format!("http://{host}:{port}/secret/10"));
        assert_eq!((answer.status, answer.why()), (403, "to-local"), "{host}");
        let status = answer.header("proxy-status").expect("it says why");
        assert!(status.contains("error=destination_ip_prohibited;"), "{status}");
        let mut tunnel = proxy.client();
        tunnel.write(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let answer = tunnel.answer(false).expect("an answer");
        assert_eq!((answer.status, answer.why()), (403, "to-local"), "CONNECT {host}");
    }
    assert_eq!(origin.count(), 0);
    let (peer, count) = (proxy.peer(), 2 * hosts.count() as u64);
    assert_eq!((peer.counter("refused_to_local"), peer.figure(Figure::Refused)), (count, count));
    assert_eq!(peer.figure(Figure::Tunnels), 0);
}

#[test]
fn where_it_is_permitted_each_of_them_leads_there() {
    let (origin, proxy) = (Origin::plain(), Running::plain(1));
    let mut client = proxy.client();
    for (number, host) in HOSTS.iter().enumerate() {
        let url = format!("http://{host}:{}/{number}/10", origin.address.port());
        assert_eq!(client.get(&url).status, 200, "{host}");
    }
    assert_eq!(origin.count(), HOSTS.len());
}

#[test]
fn the_program_refuses_it_unless_it_is_told_otherwise_and_logs_that() {
    let origin = Origin::plain();
    let mut proxy = Process::start(1, &["--listen", "127.0.0.1:0"], None);
    let answer = Client::connect(proxy.address).get(&origin.url("/secret/10"));
    assert_eq!((answer.status, answer.why()), (403, "to-local"));
    assert_eq!(Peer::of(&proxy.place).counter("refused_to_local"), 1);
    assert!(proxy.stop().success());
    let log = proxy.log();
    assert!(log.contains("reason=\"to-local\""), "{log}");
}
