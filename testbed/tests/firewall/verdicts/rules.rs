//! Random rules, in the words of our firewall and in those of nftables.

use std::net::IpAddr;

use fastrand::Rng;
use ipnet::IpNet;
use weir_dataplane::nf::firewall::Rules;
use weir_state_transfer::{FlowKey, protocol};

/// What becomes of a connection that begins, by the first rule that matches its first packet.
#[derive(Clone, Copy, Debug)]
enum Action {
    Accept,
    Drop,
    Reject,
}

/// Rules in their order. What none of them is about is dropped.
#[derive(Clone, Debug)]
pub(crate) struct RuleSet(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    action: Action,
    prefixes: [Option<IpNet>; 2],
    protocol: Option<u8>,
    /// Of source and destination, from the first to the last.
    ports: [Option<(u16, u16)>; 2],
}

impl RuleSet {
    /// So many rules, each about flows like one of those given: its addresses or networks around
    /// them, the protocol, the ports or others beside them, or some of these.
    pub(crate) fn draw(rng: &mut Rng, flows: &[FlowKey], count: usize) -> Self {
        let rule = |_| {
            let flow = rng.choice(flows).unwrap();
            Rule::like(rng, flow)
        };
        Self((0..count).map(rule).collect())
    }

    /// As our firewall is told.
    pub(crate) fn ours(&self) -> Vec<String> {
        self.0.iter().map(Rule::ours).collect()
    }

    /// As nftables is told of connections that begin.
    pub(crate) fn nft(&self) -> Vec<String> {
        self.0.iter().map(Rule::nft).collect()
    }
}

impl Rule {
    fn like(rng: &mut Rng, flow: &FlowKey) -> Self {
        let action = match rng.u8(..8) {
            0..4 => Action::Accept,
            4..5 => Action::Drop,
            _ => Action::Reject,
        };
        // A connection begins either way.
        let flow = if rng.bool() { *flow } else { flow.reversed() };
        let prefixes = [flow.src(), flow.dst()].map(|address| around(rng, address));
        let has_ports = protocol::has_ports(flow.protocol());
        let about_all = prefixes == [None; 2];
        let protocol = (about_all || rng.bool()).then_some(flow.protocol());
        let ports = [flow.src_port(), flow.dst_port()]
            .map(|port| if has_ports && rng.u8(..4) == 0 { Some(near(rng, port)) } else { None });
        Self { action, prefixes, protocol, ports }
    }

    fn ours(&self) -> String {
        let action = match self.action {
            Action::Accept => "accept",
            Action::Drop => "drop",
            Action::Reject => "reject",
        };
        let mut fields = Vec::new();
        for (name, prefix) in ["src", "dst"].iter().zip(&self.prefixes) {
            fields.extend(prefix.map(|prefix| format!("{name}={prefix}")));
        }
        fields.extend(self.protocol.map(|number| format!("proto={number}")));
        for (name, ports) in ["sport", "dport"].iter().zip(&self.ports) {
            fields.extend(ports.map(|(first, last)| format!("{name}={first}-{last}")));
        }
        format!("{action} {}", fields.join(","))
    }

    fn nft(&self) -> String {
        let mut words = Vec::new();
        for (name, prefix) in ["saddr", "daddr"].iter().zip(&self.prefixes) {
            let family = |prefix: &IpNet| if prefix.addr().is_ipv4() { "ip" } else { "ip6" };
            words.extend(prefix.map(|prefix| format!("{} {name} {prefix}", family(&prefix))));
        }
        match self.protocol {
            Some(number) => words.push(format!("meta l4proto {number}")),
            None if self.ports.iter().any(Option::is_some) => {
                words.push("meta l4proto { tcp , udp , sctp }".to_owned());
            }
            None => {}
        }
        for (name, ports) in ["sport", "dport"].iter().zip(&self.ports) {
            words.extend(ports.map(|(first, last)| format!("th {name} {first}-{last}")));
        }
        words.push(match self.action {
            Action::Accept => "accept".to_owned(),
            Action::Drop => "drop".to_owned(),
            Action::Reject => "reject with icmpx admin-prohibited".to_owned(),
        });
        words.join(" ")
    }
}

/// The rules of our firewall, from what each does and about what.
pub(crate) fn rules_of(texts: &[String]) -> Rules {
    let rule = |(place, text): (usize, &String)| {
        let text = format!("r{place}: {text}");
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    Rules::new(texts.iter().enumerate().map(rule).collect()).unwrap()
}

/// A network around an address, or none.
fn around(rng: &mut Rng, address: IpAddr) -> Option<IpNet> {
    let lengths: [&[u8]; 2] = [&[1, 8, 16, 24, 28, 31, 32], &[1, 32, 48, 64, 120, 124, 128]];
    let length = *rng.choice(lengths[usize::from(address.is_ipv6())]).unwrap();
    rng.bool().then(|| IpNet::new(address, length).unwrap().trunc())
}

/// Ports around one, or beside it.
fn near(rng: &mut Rng, port: u16) -> (u16, u16) {
    match rng.u8(..4) {
        0 => (port, port),
        1 => (port.saturating_sub(rng.u16(..1_000)), port.saturating_add(rng.u16(..1_000))),
        2 => (0, port.saturating_sub(1)),
        _ => (port.saturating_add(1), u16::MAX),
    }
}
