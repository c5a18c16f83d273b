//! What is wrong with rules, and how flows are steered by them.

use super::*;

fn refused(sources: Vec<SourceRule>, services: Vec<Service>) -> String {
    Rules::new(sources, services).expect_err("refused").to_string()
}

#[test]
fn what_is_wrong_is_named() {
    let mut six = source_rule(&[EXTERNAL]);
    six.pool.push("2001:db8::1".parse().expect("an address"));
    assert_eq!(refused(vec![six], vec![]), "10.0.0.0/8 and 2001:db8::1 are of different families");
    let many = source_rule(&[EXTERNAL; POOL_MAX + 1]);
    assert_eq!(
        refused(vec![many], vec![]),
        "there are 257 external addresses of a rule, and 256 are the most"
    );
    let icmp = Service { protocol: protocol::ICMP, ..web() };
    let expected = "the service at 192.0.2.1 has protocol 1: expected TCP or UDP";
    assert_eq!(refused(vec![], vec![icmp]), expected);
    let zero = Service { ports: 0..=9, ..web() };
    let expected = "the service at 192.0.2.1 has no ports 0 to 9: expected 1 to 65535";
    assert_eq!(refused(vec![], vec![zero]), expected);
    let beyond = Service { backends: vec![(SERVER, 65_530).into()], ..web() };
    let expected = "the service at 10.0.9.1 has no ports 65530 to 65539: expected 1 to 65535";
    assert_eq!(refused(vec![], vec![beyond]), expected);
    let none = Service { backends: vec![], ..web() };
    assert_eq!(refused(vec![], vec![none]), "the service at 192.0.2.1 has no backend");
    let external = Service { backends: vec![(EXTERNAL, 80).into()], ..web() };
    let expected = "the backend 192.0.2.1 is an external address";
    assert_eq!(refused(vec![], vec![external]), expected);
}

#[test]
fn no_two_services_and_no_two_backends_have_a_port_in_common() {
    let other = |ports, backend: u16| {
        let backends = vec![(SERVER, backend).into()];
        Service { ports, backends, ..web() }
    };
    for (ports, backend, twice) in [
        (85..=95, 1, Some("192.0.2.1 port 85 is there twice")),
        (70..=80, 1, Some("192.0.2.1 port 80 is there twice")),
        (82..=83, 1, Some("192.0.2.1 port 82 is there twice")),
        (90..=90, 8089, Some("10.0.9.1 port 8089 is there twice")),
        (90..=91, 8079, Some("10.0.9.1 port 8080 is there twice")),
        (90..=90, 8090, None),
        (70..=79, 8070, None),
    ] {
        let found = Rules::new(vec![], vec![web(), other(ports.clone(), backend)]);
        assert_eq!(found.err().map(|error| error.to_string()).as_deref(), twice, "{ports:?}");
    }
    let udp = Service { protocol: protocol::UDP, ..web() };
    assert!(Rules::new(vec![], vec![web(), udp]).is_ok());
}

/// Every end of every service and backend, and what is next to them, as a search of all rules finds
/// them.
#[test]
fn a_service_is_found_where_a_search_of_all_finds_it() {
    let mut rng = weir_seed::rng();
    for _ in 0..200 {
        let mut services = Vec::<Service>::new();
        for n in 0..rng.u16(1..40) {
            let address = Ipv4Addr::new(192, 0, 2, rng.u8(..4)).into();
            let first = rng.u16(1..60) * 8;
            let backends = vec![(Ipv4Addr::new(10, 0, 9, rng.u8(..3)), 10_000 + 8 * n).into()];
            let protocol = [protocol::TCP, protocol::UDP][rng.usize(..2)];
            let ports = first..=first + rng.u16(..8);
            let is_at = |s: &Service| (s.address, s.protocol, *s.ports.start());
            if services.iter().all(|s| is_at(s) != (address, protocol, first)) {
                services.push(Service { address, protocol, ports, backends });
            }
        }
        let rules = Rules::new(vec![], services.clone()).expect("rules");
        for _ in 0..2_000 {
            let number = [protocol::TCP, protocol::UDP][rng.usize(..2)];
            let end: (IpAddr, u16) = match rng.bool() {
                true => (Ipv4Addr::new(192, 0, 2, rng.u8(..5)).into(), rng.u16(..500)),
                false => (Ipv4Addr::new(10, 0, 9, rng.u8(..4)).into(), rng.u16(9_990..10_330)),
            };
            let of = |s: &&Service| s.protocol == number;
            let at_front = services
                .iter()
                .filter(of)
                .find(|service| service.address == end.0 && service.ports.contains(&end.1));
            let found = rules.service(number, end);
            let offset = at_front.map(|service| end.1 - service.ports.start());
            assert_eq!(found, at_front.zip(offset), "{end:?}");
            let backed = services.iter().filter(of).find_map(|service| {
                let (backend, further) = (service.backends[0], service.further());
                let offset = end.1.checked_sub(backend.port()).filter(|n| *n <= further)?;
                (backend.ip() == end.0).then(|| (service.address, service.ports.start() + offset))
            });
            assert_eq!(rules.front_of(number, end), backed.unwrap_or(end));
            let whole = services.iter().filter(of).any(|service| service.address == end.0);
            let flow = FlowKey::new(OUTSIDE.into(), end.0, (0, 0), number, ServiceId(0));
            let backs = services.iter().filter(of).any(|s| s.backends[0].ip() == end.0);
            assert_eq!(rules.concern(&flow.expect("of a family")), whole || backs, "no ports");
        }
    }
}

/// Both directions of any flow are steered alike, translated or not.
#[test]
fn both_directions_are_steered_alike() {
    let mut rng = weir_seed::rng();
    let rules = Rules::new(vec![source_rule(&[EXTERNAL])], vec![web()]).expect("rules");
    let hosts = [INSIDE, OUTSIDE, SERVER, EXTERNAL, Ipv4Addr::new(10, 0, 9, 2)];
    for _ in 0..20_000 {
        let hash = random_hash(&mut rng);
        let mut end = || (hosts[rng.usize(..hosts.len())], [80, 8080, 9095, 7][rng.usize(..4)]);
        let (src, dst) = (end(), end());
        let number = [1, 6, 17, 47][rng.usize(..4)];
        let key = if has_ports(number) {
            flow(number, src, dst)
        } else {
            flow(number, (src.0, 0), (dst.0, 0))
        };
        // Hosts inside that are in one rule may both begin, and are told apart by who does.
        let both_inside = [src.0, dst.0].iter().all(|host| host.octets()[0] == 10);
        if both_inside && !has_ports(number) {
            continue;
        }
        let buckets = [key, key.reversed()].map(|key| bucket(&rules, &hash, &key));
        assert_eq!(buckets[0], buckets[1], "{key}");
    }
}

#[test]
fn a_filter_may_name_remote_hosts_and_nothing_that_has_two_names() {
    let mut kept = source_rule(&[]);
    kept.from = "172.16.0.0/12".parse().expect("a prefix");
    let rules = Rules::new(vec![kept, source_rule(&[EXTERNAL])], vec![web()]).expect("rules");
    let checked = |text: &str| rules.check_filter(&text.parse().expect("a filter"));
    for text in [
        "any",
        "proto=tcp",
        "dst=198.51.100.7/32",
        "src=198.51.100.0/24,proto=udp,sport=53",
        "src=198.51.100.7/32,dst=203.0.113.9/32,proto=tcp,sport=1,dport=2,service=0",
        "dst=2001:db8::/32,dport=443",
        "src=172.16.0.0/16",
    ] {
        assert_eq!(checked(text), Ok(()), "{text}");
    }
    for named in ["10.0.1.0/24", "0.0.0.0/1", "192.0.2.1/32", "10.0.9.1/32"] {
        let inside = Err(FilterRefused::Inside { named: named.parse().expect("a prefix") });
        assert_eq!(checked(&format!("src={named}")), inside);
        assert_eq!(checked(&format!("src=198.51.100.7/32,dst={named}")), inside);
    }
    for text in ["dport=53", "dst=198.51.100.7/32,sport=4000", "dst=0.0.0.0/0,dport=53"] {
        assert_eq!(checked(text), Err(FilterRefused::Ports), "{text}");
    }
}

/// Flows match a filter that is not refused under each of their names or under none.
#[test]
fn a_filter_that_is_not_refused_tells_no_names_apart() {
    let mut rng = weir_seed::rng();
    let hash = random_hash(&mut rng);
    let config = config(vec![source_rule(&[EXTERNAL])], vec![web()]);
    let mut matched = 0;
    for _ in 0..2_000 {
        let mut instance = Instance::new(config.clone(), &hash, 1);
        let host = |rng: &mut Rng| {
            let hosts = [INSIDE, OUTSIDE, SERVER, EXTERNAL, Ipv4Addr::new(203, 0, 113, 9)];
            hosts[rng.usize(..hosts.len())]
        };
        let mut end = || (host(&mut rng), [53, 80, 4000, 8080][rng.usize(..4)]);
        let (src, dst, named) = (end(), end(), end());
        if instance.sends(&syn(src, dst)).is_err() {
            continue;
        }
        let known = instance.table.only_or_none();
        let Some(names) = known.map(Translation::keys) else { continue };
        let (name, length) = (named.0, [8, 24, 32][rng.usize(..3)]);
        let prefix = Ipv4Addr::from_bits(name.to_bits() & (u32::MAX << (32 - length)));
        let text = match rng.u8(..4) {
            0 => format!("src={prefix}/{length}"),
            1 => format!("dst={prefix}/{length},proto=tcp,dport={}", named.1),
            2 => format!("dport={}", named.1),
            _ => format!("src={prefix}/{length},sport={}", named.1),
        };
        let filter: weir_state_transfer::Filter = text.parse().expect("a filter");
        if config.rules.check_filter(&filter).is_ok() {
            assert_eq!(filter.matches(&names[0]), filter.matches(&names[1]), "{text}: {names:?}");
            matched += usize::from(filter.matches(&names[0]));
        }
    }
    assert!(matched > 20, "{matched}");
}

/// What the router is asked itself stays its own, though it has the address too.
#[test]
fn traffic_to_an_outside_address_is_for_flows_but_for_what_asks_the_router() {
    let rules = Rules::new(vec![source_rule(&[EXTERNAL])], vec![web()]).expect("rules");
    let claims = |frame: &[u8]| rules.claims(frame, &meta_of(frame));
    let quoted = udp((EXTERNAL, 4000), (OUTSIDE, 53));
    let error = |kind| samples::icmp4(OUTSIDE, EXTERNAL, kind, &quoted[14..]);
    assert!(claims(&udp((OUTSIDE, 53), (EXTERNAL, 4000))));
    assert!(claims(&syn((OUTSIDE, 4000), (EXTERNAL, 80))));
    assert!(claims(&echo(OUTSIDE, EXTERNAL, false, 7)) && claims(&error(3)) && claims(&error(11)));
    assert!(!claims(&echo(OUTSIDE, EXTERNAL, true, 7)) && !claims(&error(5)));
    assert!(!claims(&udp((INSIDE, 53), (OUTSIDE, 4000))));
    let mut for_all = udp((OUTSIDE, 53), (EXTERNAL, 4000));
    for_all[..6].fill(0xff);
    assert!(!claims(&for_all));
    // Of an address that is a service's only, the rest is the router's.
    let rules = Rules::new(vec![], vec![web()]).expect("rules");
    let claims = |frame: &[u8]| rules.claims(frame, &meta_of(frame));
    assert!(claims(&syn((OUTSIDE, 4000), (EXTERNAL, 80))) && claims(&error(3)));
    assert!(!claims(&syn((OUTSIDE, 4000), (EXTERNAL, 22))));
    assert!(!claims(&echo(OUTSIDE, EXTERNAL, false, 7)));
}
