//! ICMP errors about translated packets, and fragments.

use std::net::Ipv6Addr;

use super::*;
use crate::nf::connection::Invalid;

const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const INSIDE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 2);
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7);
const EXTERNAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 1);

fn instance() -> Instance {
    let six = SourceRule {
        from: "fd00::/8".parse().expect("a prefix"),
        to: None,
        pool: vec![EXTERNAL6.into()],
        ports: 1..=u16::MAX,
    };
    let sources = vec![source_rule(&[EXTERNAL]), six];
    Instance::new(config(sources, vec![web()]), &random_hash(&mut weir_seed::rng()), 1)
}

/// A flow: its first packet and the answer, each as its sender sends it and as it arrives.
struct Exchange {
    asked: [Vec<u8>; 2],
    answered: [Vec<u8>; 2],
}

impl Exchange {
    fn of(instance: &mut Instance, asked: Vec<u8>) -> Self {
        let mut arrives = asked.clone();
        assert_eq!(instance.translate(&mut arrives, NOW), Verdict::Translate);
        let answer = answer(&meta_of(&arrives).key);
        let mut returns = answer.clone();
        assert_eq!(instance.translate(&mut returns, NOW), Verdict::Translate);
        Self { asked: [asked, arrives], answered: [answer, returns] }
    }
}

/// An error about a packet as it has arrived, from a router on the way, is about the packet as it
/// was sent when its sender gets it. Byte by byte: translating there and back changes nothing.
#[test]
fn a_quoted_packet_is_translated_back_however_little_is_quoted() {
    for asked in [
        udp((INSIDE, 4000), (OUTSIDE, 53)),
        syn((INSIDE, 4000), (OUTSIDE, 80)),
        echo(INSIDE, OUTSIDE, true, 7),
        syn((OUTSIDE, 4000), (EXTERNAL, 80)),
        syn((INSIDE, 4000), (EXTERNAL, 80)),
    ] {
        let mut instance = instance();
        let Exchange { asked, answered } = Exchange::of(&mut instance, asked);
        for [sent, arrived] in [&asked, &answered] {
            for length in [28, 30, 40, arrived.len() - 14] {
                let quoted = &arrived[14..arrived.len().min(14 + length)];
                for (router, kind) in [(ROUTER, 3), (ROUTER_INSIDE, 11), (dst(arrived), 3)] {
                    let mut error = samples::icmp4(router, src(arrived), kind, quoted);
                    let verdict = instance.translate(&mut error, NOW);
                    assert_eq!(verdict, Verdict::Translate, "{:?}", meta_of(arrived).key);
                    assert_eq!(error[42..42 + quoted.len()], sent[14..14 + quoted.len()]);
                    assert_eq!(dst(&error), src(sent));
                    // The sender knows the receiver by the name that it has sent to, and gets
                    // errors from there where that is another.
                    let is_same = dst(sent) == dst(arrived);
                    assert_eq!(src(&error), if is_same { router } else { dst(sent) });
                    assert_eq!(error[34], kind);
                }
            }
        }
    }
}

#[test]
fn an_error_about_what_was_not_sent_is_dropped() {
    let mut instance = instance();
    let Exchange { asked: [_, arrived], .. } =
        Exchange::of(&mut instance, echo(INSIDE, OUTSIDE, true, 7));
    let mut other = arrived.clone();
    other[38] ^= 1;
    let error = samples::icmp4(ROUTER, EXTERNAL, 11, &other[14..]);
    let unsolicited = Err(Reason::Unsolicited);
    assert_eq!(instance.sends(&error), unsolicited, "another identifier");
    let other = udp((EXTERNAL, 1), (OUTSIDE, 53));
    let error = samples::icmp4(ROUTER, EXTERNAL, 11, &other[14..]);
    assert_eq!(instance.sends(&error), unsolicited, "another flow");
    let error = samples::icmp4(ROUTER, INSIDE, 11, &arrived[14..]);
    let unrelated = Err(Reason::Invalid(Invalid::UnrelatedError));
    assert_eq!(instance.sends(&error), unrelated, "to somebody else");
}

#[test]
fn ipv6_is_translated_by_the_same_rules_and_so_are_errors_about_it() {
    let mut instance = instance();
    let asked = samples::udp6(INSIDE6, OUTSIDE6, (4000, 53), b"payload");
    let mut arrived = asked.clone();
    assert_eq!(instance.translate(&mut arrived, NOW), Verdict::Translate);
    let key = meta_of(&arrived).key;
    assert_eq!((key.src(), key.dst()), (EXTERNAL6.into(), OUTSIDE6.into()));
    let answer = samples::udp6(OUTSIDE6, EXTERNAL6, (53, key.src_port()), b"answer");
    assert_eq!(instance.sends(&answer), Ok(meta_of(&asked).key.reversed()));
    let mut error = samples::icmp6(ROUTER6, EXTERNAL6, 3, &arrived[14..]);
    assert_eq!(instance.translate(&mut error, NOW), Verdict::Translate);
    assert_eq!(error[62..], asked[14..]);
    let addresses = meta_of(&error).addresses(&error);
    assert_eq!(addresses, Some((ROUTER6.into(), INSIDE6.into())));
    let ping = samples::icmp6(INSIDE6, OUTSIDE6, 128, b"ping");
    let sent = instance.sends(&ping).expect("it goes on");
    assert_eq!((sent.src(), sent.protocol()), (EXTERNAL6.into(), protocol::ICMPV6));
}

/// Later fragments have no ports, and the first goes the way of the later ones.
#[test]
fn fragments_of_flows_that_a_rule_is_about_are_dropped_and_others_pass() {
    let mut instance = instance();
    let fragment = |whole: &[u8], offset: u8, more: bool| {
        let mut frame = whole.to_vec();
        (frame[20], frame[21]) = (u8::from(more) << 5, offset);
        samples::mend_ipv4(&mut frame);
        frame
    };
    let whole = udp((INSIDE, 4000), (OUTSIDE, 53));
    instance.sends(&whole).expect("it goes on");
    let other = udp((OUTSIDE, 4000), (Ipv4Addr::new(203, 0, 113, 9), 53));
    let dropped = Err(Reason::Invalid(Invalid::Fragment));
    for (offset, more) in [(0, true), (4, false)] {
        assert_eq!(instance.sends(&fragment(&whole, offset, more)), dropped);
        instance.sends(&fragment(&other, offset, more)).expect("no rule is about it");
    }
    assert_eq!(instance.table.translations.len(), 1);
}

/// Where no source rule hides it, a backend would be seen by its own address.
#[test]
fn what_has_no_ports_is_of_a_service_where_one_is_at_its_address() {
    let rules = config(vec![], vec![web()]);
    let claims = |frame: &[u8]| rules.rules.claims(frame, &meta_of(frame));
    let (to, from) = (syn((OUTSIDE, 4000), (EXTERNAL, 80)), syn((SERVER, 8080), (OUTSIDE, 4000)));
    let mut instance = Instance::new(rules.clone(), &random_hash(&mut weir_seed::rng()), 1);
    for whole in [&to, &from] {
        for (offset, more) in [(0, true), (4, false)] {
            let mut frame = whole.clone();
            (frame[20], frame[21]) = (u8::from(more) << 5, offset);
            samples::mend_ipv4(&mut frame);
            let dropped = Err(Reason::Invalid(Invalid::Fragment));
            assert_eq!(instance.sends(&frame), dropped, "{:?}", meta_of(&frame).key);
            assert_eq!(claims(&frame), *whole == to);
        }
        let mut frame = whole.clone();
        frame.truncate(14 + 20 + 4);
        frame[17] = 24;
        samples::mend_ipv4(&mut frame);
        assert_eq!(instance.sends(&frame), Err(Reason::Invalid(Invalid::BadHeader)));
        assert_eq!(claims(&frame), *whole == to);
    }
    // Of other protocols there is no service.
    let other = udp((SERVER, 4000), (OUTSIDE, 53));
    let mut frame = other.clone();
    (frame[20], frame[21]) = (1 << 5, 0);
    samples::mend_ipv4(&mut frame);
    instance.sends(&frame).expect("no rule is about it");
}

fn src(frame: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from([frame[26], frame[27], frame[28], frame[29]])
}

fn dst(frame: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from([frame[30], frame[31], frame[32], frame[33]])
}
