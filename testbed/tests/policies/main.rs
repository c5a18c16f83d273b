//! Policy routes of the shipped node, workers and rings over memory ports: by hand, and in random
//! schedules in which packets are held, released and led elsewhere behind slow network functions, as
//! echoes and workers say that all is processed.
//!
//! `WEIR_SCHEDULES` says how many (300 unless set), `WEIR_SEED` repeats one.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic and tell")]

mod by_hand;
mod controller;
mod function;
mod probes;
mod refusals;
mod relays;
mod release;
mod sink;
mod world;

use weir_testbed::schedule::{self, Failure, Kind, must_notice, mute_panics, walk};

use controller::Care;
use world::{Summary, World};

fn run(seed: u64, care: Care) -> Result<Summary, Failure> {
    walk(|| World::new(seed, care).run())
}

#[test]
fn what_is_led_elsewhere_behind_a_hold_is_neither_lost_nor_doubled_nor_reordered() {
    mute_panics();
    let total = schedule::all(weir_seed::schedules(300), |seed| run(seed, Care::Full));
    let total = total.unwrap_or_else(|seed| {
        let failure = run(seed, Care::Full).expect_err("it has failed before");
        panic!("WEIR_SEED={seed}: {failure}");
    });
    println!("{total:?}");
    if weir_seed::given().is_some() {
        return;
    }
    assert!(total.led > 100 && total.held > 1_000 && total.overflow > 20, "{total:?}");
    assert!(total.surely > 1_000 && total.outages > 50 && total.excused > 20, "{total:?}");
    assert!(total.parked > 20, "no packet waited for a next hop: {total:?}");
}

#[test]
fn notices_that_nothing_is_held() {
    must_notice(Care::NoHold, &[Kind::Reordered], |seed| run(seed, Care::NoHold));
}

#[test]
fn notices_a_release_before_what_was_sent_is_processed() {
    must_notice(Care::NoWait, &[Kind::Reordered], |seed| run(seed, Care::NoWait));
}

#[test]
fn notices_a_release_before_what_came_of_it_is_processed() {
    must_notice(Care::OnlyAnswers, &[Kind::Reordered], |seed| run(seed, Care::OnlyAnswers));
}

#[test]
fn notices_workers_that_say_too_early_that_they_have_caught_up() {
    let kinds = [Kind::Early, Kind::Reordered];
    must_notice(Care::EarlyMarkers, &kinds, |seed| run(seed, Care::EarlyMarkers));
}
