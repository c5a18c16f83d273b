//! nftables in a namespace that forwards: connections by rules, default deny.

use anyhow::Result;
use weir_testbed::kernel_router::{KernelRouter, MARKS_FROM};

use super::verdict::Verdict;
use crate::model::TIMEOUTS;

/// Removed, with its namespaces, when dropped.
pub(crate) struct Nftables(KernelRouter);

/// How the kernel tracks connections of TCP.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tracking {
    /// Connections are taken up in the middle.
    pub(crate) pick_up: bool,
    /// What is beyond a window passes.
    pub(crate) liberal: bool,
}

impl Nftables {
    /// A router that lets pass what belongs to a connection, and what begins one that these rules
    /// let begin: rules as they stand in a chain, whose end is that the packet is dropped.
    pub(crate) fn new(tracking: Tracking, rules: &[String]) -> Result<Self> {
        let router = KernelRouter::new(["192.0.2.1", "fe80::f"])?;
        let nft = |command: &str| router.namespace().run(&format!("nft {command}")).map(drop);
        nft("add table inet f")?;
        for (chain, hook) in [
            ("raw", "prerouting priority -300 ;"),
            ("forward", "forward priority 0 ; policy drop ;"),
        ] {
            nft(&format!("add chain inet f {chain} {{ type filter hook {hook} }}"))?;
        }
        nft(&format!("add rule inet f raw ip saddr {MARKS_FROM} notrack"))?;
        for rule in [
            &*format!("ip saddr {MARKS_FROM} accept"),
            "ct state invalid drop",
            "ct state established,related accept",
        ]
        .into_iter()
        .chain(rules.iter().map(String::as_str))
        {
            nft(&format!("add rule inet f forward {rule}"))?;
        }
        let set = |on| if on { "1" } else { "0" };
        let Tracking { pick_up, liberal } = tracking;
        router.track([("tcp_loose", set(pick_up)), ("tcp_be_liberal", set(liberal))])?;
        for (name, seconds, _) in TIMEOUTS {
            router.track([(&*format!("tcp_timeout_{name}"), &*seconds.to_string())])?;
        }
        // Every packet that is rejected is answered.
        for (limit, value) in [
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv4/icmp_msgs_per_sec", "1000000"),
            ("ipv4/icmp_msgs_burst", "1000000"),
            ("ipv6/icmp/ratelimit", "0"),
        ] {
            router.namespace().set(&format!("net/{limit}"), value)?;
        }
        router.namespace().run("ip address add 192.0.2.2/32 dev out")?;
        Ok(Self(router))
    }

    /// What becomes of a packet.
    pub(crate) fn judge(&mut self, frame: &[u8]) -> Verdict {
        Verdict::of(frame, &self.pass(frame))
    }

    /// What comes out for a frame.
    pub(crate) fn pass(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.0.pass(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"))
    }
}
