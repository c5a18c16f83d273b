//! The kernel's connection tracking: what nftables sees of a packet that passes a namespace.
//!
//! Packets go in at one device, are forwarded and come out at another. A rule behind connection
//! tracking writes the state into the DSCP of each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_state_transfer::{FlowKey, ServiceId, protocol};
use weir_testbed::kernel_router::KernelRouter;

use crate::model::{Seen, TIMEOUTS};

/// The state that each DSCP stands for.
const STATES: [(&str, u8, Seen); 4] = [
    ("invalid", 1, Seen::Invalid),
    ("new", 2, Seen::New),
    ("established", 3, Seen::Established),
    ("related", 4, Seen::Related),
];
/// Removed, with its namespaces, when dropped.
pub(crate) struct Kernel(KernelRouter);

impl Kernel {
    /// A namespace that tracks connections as we are told to.
    pub(crate) fn new(pick_up: bool) -> Result<Self> {
        let router = KernelRouter::new(["192.0.2.1", "fe80::f"])?;
        for (table, field) in [("ip", "ip"), ("ip6", "ip6")] {
            let run = |command: &str| router.namespace().run(command);
            run(&format!("nft add table {table} seen"))?;
            run(&format!(
                "nft add chain {table} seen c {{ type filter hook prerouting priority -150; }}"
            ))?;
            for (state, dscp, _) in STATES {
                let rule = format!("ct state {state} {field} dscp set {dscp} return");
                run(&format!("nft add rule {table} seen c {rule}"))?;
            }
        }
        let loose = if pick_up { "1" } else { "0" };
        router.track([("tcp_loose", loose), ("tcp_be_liberal", "0")])?;
        for (name, seconds, _) in TIMEOUTS {
            router.track([(&*format!("tcp_timeout_{name}"), &*seconds.to_string())])?;
        }
        Ok(Self(router))
    }

    /// What the packet in a frame is to the kernel.
    pub(crate) fn see(&mut self, frame: &[u8]) -> Seen {
        self.forwarded(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"))
    }

    /// The TCP connections that the kernel knows, with what is left of their time.
    pub(crate) fn tcp(&self) -> Result<BTreeMap<FlowKey, Duration>> {
        let table = self.0.namespace().run("cat /proc/net/nf_conntrack")?;
        let of_tcp = table.lines().filter(|line| line.contains(" tcp "));
        of_tcp.map(|line| tcp_entry(line).with_context(|| line.to_owned())).collect()
    }

    fn forwarded(&mut self, frame: &[u8]) -> Result<Seen> {
        self.0.send(&[frame])?;
        let is_same = |forwarded: &&[u8]| is_same(frame, forwarded);
        let dscp = self.0.receive(|forwarded| Some(forwarded).filter(is_same).map(dscp))?;
        let known = STATES.iter().find(|(_, known, _)| *known == dscp);
        known.map(|(.., state)| *state).with_context(|| format!("no state for DSCP {dscp}"))
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
pub(crate) fn is_same(sent: &[u8], forwarded: &[u8]) -> bool {
    let start = if sent[12] == 8 { 26 } else { 22 };
    forwarded.len() > start
        && sent[12..14] == forwarded[12..14]
        && sent[start..].starts_with(&forwarded[start..])
}

fn dscp(frame: &[u8]) -> u8 {
    if frame[12] == 8 { frame[15] >> 2 } else { (frame[14] << 4 | frame[15] >> 4) >> 2 }
}
