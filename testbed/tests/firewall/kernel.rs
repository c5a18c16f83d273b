//! The kernel's connection tracking: what nftables sees of a packet that passes a namespace.
//!
//! Packets go in at one device, are forwarded and come out at another. A rule behind connection
//! tracking writes the state into the DSCP of each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use weir_state_transfer::{FlowKey, ServiceId, protocol};
use weir_testbed::namespace::Namespace;
use weir_testbed::packet_socket::{Burst, PacketSocket, arriving};
use weir_testbed::veth::{End, Veth};
use weir_testbed::wait::{Deadline, LIMIT, pause};

use crate::model::{Seen, TIMEOUTS};

/// The state that each DSCP stands for.
const STATES: [(&str, u8, Seen); 4] = [
    ("invalid", 1, Seen::Invalid),
    ("new", 2, Seen::New),
    ("established", 3, Seen::Established),
    ("related", 4, Seen::Related),
];
const HOST: &str = "02:00:00:00:0f:01";
const ROUTER: &str = "02:00:00:00:0f:02";
/// [`HOST`], then [`ROUTER`]: the addresses of frames from the host.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0x0f, 2], [2, 0, 0, 0, 0x0f, 1]];

/// Removed, with its namespaces, when dropped.
pub(crate) struct Kernel {
    into: PacketSocket,
    out: PacketSocket,
    burst: Burst,
    _cables: [Veth; 2],
    namespaces: [Namespace; 2],
}

impl Kernel {
    /// A namespace that tracks connections as we are told to.
    pub(crate) fn new(pick_up: bool) -> Result<Self> {
        let (host, router) = (Namespace::new()?, Namespace::new()?);
        let cable = |device| {
            let end = |namespace, mac| End { namespace, device, mac, addresses: &[] };
            Veth::new(end(&host, HOST), end(&router, ROUTER), 1)
        };
        let cables = [cable("in")?, cable("out")?];
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/in/rp_filter", "0"),
        ] {
            router.set(key, value)?;
        }
        let via = |next_hop: &str, family: &str| -> Result<()> {
            let neighbour = format!("neigh replace {next_hop} lladdr {HOST} dev out nud permanent");
            router.run(&format!("ip {family} {neighbour}"))?;
            let route = format!("route add default via {next_hop} dev out onlink");
            router.run(&format!("ip {family} {route}")).map(drop)
        };
        via("192.0.2.1", "-4")?;
        via("fe80::f", "-6")?;
        for (table, field) in [("ip", "ip"), ("ip6", "ip6")] {
            router.run(&format!("nft add table {table} seen"))?;
            router.run(&format!(
                "nft add chain {table} seen c {{ type filter hook prerouting priority -150; }}"
            ))?;
            for (state, dscp, _) in STATES {
                let rule = format!("ct state {state} {field} dscp set {dscp} return");
                router.run(&format!("nft add rule {table} seen c {rule}"))?;
            }
        }
        // Only now, with a rule that asks for it, are connections tracked.
        for (key, value) in [
            ("tcp_loose", if pick_up { "1" } else { "0" }),
            ("tcp_be_liberal", "0"),
            // Hosts leave checksums to their network cards, and captures show what they left.
            ("checksum", "0"),
        ] {
            router.set(&format!("net/netfilter/nf_conntrack_{key}"), value)?;
        }
        for (name, seconds, _) in TIMEOUTS {
            let key = format!("net/netfilter/nf_conntrack_tcp_timeout_{name}");
            router.set(&key, &seconds.to_string())?;
        }
        Ok(Self {
            into: PacketSocket::open(&host, "in", &arriving())?,
            out: PacketSocket::open(&host, "out", &arriving())?,
            burst: Burst::default(),
            _cables: cables,
            namespaces: [host, router],
        })
    }

    /// What the packet in a frame is to the kernel.
    pub(crate) fn see(&mut self, frame: &[u8]) -> Seen {
        let frame = [&MACS.concat(), &frame[12..]].concat();
        assert_eq!(self.into.send([&frame[..]].into_iter()).unwrap(), 1, "{frame:02x?}");
        self.forwarded(&frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"))
    }

    /// The TCP connections that the kernel knows, with what is left of their time.
    pub(crate) fn tcp(&self) -> Result<BTreeMap<FlowKey, Duration>> {
        let [_, router] = &self.namespaces;
        let table = router.run("cat /proc/net/nf_conntrack")?;
        let of_tcp = table.lines().filter(|line| line.contains(" tcp "));
        of_tcp.map(|line| tcp_entry(line).with_context(|| line.to_owned())).collect()
    }

    fn forwarded(&mut self, frame: &[u8]) -> Result<Seen> {
        let deadline = Deadline::after(LIMIT);
        loop {
            let mut seen = None;
            self.out.receive(&mut self.burst, |forwarded| {
                if is_same(frame, forwarded) {
                    seen = Some(dscp(forwarded));
                }
            })?;
            if let Some(dscp) = seen {
                let known = STATES.iter().find(|(_, known, _)| *known == dscp);
                let Some((.., state)) = known else { bail!("no state for DSCP {dscp}") };
                return Ok(*state);
            }
            if deadline.left().is_zero() {
                bail!("the kernel did not forward");
            }
            pause(&mut [PollFd::new(&self.out, PollFlags::IN)], deadline.left())?;
        }
    }
}

/// The version of the kernel: its first two numbers.
pub(crate) fn release() -> Result<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = text.split(['.', '-']).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("no version: {text}"))
}

/// A line such as `ipv4 2 tcp 6 299 ESTABLISHED src=10.1.0.1 dst=10.2.0.1 sport=40000 dport=80 ...`.
fn tcp_entry(line: &str) -> Option<(FlowKey, Duration)> {
    let left = line.split_whitespace().nth(4)?.parse().ok()?;
    let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    let address = |name| value(name)?.parse::<IpAddr>().ok();
    let port = |name| value(name)?.parse::<u16>().ok();
    let ports = (port("sport=")?, port("dport=")?);
    let key = FlowKey::new(address("src=")?, address("dst=")?, ports, protocol::TCP, ServiceId(0))?;
    Some((key.both_ways(), Duration::from_secs(left)))
}

/// Whether the kernel has made one frame of the other: behind addresses, DSCP, TTL and checksum
/// of the header they are the same, but for padding.
fn is_same(sent: &[u8], forwarded: &[u8]) -> bool {
    let start = if sent[12] == 8 { 26 } else { 22 };
    forwarded.len() > start
        && sent[12..14] == forwarded[12..14]
        && sent[start..].starts_with(&forwarded[start..])
}

fn dscp(frame: &[u8]) -> u8 {
    if frame[12] == 8 { frame[15] >> 2 } else { (frame[14] << 4 | frame[15] >> 4) >> 2 }
}
