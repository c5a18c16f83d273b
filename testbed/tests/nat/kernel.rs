//! The kernel's NAT: nftables in a namespace that forwards from one device to another.

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags};
use weir_testbed::namespace::Namespace;
use weir_testbed::packet_socket::{Burst, PacketSocket, arriving};
use weir_testbed::veth::{End, Veth};
use weir_testbed::wait::{Deadline, LIMIT, pause};

use crate::frames::{self, EXTERNAL, EXTERNAL6, MARKS};

const HOST: &str = "02:00:00:00:0e:01";
const ROUTER: &str = "02:00:00:00:0e:02";
/// [`ROUTER`], then [`HOST`]: the addresses of frames from the host.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0x0e, 2], [2, 0, 0, 0, 0x0e, 1]];

/// Longer than a test takes, in seconds: no connection ends by its time.
const TIMEOUT: &str = "5000";
const TIMEOUTS: [&str; 12] = [
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
];

/// Removed, with its namespaces, when dropped.
pub(crate) struct Kernel {
    into: PacketSocket,
    out: PacketSocket,
    burst: Burst,
    _cables: [Veth; 2],
    _namespaces: [Namespace; 2],
}

impl Kernel {
    /// A namespace that translates by rules for the chains `prerouting` and `postrouting`, such as
    /// `ip postrouting snat to 192.0.2.1`, and drops what belongs to no connection.
    pub(crate) fn new(pick_up: bool, rules: &[&str]) -> Result<Self> {
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
        for (family, next_hop) in [("-4", "203.0.113.254"), ("-6", "fe80::e")] {
            let neighbour = format!("neigh replace {next_hop} lladdr {HOST} dev out nud permanent");
            router.run(&format!("ip {family} {neighbour}"))?;
            let route = format!("route add default via {next_hop} dev out onlink");
            router.run(&format!("ip {family} {route}"))?;
        }
        rules_of(&router, rules)?;
        // Only now, with rules that ask for it, are connections tracked.
        let set =
            |key: &str, value| router.set(&format!("net/netfilter/nf_conntrack_{key}"), value);
        set("tcp_loose", if pick_up { "1" } else { "0" })?;
        // Hosts leave checksums to their network cards, and captures show what they left.
        set("checksum", "0")?;
        for name in TIMEOUTS {
            set(name, TIMEOUT)?;
        }
        // IPv6 has its own for echoes.
        set("icmpv6_timeout", TIMEOUT)?;
        Ok(Self {
            into: PacketSocket::open(&host, "in", &arriving())?,
            out: PacketSocket::open(&host, "out", &arriving())?,
            burst: Burst::default(),
            _cables: cables,
            _namespaces: [host, router],
        })
    }

    /// What becomes of a frame: none if it is dropped. A mark that follows it tells.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let frame = [&MACS.concat(), &frame[12..]].concat();
        let mark = [&MACS.concat(), &frames::mark()[12..]].concat();
        let sent = self.into.send([&frame[..], &mark[..]].into_iter()).unwrap();
        assert_eq!(sent, 2, "{frame:02x?}");
        self.forwarded().unwrap_or_else(|error| panic!("{error}: {frame:02x?}"))
    }

    fn forwarded(&mut self) -> Result<Option<Vec<u8>>> {
        let deadline = Deadline::after(LIMIT);
        let (mut before, mut marked) = (None, false);
        loop {
            self.out.receive(&mut self.burst, |frame| {
                if frames::is_mark(frame) {
                    marked = true;
                } else if frames::is_ip_of_a_flow(frame) {
                    before = Some(frames::with_ttl(frame));
                }
            })?;
            if marked {
                return Ok(before);
            }
            if deadline.left().is_zero() {
                bail!("the kernel did not forward a mark");
            }
            pause(&mut [PollFd::new(&self.out, PollFlags::IN)], deadline.left())?;
        }
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
    add(format!("ip t raw ip saddr {} notrack", MARKS[0]))?;
    for rule in rules {
        let (family, rest) = rule.split_once(' ').unwrap_or_default();
        add(format!("{family} t {rest}"))?;
    }
    Ok(())
}
