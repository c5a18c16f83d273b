//! `[[nf]]` of a NAT: its rules, its defaults, and what is wrong with it.

use std::time::Duration;

use super::{PORT, accept, refuse_one};
use crate::nf::FunctionConfig;
use crate::nf::nat::{Config, Rules, Service, SourceRule};

const NAT: &str = "[[nf]]\nkind = 'nat'\n";

fn nat(text: &str) -> Config {
    let config = accept(&format!("{NAT}{text}"));
    let [nf] = config.nfs() else { panic!("one function") };
    let FunctionConfig::Nat(config) = &nf.function else { panic!("a NAT") };
    config.clone()
}

#[test]
fn rules_are_read_in_order_with_ranges_of_addresses_and_ports() {
    let config = nat("established_timeout = '2h'\ntransitory_timeout = '5m'\n\
                      [[nf.source]]\nfrom = '10.0.0.0/8'\nto = '10.0.0.0/8'\npool = []\n\
                      [[nf.source]]\nfrom = '10.0.0.0/8'\nports = '20000-50000'\n\
                      pool = ['192.0.2.1', '192.0.2.8-192.0.2.10']\n\
                      [[nf.source]]\nfrom = 'fd00::/8'\npool = ['2001:db8::1-2001:db8::2']\n\
                      [[nf.service]]\naddress = '192.0.2.1'\nproto = 'udp'\nports = '53-54'\n\
                      backends = ['10.0.1.2:1053']\n");
    let source = |from: &str, to: Option<&str>, pool: &[&str], ports| SourceRule {
        from: from.parse().unwrap(),
        to: to.map(|to| to.parse().unwrap()),
        pool: pool.iter().map(|address| address.parse().unwrap()).collect(),
        ports,
    };
    let pool = ["192.0.2.1", "192.0.2.8", "192.0.2.9", "192.0.2.10"];
    let sources = vec![
        source("10.0.0.0/8", Some("10.0.0.0/8"), &[], 1..=65_535),
        source("10.0.0.0/8", None, &pool, 20_000..=50_000),
        source("fd00::/8", None, &["2001:db8::1", "2001:db8::2"], 1..=65_535),
    ];
    let service = Service {
        address: "192.0.2.1".parse().unwrap(),
        protocol: 17,
        ports: 53..=54,
        backends: vec!["10.0.1.2:1053".parse().unwrap()],
    };
    assert_eq!(config.rules, Rules::new(sources, vec![service]).unwrap());
    let tcp = config.tracking.timeouts.tcp;
    assert_eq!(tcp.established, Duration::from_secs(7_200));
    assert_eq!((tcp.syn_sent, tcp.time_wait), (Duration::from_secs(300), Duration::from_secs(300)));
    assert_eq!(nat(""), Config::default());
}

#[test]
fn what_is_wrong_with_a_nat_is_said_where_it_stands() {
    let source = |rest: &str| format!("{NAT}[[nf.source]]\nfrom = '10.0.0.0/8'\n{rest}\n");
    let service = |rest: &str| {
        let ends = "proto = 'tcp'\nports = 80\nbackends = ['10.0.1.2:80']\n";
        format!("{NAT}[[nf.service]]\naddress = '192.0.2.1'\n{}", rest.replace("ENDS", ends))
    };
    for (text, line, words) in [
        (source(""), 3, "missing key pool"),
        (source("pool = ['192.0.2.0/24']"), 5, "[\"192.0.2.1\", \"192.0.2.8-192.0.2.11\"]"),
        (source("pool = ['192.0.2.9-192.0.2.1']"), 5, "no range of at most 256 addresses"),
        (source("pool = ['192.0.0.1-192.1.0.1']"), 5, "no range of at most 256 addresses"),
        (source("pool = ['192.0.2.1', '192.0.2.1']"), 5, "192.0.2.1 is there twice"),
        (source("pool = ['224.0.0.1']"), 5, "224.0.0.1: a multicast address is no host"),
        (source("pool = ['2001:db8::1']"), 1, "of different families"),
        (source("pool = ['192.0.2.1']\nports = '1-100'"), 1, "at least 16384 of 1 to 65535"),
        (source("pool = ['192.0.2.1']\nports = '9-1'"), 6, "a port or a range"),
        (source("pool = ['192.0.2.1']\nport = 9"), 6, "did you mean `ports`?"),
        (
            service("proto = 'icmp'\nports = 80\nbackends = ['10.0.1.2:80']"),
            5,
            "\"tcp\" or \"udp\"",
        ),
        (service("proto = 'tcp'\nports = 80"), 3, "missing key backends"),
        (service("proto = 'tcp'\nports = 80\nbackends = []"), 1, "has no backend"),
        (service("proto = 'tcp'\nports = 80\nbackends = ['10.0.1.2']"), 7, "10.0.1.2:8080"),
        (service("ENDS[[nf.service]]\naddress = '192.0.2.1'\nENDS"), 1, "port 80 is there twice"),
        (format!("{NAT}source = 3\n"), 3, "write [[nf.source]], 64 times at most"),
        (format!("{NAT}rules = []\n"), 3, "key of the firewall"),
        (format!("{NAT}udp_timeout = '0s'\n"), 3, "from \"1s\""),
        (format!("{NAT}[[nf]]\nkind = 'ids'\n"), 1, "a NAT is the last [[nf]]"),
    ] {
        refuse_one(&text, line, &[words]);
    }
}

/// What is translated to it would be forwarded, and nobody gets it.
#[test]
fn a_backend_at_an_address_of_the_router_itself_is_refused() {
    let file = |service: &str, backends: &str| {
        let ends = format!("proto = 'tcp'\nports = 80\nbackends = [{backends}]\n");
        let port = format!("{PORT}addresses = ['10.0.1.1/24', 'fd00::1/64']\n");
        format!("{NAT}[[nf.service]]\naddress = '{service}'\n{ends}{port}")
    };
    // The service itself may be there.
    accept(&file("10.0.1.1", "'10.0.1.2:80', '10.0.1.3:80'"));
    for (service, backends, own) in [
        ("192.0.2.1", "'10.0.1.2:80', '10.0.1.1:8080'", "10.0.1.1:8080"),
        ("2001:db8::1", "'[fd00::1]:80'", "[fd00::1]:80"),
    ] {
        let title = format!("the backend {own} is at an address of the router itself");
        refuse_one(&file(service, backends), 1, &[&title, "this port has the address"]);
    }
}
