//! NAT against that of the kernel: the same packets, packet by packet the same rewrites but for
//! the port chosen, for captures whose hosts are all inside and for flows to services. Where there
//! are several backends, the kernel is told which one ours has chosen (`backends.rs`).
//!
//! What is otherwise than in Linux 6.18, and kept out of the comparison: the kernel puts fragments
//! together first, and also translates questions of ICMP that are no echoes.
//!
//! All need root and fail without it. Each makes its own namespaces and removes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backends;
mod both;
mod frames;
mod kernel;
mod ours;
#[path = "../captures/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weir_dataplane::nf::nat::{Rules, Service, SourceRule};
use weir_state_transfer::protocol;

use both::Both;
use frames::{EXTERNAL, EXTERNAL6};
use ours::Ours;

/// Everybody is inside.
fn everybody() -> (Vec<&'static str>, Rules) {
    let rule = |from: &str, external: IpAddr| SourceRule {
        from: from.parse().unwrap(),
        to: None,
        pool: vec![external],
        ports: 1..=u16::MAX,
    };
    let rules = vec![rule("0.0.0.0/0", EXTERNAL.into()), rule("::/0", EXTERNAL6.into())];
    let nft = vec!["ip postrouting snat to 192.0.2.77", "ip6 postrouting snat to 2001:db8:77::1"];
    (nft, Rules::new(rules, vec![]).unwrap())
}

#[test]
#[ignore = "needs root"]
fn captures_are_translated_as_the_kernel_does() {
    let Some(captures) = source::captures() else {
        println!(
            "data test skipped: translated as the kernel does: ../shared/data/traces is absent"
        );
        return;
    };
    let (mut differences, mut sum) = (Vec::new(), BTreeMap::<String, usize>::new());
    for capture in captures {
        for pick_up in [false, true] {
            let (nft, rules) = everybody();
            let mut both = Both::new(pick_up, &nft, rules);
            for frame in capture.frames.iter().filter_map(|frame| frames::comparable(frame)) {
                both.see(&frame);
            }
            assert!(!both.tally.is_empty(), "nothing of {} was compared", capture.name);
            let how = if pick_up { "picking up" } else { "strict" };
            println!(
                "data test ran: translated as the kernel does: {} ({how}): {:?}, {} too long",
                capture.name, both.tally, capture.too_long
            );
            differences.extend(both.differences.into_iter().take(3));
            both.tally.into_iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
    }
    println!("{sum:?}");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    // To drop all would be to agree as well.
    for (what, least) in LEAST {
        assert!(sum[what] >= least, "{} of {what}, and {least} are the least", sum[what]);
    }
}

/// What is compared of the captures at the least.
const LEAST: [(&str, usize); 4] =
    [("packet", 125_000), ("answer", 75_000), ("error", 200_000), ("dropped", 17_000)];

/// Conversations of IPv6, of which the captures have few.
#[test]
#[ignore = "needs root"]
fn flows_of_ipv6_are_translated_as_the_kernel_does() {
    let (nft, rules) = everybody();
    let mut both = Both::new(false, &nft, rules);
    for number in 1..200 {
        // Not one more in both, or all flows would be in one bucket.
        let host = (IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, number]), 31 * number);
        let remote = (IpAddr::from([0x2001, 0xdb8, 9, 0, 0, 0, 0, 1]), 80);
        both.see(&frames::packet(host, remote, "", 0));
        both.see(&frames::packet(remote, host, "", 0));
        for flags in ["S", "SA", "A"] {
            let (src, dst) = if flags == "SA" { (remote, host) } else { (host, remote) };
            both.see(&frames::packet(src, dst, flags, u32::from(flags == "A")));
        }
        both.see(&frames::echo6(host, remote.0, true));
        both.see(&frames::echo6((remote.0, host.1), host.0, false));
    }
    println!("{:?}", both.tally);
    assert!(both.differences.is_empty(), "{}", both.differences[..1].join("\n\n"));
    assert_eq!((both.tally["packet"], both.tally["answer"]), (4 * 199, 3 * 199));
}

/// Hosts inside, of both families.
const INSIDE: [&str; 2] = ["10.0.0.0/8", "fd00::/8"];
/// What the kernel is told of them.
const SOURCES: [&str; 2] = [
    "ip postrouting ip saddr 10.0.0.0/8 snat to 192.0.2.77",
    "ip6 postrouting ip6 saddr fd00::/8 snat to 2001:db8:77::1",
];
/// A service of each kind, by protocol, first external port and backend: the last has ten ports.
const SERVICES: [(u8, u16, &str); 4] = [
    (protocol::TCP, 80, "10.9.0.1:8080"),
    (protocol::UDP, 5_060, "10.9.0.2:5061"),
    (protocol::TCP, 443, "[fd00::9]:8443"),
    (protocol::UDP, 7_000, "10.9.0.3:7000"),
];

/// The services, and the translation of who is inside, so that those may use them too (hairpin).
fn services() -> (Vec<&'static str>, Rules) {
    let dnat = [
        "ip prerouting ip daddr 192.0.2.77 tcp dport 80 dnat to 10.9.0.1:8080",
        "ip prerouting ip daddr 192.0.2.77 udp dport 5060 dnat to 10.9.0.2:5061",
        "ip6 prerouting ip6 daddr 2001:db8:77::1 tcp dport 443 dnat to [fd00::9]:8443",
        "ip prerouting ip daddr 192.0.2.77 udp dport 7000-7009 dnat to 10.9.0.3",
    ];
    let service = |(protocol, first, backend): (u8, u16, &str)| {
        let backend: SocketAddr = backend.parse().unwrap();
        let last = if first == backend.port() { first + 9 } else { first };
        let (address, ports) = (external(&backend), first..=last);
        Service { address, protocol, ports, backends: vec![backend] }
    };
    let nft = dnat.into_iter().chain(SOURCES).collect();
    (nft, Rules::new(sources(), SERVICES.map(service).to_vec()).unwrap())
}

/// The translation of who is inside.
fn sources() -> Vec<SourceRule> {
    let source = |(from, external): (&str, IpAddr)| SourceRule {
        from: from.parse().unwrap(),
        to: None,
        pool: vec![external],
        ports: 1..=u16::MAX,
    };
    INSIDE.into_iter().zip([EXTERNAL.into(), EXTERNAL6.into()]).map(source).collect()
}

fn external(backend: &SocketAddr) -> IpAddr {
    if backend.is_ipv4() { EXTERNAL.into() } else { EXTERNAL6.into() }
}

/// A client outside and one inside, of the family of a backend.
fn clients(backend: &SocketAddr) -> [IpAddr; 2] {
    if backend.is_ipv4() {
        [[198, 51, 100, 1].into(), [10, 1, 0, 1].into()]
    } else {
        [[0x2001, 0xdb8, 9, 0, 0, 0, 0, 1].into(), [0xfd00, 0, 0, 1, 0, 0, 0, 1].into()]
    }
}

#[test]
#[ignore = "needs root"]
fn flows_to_services_from_both_sides_are_translated_as_the_kernel_does() {
    let (nft, rules) = services();
    let mut both = Both::new(false, &nft, rules);
    for port in 2_000..2_200 {
        for (protocol, first, backend) in SERVICES {
            let backend = backend.parse().unwrap();
            let more = if first == 7_000 { port % 10 } else { 0 };
            let service = (external(&backend), first + more);
            for client in clients(&backend).map(|client| (client, port)) {
                let tcp = [(true, "S", 0), (false, "SA", 0), (true, "A", 1), (true, "FA", 1)];
                let udp = [(true, "", 0), (false, "", 0), (true, "", 0)];
                let packets = if protocol == protocol::TCP { &tcp[..] } else { &udp };
                for (there, flags, seq) in packets {
                    let (src, dst) = if *there { (client, service) } else { (service, client) };
                    both.see(&frames::packet(src, dst, flags, *seq));
                }
            }
        }
        // No service is there: at that port, or of that protocol.
        let other = (IpAddr::from([198, 51, 100, 2]), port);
        for (to, flags) in [(81, "S"), (53, ""), (80, ""), (5_060, "S"), (7_010, "")] {
            both.see(&frames::packet(other, (EXTERNAL.into(), to), flags, 0));
        }
    }
    println!("{:?}", both.tally);
    assert!(both.differences.is_empty(), "{}", both.differences[..1].join("\n\n"));
    assert_eq!(both.tally["dropped"], 5 * 200);
    assert_eq!((both.tally["packet"], both.tally["answer"]), (20 * 200, 8 * 200));
}

/// The comparison has to notice where the two are told different things.
#[test]
#[ignore = "needs root"]
fn another_external_address_and_a_connection_picked_up_are_noticed() {
    let (nft, rules) = everybody();
    let mut both = Both::new(false, &nft[..1], rules.clone());
    both.ours = Ours::new(true, rules);
    let end = |n, port| (IpAddr::from([198, 51, 100, n]), port);
    both.see(&frames::packet(end(1, 1), end(2, 80), "A", 5));
    assert_eq!(both.differences.len(), 1, "picked up");
    let mut both = Both::new(false, &["ip postrouting snat to 192.0.2.78"], everybody().1);
    both.see(&frames::packet(end(1, 1), end(2, 80), "S", 5));
    assert_eq!(both.differences.len(), 1, "another address: {:?}", both.differences);
    // A NAT that does nothing is right for all names but the first.
    let mut both = Both::new(false, &everybody().0, Rules::default());
    both.see(&frames::packet(end(1, 1), end(2, 80), "S", 5));
    both.see(&frames::packet(end(2, 80), end(1, 1), "SA", 5));
    assert_eq!(both.differences.len(), 1, "nothing done: {:?}", both.differences);
    let (nft, rules) = services();
    let mut both = Both::new(false, &nft[1..], rules);
    both.see(&frames::packet(end(1, 1), (EXTERNAL.into(), 80), "S", 5));
    assert_eq!(both.differences.len(), 1, "no service: {:?}", both.differences);
    let mut both = Both::new(false, &[], everybody().1);
    let mut frame = frames::packet(end(1, 2), end(2, 80), "S", 5);
    frame[50] ^= 1;
    let expected = frames::packet(end(1, 2), end(2, 80), "S", 5);
    both.expect(
        &frames::flow(&frame),
        "packet",
        &[frame.clone(), expected.clone()],
        [&expected, &expected],
    );
    assert_eq!(both.differences.len(), 1, "a bit");
}
