//! The hold of a move at its bound: what is beyond is dropped and counted to the packet, and who can
//! wait loses nothing.

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::FIRST;
use weir_state_transfer::Selection;

use super::{DESTINATION, OUT, SOURCE, inject, node_of, phase, rest, start, start_any, step, take};
use crate::memory_node::{MemoryNode, Plan};

/// Packets that an end of a move may hold.
const HOLD: usize = 16;
/// Turns, most of them of others, in which a move ends.
const TURNS_MAX: u32 = 1_000_000;

fn plan() -> Plan {
    let mut plan = Plan { port_ring: 1024, frames: 16_384, ..Plan::default() };
    plan.limits.hold = HOLD;
    plan
}

fn drops(node: &MemoryNode) -> Vec<(String, u64)> {
    let counters = node.node.counters();
    assert_eq!(counters.balance.unwrap().unaccounted, 0);
    counters.drops.into_iter().map(|drop| (drop.reason, drop.packets)).collect()
}

#[test]
fn a_hold_of_16_packets_takes_16_and_every_further_one_is_dropped_and_counted() {
    for come in [7, 8, 9, 15, 16, 17, 100, 200] {
        let (mut node, destinations) = node_of(&plan(), 1, DESTINATION);
        inject(&mut node, 0, 1000, 0);
        step(&mut node, 5);
        let id = start(&mut node, destinations[0], "0-4095");
        step(&mut node, 20);
        assert_eq!(phase(&node, id), api::MovePhase::Draining, "a packet lies on the wire");
        // The source's worker has no turn, so that nothing is released and nothing is undone.
        for payload in 1..=come {
            inject(&mut node, 1, 1000, payload);
            node.step_worker(DESTINATION);
        }
        (0..20).for_each(|_| _ = node.step_worker(DESTINATION));
        let held = usize::from(come).min(HOLD);
        assert_eq!(node.node.counters().balance.unwrap().held, held as u64, "of {come}");

        let out = rest(&mut node);
        assert_eq!(out, Vec::from_iter(0..=held as u8), "of {come}: the first, in their order");
        let shown = node.node.show_move(id).unwrap();
        let undone = held > HOLD / 2;
        let ended = if undone { api::MovePhase::Undone } else { api::MovePhase::Done };
        assert_eq!((shown.phase(), shown.held_max), (ended, held as u64), "of {come}: {shown:?}");
        let lost = usize::from(come) - held;
        assert_eq!(shown.hold_full_drops, lost as u64);
        let counted = Vec::from_iter((lost > 0).then(|| ("hold_full".to_owned(), lost as u64)));
        assert_eq!(drops(&node), counted, "of {come}");
        // The flow goes on where it is.
        inject(&mut node, 0, 1000, 255);
        assert_eq!(rest(&mut node), [255]);
    }
}

#[test]
fn who_sends_no_more_than_a_hold_takes_before_it_has_left_loses_nothing() {
    let mut rng = weir_seed::rng();
    let (mut node, destinations) = node_of(&plan(), 1, DESTINATION);
    let (mut undone, mut done) = (0, 0);
    let (mut sent, mut left) = (0_usize, 0_usize);
    let mut ways = [(FIRST, destinations[0]), (destinations[0], FIRST)];
    for _ in 0..300 {
        let everything = Selection::Buckets("0-4095".parse().unwrap());
        let id = start_any(&mut node, ways[0].0, ways[0].1, everything);
        // The slower end has few turns in some of them.
        let slow = rng.u8(1..40);
        for turn in 0.. {
            if node.node.show_move(id).unwrap().ended_ns > 0 {
                break;
            }
            assert!(turn < TURNS_MAX, "{:?}", node.node.show_move(id));
            match rng.u8(..8) {
                0 => node.step_node(),
                1 | 2 => _ = node.step_worker(DESTINATION),
                3 if rng.u8(..slow) == 0 => _ = node.step_worker(SOURCE),
                4..7 if sent - left < HOLD => {
                    inject(&mut node, 1, 1000, sent as u8);
                    sent += 1;
                }
                _ => {
                    while let Some(payload) = (0..2).find_map(|queue| take(&mut node, queue)) {
                        assert_eq!(payload, left as u8, "in order");
                        left += 1;
                    }
                }
            }
        }
        match phase(&node, id) {
            api::MovePhase::Done => (ways, done) = ([ways[1], ways[0]], done + 1),
            _ => undone += 1,
        }
    }
    for payload in rest(&mut node) {
        assert_eq!(payload, left as u8);
        left += 1;
    }
    println!("{done} done, {undone} undone, {sent} packets");
    assert_eq!((left, drops(&node)), (sent, Vec::new()));
    assert!(done > 0 && undone > 0, "{done} and {undone}");
    assert!(node.take(OUT, 0).is_none() && node.take(OUT, 1).is_none());
}
