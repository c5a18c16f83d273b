//! Finds what a flow is translated to.
//!
//! The source port is chosen among those that keep the flow in its steering bucket, which the
//! linear hash lets compute: about 16 for an external address, whatever the remote end is. So a
//! bucket owns its part of every remote end's ports: two instances, which never own the same
//! bucket, never choose the same, and nobody has to ask anybody.

use std::net::IpAddr;

use weir_state_transfer::{FlowKey, SteeringHash, protocol};

use super::reason::Reason;
use super::rule::SourceRule;
use super::rules::{End, Rules, between, ends, has_ports, word};

/// External addresses that are tried for one flow.
pub(super) const ADDRESSES_TRIED: usize = 8;
/// Ports that are tried for one external address: all that there are, with a key that spreads.
const PORTS_TRIED: usize = 16;
/// Ports below are well known, and translated to such (RFC 4787, REQ-3 a).
const WELL_KNOWN: u16 = 1024;

/// Chooses ports and identifiers.
#[derive(Clone, Debug)]
pub(super) struct Allocator {
    neutral: Vec<u16>,
}

impl Allocator {
    pub(super) fn new(hash: &SteeringHash) -> Self {
        Self { neutral: hash.neutral_words().take(PORTS_TRIED).collect() }
    }

    /// What a flow that nobody has translated yet, and that may begin, becomes: the flow itself where
    /// no rule translates it.
    pub(super) fn translated(
        &self,
        rules: &Rules,
        flow: &FlowKey,
        taken: impl Fn(&FlowKey) -> bool,
    ) -> Result<FlowKey, Reason> {
        let [src, dst] = ends(flow);
        let receiver = match rules.service(flow.protocol(), dst) {
            Some((service, offset)) => {
                let backend = &service.backends[choice(flow, service.backends.len())];
                (backend.ip(), backend.port() + offset)
            }
            None => dst,
        };
        let is_free = |key: &FlowKey| !taken(&key.both_ways());
        let Some(rule) = rules.source(&src.0, &dst.0) else {
            let key = between(flow, src, receiver);
            return if key == *flow || is_free(&key) { Ok(key) } else { Err(Reason::Exhausted) };
        };
        // Without a port to choose, steering can only follow the first.
        let tried = if has_ports(flow.protocol()) { ADDRESSES_TRIED } else { 1 };
        let senders = rule
            .addresses(&src.0)
            .take(tried)
            .flat_map(|external| self.senders(rules, rule, flow, external));
        // An echo has one identifier, in the place of both ports.
        let is_echo = protocol::is_icmp(flow.protocol());
        let answers = |sender: End| if is_echo { (receiver.0, sender.1) } else { receiver };
        let mut keys = senders.map(|sender| between(flow, sender, answers(sender)));
        keys.find(is_free).ok_or(Reason::Exhausted)
    }

    /// The ends at an external address that an end may become, in the order in which they are
    /// tried. It depends on nothing but these two, so that as long as a port is not taken, a host
    /// is seen with the same one by all.
    fn senders(
        &self,
        rules: &Rules,
        rule: &SourceRule,
        flow: &FlowKey,
        external: IpAddr,
    ) -> impl Iterator<Item = End> {
        let ([src, _], number) = (ends(flow), flow.protocol());
        let is_low = |port: u16| port < WELL_KNOWN;
        let low = is_low(src.1);
        // A port that is not well known never becomes one that is.
        let (kind, passes): (_, &[bool]) = match number {
            protocol::TCP | protocol::UDP if low => (Kind::Port, &[true, false]),
            protocol::TCP | protocol::UDP => (Kind::Port, &[false]),
            number if protocol::is_icmp(number) => (Kind::Identifier, &[false]),
            _ => (Kind::None, &[]),
        };
        let steered = rules.front_of(number, src);
        let base = steered.1 ^ word(&steered.0) ^ word(&external);
        let numbers = passes.iter().flat_map(move |low| {
            let numbers = self.neutral.iter().map(move |word| base ^ word);
            numbers.filter(move |number| match kind {
                Kind::Port => rule.ports.contains(number) && is_low(*number) == *low,
                Kind::Identifier | Kind::None => true,
            })
        });
        // A port at which a service is belongs to that.
        let is_service = move |port: &u16| rules.service(number, (external, *port)).is_some();
        let none = (kind == Kind::None).then_some(0);
        let numbers = none.into_iter().chain(numbers.filter(move |port| !is_service(port)));
        numbers.map(move |number| (external, number))
    }
}

/// What tells flows between the same addresses apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Port,
    Identifier,
    None,
}

/// One of so many, by the hash of a flow: the same at every instance (FNV-1a, 64 bits).
fn choice(flow: &FlowKey, count: usize) -> usize {
    let ports = [flow.src_port().to_be_bytes(), flow.dst_port().to_be_bytes()];
    let octets = flow.src_octets().iter().chain(flow.dst_octets()).chain(ports.as_flattened());
    let hash = octets.chain(&[flow.protocol()]).fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    // The upper half is the better one; the product fits.
    (((hash >> 32) * count as u64) >> 32) as usize
}
