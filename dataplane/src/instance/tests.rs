//! The flow table with what network functions know, beside a naive model.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_state_transfer::merge::Replica;
use weir_state_transfer::{Bucket, FlowKey, MoveId, Nanos, PortId, ServiceId, SteeringHash};

use super::table::OWN;
use super::*;
use crate::nf::firewall::{self, Limits, Rules};
use crate::nf::{Chain, ChainConfig, FlowState, FunctionConfig, Passing, assets, ids};
use crate::packet::samples::{self, HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

const SEED: u64 = 7;
/// Buckets that the flows of a test fall into; the last is never owned.
const BUCKETS: u32 = 5;

fn key(n: u16) -> FlowKey {
    FlowKey::v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), (n, 53), 17, ServiceId(0))
}

/// Any that both directions of a flow share.
fn bucket(key: &FlowKey) -> Bucket {
    Bucket::of(u32::from(key.src_port()) * u32::from(key.dst_port()) % BUCKETS)
}

fn unknown() -> Box<[FlowState]> {
    Box::new([FlowState::Ids(None)])
}

fn table() -> FlowTable {
    let hasher = FlowHasher::with_seed(SEED);
    let mut table = FlowTable::with_states(256, hasher.clone(), false);
    for n in 0..BUCKETS - 1 {
        table.put_bucket(Bucket::of(n), Box::new(Part::with_states(256, &hasher, false)));
    }
    table
}

/// Which directions of flows have an entry, and which flows functions know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    entries: BTreeSet<FlowKey>,
    known: BTreeSet<FlowKey>,
}

impl Model {
    fn of(table: &mut FlowTable) -> Self {
        let mut model = Self::default();
        model.entries.extend(table.iter().map(|entry| entry.key));
        for n in 1..100 {
            let key = key(n).both_ways();
            if table.known_states(&key, bucket(&key)).is_some() {
                model.known.insert(key);
            }
        }
        assert_eq!((table.len(), table.known()), (model.entries.len(), model.known.len()));
        model
    }

    /// Adds a direction of a flow, and what functions know of it.
    fn add(&mut self, table: &mut FlowTable, rng: &mut fastrand::Rng) {
        let flow = key(rng.u16(1..100));
        let key = if rng.bool() { flow } else { flow.reversed() };
        if rng.bool() && self.entries.insert(key) {
            table.insert(Entry::new(key, Nanos(0)), bucket(&key)).expect("room");
        }
        if rng.bool() {
            self.known.insert(key.both_ways());
            let key = key.both_ways();
            if table.known_states(&key, bucket(&key)).is_none() {
                let states = FlowStates::new(unknown(), 0);
                assert!(table.keep(key, bucket(&key), states).is_ok(), "room");
            }
        }
    }
}

#[test]
fn flows_are_taken_with_both_directions_and_what_functions_know_and_put_elsewhere() {
    let mut rng = weir_seed::rng();
    for _ in 0..300 {
        let (mut from, mut to) = (table(), table());
        let mut model = Model::default();
        (0..rng.usize(..200)).for_each(|_| model.add(&mut from, &mut rng));
        assert_eq!(Model::of(&mut from), model);
        let below = if rng.u8(..4) == 0 { u16::MAX } else { rng.u16(..100) };
        let one_way = rng.u8(..3) == 0;
        let wanted = |flow: &FlowKey| {
            let moves = flow.src_port() < below || (!one_way && flow.dst_port() < below);
            moves.then(|| bucket(flow))
        };
        let (mut cursor, mut flows) = (TakeCursor::default(), BTreeMap::new());
        while !cursor.is_done() {
            // A worker has so much to spend in a round.
            let (mut looks, most) = (rng.usize(1..40), rng.usize(1..40));
            let taken = from.take_matching(&mut cursor, &mut looks, most, wanted);
            assert!(taken.len() <= most);
            to.prefetch_places(&taken, bucket);
            taken.each(|flow, entries| {
                let key = flow.key;
                let (has_room, left) = to.put_flow(flow, entries, bucket(&key), MoveId(1));
                assert!(has_room && left.is_none(), "there is room");
                assert_eq!(flows.insert(key, ()), None, "{key} comes as a whole");
                assert!(to.came_by(&key, bucket(&key), MoveId(1)));
            });
        }
        if from.is_empty() {
            assert_eq!(from.next_part(0), OWN, "walks skip parts that have nothing");
        }
        let is_moved = |key: &FlowKey| wanted(key).is_some();
        let mut moved = model.clone();
        moved.entries.retain(is_moved);
        // What functions know goes with either direction.
        let goes = |key: &FlowKey| is_moved(key) || moved.entries.contains(&key.reversed());
        moved.known.retain(goes);
        let stays =
            Model { entries: &model.entries - &moved.entries, known: &model.known - &moved.known };
        assert_eq!((Model::of(&mut from), Model::of(&mut to)), (stays, moved));
        let counted = from.iter().count() + to.iter().count();
        assert_eq!((from.len() + to.len(), counted), (counted, model.entries.len()));
    }
}

/// A copy that an instance has which owns nothing of the flow.
fn copied(table: &mut FlowTable, key: FlowKey, version: u64) {
    let states = FlowStates::new(unknown(), version);
    assert!(!table.has_flow(&key, bucket(&key), |_| true), "{key} is its own");
    assert!(table.copies.put(key, bucket(&key), states).is_ok(), "room");
}

fn standby() -> FlowTable {
    FlowTable::with_states(256, FlowHasher::with_seed(SEED), false)
}

#[test]
fn copies_go_when_their_bucket_comes_whether_or_not_it_has_the_flow() {
    let owned = |key: &FlowKey| bucket(key).index() < BUCKETS as usize - 1;
    let key = (1..).map(|n| key(n).both_ways()).find(owned).expect("most are");
    let bucket = bucket(&key);
    for is_known in [true, false] {
        let (mut owner, mut standby) = (table(), standby());
        if is_known {
            assert!(owner.keep(key, bucket, FlowStates::new(unknown(), 9)).is_ok(), "room");
        }
        copied(&mut standby, key, 1);
        standby.put_bucket(bucket, owner.take_bucket(bucket).expect("it owns it"));
        let known = standby.known_states(&key, bucket).map(FlowStates::written);
        assert_eq!((known, standby.copies()), (is_known.then_some(9), 0));
        assert_eq!(standby.adopt_copy(&key, bucket, |_| false), is_known);
        assert_eq!(standby.known(), usize::from(is_known), "nothing comes back");
        // And what leaves again leaves nothing behind.
        let part = standby.take_bucket(bucket).expect("it owns it");
        assert_eq!((part.known(), standby.known()), (usize::from(is_known), 0));
    }
}

/// What was put into the bucket of a flow that another owns by a rule comes back with the bucket.
#[test]
fn what_comes_in_a_bucket_of_a_flow_that_is_here_does_not_stand_behind_it() {
    let owned = |key: &FlowKey| bucket(key).index() < BUCKETS as usize - 1;
    let key = (1..).map(|n| key(n).both_ways()).find(owned).expect("most are");
    let bucket = bucket(&key);
    let (mut of_bucket, mut of_flow) = (table(), standby());
    assert!(of_bucket.keep(key, bucket, FlowStates::new(unknown(), 1)).is_ok(), "put there");
    assert!(of_flow.keep(key, bucket, FlowStates::new(unknown(), 9)).is_ok(), "the flow");
    of_flow.put_bucket(bucket, of_bucket.take_bucket(bucket).expect("it owns it"));
    assert_eq!(of_flow.known(), 1);
    let (mut cursor, mut versions) = (TakeCursor::default(), Vec::new());
    while !cursor.is_done() {
        let wanted = |_: &FlowKey| Some(bucket);
        let taken = of_flow.take_matching(&mut cursor, &mut 64, 4, wanted);
        taken.each(|flow, _| versions.push(flow.states.expect("known").written()));
    }
    assert_eq!(versions, [9]);
}

#[test]
fn copies_are_no_flows_of_a_move_and_go_when_one_comes_or_its_move_ends() {
    let (mut from, mut to) = (standby(), standby());
    for n in 1..20 {
        copied(&mut from, key(n).both_ways(), 1);
        copied(&mut to, key(n).both_ways(), 1);
    }
    let mut cursor = TakeCursor::default();
    while !cursor.is_done() {
        let wanted = |key: &FlowKey| Some(bucket(key));
        assert!(from.take_matching(&mut cursor, &mut 64, 4, wanted).is_empty());
    }
    // One comes, of which functions know nothing any more.
    let came = key(7).both_ways();
    MovedFlows::one(came, vec![Entry::new(came, Nanos(0))]).each(|flow, entries| {
        assert!(to.put_flow(flow, entries, bucket(&came), MoveId(1)).0, "room");
    });
    assert_eq!((to.copies(), to.known()), (18, 0));
    // The rest of them goes by a walk, in pieces.
    let (mut cursor, mut looks, mut pieces) = (CopiesCursor::default(), 0, 0);
    while !to.forget_copies(&mut cursor, &mut looks, |key| key.src_port() < 10) {
        assert_eq!(looks, 0, "as many as there are");
        (looks, pieces) = (4, pieces + 1);
    }
    assert_eq!((to.copies(), pieces), (10, 5));
    assert!((10..20).all(|n| to.copies.get(&key(n), bucket(&key(n))).is_some()));
}

#[test]
fn copies_are_found_by_a_walk_and_have_their_own_bound() {
    let mut rng = weir_seed::rng();
    let mut table = FlowTable::with_states(64, FlowHasher::with_seed(SEED), false);
    let mut model = BTreeSet::new();
    for _ in 0..5_000 {
        let key = key(rng.u16(1..100)).both_ways();
        match rng.u8(..8) {
            0 => {
                let gone = Bucket::of(rng.u32(..BUCKETS));
                table.copies.forget_bucket(gone);
                model.retain(|key| bucket(key) != gone);
            }
            1 => {
                let had = table.copies.remove(&key, bucket(&key)).is_some();
                assert_eq!(had, model.remove(&key));
            }
            2 => {
                // Sweeps come to all of them, wherever the first begins.
                let below = rng.u64(..100);
                let sweep =
                    |_| table.sweep_copies(2_000, |known: &FlowStates| known.written() < below);
                (0..2).for_each(sweep);
                model.retain(|key| u64::from(key.src_port().max(key.dst_port())) >= below);
            }
            _ => {
                let version = u64::from(key.src_port().max(key.dst_port()));
                let states = FlowStates::new(unknown(), version);
                let put = table.copies.put(key, bucket(&key), states).is_ok();
                assert_eq!(put, model.contains(&key) || model.len() < 64);
                model.extend(put.then_some(key));
            }
        }
        let (mut cursor, mut found) = (Default::default(), BTreeSet::new());
        while let Some((key, of)) = table.copies.next(&mut cursor) {
            assert_eq!(of, bucket(&key));
            assert!(found.insert(key), "{key} is shown twice");
        }
        assert_eq!((&found, table.copies()), (&model, model.len()));
        assert!(table.has_room(Bucket::of(BUCKETS)), "copies take no room of flows");
    }
}

#[test]
fn a_walk_shows_all_that_stay_whatever_comes_and_goes_on_the_way() {
    let mut rng = weir_seed::rng();
    for _ in 0..300 {
        let mut table = table();
        let mut model = Model::default();
        (0..rng.usize(100..250)).for_each(|_| model.add(&mut table, &mut rng));
        let mut stay = model.known.clone();
        let (mut cursor, mut seen) = (StatesCursor::default(), 0);
        while !cursor.is_done() {
            table.walk_states(&mut cursor, rng.usize(1..4), |states| {
                // Marked, so that one that is shown twice counts once.
                seen += usize::from(!states.came_by(MoveId(9)));
                states.set_move(MoveId(9));
                false
            });
            // While the walk is where the flows are; some stay.
            if cursor.part < BUCKETS as usize && stay.len() > 3 {
                let gone = *rng.choice(&stay).expect("some");
                stay.remove(&gone);
                table.take_flow(&gone, bucket(&gone), |_| true);
                model.add(&mut table, &mut rng);
            }
        }
        assert!(!stay.is_empty());
        for key in stay {
            let states = table.known_states(&key, bucket(&key)).expect("it stays");
            assert!(states.came_by(MoveId(9)), "{key} was not shown");
        }
        assert!(seen > 0 || model.known.is_empty());
    }
}

#[test]
fn nothing_is_kept_of_flows_whose_packets_are_refused() {
    let functions = vec![FunctionConfig::Firewall(firewall::Config::default())];
    let config = ChainConfig::new(functions, ids::Timestamp(0)).expect("a function");
    let chain =
        Chain::new(&config, &SteeringHash::new(0x6d5a), Replica { instance: 1, incarnation: 1 });
    let mut instance =
        Instance::new(InstanceId(1), table(), chain, Arc::default(), EventLimits::default());
    for port in 1..1_000 {
        let mut frame = samples::udp4(HOST_A, HOST_B, (port, 53), b"?");
        let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
        let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
        let passing = Passing { frame, meta, port, now: Nanos(0) };
        let refused = instance.show(passing).expect_err("no rule is about it");
        assert_eq!(refused.reason, DropReason::Firewall);
    }
    assert_eq!((instance.flows.known(), instance.counters.functions_full.get()), (0, 0));
}

#[test]
fn what_an_instance_that_is_gone_has_counted_is_taken_over() {
    let rule = "all: accept any".parse().expect("a rule");
    let rules = Rules::new(vec![rule]).expect("one rule");
    // Sources are kept count of where there are limits.
    let limits = Limits { connections_max: Some(10), ..Limits::default() };
    let firewall = firewall::Config { rules, limits, ..firewall::Config::default() };
    let functions = vec![
        FunctionConfig::Firewall(firewall),
        FunctionConfig::Ids(ids::Config::default()),
        FunctionConfig::Assets(assets::Config::default()),
    ];
    let config = ChainConfig::new(functions, ids::Timestamp(0)).expect("three functions");
    let chain = |instance| {
        Chain::new(&config, &SteeringHash::new(0x6d5a), Replica { instance, incarnation: 1 })
    };
    let (mut here, mut gone) = (chain(1), chain(2));
    for (chain, packets) in [(&mut here, 3), (&mut gone, 4)] {
        let mut states = chain.unknown();
        for n in 0..packets {
            let mut frame = samples::udp4(HOST_A, HOST_B, (4_000, 53), b"?");
            let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
            let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
            let mut passing = Passing { frame, meta, port, now: Nanos(n) };
            assert_eq!(chain.process(&mut states, &mut passing, &|_| false), Ok(()));
        }
    }
    here.inherit(gone);
    (0..8).for_each(|n| _ = here.sweep(1, Nanos(100 + n)));
    let counters: BTreeMap<_, _> = here
        .counters()
        .flat_map(|(kind, counters)| {
            counters.into_iter().map(move |(name, value)| (format!("{kind}.{name}"), value))
        })
        .collect();
    let counted = ["firewall.accepted", "firewall.begun", "firewall.rule.all", "ids.packets"];
    assert_eq!(counted.map(|name| counters[name]), [7, 2, 2, 7]);
    // The one source of both is one, and so is the one host: each has told of it.
    assert_eq!((counters["firewall.sources"], counters["assets.hosts"]), (1, 1));
    assert_eq!((counters["assets.packets"], counters["assets.learned_hosts"]), (7, 2));
}
