//! Translations by hand, against a naive model, and at instances that share the buckets. This is
//! what these tests have in common: an instance with its table, and frames.

mod by_hand;
mod checksums;
mod errors;
mod instances;
mod model;
mod southbound;
mod steering;
mod transfer;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use weir_state_transfer::{Bucket, ServiceId};

use checksums::are_right;

use super::*;
use crate::packet::samples;
use crate::packet::{Parsed, parse};

pub(super) const NOW: Nanos = Nanos(1_000_000);
/// A host inside, a host outside, a server inside.
pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 1);
pub(super) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub(super) fn replica(instance: u32) -> Replica {
    Replica { instance, incarnation: 5 }
}

pub(super) fn random_hash(rng: &mut Rng) -> SteeringHash {
    SteeringHash::new(weir_state_transfer::steering_hash::random_key(rng.u64(..)))
}

/// All of 10.0.0.0/8 to what is outside of it gets an address of the pool.
pub(super) fn source_rule(pool: &[Ipv4Addr]) -> SourceRule {
    let from = "10.0.0.0/8".parse().expect("a prefix");
    let pool = pool.iter().map(|address| IpAddr::V4(*address)).collect();
    SourceRule { from, to: None, pool, ports: 1..=u16::MAX }
}

/// Ports of the external address go to the server.
pub(super) fn web() -> Service {
    let backends = vec![(SERVER, 8080).into(), (Ipv4Addr::new(10, 0, 9, 2), 9090).into()];
    Service { address: EXTERNAL.into(), protocol: protocol::TCP, ports: 80..=89, backends }
}

pub(super) fn config(sources: Vec<SourceRule>, services: Vec<Service>) -> Config {
    Config { rules: Rules::new(sources, services).expect("rules"), ..Config::default() }
}

/// A NAT with its translations.
pub(super) struct Instance {
    pub(super) nat: Nat,
    pub(super) table: Table,
}

/// Translations by their first name, and the first name of each second.
#[derive(Default)]
pub(super) struct Table {
    pub(super) translations: HashMap<FlowKey, Translation>,
    names: HashMap<FlowKey, FlowKey>,
}

impl Table {
    pub(super) fn knows(&self, key: &FlowKey) -> bool {
        self.translations.contains_key(key) || self.names.contains_key(key)
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<Translation> {
        let name = self.names.get(key).unwrap_or(key);
        let found = self.translations.remove(name)?;
        self.names.remove(&found.keys()[1]);
        Some(found)
    }

    /// Adds a translation; false, and nothing changes, if another has one of its names.
    #[must_use]
    pub(super) fn insert(&mut self, translation: Translation) -> bool {
        let keys @ [original, translated] = translation.keys();
        let is_free = !keys.iter().any(|key| self.knows(key));
        if is_free {
            self.translations.insert(original, translation);
            self.names.insert(translated, original);
        }
        is_free
    }

    pub(super) fn only_or_none(&self) -> Option<&Translation> {
        self.translations.values().next()
    }

    pub(super) fn only(&self) -> &Translation {
        assert_eq!(self.translations.len(), 1);
        self.translations.values().next().expect("one")
    }
}

impl Instance {
    pub(super) fn new(config: Config, hash: &SteeringHash, number: u32) -> Self {
        let nat = Nat::new(config, hash, replica(number)).expect("time-outs");
        Self { nat, table: Table::default() }
    }

    /// Translates a frame. Whatever goes on has right checksums, if it came with such, and is of
    /// the flow that `meta` says.
    pub(super) fn translate(&mut self, frame: &mut [u8], now: Nanos) -> Verdict {
        let mut meta = meta_of(frame);
        let was_right = are_right(frame);
        let before = frame.to_vec();
        let key = meta.key.both_ways();
        let mut state = self.table.remove(&key);
        let taken = |key: &FlowKey| self.table.knows(key);
        let verdict = self.nat.translate(frame, &mut meta, &mut state, taken, now);
        if let Some(known) = state {
            assert!(self.table.insert(known), "its names are free");
        }
        if !matches!(verdict, Verdict::Drop(_)) {
            let after = meta_of(frame);
            assert_eq!(meta, after);
            assert_eq!(are_right(frame), was_right, "{before:02x?} {frame:02x?}");
            assert!(verdict == Verdict::Translate || frame == before);
        }
        verdict
    }

    /// What a frame would be if its sender knew its flow as it is behind the translation: that of
    /// an answer which was captured in front of a NAT.
    pub(super) fn as_answered(&self, frame: &[u8]) -> Vec<u8> {
        let (mut answer, meta) = (frame.to_vec(), meta_of(frame));
        let flow = meta.key;
        if let Some(known) = self.table.translations.get(&flow.both_ways())
            && known.original().reversed() == flow
        {
            rewrite(&mut answer, &meta, &flow, &known.translated.reversed());
        }
        answer
    }

    /// Translates a frame and says which flow it is of then.
    pub(super) fn sends(&mut self, frame: &[u8]) -> Result<FlowKey, Reason> {
        let mut frame = frame.to_vec();
        match self.translate(&mut frame, NOW) {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Pass | Verdict::Translate => Ok(meta_of(&frame).key),
        }
    }
}

/// A frame as steering describes it.
pub(super) fn meta_of(frame: &[u8]) -> Meta {
    match parse(frame, ServiceId(0)) {
        Ok(Parsed::Ip(meta)) => Meta { key: flow_key(frame, &meta), ..meta },
        other => panic!("{other:?}: {frame:02x?}"),
    }
}

/// The bucket that steering finds for a flow.
pub(super) fn bucket(rules: &Rules, hash: &SteeringHash, key: &FlowKey) -> Bucket {
    hash.bucket(&rules.steering_key(key))
}

pub(super) fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    samples::udp4(src.0, dst.0, (src.1, dst.1), b"payload")
}

/// A SYN.
pub(super) fn syn(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    tcp(src, dst, |step| step.syn())
}

type TcpStep = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

pub(super) fn tcp(
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    flags: impl FnOnce(TcpStep) -> TcpStep,
) -> Vec<u8> {
    let step = etherparse::PacketBuilder::ethernet2(samples::MAC_A.0, samples::MAC_B.0)
        .ipv4(src.0.octets(), dst.0.octets(), 64)
        .tcp(src.1, dst.1, 1, 64);
    let mut frame = Vec::new();
    flags(step).write(&mut frame, b"").expect("a frame");
    frame
}

/// A flow of two ends.
pub(super) fn flow(number: u8, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> FlowKey {
    FlowKey::v4(src.0, dst.0, (src.1, dst.1), number, ServiceId(0))
}

/// An echo request, or a reply, with an identifier.
pub(super) fn echo(src: Ipv4Addr, dst: Ipv4Addr, asks: bool, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let step = etherparse::PacketBuilder::ethernet2(samples::MAC_A.0, samples::MAC_B.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .icmpv4_raw(if asks { 8 } else { 0 }, 0, [high, low, 0, 1]);
    let mut frame = Vec::new();
    step.write(&mut frame, b"ping").expect("a frame");
    frame
}

/// What a packet of a flow is answered with: the same the other way round.
pub(super) fn answer(key: &FlowKey) -> Vec<u8> {
    let back = key.reversed();
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (back.src(), back.dst()) else { panic!("{key}") };
    let (src, dst) = ((src, back.src_port()), (dst, back.dst_port()));
    match key.protocol() {
        protocol::TCP => tcp(src, dst, |step| step.syn().ack(2)),
        protocol::UDP => udp(src, dst),
        _ => echo(src.0, dst.0, false, src.1),
    }
}
