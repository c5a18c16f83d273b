//! NAT against that of the kernel: the same packets, packet by packet the same rewrites but for
//! the port chosen, for captures whose hosts are all inside and for flows to services.
//!
//! What is otherwise than in Linux 6.18, and kept out of the comparison: the kernel puts fragments
//! together first, and also translates questions of ICMP that are no echoes.
//!
//! All need root and fail without it. Each makes its own namespaces and removes them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod frames;
mod kernel;
mod ours;
#[path = "../captures/source.rs"]
mod source;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use weir_dataplane::nf::nat::{Rules, Service, SourceRule};
use weir_state_transfer::{FlowKey, protocol};

use frames::{EXTERNAL, EXTERNAL6};
use kernel::Kernel;
use ours::Ours;

/// Both NATs, told the same.
struct Both {
    kernel: Kernel,
    ours: Ours,
    /// Flows by their first name, with the second that they have there and here.
    names: HashMap<FlowKey, [FlowKey; 2]>,
    tally: BTreeMap<String, usize>,
    differences: Vec<String>,
}

impl Both {
    fn new(pick_up: bool, nft: &[&str], rules: Rules) -> Self {
        Self {
            kernel: Kernel::new(pick_up, nft).unwrap(),
            ours: Ours::new(pick_up, rules),
            names: HashMap::new(),
            tally: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    /// Lets both see a packet as its sender knows its flow, and errors about it as it arrives.
    fn see(&mut self, frame: &[u8]) {
        let flow = frames::flow(frame);
        // An answer is sent to the name that each NAT has given to the flow.
        let names = self.names.get(&flow.reversed()).map(|names| names.map(|name| name.reversed()));
        let is_answer = names.is_some();
        let sent = match names {
            Some(names) => names.map(|name| frames::renamed(frame, &name)),
            None => [frame.to_vec(), frame.to_vec()],
        };
        let Some(arrived) = self.pass(&sent, &flow) else { return };
        if is_answer {
            // Both have translated it back.
            self.expect(&flow, "answer", &arrived, [frame, frame]);
        } else {
            let names = [0, 1].map(|n| frames::flow(&arrived[n]));
            self.compare(&flow, &names);
            let renamed = names.map(|name| frames::renamed(frame, &name));
            self.expect(&flow, "packet", &arrived, [&renamed[0], &renamed[1]]);
            self.names.insert(flow, names);
        }
        let is_error = frames::meta(frame).is_some_and(|meta| meta.protocol != flow.protocol());
        if !is_error {
            self.see_errors(&flow, &sent, &arrived, is_answer);
        }
    }

    /// Both give a flow the same name but for the port, or identifier, that each chooses, and both
    /// keep what it has where neither translates.
    fn compare(&mut self, flow: &FlowKey, names: &[FlowKey; 2]) {
        let fixed = |name: &FlowKey| {
            let port = if protocol::is_icmp(flow.protocol()) { 0 } else { name.dst_port() };
            (name.src(), name.dst(), port, name == flow)
        };
        let [theirs, ours] = names;
        if fixed(theirs) != fixed(ours) {
            self.differences.push(format!("{flow}: kernel {theirs}, here {ours}"));
        }
    }

    /// Errors about a packet from both sides are about it as it was sent.
    fn see_errors(
        &mut self,
        flow: &FlowKey,
        sent: &[Vec<u8>; 2],
        arrived: &[Vec<u8>; 2],
        is_answer: bool,
    ) {
        let errors = [0, 1].map(|n| frames::error_about(&arrived[n], is_answer));
        let names = [0, 1].map(|n| frames::flow(&sent[n]).reversed());
        let expected = [0, 1].map(|n| frames::renamed(&errors[n], &names[n]));
        if let Some(arrived) = self.pass(&errors, flow) {
            self.expect(flow, "error", &arrived, [&expected[0], &expected[1]]);
        }
    }

    /// What each makes of its frame, if both let it pass.
    fn pass(&mut self, sent: &[Vec<u8>; 2], flow: &FlowKey) -> Option<[Vec<u8>; 2]> {
        match (self.kernel.pass(&sent[0]), self.ours.pass(&sent[1])) {
            (Some(theirs), Ok(ours)) => Some([theirs, ours]),
            (None, Err(_)) => {
                *self.tally.entry("dropped".to_owned()).or_default() += 1;
                None
            }
            (theirs, ours) => {
                let theirs = theirs.map(|frame| frames::flow(&frame));
                let ours = ours.map(|frame| frames::flow(&frame));
                self.differences.push(format!("{flow}: kernel {theirs:?}, here {ours:?}"));
                None
            }
        }
    }

    fn expect(&mut self, flow: &FlowKey, what: &str, arrived: &[Vec<u8>; 2], expected: [&[u8]; 2]) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
        for (who, (arrived, expected)) in
            ["kernel", "here"].iter().zip(arrived.iter().zip(expected))
        {
            if arrived != expected {
                self.differences
                    .push(format!("{flow}, {what}, {who}:\n{arrived:02x?}\n{expected:02x?}"));
            }
        }
    }
}

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
    // Both let most pass: to drop all would be to agree as well.
    assert!(sum["packet"] > sum["dropped"] && sum["answer"] > sum["dropped"], "{sum:?}");
    assert!(sum["error"] > sum["dropped"], "{sum:?}");
}

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

/// A service with hosts outside and inside (hairpin).
fn service() -> (Vec<&'static str>, Rules) {
    let nft = vec![
        "ip prerouting ip daddr 192.0.2.77 tcp dport 80 dnat to 10.9.0.1:8080",
        "ip postrouting ip saddr 10.0.0.0/8 snat to 192.0.2.77",
    ];
    let from = "10.0.0.0/8".parse().unwrap();
    let source = SourceRule { from, to: None, pool: vec![EXTERNAL.into()], ports: 1..=u16::MAX };
    let backends = vec![(Ipv4Addr::new(10, 9, 0, 1), 8080).into()];
    let (address, protocol, ports) = (EXTERNAL.into(), protocol::TCP, 80..=80);
    let service = Service { address, protocol, ports, backends };
    (nft, Rules::new(vec![source], vec![service]).unwrap())
}

#[test]
#[ignore = "needs root"]
fn flows_to_a_service_from_both_sides_are_translated_as_the_kernel_does() {
    let (nft, rules) = service();
    let mut both = Both::new(false, &nft, rules);
    for port in 2_000..2_200 {
        for client in [[198, 51, 100, 1], [10, 1, 0, 1]] {
            let (client, service) = ((IpAddr::from(client), port), (IpAddr::V4(EXTERNAL), 80));
            for flags in ["S", "SA", "A", "FA"] {
                let there = flags != "SA";
                let (src, dst) = if there { (client, service) } else { (service, client) };
                let seq = if flags == "S" || flags == "SA" { 0 } else { 1 };
                both.see(&frames::packet(src, dst, flags, seq));
            }
        }
        let other = (IpAddr::from([198, 51, 100, 2]), port);
        both.see(&frames::packet(other, (EXTERNAL.into(), 81), "S", 0));
        both.see(&frames::packet(other, (EXTERNAL.into(), 53), "", 0));
    }
    println!("{:?}", both.tally);
    assert!(both.differences.is_empty(), "{}", both.differences[..1].join("\n\n"));
    assert_eq!(both.tally["dropped"], 400);
    assert_eq!((both.tally["packet"], both.tally["answer"]), (1_200, 400));
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
    let (nft, rules) = service();
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
