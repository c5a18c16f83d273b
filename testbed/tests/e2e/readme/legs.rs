//! The two firewalls of the README whose packets Weir leads, and a move between them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use weir_testbed::command::{ip, run};
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::process::Process;
use weir_testbed::topology::Topology;
use weir_testbed::veth::{End, Veth};
use weir_testbed::wait::LIMIT;

use super::nodes::{LEGS, ROUTER, Router, tables};
use super::text::{document, inline};
use super::{README, shell};

/// A firewall, the third or second station of the networks behind `sap3` and `sap4`.
const RULES: &str = "add table inet weir; \
                     add chain inet weir pass { type filter hook forward priority 0; }; \
                     add rule inet weir pass ct state invalid drop";

/// Makes the kernels behind two ports switches, with both firewalls at each.
fn lay(topology: &Topology) -> ([Namespace; 2], Vec<Veth>) {
    let firewalls = [(); 2].map(|()| Namespace::new().unwrap());
    let mut cables = Vec::new();
    for (host, device) in [(2, "inside"), (3, "outside")] {
        let switch = &topology.hosts[host].namespace;
        let name = switch.name();
        ip(&format!("-n {name} address flush dev eth0")).unwrap();
        ip(&format!("-n {name} link add br0 up type bridge")).unwrap();
        ip(&format!("-n {name} link set eth0 master br0")).unwrap();
        for (number, firewall) in firewalls.iter().enumerate() {
            let mac = |end: usize| format!("02:00:00:0f:{host:02x}:{:02x}", 2 * number + end);
            let addresses = [format!("10.0.{}.{}/24", host + 1, number + 2)];
            let port = format!("fw{number}");
            let [inner, outer] = [mac(0), mac(1)];
            let near = End { namespace: firewall, device, mac: &inner, addresses: &addresses };
            let far = End { namespace: switch, device: &port, mac: &outer, addresses: &[] };
            cables.push(Veth::new(near, far, 1).unwrap());
            ip(&format!("-n {name} link set {port} master br0")).unwrap();
            // As the README says of such a function.
            firewall.run(&format!("ethtool -K {device} gro off")).unwrap();
            switch.run(&format!("ethtool -K {port} tx off")).unwrap();
        }
    }
    for firewall in &firewalls {
        firewall.set("net/ipv4/ip_forward", "1").unwrap();
        firewall.run("ip route add 10.0.1.0/24 via 10.0.3.1").unwrap();
        firewall.run("ip route add 10.0.2.0/24 via 10.0.4.1").unwrap();
        run(firewall.command("nft").arg(RULES)).unwrap();
        firewall.set("net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
    }
    (firewalls, cables)
}

/// Connections of TCP that a kernel knows.
fn connections(kernel: &Namespace) -> usize {
    let read = || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
    let all = kernel.enter(read).unwrap();
    all.lines().filter(|line| line.split_whitespace().nth(2) == Some("tcp")).count()
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"weir").unwrap();
    let mut heard = [0; 4];
    to.set_read_timeout(Some(LIMIT)).unwrap();
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"weir");
}

#[test]
#[ignore = "needs root"]
fn a_connection_through_its_firewalls_goes_on_at_the_other_when_its_command_has_moved_it() {
    let (topology, folder) = (Topology::new(2).unwrap(), Folder::new().unwrap());
    let (firewalls, _cables) = lay(&topology);
    let mut agents = Vec::new();
    for (firewall, name) in firewalls.iter().zip(["fw-a", "fw-b"]) {
        let socket = folder.path().join(format!("{name}.sock"));
        let line = format!("exec weir-nf-conntrack --socket {} --set-accounting", socket.display());
        let command = shell(&line, folder.path(), Some(firewall));
        let mut agent = Process::spawn(name, &command, &folder.path().join(name)).unwrap();
        agent.wait_for_socket(&socket, LIMIT).unwrap();
        agents.push(agent);
    }
    let router = Router::between(topology, folder, &(tables(ROUTER) + &tables(LEGS)));
    let [client, server] = [0, 1].map(|host| &router.topology.hosts[host].namespace);
    let listener = server.enter(|| TcpListener::bind("10.0.2.2:80")).unwrap().unwrap();
    let mut near = client.enter(|| TcpStream::connect("10.0.2.2:80")).unwrap().unwrap();
    let mut far = listener.accept().unwrap().0;
    say(&mut near, &mut far);
    assert_eq!(firewalls.each_ref().map(connections), [1, 0]);
    let listed = router.run("weir nf processes");
    assert!(listed.contains("fw-a") && listed.contains("fw-b"), "{listed}");
    let moves = inline(&document(README)).into_iter().filter(|span| span.contains("--from fw-a"));
    for line in moves {
        println!("{}", router.run(&line));
        assert_eq!(firewalls.each_ref().map(connections), [0, 1]);
        say(&mut near, &mut far);
        say(&mut far, &mut near);
    }
    println!("{}", router.run("weir policy list"));
    assert_eq!(firewalls.each_ref().map(connections), [0, 1], "and the README moves it");
}
