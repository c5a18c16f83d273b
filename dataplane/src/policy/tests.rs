//! The list against a naive model of what it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir_state_transfer::ServiceId;

use super::*;

/// A policy as the model has it: written out, nothing shared with the code.
#[derive(Clone, Debug)]
struct Written {
    src: Option<IpNet>,
    dst: Option<IpNet>,
    proto: Option<u8>,
    dport: Option<(u16, u16)>,
    both_ways: bool,
    from: Option<u8>,
    via_v4: Option<bool>,
}

/// A packet as the model has it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    proto: u8,
    came_by: u8,
}

impl Written {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let is_v4 = rng.bool();
        let net = |rng: &mut fastrand::Rng| {
            let net = match is_v4 {
                true => IpNet::new(address(rng, true), rng.u8(6..=32)),
                false => IpNet::new(address(rng, false), rng.u8(13..=128)),
            };
            net.unwrap().trunc()
        };
        let src = rng.bool().then(|| net(rng));
        let dst = rng.bool().then(|| net(rng));
        let proto = rng.bool().then(|| [6, 17][rng.usize(..2)]);
        let dport = (rng.u8(..3) == 0).then(|| (rng.u16(..2), rng.u16(2..4)));
        let via_v4 = rng.bool().then_some(match (src, dst) {
            (None, None) => rng.bool(),
            _ => is_v4,
        });
        let from = (rng.u8(..3) == 0).then(|| rng.u8(..3));
        Self { src, dst, proto, dport, both_ways: rng.bool(), from, via_v4 }
    }

    fn text(&self) -> String {
        let mut fields = Vec::new();
        fields.extend(self.src.map(|net| format!("src={net}")));
        fields.extend(self.dst.map(|net| format!("dst={net}")));
        fields.extend(self.proto.map(|proto| format!("proto={proto}")));
        fields.extend(self.dport.map(|(first, last)| format!("dport={first}-{last}")));
        if fields.is_empty() { "any".to_owned() } else { fields.join(",") }
    }

    fn policy(&self, n: u64) -> Policy {
        let filter: Filter = self.text().parse().unwrap();
        let via = self.via_v4.map(|is_v4| match is_v4 {
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
        Policy {
            id: PolicyId(n),
            name: format!("p{n}").into(),
            matches: PolicyMatch {
                filter: Filter { symmetric: self.both_ways, ..filter },
                from: self.from.map(PortId),
            },
            hop: NextHop { port: PortId(0), via },
            holds: false,
            counters: Arc::new(PolicyCounters::new(1)),
        }
    }

    fn takes(&self, seen: &Seen) -> bool {
        let within = |net: Option<IpNet>, address| net.is_none_or(|net| net.contains(&address));
        let one_way = |src: (IpAddr, u16), dst: (IpAddr, u16)| {
            within(self.src, src.0)
                && within(self.dst, dst.0)
                && self.dport.is_none_or(|(first, last)| first <= dst.1 && dst.1 <= last)
        };
        self.proto.is_none_or(|proto| proto == seen.proto)
            && self.from.is_none_or(|from| from == seen.came_by)
            && self.via_v4.is_none_or(|is_v4| is_v4 == seen.src.0.is_ipv4())
            && (one_way(seen.src, seen.dst) || (self.both_ways && one_way(seen.dst, seen.src)))
    }
}

/// Few addresses, so that they meet.
fn address(rng: &mut fastrand::Rng, is_v4: bool) -> IpAddr {
    let last = rng.u8(..4);
    match is_v4 {
        true => Ipv4Addr::new(10 + rng.u8(..2), 0, rng.u8(..2) << 7, last).into(),
        false => Ipv6Addr::new(0xfd00 + rng.u16(..2), 0, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

fn draw_packet(rng: &mut fastrand::Rng) -> Seen {
    let is_v4 = rng.bool();
    let mut end = || (address(rng, is_v4), rng.u16(..4));
    let (src, dst) = (end(), end());
    Seen { src, dst, proto: [6, 17][rng.usize(..2)], came_by: rng.u8(..3) }
}

#[test]
fn the_first_policy_that_a_packet_matches_decides_as_a_naive_model_says() {
    let mut rng = weir_seed::rng();
    let (mut found, mut shadowed) = (0, 0);
    for _ in 0..300 {
        let count = rng.u64(..=POLICIES_MAX as u64);
        let written: Vec<_> = (0..count).map(|_| Written::draw(&mut rng)).collect();
        let list = written.iter().zip(0..).map(|(written, n)| written.policy(n)).collect();
        let policies = Policies::default().next(list);
        for _ in 0..200 {
            let seen = draw_packet(&mut rng);
            let ports = (seen.src.1, seen.dst.1);
            let (src, dst) = (seen.src.0, seen.dst.0);
            let key = FlowKey::new(src, dst, ports, seen.proto, ServiceId(0)).unwrap();
            let expected = written.iter().position(|written| written.takes(&seen));
            let decides = policies.find(&key, PortId(seen.came_by));
            let place = decides.map(|(place, _)| usize::from(place));
            assert_eq!(place, expected, "{seen:?} among {written:?}");
            assert_eq!(decides.map(|(_, policy)| policy.id.0), expected.map(|n| n as u64));
            found += usize::from(expected.is_some());
            let takers = written.iter().filter(|written| written.takes(&seen)).count();
            shadowed += usize::from(takers > 1);
        }
    }
    assert!(found > 10_000 && shadowed > 5_000, "{found} found, {shadowed} by several");
}

#[test]
fn a_decision_holds_for_a_port_only_where_a_policy_asks_for_it() {
    let of = |from| Written {
        src: None,
        dst: None,
        proto: None,
        dport: None,
        both_ways: false,
        from,
        via_v4: None,
    };
    let none = Policies::default();
    assert_eq!(none.basis(PortId(1)), none.basis(PortId(2)));
    let any = none.next(vec![of(None).policy(1)]);
    assert_eq!(any.basis(PortId(1)), any.basis(PortId(2)));
    assert_ne!(any.basis(PortId(1)), none.basis(PortId(1)), "the list is another");
    let by_port = any.next(vec![of(Some(1)).policy(1)]);
    assert_ne!(by_port.basis(PortId(1)), by_port.basis(PortId(2)));
}
