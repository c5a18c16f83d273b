//! Address translation between real hosts: connections of hosts behind the NAT, to a service, and
//! from inside to that service, while instances come and go and flows are moved.

use std::collections::BTreeSet;
use std::process::Child;

use weir_api::dataplane::v1::MovePhase;
use weir_testbed::dataplane::{Dataplane, Selection};
use weir_testbed::folder::Folder;
use weir_testbed::namespace::Namespace;
use weir_testbed::node::{Node, Shape};
use weir_testbed::process::Process;
use weir_testbed::topology::Topology;
use weir_testbed::wait::LIMIT;

/// One host is seen with an address of the router, the other with one that only the NAT has; a
/// server behind the fourth port is reached by the second.
const TABLES: &str = r#"
[[nf]]
kind = "firewall"
rules = ["all: accept any"]

[[nf]]
kind = "nat"

[[nf.source]]
from = "10.0.1.0/24"
pool = ["10.0.2.1"]

[[nf.source]]
from = "10.0.3.0/24"
pool = ["10.0.2.77"]

[[nf.service]]
address = "10.0.2.77"
proto = "tcp"
ports = 80
backends = ["10.0.4.2:8080"]
"#;

/// Answers each number with so many bytes of it, and tells who asks.
const SERVER: &str = r"
import socket, threading
def serve(conn, peer):
    print(f'peer {peer[0]}\n', end='', flush=True)
    with conn:
        for line in conn.makefile('rb'):
            conn.sendall(b'%08d' % int(line) * 2500)
listening = socket.create_server(('', 8080), backlog=256)
print('listening', flush=True)
while True:
    threading.Thread(target=serve, args=listening.accept(), daemon=True).start()
";

/// Asks over many connections, some at a time; a reset or another byte ends it with an error.
const CLIENT: &str = r"
import socket, sys, threading
address, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
wrong = []
def ask(first):
    try:
        for n in range(connections):
            with socket.create_connection((address, port), timeout=60) as conn:
                answers = conn.makefile('rb')
                for number in range(first, first + 8):
                    conn.sendall(b'%d\n' % number)
                    assert answers.read(20000) == b'%08d' % number * 2500, 'other bytes'
    except Exception as error:
        wrong.append(f'connection {n}: {error!r}')
threads = [threading.Thread(target=ask, args=(8 * n,)) for n in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit('; '.join(wrong) if wrong else 0)
";

/// A node whose instances have a NAT, and servers at two hosts.
struct Behind {
    servers: [Process; 2],
    node: Node,
    topology: Topology,
    _logs: Folder,
}

impl Behind {
    fn new() -> Self {
        let topology = Topology::new(2).unwrap();
        let shape = Shape { tables: TABLES.to_owned(), ..Shape::default() };
        let node = Node::start(&topology, &shape, None).unwrap();
        let logs = Folder::new().unwrap();
        let servers = [1, 3].map(|host| {
            let mut command = topology.hosts[host].namespace.command("python3");
            command.args(["-u", "-c", SERVER]);
            let log = logs.path().join(format!("server{host}.txt"));
            let mut server = Process::spawn("server", &command, &log).unwrap();
            server.wait_for_line("listening", LIMIT).unwrap();
            server
        });
        Self { servers, node, topology, _logs: logs }
    }

    fn host(&self, number: usize) -> &Namespace {
        &self.topology.hosts[number].namespace
    }

    fn client(&self, host: usize, address: &str, port: u16, connections: usize) -> Child {
        let mut command = self.host(host).command("python3");
        command.args(["-c", CLIENT, address, &port.to_string(), &connections.to_string()]);
        command.spawn().unwrap()
    }

    /// Who has asked a server.
    fn peers(&self, server: usize) -> BTreeSet<String> {
        let lines = self.servers[server].lines();
        lines.iter().filter_map(|line| Some(line.strip_prefix("peer ")?.to_owned())).collect()
    }
}

fn moved(dataplane: &Dataplane, from: u32, to: u32, selection: &Selection) -> u64 {
    let started = dataplane.start_move(from, to, selection.clone()).unwrap();
    let ended = dataplane.finish_move(started.id).unwrap();
    assert_eq!(ended.phase(), MovePhase::Done, "{ended:?}");
    ended.flows
}

fn counted(dataplane: &Dataplane, name: &str) -> u64 {
    let nfs = dataplane.nfs().unwrap();
    let counters = nfs.iter().filter(|nf| nf.kind == "nat").flat_map(|nf| &nf.counters);
    counters.filter(|counter| counter.name == name).map(|counter| counter.value).sum()
}

#[test]
#[ignore = "needs root"]
fn connections_behind_a_nat_go_on_while_instances_scale_and_flows_are_moved() {
    let mut behind = Behind::new();
    let sidecar = behind.node.start_sidecar(None).unwrap();
    let dataplane = behind.node.connect().unwrap();
    let mut clients = vec![
        behind.client(0, "10.0.2.2", 8080, 60),
        behind.client(2, "10.0.2.2", 8080, 60),
        // A service, from outside and from inside.
        behind.client(1, "10.0.2.77", 80, 40),
        behind.client(0, "10.0.2.77", 80, 40),
    ];
    let filter = Selection::Filter("proto=tcp,dst=10.0.2.2/32,dport=8080".to_owned());
    let (mut rounds, mut flows) = (0, 0);
    let is_running = |clients: &mut Vec<Child>| {
        clients.iter_mut().any(|client| client.try_wait().unwrap().is_none())
    };
    while is_running(&mut clients) || rounds == 0 {
        sidecar.scale_to(4).unwrap();
        let instances: Vec<_> = dataplane.instances().unwrap().iter().map(|i| i.id).collect();
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            flows += moved(&dataplane, instances[from], instances[to], &filter);
        }
        sidecar.scale_to(1).unwrap();
        rounds += 1;
    }
    let ends: Vec<_> = clients.iter_mut().map(|client| client.wait().unwrap()).collect();
    let drops = dataplane.counters().unwrap().drops;
    let drops: Vec<_> = drops.iter().filter(|drop| drop.packets > 0).collect();
    assert!(ends.iter().all(std::process::ExitStatus::success), "{ends:?}, {drops:?}");
    assert!(flows > 0, "moves by filter take flows along");
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    // The server behind the second port, which asks the service too, knows no address inside.
    assert_eq!(behind.peers(0), names(&["10.0.2.1", "10.0.2.77"]));
    assert_eq!(behind.peers(1), names(&["10.0.2.1", "10.0.2.2"]));
    let translated = counted(&dataplane, "translated");
    assert!(drops.iter().all(|drop| drop.reason != "nat"), "{drops:?}");
    dataplane.balance_at_rest().unwrap();
    println!(
        "{rounds} times 1 -> 4 -> 1, {flows} flows by filter, {translated} packets translated"
    );
}

#[test]
#[ignore = "needs root"]
fn outside_addresses_answer_as_the_router_and_errors_reach_who_is_behind_them() {
    let behind = Behind::new();
    let dataplane = behind.node.connect().unwrap();
    let first = dataplane.instances().unwrap()[0].id;
    let second = dataplane.add_instance("second").unwrap().id;
    moved(&dataplane, first, second, &Selection::Buckets("0-2047".to_owned()));
    // Echoes through it, and to it: neighbours find either address at the router.
    for (host, address) in [(0, "10.0.2.2"), (2, "10.0.2.2"), (1, "10.0.2.1"), (1, "10.0.2.77")] {
        let said = behind.host(host).run(&format!("ping -n -c 3 -i 0.01 -W 10 {address}")).unwrap();
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    let fails = |host: usize, line: &str| {
        let mut words = line.split(' ');
        let mut command = behind.host(host).command(words.next().unwrap());
        let output = command.args(words).output().unwrap();
        assert!(!output.status.success(), "{line}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The router's own error about a packet that it has translated is about what was sent.
    let said = fails(0, "ping -n -c 1 -t 1 -W 10 10.0.2.2");
    assert!(said.contains("From 10.0.1.1") && said.contains("Time to live exceeded"), "{said}");
    // So is that of a host outside, and one that nobody asked for is told that nothing listens.
    let udp = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
               s.settimeout(20); s.connect(('ADDRESS', 9)); s.send(b'?')\n\
               try: s.recv(9)\nexcept ConnectionRefusedError: print('refused')";
    for (host, address) in [(0, "10.0.2.2"), (1, "10.0.2.77")] {
        let mut command = behind.host(host).command("python3");
        let output = command.args(["-c", &udp.replace("ADDRESS", address)]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("refused"), "{host} asks {address}: {output:?}");
    }
    assert_eq!(counted(&dataplane, "dropped.unsolicited"), 1);
    // Flows that a filter by one of their names would part are not moved.
    for filter in ["src=10.0.1.0/24", "dst=10.0.2.77/32", "proto=tcp,dport=80"] {
        let refused = dataplane.start_move(first, second, Selection::Filter(filter.to_owned()));
        let refused = refused.expect_err(filter);
        assert!(refused.message().contains("move buckets"), "{refused:?}");
    }
    dataplane.balance_at_rest().unwrap();
}
