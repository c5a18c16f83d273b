//! Random schedules of the shipped node, workers and rings over memory ports, beside a naive
//! reference; and broken protocols that the same schedules must notice.
//!
//! `WEIR_SCHEDULES` says how many (10,000 unless set), `WEIR_SEED` repeats one.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a test prints its seed and what it did")]

mod action;
mod by_hand;
mod faults;
mod judge;
mod reference;
mod selection;
mod shape;
mod world;

use weir_testbed::memory_node;
use weir_testbed::schedule::{self, Failure, Kind, mute_panics, walk};

use action::Action;
use faults::Fault;
use judge::Summary;
use shape::Shape;
use world::World;

/// Schedules that found a defect once, as long as the walk stays as it is: a next hop asked for
/// while its port changes hands; a move, and a second change of the workers, while a worker
/// leaves; an answer for a source whose move was undone meanwhile.
const REGRESSIONS: [u64; 6] = [37, 110, 147, 219, 223, 374];

/// Runs one schedule; what happened until it failed is in `log`.
fn run(seed: u64, fault: Option<Fault>, log: &mut Vec<Action>) -> Result<Summary, Failure> {
    walk(|| {
        let (mut world, mut rng) = World::new(seed, fault)?;
        for _ in 0..world.shape.steps {
            let action = action::choose(&world, &mut rng);
            log.push(action.clone());
            world.apply(&action)?;
        }
        world.finish()
    })
}

/// Runs a schedule that must not fail.
fn must_hold(seed: u64, fault: Option<Fault>) -> Summary {
    let mut log = Vec::new();
    run(seed, fault, &mut log).unwrap_or_else(|failure| {
        for (n, action) in log.iter().enumerate() {
            println!("{n:4} {action:?}");
        }
        println!("{:?}", Shape::new(&mut fastrand::Rng::with_seed(seed), seed));
        panic!("WEIR_SEED={seed}: after {} actions: {failure}", log.len());
    })
}

/// Runs schedules with these seeds; the first that fails is repeated to be shown.
fn must_all_hold(seeds: std::ops::Range<u64>, fault: Option<Fault>) -> Summary {
    let total = schedule::all(seeds, |seed| run(seed, fault, &mut Vec::new()));
    total.unwrap_or_else(|seed| must_hold(seed, fault))
}

#[test]
fn random_schedules_lose_duplicate_and_reorder_nothing() {
    mute_panics();
    let total = must_all_hold(weir_seed::schedules(10_000), None);
    println!("{total:?}");
    if weir_seed::given().is_some() {
        return;
    }
    let count = total.schedules;
    // What the schedules are for does happen in them.
    assert!(total.done > count && total.undone > count / 10 && total.held > count);
    assert!(total.unresolved > count / 10);
    assert!(total.in_transit > count / 10 && total.reordered > count / 100);
    assert!(total.multi_flow > count / 10);
}

#[test]
fn schedules_that_found_a_defect_hold() {
    mute_panics();
    for seed in REGRESSIONS {
        must_hold(seed, None);
    }
}

#[test]
fn splices_without_a_fault_change_nothing() {
    mute_panics();
    must_all_hold(0..200, Some(Fault::None));
}

/// The fault is noticed within some schedules, as one of these kinds.
#[track_caller]
fn is_noticed(fault: Fault, kinds: &[Kind]) {
    schedule::must_notice(fault, kinds, |seed| run(seed, Some(fault), &mut Vec::new()));
}

#[test]
fn notices_that_nothing_is_held() {
    is_noticed(Fault::NoHold, &[Kind::Reordered, Kind::State, Kind::Stray, Kind::Owner]);
}

#[test]
fn notices_a_marker_one_packet_early() {
    is_noticed(Fault::MarkerEarly, &[Kind::Reordered, Kind::State, Kind::Stray]);
}

#[test]
fn notices_an_export_before_the_last_marker() {
    is_noticed(Fault::MarkerForged, &[Kind::Reordered, Kind::State, Kind::Stray, Kind::Owner]);
}

#[test]
fn notices_a_destination_that_transmits_before_the_source_has_drained() {
    is_noticed(Fault::CompletedEarly, &[Kind::Reordered]);
}

#[test]
fn notices_a_hold_released_out_of_order() {
    is_noticed(Fault::ReleasedOutOfOrder, &[Kind::Reordered]);
}

#[test]
fn notices_state_that_is_deleted_instead_of_moved() {
    is_noticed(Fault::Deleted, &[Kind::State]);
}

#[test]
fn notices_what_network_functions_know_left_behind() {
    is_noticed(Fault::StatesForgotten, &[Kind::State]);
}

#[test]
fn notices_ports_that_do_not_keep_a_flow_in_its_bucket() {
    // The answer to a stranger leaves in the place of what came back.
    is_noticed(Fault::PortsAstray, &[Kind::Dropped, Kind::Corrupted, Kind::Collided]);
}

#[test]
fn notices_a_packet_counted_twice() {
    is_noticed(Fault::CountedTwice, &[Kind::State]);
}

#[test]
fn notices_an_end_before_the_last_piece() {
    is_noticed(Fault::EndEarly, &[Kind::State, Kind::Stray, Kind::Owner, Kind::Stuck]);
}

#[test]
fn notices_a_packet_that_waits_for_its_next_hop_behind_its_state() {
    is_noticed(Fault::ParkedLate, &[Kind::Reordered]);
}

#[test]
fn notices_state_of_several_flows_left_behind() {
    is_noticed(Fault::MultiFlowForgotten, &[Kind::State]);
}

#[test]
fn notices_a_move_that_keeps_no_order() {
    is_noticed(Fault::OnlyLossFree, &[Kind::Reordered]);
}

#[test]
fn notices_a_move_that_promises_nothing() {
    is_noticed(Fault::NoGuarantee, &[Kind::Dropped, Kind::Reordered]);
}
