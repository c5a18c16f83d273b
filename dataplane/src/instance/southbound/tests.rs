//! State taken out of one instance and put into another, while packets come and flows go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use weir_state_transfer::chunk::Schema;
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::merge::Replica;
use weir_state_transfer::southbound::EventLimits;
use weir_state_transfer::{
    BUCKETS, Bucket, InstanceId, PortId, Selection, ServiceId, SteeringHash,
};

use super::*;
use crate::instance::{FlowHasher, FlowTable, Part};
use crate::nf::firewall::{self, Rules};
use crate::nf::{Chain, ChainConfig, FunctionConfig, Passing, ids};
use crate::packet::samples::{self, HOST_A, HOST_B};
use crate::packet::{Parsed, parse};

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

/// The flow that [`packet`] is of.
fn key(port: u16) -> FlowKey {
    FlowKey::v4(HOST_A, HOST_B, (port, 53), 17, ServiceId(0))
}

/// The bucket that it is in.
fn bucket(port: u16) -> Bucket {
    hash().bucket(&key(port))
}

fn is_in(bucket: Bucket, chunk: &Chunk) -> bool {
    hash().bucket(&chunk.id.key().expect("a flow")) == bucket
}

fn packet(instance: &mut Instance, port: u16, now: Nanos) {
    let mut frame = samples::udp4(HOST_A, HOST_B, (port, 53), b"?");
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    meta.hash = hash().hash(&meta.key);
    let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
    assert_eq!(instance.show(Passing { frame, meta, port, now }), Ok(()));
}

/// By instance number: all packets are its own.
static STEERING: LazyLock<[Steering; 4]> = LazyLock::new(|| {
    [0, 1, 2, 3].map(|number| Steering::new(SteeringHash::new(0x6d5a), InstanceId(number), 16))
});

fn as_function<'a>(instance: &'a mut Instance, hash: &'a FlowHash, now: Nanos) -> AsFunction<'a> {
    let steering = &STEERING[usize::from(instance.id.0)];
    AsFunction { instance, hash, steering, now, moving: None, packet_max: 2_048 }
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

/// Puts chunks for which there is room; how many were older than what is known.
fn put(instance: &mut Instance, chunks: &[Chunk], now: Nanos) -> usize {
    let hash = hash();
    let mut function = as_function(instance, &hash, now);
    let put = |chunk: &&Chunk| match function.put_per_flow((*chunk).clone()) {
        Ok(()) => false,
        Err(PutError::Older { .. }) => true,
        Err(error) => panic!("{error}"),
    };
    chunks.iter().filter(put).count()
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

/// Where a flow goes, another of its part takes its place, and one that has been given is given again:
/// one for each that goes. Otherwise each is given once.
#[test]
fn a_get_in_pieces_gives_each_function_of_each_flow_once_whatever_comes_and_in_place_of_what_goes()
{
    let mut rng = weir_seed::rng();
    for round in 0..60 {
        // Flows of many parts, all of one, or copies.
        let mut here = instance(1, round % 3 == 0);
        (1..400).for_each(|port| packet(&mut here, port, Nanos(0)));
        if round % 3 == 2 {
            let chunks = all(&mut here, "any", Nanos(0));
            here = instance(1, false);
            assert_eq!(put(&mut here, &chunks, Nanos(0)), 0);
            assert_eq!(here.flows.copies(), 399);
        }
        let (goes, mut gone) = (round % 4 != 3, BTreeSet::new());
        let (hash, filter) = (hash(), StateFilter::default());
        let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
        loop {
            let mut function = as_function(&mut here, &hash, Nanos(1));
            let max = rng.usize(1..20);
            let get = Get { filter: &filter, extent: Extent::Overlaps, since: 0, max };
            let before = chunks.len();
            let more = function.get_per_flow(&get, &mut cursor, &mut chunks);
            assert!(chunks.len() - before <= max.max(2), "what two functions know of one flow");
            if more == More::No {
                break;
            }
            let port = rng.u16(1..400);
            if goes && rng.bool() && gone.len() < 390 && gone.insert(port) {
                assert_eq!(function.del_per_flow(&[FlowId::flow(&key(port))]), 1);
            }
            if rng.bool() {
                packet(&mut here, rng.u16(400..800), Nanos(2));
            }
        }
        let mut given = BTreeMap::<_, usize>::new();
        chunks
            .iter()
            .for_each(|chunk| *given.entry((port_of(chunk), chunk.schema)).or_default() += 1);
        let kinds = chunks.iter().map(|chunk| chunk.schema).collect::<BTreeSet<_>>();
        assert_eq!(kinds.len(), 2);
        let mut again = 0;
        for port in (1..400).filter(|port| !gone.contains(port)) {
            let times = kinds.iter().map(|kind| given.get(&(port, *kind)).copied());
            let times: Vec<_> = times.map(Option::unwrap_or_default).collect();
            assert!(times[0] > 0 && times[0] == times[1], "port {port}: {times:?}");
            again += times[0] - 1;
        }
        assert!(again <= gone.len(), "{again} are given again, and {} went", gone.len());
    }
}

#[test]
fn what_is_put_is_what_was_got_and_an_older_copy_changes_nothing() {
    let mut owner = instance(1, true);
    let mut standby = instance(2, false);
    (1..50).for_each(|port| packet(&mut owner, port, Nanos(0)));
    let old = all(&mut owner, "any", Nanos(5));
    assert_eq!(put(&mut standby, &old, Nanos(5)), 0);
    assert_eq!(state(&all(&mut standby, "any", Nanos(9))), state(&old));
    // Both ways, and with packets in between.
    (1..20).for_each(|port| packet(&mut owner, port, Nanos(10)));
    let newer = all(&mut owner, "any", Nanos(11));
    let back = all(&mut standby, "any", Nanos(11));
    assert_eq!(put(&mut owner, &back, Nanos(11)), 2 * 19, "packets have come for 19 flows");
    assert_eq!(state(&all(&mut owner, "any", Nanos(11))), state(&newer));
    assert_eq!(put(&mut standby, &newer, Nanos(12)), 0);
    assert_eq!(put(&mut standby, &old, Nanos(12)), 2 * 19);
    assert_eq!(state(&all(&mut standby, "any", Nanos(12))), state(&newer));
    let picked = all(&mut standby, "sport=1-9", Nanos(12));
    assert_eq!(picked.len(), 2 * 9);
}

#[test]
fn a_wrong_version_of_one_flow_leaves_versions_for_those_that_begin_later() {
    let (mut owner, mut standby) = (instance(1, true), instance(2, false));
    packet(&mut owner, 1, Nanos(0));
    let wrong = all(&mut owner, "any", Nanos(1)).into_iter();
    let wrong: Vec<_> = wrong.map(|chunk| Chunk { version: u64::MAX >> 1, ..chunk }).collect();
    for place in [&mut owner, &mut standby] {
        assert_eq!(put(place, &wrong, Nanos(1)), 0);
    }
    packet(&mut owner, 2, Nanos(2));
    let old = all(&mut owner, "sport=2", Nanos(3));
    packet(&mut owner, 2, Nanos(4));
    let new = all(&mut owner, "sport=2", Nanos(5));
    assert_eq!(put(&mut standby, &new, Nanos(6)), 0);
    assert_eq!(put(&mut standby, &old, Nanos(7)), old.len(), "it is older");
    assert_eq!(state(&all(&mut standby, "sport=2", Nanos(8))), state(&new));
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

/// Who deletes it says that the flow goes on elsewhere, where its record will be made.
#[test]
fn what_is_deleted_leaves_no_record_and_what_ends_does() {
    let mut here = instance(1, true);
    (1..10).for_each(|port| packet(&mut here, port, Nanos(0)));
    let ids: Vec<_> =
        (1..10).filter(|port| *port != 3).map(|port| FlowId::flow(&key(port))).collect();
    let hash = hash();
    assert_eq!(as_function(&mut here, &hash, Nanos(1)).del_per_flow(&ids), 8);
    assert!(here.chain.take_records(100).is_empty(), "a delete is silent");
    // Nor does one come later, but of what was not deleted.
    let later = Nanos(0) + Duration::from_hours(2);
    (0..100).for_each(|_| here.sweep(4_096, Nanos(0), later));
    assert_eq!(here.flows.known(), 0);
    let records = here.chain.take_records(100);
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

/// Whether what is known of several flows is given by a get since so many changes, and of all flows by
/// whoever serves it.
fn several(instance: &mut Instance, since: u64, now: Nanos) -> bool {
    let (hash, filter) = (hash(), StateFilter::default());
    let mut function = as_function(instance, &hash, now);
    let get = Get { filter: &filter, extent: Extent::Overlaps, since, max: 16 };
    let (mut cursor, mut chunks) = (Cursor::default(), Vec::new());
    while function.get_multi_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
    let is_newer = function.changes().expect("they are counted") > since;
    assert!(is_newer || chunks.is_empty(), "{chunks:?}");
    is_newer
}

#[test]
fn a_packet_a_put_and_what_comes_by_a_move_are_seen_by_the_next_copy_and_nothing_else_is() {
    let (mut here, mut there) = (instance(1, true), instance(2, true));
    (1..200).for_each(|port| packet(&mut here, port, Nanos(0)));
    let (all_chunks, since) = changed(&mut here, 0, Nanos(1));
    assert_eq!(all_chunks.len(), 2 * 199);
    let ports = |chunks: &[Chunk]| chunks.iter().map(port_of).collect::<Vec<_>>();
    assert_eq!(ports(&changed(&mut here, since, Nanos(1)).0), [0; 0]);
    packet(&mut here, 7, Nanos(1));
    assert_eq!(ports(&changed(&mut here, since, Nanos(1)).0), [7, 7]);
    // Puts, of however low a version: of a flow that is owned, of more of it, and of a copy.
    let of = |port| all_chunks.iter().filter(move |chunk| port_of(chunk) == port).cloned();
    (0..500_000).for_each(|_| _ = there.flows.change());
    let mut standby = instance(3, false);
    (0..500_000).for_each(|_| _ = standby.flows.change());
    for chunk in of(9) {
        for place in [&mut there, &mut standby] {
            let (_, since) = changed(place, 0, Nanos(1));
            assert_eq!(put(place, std::slice::from_ref(&chunk), Nanos(1)), 0);
            let (came, since) = changed(place, since, Nanos(1));
            assert!(came.contains(&chunk) && came.iter().all(|chunk| port_of(chunk) == 9));
            assert_eq!(ports(&changed(place, since, Nanos(1)).0), [0; 0]);
        }
    }
    // A flow that comes by a move, and a bucket, of one that has seen less.
    let (_, since) = changed(&mut there, 0, Nanos(1));
    let eleventh = bucket(11);
    let flow = here.flows.take_flow(&key(11), eleventh, |_| true).expect("it is there");
    there.flows.put_flows(flow, eleventh, MoveId(1));
    let (came, since) = changed(&mut there, since, Nanos(1));
    assert_eq!(ports(&came), [11, 11]);
    let bucket = bucket(13);
    there.flows.take_bucket(bucket);
    there.flows.put_bucket(bucket, here.flows.take_bucket(bucket).expect("it owns it"));
    let (came, since) = changed(&mut there, since, Nanos(1));
    assert!(ports(&came).contains(&13) && came.iter().all(|chunk| is_in(bucket, chunk)));
    assert_eq!(ports(&changed(&mut there, since, Nanos(1)).0), [0; 0]);
}

/// Some of a flow may end, and the flow go on: what several flows have in common is another then.
#[test]
fn what_ends_without_a_packet_is_seen_by_the_next_copy_and_nothing_else_is() {
    let mut here = instance(1, true);
    (1..200).for_each(|port| packet(&mut here, port, Nanos(0)));
    let sweep = |here: &mut Instance, now| (0..100).for_each(|_| here.sweep(4_096, Nanos(0), now));
    // The firewall waits for an answer for half a minute, and the intrusion detection for a whole.
    let ends = [(29, 398, false), (45, 199, true), (7_200, 0, true), (7_300, 0, false)];
    for (seconds, left, changes) in ends {
        let now = Nanos(0) + Duration::from_secs(seconds);
        let (_, since) = changed(&mut here, 0, now);
        assert!(!several(&mut here, since, now));
        sweep(&mut here, now);
        assert_eq!(all(&mut here, "any", now).len(), left, "after {seconds} s");
        assert_eq!(several(&mut here, since, now), changes, "after {seconds} s");
        let given = if changes { left } else { 0 };
        assert_eq!(changed(&mut here, since, now).0.len(), given, "after {seconds} s");
    }
}

/// A later flow of the same ends is newer than a copy of the one before, however little it has seen,
/// and wherever that has been.
#[test]
fn a_flow_that_begins_anew_takes_the_place_of_a_copy_of_the_one_before() {
    let (mut first, mut owner) = (instance(1, true), instance(2, true));
    let mut standby = instance(3, false);
    (0..100).for_each(|_| packet(&mut first, 7, Nanos(0)));
    let flow = first.flows.take_flow(&key(7), bucket(7), |_| true).expect("it is there");
    owner.flows.put_flows(flow, bucket(7), MoveId(1));
    assert_eq!(put(&mut standby, &all(&mut owner, "any", Nanos(1)), Nanos(1)), 0);
    assert!(owner.flows.forget(&key(7), bucket(7)), "it ends");
    packet(&mut owner, 7, Nanos(2));
    let anew = all(&mut owner, "any", Nanos(3));
    assert_eq!((anew.len(), put(&mut standby, &anew, Nanos(3))), (2, 0));
    assert_eq!(state(&all(&mut standby, "any", Nanos(3))), state(&anew));
    // So it is where the standby has gone on with its copy, and at who got a copy of that.
    packet(&mut standby, 7, Nanos(4));
    assert!(standby.flows.forget(&key(7), bucket(7)));
    packet(&mut standby, 7, Nanos(5));
    assert_eq!(put(&mut owner, &all(&mut standby, "any", Nanos(5)), Nanos(5)), 0);
    // And a copy that is over is nothing any more, whatever it counted.
    let hour = Nanos(0) + Duration::from_hours(1);
    let mut other = instance(0, true);
    packet(&mut other, 7, hour);
    let mut newest = instance(3, false);
    let high = anew.iter().map(|chunk| Chunk { version: 1 << 40, ..chunk.clone() });
    assert_eq!(put(&mut newest, &Vec::from_iter(high), Nanos(5)), 0);
    assert_eq!(put(&mut newest, &all(&mut other, "any", hour), hour), 0);
    assert_eq!(state(&all(&mut newest, "any", hour)), state(&all(&mut other, "any", hour)));
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
        assert_eq!(put(&mut busy, &chunks, Nanos(round)), 0, "{round}");
        assert_eq!(state(&all(&mut busy, "sport=7", Nanos(round))), state(&chunks), "{round}");
    }
    let old = all(&mut here, "sport=7", Nanos(9));
    let flow = here.flows.take_flow(&key(7), bucket(7), |_| true).expect("it is there");
    let mut next = instance(3, false);
    next.flows.put_flows(flow, bucket(7), MoveId(1));
    packet(&mut next, 7, Nanos(10));
    let newer = all(&mut next, "sport=7", Nanos(10));
    assert!(newer.iter().all(|chunk| chunk.version > old[0].version));
    assert_eq!(put(&mut busy, &newer, Nanos(10)), 0);
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
        assert_eq!(put(&mut to, &of(&old, 5), Nanos(1)), 0);
        assert_eq!(put(&mut to, &of(&new, 0), Nanos(1)), 0);
        assert_eq!(bodies(&all(&mut to, "any", Nanos(1))), bodies(&new));
        assert_eq!(put(&mut to, &of(&old, u64::MAX), Nanos(1)), 0);
        assert_eq!(put(&mut to, &of(&new, 6), Nanos(1)), 0);
        assert_eq!(bodies(&all(&mut to, "any", Nanos(1))), bodies(&new));
    }
}

#[test]
fn copies_take_no_room_of_flows_and_the_first_packet_makes_one_a_flow() {
    let (mut owner, mut standby) = (instance(1, true), instance(2, false));
    standby.flows = FlowTable::with_states(8, FlowHasher::with_seed(7), false);
    (1..9).for_each(|port| packet(&mut owner, port, Nanos(0)));
    assert_eq!(put(&mut standby, &all(&mut owner, "any", Nanos(1)), Nanos(1)), 0);
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
    // All room of flows is taken, and a copy stays one.
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

/// The owner of a bucket has a copy of a flow that a rule gives to another, and no more: it takes no
/// room, has no record, and is not handed over with the bucket.
#[test]
fn what_is_put_of_a_flow_that_a_rule_gives_to_another_is_a_copy_at_the_owner_of_its_bucket() {
    let (mut by_rule, mut owner) = (instance(1, true), instance(2, true));
    (1..100).for_each(|port| packet(&mut by_rule, port, Nanos(0)));
    let chunks = all(&mut by_rule, "any", Nanos(1));
    let filter = "proto=udp,sport=1-49".parse().expect("a filter");
    let steering = STEERING[2].moved(&Selection::Filter(filter), InstanceId(2), InstanceId(1));
    let (hash, steering) = (hash(), steering.expect("a rule"));
    for chunk in &chunks {
        let mut function =
            AsFunction { steering: &steering, ..as_function(&mut owner, &hash, Nanos(1)) };
        assert_eq!(function.put_per_flow(chunk.clone()), Ok(()));
    }
    assert_eq!((owner.flows.known(), owner.flows.copies()), (50, 49));
    let parts = (0..BUCKETS as u32).filter_map(|n| owner.flows.take_bucket(Bucket::of(n)));
    assert_eq!(parts.map(|part| part.known()).sum::<usize>(), 50);
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
