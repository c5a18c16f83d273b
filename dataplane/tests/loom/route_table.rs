//! A worker that looks routes up while the writer changes them.

// The folder's `mod.rs` with smaller roots and without the tests of one thread.
#[path = "../../src/route_table/next_hops.rs"]
#[expect(unreachable_pub, reason = "public in the crate that it is made for")]
mod next_hops;
#[path = "../../src/route_table/recycler.rs"]
mod recycler;
#[path = "../../src/route_table/table.rs"]
#[expect(unreachable_pub, reason = "public in the crate that it is made for")]
mod table;
#[path = "../../src/route_table/trie.rs"]
mod trie;
#[path = "../../src/route_table/word.rs"]
mod word;
#[path = "../../src/route_table/writer.rs"]
#[expect(dead_code, unreachable_pub, reason = "the models use a part of it")]
mod writer;

use std::net::Ipv6Addr;
use std::sync::atomic::AtomicBool;

use loom::sync::Arc;
use loom::thread;
use weir_state_transfer::{FlowKey, PortId, ServiceId};

use crate::check;
use crate::sync::{AtomicU32, Ordering, Weakness, weakened};
use next_hops::NextHop;
use table::{RouteLimits, RouteTable};
use writer::RouteWriter;

/// Loom keeps a history of each word.
const V4_ROOT_BYTES: usize = 1;
const V6_ROOT_BYTES: usize = 1;

/// A table with room for one group, in which next hop 2 has been known for long.
fn table(next_hops_max: u32) -> (RouteTable, RouteWriter) {
    let limits = RouteLimits { routes_max: 4, next_hops_max, groups_max: 1 };
    let (table, mut writer) = RouteTable::new(limits);
    add(&mut writer, "1000::/8", 2);
    (table, writer)
}

/// Next hops that differ in each of their words.
fn hop(number: u8) -> NextHop {
    NextHop { port: PortId(number), via: Some(Ipv6Addr::from([0x20 | number; 16]).into()) }
}

fn add(writer: &mut RouteWriter, prefix: &str, number: u8) {
    writer.add(prefix.parse().unwrap(), hop(number)).unwrap();
}

fn remove(writer: &mut RouteWriter, prefix: &str) {
    writer.remove(prefix.parse().unwrap()).unwrap();
}

/// The key of a packet to 2001::.
fn key() -> FlowKey {
    let dst = Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0);
    FlowKey::v6(Ipv6Addr::UNSPECIFIED, dst, (0, 0), 0, ServiceId(0))
}

/// Looks 2001:: up; fails unless it is reached by one of these next hops.
fn expect_one_of(table: &RouteTable, numbers: &[u8]) -> NextHop {
    match table.lookup(&key()) {
        Some(found) if numbers.iter().any(|number| found == hop(*number)) => found,
        other => panic!("never right: {other:?}"),
    }
}

fn a_next_hop_is_replaced(prefix: &'static str, new: u8) {
    check(move || {
        let (table, mut writer) = table(3);
        add(&mut writer, prefix, 1);
        let reader = thread::spawn(move || {
            let generation = table.generation(&key());
            let found = expect_one_of(&table, &[1, new]);
            assert!(generation == 1 || found == hop(new), "stale, but its generation is not");
        });
        add(&mut writer, prefix, new);
        reader.join().unwrap();
    });
}

#[test]
fn a_lookup_beside_a_change_finds_the_old_next_hop_or_the_new_one() {
    a_next_hop_is_replaced("2000::/8", 3);
    a_next_hop_is_replaced("::/0", 3);
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_new_next_hop_without_a_release() {
    weakened(Weakness::Stores, || a_next_hop_is_replaced("2000::/8", 3));
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_new_next_hop_without_an_acquire() {
    weakened(Weakness::Loads, || a_next_hop_is_replaced("2000::/8", 3));
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_new_default_without_a_release() {
    weakened(Weakness::Stores, || a_next_hop_is_replaced("::/0", 3));
}

#[test]
fn a_decision_of_the_new_generation_is_the_new_one() {
    a_next_hop_is_replaced("2000::/8", 2);
}

#[test]
#[should_panic(expected = "stale, but its generation is not")]
fn control_a_new_generation_without_a_release() {
    weakened(Weakness::Stores, || a_next_hop_is_replaced("2000::/8", 2));
}

#[test]
#[should_panic(expected = "stale, but its generation is not")]
fn control_a_new_generation_without_an_acquire() {
    weakened(Weakness::Loads, || a_next_hop_is_replaced("2000::/8", 2));
}

fn a_route_relieves_the_default() {
    check(|| {
        let (table, mut writer) = table(2);
        add(&mut writer, "::/0", 1);
        let reader = thread::spawn(move || {
            expect_one_of(&table, &[1, 2]);
        });
        add(&mut writer, "2000::/8", 2);
        remove(&mut writer, "::/0");
        reader.join().unwrap();
    });
}

#[test]
fn a_route_that_relieves_the_default_leaves_no_gap() {
    a_route_relieves_the_default();
}

#[test]
#[should_panic(expected = "never right: None")]
fn control_a_route_that_relieves_the_default_without_a_release() {
    weakened(Weakness::Stores, a_route_relieves_the_default);
}

fn a_longer_route_comes_and_goes() {
    check(|| {
        let (table, mut writer) = table(2);
        add(&mut writer, "2000::/8", 1);
        let reader = thread::spawn(move || {
            expect_one_of(&table, &[1, 2]);
        });
        add(&mut writer, "2001::/16", 2);
        remove(&mut writer, "2001::/16");
        reader.join().unwrap();
    });
}

#[test]
fn a_group_that_comes_and_goes_leaves_no_gap() {
    a_longer_route_comes_and_goes();
}

#[test]
#[should_panic(expected = "never right: None")]
fn control_a_group_that_comes_without_a_release() {
    weakened(Weakness::Stores, a_longer_route_comes_and_goes);
}

/// What every worker passes between two poll rounds, when it is asked to.
#[derive(Default)]
struct Barrier {
    /// The change to be passed. Stands for the ring of commands to the worker.
    asked: AtomicU32,
    /// The change that was passed. Stands for the ring of its events.
    passed: AtomicU32,
}

/// The change up to which the writer believes that no reader is behind.
type Quiesced = fn(&Barrier, &RouteWriter) -> u64;

const PASSED: Quiesced = |barrier, _| barrier.passed.load(Ordering::Acquire).into();
const NOT_WAITED_FOR: Quiesced = |_, writer| writer.generation();

/// Two poll rounds of a worker, beside a change and, if it has been passed, another one that uses
/// again what the first took out of use, for a prefix that does not concern the worker.
fn what_is_retired_is_used_again(
    next_hops_max: u32,
    prepare: fn(&mut RouteWriter),
    retire: fn(&mut RouteWriter),
    reuse: &'static str,
    quiesced: Quiesced,
) {
    let used_again = std::sync::Arc::new(AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&used_again);
    check(move || {
        let (table, mut writer) = table(next_hops_max);
        prepare(&mut writer);
        let barrier = Arc::new(Barrier::default());
        let reader = {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                for _round in 0..2 {
                    let asked = barrier.asked.load(Ordering::Acquire);
                    barrier.passed.store(asked, Ordering::Release);
                    expect_one_of(&table, &[1, 2]);
                }
            })
        };
        retire(&mut writer);
        barrier.asked.store(writer.generation() as u32, Ordering::Release);
        writer.quiesced(quiesced(&barrier, &writer));
        if writer.add(reuse.parse().unwrap(), hop(3)).is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
        reader.join().unwrap();
    });
    assert!(used_again.load(Ordering::Relaxed), "in no interleaving");
}

fn a_group_is_used_again(quiesced: Quiesced) {
    let prepare = |writer: &mut RouteWriter| {
        add(writer, "2000::/8", 1);
        add(writer, "2001::/16", 2);
    };
    let retire = |writer: &mut RouteWriter| remove(writer, "2001::/16");
    what_is_retired_is_used_again(3, prepare, retire, "3001::/16", quiesced);
}

#[test]
fn a_group_that_is_used_again_misleads_no_reader_of_its_old_routes() {
    a_group_is_used_again(PASSED);
}

#[test]
#[should_panic(expected = "never right: Some(NextHop { port: PortId(3)")]
fn control_a_group_used_again_without_waiting_for_readers() {
    a_group_is_used_again(NOT_WAITED_FOR);
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_group_used_again_without_an_acquire() {
    weakened(Weakness::Loads, || a_group_is_used_again(PASSED));
}

fn a_next_hop_is_used_again(quiesced: Quiesced) {
    let prepare = |writer: &mut RouteWriter| add(writer, "2000::/8", 1);
    let retire = |writer: &mut RouteWriter| add(writer, "2000::/8", 2);
    what_is_retired_is_used_again(2, prepare, retire, "3000::/8", quiesced);
}

#[test]
fn a_next_hop_that_is_used_again_misleads_no_reader_of_its_old_routes() {
    a_next_hop_is_used_again(PASSED);
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_next_hop_used_again_without_waiting_for_readers() {
    a_next_hop_is_used_again(NOT_WAITED_FOR);
}

#[test]
#[should_panic(expected = "never right")]
fn control_a_next_hop_used_again_without_an_acquire() {
    weakened(Weakness::Loads, || a_next_hop_is_used_again(PASSED));
}
