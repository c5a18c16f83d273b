//! Real captures, beside a naive second implementation and beside tshark.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use weir_state_transfer::protocol;

use super::naive::Naive;
use super::*;

const CAPTURES: [&str; 19] = [
    "OISF_suricata-verify__http-range-multiflows__input.pcap",
    "OISF_suricata-verify__output-eve-ftp-data__input.pcap",
    "OISF_suricata-verify__tcp-session-syn-flood-drop-precedence__input.pcap",
    "cisco_mercury__emix.pcap",
    "cisco_mercury__smb.pcap",
    "cisco_mercury__top_100_fingerprints.pcap",
    "http-489.pcap",
    "seladb_PcapPlusPlus__650HttpResponses.pcap",
    "snabbco_snabb__sanitized4k.pcap",
    "zeek_zeek__206_example_a.pcap",
    "zeek_zeek__cwd-navigation.pcap",
    "zeek_zeek__fin_retransmission.pcap",
    "zeek_zeek__handshake-reorder.pcap",
    "zeek_zeek__methods.pcap",
    "zeek_zeek__missing-syn.pcap",
    "zeek_zeek__pipelined-requests.pcap",
    "zeek_zeek__ssh-dups.pcap",
    "zeek_zeek__tcp-fast-open.pcap",
    "zeek_zeek__wikipedia.pcap",
];

/// One instance over a capture, and the naive look at the packets that a router takes.
fn both(name: &str) -> Option<(Node, Naive, Vec<Timed>)> {
    let (node, naive, _, frames) = with_refused(name)?;
    Some((node, naive, frames))
}

/// The same, and the naive look at those that it refuses: they are malformed.
fn with_refused(name: &str) -> Option<(Node, Naive, Naive, Vec<Timed>)> {
    let frames = capture(name)?;
    let (mut node, mut naive, mut refused) = (Node::new(1), Naive::default(), Naive::default());
    for timed in &frames {
        let look = if node.take(timed).is_some() { &mut naive } else { &mut refused };
        look.take(&timed.frame);
    }
    Some((node, naive, refused, frames))
}

/// Services over TCP, with the names of each.
fn services(node: &Node) -> Vec<(IpAddr, u16, Vec<String>)> {
    let of_host = |(id, host): (&HostId, &Host)| {
        let address = id.address;
        let tcp = host.services().filter(|(port, _)| port.protocol == protocol::TCP);
        let named = tcp.map(move |(port, service)| {
            let names = service.names().map(|(name, _)| name.as_str().to_owned()).collect();
            (address, port.number, names)
        });
        named.collect::<Vec<_>>()
    };
    node.assets.hosts().flat_map(of_host).collect()
}

/// Whether a host may have services that are left out, with ports as high as this.
fn may_lack(node: &Node, host: IpAddr, port: u16) -> bool {
    let id = HostId { service: ServiceId(0), address: host };
    let Some(known) = node.assets.host(&id).map(Host::services) else { return false };
    known.len() == SERVICES_MAX && known.map(|(port, _)| port.number).max() < Some(port)
}

#[test]
fn hosts_and_services_are_those_that_a_naive_look_finds() {
    for name in CAPTURES {
        let Some((node, naive, frames)) = both(name) else { continue };
        let hosts: BTreeSet<_> = node.assets.hosts().map(|(id, _)| id.address).collect();
        let sent: BTreeSet<_> = naive.hosts.iter().copied().filter(|host| is_host(*host)).collect();
        assert_eq!(hosts, sent, "{name}");
        let services = services(&node);
        let mut named = 0;
        for (host, port, names) in &services {
            let answered = naive.services.contains(&(*host, *port));
            assert!(answered || !names.is_empty(), "{name}: {host} {port} has not answered");
            for service in names {
                named += 1;
                let (protocol, product) = service.split_once(' ').unwrap_or((service, ""));
                if ["http", "ssh", "ftp", "smtp", "imap", "pop3"].contains(&protocol) {
                    let product = product.split(' ').next().unwrap_or_default();
                    assert!(
                        naive.has_said(*host, *port, product),
                        "{name}: {host} {port} {service}"
                    );
                }
            }
        }
        for (host, port) in &naive.services {
            let known = services.iter().any(|(h, p, _)| (h, p) == (host, port));
            assert!(known || may_lack(&node, *host, *port), "{name}: {host} {port}");
        }
        let systems: BTreeSet<_> = node
            .assets
            .hosts()
            .filter_map(|(_, host)| host.system(node.assets.signatures())?.name)
            .collect();
        let totals = node.assets.totals();
        println!(
            "data test ran: assets: {name}: {} of {} packets taken; {} hosts, {} services over TCP, {named} names of \
             them, {} of {} handshakes in the table: {systems:?}",
            totals.packets.value(),
            frames.len(),
            hosts.len(),
            services.len(),
            totals.handshakes.value() - totals.unmatched.value(),
            totals.handshakes.value(),
        );
    }
}

#[test]
fn a_capture_that_is_cut_gives_the_same_hosts_and_records() {
    for name in CAPTURES {
        let Some(frames) = capture(name) else { continue };
        let frames = &frames[..frames.len().min(4_000)];
        let mut single = Node::new(1);
        single.take_all(frames);
        let cuts = 8;
        for at in (0..cuts).map(|cut| frames.len() * cut / cuts) {
            let (end, records) = transfer::moved(frames, at);
            assert_eq!(records, single.records, "{name} moved at {at}");
            assert_eq!(transfer::hosts_of(&end), transfer::hosts_of(&single), "{name} at {at}");
        }
        println!(
            "data test ran: assets: {name}: {} records, the same with {cuts} moves",
            single.records.len()
        );
    }
}

/// Another version may say something else.
const TSHARK: &str = "4.0";

/// Ports from which tshark sees a SYN+ACK, or `None` where there is no tshark of that version.
fn tshark(name: &str) -> Option<BTreeSet<(IpAddr, u16)>> {
    let version = Command::new("tshark").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains(&format!("(Wireshark) {TSHARK}.")) {
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces").join(name);
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path);
    command.args(["-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 1 && !icmp && !icmpv6"]);
    command.args(["-T", "fields", "-e", "ip.src", "-e", "ipv6.src", "-e", "tcp.srcport"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let [v4, v6, port] = fields[..] else { return None };
        Some((if v4.is_empty() { v6 } else { v4 }.parse().ok()?, port.parse().ok()?))
    };
    Some(text.lines().filter_map(parse).collect())
}

#[test]
fn services_are_those_from_whose_ports_tshark_sees_an_answer() {
    for name in ["http-489.pcap", "cisco_mercury__emix.pcap", "cisco_mercury__smb.pcap"] {
        let Some((node, _, refused, _)) = with_refused(name) else { continue };
        let Some(theirs) = tshark(name) else {
            println!(
                "data test skipped: assets: {name} by tshark: tshark {TSHARK} is not installed"
            );
            continue;
        };
        let ours = services(&node);
        let missing: Vec<_> = theirs
            .iter()
            .filter(|(host, port)| {
                let known = ours.iter().any(|(h, p, _)| (h, p) == (host, port));
                !known
                    && !may_lack(&node, *host, *port)
                    && !refused.services.contains(&(*host, *port))
            })
            .collect();
        let unanswered = ours
            .iter()
            .filter(|(host, port, names)| !theirs.contains(&(*host, *port)) && names.is_empty());
        let unanswered: Vec<_> = unanswered.collect();
        println!(
            "data test ran: assets: {name} by tshark: {} services, as it sees them",
            theirs.len()
        );
        assert!(missing.is_empty() && unanswered.is_empty(), "{missing:?} {unanswered:?}");
    }
}
