//! The owner of a port's neighbours under passed-in time.

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 8]);
const PORT: PortId = PortId(1);

fn limits() -> OwnerLimits {
    OwnerLimits {
        entries_max: 8,
        unresolved_max: 4,
        retry: Duration::from_secs(1),
        tries: 3,
        reachable: Duration::from_secs(30),
        requests_per_second: 100,
    }
}

fn owner() -> (Owner, AdjacencyTable) {
    let table = AdjacencyTable::new(2, 8);
    (Owner::new(PORT, limits(), table.clone()), table)
}

fn at(seconds: f64) -> Nanos {
    Nanos((seconds * 1e9) as u64)
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn heard(last: u8, mac: MacAddr, kind: HeardKind) -> Heard {
    Heard { address: ip(last), mac, kind }
}

fn outputs(owner: &mut Owner) -> Vec<Output> {
    std::iter::from_fn(|| owner.next_output()).collect()
}

fn resolved(outputs: &[Output]) -> AdjacencyId {
    match outputs {
        [Output::Resolved(Resolution { id: Some(id), port: PORT, .. })] => *id,
        other => panic!("{other:?}"),
    }
}

/// Makes the neighbour `last` reachable at time 0.
fn resolve(owner: &mut Owner, last: u8) -> AdjacencyId {
    owner.request(ip(last), at(0.0));
    assert_eq!(outputs(owner), [Output::Probe(ip(last), None)]);
    owner.hear(heard(last, MAC, HeardKind::Answer), at(0.0));
    resolved(&outputs(owner))
}

#[test]
fn a_neighbour_is_asked_for_at_once_and_its_answer_told_to_all() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    assert_eq!(table.get(id).map(|found| (found.port, found.mac)), Some((PORT, MAC)));
    owner.request(ip(1), at(1.0));
    assert_eq!(resolved(&outputs(&mut owner)), id, "known: told at once");
}

#[test]
fn three_requests_a_second_apart_and_then_it_has_failed() {
    let (mut owner, _) = owner();
    owner.request(ip(1), at(0.0));
    let mut probes = outputs(&mut owner).len();
    let mut failed_at = None;
    for tenth in 1..60u32 {
        let now = at(f64::from(tenth) / 10.0);
        owner.request(
            ip(1),
            if failed_at.is_none() { now } else { return check(probes, failed_at) },
        );
        owner.poll(now);
        for output in outputs(&mut owner) {
            match output {
                Output::Probe(..) => probes += 1,
                Output::Resolved(resolution) => {
                    assert_eq!(resolution, Resolution { port: PORT, address: ip(1), id: None });
                    failed_at = Some(tenth);
                }
            }
        }
    }
    check(probes, failed_at);

    fn check(probes: usize, failed_at: Option<u32>) {
        assert_eq!((probes, failed_at), (3, Some(30)));
    }
}

#[test]
fn a_reachable_neighbour_is_asked_again_by_unicast_and_stays() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    owner.poll(at(29.9));
    assert_eq!(outputs(&mut owner), []);
    owner.poll(at(30.1));
    assert_eq!(outputs(&mut owner), [Output::Probe(ip(1), Some(MAC))]);
    assert!(table.get(id).is_some(), "in use while it is being asked");
    owner.hear(heard(1, MAC, HeardKind::Answer), at(30.2));
    assert_eq!(outputs(&mut owner), []);
    owner.poll(at(60.0));
    assert_eq!(outputs(&mut owner), []);
}

#[test]
fn a_neighbour_that_is_gone_fails_and_its_number_finds_nothing() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    for tenth in 300..340u32 {
        owner.poll(at(f64::from(tenth) / 10.0));
    }
    let gone = Resolution { port: PORT, address: ip(1), id: None };
    let expected = [
        Output::Probe(ip(1), Some(MAC)),
        Output::Probe(ip(1), Some(MAC)),
        Output::Probe(ip(1), None),
        Output::Resolved(gone),
    ];
    assert_eq!(outputs(&mut owner), expected);
    assert_eq!(table.get(id), None);
    assert_eq!(owner.list().count(), 0);
}

#[test]
fn a_false_claim_moves_no_traffic_and_floods_cause_one_request() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    for kind in [HeardKind::Unsolicited, HeardKind::Answer, HeardKind::Request] {
        owner.hear(heard(1, OTHER, kind), at(0.5));
    }
    owner.poll(at(0.6));
    assert_eq!(outputs(&mut owner), [], "too soon after the last answer");
    for _ in 0..1000 {
        owner.hear(heard(1, OTHER, HeardKind::Unsolicited), at(2.0));
        owner.poll(at(2.0));
    }
    assert_eq!(outputs(&mut owner), [Output::Probe(ip(1), Some(MAC))]);
    owner.hear(heard(1, MAC, HeardKind::Answer), at(2.1));
    assert_eq!(table.get(id).map(|found| found.mac), Some(MAC));
}

#[test]
fn a_neighbour_that_moved_is_believed_once_the_old_station_is_silent() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    owner.hear(heard(1, OTHER, HeardKind::Unsolicited), at(5.0));
    for tenth in 50..72u32 {
        owner.poll(at(f64::from(tenth) / 10.0));
        owner.hear(heard(1, OTHER, HeardKind::Unsolicited), at(f64::from(tenth) / 10.0));
    }
    assert_eq!(table.get(id).map(|found| found.mac), Some(MAC));
    owner.hear(heard(1, OTHER, HeardKind::Answer), at(7.2));
    assert_eq!(table.get(id).map(|found| found.mac), Some(OTHER), "same number, new address");
}

#[test]
fn who_asks_for_us_is_learned_and_forgotten_when_nobody_wants_it() {
    let (mut owner, _) = owner();
    owner.hear(heard(1, MAC, HeardKind::Request), at(0.0));
    owner.hear(heard(2, MAC, HeardKind::Unsolicited), at(0.0));
    assert_eq!(owner.list().map(|record| record.address).collect::<Vec<_>>(), [ip(1)]);
    owner.request(ip(1), at(1.0));
    resolved(&outputs(&mut owner));
    owner.hear(heard(3, MAC, HeardKind::Request), at(1.0));
    owner.poll(at(31.5));
    assert_eq!(outputs(&mut owner), [Output::Probe(ip(1), Some(MAC))]);
    assert_eq!(owner.list().count(), 1);
}

#[test]
fn a_scan_is_bounded_and_leaves_resolved_neighbours_alone() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    for last in 2..200 {
        owner.request(ip(last), at(0.1));
    }
    let outputs = outputs(&mut owner);
    let probes = outputs.iter().filter(|output| matches!(output, Output::Probe(..))).count();
    assert_eq!((probes, outputs.len()), (4, 198), "four asked for, the others refused at once");
    assert!(table.get(id).is_some());
    assert_eq!(owner.list().count(), 5);
}

#[test]
fn a_request_that_could_not_be_sent_comes_again_soon_and_does_not_count() {
    let (mut owner, _) = owner();
    owner.request(ip(1), at(0.0));
    for try_ in 0..10 {
        assert_eq!(outputs(&mut owner), [Output::Probe(ip(1), None)], "{try_}");
        owner.not_sent(ip(1), at(0.01 * f64::from(try_)));
        owner.poll(at(0.01 * f64::from(try_ + 1)));
    }
    owner.not_sent(ip(9), at(1.0));
    let mut probes = outputs(&mut owner).len();
    for tenth in 2..60 {
        owner.poll(at(f64::from(tenth) / 10.0));
        let sent = |output: &Output| matches!(output, Output::Probe(..));
        probes += outputs(&mut owner).iter().filter(|output| sent(output)).count();
    }
    assert_eq!(probes, 3);
}

/// Addresses that nobody has are asked for again and again, as their packets keep coming.
#[test]
fn a_scan_does_not_keep_another_neighbour_from_being_asked_for() {
    let scanned = OwnerLimits { entries_max: 256, unresolved_max: 256, ..limits() };
    let mut owner = Owner::new(PORT, scanned, AdjacencyTable::new(2, 256));
    let (mut hundredth, mut longest) = (0_u32, 0);
    let scan = |owner: &mut Owner, hundredth: u32| {
        let now = at(f64::from(hundredth) / 100.0);
        for n in 0..5 {
            owner.request(ip(20 + ((hundredth * 5 + n) % 231) as u8), now);
        }
        owner.poll(now);
        now
    };
    for wanted in 0..10 {
        for _ in 0..371 {
            hundredth += 1;
            scan(&mut owner, hundredth);
            outputs(&mut owner);
        }
        let begun = hundredth;
        let now = scan(&mut owner, hundredth);
        owner.request(ip(wanted), now);
        while !outputs(&mut owner).contains(&Output::Probe(ip(wanted), None)) {
            assert!(hundredth - begun < 1_000, "never asked for");
            hundredth += 1;
            scan(&mut owner, hundredth);
        }
        longest = longest.max(hundredth - begun);
        let now = at(f64::from(hundredth) / 100.0);
        owner.hear(heard(wanted, MAC, HeardKind::Answer), now);
    }
    assert!(longest <= 100, "{} ms", 10 * longest);
}

#[test]
fn strangers_that_introduce_themselves_push_out_only_each_other() {
    let (mut owner, table) = owner();
    let id = resolve(&mut owner, 1);
    for last in 2..=255 {
        owner.hear(heard(last, MAC, HeardKind::Request), at(f64::from(last) / 1e3));
    }
    assert!(table.get(id).is_some());
    assert_eq!(owner.list().count(), 8);
    owner.request(ip(100), at(1.0));
    assert_eq!(outputs(&mut owner), [Output::Probe(ip(100), None)]);
}

#[test]
fn a_static_neighbour_is_never_asked_for_nor_changed() {
    let (mut owner, table) = owner();
    assert!(owner.add_static(ip(1), MAC, at(0.0)));
    let id = resolved(&outputs(&mut owner));
    owner.hear(heard(1, OTHER, HeardKind::Answer), at(10.0));
    owner.poll(at(1e6));
    assert_eq!(outputs(&mut owner), []);
    assert_eq!(table.get(id).map(|found| found.mac), Some(MAC));
    owner.remove(ip(1));
    assert_eq!(table.get(id), None);
}

#[test]
fn requests_are_limited_and_those_that_starve_fail() {
    let table = AdjacencyTable::new(2, 8);
    let slow = OwnerLimits { requests_per_second: 1, ..limits() };
    let mut owner = Owner::new(PORT, slow, table);
    for last in 1..=4 {
        owner.request(ip(last), at(0.0));
    }
    let (mut probes, mut failed) = (0, 0);
    for tenth in 0..200u32 {
        owner.poll(at(f64::from(tenth) / 10.0));
        for output in outputs(&mut owner) {
            match output {
                Output::Probe(..) => probes += 1,
                Output::Resolved(_) => failed += 1,
            }
        }
    }
    assert_eq!(failed, 4);
    assert!((6..=13).contains(&probes), "{probes}");
}

#[test]
fn a_table_of_random_events_keeps_its_counts() {
    let mut rng = weir_seed::rng();
    let (mut owner, table) = owner();
    let mut now = 0.0;
    for _ in 0..20_000 {
        now += rng.f64() / 2.0;
        let last = rng.u8(1..30);
        let mac = if rng.bool() { MAC } else { OTHER };
        match rng.u8(..6) {
            0 | 1 => owner.request(ip(last), at(now)),
            2 => owner.hear(heard(last, mac, HeardKind::Request), at(now)),
            3 => owner.hear(heard(last, mac, HeardKind::Answer), at(now)),
            4 => owner.hear(heard(last, mac, HeardKind::Unsolicited), at(now)),
            _ => owner.poll(at(now)),
        }
        for output in outputs(&mut owner) {
            if let Output::Resolved(Resolution { id: Some(id), .. }) = output {
                assert!(table.get(id).is_some());
            }
        }
        let incomplete =
            owner.list().filter(|record| record.state == NeighbourState::Incomplete).count();
        assert_eq!(usize::from(owner.unresolved), incomplete);
        assert!(incomplete <= 4 && owner.list().count() <= 8);
        assert_eq!(owner.by_address.len(), owner.list().count());
    }
}
