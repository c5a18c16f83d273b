//! Every join is idempotent, commutative and associative, and instances that copy to each other
//! at random end with what one instance would have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use fastrand::Rng;

use super::*;
use crate::time::Nanos;

const REPLICAS: u32 = 3;

fn replica(instance: u32) -> Replica {
    Replica { instance, incarnation: 7 * u64::from(instance) }
}

fn stamp(rng: &mut Rng) -> Stamp {
    Stamp { time: Nanos(rng.u64(..50)), count: rng.u32(..2), replica: replica(rng.u32(..REPLICAS)) }
}

fn joined<T: Join + Clone>(one: &T, two: &T) -> T {
    let mut joined = one.clone();
    joined.join(two);
    joined
}

/// The laws, over values drawn at random.
fn holds<T: Join + Clone + Debug + PartialEq>(draw: impl Fn(&mut Rng) -> T) {
    let mut rng = weir_seed::rng();
    for _ in 0..500 {
        let [a, b, c] = [draw(&mut rng), draw(&mut rng), draw(&mut rng)];
        assert_eq!(joined(&a, &a), a, "idempotent");
        assert_eq!(joined(&a, &b), joined(&b, &a), "commutative");
        let (left, right) = (joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        assert_eq!(left, right, "associative");
    }
}

fn counter(rng: &mut Rng) -> Counter {
    let parts = (0..REPLICAS).map(|n| (replica(n), rng.u64(..4)));
    let parts: Vec<_> = parts.filter(|(_, count)| *count > 0).collect();
    let mut retired = Lives::default();
    retired.extend((0..REPLICAS).filter(|_| rng.u8(..8) == 0).map(replica).map(Life::of_one));
    Counter::from_parts(parts, retired)
}

#[test]
fn counters_gauges_and_averages_are_joins() {
    holds(counter);
    holds(|rng| Gauge { up: counter(rng), down: counter(rng) });
    holds(|rng| Average { sum: counter(rng), count: counter(rng) });
}

#[test]
fn times_and_registers_are_joins() {
    holds(|rng| First(Nanos(rng.u64(..5))));
    holds(|rng| Last(Nanos(rng.u64(..5))));
    // One stamp is of one value.
    holds(|rng| {
        let stamp = stamp(rng);
        Register::new(stamp, (stamp.time.0 * 31 + u64::from(stamp.count)) % 7)
    });
}

#[test]
fn sets_are_joins_even_when_they_forget() {
    for max in [3, 100] {
        holds(|rng| {
            let touched = (0..rng.usize(..8)).map(|_| {
                let stamp = stamp(rng);
                (rng.u8(..6), Touched { stamp, added: !stamp.time.0.is_multiple_of(3) })
            });
            let touched: Vec<_> = touched.collect();
            // One stamp is of one element.
            let mut seen = BTreeSet::new();
            let new = |(_, touched): &(u8, Touched)| seen.insert(touched.stamp);
            Set::from_touched(max, touched.into_iter().filter(new))
        });
    }
}

#[test]
fn estimates_are_joins() {
    holds(|rng| {
        let mut distinct = Distinct::new();
        (0..rng.usize(..200)).for_each(|_| distinct.see(rng.u64(..)));
        distinct
    });
}

#[test]
fn an_estimate_is_near_the_truth_and_counts_nothing_twice() {
    let mut rng = Rng::with_seed(1);
    for count in [0, 1, 10, 100, 1_000, 10_000, 100_000] {
        let hashes: Vec<u64> = (0..count).map(|_| rng.u64(..)).collect();
        let (mut one, mut two) = (Distinct::new(), Distinct::new());
        for (n, hash) in hashes.iter().enumerate() {
            one.see(*hash);
            if n % 2 == 0 {
                two.see(*hash);
            }
        }
        let estimate = joined(&one, &two).estimate();
        let error = (estimate - f64::from(count)).abs();
        // Five times the standard error.
        assert!(error <= 0.17 * f64::from(count) + 0.5, "{estimate} for {count}");
    }
    assert_eq!(Distinct::from_registers(&[55; REGISTERS]), Some(full()));
    assert_eq!(Distinct::from_registers(&[56; REGISTERS]), None);
}

fn full() -> Distinct {
    let mut full = Distinct::new();
    // All bits behind the index are zero.
    (0..REGISTERS as u64).for_each(|index| full.see(index << 54));
    full
}

/// Instances count and copy to each other in any direction; OpenNF's merge, adding, is the
/// negative control.
#[test]
fn copies_in_all_directions_count_nothing_twice_and_adding_would() {
    let mut rng = weir_seed::rng();
    let mut truth = 0;
    let mut copies = vec![Counter::default(); REPLICAS as usize];
    let mut added = vec![0; REPLICAS as usize];
    for _ in 0..1_000 {
        let (from, to) = (rng.usize(..3), rng.usize(..3));
        if rng.bool() {
            copies[from].add(replica(from as u32), 2);
            added[from] = u64::saturating_add(added[from], 2);
            truth += 2;
        } else {
            let copy = copies[from].clone();
            copies[to].join(&copy);
            added[to] = added[to].saturating_add(added[from]);
        }
    }
    for _ in 0..2 {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let copy = copies[from].clone();
            copies[to].join(&copy);
        }
    }
    assert!(copies.iter().all(|copy| copy.value() == truth));
    assert!(added.iter().any(|sum| *sum > truth));
}

#[test]
fn what_a_replica_counted_stays_when_another_takes_it_over_and_old_copies_come_late() {
    let (ended, heir) = (replica(1), replica(2));
    let mut old = Counter::default();
    old.add(ended, 5);
    let late = old.clone();
    old.add(ended, 3);
    let mut counter = Counter::default();
    counter.add(heir, 10);
    counter.join(&old);
    for _ in 0..2 {
        counter.take_over(Life::of_one(ended), heir);
    }
    assert_eq!((counter.value(), counter.parts().len()), (18, 1));
    counter.join(&late);
    assert_eq!(counter.value(), 18, "a copy from before adds nothing");
    let back = joined(&late, &counter);
    assert_eq!(back, counter);
}

/// Instances come and go, one is the heir of those that go, and copies from before come late.
#[test]
fn thousands_of_lives_take_no_more_room_than_those_at_one_time() {
    const SPAN: u64 = 1 << 32;
    let mut rng = weir_seed::rng();
    let life = |instance: u32, n: u64| Life::new(instance, n * SPAN, n * SPAN + (SPAN - 1));
    let mut alive: Vec<(u32, u64, Counter)> = vec![(0, 1, Counter::default())];
    let mut lives = BTreeMap::from([(0, 1)]);
    let (mut truth, mut old) = (0, Vec::new());
    // What has ended, as each copy has heard: of the instance of a number, which is in one life.
    let mut heard: [BTreeSet<(u32, u64)>; 8] = std::array::from_fn(|_| BTreeSet::new());
    for round in 0..5_000 {
        // One more, under a number that is free.
        let free = (0..8).find(|id| alive.iter().all(|(taken, ..)| taken != id));
        let id = free.expect("few are alive");
        let n = lives.entry(id).or_default();
        *n += 1;
        alive.push((id, *n, Counter::default()));
        for (id, n, counter) in &mut alive {
            let count = rng.u64(..9);
            // A life counts as several replicas.
            let incarnation = *n * SPAN + rng.u64(..3);
            counter.add(Replica { instance: *id, incarnation }, count);
            truth += count;
        }
        old.push(alive[rng.usize(..alive.len())].2.clone());
        while alive.len() > rng.usize(1..6) {
            let gone = alive.swap_remove(rng.usize(..alive.len()));
            let heir = rng.usize(..alive.len());
            let (id, n, counter) = &mut alive[heir];
            counter.join(&gone.2);
            let ended = life(gone.0, gone.1).expect("in order");
            let heir = Replica { instance: *id, incarnation: *n * SPAN };
            counter.take_over(ended, heir);
            let once = counter.clone();
            counter.take_over(ended, heir);
            counter.join(&gone.2);
            assert_eq!(*counter, once, "twice is as once");
            let of_gone = std::mem::take(&mut heard[gone.0 as usize]);
            heard[*id as usize].extend(of_gone);
            heard[*id as usize].insert((gone.0, gone.1));
        }
        // A copy has a gap for each life that is there, and for each that only others have heard of.
        // All of them together have one run under each number.
        let mut all = Lives::default();
        for (id, _, counter) in &alive {
            assert!(counter.parts().len() <= 3 * 8, "{counter:?}");
            all.join(counter.retired());
            if round % 16 == 0 {
                let heard = &heard[*id as usize];
                let begins = |(id, n): &&(u32, u64)| !heard.contains(&(*id, n - 1));
                let runs = heard.iter().filter(begins).count();
                assert_eq!(counter.retired().iter().len(), runs, "{counter:?}");
            }
        }
        assert!(all.iter().len() <= 8, "{all:?}");
    }
    while alive.len() > 1 {
        let gone = alive.pop().expect("one");
        let (id, n, counter) = &mut alive[0];
        counter.join(&gone.2);
        let heir = Replica { instance: *id, incarnation: *n * SPAN };
        counter.take_over(life(gone.0, gone.1).expect("in order"), heir);
    }
    let (id, n, mut last) = alive.pop().expect("one");
    assert_eq!(last.value(), truth);
    assert!(last.retired().iter().len() <= 9 && last.fits(), "{last:?}");
    let own = |replica: &Replica| life(id, n).expect("in order").has(*replica);
    assert!(last.parts().all(|(replica, _)| own(&replica)), "{last:?}");
    for late in old {
        last.join(&late);
        assert_eq!(last.value(), truth, "a copy from before adds nothing");
    }
}

#[test]
fn a_set_says_what_was_done_to_an_element_last() {
    let mut clock = Clock::new(replica(1));
    let mut set = Set::new(8);
    let mut model: BTreeMap<u8, bool> = BTreeMap::new();
    let mut rng = Rng::with_seed(3);
    for now in 0..1_000 {
        let (element, stamp) = (rng.u8(..8), clock.stamp(Nanos(now)));
        let adds = rng.bool();
        if adds {
            set.add(element, stamp);
        } else {
            set.remove(element, stamp);
        }
        model.insert(element, adds);
        assert!(model.iter().all(|(element, is_in)| set.contains(element) == *is_in));
    }
    let of_the_model: Vec<_> = model.iter().filter(|(_, is_in)| **is_in).map(|(e, _)| *e).collect();
    assert_eq!(set.iter().copied().collect::<Vec<_>>(), of_the_model);
    set.add(100, clock.stamp(Nanos(1_000)));
    assert_eq!(set.touched().len(), 8, "one was forgotten");
    assert!(set.contains(&100));
}

/// Instances give a counter away, to and fro, and count on as others; copies from any time come in
/// between, and whole lives end. All that was counted comes together in the end.
#[test]
fn what_is_given_away_counts_once_wherever_it_goes_and_copies_of_it_add_nothing() {
    struct Holder {
        own: Replica,
        counter: Counter,
    }
    let mut rng = weir_seed::rng();
    for _ in 0..500 {
        let none = Lives::default();
        let mut holders: Vec<_> = (0..4)
            .map(|n| Holder {
                own: Replica { incarnation: 1, ..replica(n) },
                counter: Counter::default(),
            })
            .collect();
        let (mut truth, mut copies, mut on_the_way) = (0, Vec::new(), Vec::new());
        for _ in 0..200 {
            let at = rng.usize(..holders.len());
            let Holder { own, counter } = &mut holders[at];
            match rng.u8(..6) {
                0 | 1 => {
                    let count = rng.u64(1..9);
                    counter.add(*own, count);
                    truth += count;
                }
                2 => copies.push(counter.clone()),
                3 if !copies.is_empty() => counter.join(&copies[rng.usize(..copies.len())]),
                4 => {
                    on_the_way.push((std::mem::take(counter), *own));
                    // A new life at times.
                    own.incarnation += if rng.u8(..4) == 0 { 1 << 32 } else { 1 };
                }
                5 if !on_the_way.is_empty() => {
                    let (given, by) = on_the_way.swap_remove(rng.usize(..on_the_way.len()));
                    counter.inherit(given, by, *own, &none);
                }
                _ => {}
            }
        }
        let heir = Replica { incarnation: 1, ..replica(9) };
        let mut last = Counter::default();
        on_the_way.extend(holders.into_iter().map(|Holder { own, counter }| (counter, own)));
        rng.shuffle(&mut on_the_way);
        for (given, by) in on_the_way {
            last.inherit(given, by, heir, &none);
            let copy = rng.choice(&copies);
            copy.into_iter().for_each(|copy| last.join(copy));
        }
        copies.iter().for_each(|copy| last.join(copy));
        assert_eq!(last.value(), truth);
        assert!(last.parts().len() <= 1 && last.retired().iter().len() <= 4, "{last:?}");
    }
}
