//! Sources, totals and connections as chunks: what is taken in, what is refused, and that copies
//! of two firewalls become the same.

use weir_state_transfer::chunk::BODY_MAX;
use weir_state_transfer::merge::{Counter, Life, Lives, REPLICAS_MAX};
use weir_state_transfer::southbound::PutError;

use super::*;
use crate::nf::connection::tests::{TCP, Tcp4, echo4};
use crate::nf::laws::{check_convergence, check_put};
use crate::nf::schema::FIREWALL_TOTALS;
use crate::nf::share::Countable as _;

/// A firewall with limits at which random hosts of a network have begun connections.
fn busy(number: u32, rng: &mut fastrand::Rng) -> Firewall {
    let mut instance = Instance::new(strict(), number);
    for _ in 0..100 {
        let host = Ipv4Addr::new(10, 0, rng.u8(1..4), rng.u8(1..8));
        let port = *rng.choice(&[53, 123, 3389]).expect("one");
        instance.judge(&udp(host, HOST_B, (rng.u16(..50), port)), NOW);
    }
    instance.firewall
}

/// All that can be seen of it from outside.
fn seen(firewall: &Firewall) -> Vec<Chunk> {
    let mut all = sources_of(firewall, NOW);
    all.extend(firewall.get_all_flows());
    all
}

fn wrong_ids() -> [FlowId; 2] {
    let flow = FlowKey::v4(HOST_A, HOST_B, (1, 2), 17, Default::default());
    [
        FlowId::flow(&flow),
        FlowId::new(FlowId::host(HOST_A.into(), Default::default()).ends, None, None),
    ]
}

#[test]
fn a_source_is_taken_in_whole_or_not_at_all() {
    let chunk = sources_of(&busy(1, &mut weir_seed::rng()), NOW).swap_remove(0);
    let make = || Instance::new(strict(), 2).firewall;
    let ids = [&wrong_ids()[..], &[FlowId::default()]].concat();
    check_put(&chunk, &ids, make, |firewall, chunk| firewall.put_multi_flow(chunk, NOW), seen);
}

#[test]
fn totals_are_taken_in_whole_or_not_at_all() {
    let [chunk] = &busy(1, &mut weir_seed::rng()).get_all_flows()[..] else { panic!("one chunk") };
    let make = || Instance::new(strict(), 2).firewall;
    let ids = [&wrong_ids()[..], &[FlowId::host(HOST_A.into(), Default::default())]].concat();
    check_put(chunk, &ids, make, Firewall::put_all_flows, seen);
}

#[test]
fn a_connection_is_taken_in_whole_or_not_at_all() {
    let syn = Tcp4 { flags: "S", ..TCP }.frame();
    for frame in [syn, echo4(true, true, 7), udp(HOST_A, HOST_B, (1, 2))] {
        let open = |packet: &Packet<'_>| Connection::open(packet, NOW, &Settings::default());
        let connection = with_packet(&frame, open).expect("a packet").expect("it begins");
        let chunk = connection.to_chunk(NOW);
        assert_eq!(chunk.time_left, Some(connection.deadline().since(NOW)));
        let back = FlowId::flow(&connection.key().reversed());
        let ids = [back, FlowId::default(), FlowId::host(HOST_A.into(), Default::default())];
        let put = |place: &mut Option<Connection>, chunk: &Chunk| {
            *place = Some(Connection::from_chunk(chunk, NOW)?);
            Ok(())
        };
        let seen = |place: &Option<Connection>| place.iter().map(|c| c.to_chunk(NOW)).collect();
        check_put(&chunk, &ids, || None, put, seen);
    }
}

#[test]
fn firewalls_that_copy_to_each_other_end_with_the_same() {
    let seed = weir_seed::rng().u64(..);
    let make = || {
        let mut rng = fastrand::Rng::with_seed(seed);
        [1, 2, 3].map(|number| busy(number, &mut rng))
    };
    let copy = |from: &Firewall, to: &mut Firewall, rng: &mut fastrand::Rng| {
        for chunk in sources_of(from, NOW).iter().filter(|_| rng.bool()) {
            to.put_multi_flow(chunk, NOW).expect("its own chunk");
        }
        for chunk in from.get_all_flows().iter().filter(|_| rng.bool()) {
            to.put_all_flows(chunk).expect("its own chunk");
        }
    };
    let end = check_convergence(make, copy, seen);
    let accepted = make().map(|one| one.totals().accepted.value());
    assert_eq!(end.totals().accepted.value(), accepted.iter().sum());
}

#[test]
fn a_get_gives_what_its_filter_picks_and_del_forgets_it() {
    let mut firewall = busy(1, &mut weir_seed::rng());
    let all = sources_of(&firewall, NOW);
    let picked = all_chunks("src=10.0.2.0/24,dport=80", 2, |get, cursor, out| {
        firewall.get_multi_flow(get, cursor, out, NOW)
    });
    let is_picked = |chunk: &&Chunk| chunk.id.to_string().starts_with("host=10.0.2.");
    assert_eq!(picked, all.iter().filter(is_picked).cloned().collect::<Vec<_>>());
    assert!(!picked.is_empty() && picked.len() < all.len());
    let mut ids: Vec<_> = picked.iter().map(|chunk| chunk.id.clone()).collect();
    ids.extend(wrong_ids());
    assert_eq!(firewall.del_multi_flow(&ids), picked.len());
    assert_eq!(firewall.del_multi_flow(&ids), 0, "they are forgotten");
    let left: Vec<_> = all.iter().filter(|chunk| !is_picked(chunk)).cloned().collect();
    assert_eq!(sources_of(&firewall, NOW), left);
}

#[test]
fn what_there_is_no_room_for_is_refused_and_changes_nothing() {
    let limits = Limits { sources_max: 2, ..strict().limits };
    let mut firewall = Instance::new(Config { limits, ..strict() }, 1).firewall;
    let chunks = sources_of(&busy(2, &mut weir_seed::rng()), NOW);
    for chunk in &chunks[..2] {
        firewall.put_multi_flow(chunk, NOW).expect("room");
    }
    let before = seen(&firewall);
    let full = PutError::full(&chunks[2], "sources", 2);
    assert_eq!(firewall.put_multi_flow(&chunks[2], NOW), Err(full));
    firewall.put_multi_flow(&chunks[1], NOW).expect("it is there");
    assert_eq!(seen(&firewall), before);

    // As many replicas as fit, and then one more.
    let many = |from: usize| {
        let replicas = (from..from + REPLICAS_MAX).map(|n| (replica(n as u32), 1));
        Counter::from_parts(replicas, Lives::default())
    };
    let source = |from| {
        let mut source = Source::default();
        source.open.up = many(from);
        source.to_chunk(chunks[0].id.clone(), NOW)
    };
    let totals = |from| {
        let totals = Totals { begun: many(from), ..Totals::default() };
        FIREWALL_TOTALS.chunk(FlowId::default(), totals.encode())
    };
    let mut firewall = Instance::new(strict(), 1).firewall;
    firewall.put_multi_flow(&source(0), NOW).expect("room");
    firewall.put_all_flows(&totals(0)).expect("room");
    let before = seen(&firewall);
    let full = |chunk: &Chunk| Err(PutError::full(chunk, "replicas", REPLICAS_MAX));
    assert_eq!(firewall.put_multi_flow(&source(1), NOW), full(&source(1)));
    assert_eq!(firewall.put_all_flows(&totals(1)), full(&totals(1)));
    assert_eq!(seen(&firewall), before);
}

#[test]
fn totals_of_many_rules_come_in_several_chunks() {
    let texts: Vec<_> = (0..RULES_MAX).map(|n| format!("{n:063}: drop any")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let mut firewall = Instance::new(config(&texts, Limits::default()), 1).firewall;
    firewall.totals.accepted.add(replica(1), 9);
    for counter in firewall.totals.rules.values_mut() {
        (0..200).for_each(|n| counter.add(replica(n), 1));
    }
    let mut other = Instance::new(config(&texts, Limits::default()), 2).firewall;
    let chunks = firewall.get_all_flows();
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.body.len() <= BODY_MAX));
    for chunk in chunks.iter().chain(&chunks[1..]).rev() {
        other.put_all_flows(chunk).expect("its own chunk");
    }
    assert_eq!(other.totals(), firewall.totals());
}

/// Of its first replica, and of those as which it will count what it has forgotten.
#[test]
fn what_says_that_this_life_has_ended_is_refused() {
    let first = replica(2);
    let later = Life::new(first.instance, first.incarnation + 1, u64::MAX).expect("in order");
    [Life::up_to(first), later].into_iter().for_each(is_refused_that_has_ended);
}

fn is_refused_that_has_ended(life: Life) {
    let mut instance = Instance::new(strict(), 2);
    let mut ended = Lives::default();
    ended.add(life);
    let counter = Counter::from_parts([], ended);
    let id = FlowId::host(HOST_A.into(), Default::default());
    for (up, down) in [(counter.clone(), Counter::default()), (Counter::default(), counter.clone())]
    {
        let mut source = Source::default();
        (source.open.up, source.open.down) = (up, down);
        let chunk = FIREWALL_SOURCE.chunk(id.clone(), source.encode());
        let refused = instance.firewall.put_multi_flow(&chunk, NOW);
        assert!(matches!(refused, Err(PutError::BadBody { .. })), "{refused:?}");
    }
    let totals = Totals { accepted: counter, ..Totals::new(&rules(&[])) };
    let chunk = FIREWALL_TOTALS.chunk(FlowId::default(), totals.encode());
    let refused = instance.firewall.put_all_flows(&chunk);
    assert!(matches!(refused, Err(PutError::BadBody { .. })), "{refused:?}");
    assert!(instance.firewall.source(&Origin::of_id(&id).expect("a host")).is_none());
}

#[test]
fn what_says_at_the_home_of_a_source_that_this_life_has_ended_is_left_out_and_counted() {
    let mut home = Instance::new(strict(), 2).firewall;
    let origin = Origin { service: Default::default(), address: HOST_A.into() };
    let (own, other) = (replica(2), replica(1));
    let mut ended = Lives::default();
    ended.add(Life::up_to(own));
    let mut copy = Source::default();
    copy.open.up.add(other, 1);
    copy.retire(&ended);
    let copy = Box::new(copy);
    let operations = [
        Operation::Join(copy.clone()),
        Operation::Inherit(copy, other),
        // Given away by a later life of who takes it in.
        Operation::Inherit(Box::default(), own),
    ];
    for operation in operations {
        assert_eq!(home.execute(origin, &operation, NOW), None);
    }
    assert_eq!((home.shares.lost(), home.source(&origin).is_none()), (3, true));
    let admitted = home.execute(origin, &Operation::Begin { opens: true }, NOW);
    assert!(admitted.is_some());
    assert_eq!(home.source(&origin).map(|source| source.open.value()), Some(1));
}
