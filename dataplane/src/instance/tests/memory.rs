//! What is kept of streams is counted to the byte, whatever becomes of flows, and has its bound.

use std::ops::Range;
use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::flow_id::Extent;
use weir_state_transfer::southbound::{self, Get, More, Southbound};

use super::*;
use crate::nf::kept;
use crate::packet::Meta;
use crate::steering::{FlowHash, Steering};

/// Bytes that an instance may keep.
const MEMORY_MAX: usize = 40_000;
/// Buckets that an instance has at the beginning, of those that flows fall into.
const OWNED: [[u32; 2]; 2] = [[0, 1], [2, 3]];
const HOSTS: u8 = 4;

fn instance<const N: usize>(id: u8, owned: [u32; N]) -> Instance {
    let config = ids::Config { memory_max: MEMORY_MAX, ..ids::Config::default() };
    let functions = vec![FunctionConfig::Ids(config)];
    let config = ChainConfig::new(functions, ids::Timestamp(0)).expect("a function");
    let chain = Chain::new(
        &config,
        &SteeringHash::new(0x6d5a),
        Replica { instance: u32::from(id), incarnation: 1 },
    );
    let hasher = FlowHasher::with_seed(SEED);
    let mut flows = FlowTable::with_states(256, hasher.clone(), false);
    for n in owned {
        flows.put_bucket(Bucket::of(n), Box::new(Part::with_states(256, &hasher, false)));
    }
    Instance::new(InstanceId(id), flows, chain, Arc::default(), EventLimits::default())
}

/// What is kept by all connections of an instance, counted one by one, and each from its bytes.
fn recounted(instance: &mut Instance) -> usize {
    let (mut cursor, mut sum) = (StatesCursor::default(), 0);
    while !cursor.is_done() {
        instance.flows.walk_states(&mut cursor, 64, |known| {
            let now = ids::Timestamp(1 << 40);
            for state in &known.states {
                let FlowState::Ids(Some(connection)) = state else { continue };
                let timeouts = ids::Timeouts::default();
                let again = connection.to_chunk(&timeouts, now);
                let again =
                    ids::Connection::from_chunk(&again, &timeouts, now).expect("its own chunk");
                assert_eq!(again.kept(), connection.kept());
            }
            sum += kept(&known.states);
            false
        });
    }
    sum
}

/// A segment of one of few connections that are about HTTP, in order or not.
fn segment(rng: &mut fastrand::Rng) -> (Vec<u8>, Meta) {
    let client = std::net::Ipv4Addr::new(10, 0, 1, rng.u8(..HOSTS));
    let text: &[u8] = match rng.u8(..6) {
        0 => b"GET /a HTTP/1.1\r\nHost: one.test\r\n\r\nGET /b HTTP/1.1\r\nHost: ",
        1 => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        2 => b"GET /a HTTP/1.1\r\nHost: one.test\r\nUser-Agent: x\r\n\r\n",
        3 => &[b'x'; 900],
        4 => b"HTTP/1.1 103 Early Hints\r\n\r\n",
        _ => b"",
    };
    let port = rng.u16(4_000..4_012);
    let mut frame = match rng.bool() {
        true => samples::tcp4(client, HOST_B, (port, 80), text),
        false => samples::tcp4(HOST_B, client, (80, port), text),
    };
    let ahead = if rng.bool() { 0 } else { rng.u32(..20_000) };
    frame[38..42].copy_from_slice(&(1_000 + ahead).to_be_bytes());
    // ACK; now and then with RST, which ends the connection before long.
    frame[47] = if rng.u8(..60) == 0 { 0x14 } else { 0x10 };
    let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else { panic!("a packet") };
    meta.hash = u32::from(client.octets()[3]);
    (frame, meta)
}

fn bucket_of(key: &FlowKey) -> Bucket {
    let client = if key.src_port() == 80 { key.dst() } else { key.src() };
    let std::net::IpAddr::V4(client) = client else { panic!("of IPv4") };
    Bucket::of(client.octets()[3].into())
}

/// Flows that a filter picks go from one to the other.
fn move_some(from: &mut Instance, to: &mut Instance, below: u16) {
    let wanted = |key: &FlowKey| {
        let port = key.src_port().max(key.dst_port());
        (port < below).then(|| bucket_of(key))
    };
    let (mut cursor, mut looks) = (TakeCursor::default(), 10_000);
    let flows = from.flows.take_matching(&mut cursor, &mut looks, 1_000, wanted);
    flows.each(|flow, entries| {
        let bucket = bucket_of(&flow.key);
        let (_, left) = to.flows.put_flow(flow, entries, bucket, MoveId(1));
        assert!(left.is_none(), "there is room");
    });
}

/// A connection goes from one to the other as bytes.
fn move_as_bytes(from: &mut Instance, to: &mut Instance, key: &FlowKey, now: ids::Timestamp) {
    let bucket = bucket_of(key);
    let Some(flows) = from.flows.take_flow(key, bucket, |_| true) else { return };
    flows.each(|flow, _| {
        for state in flow.states.into_iter().flat_map(|known| known.states) {
            let FlowState::Ids(Some(connection)) = state else { continue };
            let chunk = connection.to_chunk(&ids::Timeouts::default(), now);
            let arrived = ids::Connection::from_chunk(&chunk, &ids::Timeouts::default(), now)
                .expect("its own chunk");
            let states = FlowStates::new(Box::new([FlowState::Ids(Some(arrived))]), 0);
            assert!(to.flows.keep(*key, bucket, states).is_ok(), "there is room");
        }
    });
}

#[test]
fn what_all_connections_keep_is_counted_to_the_byte_and_no_packet_makes_it_too_much() {
    let mut rng = weir_seed::rng();
    let (mut most, mut given_up) = (0, 0);
    for _ in 0..4 {
        let mut pair = [instance(1, OWNED[0]), instance(2, OWNED[1])];
        let mut now = Nanos(1 << 40);
        for step in 0..6_000 {
            now = now + Duration::from_millis(rng.u64(..20));
            let [one, two] = &mut pair;
            let (here, there) = if rng.bool() { (one, two) } else { (two, one) };
            let (mut frame, mut meta) = segment(&mut rng);
            let (key, bucket) = (meta.key, Bucket::of(meta.hash));
            match rng.u16(..1_000) {
                0..4 => move_some(here, there, rng.u16(4_000..4_012)),
                4..8 => {
                    let gone = here.flows.take_bucket(bucket);
                    gone.into_iter().for_each(|part| there.flows.put_bucket(bucket, part));
                }
                8..20 => {
                    move_as_bytes(here, there, &key.both_ways(), ids::Timestamp(now.0));
                }
                20..24 => here.flows.poison(key, bucket, now),
                24..26 => {
                    while !here.end_flows(7) {
                        here.chain.take_records(1_000);
                    }
                }
                26..80 => here.sweep(rng.usize(1..300), now - Duration::from_secs(60), now),
                _ => {
                    // Where the flow is, or where it would begin.
                    let known = there.flows.known_states(&key, bucket).is_some();
                    let place = if known { there } else { here };
                    let before = place.flows.kept();
                    let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
                    assert_eq!(place.show(Passing { frame, meta, port, now }), Ok(()));
                    let after = place.flows.kept();
                    assert!(after <= MEMORY_MAX || after <= before, "{before} and {after} bytes");
                }
            }
            for instance in &mut pair {
                instance.chain.take_records(1_000);
                most = most.max(instance.flows.kept());
                if step % 8 == 0 {
                    assert_eq!(instance.flows.kept(), recounted(instance), "at {step}");
                }
            }
        }
        for instance in &mut pair {
            // What came by moves is too much for a round of sweeps at most.
            (0..20).for_each(|_| instance.sweep(1_000, now, now));
            assert!(instance.flows.kept() <= MEMORY_MAX);
            let counters = instance.chain.counters().flat_map(|(_, counters)| counters);
            let named = counters.filter(|(name, _)| name == "without_memory");
            given_up += named.map(|(_, value)| value).sum::<u64>();
            instance.ended = StatesCursor::default();
            while !instance.end_flows(64) {
                instance.chain.take_records(1_000);
            }
            assert_eq!((instance.flows.kept(), instance.flows.known()), (0, 0));
        }
    }
    assert!(most > MEMORY_MAX / 2 && given_up > 0, "{most} bytes, {given_up} given up");
}

/// An instance with the divisions of flows that all have, and what is given of it.
struct Asked {
    instance: Instance,
    hash: FlowHash,
    steering: Steering,
}

const NOW: Nanos = Nanos(1 << 40);

impl Asked {
    /// One that owns no bucket.
    fn new(id: u8) -> Self {
        let hash = SteeringHash::new(0x6d5a);
        let steering = Steering::new(hash.clone(), InstanceId(0), 16);
        Self { instance: instance(id, []), hash: FlowHash::new(hash, None), steering }
    }

    fn as_function(&mut self) -> AsFunction<'_> {
        let Self { instance, hash, steering } = self;
        AsFunction { instance, hash, steering, now: NOW, moving: None, packet_max: 9 }
    }

    fn get(&mut self, since: u64) -> Vec<Chunk> {
        let filter = "any".parse().expect("a filter");
        let get = Get { filter: &filter, extent: Extent::Overlaps, since, max: 1_000 };
        let (mut cursor, mut chunks) = (southbound::Cursor::default(), Vec::new());
        while self.as_function().get_per_flow(&get, &mut cursor, &mut chunks) == More::Yes {}
        chunks
    }

    /// Segments of a request of each of these ports, of which one is missing: all else is kept.
    fn requests(&mut self, ports: Range<u16>) {
        for port in ports {
            for (ahead, text) in [(0, &b"GET /a HTTP/1.1\r\nHost: "[..]), (40, &[b'x'; 900])] {
                let mut frame = samples::tcp4(HOST_A, HOST_B, (port, 80), text);
                frame[38..42].copy_from_slice(&(1_000_u32 + ahead).to_be_bytes());
                frame[47] = 0x10;
                let Ok(Parsed::Ip(mut meta)) = parse(&frame, ServiceId(0)) else {
                    panic!("a packet")
                };
                meta.hash = self.hash.hash(&meta.key);
                let (frame, meta, port) = (&mut frame[..], &mut meta, PortId(0));
                assert_eq!(self.instance.show(Passing { frame, meta, port, now: NOW }), Ok(()));
            }
        }
    }

    /// Flows come by a move.
    fn take(&mut self, from: &mut Self, ports: Range<u16>) {
        for key in ports.map(|port| FlowKey::v4(HOST_A, HOST_B, (port, 80), 6, ServiceId(0))) {
            let bucket = self.hash.bucket(&key);
            let flow = from.instance.flows.take_flow(&key, bucket, |_| true).expect("it is there");
            self.instance.flows.put_flows(flow, bucket, MoveId(1));
        }
    }

    /// Bytes that are kept of flows, of copies, and flows of which no more is kept.
    fn kept(&self) -> (usize, usize, u64) {
        let counters = self.instance.chain.counters().flat_map(|(_, counters)| counters);
        let named = counters.filter(|(name, _)| name == "without_memory");
        let given_up = named.map(|(_, value)| value).sum();
        (self.instance.flows.kept(), self.instance.flows.kept_of_copies(), given_up)
    }

    fn sweep(&mut self) {
        (0..20).for_each(|_| self.instance.sweep(1_000, NOW, NOW));
    }
}

/// What copies keep comes to half of what there may be, and none of it from what is the instance's
/// own.
#[test]
fn what_copies_keep_of_streams_is_bounded_and_gives_way_to_flows() {
    let mut rng = weir_seed::rng();
    let [mut owner, mut other, mut standby] = [1, 2, 3].map(Asked::new);
    owner.requests(4_000..4_030);
    let mut chunks = owner.get(0);
    other.requests(5_000..5_030);
    chunks.extend(other.get(0));
    rng.shuffle(&mut chunks);
    assert_eq!(chunks.len(), 60);
    for chunk in chunks {
        standby.as_function().put_per_flow(chunk).expect("room");
        assert!(standby.kept().1 <= MEMORY_MAX / 2, "{:?}", standby.kept());
    }
    assert_eq!((standby.instance.flows.copies(), standby.instance.flows.known()), (60, 0));
    let (_, of_copies, given_up) = standby.kept();
    assert!(of_copies > MEMORY_MAX / 2 - 1_000 && given_up > 0, "{:?}", standby.kept());
    // Flows of its own have all the memory that there is.
    standby.requests(6_000..6_030);
    let (own, still, then) = standby.kept();
    assert!(own > MEMORY_MAX / 2 && own <= MEMORY_MAX, "{own}");
    assert_eq!((still, then), (of_copies, given_up), "nothing is given up for copies");
    standby.sweep();
    let (after, of_copies, _) = standby.kept();
    assert_eq!(after, own);
    assert!(after + of_copies <= MEMORY_MAX, "{after} and {of_copies}");
    assert!(after + of_copies > MEMORY_MAX - 2_000, "no more goes than has to");
    // As much as there is room for comes by moves, some of it in the place of copies.
    standby.take(&mut owner, 4_000..4_008);
    let own = standby.kept().0;
    assert!(own <= MEMORY_MAX, "{own}");
    standby.sweep();
    assert_eq!((standby.kept().0, standby.kept().2), (own, given_up));
}

/// Nobody has sent a packet, and what is known of these flows is less.
#[test]
fn what_is_given_up_is_seen_by_the_next_copy() {
    let [mut from, mut other, mut to] = [1, 2, 3].map(Asked::new);
    from.requests(4_000..4_030);
    other.requests(5_000..5_030);
    to.take(&mut from, 4_000..4_030);
    to.take(&mut other, 5_000..5_030);
    let (own, _, before) = to.kept();
    assert!(own > MEMORY_MAX, "{own}");
    let since = to.instance.flows.changes();
    assert_eq!(to.get(since), []);
    to.sweep();
    let (own, _, after) = to.kept();
    assert!(own <= MEMORY_MAX && after > before, "{own}");
    assert_eq!(to.get(since).len() as u64, after - before);
    assert!(to.instance.flows.changes() > since);
}

#[test]
fn tables_of_what_functions_know_are_there_before_the_first_packet() {
    let here = instance(1, OWNED[0]);
    assert!(here.flows.has_room(Bucket::of(0)), "of a bucket that is here");
    assert!(here.flows.has_room(Bucket::of(3)), "of one that is not");
    // Without functions there is none, and none is made.
    let mut without = FlowTable::new(256, FlowHasher::with_seed(SEED));
    let states = FlowStates::new(unknown(), 0);
    assert!(without.keep(key(1).both_ways(), Bucket::of(0), states).is_err());
}
