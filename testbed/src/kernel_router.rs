//! A namespace whose kernel forwards from one device to another: what a network function of ours is
//! compared with.

use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};
use etherparse::PacketBuilder;
use rustix::event::{PollFd, PollFlags};
use weir_dataplane::packet::{Parsed, parse};
use weir_state_transfer::{ServiceId, protocol};

use crate::namespace::Namespace;
use crate::packet_socket::{Burst, PacketSocket, arriving};
use crate::veth::{End, Veth};
use crate::wait::{Deadline, LIMIT, pause};

const HOST: &str = "02:00:00:00:0f:01";
const ROUTER: &str = "02:00:00:00:0f:02";
/// [`ROUTER`], then [`HOST`]: the addresses of frames from the host.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0x0f, 2], [2, 0, 0, 0, 0x0f, 1]];

/// Who sends what tells that all before it came out or was dropped; see [`KernelRouter::pass`].
pub const MARKS_FROM: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 250);
const MARKS_TO: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 251);

/// A host at both ends of a router. Removed, with its namespaces, when dropped.
#[derive(Debug)]
pub struct KernelRouter {
    into: PacketSocket,
    out: PacketSocket,
    burst: Burst,
    _cables: [Veth; 2],
    router: Namespace,
    _host: Namespace,
}

impl KernelRouter {
    /// A router that forwards all packets to the host as next hop, at an address of each family:
    /// from its device `in` to its device `out`.
    ///
    /// # Errors
    /// When a namespace or a device is not to be had, as without root.
    pub fn new(next_hops: [&str; 2]) -> Result<Self> {
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
        for (family, next_hop) in ["-4", "-6"].into_iter().zip(next_hops) {
            let neighbour = format!("neigh replace {next_hop} lladdr {HOST} dev out nud permanent");
            router.run(&format!("ip {family} {neighbour}"))?;
            let route = format!("route add default via {next_hop} dev out onlink");
            router.run(&format!("ip {family} {route}"))?;
        }
        Ok(Self {
            into: PacketSocket::open(&host, "in", &arriving())?,
            out: PacketSocket::open(&host, "out", &arriving())?,
            burst: Burst::default(),
            _cables: cables,
            router,
            _host: host,
        })
    }

    /// Its namespace, for rules.
    pub fn namespace(&self) -> &Namespace {
        &self.router
    }

    /// Says how connections are tracked, as `tcp_loose`. Only when a rule asks for it are they.
    /// Checksums are not looked at: hosts leave them to their network cards, and captures show what
    /// they left.
    ///
    /// # Errors
    /// When the kernel has no such key.
    pub fn track<'a>(&self, keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let set = |(key, value): (&str, &str)| {
            self.router.set(&format!("net/netfilter/nf_conntrack_{key}"), value)
        };
        set(("checksum", "0"))?;
        keys.into_iter().try_for_each(set)
    }

    /// Sends frames in; their Ethernet addresses become those of the cable.
    ///
    /// # Errors
    /// When the device does not take them.
    pub fn send(&self, frames: &[&[u8]]) -> Result<()> {
        let frames: Vec<_> =
            frames.iter().map(|frame| [&MACS.concat(), &frame[12..]].concat()).collect();
        let sent = self.into.send(frames.iter().map(Vec::as_slice))?;
        ensure!(sent == frames.len(), "{sent} of {} frames were sent", frames.len());
        Ok(())
    }

    /// Sends a frame in, and finds what the router makes of it: what it forwards and answers, in
    /// order, or nothing. Rules have to let pass what is from [`MARKS_FROM`], untracked.
    ///
    /// # Errors
    /// When the device does not take the frame, or the mark behind it does not come out.
    pub fn pass(&mut self, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.send(&[frame, &mark()])?;
        let mut before = Vec::new();
        self.receive(|frame| {
            if is_mark(frame) {
                return Some(std::mem::take(&mut before));
            }
            if !is_of_the_link(frame) {
                before.push(frame.to_vec());
            }
            None
        })
    }

    /// Looks at what comes out until that tells something.
    ///
    /// # Errors
    /// When nothing does within the limit.
    pub fn receive<T>(&mut self, mut told: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let deadline = Deadline::after(LIMIT);
        loop {
            let mut found = None;
            self.out.receive(&mut self.burst, |frame| {
                if let Some(tells) = told(frame) {
                    found = Some(tells);
                }
            })?;
            if let Some(found) = found {
                return Ok(found);
            }
            if deadline.left().is_zero() {
                bail!("the kernel did not forward");
            }
            pause(&mut [PollFd::new(&self.out, PollFlags::IN)], deadline.left())?;
        }
    }
}

/// A frame that is sent behind another.
fn mark() -> Vec<u8> {
    let mut frame = Vec::new();
    let step = PacketBuilder::ethernet2(MACS[1], MACS[0]);
    let step = step.ipv4(MARKS_FROM.octets(), MARKS_TO.octets(), 64).udp(9, 9);
    step.write(&mut frame, b"mark").expect("a vector takes it");
    frame
}

fn is_mark(frame: &[u8]) -> bool {
    frame.len() > 34 && frame[12..14] == [8, 0] && frame[26..30] == MARKS_FROM.octets()
}

/// What a kernel says by itself: neighbour discovery and who is in a group (RFC 4861, RFC 3810).
fn is_of_the_link(frame: &[u8]) -> bool {
    let Ok(Parsed::Ip(meta)) = parse(frame, ServiceId(0)) else { return true };
    let kind = meta.l4_bytes(frame).and_then(|bytes| bytes.first().copied());
    meta.protocol == protocol::ICMPV6 && matches!(kind, Some(130..=143))
}
