//! What is learned of hosts, and told once.

use super::*;

#[test]
fn each_thing_is_told_once_when_it_is_first_learned() {
    let mut node = Node::new(1);
    node.take_all(&conversations().frames);
    let expected = [
        "10.0.0.1 host - - - - 3",
        "10.0.0.1 os - - Linux 4.20 or later \
         4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0 3",
        "192.0.2.80 host - - - - 0",
        "192.0.2.80 os - - Windows 10 or 11 \
         4:128:0:1460:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0 0",
        "192.0.2.80 service 80 tcp unknown - 0",
        "10.0.0.1 client 80 tcp http curl/8.5.0 - 4",
        "192.0.2.80 service 80 tcp http nginx - 4",
        "192.0.2.80 service 22 tcp unknown - 0",
        "10.0.0.1 client 22 tcp ssh PuTTY - 4",
        "192.0.2.80 service 22 tcp ssh OpenSSH_9.2p1 - 4",
        "192.0.2.80 service 7 tcp unknown - 0",
        "10.0.0.1 client 53 udp dns - 4",
        "192.0.2.80 service 53 udp dns - 4",
        "192.0.2.80 service 9 udp unknown - 4",
        "192.0.2.80 service 80 tcp http apache - 4",
    ];
    assert_eq!(node.lines(), expected);
    let again = node.records.len();
    node.take_all(&conversations().frames);
    assert_eq!(node.records.len(), again, "nothing is new");
    let totals = node.assets.totals();
    let [hosts, services, clients] =
        [&totals.learned_hosts, &totals.learned_services, &totals.learned_clients];
    assert_eq!((hosts.value(), services.value(), clients.value()), (2, 8, 3));
    let counted = |name: &str| node.assets.counters().iter().find(|(n, _)| n == name).map(|c| c.1);
    assert_eq!((counted("hosts"), counted("learned_systems")), (Some(2), Some(2)));
}

#[test]
fn a_host_is_known_with_all_that_was_learned_of_it_and_when() {
    let mut node = Node::new(1);
    let talk = conversations();
    node.take_all(&talk.frames);
    let server = node.host(SERVER);
    assert_eq!((server.distance(), server.fingerprints().len(), server.clients().len()), (0, 1, 0));
    let services: Vec<_> = server
        .services()
        .map(|(port, service)| {
            let names: Vec<_> = service.names().map(|(name, _)| name.as_str()).collect();
            (port.number, port.protocol, names)
        })
        .collect();
    let expected = [
        (7, 6, vec![]),
        (9, 17, vec![]),
        (22, 6, vec!["ssh OpenSSH_9.2p1"]),
        (53, 17, vec!["dns"]),
        (80, 6, vec!["http apache", "http nginx"]),
    ];
    assert_eq!(services, expected);
    let (_, web) = server.services().last().unwrap();
    let at = |place: usize| talk.frames[place].at;
    assert_eq!((web.seen().first(), web.seen().last()), (at(1), at(32)));
    let nginx = web.names().find(|(name, _)| name.as_str() == "http nginx").unwrap().1;
    assert_eq!((nginx.first(), nginx.last()), (at(4), at(4)));
    assert_eq!(server.seen().first(), at(1));
    let system = node.host(CLIENT).system(node.assets.signatures()).unwrap();
    assert_eq!(system.name.as_deref(), Some("Linux 4.20 or later"));
}

#[test]
fn a_stack_that_the_table_does_not_have_is_unknown_and_another_system_is_told() {
    let mut node = Node::new(1);
    let ends = ((CLIENT, 1), (SERVER, 2));
    let mut strange = tcp(ends, SYN, b"");
    // A window of its own, which no checksum of IP covers.
    strange[34 + 15] += 1;
    let mut talk = Talk::default();
    talk.push(strange.clone());
    talk.push(tcp(ends, SYN, b""));
    talk.push(strange);
    // The answer of another stack tells less than what the host has begun itself.
    talk.push(tcp(ends, SYN | ACK, b""));
    node.take_all(&talk.frames);
    let systems: Vec<_> = node.lines().into_iter().filter(|line| line.contains(" os ")).collect();
    let [unknown, linux] = &systems[..] else { panic!("{systems:?}") };
    assert!(unknown.contains(" unknown 4:64:0:1460:64241,7:"), "{unknown}");
    assert!(linux.contains(" Linux 4.20 or later "), "{linux}");
    assert_eq!(node.assets.totals().unmatched.value(), 2);
}

#[test]
fn a_system_is_told_by_what_software_calls_itself_until_its_own_syn_tells_it() {
    const BROWSER: &[u8] = b"GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0)\r\n\r\n";
    let ends = ((CLIENT, 1000), (SERVER, 22));
    let mut talk = Talk::default();
    // The stack of the server answers like Windows, and its greeting comes from Debian.
    talk.exchange(1000, 22, b"SSH-2.0-PuTTY\r\n", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    // Another service of the same system is no news, nor is what the client says against its SYN.
    talk.exchange(1001, 80, BROWSER, b"HTTP/1.1 200 OK\r\nServer: Apache/2 (Debian)\r\n\r\n");
    talk.tcp((ends.1, ends.0), SYN, b"");
    talk.exchange(1002, 81, GET, b"HTTP/1.1 200 OK\r\nServer: Apache/2 (Ubuntu)\r\n\r\n");
    // A flow whose beginning was not seen.
    talk.tcp((([10, 0, 0, 2], 1000), (SERVER, 80)), ACK, BROWSER);
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let systems: Vec<_> = node.lines().into_iter().filter(|line| line.contains(" os ")).collect();
    let expected = [
        "10.0.0.1 os - - Linux 4.20 or later 4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0 3",
        "192.0.2.80 os - - Windows 10 or 11 4:128:0:1460:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0 0",
        "192.0.2.80 os - - Linux (Debian) - 4",
        "192.0.2.80 os - - Linux 4.20 or later 4:64:0:1460:mss*44,7:mss,sok,ts,nop,ws:df,id+:0 3",
        "10.0.0.2 os - - Windows 10 or 11 - 4",
    ];
    assert_eq!(systems, expected);
    assert_eq!(node.assets.counters().iter().find(|c| c.0 == "learned_systems").unwrap().1, 5);
}

/// What told the system may have to go for what sorts lower.
#[test]
fn a_system_that_goes_with_what_told_it_is_followed_by_the_next_or_by_none() {
    let systems = |talk: &Talk| -> Vec<String> {
        let mut node = Node::new(1);
        node.take_all(&talk.frames);
        let systems = node.lines().into_iter().filter(|line| line.contains(" os "));
        systems.map(|line| line.split(" - - ").last().unwrap().to_owned()).collect()
    };
    let (there, back) = (((CLIENT, 1000), (SERVER, 80)), ((SERVER, 60_000), (CLIENT, 9)));
    let mut clients = Talk::default();
    let mut ask = |port: u16, agent: &str| {
        let asks = format!("GET / HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n");
        clients.tcp(((there.0.0, port), there.1), ACK, asks.as_bytes());
    };
    ask(1, "y Debian");
    ask(2, "z Windows");
    (0..CLIENTS_MAX as u16 - 1).for_each(|n| ask(10 + n, &format!("c{n:02}")));
    ask(3, "b Windows");
    (0..CLIENTS_MAX as u16).for_each(|n| ask(50 + n, &format!("a{n:02}")));
    let told = ["Linux (Debian)", "Windows", "Linux (Debian)", "Windows", "unknown"];
    assert_eq!(systems(&clients), told.map(|system| format!("{system} - 4")));

    let mut services = Talk::default();
    services.tcp(back, ACK, b"HTTP/1.1 200 OK\r\nServer: Apache/2 (Debian)\r\n\r\n");
    (1..=SERVICES_MAX as u16)
        .for_each(|n| services.tcp(((SERVER, n), (CLIENT, 9)), SYN | ACK, b""));
    let windows = "Windows 10 or 11 4:128:0:1460:65535,8:mss,nop,ws,nop,nop,sok:df,id+:0 0";
    assert_eq!(systems(&services), ["Linux (Debian) - 4", windows]);
}

#[test]
fn a_server_is_told_with_the_name_that_was_asked_for() {
    let mut talk = Talk::default();
    talk.exchange(1000, 443, &asks_for("example.org"), &tls_hello(2, &[19, 1, 0, 0, 0]));
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let lines = node.lines();
    assert!(lines.contains(&"10.0.0.1 client 443 tcp tls 1.2 - 4".to_owned()), "{lines:?}");
    let expected = "192.0.2.80 service 443 tcp tls 1.2 example.org - 4".to_owned();
    assert!(lines.contains(&expected), "{lines:?}");
}

#[test]
fn what_a_client_asks_for_tells_nothing_of_the_system_of_the_server() {
    let asks = asks_for("archive.ubuntu.com");
    let back = ((SERVER, 443), (CLIENT, 1000));
    for (says, name) in [
        (tls_hello(2, &[19, 1, 0, 0, 0]), "tls 1.2 archive.ubuntu.com"),
        // One that does not speak TLS was not asked for by that name.
        (OK.to_vec(), "http nginx"),
    ] {
        let mut talk = Talk::default();
        talk.tcp((back.1, back.0), ACK, &asks);
        talk.tcp(back, ACK, &says);
        let mut node = Node::new(1);
        node.take_all(&talk.frames);
        assert_eq!(
            node.lines(),
            [
                "10.0.0.1 host - - - - 4",
                "10.0.0.1 client 443 tcp tls 1.2 - 4",
                "192.0.2.80 host - - - - 4",
                &format!("192.0.2.80 service 443 tcp {name} - 4"),
            ]
        );
    }
}

#[test]
fn who_serves_is_told_by_the_handshake_and_without_one_by_what_is_said() {
    let (there, back) = (((CLIENT, 1000), (SERVER, 80)), ((SERVER, 80), (CLIENT, 1000)));
    let mut lies = Talk::default();
    lies.tcp(there, SYN, b"");
    lies.tcp(back, SYN | ACK, b"");
    // Nobody serves at the port of who began.
    lies.tcp(there, ACK, OK);
    lies.tcp(back, ACK, GET);
    let mut node = Node::new(1);
    node.take_all(&lies.frames);
    assert_eq!(node.lines().iter().filter(|line| line.contains("http")).count(), 0);

    let mut middle = Talk::default();
    middle.tcp(back, ACK, b"the rest of something");
    middle.tcp(back, ACK, OK);
    // Both ends of SSH say the same.
    let (there, back) = (((CLIENT, 1001), (SERVER, 22)), ((SERVER, 22), (CLIENT, 1001)));
    middle.tcp(there, ACK, b"SSH-2.0-a\r\n");
    middle.tcp(back, ACK, b"SSH-2.0-b\r\n");
    let mut node = Node::new(1);
    node.take_all(&middle.frames);
    let expected = [
        "192.0.2.80 host - - - - 4",
        "192.0.2.80 service 80 tcp http nginx - 4",
        "10.0.0.1 host - - - - 4",
    ];
    assert_eq!(node.lines(), expected);
}

#[test]
fn an_answer_over_udp_is_a_service_only_from_a_port_that_is_no_higher() {
    let mut talk = Talk::default();
    talk.udp(((CLIENT, 40_000), (SERVER, 50_000)), b"hm");
    talk.udp(((SERVER, 50_000), (CLIENT, 40_000)), b"hm");
    talk.udp(((CLIENT, 40_000), (SERVER, 500)), b"hm");
    talk.udp(((CLIENT, 40_000), (SERVER, 501)), b"hm");
    talk.udp(((SERVER, 501), (CLIENT, 40_000)), b"hm");
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    let services: Vec<_> = node.host(SERVER).services().map(|(port, _)| port.number).collect();
    assert_eq!(services, [501]);
}

#[test]
fn so_much_is_looked_at_in_each_direction_and_no_more() {
    let (there, back) = (((CLIENT, 1000), (SERVER, 80)), ((SERVER, 80), (CLIENT, 1000)));
    for (before, found) in [(3, true), (4, false)] {
        let mut talk = Talk::default();
        talk.tcp(there, SYN, b"");
        talk.tcp(back, SYN | ACK, b"");
        (0..before).for_each(|_| talk.tcp(back, ACK, &[b'x'; 1024]));
        talk.tcp(back, ACK, OK);
        talk.tcp(there, ACK, GET);
        let mut node = Node::new(1);
        node.take_all(&talk.frames);
        let lines = node.lines();
        assert_eq!(lines.iter().any(|line| line.contains("nginx")), found, "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("curl")), "the other direction has its own");
    }
}

#[test]
fn ports_that_are_used_again_are_looked_at_again() {
    let mut talk = Talk::default();
    let (there, back) = (((CLIENT, 1000), (SERVER, 80)), ((SERVER, 80), (CLIENT, 1000)));
    talk.exchange(1000, 80, GET, OK);
    // The other way round.
    talk.tcp(back, SYN, b"");
    talk.tcp(there, SYN | ACK, b"");
    talk.tcp(back, ACK, GET);
    talk.tcp(there, ACK, OK);
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    assert_eq!(
        node.host(CLIENT).services().map(|(port, _)| port.number).collect::<Vec<_>>(),
        [1000]
    );
    assert_eq!(node.host(SERVER).clients().len(), 1);
}

#[test]
fn nothing_is_learned_from_errors_and_from_addresses_of_nobody() {
    let mut talk = Talk::default();
    talk.udp((([0, 0, 0, 0], 68), ([255; 4], 67)), b"hm");
    talk.udp((([224, 0, 0, 1], 68), (SERVER, 67)), b"hm");
    let quoted = &tcp(((CLIENT, 1), (SERVER, 2)), SYN, b"")[14..];
    let mut error = Vec::new();
    let step = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 9, 9, 9], CLIENT, 64);
    let step = step.icmpv4_raw(3, 1, [0; 4]);
    step.write(&mut error, quoted).unwrap();
    talk.push(error);
    let mut node = Node::new(1);
    node.take_all(&talk.frames);
    assert_eq!((node.records.len(), node.assets.hosts().len()), (0, 0), "{:?}", node.records);
}

#[test]
fn a_line_has_a_value_for_each_field_of_its_header() {
    let mut node = Node::new(1);
    node.take_all(&conversations().frames);
    let header = record::log_header(Timestamp(0));
    let columns = |start: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(start));
        line.expect("such a line").split('\t').count()
    };
    assert_eq!(columns("#fields\t"), columns("#types\t"));
    for record in &node.records {
        let line = record.line();
        assert_eq!((line.lines().count(), line.split('\t').count()), (1, columns("#fields\t")));
    }
    assert!(node.records[0].line().starts_with("1700000000.000000\t10.0.0.1\thost\t"));
}
