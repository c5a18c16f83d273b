//! Flows by hand: what they become, there and back.

use std::time::Duration;

use super::*;
use crate::nf::connection::Invalid;

const POOL: [Ipv4Addr; 3] = [EXTERNAL, Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)];

fn instance(sources: Vec<SourceRule>, services: Vec<Service>) -> Instance {
    Instance::new(config(sources, services), &random_hash(&mut weir_seed::rng()), 1)
}

fn masquerade() -> Instance {
    instance(vec![source_rule(&[EXTERNAL])], vec![])
}

fn usage(instance: &Instance) -> i128 {
    instance.nat.usages().map(|(_, usage)| usage.open.value()).sum()
}

#[test]
fn flows_of_every_protocol_go_out_by_the_external_address_and_answers_come_back() {
    for frame in [
        udp((INSIDE, 4000), (OUTSIDE, 53)),
        syn((INSIDE, 4000), (OUTSIDE, 80)),
        echo(INSIDE, OUTSIDE, true, 7),
    ] {
        let mut instance = masquerade();
        let key = meta_of(&frame).key;
        let sent = instance.sends(&frame).expect("it goes on");
        assert_eq!((sent.src(), sent.dst()), (IpAddr::V4(EXTERNAL), IpAddr::V4(OUTSIDE)));
        assert_eq!(sent.protocol(), key.protocol());
        assert_eq!(instance.sends(&answer(&sent)), Ok(key.reversed()));
        assert_eq!(instance.sends(&frame), Ok(sent), "again");
        let known = instance.table.only();
        assert_eq!((known.original(), known.translated()), (&key, &sent));
        assert_eq!((usage(&instance), instance.nat.totals().translated.value()), (1, 3));
    }
}

#[test]
fn what_nobody_asked_for_is_dropped_and_what_no_rule_is_about_passes() {
    let mut instance = masquerade();
    let inbound = instance.sends(&udp((OUTSIDE, 53), (EXTERNAL, 4000)));
    assert_eq!(inbound, Err(Reason::Unsolicited));
    let from = instance.sends(&udp((EXTERNAL, 53), (OUTSIDE, 4000)));
    assert_eq!(from, Err(Reason::Unsolicited), "nobody else has the address");
    let other = udp((OUTSIDE, 53), (Ipv4Addr::new(203, 0, 113, 9), 53));
    assert_eq!(instance.sends(&other), Ok(meta_of(&other).key));
    assert_eq!(instance.table.translations.len(), 0);
    let sent = instance.sends(&udp((INSIDE, 4000), (OUTSIDE, 53))).expect("it goes on");
    let stranger = (Ipv4Addr::new(198, 51, 100, 8), 53);
    let to_mapped = udp(stranger, (EXTERNAL, sent.src_port()));
    assert_eq!(instance.sends(&to_mapped), Err(Reason::Unsolicited), "another remote end");
    let past = udp((OUTSIDE, 53), (INSIDE, 4000));
    assert_eq!(instance.sends(&past), Err(Reason::Bypass));
    let totals = instance.nat.totals();
    assert_eq!(totals.dropped_for(Reason::Unsolicited), 3);
    assert_eq!((totals.dropped_for(Reason::Bypass), totals.passed.value()), (1, 1));
}

/// A flow that has begun outside is answered as it came, though a rule is about its answers.
#[test]
fn flows_that_begin_outside_are_known_and_not_translated() {
    let mut instance = masquerade();
    let came = syn((OUTSIDE, 4000), (INSIDE, 80));
    let key = meta_of(&came).key;
    assert_eq!(instance.sends(&came), Ok(key));
    assert_eq!(instance.sends(&answer(&key)), Ok(key.reversed()));
    assert_eq!(instance.nat.totals().passed.value(), 2);
    let middle = tcp((INSIDE, 81), (OUTSIDE, 4000), |step| step.ack(1));
    assert_eq!(instance.sends(&middle), Err(Reason::Invalid(Invalid::NoConnection)));
}

#[test]
fn flows_to_a_service_go_to_a_backend_and_both_keep_their_names() {
    let mut instance = instance(vec![source_rule(&[EXTERNAL])], vec![web()]);
    let mut chosen = [0; 2];
    for port in 1_000..1_200 {
        let asked = syn((OUTSIDE, port), (EXTERNAL, 85));
        let key = meta_of(&asked).key;
        let got = instance.sends(&asked).expect("it goes on");
        assert_eq!((got.src(), got.src_port()), (IpAddr::V4(OUTSIDE), port));
        let backend = if got.dst() == SERVER { 0 } else { 1 };
        assert_eq!(got.dst_port(), [8085, 9095][backend], "the port follows the first one");
        chosen[backend] += 1;
        assert_eq!(instance.sends(&answer(&got)), Ok(key.reversed()));
    }
    assert!(chosen.iter().all(|count| *count > 50), "{chosen:?}");
    assert_eq!(instance.sends(&syn((OUTSIDE, 1), (EXTERNAL, 90))), Err(Reason::Unsolicited));
}

#[test]
fn a_host_inside_reaches_a_service_by_its_external_address() {
    let mut instance = instance(vec![source_rule(&[EXTERNAL])], vec![web()]);
    let asked = syn((INSIDE, 4000), (EXTERNAL, 80));
    let got = instance.sends(&asked).expect("it goes on");
    assert_eq!(got.src(), IpAddr::V4(EXTERNAL), "so that answers come back this way");
    assert_eq!(got.dst_port() % 10, 0);
    assert_eq!(instance.sends(&answer(&got)), Ok(meta_of(&asked).key.reversed()));
}

#[test]
fn a_host_keeps_its_external_address_and_mostly_its_port_for_every_remote_end() {
    let mut instance = instance(vec![source_rule(&POOL)], vec![]);
    let mut rng = weir_seed::rng();
    let mut addresses = std::collections::HashSet::new();
    for host in 1..=50 {
        let inside = Ipv4Addr::new(10, 0, 0, host);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..20 {
            let remote = (Ipv4Addr::from_bits(rng.u32(0xc633_0000..0xc634_0000)), rng.u16(1..));
            let sent = instance.sends(&udp((inside, 4000), remote)).expect("it goes on");
            seen.insert((sent.src(), sent.src_port()));
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        addresses.extend(seen.iter().map(|(address, _)| *address));
    }
    assert_eq!(addresses.len(), POOL.len());
}

#[test]
fn well_known_ports_become_such_where_one_is_free_and_others_never_do() {
    let mut instance = masquerade();
    let mut rng = weir_seed::rng();
    let mut low = 0;
    for _ in 0..2_000 {
        let inside = Ipv4Addr::from_bits(0x0a00_0000 | rng.u32(..1 << 24));
        let remote = (OUTSIDE, rng.u16(1..));
        let sent = instance.sends(&udp((inside, rng.u16(1_024..)), remote)).expect("it goes on");
        assert!(sent.src_port() >= 1_024);
        let sent = instance.sends(&udp((inside, rng.u16(1..1_024)), remote)).expect("it goes on");
        assert_ne!(sent.src_port(), 0);
        low += usize::from(sent.src_port() < 1_024);
    }
    // One of a bucket's 16 ports is below 1,024 in one case of four.
    assert!((300..700).contains(&low), "{low} of 2000");
}

/// Each flow would get a port that is none to give, were it not for the second choice.
#[test]
fn neither_port_0_nor_one_of_a_service_is_given_out() {
    let mut instance = instance(vec![source_rule(&[EXTERNAL])], vec![web()]);
    for last in 0..=u8::MAX {
        let host = Ipv4Addr::new(10, 0, 200, last);
        let by = rules::word(&host.into()) ^ rules::word(&EXTERNAL.into());
        // Every host has a remote end of its own, so that no port is taken.
        let remote = (OUTSIDE, 1_000 + u16::from(last));
        for wanted in [0, 80, 85, 89, 90] {
            let port = wanted ^ by;
            assert!(port < 1_024, "well known, as that which it would become");
            let sent = instance.sends(&syn((host, port), remote)).expect("it goes on");
            assert_eq!(sent.src_port() == wanted, wanted == 90, "{wanted}");
        }
    }
}

/// Steering takes a host for its one external address where no port can be chosen.
#[test]
fn a_host_without_ports_never_gets_another_external_address() {
    let mut instance = instance(vec![source_rule(&POOL)], vec![]);
    let mut went = 0;
    for last in 1..=30 {
        let host = Ipv4Addr::new(10, 0, 0, last);
        let paired = instance.sends(&udp((host, 4000), (OUTSIDE, 53))).expect("it goes on");
        if paired.src() != IpAddr::V4(EXTERNAL) {
            continue;
        }
        let mut frame = udp((host, 1), (OUTSIDE, 2));
        frame[23] = 47;
        samples::mend_ipv4(&mut frame);
        went += usize::from(instance.sends(&frame).is_ok());
    }
    assert_eq!(went, 1, "the other two addresses are free");
}

#[test]
fn hosts_that_ask_one_host_with_one_identifier_are_told_apart() {
    let mut instance = masquerade();
    for host in 1..=12 {
        let inside = Ipv4Addr::new(10, 0, 0, host);
        let sent = instance.sends(&echo(inside, OUTSIDE, true, 1)).expect("it goes on");
        let back = instance.sends(&answer(&sent)).expect("it comes back");
        assert_eq!((back.dst(), back.dst_port()), (IpAddr::V4(inside), 1));
    }
    let unasked = instance.sends(&echo(OUTSIDE, EXTERNAL, true, 9));
    assert_eq!(unasked, Err(Reason::Unsolicited));
}

#[test]
fn protocols_without_ports_have_one_flow_and_those_that_are_not_known_none() {
    let raw = |src: Ipv4Addr, number: u8| {
        let mut frame = udp((src, 1), (OUTSIDE, 2));
        frame[23] = number;
        samples::mend_ipv4(&mut frame);
        frame
    };
    let mut instance = masquerade();
    for (host, expected) in [(1, Ok(())), (2, Err(Reason::Exhausted)), (1, Ok(()))] {
        let sent = instance.sends(&raw(Ipv4Addr::new(10, 0, 0, host), 47));
        assert_eq!(sent.map(drop), expected, "host {host}");
    }
    assert_eq!(instance.sends(&raw(INSIDE, 33)), Err(Reason::Protocol));
    let exhausted: u64 = instance.nat.usages().map(|(_, usage)| usage.exhausted.value()).sum();
    assert_eq!(exhausted, 1);
}

#[test]
fn a_checksum_that_udp_does_not_have_is_not_made_up() {
    let mut instance = masquerade();
    let mut frame = udp((INSIDE, 4000), (OUTSIDE, 53));
    frame[40..42].fill(0);
    assert_eq!(instance.translate(&mut frame, NOW), Verdict::Translate);
    assert_eq!(frame[40..42], [0, 0]);
}

/// One of these payloads makes the sum 0, which stands for no checksum.
#[test]
fn a_checksum_of_udp_that_is_0_is_sent_as_its_complement() {
    let mut instance = masquerade();
    let mut complements = 0;
    for payload in 0..=u16::MAX {
        let mut frame =
            samples::udp4(INSIDE, OUTSIDE, (4000, 53), payload.to_be_bytes().as_slice());
        assert_eq!(instance.translate(&mut frame, NOW), Verdict::Translate);
        assert_ne!(frame[40..42], [0, 0]);
        complements += usize::from(frame[40..42] == [0xff, 0xff]);
    }
    assert_eq!(complements, 1);
}

#[test]
fn a_translation_ends_with_its_connection_and_its_port_is_free_again() {
    let mut instance = masquerade();
    let mut frame = udp((INSIDE, 4000), (OUTSIDE, 53));
    let sent = instance.sends(&frame).expect("it goes on");
    let later = NOW + Duration::from_secs(301);
    let mut back = answer(&sent);
    assert_eq!(instance.translate(&mut back, later), Verdict::Drop(Reason::Unsolicited));
    assert_eq!((usage(&instance), instance.table.translations.len()), (0, 0));
    instance.translate(&mut frame, later);
    assert_eq!(meta_of(&frame).key, sent);
    let totals = instance.nat.totals();
    assert_eq!((totals.begun.value(), totals.ended.value()), (2, 1));
}

#[test]
fn a_connection_that_begins_anew_keeps_its_translation_and_nobody_else_may_begin_it() {
    let mut instance = masquerade();
    let begin = syn((INSIDE, 4000), (OUTSIDE, 80));
    let sent = instance.sends(&begin).expect("it goes on");
    let reset = tcp((OUTSIDE, 80), (EXTERNAL, sent.src_port()), |step| step.rst().ack(2));
    instance.sends(&reset).expect("it comes back");
    let from_outside = syn((OUTSIDE, 80), (EXTERNAL, sent.src_port()));
    assert!(instance.sends(&from_outside).is_err());
    assert_eq!(instance.sends(&begin), Ok(sent));
    assert_eq!(usage(&instance), 1);
    let totals = instance.nat.totals();
    assert_eq!((totals.begun.value(), totals.ended.value()), (2, 1), "another connection");
}

/// It is steered as a flow to the service, and would be told from that by nobody.
#[test]
fn a_flow_to_a_service_whose_place_is_taken_is_counted_at_the_service() {
    let to_server = |port: &u16| {
        let asked = syn((OUTSIDE, *port), (EXTERNAL, 80));
        let got = instance(vec![], vec![web()]).sends(&asked).expect("it goes on");
        got.dst() == SERVER
    };
    let mut instance = instance(vec![], vec![web()]);
    let port = (1_000..).find(to_server).expect("one of two");
    instance.sends(&syn((OUTSIDE, port), (SERVER, 8080))).expect("straight to the server");
    let asked = syn((OUTSIDE, port), (EXTERNAL, 80));
    assert_eq!(instance.sends(&asked), Err(Reason::Exhausted));
    let usages: Vec<_> = instance.nat.usages().collect();
    let [(address, usage)] = usages[..] else { panic!("{usages:?}") };
    assert_eq!((*address, usage.exhausted.value()), (IpAddr::V4(EXTERNAL), 1));
    let counters = instance.nat.counters();
    assert!(counters.contains(&("exhausted.192.0.2.1".to_owned(), 1)), "{counters:?}");
    // Others take the count in.
    let chunk = southbound::all_of(&instance.nat).1.swap_remove(0);
    let mut other = self::instance(vec![], vec![web()]);
    other.nat.put_multi_flow(&chunk).expect("a service has the address");
}

#[test]
fn rules_are_tried_in_order_and_one_without_addresses_keeps_the_source() {
    let mut kept = source_rule(&[]);
    kept.to = Some("10.0.0.0/8".parse().expect("a prefix"));
    let mut instance = instance(vec![kept, source_rule(&[EXTERNAL])], vec![]);
    let within = udp((INSIDE, 1), (SERVER, 2));
    assert_eq!(instance.sends(&within), Ok(meta_of(&within).key));
    let out = instance.sends(&udp((INSIDE, 1), (OUTSIDE, 2))).expect("it goes on");
    assert_eq!(out.src(), IpAddr::V4(EXTERNAL));
}
