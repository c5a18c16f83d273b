//! Connections, sources and totals as chunks: what is taken in, what is refused, and that copies
//! of several instances become the same.

use weir_state_transfer::merge::{Counter, Life, Lives, REPLICAS_MAX};
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::{Chunk, FlowId};

use super::scans::{SOURCE, try_ports};
use super::*;
use crate::nf::laws::{all_chunks, check_convergence, check_put};
use crate::nf::schema::{IDS_SOURCE, IDS_TOTALS};
use crate::nf::share::Countable as _;

/// A while after all attempts.
const NOW: Timestamp = Timestamp(START + 100 * SECOND);

/// An instance to which hosts of two networks have made attempts that failed.
fn busy(instance: u32, rng: &mut fastrand::Rng) -> Ids {
    let mut node = Node::new(instance);
    for _ in 0..60 {
        let source = [10, 0, rng.u8(1..3), rng.u8(1..5)];
        let syn = tcp((source, SERVER), (999, rng.u16(1..40)), (1, 0), SYN, b"");
        node.take(&Timed { at: Timestamp(START), frame: syn });
    }
    node.sweep(Timestamp(START + 6 * SECOND));
    node.ids
}

fn sources_of(ids: &Ids) -> Vec<Chunk> {
    all_chunks("any", 3, |get, cursor, out| ids.get_multi_flow(get, cursor, out))
}

/// All that can be seen of it from outside, records apart.
fn seen(ids: &Ids) -> Vec<Chunk> {
    let mut all = sources_of(ids);
    all.extend(ids.get_all_flows());
    all
}

fn fresh() -> Ids {
    Node::new(9).ids
}

fn wrong_ids() -> [FlowId; 2] {
    let flow = FlowKey::v4(CLIENT.into(), SERVER.into(), (1, 2), 17, ServiceId(0));
    [FlowId::flow(&flow), FlowId::new(SOURCE.flow_id().ends, None, None)]
}

#[test]
fn a_source_is_taken_in_whole_or_not_at_all() {
    let chunk = sources_of(&busy(1, &mut weir_seed::rng())).swap_remove(0);
    let ids = [&wrong_ids()[..], &[FlowId::default()]].concat();
    check_put(&chunk, &ids, fresh, |ids, chunk| ids.put_multi_flow(chunk, NOW), seen);
}

#[test]
fn totals_are_taken_in_whole_or_not_at_all() {
    let [chunk] = &busy(1, &mut weir_seed::rng()).get_all_flows()[..] else { panic!("one chunk") };
    let ids = [&wrong_ids()[..], &[SOURCE.flow_id()]].concat();
    check_put(chunk, &ids, fresh, Ids::put_all_flows, seen);
}

#[test]
fn a_connection_is_taken_in_whole_or_not_at_all() {
    let now = Timestamp(START + SECOND);
    let timeouts = Timeouts::default();
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.say(Side::Resp, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
    talk.send_at(Side::Resp, 3, ACK, b"late");
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let connection = node.connections.into_values().flatten().next().unwrap();
    let chunk = connection.to_chunk(&timeouts, now);
    assert_eq!(chunk.time_left, Some(connection.time_left(&timeouts, now)));
    let ids = [FlowId::flow(&connection.key().reversed()), FlowId::default(), SOURCE.flow_id()];
    let put = |place: &mut Option<Connection>, chunk: &Chunk| {
        *place = Some(Connection::from_chunk(chunk, &timeouts, now)?);
        Ok(())
    };
    let seen =
        |place: &Option<Connection>| place.iter().map(|c| c.to_chunk(&timeouts, now)).collect();
    check_put(&chunk, &ids, || None, put, seen);
}

/// Who has this revision moves to it from who has the one before, and is refused there by name.
#[test]
fn a_connection_of_the_revision_before_is_taken_in_and_given_in_this_one() {
    let (now, timeouts) = (Timestamp(START + SECOND), Timeouts::default());
    let mut talk = Talk::open(1000);
    talk.say(Side::Orig, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let connection = node.connections.into_values().flatten().next().unwrap();
    let chunk = connection.to_chunk(&timeouts, now);
    assert_eq!((chunk.schema.kind, chunk.schema.revision), (0x0201, 2));
    let mut before = chunk.clone();
    before.schema.revision = 1;
    let taken = Connection::from_chunk(&before, &timeouts, now).expect("the revision before");
    assert_eq!(taken.to_chunk(&timeouts, now), chunk);
    let taken_in = Ids::KINDS.map(|kind| kind.schema);
    assert!(taken_in.contains(&chunk.schema) && taken_in.contains(&before.schema));
    before.schema.revision = 0;
    let refused = Connection::from_chunk(&before, &timeouts, now).err();
    assert!(matches!(refused, Some(PutError::UnknownSchema { .. })), "{refused:?}");
}

#[test]
fn instances_that_copy_to_each_other_end_with_the_same() {
    let seed = weir_seed::rng().u64(..);
    let make = || {
        let mut rng = fastrand::Rng::with_seed(seed);
        [1, 2, 3].map(|instance| busy(instance, &mut rng))
    };
    let copy = |from: &Ids, to: &mut Ids, rng: &mut fastrand::Rng| {
        for chunk in sources_of(from).iter().filter(|_| rng.bool()) {
            to.put_multi_flow(chunk, NOW).unwrap();
        }
        for chunk in from.get_all_flows().iter().filter(|_| rng.bool()) {
            to.put_all_flows(chunk).unwrap();
        }
    };
    let end = check_convergence(make, copy, seen);
    let failed = make().map(|one| one.totals().failed.value());
    assert_eq!(end.totals().failed.value(), failed.iter().sum());
}

#[test]
fn a_get_gives_what_its_filter_picks_and_del_forgets_it() {
    let mut ids = busy(1, &mut weir_seed::rng());
    let all = sources_of(&ids);
    let picked =
        all_chunks("dst=10.0.2.0/24", 1, |get, cursor, out| ids.get_multi_flow(get, cursor, out));
    let is_picked = |chunk: &&Chunk| chunk.id.to_string().starts_with("host=10.0.2.");
    assert_eq!(picked, all.iter().filter(is_picked).cloned().collect::<Vec<_>>());
    assert!(!picked.is_empty() && picked.len() < all.len());
    let mut gone: Vec<_> = picked.iter().map(|chunk| chunk.id.clone()).collect();
    gone.extend(wrong_ids());
    assert_eq!(ids.del_multi_flow(&gone), picked.len());
    assert_eq!(ids.del_multi_flow(&gone), 0, "they are forgotten");
    let left: Vec<_> = all.iter().filter(|chunk| !is_picked(chunk)).cloned().collect();
    assert_eq!(sources_of(&ids), left);
}

#[test]
fn what_there_is_no_room_for_is_refused_and_changes_nothing() {
    let scan = ScanConfig { sources_max: 2, ..ScanConfig::default() };
    let mut ids = Node::with(Config { scan, ..Config::default() }, 1).ids;
    let chunks = sources_of(&busy(2, &mut weir_seed::rng()));
    for chunk in &chunks[..2] {
        ids.put_multi_flow(chunk, NOW).unwrap();
    }
    let before = seen(&ids);
    let full = PutError::full(&chunks[2], "sources", 2);
    assert_eq!(ids.put_multi_flow(&chunks[2], NOW), Err(full));
    ids.put_multi_flow(&chunks[1], NOW).unwrap();
    assert_eq!(seen(&ids), before);

    let many = |from: usize| {
        let replica = |n: usize| Replica { instance: n as u32, incarnation: 3 };
        Counter::from_parts((from..from + REPLICAS_MAX).map(|n| (replica(n), 1)), Lives::default())
    };
    let totals = |from| {
        let totals = Totals { packets: many(from), ..Totals::default() };
        IDS_TOTALS.chunk(FlowId::default(), totals.encode())
    };
    let mut ids = fresh();
    ids.put_all_flows(&totals(0)).unwrap();
    let before = seen(&ids);
    let full = PutError::full(&totals(1), "replicas", REPLICAS_MAX);
    assert_eq!(ids.put_all_flows(&totals(1)), Err(full));
    assert_eq!(seen(&ids), before);
}

#[test]
fn a_source_whose_windows_are_of_another_length_is_refused() {
    let window = std::time::Duration::from_secs(60);
    let scan = ScanConfig { window, ..ScanConfig::default() };
    let mut other = Node::with(Config { scan, ..Config::default() }, 1);
    try_ports(&mut other, 1..5, 0);
    let source = other.ids.source(&SOURCE).unwrap();
    let chunk = IDS_SOURCE.chunk(SOURCE.flow_id(), source.encode());
    assert!(matches!(fresh().put_multi_flow(&chunk, NOW), Err(PutError::BadBody { .. })));
    other.ids.put_multi_flow(&chunk, NOW).unwrap();
}

#[test]
fn totals_that_say_that_this_life_has_ended_are_refused() {
    let mut ids = fresh();
    let first = Replica { instance: 9, incarnation: 1 };
    // Those, too, as which it will count what it has forgotten.
    for life in [Life::up_to(first), Life::new(9, 2, u64::MAX).expect("in order")] {
        let mut ended = Lives::default();
        ended.add(life);
        let totals = Totals { packets: Counter::from_parts([], ended), ..Totals::default() };
        let chunk = IDS_TOTALS.chunk(FlowId::default(), totals.encode());
        assert!(matches!(ids.put_all_flows(&chunk), Err(PutError::BadBody { .. })));
    }
}

/// A window of time to come would stay, and what is tried until then would not be watched.
#[test]
fn what_was_tried_in_time_to_come_is_refused() {
    let mut other = Node::new(1);
    try_ports(&mut other, 1..5, 0);
    let source = other.ids.source(&SOURCE).unwrap();
    let chunk = IDS_SOURCE.chunk(SOURCE.flow_id(), source.encode());
    let window = ScanConfig::default().window.as_secs();
    for (before, is_taken) in [(0, true), (window, true), (3 * window, false)] {
        let now = Timestamp(START - before * SECOND);
        assert_eq!(fresh().put_multi_flow(&chunk, now).is_ok(), is_taken, "{before}");
    }
}

#[test]
fn a_connection_that_says_it_begins_in_time_to_come_throws_out_no_source() {
    let scan = ScanConfig { sources_max: 1, ..ScanConfig::default() };
    let mut node = Node::with(Config { scan, ..Config::default() }, 1);
    try_ports(&mut node, 1..5, 0);
    let mut other = Node::new(2);
    other.take(&Timed {
        at: Timestamp(START),
        frame: tcp(([10, 9, 9, 9], SERVER), (1, 80), (1, 0), SYN, b""),
    });
    let connection = other.connections.into_values().flatten().next().unwrap();
    let now = Timestamp(START + SECOND);
    let mut chunk = connection.to_chunk(&Timeouts::default(), now);
    let start = START.to_be_bytes();
    let at = chunk.body.windows(8).position(|bytes| bytes == start).unwrap();
    chunk.body[at..at + 8].copy_from_slice(&u64::MAX.to_be_bytes());
    let mut put = Some(Connection::from_chunk(&chunk, &Timeouts::default(), now).unwrap());
    node.ids.end(&mut put);
    assert!(node.ids.source(&SOURCE).is_some());
    assert_eq!(node.ids.totals().unwatched.value(), 1);
}

#[test]
fn what_says_at_the_home_of_a_source_that_this_life_has_ended_is_left_out_and_counted() {
    let (mut home, mut other) = (Node::new(1), Node::new(2));
    try_ports(&mut other, 1..5, 0);
    let own = home.ids.sources.known.counted_as(&SOURCE);
    let by = other.ids.sources.known.counted_as(&SOURCE);
    let mut ended = Lives::default();
    ended.add(Life::up_to(own));
    let mut copy = Box::new(other.ids.source(&SOURCE).unwrap().clone());
    let given = copy.clone();
    copy.retire(&ended);
    let operations = [
        Operation::Join(copy.clone()),
        Operation::Inherit(copy, by),
        // Given away by a later life of who takes it in.
        Operation::Inherit(given, own),
    ];
    for operation in operations {
        home.ids.execute(SOURCE, &operation);
    }
    assert_eq!(home.ids.totals().unwatched.value(), 3);
    assert!(home.ids.source(&SOURCE).is_none());
    try_ports(&mut home, 1..5, 0);
    assert_eq!(home.ids.source(&SOURCE).unwrap().attempts().value(), 4);
}
