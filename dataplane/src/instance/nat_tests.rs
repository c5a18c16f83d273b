//! Flows that a NAT gives a second name, in the table of an instance.

mod refused;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::{
    Action, Cursor, EventLimits, Get, More, Note, PutError, Southbound, SubscriptionId,
};
use weir_state_transfer::{
    Bucket, Chunk, FlowId, FlowKey, InstanceId, MoveId, Nanos, PortId, ServiceId, SteeringHash,
};

use super::*;
use crate::nf::firewall::{self, Rules};
use crate::nf::nat::{self, SourceRule};
use crate::nf::schema::NAT_TRANSLATION;
use crate::nf::{Chain, ChainConfig, FunctionConfig, Passing, ids};
use crate::packet::samples;
use crate::packet::{DropReason, Meta, Parsed, parse};
use crate::policy::PolicyBasis;
use crate::steering::{FlowHash, Steering};

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
/// Another host, whose port differs by as much as its address, so that both come to the same.
const RIVAL: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 3);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const UDP_TIMEOUT: Duration = Duration::from_secs(300);

/// An instance with a firewall and a NAT, and what its worker knows.
struct Site {
    instance: Instance,
    hash: FlowHash,
    steering: Steering,
    now: Nanos,
}

impl Site {
    /// It owns the bucket of the flows here, or gets them one by one.
    fn new(number: u8, owns: bool) -> Self {
        Self::with_rule(number, owns, "all: accept any")
    }

    /// The same, with a rule of its firewall.
    fn with_rule(number: u8, owns: bool, rule: &str) -> Self {
        let from = "10.0.0.0/8".parse().expect("a prefix");
        let source =
            SourceRule { from, to: None, pool: vec![EXTERNAL.into()], ports: 1..=u16::MAX };
        let rules = nat::Rules::new(vec![source], vec![]).expect("one rule");
        let rule = rule.parse().expect("a rule");
        let firewall = firewall::Config {
            rules: Rules::new(vec![rule]).expect("one rule"),
            ..firewall::Config::default()
        };
        let functions = vec![
            FunctionConfig::Firewall(firewall),
            FunctionConfig::Nat(nat::Config { rules, ..nat::Config::default() }),
        ];
        let config = ChainConfig::new(functions, ids::Timestamp(0)).expect("a NAT is the last");
        let hash = SteeringHash::new(0x6d5a);
        let replica = Replica { instance: number.into(), incarnation: 1 };
        let chain = Chain::new(&config, &hash, replica);
        let mut table = FlowTable::with_states(64, FlowHasher::with_seed(7), true);
        let steering = Steering::new(hash.clone(), InstanceId(number), 16);
        let hash = FlowHash::new(hash, config.nat_rules());
        if owns {
            let part = Part::with_states(64, &FlowHasher::with_seed(7), true);
            table.put_bucket(hash.bucket(&first()), Box::new(part));
        }
        let limits = EventLimits::default();
        let instance = Instance::new(InstanceId(number), table, chain, Arc::default(), limits);
        Self { instance, hash, steering, now: Nanos(1) }
    }

    /// Shows a datagram as a worker does; its flow as it goes on.
    fn sends(&mut self, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Result<FlowKey, DropReason> {
        let mut frame = samples::udp4(src.0, dst.0, (src.1, dst.1), b"?");
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
        let (key, hash) = (self.hash.key(&frame, &meta), self.hash.hash(&meta.key));
        let (mut meta, now) = (Meta { key, hash, ..meta }, self.now);
        let passing = Passing { frame: &mut frame, meta: &mut meta, port: PortId(0), now };
        let shown =
            self.instance.show(passing).map(|()| meta.key).map_err(|refused| refused.reason);
        if shown.is_ok() && self.instance.flows.find(&key, Bucket::of(hash)).is_none() {
            let entry = Entry::new(key, now);
            self.instance.flows.insert(entry, Bucket::of(hash)).expect("room");
        }
        shown
    }

    fn counted(&self, name: &str) -> u64 {
        let all = self.instance.chain.counters().flat_map(|(_, counters)| counters);
        all.filter(|(other, _)| other == name).map(|(_, count)| count).sum()
    }

    /// What one kind of function has counted.
    fn counted_by(&self, kind: &str, name: &str) -> u64 {
        let of_kind = self.instance.chain.counters().filter(|(other, _)| *other == kind);
        let all = of_kind.flat_map(|(_, counters)| counters);
        all.filter(|(other, _)| other == name).map(|(_, count)| count).sum()
    }

    /// Flows that use the external address, as it was counted.
    fn open(&self) -> u64 {
        self.counted_by("nat", &format!("open.{EXTERNAL}"))
    }

    /// Whether what was decided for a flow would be replayed.
    fn is_decided(&mut self, key: &FlowKey) -> bool {
        let place = self.instance.flows.find(key, self.hash.bucket(key)).expect("an entry");
        self.instance.flows.entry_mut(place).decision(&BASIS).is_some()
    }

    fn decide(&mut self, key: &FlowKey) {
        let place = self.instance.flows.find(key, self.hash.bucket(key)).expect("an entry");
        let choice = Choice { adjacency: 5, policy: None };
        self.instance.flows.entry_mut(place).decide(choice, &BASIS);
    }
}

const BASIS: Basis =
    Basis { routes: 9, policies: PolicyBasis { generation: 0, came_by: PortId(0) } };

fn first() -> FlowKey {
    FlowKey::v4(INSIDE, OUTSIDE, (4000, 53), 17, ServiceId(0))
}

#[test]
fn a_flow_is_found_by_both_names_and_others_know_it_by_the_first() {
    let mut site = Site::new(1, true);
    let sent = site.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    assert_eq!(sent.src(), std::net::IpAddr::V4(EXTERNAL));
    let back = site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port()));
    assert_eq!(back, Ok(first().reversed()));
    assert_eq!((site.instance.flows.known(), site.instance.flows.len()), (1, 2));
    // The firewall has seen one connection, with an answer.
    assert_eq!((site.counted("accepted"), site.counted("begun")), (2, 2), "one each");
    let stranger = site.sends((OUTSIDE, 54), (EXTERNAL, sent.src_port()));
    assert_eq!((stranger, site.counted("accepted")), (Err(DropReason::Nat), 2));
    assert_eq!(site.instance.flows.known(), 1, "nothing is kept of what is refused");
}

#[test]
fn a_port_is_taken_as_long_as_its_flow_and_what_was_decided_is_not_for_the_next() {
    let mut site = Site::new(1, true);
    let sent = site.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
    let other = site.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
    assert_ne!(other, sent);
    assert_eq!(site.hash.bucket(&other), site.hash.bucket(&sent));
    site.decide(&sent.reversed());
    assert!(site.is_decided(&sent.reversed()));
    // All is over, and another host gets the port that the first had. It is found before anybody
    // has swept.
    site.now = site.now + UDP_TIMEOUT;
    assert_eq!(
        site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())),
        Err(DropReason::Nat),
        "nobody has asked"
    );
    assert_eq!(site.sends((RIVAL, 4001), (OUTSIDE, 53)), Ok(sent));
    assert!(!site.is_decided(&sent.reversed()), "the other host may be elsewhere");
    let back = site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
    assert_eq!((back.dst(), back.dst_port()), (RIVAL.into(), 4001));
    assert_eq!(site.counted(&format!("open.{EXTERNAL}")), 1);
}

#[test]
fn a_flow_that_moves_alone_is_found_by_either_name_and_arrives_under_both() {
    for by_second in [false, true] {
        let (mut here, mut there) = (Site::new(1, true), Site::new(2, false));
        let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
        here.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
        let key = if by_second { sent.reversed() } else { first() };
        let bucket = here.hash.bucket(&key);
        let flow = here.instance.flows.take_flow(&key, bucket, |_| true).expect("it is there");
        assert_eq!(flow.entries().len(), 2);
        assert_eq!(
            flow.flows()[0].names().collect::<Vec<_>>(),
            [first().both_ways(), sent.both_ways()]
        );
        assert!(here.instance.flows.is_empty(), "nothing stays");
        assert!(here.instance.flows.take_flow(&first(), bucket, |_| true).is_none());

        there.instance.flows.put_flows(flow, bucket, MoveId(3));
        for key in [first(), sent.reversed()] {
            assert!(there.instance.flows.came_by(&key, bucket, MoveId(3)), "{key}");
        }
        assert_eq!(there.sends((INSIDE, 4000), (OUTSIDE, 53)), Ok(sent));
        let back = there.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port()));
        assert_eq!(back, Ok(first().reversed()));
        let rival = there.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
        assert_ne!(rival, sent, "the port has come along");
    }
}

/// Walks over all flows meet one once, and take it whole.
#[test]
fn a_walk_takes_a_flow_once_with_all_its_entries() {
    let mut site = Site::new(1, true);
    let mut ports = Vec::new();
    for n in 0..6 {
        let host = Ipv4Addr::from_bits(INSIDE.to_bits() ^ n);
        let sent = site.sends((host, 4000 ^ n as u16), (OUTSIDE, 53)).expect("it goes on");
        site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
        ports.push(sent.src_port());
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6, "each has a port of its own");
    let hash = site.hash.clone();
    let (mut cursor, mut taken) = (TakeCursor::default(), 0);
    while !cursor.is_done() {
        let wanted = |key: &FlowKey| Some(hash.bucket(key));
        let flows = site.instance.flows.take_matching(&mut cursor, &mut 64, 2, wanted);
        flows.each(|flow, entries| {
            assert!(entries.len() == 2 && flow.states.is_some());
            taken += 1;
        });
    }
    assert_eq!((taken, site.instance.flows.is_empty()), (6, true));
}

impl Site {
    /// Asks as one who has a desk does.
    fn ask<R>(&mut self, ask: impl FnOnce(&mut AsFunction<'_>) -> R) -> R {
        let Self { instance, hash, steering, now } = self;
        let (now, moving, packet_max) = (*now, None, 2_048);
        ask(&mut AsFunction { instance, hash, steering, now, moving, packet_max })
    }

    /// The per-flow state that a filter picks.
    fn get(&mut self, filter: &str) -> Vec<Chunk> {
        let filter = filter.parse().expect("a filter");
        let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 16 };
        self.ask(|function| {
            let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
            while function.get_per_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
            chunks
        })
    }

    fn put(&mut self, chunk: &Chunk) -> Result<(), PutError> {
        self.ask(|function| function.put_per_flow(chunk.clone()))
    }

    fn del(&mut self, key: &FlowKey) -> usize {
        self.ask(|function| function.del_per_flow(&[FlowId::flow(key)]))
    }
}

#[test]
fn filters_pick_a_translated_flow_by_either_name_and_it_is_deleted_by_either() {
    for by_second in [false, true] {
        let mut site = Site::new(1, true);
        let sent = site.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
        site.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
        let second = format!("src={EXTERNAL}/32,proto=udp,sport={}", sent.src_port());
        for filter in [&format!("src={INSIDE}/32")[..], &second] {
            let picked = site.get(filter);
            assert_eq!(picked.len(), 2, "{filter}: of the firewall and of the NAT");
            assert!(picked.iter().all(|chunk| chunk.id == FlowId::flow(&first())), "{filter}");
        }
        assert_eq!(site.get(&format!("dst={OUTSIDE}/32")).len(), 4);
        assert!(site.get("src=192.0.2.9/32").is_empty());
        assert_eq!(site.del(&if by_second { sent } else { first() }), 1);
        assert_eq!((site.get(&second).len(), site.get("any").len()), (0, 2));
        let back = site.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port()));
        assert_eq!(back, Err(DropReason::Nat), "nobody is there");
    }
}

#[test]
fn a_translation_that_was_put_is_found_by_both_names_and_goes_on() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, true));
    let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    for chunk in here.get("any") {
        there.put(&chunk).expect("room");
    }
    let back = there.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port()));
    assert_eq!(back, Ok(first().reversed()));
    assert_eq!(there.sends((INSIDE, 4000), (OUTSIDE, 53)), Ok(sent));
    let other = there.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
    assert_ne!(other, sent, "its port is taken");
}

/// Two processes that know nothing of each other have given out the same port for the same remote
/// end.
#[test]
fn a_translation_whose_port_is_anothers_is_refused_and_nothing_changes() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, true));
    let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    assert_eq!(there.sends((RIVAL, 4001), (OUTSIDE, 53)), Ok(sent), "the same port");
    let chunks = here.get("any");
    let of_nat = chunks.iter().find(|chunk| chunk.schema == NAT_TRANSLATION.schema).expect("one");
    let error = there.put(of_nat);
    assert!(matches!(error, Err(PutError::Clash { .. })), "{error:?}");
    assert_eq!(here.put(of_nat), Ok(()), "its own");
    let back = there.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
    assert_eq!((back.dst(), there.get("any").len()), (RIVAL.into(), 2));
}

#[test]
fn a_translation_that_would_not_be_found_on_its_way_back_is_refused() {
    let (mut here, mut there) = (Site::new(1, true), Site::new(2, true));
    here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
    // The port that it would have is taken: what it gets keeps the bucket by the key of this node.
    here.sends((RIVAL, 4001), (OUTSIDE, 53)).expect("it goes on");
    there.hash = FlowHash::new(SteeringHash::new(0x1234), None);
    let chunks = here.get(&format!("src={RIVAL}/32"));
    assert_eq!(chunks.len(), 2);
    for chunk in chunks {
        let answer = there.put(&chunk);
        let is_of_nat = chunk.schema == NAT_TRANSLATION.schema;
        assert_eq!(matches!(answer, Err(PutError::Unsupported { .. })), is_of_nat, "{answer:?}");
    }
}

/// A copy that nobody has used does not stand in the way of the flow that has its port where the
/// copy came from.
#[test]
fn a_copy_gives_way_to_a_flow_that_comes_with_its_names() {
    for in_its_bucket in [false, true] {
        let (mut here, mut there) = (Site::new(1, true), Site::new(2, false));
        let sent = here.sends((INSIDE, 4000), (OUTSIDE, 53)).expect("it goes on");
        for chunk in here.get("any") {
            there.put(&chunk).expect("room");
        }
        // The flow ends, and another gets its port.
        here.now = here.now + UDP_TIMEOUT;
        here.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect_err("nobody has asked");
        assert_eq!(here.instance.flows.known(), 0, "nothing is left of it");
        assert_eq!(here.sends((RIVAL, 4001), (OUTSIDE, 53)), Ok(sent));
        let bucket = here.hash.bucket(&sent);
        if in_its_bucket {
            let part = here.instance.flows.take_bucket(bucket).expect("it owns it");
            there.instance.flows.put_bucket(bucket, part);
        } else {
            let flow = here.instance.flows.take_flow(&sent, bucket, |_| true).expect("it is here");
            there.instance.flows.put_flows(flow, bucket, MoveId(3));
        }
        let back = there.sends((OUTSIDE, 53), (EXTERNAL, sent.src_port())).expect("it comes back");
        assert_eq!((back.dst(), back.dst_port()), (RIVAL.into(), 4001));
    }
}

/// So that it can be given to another instance, which translates it itself.
#[test]
fn who_has_subscribed_is_told_of_packets_as_they_came() {
    let mut site = Site::new(1, true);
    let id = SubscriptionId(5);
    let filter = format!("src={INSIDE}/32").parse().expect("a filter");
    let enabled = site.ask(|function| function.enable_events(id, filter, Action::Process, 2_048));
    assert_eq!(enabled, Ok(()));
    let mut frame = samples::udp4(INSIDE, OUTSIDE, (4000, 53), b"?");
    let came = frame.clone();
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    meta.hash = site.hash.hash(&meta.key);
    let as_come = site.instance.as_come(&frame, &meta, PortId(0));
    let passing = Passing { frame: &mut frame, meta: &mut meta, port: PortId(0), now: site.now };
    assert_eq!(site.instance.show(passing), Ok(()));
    assert_ne!(frame, came, "it was translated");
    site.instance.processed(&as_come, &frame, site.now);
    let Some(Note::Event(event)) = site.ask(|function| function.poll_event(id)) else {
        panic!("an event")
    };
    assert_eq!(event.packet, came);
}

#[test]
fn only_a_flow_that_a_rule_is_about_may_take_a_name() {
    let chain = Site::new(1, true).instance.chain;
    let back = FlowKey::v4(OUTSIDE, EXTERNAL, (53, 4000), 17, ServiceId(0));
    assert!(chain.may_translate(&first()) && chain.may_translate(&back));
    let other = FlowKey::v4(OUTSIDE, Ipv4Addr::new(192, 0, 2, 200), (53, 4000), 17, ServiceId(0));
    assert!(!chain.may_translate(&other));
}
