//! State taken out of one instance and put into another, while packets come and flows go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_state_transfer::chunk::Schema;
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::EventLimits;
use weir_state_transfer::{BUCKETS, Bucket, InstanceId, PortId, ServiceId, SteeringHash};

use super::*;
use crate::instance::{FlowHasher, FlowTable, Part};
use crate::nf::firewall::{self, Rules};
use crate::nf::{Chain, ChainConfig, FunctionConfig, Passing, ids};
use crate::packet::samples::{self, HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

fn rng() -> fastrand::Rng {
    let given = std::env::var("WEIR_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed} (repeat with WEIR_TEST_SEED={seed})");
    fastrand::Rng::with_seed(seed)
}

/// A firewall that lets all pass, and the intrusion detection. It owns buckets or not.
fn instance(number: u8, owns: bool) -> Instance {
    let rule = "all: accept any".parse().expect("a rule");
    let rules = Rules::new(vec![rule]).expect("one rule");
    let firewall = firewall::Config { rules, ..firewall::Config::default() };
    let functions =
        vec![FunctionConfig::Firewall(firewall), FunctionConfig::Ids(ids::Config::default())];
    let config = ChainConfig::new(functions, ids::Timestamp(0)).expect("two functions");
    let chain = Chain::new(
        &config,
        &SteeringHash::new(0x6d5a),
        Replica { instance: number.into(), incarnation: 1 },
    );
    let mut flows = FlowTable::with_states(1_024, FlowHasher::with_seed(7), false);
    for bucket in (0..BUCKETS as u32).filter(|_| owns) {
        flows.put_bucket(
            Bucket::of(bucket),
            Box::new(Part::with_states(64, &FlowHasher::with_seed(7), false)),
        );
    }
    Instance::new(InstanceId(number), flows, chain, Arc::default(), EventLimits::default())
}

fn hash() -> FlowHash {
    FlowHash::new(SteeringHash::new(0x6d5a), None)
}

fn packet(instance: &mut Instance, port: u16, now: Nanos) {
    let mut frame = samples::udp4(HOST_A, HOST_B, (port, 53), b"?");
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    meta.hash = hash().hash(&meta.key);
    let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
    assert_eq!(instance.show(Passing { frame, meta, port, now }), Ok(()));
}

fn as_function<'a>(instance: &'a mut Instance, hash: &'a FlowHash, now: Nanos) -> AsFunction<'a> {
    AsFunction { instance, hash, now, moving: None, packet_max: 2_048 }
}

/// All per-flow chunks that a filter picks.
fn all(instance: &mut Instance, filter: &str, now: Nanos) -> Vec<Chunk> {
    let (hash, filter) = (hash(), filter.parse().expect("a filter"));
    let mut function = as_function(instance, &hash, now);
    let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    while function.get_per_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
    chunks
}

fn put(instance: &mut Instance, chunks: &[Chunk], now: Nanos) {
    let hash = hash();
    let mut function = as_function(instance, &hash, now);
    for chunk in chunks {
        match function.put_per_flow(chunk.clone()) {
            Ok(()) | Err(PutError::Older { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn port_of(chunk: &Chunk) -> u16 {
    chunk.id.key().expect("a flow").src_port()
}

/// The state by flow and kind.
fn state(chunks: &[Chunk]) -> BTreeMap<(u16, Schema), (u64, Vec<u8>)> {
    let state =
        |chunk: &Chunk| ((port_of(chunk), chunk.schema), (chunk.version, chunk.body.clone()));
    chunks.iter().map(state).collect()
}

#[test]
fn a_get_in_pieces_misses_no_function_of_a_flow_that_stays_whatever_comes_and_goes() {
    let mut rng = rng();
    for round in 0..40 {
        // Flows of many parts, or all of one.
        let mut instance = instance(1, round % 2 == 0);
        (1..400).for_each(|port| packet(&mut instance, port, Nanos(0)));
        let mut stay: BTreeSet<u16> = (1..400).collect();
        let (hash, filter) = (hash(), StateFilter::default());
        let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
        loop {
            let mut function = as_function(&mut instance, &hash, Nanos(1));
            let max = rng.usize(2..20);
            let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max };
            let before = chunks.len();
            let more = function.get_per_flow(&get, &mut cursor, &mut chunks);
            assert!(chunks.len() - before <= max);
            if more == More::No {
                break;
            }
            let gone = rng.u16(1..400);
            if rng.bool() && stay.len() > 10 && stay.remove(&gone) {
                let frame = samples::udp4(HOST_A, HOST_B, (gone, 53), b"?");
                let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
                assert_eq!(function.del_per_flow(&[FlowId::flow(&meta.key)]), 1);
            }
            if rng.bool() {
                packet(&mut instance, rng.u16(400..800), Nanos(2));
            }
        }
        for port in stay {
            let of_port = chunks.iter().filter(|chunk| port_of(chunk) == port);
            // One that takes the place of another that goes is given again.
            let kinds: BTreeSet<_> = of_port.map(|chunk| chunk.schema.kind).collect();
            assert_eq!(kinds.len(), 2, "port {port}: {kinds:x?}");
        }
    }
}

#[test]
fn what_is_put_is_what_was_got_and_an_older_copy_changes_nothing() {
    let mut owner = instance(1, true);
    let mut standby = instance(2, false);
    (1..50).for_each(|port| packet(&mut owner, port, Nanos(0)));
    let old = all(&mut owner, "any", Nanos(5));
    put(&mut standby, &old, Nanos(5));
    assert_eq!(state(&all(&mut standby, "any", Nanos(9))), state(&old));
    // Both ways, and with packets in between.
    (1..20).for_each(|port| packet(&mut owner, port, Nanos(10)));
    let newer = all(&mut owner, "any", Nanos(11));
    let back = all(&mut standby, "any", Nanos(11));
    put(&mut owner, &back, Nanos(11));
    assert_eq!(state(&all(&mut owner, "any", Nanos(11))), state(&newer));
    put(&mut standby, &newer, Nanos(12));
    put(&mut standby, &old, Nanos(12));
    assert_eq!(state(&all(&mut standby, "any", Nanos(12))), state(&newer));
    let picked = all(&mut standby, "sport=1-9", Nanos(12));
    assert_eq!(picked.len(), 2 * 9);
}

#[test]
fn a_copy_ends_without_a_record_and_one_that_a_packet_has_come_for_with_one() {
    let mut owner = instance(1, true);
    let mut standby = instance(2, false);
    (1..10).for_each(|port| packet(&mut owner, port, Nanos(0)));
    put(&mut standby, &all(&mut owner, "any", Nanos(1)), Nanos(1));
    packet(&mut standby, 3, Nanos(2));
    let later = Nanos(0) + Duration::from_hours(2);
    (0..100).for_each(|_| standby.sweep(4_096, Nanos(0), later));
    assert_eq!((standby.flows.known(), standby.flows.copies()), (0, 0));
    let records = standby.chain.take_records(100);
    assert_eq!(records.len(), 1, "{records:?}");
}

/// All per-flow chunks that have changed after so many changes, and how many there were before.
fn changed(instance: &mut Instance, since: u64, now: Nanos) -> (Vec<Chunk>, u64) {
    let (hash, filter) = (hash(), StateFilter::default());
    let mut function = as_function(instance, &hash, now);
    let get = Get { filter: &filter, extent: Extent::Overlaps, since, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    let changes = function.changes().expect("they are counted");
    while function.get_per_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
    (chunks, changes)
}

/// Whether what is known of several flows is given by a get since so many changes.
fn several(instance: &mut Instance, since: u64, now: Nanos) -> bool {
    let (hash, filter) = (hash(), StateFilter::default());
    let mut function = as_function(instance, &hash, now);
    let get = Get { filter: &filter, extent: Extent::Overlaps, since, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    while function.get_multi_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
    function.changes().expect("they are counted") > since
}

#[test]
fn whatever_changes_state_is_seen_by_the_next_copy_and_nothing_else_is() {
    let (mut here, mut there) = (instance(1, true), instance(2, true));
    (1..200).for_each(|port| packet(&mut here, port, Nanos(0)));
    let (all_chunks, since) = changed(&mut here, 0, Nanos(1));
    assert_eq!(all_chunks.len(), 2 * 199);
    assert!(changed(&mut here, since, Nanos(1)).0.is_empty());
    // A packet.
    packet(&mut here, 7, Nanos(1));
    let (newer, _) = changed(&mut here, since, Nanos(1));
    assert_eq!(newer.iter().map(port_of).collect::<Vec<_>>(), [7, 7]);
    // A put, of however low a version.
    let low: Vec<_> = all_chunks.iter().filter(|chunk| port_of(chunk) == 9).cloned().collect();
    (0..5_000).for_each(|_| _ = there.flows.change());
    let (_, there_since) = changed(&mut there, 0, Nanos(1));
    put(&mut there, &low, Nanos(1));
    assert_eq!(changed(&mut there, there_since, Nanos(1)).0.len(), 2);
    // A flow that comes by a move, and a bucket, of one that has seen less.
    let (_, there_since) = changed(&mut there, 0, Nanos(1));
    let key = low[0].id.key().expect("a flow");
    let bucket = Bucket::of(hash().hash(&key));
    there.flows.forget(&key, bucket);
    let flow = here.flows.take_flow(&key, bucket, |_| true).expect("it is there");
    assert!(there.flows.put_flow(flow, bucket, MoveId(1)).1.is_none(), "room");
    let (came, there_since) = changed(&mut there, there_since, Nanos(1));
    assert_eq!(came.len(), 2);
    let bucket = Bucket::of(hash().hash(&all_chunks[0].id.key().expect("a flow")));
    there.flows.take_bucket(bucket);
    there.flows.put_bucket(bucket, here.flows.take_bucket(bucket).expect("it owns it"));
    assert!(changed(&mut there, there_since, Nanos(1)).0.len() >= 2);
    // What one function forgets of a flow, and what flows count for several.
    let of_one = Nanos(0) + Duration::from_secs(45);
    let before = all(&mut here, "any", of_one).len();
    let (_, since) = changed(&mut here, 0, of_one);
    (0..100).for_each(|_| here.sweep(4_096, Nanos(0), of_one));
    let left = all(&mut here, "any", of_one).len();
    if left < before && left > 0 {
        assert!(several(&mut here, since, of_one), "{before} and {left}");
    }
    let later = Nanos(0) + Duration::from_hours(2);
    let (_, since) = changed(&mut here, 0, of_one);
    (0..100).for_each(|_| here.sweep(4_096, Nanos(0), later));
    assert!(several(&mut here, since, later));
    let (_, since) = changed(&mut here, 0, later);
    (0..100).for_each(|_| here.sweep(4_096, Nanos(0), later));
    assert!(!several(&mut here, since, later), "nothing is left to change");
}

/// Which is newer is of the flow alone, whatever else instances have seen, and goes with it.
#[test]
fn later_rounds_and_a_flow_that_has_moved_are_newer_than_what_was_put_before() {
    let (mut here, mut busy) = (instance(1, true), instance(2, true));
    packet(&mut here, 7, Nanos(0));
    (20..2_000).for_each(|port| packet(&mut busy, port, Nanos(0)));
    for round in 1..5 {
        packet(&mut here, 7, Nanos(round));
        let chunks = all(&mut here, "sport=7", Nanos(round));
        put(&mut busy, &chunks, Nanos(round));
        assert_eq!(state(&all(&mut busy, "sport=7", Nanos(round))), state(&chunks), "{round}");
    }
    let old = all(&mut here, "sport=7", Nanos(9));
    let key = old[0].id.key().expect("a flow");
    let bucket = Bucket::of(hash().hash(&key));
    let flow = here.flows.take_flow(&key, bucket, |_| true).expect("it is there");
    let mut next = instance(3, false);
    assert!(next.flows.put_flow(flow, bucket, MoveId(1)).1.is_none(), "room");
    packet(&mut next, 7, Nanos(10));
    let newer = all(&mut next, "sport=7", Nanos(10));
    assert!(newer.iter().all(|chunk| chunk.version > old[0].version));
    put(&mut busy, &newer, Nanos(10));
    assert_eq!(state(&all(&mut busy, "sport=7", Nanos(10))), state(&newer));
    // Who puts what is old is told, and nothing changes.
    let hash = hash();
    let refused = as_function(&mut busy, &hash, Nanos(10)).put_per_flow(old[0].clone());
    assert!(matches!(refused, Err(PutError::Older { .. })), "{refused:?}");
    assert_eq!(state(&all(&mut busy, "sport=7", Nanos(10))), state(&newer));
}

#[test]
fn who_counts_no_versions_may_put_and_none_that_is_too_great_stands_in_the_way() {
    for owns in [true, false] {
        let (mut from, mut to) = (instance(1, true), instance(2, owns));
        packet(&mut from, 7, Nanos(0));
        let old = all(&mut from, "any", Nanos(1));
        packet(&mut from, 7, Nanos(1));
        let new = all(&mut from, "any", Nanos(1));
        let of = |chunks: &[Chunk], version| -> Vec<_> {
            chunks.iter().map(|chunk| Chunk { version, ..chunk.clone() }).collect()
        };
        let bodies = |chunks: &[Chunk]| -> Vec<_> {
            state(chunks).into_values().map(|(_, body)| body).collect()
        };
        put(&mut to, &of(&old, 5), Nanos(1));
        put(&mut to, &of(&new, 0), Nanos(1));
        assert_eq!(bodies(&all(&mut to, "any", Nanos(1))), bodies(&new));
        put(&mut to, &of(&old, u64::MAX), Nanos(1));
        put(&mut to, &of(&new, 6), Nanos(1));
        assert_eq!(bodies(&all(&mut to, "any", Nanos(1))), bodies(&new));
    }
}

#[test]
fn copies_take_no_room_of_flows_and_the_first_packet_makes_one_a_flow() {
    let (mut owner, mut standby) = (instance(1, true), instance(2, false));
    standby.flows = FlowTable::with_states(8, FlowHasher::with_seed(7), false);
    (1..9).for_each(|port| packet(&mut owner, port, Nanos(0)));
    put(&mut standby, &all(&mut owner, "any", Nanos(1)), Nanos(1));
    assert_eq!((standby.flows.known(), standby.flows.copies()), (0, 8));
    (20..26).for_each(|port| packet(&mut standby, port, Nanos(2)));
    assert_eq!((standby.flows.known(), standby.flows.copies()), (6, 8));
    packet(&mut standby, 3, Nanos(3));
    assert_eq!((standby.flows.known(), standby.flows.copies()), (7, 7));
    // It goes on where it was: two packets, of which one came there.
    let here = all(&mut standby, "sport=3", Nanos(4));
    packet(&mut owner, 3, Nanos(3));
    let bodies = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.body.clone()).collect();
    let (here, there): (Vec<_>, Vec<_>) =
        (bodies(&here), bodies(&all(&mut owner, "sport=3", Nanos(4))));
    assert_eq!(here, there);
    // A flow of the instance is full of room, and a copy stays one.
    packet(&mut standby, 26, Nanos(4));
    let refused = {
        let mut frame = samples::udp4(HOST_A, HOST_B, (5, 53), b"?");
        let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
        meta.hash = hash().hash(&meta.key);
        let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
        standby.show(Passing { frame, meta, port, now: Nanos(5) })
    };
    assert!(refused.is_err(), "there is no room");
    assert_eq!((standby.flows.known(), standby.flows.copies()), (8, 7));
}

#[test]
fn a_chunk_of_no_function_here_or_about_no_flow_is_refused_and_changes_nothing() {
    let mut owner = instance(1, true);
    packet(&mut owner, 1, Nanos(0));
    let chunks = all(&mut owner, "any", Nanos(1));
    let before = state(&chunks);
    let unknown = Chunk { schema: Schema { kind: 0x7fff, revision: 1 }, ..chunks[0].clone() };
    let elsewhere = Chunk { id: FlowId::default(), ..chunks[0].clone() };
    let (hash, mut refused) = (hash(), Vec::new());
    let mut function = as_function(&mut owner, &hash, Nanos(1));
    refused.extend(function.put_per_flow(unknown).err());
    refused.extend(function.put_per_flow(elsewhere).err());
    assert!(matches!(refused[0], PutError::UnknownSchema { .. }), "{refused:?}");
    assert!(matches!(refused[1], PutError::WrongId { .. }), "{refused:?}");
    assert_eq!(state(&all(&mut owner, "any", Nanos(1))), before);
}

#[test]
fn what_there_is_no_room_for_is_refused_and_packets_are_not_kept_during_a_move() {
    let mut owner = instance(1, true);
    let mut standby = instance(2, false);
    standby.flows = FlowTable::with_states(8, FlowHasher::with_seed(7), false);
    (1..20).for_each(|port| packet(&mut owner, port, Nanos(0)));
    let chunks = all(&mut owner, "any", Nanos(1));
    let hash = hash();
    let mut function = as_function(&mut standby, &hash, Nanos(1));
    let refused: Vec<_> =
        chunks.into_iter().filter_map(|chunk| function.put_per_flow(chunk).err()).collect();
    assert_eq!(refused.len(), 2 * (19 - 8));
    assert!(refused.iter().all(|error| matches!(error, PutError::Full { most: 8, .. })));
    function.moving = Some(MoveId(4));
    let id = SubscriptionId(1);
    let kept = function.enable_events(id, StateFilter::default(), Action::Buffer, 0);
    assert_eq!(kept, Err(EventsError::Moving(MoveId(4))));
    let told = function.enable_events(id, StateFilter::default(), Action::Process, 0);
    assert_eq!(told, Ok(()));
}
