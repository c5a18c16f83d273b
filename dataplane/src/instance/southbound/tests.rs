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
    let get = Get { filter: &filter, extent: Extent::Overlaps, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    while function.get_per_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
    chunks
}

fn put(instance: &mut Instance, chunks: &[Chunk], now: Nanos) {
    let hash = hash();
    let mut function = as_function(instance, &hash, now);
    chunks.iter().for_each(|chunk| function.put_per_flow(chunk.clone()).expect("room"));
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
fn a_get_in_pieces_gives_each_flow_of_each_function_once_whatever_comes_and_goes() {
    let mut rng = rng();
    for _ in 0..40 {
        let mut instance = instance(1, true);
        (1..400).for_each(|port| packet(&mut instance, port, Nanos(0)));
        let mut stay: BTreeSet<u16> = (1..400).collect();
        let (hash, filter) = (hash(), StateFilter::default());
        let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
        loop {
            let mut function = as_function(&mut instance, &hash, Nanos(1));
            let max = rng.usize(1..20);
            let get = Get { filter: &filter, extent: Extent::Overlaps, max };
            let before = chunks.len();
            let more = function.get_per_flow(&get, &mut cursor, &mut chunks);
            assert!(chunks.len() - before <= max);
            if more == More::No {
                break;
            }
            let gone = rng.u16(1..400);
            if rng.u8(..4) == 0 && stay.len() > 10 && stay.remove(&gone) {
                let frame = samples::udp4(HOST_A, HOST_B, (gone, 53), b"?");
                let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
                assert_eq!(function.del_per_flow(&[FlowId::flow(&meta.key)]), 1);
            }
            packet(&mut instance, rng.u16(400..800), Nanos(2));
        }
        for port in stay {
            let of_port = chunks.iter().filter(|chunk| port_of(chunk) == port);
            let kinds: Vec<_> = of_port.map(|chunk| chunk.schema.kind).collect();
            assert_eq!(kinds.len(), 2, "port {port}: {kinds:x?}");
            assert_ne!(kinds[0], kinds[1], "port {port}");
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
    assert_eq!(standby.flows.known(), 0);
    let records = standby.chain.take_records(100);
    assert_eq!(records.len(), 1, "{records:?}");
}

#[test]
fn what_changes_without_a_packet_or_comes_by_a_move_has_a_greater_version_than_all_before() {
    let (mut here, mut there) = (instance(1, true), instance(2, false));
    let of_several = |instance: &mut Instance, now| {
        let (hash, filter) = (hash(), StateFilter::default());
        let mut function = as_function(instance, &hash, now);
        let get = Get { filter: &filter, extent: Extent::Overlaps, max: 16 };
        let (mut cursor, mut chunks) = (Cursor::default(), function.get_all_flows());
        while function.get_multi_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
        chunks
    };
    (1..200).for_each(|port| packet(&mut here, port, Nanos(0)));
    let before = of_several(&mut here, Nanos(1));
    let newest = before.iter().map(|chunk| chunk.version).max().expect("totals");
    // Flows end, which totals count, though no packet comes.
    let later = Nanos(0) + Duration::from_hours(2);
    (0..100).for_each(|_| here.sweep(4_096, Nanos(0), later));
    let after = of_several(&mut here, later);
    assert!(after.iter().all(|chunk| chunk.version > newest), "{after:?}");
    // An instance that has seen many packets gets a bucket with an old flow of one that has not.
    let mut busy = instance(3, true);
    let key = {
        let frame = samples::udp4(HOST_A, HOST_B, (7, 53), b"?");
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
        meta.key
    };
    let bucket = Bucket::of(hash().hash(&key));
    packet(&mut busy, 7, later);
    (0..5_000).for_each(|_| _ = there.flows.update());
    let newest = there.flows.version();
    there.flows.put_bucket(bucket, busy.flows.take_bucket(bucket).expect("it owns it"));
    let came = all(&mut there, "sport=7", later);
    assert!(came.len() == 2 && came.iter().all(|chunk| chunk.version > newest), "{came:?}");
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
