//! Random flows against a model that searches: it tries every port there is with the plain hash,
//! and remembers what was given out.

use std::collections::HashSet;

use super::*;

/// What a NAT could translate a flow to, in the order of its addresses.
struct Model {
    rules: Rules,
    hash: SteeringHash,
    /// Flows behind their translation, as the remote end sees them.
    taken: HashSet<FlowKey>,
}

impl Model {
    /// The flows that it could be now, at each address in turn that is tried.
    fn candidates(&self, flow: &FlowKey, pool: &[Ipv4Addr]) -> Vec<Vec<FlowKey>> {
        let home = bucket(&self.rules, &self.hash, flow);
        let first = usize::from(rules::word(&flow.src())) % pool.len();
        let order = (0..pool.len()).map(|n| pool[(first + n) % pool.len()]);
        let tried = if has_ports(flow.protocol()) { allocate::ADDRESSES_TRIED } else { 1 };
        let at = |external: Ipv4Addr| -> Vec<FlowKey> {
            let ports = if flow.protocol() == 47 { 0..=0 } else { 0..=u16::MAX };
            let key = |port: u16| {
                let [_, dst] = rules::ends(flow);
                let dst = if flow.protocol() == protocol::ICMP { (dst.0, port) } else { dst };
                rules::between(flow, (external.into(), port), dst)
            };
            let is_fit = |key: &FlowKey| {
                let ports = has_ports(flow.protocol());
                let service = (external.into(), key.src_port());
                let fits = bucket(&self.rules, &self.hash, key) == home
                    && !self.taken.contains(key)
                    && self.rules.service(flow.protocol(), service).is_none();
                fits && (!ports || key.src_port() != 0)
                    && (!ports || flow.src_port() < 1_024 || key.src_port() >= 1_024)
            };
            ports.map(key).filter(is_fit).collect()
        };
        order.take(tried).map(at).collect()
    }

    /// Checks what a NAT has made of a flow, and remembers it.
    fn check(&mut self, flow: &FlowKey, pool: &[Ipv4Addr], found: Result<FlowKey, Reason>) {
        let candidates = self.candidates(flow, pool);
        let is_echo = flow.protocol() == protocol::ICMP;
        let Some(at_first) = candidates.iter().find(|at| !at.is_empty()) else {
            return assert_eq!(found, Err(Reason::Exhausted), "{flow}");
        };
        match found {
            Ok(key) => {
                assert!(at_first.contains(&key), "{flow} became {key}");
                let low = |key: &FlowKey| key.src_port() < 1_024;
                let could = at_first.iter().any(low);
                assert!(is_echo || !low(flow) || !could || low(&key), "{flow} became {key}");
                self.taken.insert(key);
            }
            // Of all identifiers, no more are tried than of ports.
            Err(reason) => assert!(is_echo && reason == Reason::Exhausted, "{flow}: {reason:?}"),
        }
    }
}

/// Hosts and remote ends are so few that many flows want the same.
fn random_flow(rng: &mut Rng) -> Vec<u8> {
    let src = Ipv4Addr::new(10, rng.u8(..), rng.u8(..), rng.u8(..));
    let dst = Ipv4Addr::new(198, 51, 100, rng.u8(..2));
    let port = if rng.u8(..8) == 0 { rng.u16(1..1_024) } else { rng.u16(..) };
    match rng.u8(..8) {
        0..3 => udp((src, port), (dst, 53)),
        3..6 => syn((src, port), (dst, 80)),
        6 => echo(src, dst, true, rng.u16(..4)),
        _ => {
            let mut frame =
                udp((src, 1), (Ipv4Addr::from_bits(rng.u32(0xc633_6400..0xc633_6440)), 2));
            frame[23] = 47;
            samples::mend_ipv4(&mut frame);
            frame
        }
    }
}

#[test]
fn what_is_chosen_is_what_a_search_of_all_ports_would_allow() {
    let mut rng = weir_seed::rng();
    let pool = [EXTERNAL, Ipv4Addr::new(192, 0, 2, 9)];
    for round in 0..4 {
        let hash = random_hash(&mut rng);
        let pool = &pool[..1 + round % 2];
        let config = config(vec![source_rule(pool)], vec![web()]);
        let mut instance = Instance::new(config.clone(), &hash, 1);
        let mut model = Model { rules: config.rules, hash, taken: HashSet::new() };
        for _ in 0..60 {
            let frame = random_flow(&mut rng);
            let flow = meta_of(&frame).key;
            if !instance.table.knows(&flow.both_ways()) {
                model.check(&flow, pool, instance.sends(&frame));
            }
        }
    }
}

/// One bucket, until nothing is left: 16 ports of each address, less those that are no port or
/// are well known.
#[test]
fn a_bucket_has_all_of_its_ports_and_no_more() {
    let mut rng = weir_seed::rng();
    for addresses in [1, 2, 8, 9] {
        let hash = random_hash(&mut rng);
        let pool: Vec<_> = (1..=addresses).map(|n| Ipv4Addr::new(192, 0, 2, n)).collect();
        let config = config(vec![source_rule(&pool)], vec![]);
        let rules = config.rules.clone();
        let mut instance = Instance::new(config.clone(), &hash, 1);
        let mut model = Model { rules: config.rules, hash: hash.clone(), taken: HashSet::new() };
        let home = rng.usize(..weir_state_transfer::BUCKETS);
        let (mut got, mut refused) = (0, 0);
        for (host, port) in (1..=40).flat_map(|host| (1_024..=u16::MAX).map(move |p| (host, p))) {
            let frame = udp((Ipv4Addr::new(10, 3, 2, host), port), (OUTSIDE, 53));
            let flow = flow(protocol::UDP, (Ipv4Addr::new(10, 3, 2, host), port), (OUTSIDE, 53));
            if bucket(&rules, &hash, &flow).index() != home {
                continue;
            }
            match instance.sends(&frame) {
                Ok(key) if got % 32 == 0 => model.check(&flow, &pool, Ok(key)),
                Ok(key) => assert!(model.taken.insert(key)),
                Err(reason) if refused < 3 => model.check(&flow, &pool, Err(reason)),
                Err(reason) => assert_eq!(reason, Reason::Exhausted),
            }
            let found = instance.table.knows(&flow.both_ways());
            (got, refused) = (got + usize::from(found), refused + usize::from(!found));
        }
        eprintln!("{addresses} addresses: {got} flows of one bucket to one remote end");
        assert!(refused > 3 && got >= usize::from(addresses) * 14, "{got}, {refused} refused");
    }
}

/// How full an external address gets for one remote end before a flow finds no port.
#[test]
fn many_flows_to_one_remote_end_find_a_port() {
    let mut rng = weir_seed::rng();
    let hash = random_hash(&mut rng);
    let mut instance = Instance::new(config(vec![source_rule(&[EXTERNAL])], vec![]), &hash, 1);
    let (mut first, mut refused) = (None, 0);
    for n in 1..=32_000 {
        let src = (Ipv4Addr::from_bits(0x0a00_0000 | rng.u32(..1 << 24)), rng.u16(1_024..));
        if instance.sends(&udp(src, (OUTSIDE, 443))).is_err() {
            first = first.or(Some(n));
            refused += 1;
        }
    }
    eprintln!("the first refused is {first:?}, of 32000 to one remote end {refused} are");
    assert!(first.is_none_or(|first| first > 8_000), "{first:?}");
    assert!(refused < 400, "{refused}");
}
