//! Bounds: what becomes of more than there is room for.

use std::time::Duration;

use super::*;

fn syn(from: [u8; 4], second: u64) -> Timed {
    let frame = tcp(((from, 1000), (SERVER, 80)), SYN, b"");
    Timed { at: Timestamp(START + second * SECOND), frame }
}

fn numbered(number: u8) -> [u8; 4] {
    [10, 1, 0, number]
}

#[test]
fn hosts_are_bounded_and_those_of_which_nothing_is_known_make_room_in_time() {
    let mut node = Node::with(Config { hosts_max: 3, ..Config::default() }, 1);
    node.take_all(&[syn(numbered(1), 0), syn(numbered(2), 0), syn(numbered(3), 100)]);
    node.take(&syn(numbered(4), 119));
    assert_eq!(node.assets.hosts().len(), 3);
    assert_eq!(node.assets.totals().hosts_full.value(), 1);
    assert!(!node.lines().iter().any(|line| line.starts_with("10.1.0.4")));
    node.take(&syn(numbered(4), 121));
    let known: Vec<_> = node.assets.hosts().map(|(id, _)| id.address.to_string()).collect();
    assert_eq!(known, ["10.1.0.3", "10.1.0.4"]);
    assert_eq!(node.assets.totals().forgotten.value(), 2);
}

#[test]
fn a_host_of_which_more_is_known_makes_no_room_before_its_time() {
    let forget = Duration::from_hours(1);
    let mut node = Node::with(Config { hosts_max: 2, forget, ..Config::default() }, 1);
    let mut talk = Talk::default();
    talk.exchange(1000, 80, GET, OK);
    node.take_all(&talk.frames);
    node.take(&syn(numbered(1), 3_599));
    assert_eq!(node.assets.hosts().len(), 2);
    assert!(node.assets.host(&host(numbered(1))).is_none());
    node.take(&syn(numbered(1), 3_602));
    assert_eq!(node.assets.hosts().len(), 1);
    assert!(node.assets.host(&host(numbered(1))).is_some());
}

#[test]
fn hosts_that_are_not_seen_are_forgotten_as_the_sweeps_go_on() {
    let forget = Duration::from_hours(1);
    let mut node = Node::with(Config { forget, ..Config::default() }, 1);
    (0..100).for_each(|number| _ = node.take(&syn(numbered(number), u64::from(number) * 60)));
    let now = Timestamp(START + (3_600 + 49 * 60) * SECOND);
    (0..7).for_each(|_| _ = node.assets.sweep(16, now));
    assert_eq!(node.assets.hosts().len(), 50);
    assert_eq!(node.assets.totals().forgotten.value(), 50);
    // One that comes again is new.
    let before = node.records.len();
    node.connections.clear();
    node.take(&syn(numbered(1), 7_000));
    assert_eq!(node.records.len(), before + 2);
}

#[test]
fn a_host_that_goes_on_sending_is_noted_once_a_minute() {
    let mut node = Node::new(1);
    let ends = ((CLIENT, 1000), (SERVER, 80));
    let last = |node: &Node| (node.host(CLIENT).seen().last().0 - START) / SECOND;
    let mut seen = Vec::new();
    for second in [0, 59, 60, 100, 119, 121] {
        let at = Timestamp(START + second * SECOND);
        node.take(&Timed { at, frame: tcp(ends, ACK, b"") });
        seen.push(last(&node));
    }
    assert_eq!(seen, [0, 0, 60, 60, 60, 121]);
    assert_eq!(node.records.len(), 1);
}

/// The records and the host do not depend on the order, but for which are told at all.
#[test]
fn of_more_services_than_fit_those_of_the_lowest_ports_stay() {
    let mut node = Node::new(1);
    let mut rng = weir_seed::rng();
    let mut ports: Vec<u16> = (1..=100).collect();
    rng.shuffle(&mut ports);
    let mut talk = Talk::default();
    ports.iter().for_each(|port| talk.tcp(((SERVER, *port), (CLIENT, 1)), SYN | ACK, b""));
    node.take_all(&talk.frames);
    let known = |node: &Node| -> Vec<u16> {
        node.host(SERVER).services().map(|(port, _)| port.number).collect()
    };
    let lowest: Vec<u16> = (1..=SERVICES_MAX as u16).collect();
    assert_eq!(known(&node), lowest);
    let told = node.records.len();
    assert_eq!(node.assets.totals().left_out.value(), 100 - SERVICES_MAX as u64);
    node.take_all(&talk.frames);
    assert_eq!((node.records.len(), known(&node)), (told, lowest), "what had to go stays away");
}

#[test]
fn the_system_of_a_full_host_is_asked_for_only_where_it_may_become_another() {
    let at = Timestamp(START);
    let port = |number| Port { number, protocol: 6 };
    let name = |text: &str| Name::new("ssh", text.as_bytes());
    let mut host = Host::new(at, 0);
    let may_turn =
        |host: &Host, number, text| host.may_turn_by_service(port(number), Some(&name(text)));
    assert!(may_turn(&host, 99, "Debian") && !may_turn(&host, 99, "other"));
    assert!(!host.may_turn_by_service(port(99), None));
    for number in 1..=SERVICES_MAX as u16 {
        _ = host.learn_service(port(number * 2), Some(&name("m")), at);
    }
    // There is no room for a higher port, and for a lower one another has to go.
    assert!(!may_turn(&host, 99, "Debian") && may_turn(&host, 1, "other"));
    assert!(host.may_turn_by_service(port(1), None));
    assert!(may_turn(&host, 2, "Debian") && !may_turn(&host, 2, "other"));
    for text in ["n", "o", "p Debian"] {
        _ = host.learn_service(port(2), Some(&name(text)), at);
    }
    assert!(!may_turn(&host, 2, "q Debian") && !may_turn(&host, 2, "p Debian"));
    assert!(may_turn(&host, 2, "a"), "what told it has to go");
}

#[test]
fn names_clients_and_fingerprints_of_a_host_are_bounded() {
    let mut node = Node::new(1);
    let mut talk = Talk::default();
    for n in 0..40_u16 {
        let said = format!("HTTP/1.1 200 OK\r\nServer: {n:03}\r\n\r\n");
        let asked = format!("GET / HTTP/1.1\r\nUser-Agent: {n:03}\r\n\r\n");
        talk.exchange(2000 + n, 80, asked.as_bytes(), said.as_bytes());
        let mut other = tcp(((CLIENT, 3000 + n), (SERVER, 80)), SYN, b"");
        other[34 + 15] = n as u8;
        talk.push(other);
    }
    node.take_all(&talk.frames);
    let server = node.host(SERVER);
    let (_, web) = server.services().next().unwrap();
    let names: Vec<_> = web.names().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["http 000", "http 001", "http 002", "http 003"]);
    let client = node.host(CLIENT);
    assert_eq!(
        (client.clients().len(), client.fingerprints().len()),
        (CLIENTS_MAX, FINGERPRINTS_MAX)
    );
    assert!(node.assets.totals().left_out.value() >= 40 - 4 + 40 - 16 + 40 - 8);
    // As large as it gets, it fits in a chunk many times over.
    assert!(client.encode().len() < 10_000);
}

#[test]
fn records_that_nobody_takes_are_bounded_and_counted() {
    let mut node = Node::with(Config { records_max: 3, ..Config::default() }, 1);
    for number in 0..4 {
        let Timed { at, frame } = syn(numbered(number), 0);
        let Ok(Parsed::Ip(meta)) = parse(&frame, ServiceId(0)) else { panic!("no packet") };
        node.assets.packet(&mut None, &meta, &frame, at);
    }
    assert_eq!((node.assets.waiting(), node.assets.totals().lost_records.value()), (3, 5));
}

#[test]
fn flows_are_forgotten_when_they_are_idle_and_sooner_when_they_are_over() {
    let left = |node: &Node| {
        let known = node.connections.values().flatten().next().unwrap();
        known.time_left(&node.assets.config().timeouts, Timestamp(START + SECOND)).as_secs()
    };
    let after = |frames: &dyn Fn(&mut Talk)| {
        let (mut node, mut talk) = (Node::new(1), Talk::default());
        frames(&mut talk);
        node.take_all(&talk.frames);
        left(&node)
    };
    let (there, back) = (((CLIENT, 1000), (SERVER, 80)), ((SERVER, 80), (CLIENT, 1000)));
    assert_eq!(after(&|talk| talk.tcp(there, SYN, b"")), 299);
    assert_eq!(after(&|talk| talk.udp(there, b"x")), 59);
    assert_eq!(after(&|talk| talk.exchange(1000, 80, GET, OK)), 4);
    assert_eq!(after(&|talk| talk.tcp(back, RST, b"")), 4);
    let again = |talk: &mut Talk| {
        talk.tcp(back, RST, b"");
        talk.tcp(there, SYN, b"");
    };
    assert_eq!(after(&again), 299);
}
