//! Filters against brute force over a tiny universe of flows, and their text.

use std::net::IpAddr;

use super::*;
use crate::flow_id::{Extent, FlowId};
use crate::state_filter::StateFilter;

const PREFIXES: [&str; 9] = [
    "10.0.0.0/8",
    "10.0.0.0/31",
    "10.0.0.0",
    "10.0.0.1",
    "10.128.0.0/9",
    "0.0.0.0/0",
    "::/0",
    "fe80::/16",
    "fe80::1",
];
const ADDRESSES: [&str; 6] = ["10.0.0.0", "10.0.0.1", "10.128.0.0", "11.0.0.0", "fe80::1", "::2"];
const PORTS: [u16; 4] = [0, 1, 2, u16::MAX];

fn universe() -> Vec<FlowKey> {
    let mut keys = Vec::new();
    let addresses = ADDRESSES.map(|address| address.parse().unwrap());
    for (src, dst) in addresses.into_iter().flat_map(|src| addresses.map(|dst| (src, dst))) {
        for (sport, dport) in PORTS.into_iter().flat_map(|src| PORTS.map(|dst| (src, dst))) {
            for protocol in [protocol::TCP, protocol::UDP, protocol::ICMP] {
                for service in [ServiceId(0), ServiceId(1)] {
                    keys.extend(FlowKey::new(src, dst, (sport, dport), protocol, service));
                }
            }
        }
    }
    keys
}

fn random_endpoint(rng: &mut fastrand::Rng) -> Endpoint {
    let ranges = [0..=0, 1..=1, 1..=2, 0..=1, 2..=u16::MAX, 0..=u16::MAX];
    Endpoint {
        prefix: rng.bool().then(|| PREFIXES[rng.usize(..PREFIXES.len())].parse().unwrap()),
        ports: (rng.u8(..3) == 0)
            .then(|| PortRange::new(ranges[rng.usize(..ranges.len())].clone()).unwrap()),
    }
}

/// May be contradictory.
fn random_filter(rng: &mut fastrand::Rng) -> Filter {
    let protocols = [protocol::TCP, protocol::UDP, protocol::ICMP];
    Filter {
        src: random_endpoint(rng),
        dst: random_endpoint(rng),
        protocol: (rng.u8(..3) == 0).then(|| protocols[rng.usize(..3)]),
        service: (rng.u8(..4) == 0).then(|| ServiceId(rng.u16(..2))),
        symmetric: rng.bool(),
    }
}

/// The definition in the plainest words.
fn naive_match(filter: &Filter, key: &FlowKey) -> bool {
    let end = |end: &Endpoint, address: IpAddr, port: u16| {
        let address_matches = end.prefix.is_none_or(|prefix| {
            let (network, length) = (prefix.address(), u32::from(prefix.length()));
            match (network, address) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    (a.to_bits() ^ b.to_bits()).leading_zeros() >= length
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    (a.to_bits() ^ b.to_bits()).leading_zeros() >= length
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
            }
        });
        let has_ports = key.protocol() != protocol::ICMP;
        address_matches && end.ports.is_none_or(|range| has_ports && range.ports().contains(&port))
    };
    let direct = |key: &FlowKey| {
        end(&filter.src, key.src(), key.src_port())
            && end(&filter.dst, key.dst(), key.dst_port())
            && filter.protocol.is_none_or(|protocol| protocol == key.protocol())
            && filter.service.is_none_or(|service| service == key.service())
    };
    direct(key) || filter.symmetric && direct(&key.reversed())
}

#[test]
fn matching_overlap_cover_and_exactness_agree_with_brute_force() {
    let mut rng = weir_seed::rng();
    let universe = universe();
    let matching = |filter: &Filter| -> Vec<bool> {
        universe.iter().map(|key| naive_match(filter, key)).collect()
    };
    let (mut overlapping, mut covering) = (0, 0);
    for _ in 0..3_000 {
        let (one, two) = (random_filter(&mut rng), random_filter(&mut rng));
        let (in_one, in_two) = (matching(&one), matching(&two));
        for (key, expected) in universe.iter().zip(&in_one) {
            assert_eq!(one.matches(key), *expected, "{one:?} and {key}");
        }
        let common = in_one.iter().zip(&in_two).any(|(one, two)| *one && *two);
        assert_eq!(one.overlaps(&two), common, "{one:?} and {two:?}");
        assert_eq!(two.overlaps(&one), common, "{two:?} and {one:?}");
        overlapping += u32::from(common);

        if one.covers(&two) {
            covering += 1;
            let inside = in_two.iter().zip(&in_one).all(|(two, one)| !two || *one);
            assert!(inside, "{one:?} covers {two:?}");
        }
        assert!(one.covers(&one) || one.check().is_err());
        assert_eq!(one.check().is_ok(), in_one.contains(&true), "{one:?}");

        let named: Vec<_> =
            universe.iter().zip(&in_one).filter_map(|(key, is)| is.then_some(*key)).collect();
        if let Some(key) = one.exact() {
            let both = [key, key.reversed()];
            assert!(
                named.iter().all(|named| both[..1 + usize::from(one.symmetric)].contains(named))
            );
        }
    }
    assert!(overlapping > 100 && covering > 100, "{overlapping} overlap, {covering} cover");
}

#[test]
fn cover_is_complete_for_filters_of_one_direction() {
    let ports = |first, last| Endpoint { prefix: None, ports: PortRange::new(first..=last) };
    let ranges = [(0, 0), (0, 1), (1, 2), (2, 2), (0, 2)];
    let universe = universe();
    for (a, b) in ranges.into_iter().flat_map(|a| ranges.map(|b| (a, b))) {
        let one = Filter { src: ports(a.0, a.1), symmetric: false, ..Filter::default() };
        let two = Filter { src: ports(b.0, b.1), symmetric: false, ..Filter::default() };
        let inside = universe.iter().all(|key| !two.matches(key) || one.matches(key));
        assert_eq!(one.covers(&two), inside, "{one} and {two}");
    }
}

#[test]
fn the_flows_of_hosts_are_those_of_all_hosts_whose_state_is_picked() {
    let mut rng = weir_seed::rng();
    let universe = universe();
    for _ in 0..500 {
        let filter = random_filter(&mut rng);
        for key in &universe {
            let is_picked = |host| {
                let id = FlowId::host(host, key.service());
                id.is_picked_by(&filter, Extent::Contains)
            };
            let wanted = is_picked(key.src()) || is_picked(key.dst());
            let found = filter.of_hosts().iter().any(|flows| flows.matches(key));
            assert_eq!(found, wanted, "{filter}: {key}");
        }
    }
}

#[test]
fn symmetry_swaps_addresses_and_ports_together() {
    let filter: Filter = "src=10.0.0.1,dport=53,proto=udp".parse().unwrap();
    let key = |src: [u8; 4], dst: [u8; 4], ports| {
        FlowKey::v4(src.into(), dst.into(), ports, protocol::UDP, ServiceId(0))
    };
    let (one, two) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    assert!(filter.matches(&key(one, two, (9, 53))));
    assert!(filter.matches(&key(two, one, (53, 9))));
    assert!(!filter.matches(&key(two, one, (9, 53))));
    assert!(!filter.matches(&key(one, two, (53, 9))));
    let directional = Filter { symmetric: false, ..filter };
    assert!(!directional.matches(&key(two, one, (53, 9))));
}

#[test]
fn a_fully_given_flow_is_exact() {
    let text = "src=10.0.0.1,dst=10.0.0.2,proto=udp,sport=9,dport=53,service=1";
    let filter: Filter = text.parse().unwrap();
    let key = FlowKey::v4(
        [10, 0, 0, 1].into(),
        [10, 0, 0, 2].into(),
        (9, 53),
        protocol::UDP,
        ServiceId(1),
    );
    assert_eq!(filter.exact(), Some(key));
    for field in text.split(',') {
        let fewer: Vec<_> = text.split(',').filter(|other| *other != field).collect();
        assert_eq!(fewer.join(",").parse::<Filter>().unwrap().exact(), None, "without {field}");
    }
}

#[test]
fn prints_what_parses_back() {
    let mut rng = weir_seed::rng();
    for _ in 0..1_000 {
        let filter = random_filter(&mut rng);
        match filter.check() {
            Ok(()) => assert_eq!(filter.to_string().parse(), Ok(filter)),
            Err(error) => assert_eq!(filter.to_string().parse::<Filter>(), Err(error)),
        }
    }
    let text = " src = 10.0.0.0/8 , proto=17, dport=53-60, symmetric=false ";
    assert_eq!(
        text.parse::<Filter>().unwrap().to_string(),
        "src=10.0.0.0/8,proto=udp,dport=53-60,symmetric=false"
    );
    assert_eq!("any".parse(), Ok(Filter::default()));
}

#[test]
fn says_what_is_wrong_and_where() {
    let error = |text: &str| text.parse::<Filter>().unwrap_err().to_string();
    let fields = "(fields: src, dst, proto, sport, dport, service, symmetric)";
    for (text, expected) in [
        ("", format!("expected field=value at position 0, found \"\" {fields}")),
        ("src=::1,udp", format!("expected field=value at position 8, found \"udp\" {fields}")),
        (
            "src=::1, sprot=1",
            format!("unknown field \"sprot\" at position 9: did you mean sport? {fields}"),
        ),
        ("colour=red", format!("unknown field \"colour\" at position 0 {fields}")),
    ] {
        assert_eq!(error(text), expected);
    }
    for (text, expected) in [
        ("src=::1,src=::2", "field src is given again at position 8"),
        (
            "proto=upd",
            "proto: expected a protocol number (0-255) or name at position 6, found \"upd\": \
             did you mean udp?",
        ),
        ("dport=9-3", "dport: expected a port or a range first-last at position 6, found \"9-3\""),
        ("dport=+53", "dport: expected a port or a range first-last at position 6, found \"+53\""),
        (
            "src=10.0.0.1/8",
            "src: bad prefix at position 4: the address has bits set beyond the prefix length: \
             did you mean 10.0.0.0/8?",
        ),
        ("symmetric=no", "symmetric: expected true or false at position 10, found \"no\""),
        (
            "src=10.0.0.0/8,dst=::/0",
            "no flow goes from 10.0.0.0/8 to ::/0: src and dst are of different families",
        ),
        ("proto=icmp,dport=1", "protocol icmp has no ports: leave out sport and dport"),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn what_is_wrong_is_told_in_few_words_however_long_the_filter() {
    let just = format!("http.url={}", "x".repeat(FILTER_MAX - 9));
    for text in [
        "z".repeat(FILTER_MAX),
        "\u{1}".repeat(FILTER_MAX),
        format!("{}=1", "\"".repeat(8_000)),
        format!("src={}", "9".repeat(8_000)),
        format!("src=10.0.0.0/{}", "9".repeat(8_000)),
        format!("dport={}", "\u{e9}".repeat(4_000)),
        format!("tcp_flags={}", "syn".repeat(2_000)),
        format!("in_port={}", "9".repeat(8_000)),
        format!("{}.z=1", "z".repeat(8_000)),
        just,
    ] {
        let flows = text.parse::<Filter>().expect_err("no filter").to_string();
        let state = text.parse::<StateFilter>().expect_err("no filter").to_string();
        assert!(flows.len().max(state.len()) < 500, "{flows}\n{state}");
        assert!(!flows.contains("bytes are the most"), "{flows}");
    }
    let long = format!("src=10.0.0.1{}", " ".repeat(FILTER_MAX));
    let error = "the filter has 8204 bytes: 8192 are the most";
    assert_eq!(long.parse::<Filter>().expect_err("too long").to_string(), error);
    assert_eq!(long.parse::<StateFilter>().expect_err("too long").to_string(), error);
}

#[test]
fn selections_overlap_when_some_flow_may_be_in_both() {
    let buckets = |text: &str| Selection::Buckets(text.parse().unwrap());
    let filter = |text: &str| Selection::Filter(text.parse().unwrap());
    assert!(buckets("0-9").overlaps(&buckets("9")));
    assert!(!buckets("0-9").overlaps(&buckets("10")));
    assert!(filter("dport=53").overlaps(&buckets("7")));
    assert!(!filter("dport=53").overlaps(&buckets("none")));
    assert!(filter("dport=53").overlaps(&filter("src=::/0")));
    assert!(!filter("proto=tcp").overlaps(&filter("proto=udp")));
    let hosts = "src=10.0.0.0/8,proto=tcp,dport=80".parse().unwrap();
    assert!(filter("dst=10.1.0.0/16,proto=udp").meets_hosts_of(&hosts));
    assert!(!filter("dst=fe80::1").meets_hosts_of(&hosts));
}
