//! Flows, hosts and totals as chunks: what is taken in, what is refused, and that copies of several
//! instances become the same.

use weir_state_transfer::merge::{Counter, Join, Lives, REPLICAS_MAX};
use weir_state_transfer::southbound::PutError;
use weir_state_transfer::{Chunk, FlowId};

use super::*;
use crate::nf::laws::{all_chunks, check_convergence, check_put};
use crate::nf::schema::{ASSETS_HOST, ASSETS_TOTALS};

const NOW: Timestamp = Timestamp(START + 100 * SECOND);

/// An instance that has seen hosts of two networks, with more services than are kept.
fn busy(instance: u32, rng: &mut fastrand::Rng) -> Assets {
    let mut node = Node::new(instance);
    let mut talk = Talk::default();
    for _ in 0..300 {
        let source = [10, 0, rng.u8(1..3), rng.u8(1..3)];
        let ends = ((source, rng.u16(1..60)), (SERVER, 999));
        match rng.u8(..4) {
            0 => talk.tcp(ends, SYN, b""),
            1 => talk.tcp(ends, SYN | ACK, b""),
            2 => talk.tcp(ends, ACK, GET),
            _ => {
                let server = rng.u8(..9);
                let said = format!("HTTP/1.1 200 OK\r\nServer: {server}\r\n\r\n");
                talk.tcp(ends, ACK, said.as_bytes());
            }
        }
    }
    rng.shuffle(&mut talk.frames);
    node.take_all(&talk.frames);
    node.assets
}

fn hosts_of(assets: &Assets) -> Vec<Chunk> {
    all_chunks("any", 3, |get, cursor, out| assets.get_multi_flow(get, cursor, out, NOW))
}

/// All that can be seen of it from outside, records apart.
fn seen(assets: &Assets) -> Vec<Chunk> {
    let mut all = hosts_of(assets);
    all.extend(assets.get_all_flows());
    all
}

fn fresh() -> Assets {
    Node::new(9).assets
}

fn wrong_ids() -> [FlowId; 2] {
    let flow = FlowKey::v4(CLIENT.into(), SERVER.into(), (1, 2), 17, ServiceId(0));
    [FlowId::flow(&flow), FlowId::new(host(CLIENT).flow_id().ends, None, None)]
}

#[test]
fn a_host_is_taken_in_whole_or_not_at_all() {
    let chunk = hosts_of(&busy(1, &mut weir_seed::rng())).swap_remove(0);
    let idle = NOW.0 - (START + 300 * MILLISECOND);
    let left = chunk.time_left.unwrap().as_nanos();
    assert!((1..=24 * 3_600 * u128::from(SECOND) - u128::from(idle)).contains(&left), "{left}");
    let ids = [&wrong_ids()[..], &[FlowId::default()]].concat();
    check_put(&chunk, &ids, fresh, |assets, chunk| assets.put_multi_flow(chunk, NOW), seen);
}

#[test]
fn totals_are_taken_in_whole_or_not_at_all() {
    let [chunk] = &busy(1, &mut weir_seed::rng()).get_all_flows()[..] else { panic!("one chunk") };
    let ids = [&wrong_ids()[..], &[host(CLIENT).flow_id()]].concat();
    check_put(chunk, &ids, fresh, Assets::put_all_flows, seen);
}

#[test]
fn a_connection_is_taken_in_whole_or_not_at_all() {
    let timeouts = Timeouts { tcp: std::time::Duration::from_hours(9), ..Timeouts::default() };
    let mut talk = Talk::default();
    talk.tcp(((CLIENT, 1000), (SERVER, 80)), SYN, b"");
    talk.tcp(((CLIENT, 1000), (SERVER, 80)), ACK, GET);
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let connection = node.connections.into_values().flatten().next().unwrap();
    let chunk = connection.to_chunk(&timeouts, NOW);
    assert_eq!(chunk.time_left, Some(connection.time_left(&timeouts, NOW)));
    let reversed = FlowId::flow(&connection.key().reversed());
    let ids = [reversed, FlowId::default(), host(CLIENT).flow_id()];
    let put = |place: &mut Option<Connection>, chunk: &Chunk| {
        *place = Some(Connection::from_chunk(chunk, &timeouts, NOW)?);
        Ok(())
    };
    let seen =
        |place: &Option<Connection>| place.iter().map(|c| c.to_chunk(&timeouts, NOW)).collect();
    check_put(&chunk, &ids, || None, put, seen);
}

#[test]
fn instances_that_copy_to_each_other_end_with_the_same_and_tell_nothing() {
    let seed = weir_seed::rng().u64(..);
    let make = || {
        let mut rng = fastrand::Rng::with_seed(seed);
        [1, 2, 3].map(|instance| busy(instance, &mut rng))
    };
    let copy = |from: &Assets, to: &mut Assets, rng: &mut fastrand::Rng| {
        let waiting = to.waiting();
        for chunk in hosts_of(from).iter().filter(|_| rng.bool()) {
            to.put_multi_flow(chunk, NOW).unwrap();
        }
        for chunk in from.get_all_flows().iter().filter(|_| rng.bool()) {
            to.put_all_flows(chunk).unwrap();
        }
        assert_eq!(to.waiting(), waiting);
    };
    let end = check_convergence(make, copy, seen);
    let packets = make().map(|one| one.totals().packets.value());
    assert_eq!(end.totals().packets.value(), packets.iter().sum());
    let full = |host: &Host| host.services().len() == SERVICES_MAX;
    assert!(end.hosts().any(|(_, host)| full(host)), "the bound is met");
}

/// A host that another instance has seen for the last time 100 s before [`NOW`], as a chunk of it.
fn seen_elsewhere() -> Chunk {
    let mut other = Node::new(1);
    other.take(&Timed {
        at: Timestamp(START),
        frame: tcp(((CLIENT, 1000), (SERVER, 80)), SYN, b""),
    });
    hosts_of(&other.assets).swap_remove(0)
}

/// When an instance forgets all its hosts, in seconds from a time on, to within a minute.
fn forgets_after(assets: &mut Assets, from: Timestamp) -> Option<u64> {
    let mut minutes = (0..3 * 24 * 60).map(|minute| minute * 60);
    minutes.find(|second| {
        assets.sweep(16, Timestamp(from.0 + second * SECOND));
        assets.hosts().len() == 0
    })
}

/// A clock that is days ahead or behind changes nothing of it.
#[test]
fn a_host_is_known_for_as_long_as_it_would_have_been_where_it_comes_from() {
    let chunk = seen_elsewhere();
    let day = 24 * 3_600 * SECOND;
    assert_eq!(chunk.time_left.unwrap().as_secs(), 24 * 3_600 - 100);
    for there in [NOW.0, NOW.0 + 60 * SECOND, NOW.0 + 3 * day, NOW.0 - 200 * SECOND] {
        let (mut assets, there) = (fresh(), Timestamp(there));
        assets.put_multi_flow(&chunk, there).unwrap();
        let again =
            all_chunks("any", 3, |get, cursor, out| assets.get_multi_flow(get, cursor, out, there));
        assert_eq!(again, std::slice::from_ref(&chunk), "the facts and the timer are as they came");
        assert_eq!(forgets_after(&mut assets, there), Some(24 * 3_600 - 60));
    }
}

#[test]
fn what_was_seen_in_time_to_come_is_refused() {
    let chunk = seen_elsewhere();
    for (ahead, is_taken) in [(0, true), (299, true), (301, false), (START / SECOND, false)] {
        let (mut assets, now) = (fresh(), Timestamp(START - ahead * SECOND));
        let put = assets.put_multi_flow(&chunk, now);
        let why = put.as_ref().err().map_or_else(String::new, ToString::to_string);
        assert_eq!(put.is_ok(), is_taken, "{ahead} s: {why}");
        assert_eq!(why.contains("seen in time to come"), !is_taken, "{why}");
        assert_eq!(assets.hosts().len(), usize::from(is_taken));
    }
    // Whichever of its times it is.
    let mut node = Node::new(1);
    node.take_all(&conversations().frames);
    let chunks = hosts_of(&node.assets);
    let mut times = 0;
    for chunk in &chunks {
        for at in 0..chunk.body.len() - 8 {
            let mut bad = chunk.clone();
            let field = &mut bad.body[at..at + 8];
            let is_time = field[..4] == START.to_be_bytes()[..4];
            field.copy_from_slice(&u64::MAX.to_be_bytes());
            let put = is_time.then(|| fresh().put_multi_flow(&bad, NOW));
            assert!(matches!(put, None | Some(Err(PutError::BadBody { .. }))), "byte {at}");
            times += usize::from(is_time);
        }
    }
    assert!(times > 30, "{times} times");
}

#[test]
fn nobody_has_a_host_known_for_longer_than_if_it_had_been_seen_here_now() {
    let chunk = seen_elsewhere();
    let told =
        |left| Chunk { time_left: Some(std::time::Duration::from_secs(left)), ..chunk.clone() };
    for (left, forgotten) in [(u64::MAX, 24 * 3_600), (7_200, 7_200), (0, 0)] {
        let mut assets = fresh();
        assets.put_multi_flow(&told(left), NOW).unwrap();
        assert_eq!(forgets_after(&mut assets, NOW), Some(forgotten), "{left} s");
    }
    // Of two timers the later stays, in whichever order they come.
    for lefts in [[60, 7_200], [7_200, 60]] {
        let mut assets = fresh();
        lefts.iter().for_each(|left| assets.put_multi_flow(&told(*left), NOW).unwrap());
        assert_eq!(forgets_after(&mut assets, NOW), Some(7_200));
    }
    let without = Chunk { time_left: None, ..chunk.clone() };
    let refused = fresh().put_multi_flow(&without, NOW);
    assert!(matches!(refused, Err(PutError::BadBody { .. })), "{refused:?}");
}

/// Otherwise the host would not be noted until then, nor its last time be one that others take in.
#[test]
fn a_flow_whose_hosts_were_noted_in_time_to_come_has_them_noted_as_they_go_on() {
    let ends = ((CLIENT, 1000), (SERVER, 80));
    let at = |second: u64| Timestamp(START + second * SECOND);
    let packet = |second| Timed { at: at(second), frame: tcp(ends, ACK, b"") };
    let mut ahead = Node::new(1);
    let key = ahead.take(&packet(7_200)).unwrap();
    let timeouts = ahead.assets.config().timeouts;
    let chunk = ahead.connections[&key].as_ref().unwrap().to_chunk(&timeouts, at(7_201));
    let mut node = Node::new(2);
    let arrived = Connection::from_chunk(&chunk, &timeouts, at(1)).unwrap();
    node.connections.insert(key, Some(arrived));
    node.take(&packet(61));
    assert_eq!(node.host(CLIENT).seen().last(), at(61));
    assert!(node.records.is_empty(), "who noted it first has told of it");
}

#[test]
fn joining_hosts_is_idempotent_commutative_and_associative() {
    let mut rng = weir_seed::rng();
    let all: Vec<Host> = (1..5)
        .filter_map(|instance| {
            busy(instance, &mut rng).hosts().next().map(|(_, host)| host.clone())
        })
        .collect();
    let join = |one: &Host, two: &Host| {
        let mut joined = one.clone();
        joined.join(two);
        joined
    };
    for a in &all {
        assert_eq!(join(a, a), *a);
        for b in &all {
            assert_eq!(join(a, b), join(b, a));
            for c in &all {
                assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
            }
        }
    }
}

#[test]
fn a_get_gives_what_its_filter_picks_and_del_forgets_it() {
    let mut assets = busy(1, &mut weir_seed::rng());
    let all = hosts_of(&assets);
    // What a host does not have, a port, is not compared.
    let picked = all_chunks("dst=10.0.2.0/24,dport=80", 1, |get, cursor, out| {
        assets.get_multi_flow(get, cursor, out, NOW)
    });
    let is_picked = |chunk: &&Chunk| chunk.id.to_string().starts_with("host=10.0.2.");
    assert_eq!(picked, all.iter().filter(is_picked).cloned().collect::<Vec<_>>());
    assert!(!picked.is_empty() && picked.len() < all.len());
    let waiting = assets.waiting();
    let mut gone: Vec<_> = picked.iter().map(|chunk| chunk.id.clone()).collect();
    gone.extend(wrong_ids());
    assert_eq!(assets.del_multi_flow(&gone), picked.len());
    assert_eq!(assets.del_multi_flow(&gone), 0, "they are forgotten");
    assert_eq!(assets.waiting(), waiting, "without a word");
    let left: Vec<_> = all.iter().filter(|chunk| !is_picked(chunk)).cloned().collect();
    assert_eq!(hosts_of(&assets), left);
}

#[test]
fn what_there_is_no_room_for_is_refused_and_changes_nothing() {
    let mut assets = Node::with(Config { hosts_max: 2, ..Config::default() }, 1).assets;
    let chunks = hosts_of(&busy(2, &mut weir_seed::rng()));
    for chunk in &chunks[..2] {
        assets.put_multi_flow(chunk, NOW).unwrap();
    }
    let before = seen(&assets);
    let full = PutError::full(&chunks[2], "hosts", 2);
    assert_eq!(assets.put_multi_flow(&chunks[2], NOW), Err(full));
    assets.put_multi_flow(&chunks[1], NOW).unwrap();
    assert_eq!(seen(&assets), before);

    let many = |from: usize| {
        let replica = |n: usize| Replica { instance: n as u32, incarnation: 3 };
        Counter::from_parts((from..from + REPLICAS_MAX).map(|n| (replica(n), 1)), Lives::default())
    };
    let totals = |from| {
        let totals = Totals { packets: many(from), ..Totals::default() };
        ASSETS_TOTALS.chunk(FlowId::default(), totals.encode())
    };
    let mut assets = fresh();
    assets.put_all_flows(&totals(0)).unwrap();
    let before = seen(&assets);
    let full = PutError::full(&totals(1), "replicas", REPLICAS_MAX);
    assert_eq!(assets.put_all_flows(&totals(1)), Err(full));
    assert_eq!(seen(&assets), before);
}

/// Lists that are out of order or too long, and fields that can not be, in bytes that have the
/// right length.
#[test]
fn hosts_that_can_not_be_are_refused() {
    let mut node = Node::new(1);
    let mut talk = Talk::default();
    [1, 2].into_iter().for_each(|port| talk.tcp(((SERVER, port), (CLIENT, 9)), SYN | ACK, b""));
    node.take_all(&talk.frames);
    let bytes = node.host(SERVER).encode();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = bytes.clone();
        change(&mut bad);
        Host::decode(ASSETS_HOST.schema, &bad).is_err()
    };
    assert!(!refused(&|_| {}));
    // Seen for the last time before the first.
    assert!(refused(&|bad| bad[8..16].fill(0)));
    // From behind: clients 4, second service 23, first service 23 with its port in front.
    let second = bytes.len() - 4 - 23;
    let first = second - 23;
    assert_eq!((bytes[first + 1], bytes[second + 1]), (1, 2));
    assert!(refused(&|bad| bad[second + 1] = 1), "the same port again");
    assert!(refused(&|bad| bad[second + 2] = 99), "another protocol");
    assert!(refused(&|bad| bad[first - 1] = SERVICES_MAX as u8 + 1));
}
