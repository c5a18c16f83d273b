//! The kernel's NAT: nftables in a namespace that forwards from one device to another.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use weir_state_transfer::FlowKey;
use weir_testbed::kernel_router::{KernelRouter, MARKS_FROM};
use weir_testbed::namespace::Namespace;

use crate::frames::{self, EXTERNAL, EXTERNAL6};

/// Longer than a test takes, in seconds: no connection ends by its time.
const TIMEOUT: &str = "5000";
const TIMEOUTS: [&str; 13] = [
    "tcp_timeout_close",
    "tcp_timeout_close_wait",
    "tcp_timeout_fin_wait",
    "tcp_timeout_last_ack",
    "tcp_timeout_max_retrans",
    "tcp_timeout_syn_recv",
    "tcp_timeout_syn_sent",
    "tcp_timeout_time_wait",
    "tcp_timeout_unacknowledged",
    "udp_timeout",
    "udp_timeout_stream",
    "icmp_timeout",
    // IPv6 has its own for echoes.
    "icmpv6_timeout",
];

/// Flows that one command puts into a map.
const TAUGHT_AT_ONCE: usize = 200;

/// A map of the kernel: which flows to ports of an external address go where.
pub(crate) struct Map {
    pub(crate) name: &'static str,
    /// `tcp` or `udp`.
    pub(crate) protocol: &'static str,
    pub(crate) address: IpAddr,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// Removed, with its namespaces, when dropped.
pub(crate) struct Kernel(KernelRouter);

impl Kernel {
    /// A namespace that translates by rules for the chains `prerouting` and `postrouting`, such as
    /// `ip postrouting snat to 192.0.2.1`, and drops what belongs to no connection.
    pub(crate) fn new(pick_up: bool, rules: &[&str]) -> Result<Self> {
        let router = KernelRouter::new(["203.0.113.254", "fe80::e"])?;
        rules_of(router.namespace(), rules)?;
        router.track(TIMEOUTS.map(|key| (key, TIMEOUT)))?;
        router.track([("tcp_loose", if pick_up { "1" } else { "0" })])?;
        Ok(Self(router))
    }

    /// Has flows to an external address and ports go where a map says that is empty yet, by the
    /// address and port of the client and the port that it asks.
    pub(crate) fn map(&self, map: &Map) -> Result<()> {
        let Map { name, protocol, address, first, last } = map;
        let (family, kind) = if address.is_ipv4() { ("ip", "ipv4") } else { ("ip6", "ipv6") };
        let (service, end) = ("inet_service", format!("{kind}_addr . inet_service"));
        let type_of = format!("{{ type {end} . {service} : {end} ; }}");
        self.nft(&format!("add map {family} t {name} {type_of}"))?;
        let ports = if first == last { format!("{first}") } else { format!("{first}-{last}") };
        let asked = format!("{family} daddr {address} {protocol} dport {ports}");
        let client = format!("{family} saddr . {protocol} sport . {protocol} dport");
        let to = format!("dnat {family} to {client} map @{name}");
        self.nft(&format!("add rule {family} t prerouting {asked} {to}"))
    }

    /// Puts flows, as their clients know them, with what they go to into a map.
    pub(crate) fn teach(&self, map: &Map, choices: &[(FlowKey, SocketAddr)]) -> Result<()> {
        let family = if map.address.is_ipv4() { "ip" } else { "ip6" };
        choices.chunks(TAUGHT_AT_ONCE).try_for_each(|choices| {
            let element = |(flow, to): &(FlowKey, SocketAddr)| {
                let (client, ports) = (flow.src(), (flow.src_port(), flow.dst_port()));
                format!("{client} . {} . {} : {} . {}", ports.0, ports.1, to.ip(), to.port())
            };
            let elements: Vec<_> = choices.iter().map(element).collect();
            let name = map.name;
            self.nft(&format!("add element {family} t {name} {{ {} }}", elements.join(" , ")))
        })
    }

    fn nft(&self, command: &str) -> Result<()> {
        self.0.namespace().run(&format!("nft {command}")).map(drop)
    }

    /// What becomes of a frame: none if it is dropped.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let out = self.0.pass(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
        out.last().map(|frame| frames::with_ttl(frame))
    }
}

fn rules_of(router: &Namespace, rules: &[&str]) -> Result<()> {
    let add = |rule: String| router.run(&format!("nft add rule {rule}")).map(drop);
    for (family, external) in [("ip", EXTERNAL.to_string()), ("ip6", EXTERNAL6.to_string())] {
        router.run(&format!("nft add table {family} t"))?;
        for (chain, kind, hook, priority) in [
            ("raw", "filter", "prerouting", -300),
            ("prerouting", "nat", "prerouting", -100),
            ("forward", "filter", "forward", 0),
            ("postrouting", "nat", "postrouting", 100),
        ] {
            let hook = format!("{{ type {kind} hook {hook} priority {priority}; }}");
            router.run(&format!("nft add chain {family} t {chain} {hook}"))?;
        }
        add(format!("{family} t forward ct state invalid drop"))?;
        // What is to or from an external address here is of no flow that is translated.
        add(format!("{family} t forward {family} daddr {external} drop"))?;
        add(format!("{family} t forward {family} saddr {external} drop"))?;
    }
    add(format!("ip t raw ip saddr {MARKS_FROM} notrack"))?;
    for rule in rules {
        let (family, rest) = rule.split_once(' ').unwrap_or_default();
        add(format!("{family} t {rest}"))?;
    }
    Ok(())
}
