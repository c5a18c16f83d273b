//! The tools that everybody has: ping, traceroute, iperf3, as they are.

use serde_json::Value;
use weir_testbed::node::Shape;
use weir_testbed::process::Process;
use weir_testbed::topology::Host;
use weir_testbed::wait::LIMIT;

use super::Setup;

#[test]
#[ignore = "needs root"]
fn hosts_ping_each_other_and_the_router_in_both_families() {
    let setup = Setup::new(&Shape::default());
    let host = &setup.topology.hosts[0].namespace;
    for target in ["10.0.1.1", "10.0.3.1", "10.0.4.2", "fd00:1::1", "fd00:3::1", "fd00:4::2"] {
        let said = host.run(&format!("ping -n -c 5 -i 0.01 -W 10 {target}")).unwrap();
        assert!(said.contains(" 0% packet loss") && !said.contains("DUP"), "{target}: {said}");
    }
    setup.dataplane.balance_at_rest().unwrap();
    assert_eq!(setup.transit_drops(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn large_pings_arrive_whole() {
    let setup = Setup::new(&Shape::default());
    let host = &setup.topology.hosts[0].namespace;
    for (target, size) in [("10.0.2.2", 1_472), ("fd00:2::2", 1_452)] {
        host.run(&format!("ping -n -c 3 -i 0.01 -M do -s {size} -W 10 {target}")).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn traceroute_shows_the_router_and_then_the_host() {
    let setup = Setup::new(&Shape::default());
    let host = &setup.topology.hosts[0].namespace;
    for (router, target) in [("10.0.1.1", "10.0.3.2"), ("fd00:1::1", "fd00:3::2")] {
        // One probe at a time: a kernel host answers only a few in a row (icmp_ratelimit).
        for method in ["", "-I", "-T -p 9"] {
            let said =
                host.run(&format!("traceroute -n -N 1 -q 1 -w 10 {method} {target}")).unwrap();
            let hops: Vec<&str> =
                said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            assert_eq!(hops, [router, target], "{method}: {said}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn iperf3_runs_over_ipv4() {
    iperf3("10.0.2.2");
}

#[test]
#[ignore = "needs root"]
fn iperf3_runs_over_ipv6() {
    iperf3("fd00:2::2");
}

/// TCP both ways and UDP, with the checksums that kernel hosts leave to their hardware.
fn iperf3(target: &str) {
    let setup = Setup::new(&Shape::default());
    let [client, server] = [0, 1].map(|host| &setup.topology.hosts[host]);
    let log = std::env::temp_dir().join(format!("weir-{}-iperf3.log", std::process::id()));
    let mut command = server.namespace.command("iperf3");
    command.args(["-s", "--forceflush"]);
    let mut server = Process::spawn("iperf3", &command, &log).unwrap();
    server.wait_for_line("Server listening", LIMIT).unwrap();
    for direction in ["", "-R"] {
        let tcp = measure(client, &format!("iperf3 -J -c {target} -n 20M {direction}"));
        // The sender's count ends the run, and what is on its way then is not waited for.
        assert!(tcp["end"]["sum_received"]["bytes"].as_u64().unwrap() > 5_000_000, "{tcp}");
        println!("TCP {direction} {} bit/s", tcp["end"]["sum_received"]["bits_per_second"]);
    }
    let udp = measure(client, &format!("iperf3 -J -c {target} -u -b 20M -l 1200 -t 1"));
    let sum = &udp["end"]["sum"];
    assert!(sum["packets"].as_u64().unwrap() > 1_000, "{udp}");
    setup.dataplane.balance_at_rest().unwrap();
    std::fs::remove_file(log).unwrap();
}

fn measure(client: &Host, line: &str) -> Value {
    serde_json::from_str(&client.namespace.run(line).unwrap()).unwrap()
}
