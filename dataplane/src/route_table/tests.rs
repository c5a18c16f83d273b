//! The route table against an independent trie, alone and beside readers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use weir_state_transfer::{FlowKey, PortId, ServiceId};

use super::next_hops::{NextHopId, NextHops};
use super::*;

const SMALL: RouteLimits = RouteLimits { routes_max: 500, next_hops_max: 64, groups_max: 400 };

fn hop(port: u8) -> NextHop {
    NextHop { port: PortId(port), via: None }
}

fn to(address: IpAddr) -> FlowKey {
    match address {
        IpAddr::V4(dst) => FlowKey::v4(Ipv4Addr::UNSPECIFIED, dst, (0, 0), 0, ServiceId(0)),
        IpAddr::V6(dst) => FlowKey::v6(Ipv6Addr::UNSPECIFIED, dst, (0, 0), 0, ServiceId(0)),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Addresses close together, so that prefixes nest: a few values for each byte.
fn random_address(rng: &mut fastrand::Rng, v4: bool) -> IpAddr {
    let mut octets = [0u8; 16];
    for octet in &mut octets {
        *octet = *rng.choice(&[0, 0, 1, 0x80, 0xff]).unwrap();
    }
    if v4 { IpAddr::from(<[u8; 4]>::try_from(&octets[..4]).unwrap()) } else { octets.into() }
}

fn random_prefix(rng: &mut fastrand::Rng) -> IpNet {
    let v4 = rng.bool();
    // Short prefixes write most of the root; a few of them suffice.
    let len = match (v4, rng.u8(..40)) {
        (_, 0) => 0,
        (true, 1) => rng.u8(1..8),
        (true, _) => rng.u8(8..=32),
        (false, _) => rng.u8(1..=128),
    };
    IpNet::new(random_address(rng, v4), len).unwrap().trunc()
}

/// The independent answer.
#[derive(Default)]
struct Model {
    v4: PrefixMap<Ipv4Net, NextHop>,
    v6: PrefixMap<Ipv6Net, NextHop>,
}

impl Model {
    fn insert(&mut self, prefix: IpNet, hop: NextHop) {
        match prefix {
            IpNet::V4(net) => self.v4.insert(net, hop),
            IpNet::V6(net) => self.v6.insert(net, hop),
        };
    }

    fn remove(&mut self, prefix: IpNet) -> Option<NextHop> {
        match prefix {
            IpNet::V4(net) => self.v4.remove(&net),
            IpNet::V6(net) => self.v6.remove(&net),
        }
    }

    fn lookup(&self, address: IpAddr) -> Option<NextHop> {
        match IpNet::from(address) {
            IpNet::V4(net) => self.v4.get_lpm(&net).map(|(_, hop)| *hop),
            IpNet::V6(net) => self.v6.get_lpm(&net).map(|(_, hop)| *hop),
        }
    }
}

#[test]
fn a_slot_gives_back_what_was_put_in() {
    let hops = NextHops::new(3);
    for via in [None, Some("10.0.0.1".parse().unwrap()), Some("2001:db8::ff".parse().unwrap())] {
        let hop = NextHop { port: PortId(200), via };
        hops.set(NextHopId(2), hop);
        assert_eq!(hops.get(NextHopId(2)), Some(hop));
    }
    assert_eq!(hops.get(NextHopId(3)), None);
}

#[test]
fn the_longest_prefix_wins_and_its_removal_uncovers_the_next() {
    let (table, mut writer) = RouteTable::new(SMALL);
    for (port, prefix) in
        ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.0/24", "10.1.2.128/25"].into_iter().enumerate()
    {
        writer.add(net(prefix), hop(port as u8)).unwrap();
    }
    let port = |address: &str| table.lookup(&to(address.parse().unwrap())).map(|hop| hop.port.0);
    assert_eq!(port("10.1.2.200"), Some(3));
    assert_eq!(port("10.1.2.3"), Some(2));
    assert_eq!(port("10.1.3.3"), Some(1));
    assert_eq!(port("11.0.0.1"), Some(0));
    writer.remove(net("10.1.2.0/24")).unwrap();
    assert_eq!((port("10.1.2.3"), port("10.1.2.200")), (Some(1), Some(3)));
    writer.remove(net("0.0.0.0/0")).unwrap();
    assert_eq!(port("11.0.0.1"), None);
    assert_eq!(port("2001:db8::1"), None);
}

#[test]
fn random_changes_give_the_answers_of_an_independent_trie() {
    let mut rng = weir_seed::rng();
    let (table, mut writer) = RouteTable::new(SMALL);
    let mut model = Model::default();
    let mut refused = 0;
    for round in 0..3_000 {
        let prefix = match writer.list().nth(rng.usize(..600)) {
            Some((prefix, _)) => prefix,
            None => random_prefix(&mut rng),
        };
        if rng.u8(..3) == 0 {
            let removed = writer.remove(prefix);
            assert_eq!(removed.ok(), model.remove(prefix));
        } else {
            let hop = hop(rng.u8(..60));
            match writer.add(prefix, hop) {
                Ok(()) => model.insert(prefix, hop),
                Err(RouteError::GroupsFull { .. } | RouteError::RoutesFull { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        if rng.u8(..4) == 0 {
            writer.quiesced(writer.generation());
        }
        for _ in 0..20 {
            let v4 = rng.bool();
            let address = random_address(&mut rng, v4);
            let found = table.lookup(&to(address));
            assert_eq!(found, model.lookup(address), "round {round} {address}");
        }
    }
    println!("{refused} changes refused at a bound");
    let prefixes: Vec<IpNet> = writer.list().map(|(prefix, _)| prefix).collect();
    for prefix in prefixes {
        writer.remove(prefix).unwrap();
    }
    writer.quiesced(writer.generation());
    assert!(!writer.awaits_readers());
    assert_eq!(writer.groups_available(), SMALL.groups_max as usize, "groups lost");
}

#[test]
fn a_change_makes_only_its_own_part_stale() {
    let (table, mut writer) = RouteTable::new(SMALL);
    let generation = |address: &str| table.generation(&to(address.parse().unwrap()));
    writer.add(net("10.1.0.0/16"), hop(1)).unwrap();
    assert_eq!((generation("10.200.0.1"), generation("11.0.0.1")), (1, 0));
    writer.add(net("10.0.0.0/7"), hop(1)).unwrap();
    assert_eq!((generation("10.200.0.1"), generation("11.0.0.1")), (2, 1));
    writer.add(net("0.0.0.0/0"), hop(1)).unwrap();
    assert_eq!((generation("11.0.0.1"), generation("255.0.0.1")), (2, 1));
    assert_eq!(generation("2001:db8::1"), 0);
    writer.add(net("2001:db8::/32"), hop(1)).unwrap();
    assert_eq!((generation("2001:db8::1"), generation("2a00::1")), (1, 0));
    writer.add(net("10.1.0.0/16"), hop(1)).unwrap();
    assert_eq!(generation("10.200.0.1"), 3, "nothing changed, nothing is stale");
}

#[test]
fn bad_routes_are_refused_whole() {
    let (table, mut writer) = RouteTable::new(SMALL);
    let via = |text: &str| NextHop { port: PortId(1), via: Some(text.parse().unwrap()) };
    let prefix: IpNet = net("10.0.0.1/8");
    assert_eq!(writer.add(prefix, hop(1)), Err(RouteError::HostBits { prefix }));
    for bad in ["2001:db8::1", "0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255"] {
        assert!(writer.add(net("10.0.0.0/8"), via(bad)).is_err(), "{bad}");
    }
    let prefix = net("10.0.0.0/8");
    assert_eq!(writer.remove(prefix), Err(RouteError::NotFound { prefix }));
    assert!(writer.is_empty());
    assert_eq!(table.lookup(&to("10.0.0.1".parse().unwrap())), None);
}

#[test]
fn each_bound_refuses_and_leaves_the_table_as_it_was() {
    let limits = RouteLimits { routes_max: 3, next_hops_max: 2, groups_max: 1 };
    let (table, mut writer) = RouteTable::new(limits);
    writer.add(net("10.0.0.128/25"), hop(1)).unwrap();
    assert_eq!(
        writer.add(net("10.1.0.128/25"), hop(2)),
        Err(RouteError::GroupsFull { waiting: 0 })
    );
    writer.quiesced(writer.generation());
    writer.add(net("10.1.0.0/24"), hop(2)).unwrap();
    let full = writer.add(net("10.2.0.0/24"), hop(3));
    assert_eq!(full, Err(RouteError::NextHopsFull { waiting: 0 }));
    writer.add(net("10.2.0.0/24"), hop(2)).unwrap();
    assert_eq!(writer.add(net("10.3.0.0/24"), hop(2)), Err(RouteError::RoutesFull { most: 3 }));
    assert_eq!(writer.len(), 3);
    assert_eq!(table.lookup(&to("10.1.0.128".parse().unwrap())), Some(hop(2)));
    writer.remove(net("10.0.0.128/25")).unwrap();
    let waits = writer.add(net("10.1.0.128/25"), hop(2));
    assert_eq!(waits, Err(RouteError::GroupsFull { waiting: 1 }));
    writer.quiesced(writer.generation());
    writer.add(net("10.1.0.128/25"), hop(2)).unwrap();
}

/// Each answer of a concurrent reader was right at some step between the one that was complete
/// when it began to look and the one that had begun when it ended.
#[test]
fn a_reader_beside_the_writer_never_sees_what_was_never_right() {
    const STEPS: usize = 4_000;
    let mut rng = weir_seed::rng();
    let addresses: Vec<IpAddr> = (0..24).map(|n| random_address(&mut rng, n % 2 == 0)).collect();
    let (changes, answers) = plan(&mut rng, &addresses, STEPS);
    let (table, mut writer) = RouteTable::new(SMALL);
    let (begun, done, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looked = 0u64;
            while !stop.load(Ordering::Acquire) {
                rounds.fetch_add(1, Ordering::AcqRel);
                for (place, address) in addresses.iter().enumerate() {
                    let first = done.load(Ordering::Acquire);
                    let found = table.lookup(&to(*address));
                    let last = begun.load(Ordering::Acquire);
                    let right = answers[first..=last].iter().any(|step| step[place] == found);
                    assert!(right, "{address} {found:?} in steps {first} to {last}");
                    looked += 1;
                }
            }
            looked
        });
        for (step, (prefix, hop)) in changes.iter().enumerate() {
            begun.store(step + 1, Ordering::Release);
            match hop {
                Some(hop) => writer.add(*prefix, *hop).unwrap(),
                None => drop(writer.remove(*prefix).unwrap()),
            }
            done.store(step + 1, Ordering::Release);
            let round = rounds.load(Ordering::Acquire);
            while rounds.load(Ordering::Acquire) < round + 2 && !reader.is_finished() {
                thread::yield_now();
                if step % 8 != 0 {
                    break;
                }
            }
            if step % 8 == 0 {
                writer.quiesced(writer.generation());
            }
        }
        stop.store(true, Ordering::Release);
        println!("{} lookups beside {STEPS} changes", reader.join().unwrap());
    });
}

type Change = (IpNet, Option<NextHop>);

/// Random changes, and the answer for each address after each number of them.
fn plan(
    rng: &mut fastrand::Rng,
    addresses: &[IpAddr],
    steps: usize,
) -> (Vec<Change>, Vec<Vec<Option<NextHop>>>) {
    let mut model = Model::default();
    let mut present: Vec<IpNet> = vec![];
    let look = |model: &Model| addresses.iter().map(|at| model.lookup(*at)).collect();
    let (mut changes, mut answers) = (vec![], vec![look(&model)]);
    for _ in 0..steps {
        let remove = present.len() > 20 || (rng.bool() && !present.is_empty());
        let change = if remove {
            let prefix = present.swap_remove(rng.usize(..present.len()));
            model.remove(prefix);
            (prefix, None)
        } else {
            let len_max = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
            let address = *rng.choice(addresses).unwrap();
            let len = if rng.u8(..10) == 0 { 0 } else { rng.u8(8..=len_max(address)) };
            let prefix = IpNet::new(address, len).unwrap().trunc();
            if !present.contains(&prefix) {
                present.push(prefix);
            }
            let hop = hop(rng.u8(..20));
            model.insert(prefix, hop);
            (prefix, Some(hop))
        };
        changes.push(change);
        answers.push(look(&model));
    }
    (changes, answers)
}
