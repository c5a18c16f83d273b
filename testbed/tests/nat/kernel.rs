//! The kernel's NAT: nftables in a namespace that forwards from one device to another.

use anyhow::Result;
use weir_testbed::kernel_router::KernelRouter;
use weir_testbed::namespace::Namespace;

use crate::frames::{self, EXTERNAL, EXTERNAL6, MARKS};

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

    /// What becomes of a frame: none if it is dropped. A mark that follows it tells.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.forwarded(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"))
    }

    fn forwarded(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.send(&[frame, &frames::mark()])?;
        let mut before = None;
        self.0.receive(|frame| {
            if frames::is_mark(frame) {
                return Some(before.take());
            }
            if frames::is_ip_of_a_flow(frame) {
                before = Some(frames::with_ttl(frame));
            }
            None
        })
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
