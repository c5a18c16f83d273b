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

/// Both directions of any flow are steered alike, translated or not.
#[test]
fn both_directions_are_steered_alike() {
    let mut rng = rng();
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
