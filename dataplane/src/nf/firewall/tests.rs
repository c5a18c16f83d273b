//! The firewall, alone and as two instances that give each other what they know.

mod closing;
mod southbound;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use weir_state_transfer::chunk::BodyError;
use weir_state_transfer::{Chunk, FlowId, FlowKey};

use super::*;
use crate::nf::connection::Invalid;
use crate::nf::connection::tests::{CAPTURES, capture, with_packet};
use crate::nf::laws::all_chunks;
use crate::nf::schema::{FIREWALL_SOURCE, FIREWALL_TOTALS};
use crate::packet::samples::{self, HOST_A, HOST_B};

const NOW: Nanos = Nanos(1_000);
const DENIED: Verdict = Verdict::Drop(Reason::NoRule);

fn replica(instance: u32) -> Replica {
    Replica { instance, incarnation: 77 }
}

fn rules(texts: &[&str]) -> Rules {
    let parsed = texts.iter().map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}")));
    Rules::new(parsed.collect()).expect("rules")
}

fn config(texts: &[&str], limits: Limits) -> Config {
    Config { rules: rules(texts), limits, tracking: Settings::default() }
}

/// A firewall with its connections.
struct Instance {
    firewall: Firewall,
    connections: HashMap<FlowKey, Option<Connection>>,
}

impl Instance {
    fn new(config: Config, number: u32) -> Self {
        let firewall = Firewall::new(config, replica(number)).expect("a configuration");
        Self { firewall, connections: HashMap::new() }
    }

    /// The verdict on the packet in a frame; none when there is no packet in it.
    fn judge(&mut self, frame: &[u8], now: Nanos) -> Option<Verdict> {
        with_packet(frame, |packet| {
            let connection = self.connections.entry(packet.key().both_ways()).or_default();
            self.firewall.judge(packet, connection, now)
        })
    }

    fn pass_time(&mut self, now: Nanos) {
        for connection in self.connections.values_mut() {
            self.firewall.end_if_over(connection, now);
        }
    }

    fn open(&self, source: Ipv4Addr) -> i128 {
        let origin = Origin { service: Default::default(), address: source.into() };
        self.firewall.source(&origin).map_or(0, |source| source.open.value())
    }
}

fn udp(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    samples::udp4(from, to, ports, b"x")
}

#[test]
fn what_no_rule_is_about_does_not_begin() {
    let mut instance = Instance::new(Config::default(), 1);
    assert_eq!(instance.judge(&udp(HOST_A, HOST_B, (1, 53)), NOW), Some(DENIED));
    assert_eq!(instance.connections.values().flatten().count(), 0);
    assert_eq!(instance.firewall.totals().dropped_for(Reason::NoRule), 1);
}

#[test]
fn the_first_rule_that_matches_decides_about_one_direction_and_answers_pass() {
    let texts = [
        "not-9: drop dst=10.0.2.0/24,proto=udp,dport=9",
        "no-8: reject proto=udp,dport=8",
        "inside: accept src=10.0.1.0/24",
    ];
    let mut instance = Instance::new(config(&texts, Limits::default()), 1);
    let (there, back) = ((4000, 53), (53, 4000));
    assert_eq!(instance.judge(&udp(HOST_B, HOST_A, back), NOW), Some(DENIED), "from outside");
    assert_eq!(instance.judge(&udp(HOST_A, HOST_B, there), NOW), Some(Verdict::Accept));
    assert_eq!(instance.judge(&udp(HOST_B, HOST_A, back), NOW), Some(Verdict::Accept));
    let dropped = instance.judge(&udp(HOST_A, HOST_B, (4000, 9)), NOW);
    assert_eq!(dropped, Some(Verdict::Drop(Reason::RuleDrop)));
    let rejected = instance.judge(&udp(HOST_A, HOST_B, (4000, 8)), NOW);
    assert_eq!(rejected, Some(Verdict::Drop(Reason::RuleReject)));
    assert!(Reason::RuleReject.is_answered() && !Reason::RuleDrop.is_answered());
    let error = samples::icmp4(HOST_B, HOST_A, 3, &udp(HOST_A, HOST_B, there)[14..]);
    assert_eq!(instance.judge(&error, NOW), Some(Verdict::Accept), "related");
    let error = samples::icmp4(HOST_B, HOST_A, 3, &udp(HOST_A, HOST_B, (1, 2))[14..]);
    let unrelated = Verdict::Drop(Reason::Invalid(Invalid::UnrelatedError));
    assert_eq!(instance.judge(&error, NOW), Some(unrelated));
    let totals = instance.firewall.totals();
    let matched = |name: &str| totals.matched(&name.parse().expect("a name"));
    assert_eq!(["not-9", "no-8", "inside"].map(matched), [1, 1, 1]);
    let counted = [&totals.accepted, &totals.begun, &totals.ended].map(|counter| counter.value());
    assert_eq!(counted, [3, 1, 0]);
    let dropped: u64 = totals.dropped.iter().map(|counter| counter.value()).sum();
    assert_eq!(dropped, 4);
}

#[test]
fn a_source_has_so_many_connections_open_and_gets_room_when_one_ends() {
    let limits = Limits { connections_max: Some(3), ..Limits::default() };
    let mut instance = Instance::new(config(&["all: accept any"], limits), 1);
    let begin = |instance: &mut Instance, port, now| {
        instance.judge(&udp(HOST_A, HOST_B, (port, 53)), now).expect("a packet")
    };
    for port in 1..=3 {
        assert_eq!(begin(&mut instance, port, NOW), Verdict::Accept);
    }
    let full = Verdict::Drop(Reason::SourceConnections);
    assert_eq!(begin(&mut instance, 4, NOW), full);
    assert_eq!(begin(&mut instance, 2, NOW), Verdict::Accept, "it has begun");
    let other = instance.judge(&udp(HOST_B, HOST_A, (1, 53)), NOW);
    assert_eq!(other, Some(Verdict::Accept), "another source");
    let later = NOW + Duration::from_secs(31);
    instance.pass_time(later);
    assert_eq!((instance.open(HOST_A), instance.open(HOST_B)), (0, 0));
    assert_eq!(begin(&mut instance, 4, later), Verdict::Accept);
    assert_eq!(instance.firewall.totals().ended.value(), 4);
}

#[test]
fn a_source_begins_connections_at_its_rate_and_refusals_take_no_token() {
    let rate = Rate { per_second: 2, burst: 3 };
    let limits = Limits { rate: Some(rate), ..Limits::default() };
    let mut instance = Instance::new(config(&["all: accept any"], limits), 1);
    let mut begun = |ports: std::ops::Range<u16>, now: Nanos| {
        let frames = ports.map(|port| udp(HOST_A, HOST_B, (port, 53)));
        frames.filter(|frame| instance.judge(frame, now) == Some(Verdict::Accept)).count()
    };
    assert_eq!(begun(0..10, NOW), 3);
    assert_eq!(begun(10..20, NOW + Duration::from_millis(1_500)), 3);
    assert_eq!(begun(20..30, NOW + Duration::from_millis(1_999)), 0);
    assert_eq!(begun(30..40, NOW + Duration::from_millis(2_000)), 1);
}

#[test]
fn sources_are_bounded_and_those_with_nothing_open_make_room() {
    let limits = Limits { connections_max: Some(9), rate: None, sources_max: 4 };
    let mut instance = Instance::new(config(&["all: accept any"], limits), 1);
    let from = |n| Ipv4Addr::new(10, 0, 1, n);
    for n in 1..=4 {
        let verdict = instance.judge(&udp(from(n), HOST_B, (1, 53)), NOW);
        assert_eq!(verdict, Some(Verdict::Accept));
    }
    let fifth = udp(from(5), HOST_B, (1, 53));
    let full = Some(Verdict::Drop(Reason::SourcesFull));
    assert_eq!(instance.judge(&fifth, NOW), full);
    let later = NOW + Duration::from_secs(31);
    instance.pass_time(later);
    assert_eq!(instance.judge(&fifth, later), Some(Verdict::Accept));
    assert!(instance.firewall.sources().len() <= 4);
}

#[test]
fn a_source_that_was_forgotten_does_not_hide_what_it_does_next_behind_an_old_copy() {
    let limits = Limits { connections_max: Some(9), ..Limits::default() };
    let mut instance = Instance::new(config(&["all: accept any"], limits), 1);
    for port in 0..5 {
        instance.judge(&udp(HOST_A, HOST_B, (port, 53)), NOW);
    }
    let later = NOW + Duration::from_secs(31);
    instance.pass_time(later);
    let origin = Origin { service: Default::default(), address: HOST_A.into() };
    let known = instance.firewall.source(&origin).expect("known");
    let old = known.to_chunk(origin.flow_id(), later);
    instance.firewall.sweep_sources(10, later);
    assert_eq!(instance.firewall.sources().len(), 0);
    instance.judge(&udp(HOST_A, HOST_B, (9, 53)), later);
    instance.firewall.put_multi_flow(&old, later).expect("room");
    assert_eq!(instance.open(HOST_A), 1, "5 begun and ended before, and 1 begun since");
}

/// Gives the other instance the connection of a flow, and what is known of sources and totals.
fn hand_over(from: &mut Instance, to: &mut Instance, key: &FlowKey, now: Nanos) {
    if let Some(connection) = from.connections.remove(key).flatten() {
        let arrived = Connection::from_chunk(&connection.to_chunk(now), now);
        to.connections.insert(*key, Some(arrived.expect("its own chunk")));
    }
    for chunk in sources_of(&from.firewall, now) {
        to.firewall.put_multi_flow(&chunk, now).expect("its own chunk");
    }
    for chunk in from.firewall.get_all_flows() {
        to.firewall.put_all_flows(&chunk).expect("its own chunk");
    }
}

fn sources_of(firewall: &Firewall, now: Nanos) -> Vec<Chunk> {
    all_chunks("any", 7, |get, cursor, out| firewall.get_multi_flow(get, cursor, out, now))
}

fn counts(firewall: &Firewall) -> Vec<u64> {
    let totals = firewall.totals();
    let Totals { accepted, begun, ended, dropped, rules } = totals;
    let all = [accepted, begun, ended].into_iter().chain(dropped).chain(rules.values());
    all.map(|counter| counter.value()).collect()
}

fn compare(name: &str, frames: &[(Nanos, Vec<u8>)], config: &Config) -> HashMap<Verdict, usize> {
    let mut alone = Instance::new(config.clone(), 0);
    let mut pair = [Instance::new(config.clone(), 1), Instance::new(config.clone(), 2)];
    let mut seen = HashMap::new();
    for (number, (now, frame)) in frames.iter().enumerate() {
        let [one, two] = &mut pair;
        let (here, there) = if number % 2 == 0 { (one, two) } else { (two, one) };
        let expected = alone.judge(frame, *now);
        assert_eq!(here.judge(frame, *now), expected, "{name}, packet {number}");
        let key = with_packet(frame, |packet| packet.key().both_ways());
        if let Some((key, verdict)) = key.zip(expected) {
            hand_over(here, there, &key, *now);
            *seen.entry(verdict).or_default() += 1;
        }
        // Connections of other flows are wherever the next packet comes.
        let keys: Vec<FlowKey> = here.connections.keys().copied().collect();
        for key in keys {
            if let Some(connection) = here.connections.remove(&key) {
                there.connections.insert(key, connection);
            }
        }
    }
    let [one, two] = &mut pair;
    let key = FlowKey::v4(HOST_A, HOST_B, (0, 0), 0, Default::default()).both_ways();
    hand_over(one, two, &key, Nanos(u64::MAX));
    hand_over(two, one, &key, Nanos(u64::MAX));
    assert_eq!(counts(&one.firewall), counts(&alone.firewall), "{name}");
    assert_eq!(counts(&two.firewall), counts(&alone.firewall), "{name}");
    seen
}

fn strict() -> Config {
    let rate = Rate { per_second: 20, burst: 25 };
    let limits = Limits { connections_max: Some(30), rate: Some(rate), ..Limits::default() };
    let texts = [
        "no-rdp: reject proto=tcp,dport=3389",
        "no-dns: drop proto=udp,dport=53",
        "all: accept any",
    ];
    config(&texts, limits)
}

#[test]
fn two_instances_that_tell_each_other_judge_captures_as_one_does() {
    for name in CAPTURES {
        let Some(mut frames) = capture(name) else { continue };
        frames.truncate(1_000);
        let seen = compare(name, &frames, &strict());
        println!("data test ran: firewall over {name}: {seen:?}");
    }
}

#[test]
fn two_instances_that_tell_each_other_judge_random_packets_as_one_does() {
    let mut rng = weir_seed::rng();
    let mut now = NOW;
    let frames: Vec<(Nanos, Vec<u8>)> = (0..3_000)
        .map(|_| {
            now = now + Duration::from_micros(rng.u64(..60_000));
            let host = Ipv4Addr::new(10, 0, 1, rng.u8(1..4));
            let port = *rng.choice(&[53, 123, 3389]).expect("one");
            (now, udp(host, HOST_B, (rng.u16(..200), port)))
        })
        .collect();
    let seen = compare("random frames", &frames, &strict());
    for reason in [Reason::SourceConnections, Reason::RuleDrop] {
        assert!(seen.contains_key(&Verdict::Drop(reason)), "{seen:?}");
    }
}

#[test]
fn hostile_bytes_of_sources_and_totals_are_refused_and_never_a_panic() {
    let mut rng = weir_seed::rng();
    let mut instance = Instance::new(strict(), 1);
    for port in 0..30 {
        instance.judge(&udp(HOST_A, HOST_B, (port, 80)), NOW);
    }
    let (_, source) = instance.firewall.sources().next().expect("one");
    let (of_source, of_totals) = (source.encode(), instance.firewall.totals().encode());
    let mut refused = 0;
    for _ in 0..40_000 {
        let (mut source, mut totals) = (of_source.clone(), of_totals.clone());
        let place = rng.usize(..source.len());
        source[place] = rng.u8(..);
        let place = rng.usize(..totals.len());
        totals[place] = rng.u8(..);
        totals.truncate(rng.usize(..totals.len() * 4));
        let id = FlowId::host(HOST_B.into(), Default::default());
        match instance.firewall.put_multi_flow(&FIREWALL_SOURCE.chunk(id.clone(), source), NOW) {
            Ok(()) => {
                instance.judge(&udp(HOST_B, HOST_A, (rng.u16(..), 80)), Nanos(rng.u64(..)));
                assert_eq!(instance.firewall.del_multi_flow(&[id]), 1);
            }
            Err(_) => refused += 1,
        }
        refused += u32::from(Totals::decode(FIREWALL_TOTALS.schema, &totals).is_err());
    }
    assert!(refused > 1_000, "{refused}");
    let found = FIREWALL_SOURCE.schema;
    let error = Totals::decode(found, &of_totals).expect_err("another schema");
    assert_eq!(error, BodyError::UnknownSchema { found, known: FIREWALL_TOTALS.schema });
}
