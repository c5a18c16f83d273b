//! Steering tables against a map from every flow of a small universe to its owner.

use std::collections::BTreeMap;

use weir_state_transfer::filter::{Endpoint, PortRange};
use weir_state_transfer::{Prefix, ServiceId, protocol};

use super::*;

const PORTS: [u16; 3] = [1, 2, 53];
const A: InstanceId = InstanceId(0);
const B: InstanceId = InstanceId(1);
const C: InstanceId = InstanceId(2);

#[test]
fn random_moves_do_what_they_do_to_a_map_of_flows() {
    let mut rng = weir_seed::rng();
    let universe = universe();
    let (mut moves, mut refusals) = (0, BTreeMap::new());
    // Until each bound was met: one of them is not in most worlds.
    for world in 0.. {
        if world >= 60 && (refusals.len() == 3 || world == 1_000) {
            break;
        }
        let mut steering = table(&mut rng, 4);
        let mut model: BTreeMap<FlowKey, InstanceId> =
            universe.iter().map(|key| (*key, A)).collect();
        let recent: Vec<_> = (0..6).map(|_| random_selection(&mut rng, &universe)).collect();
        for _ in 0..80 {
            let selection = match rng.u8(..3) {
                0 => recent[rng.usize(..recent.len())].clone(),
                _ => random_selection(&mut rng, &universe),
            };
            let (from, to) = (InstanceId(rng.u8(..4)), InstanceId(rng.u8(..4)));
            match steering.moved(&selection, from, to) {
                Ok(next) => {
                    steering = next;
                    move_in_model(&mut model, steering.hash(), (&selection, from, to));
                    moves += 1;
                }
                Err(error) => *refusals.entry(error.to_string()).or_insert(0) += 1,
            }
            for (key, owner) in &model {
                assert_eq!(steering.owner_of(key), *owner, "{key} after {selection}: {from}>{to}");
            }
            let owners = [A, B, C, InstanceId(3)].map(|instance| steering.mentions(instance));
            assert!(model.values().all(|owner| owners[usize::from(owner.0)]));
        }
    }
    println!("{moves} moves; refused: {refusals:?}");
    assert!(moves > 2_000 && refusals.len() == 3, "bounds of rules, filters and flows");
}

#[test]
fn a_move_there_and_back_leaves_the_table_as_it_was() {
    let mut rng = weir_seed::rng();
    let universe = universe();
    let spare = InstanceId(9);
    let mut among_rules = 0;
    for _ in 0..300 {
        let mut steering = table(&mut rng, FLOWS_MAX_DEFAULT);
        for _ in 0..rng.u8(..8) {
            let (from, to) = (InstanceId(rng.u8(..2)), InstanceId(rng.u8(..3)));
            let selection = random_selection(&mut rng, &universe);
            steering = steering.moved(&selection, from, to).unwrap_or(steering);
        }
        // Nothing belongs to the spare instance, so that the way back moves what the way there did.
        let selection = random_selection(&mut rng, &universe);
        let Ok(there) = steering.moved(&selection, A, spare) else { continue };
        let back = there.moved(&selection, spare, A).unwrap();
        assert_eq!(back.base, steering.base);
        assert_eq!(back.flows, steering.flows, "{selection}");
        assert_eq!(back.rules, steering.rules, "{selection}");
        assert!(!back.mentions(spare));
        among_rules += u32::from(there.rules().len() > steering.rules().len());
    }
    println!("{among_rules} moves added rules");
    assert!(among_rules > 30);
}

#[test]
fn scaling_out_and_in_again_leaves_no_rules_behind() {
    let mut rng = weir_seed::rng();
    let mut steering = table(&mut rng, FLOWS_MAX_DEFAULT);
    steering = steering.moved(&filter("dport=53"), A, B).unwrap();
    steering = steering.moved(&filter("src=10.0.0.0/8,symmetric=false"), A, C).unwrap();
    for start in (0..4096).step_by(64) {
        let piece = Selection::Buckets(format!("{start}-{}", start + 63).parse().unwrap());
        steering = steering.moved(&piece, A, [B, C][start / 64 % 2]).unwrap();
        steering = steering.moved(&piece, B, C).unwrap();
        assert!(steering.rules().len() <= 8, "{:?}", steering.rules());
    }
    let all = Selection::Buckets(BucketSet::all());
    steering = steering.moved(&all, B, A).unwrap().moved(&all, C, A).unwrap();
    assert_eq!(steering.rules(), []);
    assert_eq!(steering.owned_buckets(A), BucketSet::all());
    assert!(!steering.mentions(B) && !steering.mentions(C));
}

#[test]
fn both_directions_of_a_flow_follow_a_symmetric_filter() {
    let steering = table(&mut fastrand::Rng::with_seed(1), 10);
    let moved = steering.moved(&filter("src=10.0.0.0/31,dport=53"), A, B).unwrap();
    let one_way = steering.moved(&filter("dport=53,symmetric=false"), A, B).unwrap();
    let mut split = 0;
    for key in universe() {
        assert_eq!(moved.owner_of(&key), moved.owner_of(&key.reversed()));
        split += u32::from(one_way.owner_of(&key) != one_way.owner_of(&key.reversed()));
    }
    assert!(split > 0);
}

#[test]
fn an_exact_filter_takes_an_explicit_flow_and_no_rule() {
    let steering = table(&mut fastrand::Rng::with_seed(1), 10);
    let text = "src=10.0.0.0,dst=10.0.0.1,proto=udp,sport=1,dport=53,service=0";
    let both = steering.moved(&filter(text), A, B).unwrap();
    assert_eq!((both.rules().len(), both.flows().len()), (0, 2));
    let one_way = steering.moved(&filter(&format!("{text},symmetric=false")), A, B).unwrap();
    assert_eq!((one_way.rules().len(), one_way.flows().len()), (0, 1));
    assert!(both.mentions(B) && !steering.mentions(B));
    assert_eq!(both.generation(), 1);
    // Once its bucket is there too, the flow needs no entry of its own.
    let all = both.moved(&Selection::Buckets(BucketSet::all()), A, B).unwrap();
    assert_eq!(all.flows().len(), 0);
}

#[test]
fn refuses_what_exceeds_a_bound_and_says_what_to_do() {
    let mut steering = table(&mut fastrand::Rng::with_seed(1), 2);
    let flow = |port: u16| {
        filter(&format!("src=10.0.0.0,dst=10.0.0.1,proto=udp,sport={port},dport=53,service=0"))
    };
    steering = steering.moved(&flow(1), A, B).unwrap();
    assert_eq!(
        steering.moved(&flow(2), A, B).unwrap_err(),
        SteeringError::TooManyFlows { most: 2 }
    );
    for port in 0..RULES_MAX {
        steering = steering.moved(&filter(&format!("dport={port}")), A, B).unwrap();
    }
    assert_eq!(
        steering.moved(&filter("dport=999"), A, B).unwrap_err(),
        SteeringError::TooManyRules
    );

    let mut steering = table(&mut fastrand::Rng::with_seed(1), 2);
    let filters = ["src=10.0.0.0/8", "dport=53", "sport=1-9", "service=0", "proto=udp"];
    let mut outcomes = filters.iter().enumerate().map(|(index, text)| {
        let (from, to) = (InstanceId(index as u8), InstanceId(index as u8 + 1));
        steering = steering.moved(&filter(text), from, to)?;
        Ok(())
    });
    assert_eq!(outcomes.by_ref().take(4).collect::<Result<Vec<()>, _>>().unwrap().len(), 4);
    assert_eq!(outcomes.next(), Some(Err(SteeringError::TooManyFilters)));

    let contradiction = Filter {
        src: Endpoint { prefix: Some("::/0".parse().unwrap()), ports: None },
        dst: Endpoint { prefix: Some("0.0.0.0/0".parse().unwrap()), ports: None },
        ..Filter::default()
    };
    let steering = table(&mut fastrand::Rng::with_seed(1), 2);
    let refused = steering.moved(&Selection::Filter(contradiction), A, B);
    assert!(matches!(refused, Err(SteeringError::Filter(_))));
}

#[test]
fn a_narrower_filter_takes_the_place_of_the_wider_one_in_a_rule() {
    let mut steering = table(&mut fastrand::Rng::with_seed(1), 2);
    for step in 0..8 {
        let narrower = filter(&format!("src=10.0.0.0/{}", 8 + step));
        steering = steering.moved(&narrower, InstanceId(step), InstanceId(step + 1)).unwrap();
    }
    assert_eq!(steering.rules().len(), 8);
    assert!(steering.rules().iter().all(|rule| rule.filters().len() == 1));
}

fn table(rng: &mut fastrand::Rng, flows_max: usize) -> Steering {
    let key = weir_state_transfer::steering_hash::random_key(rng.u64(..));
    Steering::new(SteeringHash::new(key), A, flows_max)
}

fn filter(text: &str) -> Selection {
    Selection::Filter(text.parse().unwrap())
}

/// Flows whose words differ little, so that several share a bucket.
fn universe() -> Vec<FlowKey> {
    let mut keys = Vec::new();
    let families =
        [["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.128.0.0"], ["::1", "::2", "::3", "::4"]]
            .map(|addresses| addresses.map(|address| address.parse().unwrap()));
    for addresses in families {
        for (src, dst) in addresses.into_iter().flat_map(|src| addresses.map(|dst| (src, dst))) {
            for ports in PORTS.into_iter().flat_map(|src| PORTS.map(|dst| (src, dst))) {
                for protocol in [protocol::TCP, protocol::UDP] {
                    keys.extend(FlowKey::new(src, dst, ports, protocol, ServiceId(0)));
                }
            }
            keys.extend(FlowKey::new(src, dst, (0, 0), protocol::ICMP, ServiceId(0)));
        }
    }
    keys
}

fn random_selection(rng: &mut fastrand::Rng, universe: &[FlowKey]) -> Selection {
    let key = universe[rng.usize(..universe.len())];
    match rng.u8(..8) {
        0..2 => Selection::Buckets(random_buckets(rng)),
        2..4 => Selection::Filter(Filter {
            src: Endpoint {
                prefix: Some(Prefix::host(key.src())),
                ports: Some(PortRange::exactly(key.src_port())),
            },
            dst: Endpoint {
                prefix: Some(Prefix::host(key.dst())),
                ports: Some(PortRange::exactly(key.dst_port())),
            },
            protocol: Some([protocol::TCP, protocol::UDP][rng.usize(..2)]),
            service: Some(ServiceId(0)),
            symmetric: rng.bool(),
        }),
        _ => Selection::Filter(random_filter(rng)),
    }
}

fn random_buckets(rng: &mut fastrand::Rng) -> BucketSet {
    let modulus = rng.u32(1..6);
    (0..BUCKETS as u32).filter(|index| index % modulus == 0).map(Bucket::of).collect()
}

fn random_filter(rng: &mut fastrand::Rng) -> Filter {
    loop {
        let prefixes =
            ["10.0.0.0/8", "10.0.0.0/31", "10.0.0.1", "10.128.0.0/9", "::/0", "::2/127", "::4"];
        let ranges = [1..=1, 1..=2, 2..=53, 53..=53];
        let endpoint = |rng: &mut fastrand::Rng| Endpoint {
            prefix: rng.bool().then(|| prefixes[rng.usize(..prefixes.len())].parse().unwrap()),
            ports: (rng.u8(..4) == 0)
                .then(|| PortRange::new(ranges[rng.usize(..ranges.len())].clone()).unwrap()),
        };
        let filter = Filter {
            src: endpoint(rng),
            dst: endpoint(rng),
            protocol: (rng.u8(..4) == 0).then(|| [protocol::TCP, protocol::UDP][rng.usize(..2)]),
            service: (rng.u8(..6) == 0).then_some(ServiceId(0)),
            symmetric: rng.bool(),
        };
        if filter.check().is_ok() {
            return filter;
        }
    }
}

fn move_in_model(
    model: &mut BTreeMap<FlowKey, InstanceId>,
    hash: &SteeringHash,
    (selection, from, to): (&Selection, InstanceId, InstanceId),
) {
    for (key, owner) in model.iter_mut() {
        if *owner == from && selection.matches(key, hash.bucket(key)) {
            *owner = to;
        }
    }
}
