//! Connections that travel: at any packet, and what becomes of bytes that are none.

use std::time::Duration;

use weir_state_transfer::Chunk;
use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::wire::WireError;

use super::*;
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::laws::all_chunks;
use crate::nf::schema::{IDS_CONNECTION, IDS_SOURCE, IDS_TOTALS};
use crate::nf::timestamp::nanos;

const SCHEMA: Schema = IDS_CONNECTION.schema;

/// Conversations that use all of the state.
fn conversations() -> Vec<Timed> {
    let mut frames = Vec::new();
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    let rest = b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
    let requests =
        b"TP/1.1\r\nUser-Agent: x\r\n\r\nPOST /3 HTTP/1.0\r\nContent-Length: 9\r\n\r\n123";
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HT");
    talk.say(Side::Resp, chunked);
    talk.say(Side::Orig, requests);
    talk.send_at(Side::Resp, 2, ACK, rest);
    talk.send(Side::Resp, ACK, b"lo");
    talk.lose(Side::Resp, rest.len() as u32);
    talk.say(Side::Resp, b"cdHTTP/1.0 403 No\r\n\r\nuntil ");
    talk.say(Side::Resp, b"the end");
    talk.send(Side::Orig, ACK, b"45678");
    talk.send_at(Side::Orig, -2, ACK, b"xy9");
    talk.lose(Side::Orig, 1);
    talk.close();
    talk.send(Side::Orig, RST, b"");
    frames.extend(talk.frames);
    let mut talk = Talk::open(1001);
    talk.say(Side::Orig, b"CONNECT a:1 HTTP/1.1\r\n\r\n");
    talk.say(
        Side::Resp,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n1",
    );
    talk.lose(Side::Resp, 3);
    talk.say(Side::Resp, b"56789");
    talk.say(Side::Orig, b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n");
    (0..30).for_each(|n| talk.send_at(Side::Orig, n * 7 + 1, ACK, b"later"));
    frames.extend(talk.frames);
    let mut talk = Talk::new(1002);
    talk.send(Side::Resp, SYN | ACK, b"");
    talk.send(Side::Orig, ACK, b"\x16\x03\x01");
    talk.wait(400);
    talk.send(Side::Orig, SYN, b"");
    frames.extend(talk.frames);
    frames.sort_by_key(|timed| timed.at);
    frames
}

/// Encodes and decodes the connection of a flow.
fn travel(connection: &mut Option<Connection>, now: Timestamp) -> usize {
    let Some(known) = connection else { return 0 };
    let timeouts = Config::default().timeouts;
    let chunk = known.to_chunk(&timeouts, now);
    let arrived = Connection::from_chunk(&chunk, &timeouts, now).unwrap();
    assert_eq!(arrived.encode(), chunk.body);
    *connection = Some(arrived);
    chunk.body.len()
}

/// The records when every connection travels after every packet of it, and its largest size.
pub(super) fn travelled(frames: &[Timed]) -> (Vec<Record>, usize) {
    let mut node = Node::new(1);
    let mut most = 0;
    for timed in frames {
        if let Some(key) = node.take(timed) {
            most = most.max(travel(node.connections.get_mut(&key).unwrap(), timed.at));
        }
    }
    (node.finish(), most)
}

/// The logs when each flow moves to another instance after so many packets of all.
pub(super) fn moved(frames: &[Timed], at: usize) -> Vec<Record> {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    one.take_all(&frames[..at]);
    let now = frames[..at].last().map_or(Timestamp(START), |timed| timed.at);
    for (key, mut connection) in std::mem::take(&mut one.connections) {
        travel(&mut connection, now);
        two.connections.insert(key, connection);
    }
    for chunk in all_chunks("any", 3, |get, cursor, out| one.ids.get_multi_flow(get, cursor, out)) {
        two.ids.put_multi_flow(&chunk, now).unwrap();
        assert_eq!(one.ids.del_multi_flow(&[chunk.id]), 1);
    }
    two.take_all(&frames[at..]);
    let mut records = one.finish();
    records.extend(two.finish());
    records
}

#[test]
fn a_connection_may_travel_at_any_packet() {
    let frames = conversations();
    let single = records(&frames);
    assert_eq!((https(&single).len(), conns(&single).len()), (5, 4), "{:#?}", lines(&single));
    let (records, _) = travelled(&frames);
    assert_eq!(records, single);
    for at in 0..=frames.len() {
        assert_eq!(lines(&moved(&frames, at)), lines(&single), "moved after {at} packets");
    }
}

/// The comparison notices state that stays behind.
#[test]
fn a_connection_that_does_not_travel_changes_the_logs() {
    let frames = conversations();
    let single = lines(&records(&frames));
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    one.take_all(&frames[..20]);
    two.take_all(&frames[20..]);
    let mut both = one.finish();
    both.extend(two.finish());
    assert_ne!(lines(&both), single);
}

#[test]
fn the_name_of_a_connection_does_not_depend_on_the_instance() {
    let frames = Talk::open(1000).frames;
    let uid = |instance| {
        let mut node = Node::new(instance);
        node.take_all(&frames);
        conns(&node.finish())[0].id.uid
    };
    assert_eq!(uid(1), uid(2));
    assert_ne!(uid(1), conns(&Talk::open(1001).records())[0].id.uid);
}

/// What is left is told by who had it: it holds until a packet comes, and then those time-outs count
/// that are there.
#[test]
fn what_is_left_of_a_connection_holds_where_time_outs_are_others() {
    let mut talk = Talk::open(1000);
    let before = talk.frames.len();
    talk.wait(300_000);
    talk.send(Side::Orig, ACK, b"more");
    let mut node = Node::new(1);
    node.take_all(&talk.frames[..before]);
    let timeouts = node.ids.config().timeouts;
    let now = Timestamp(START + 100 * SECOND);
    let there = Timestamp(START + 5_000 * SECOND);
    let connection = node.connections.values().flatten().next().unwrap();
    let chunk = connection.to_chunk(&timeouts, now);
    let left = chunk.time_left.unwrap();
    let second = Duration::from_secs(1);
    // With the first it would have ended before it came, with the second a day later.
    for tcp in [Duration::from_secs(30), timeouts.tcp + Duration::from_hours(24)] {
        let others = Timeouts { tcp, ..timeouts };
        let mut node = Node::with(Config { timeouts: others, ..Config::default() }, 2);
        let mut put = Some(Connection::from_chunk(&chunk, &others, there).unwrap());
        assert_eq!(put.as_ref().unwrap().time_left(&others, there), left);
        // Nor does it begin anew where it goes on to.
        let on = put.as_ref().unwrap().to_chunk(&others, Timestamp(there.0 + 5 * SECOND));
        assert_eq!(on.time_left, Some(left - 5 * second));
        let end = Timestamp(there.0 + nanos(left));
        node.ids.expire(&mut put, end.before(Duration::from_nanos(1)));
        let frame = Timed { at: end.before(second), ..talk.frames[before].clone() };
        *node.connections.entry(put.as_ref().unwrap().key().both_ways()).or_default() = put.clone();
        let key = node.take(&frame).unwrap();
        let known = node.connections[&key].as_ref().unwrap();
        assert_eq!(known.time_left(&others, frame.at), tcp, "a packet has come");
        node.ids.expire(&mut put, end);
        assert!(put.is_none(), "without one it is over");
    }
    for bad in [None, Some(TIMEOUT_MAX + second)] {
        let chunk = Chunk { time_left: bad, ..chunk.clone() };
        let refused = Connection::from_chunk(&chunk, &timeouts, there);
        assert!(matches!(refused, Err(PutError::BadBody { .. })), "{bad:?}");
    }
}

#[test]
fn time_goes_on_where_clocks_differ() {
    let mut node = Node::new(1);
    node.take_all(&Talk::open(1000).frames);
    let timeouts = node.ids.config().timeouts;
    let connection = node.connections.values().flatten().next().unwrap();
    let now = Timestamp(START + 100 * SECOND);
    let left = connection.time_left(&timeouts, now);
    assert!(left > timeouts.tcp / 2 && left < timeouts.tcp);
    let there = Timestamp(START + 5000 * SECOND);
    let chunk = connection.to_chunk(&timeouts, now);
    let arrived = Connection::from_chunk(&chunk, &timeouts, there).unwrap();
    assert_eq!(arrived.time_left(&timeouts, there), left);
    // The record knows nothing of it.
    let records = |connection| {
        let mut ids = Ids::new(Config::default(), Replica { instance: 1, incarnation: 1 });
        ids.end(&mut Some(connection));
        ids.drain().collect::<Vec<_>>()
    };
    assert_eq!(records(arrived), records(connection.clone()));
}

/// A connection whose state is as large as it gets.
fn full_connection() -> Connection {
    let mut talk = Talk::open(1000);
    let field = "f".repeat(600);
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: {field}\r\nReferer: {field}\r\nUser-Agent: {field}\r\n\
         Origin: {field}\r\n\r\n",
        "u".repeat(5000)
    );
    (0..32).for_each(|_| talk.say(Side::Orig, request.as_bytes()));
    talk.say(Side::Orig, &[&b"GET /"[..], &[b'x'; 32_700]].concat());
    for side in [Side::Resp, Side::Orig] {
        (0..46).for_each(|n| talk.send_at(side, 100 + n * 1401, ACK, &[n as u8; 1400]));
    }
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    node.connections.into_values().flatten().next().unwrap()
}

#[test]
fn the_largest_connection_fits_in_a_chunk() {
    let now = Timestamp(START + SECOND);
    let bytes = full_connection().encode();
    assert!(
        (300_000..weir_state_transfer::chunk::BODY_MAX).contains(&bytes.len()),
        "{}",
        bytes.len()
    );
    assert_eq!(Connection::decode(SCHEMA, &bytes, now).unwrap().encode(), bytes);
}

#[test]
fn bytes_that_are_cut_or_too_many_or_of_another_layout_are_refused() {
    let mut node = Node::new(1);
    node.take_all(&conversations());
    let now = Timestamp(START);
    for connection in node.connections.values().flatten() {
        let bytes = connection.encode();
        let error = |schema, bytes: &[u8]| Connection::decode(schema, bytes, now).err();
        for length in 0..bytes.len() {
            assert_eq!(error(SCHEMA, &bytes[..length]), Some(WireError::Cut.into()));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(error(SCHEMA, &longer), Some(WireError::TooLong { excess: 1 }.into()));
        let found = Schema { revision: SCHEMA.revision + 1, ..SCHEMA };
        let unknown = BodyError::UnknownSchema { found, known: SCHEMA };
        assert_eq!(error(found, &bytes), Some(unknown));
    }
}

#[test]
fn hostile_bytes_never_panic_nor_does_what_they_decode_to() {
    let mut rng = weir_seed::rng();
    let frames = conversations();
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..4_000 {
        let mut node = Node::new(1);
        node.take_all(&frames[..rng.usize(1..frames.len())]);
        let key = *rng.choice(node.connections.keys().collect::<Vec<_>>()).unwrap();
        let Some(connection) = node.connections[&key].as_ref() else { continue };
        let now = Timestamp(START + 1000 * SECOND);
        let mut bytes = connection.encode();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..bytes.len());
            bytes[place] =
                if rng.bool() { rng.u8(..) } else { *rng.choice(&[0, 1, 0xff]).unwrap() };
        }
        match Connection::decode(SCHEMA, &bytes, now) {
            Err(_) => refused += 1,
            Ok(hostile) => {
                assert_eq!(hostile.encode(), bytes, "one form only");
                taken += 1;
                node.connections.insert(key, Some(hostile));
                node.take_all(&frames);
                node.finish();
            }
        }
        let noise: Vec<_> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
        assert!(Connection::decode(SCHEMA, &noise, now).is_err());
        assert!(Source::decode(IDS_SOURCE.schema, &noise).is_err());
        assert!(Totals::decode(IDS_TOTALS.schema, &noise).is_err());
    }
    assert!(refused > 100 && taken > 100, "{refused} refused, {taken} taken");
}
