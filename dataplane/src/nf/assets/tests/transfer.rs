//! Flows and hosts that travel: at any packet, and what becomes of bytes that are none.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::Schema;
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::wire::WireError;

use super::*;
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::laws::all_chunks;
use crate::nf::schema::{ASSETS_CONNECTION, ASSETS_HOST, ASSETS_TOTALS};

const SCHEMA: Schema = ASSETS_CONNECTION.schema;

/// Gives all flows of an instance to another, as bytes.
fn move_flows(from: &mut Node, to: &mut Node, now: Timestamp) {
    for (key, connection) in std::mem::take(&mut from.connections) {
        let arrived = connection.map(|connection| {
            let chunk = connection.to_chunk(&to.assets.config().timeouts, now);
            assert!(chunk.body.len() < 300);
            let arrived =
                Connection::from_chunk(&chunk, &to.assets.config().timeouts, now).unwrap();
            assert_eq!(arrived.encode(), chunk.body);
            arrived
        });
        to.connections.insert(key, arrived);
    }
}

/// Gives what is known of all hosts to another instance, twice.
pub(super) fn copy_hosts(
    from: &Node,
    to: &mut Node,
    now: Timestamp,
) -> Vec<weir_state_transfer::FlowId> {
    let chunks =
        all_chunks("any", 3, |get, cursor, out| from.assets.get_multi_flow(get, cursor, out, now));
    for chunk in chunks.iter().chain(&chunks) {
        to.assets.put_multi_flow(chunk, now).unwrap();
    }
    assert_eq!(to.assets.waiting(), 0, "what is joined is not told again");
    chunks.into_iter().map(|chunk| chunk.id).collect()
}

/// What is known of hosts, by their order.
pub(super) fn hosts_of(node: &Node) -> Vec<(HostId, Host)> {
    node.assets.hosts().map(|(id, host)| (*id, host.clone())).collect()
}

/// What two instances know and have told together when everything moves after so many packets.
pub(super) fn moved(frames: &[Timed], at: usize) -> (Node, Vec<Record>) {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    one.take_all(&frames[..at]);
    let now = frames[..at].last().map_or(Timestamp(START), |timed| timed.at);
    move_flows(&mut one, &mut two, now);
    let ids = copy_hosts(&one, &mut two, now);
    assert_eq!(one.assets.del_multi_flow(&ids), ids.len());
    assert_eq!((one.assets.hosts().len(), one.assets.waiting()), (0, 0), "it left without a word");
    one.assets.get_all_flows().iter().for_each(|chunk| two.assets.put_all_flows(chunk).unwrap());
    two.take_all(&frames[at..]);
    let records = [&one.records[..], &two.records].concat();
    (two, records)
}

#[test]
fn a_trace_that_is_cut_at_any_packet_gives_the_same_hosts_and_records() {
    let mut talk = conversations();
    talk.exchange(1005, 443, &asks_for("example.org"), &tls_hello(2, &[19, 1, 0, 0, 0]));
    let frames = talk.frames;
    let mut single = Node::new(1);
    single.take_all(&frames);
    for at in 0..=frames.len() {
        let (end, records) = moved(&frames, at);
        assert_eq!(records, single.records, "moved after {at} packets");
        assert_eq!(hosts_of(&end), hosts_of(&single), "moved after {at} packets");
        let figures = |node: &Node| node.assets.totals().named();
        assert_eq!(figures(&end), figures(&single), "moved after {at} packets");
    }
}

/// As instances do while both stay: what is known of several flows remains where it is.
#[test]
fn a_flow_that_is_moved_alone_tells_nothing_twice_and_copies_end_with_all() {
    let mut talk = Talk::default();
    talk.exchange(1000, 80, GET, OK);
    let frames = talk.frames;
    let mut single = Node::new(1);
    single.take_all(&frames);
    for at in 0..=frames.len() {
        let (mut one, mut two) = (Node::new(1), Node::new(2));
        one.take_all(&frames[..at]);
        let now = frames[at.min(frames.len() - 1)].at;
        move_flows(&mut one, &mut two, now);
        two.take_all(&frames[at..]);
        let records = [&one.records[..], &two.records].concat();
        assert_eq!(records, single.records, "moved after {at} packets");
        copy_hosts(&one, &mut two, now);
        // Each of the two has noted the host once a minute: the last time is that of the later.
        let but_last = |node: &Node| {
            let hosts = hosts_of(node).into_iter();
            let but_last = hosts.map(|(id, host)| {
                let mut bytes = host.encode();
                bytes.drain(8..16);
                (id, host.seen().first(), bytes)
            });
            but_last.collect::<Vec<_>>()
        };
        assert_eq!(but_last(&two), but_last(&single), "moved after {at} packets");
    }
}

/// The comparison notices state that stays behind.
#[test]
fn a_flow_that_does_not_travel_is_told_twice() {
    let frames = conversations().frames;
    let mut single = Node::new(1);
    single.take_all(&frames);
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    one.take_all(&frames[..20]);
    two.take_all(&frames[20..]);
    assert!(one.records.len() + two.records.len() > single.records.len());
}

#[test]
fn time_goes_on_where_clocks_differ() {
    let mut node = Node::new(1);
    let mut talk = Talk::default();
    talk.tcp(((CLIENT, 1), (SERVER, 2)), SYN, b"");
    node.take_all(&talk.frames);
    let timeouts = node.assets.config().timeouts;
    let connection = node.connections.values().flatten().next().unwrap();
    let now = Timestamp(START + 100 * SECOND);
    let left = connection.time_left(&timeouts, now);
    assert_eq!(left.as_secs(), 200);
    assert_eq!(connection.to_chunk(&timeouts, now).time_left, Some(left));
    let there = Timestamp(START + 5_000 * SECOND);
    let arrived =
        Connection::from_chunk(&connection.to_chunk(&timeouts, now), &timeouts, there).unwrap();
    assert_eq!(arrived.time_left(&timeouts, there), left);
}

#[test]
fn what_is_left_of_a_flow_holds_where_time_outs_are_others() {
    let mut node = Node::new(1);
    let mut talk = Talk::default();
    talk.tcp(((CLIENT, 1), (SERVER, 2)), SYN, b"");
    node.take_all(&talk.frames);
    let timeouts = node.assets.config().timeouts;
    let connection = node.connections.values().flatten().next().unwrap();
    let chunk = connection.to_chunk(&timeouts, Timestamp(START + 100 * SECOND));
    let (there, left) = (Timestamp(START + 5_000 * SECOND), chunk.time_left.unwrap());
    for tcp in [Duration::from_secs(30), Duration::from_hours(24)] {
        let others = Timeouts { tcp, ..timeouts };
        let put = Connection::from_chunk(&chunk, &others, there).unwrap();
        let later = Timestamp(there.0 + SECOND);
        assert_eq!(put.time_left(&others, there), left);
        assert_eq!(put.to_chunk(&others, later).time_left, Some(left - Duration::from_secs(1)));
    }
    for bad in [None, Some(TIMEOUT_MAX + Duration::from_secs(1))] {
        let chunk = Chunk { time_left: bad, ..chunk.clone() };
        let refused = Connection::from_chunk(&chunk, &timeouts, there);
        assert!(matches!(refused, Err(PutError::BadBody { .. })), "{bad:?}");
    }
}

#[test]
fn bytes_that_are_cut_or_too_many_are_refused() {
    let mut node = Node::new(1);
    let mut talk = conversations();
    talk.tcp(((CLIENT, 5), (SERVER, 443)), ACK, &asks_for("example.org"));
    node.take_all(&talk.frames);
    let now = Timestamp(START);
    for connection in node.connections.values().flatten() {
        let bytes = connection.encode();
        for length in 0..bytes.len() {
            let error = Connection::decode(SCHEMA, &bytes[..length], now).unwrap_err();
            assert_eq!(error, WireError::Cut.into());
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = Connection::decode(SCHEMA, &longer, now).unwrap_err();
        assert_eq!(error, WireError::TooLong { excess: 1 }.into());
    }
}

#[test]
fn hostile_bytes_never_panic_nor_does_what_they_decode_to() {
    let mut rng = weir_seed::rng();
    let mut talk = conversations();
    talk.tcp(((CLIENT, 5), (SERVER, 443)), ACK, &asks_for("example.org"));
    let frames = talk.frames;
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..4_000 {
        let mut node = Node::new(1);
        node.take_all(&frames[..=rng.usize(..frames.len())]);
        let key = *rng.choice(node.connections.keys().collect::<Vec<_>>()).unwrap();
        let Some(connection) = node.connections[&key].as_ref() else { continue };
        let now = Timestamp(START + 1_000 * SECOND);
        let mut bytes = connection.encode();
        let mut host =
            node.host(SERVER_OR_CLIENT[usize::from(node.assets.hosts().len() > 1)]).encode();
        for bytes in [&mut bytes, &mut host] {
            for _ in 0..rng.usize(1..4) {
                let place = rng.usize(..bytes.len());
                bytes[place] =
                    if rng.bool() { rng.u8(..) } else { *rng.choice(&[0, 1, 0xff]).unwrap() };
            }
        }
        if let Ok(hostile) = Host::decode(ASSETS_HOST.schema, &host) {
            assert_eq!(hostile.encode(), host, "one form only");
        }
        match Connection::decode(SCHEMA, &bytes, now) {
            Err(_) => refused += 1,
            Ok(hostile) => {
                assert_eq!(hostile.encode(), bytes, "one form only");
                taken += 1;
                node.connections.insert(key, Some(hostile));
                node.take_all(&frames);
            }
        }
        let noise: Vec<_> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
        assert!(Connection::decode(SCHEMA, &noise, now).is_err());
        assert!(Totals::decode(ASSETS_TOTALS.schema, &noise).is_err());
        let _ = Host::decode(ASSETS_HOST.schema, &noise);
    }
    assert!(refused > 100 && taken > 100, "{refused} refused, {taken} taken");
}

const SERVER_OR_CLIENT: [[u8; 4]; 2] = [CLIENT, SERVER];

/// Whatever comes, after a header of Ethernet and with lengths that lie.
#[test]
fn packets_of_random_bytes_never_panic() {
    let mut rng = weir_seed::rng();
    let frames = conversations().frames;
    let mut node = Node::new(1);
    for n in 0..60_000 {
        let Timed { mut frame, .. } = rng.choice(&frames).cloned().unwrap();
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("no packet") };
        // Behind the parser: what it has found is all that may be relied on.
        for _ in 0..rng.usize(1..12) {
            let place = rng.usize(14..frame.len());
            frame[place] = rng.u8(..);
        }
        frame.truncate(rng.usize(14..=frame.len()));
        let key = meta.key.both_ways();
        let connection = node.connections.entry(key).or_default();
        node.assets.packet(connection, &meta, &frame, Timestamp(START + n * MILLISECOND));
    }
    assert!(node.assets.hosts().len() <= 2);
}
