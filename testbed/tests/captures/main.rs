//! Real captures through one instance, and through 1 -> 4 -> 1 instances with moves in the middle
//! of the traffic: byte by byte the same, and the same as a router of a few lines would give.
//!
//! The captures are in ../shared/data/traces of the repository; where they are absent the small
//! one that this test makes stands alone.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod all_fields;
mod bad_input;
mod cycle;
mod fixture;
mod naive;
mod replay;
mod source;

use std::time::Duration;

use weir_dataplane::nf::{ChainConfig, FunctionConfig, Timestamp, assets, ids};

use naive::Expected;
use replay::{Outcome, Replay};

/// Captures are repeated until they have so many packets, so that moves meet traffic.
const PACKETS_MIN: usize = 4_000;

/// Replays frames through one instance and through cycles of four, with network functions: what
/// happened in the moves.
fn compare(name: &str, frames: &[Vec<u8>], seed: u64) -> Moved {
    let frames = frames.iter().cycle().take(frames.len().max(repeated(frames.len())));
    let frames: Vec<_> = frames.cloned().collect();
    let expected = Expected::of(&frames);
    assert!(!expected.forwarded.is_empty(), "{name}: a router forwards none of it");

    let functions = functions();
    let mut replay = Replay::new(&frames, &functions, seed);
    replay.until("all frames", Replay::is_fed);
    let one = replay.finish();

    let mut replay = Replay::new(&frames, &functions, seed);
    let mut moved = Moved::default();
    while !replay.is_fed() {
        moved.add(cycle::run(&mut replay));
    }
    let many = replay.finish();

    assert_eq!(one.difference(&many), None, "{name}: one instance and many (seed {seed})");
    assert_eq!(one.difference_to(&expected), None, "{name}: against the model (seed {seed})");
    assert_eq!(one.log_difference(&many), None, "{name}: logs of one and many (seed {seed})");
    assert!(!one.logged.is_empty(), "{name}: nothing is logged");
    moved
}

/// Logs of connections that do not end by themselves, and of hosts.
fn functions() -> ChainConfig {
    let ids = ids::Config { timeouts: patient(), ..ids::Config::default() };
    let assets = FunctionConfig::Assets(assets::Config::default());
    ChainConfig::new(vec![FunctionConfig::Ids(ids), assets], Timestamp(0)).unwrap()
}

/// Times that no test waits for.
fn patient() -> ids::Timeouts {
    let hour = Duration::from_hours(1);
    ids::Timeouts { attempt: hour, tcp: hour, closed: hour, reset: hour, udp: hour, other: hour }
}

/// What the moves of all cycles did together.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    cycles: u64,
    flows: u64,
    packets_during: u64,
    held: u64,
}

impl Moved {
    fn add(&mut self, other: Self) {
        self.cycles += other.cycles;
        self.flows += other.flows;
        self.packets_during += other.packets_during;
        self.held += other.held;
    }
}

fn repeated(frames: usize) -> usize {
    PACKETS_MIN.div_ceil(frames.max(1)) * frames
}

#[test]
fn our_own_capture_comes_out_the_same_through_one_instance_and_through_many() {
    let seed = weir_seed::seed();
    let frames = fixture::frames();
    let moved = compare("fixture", &source::readdressed(&frames), seed);
    println!("{moved:?}");
    assert!(moved.cycles > 0 && moved.flows > 0 && moved.packets_during > 0);
}

#[test]
fn captures_come_out_the_same_through_one_instance_and_through_many() {
    let seed = weir_seed::seed();
    let Some(captures) = source::captures() else {
        println!("data test skipped: captures: ../shared/data/traces is absent");
        return;
    };
    let mut flows_moved = 0;
    for capture in captures {
        let moved = compare(&capture.name, &capture.frames, seed);
        let Moved { cycles, flows, packets_during, held } = moved;
        assert!(packets_during > 0, "{}: no move met traffic", capture.name);
        flows_moved += flows;
        println!(
            "data test ran: captures: {}: {} packets, {} too long for a port; {cycles} cycles, \
             {flows} flows moved, {packets_during} packets in the moves, {held} held",
            capture.name,
            capture.frames.len(),
            capture.too_long,
        );
    }
    // A capture of one flow may have it in a bucket that stays.
    assert!(flows_moved > 0, "no flow was moved");
}

/// The comparison itself: each kind of fault shows.
#[test]
fn a_lost_a_swapped_and_a_changed_packet_and_a_wrong_state_are_each_noticed() {
    let frames = source::readdressed(&fixture::frames());
    let mut replay = Replay::new(&frames, &functions(), 1);
    replay.until("all frames", Replay::is_fed);
    let whole = replay.finish();
    assert_eq!(whole.difference_to(&Expected::of(&frames)), None);
    let notices = |fault: fn(&mut Outcome)| {
        let mut faulty = whole.clone();
        fault(&mut faulty);
        whole.difference(&faulty).is_some()
            && faulty.difference_to(&Expected::of(&frames)).is_some()
    };
    assert!(notices(|faulty| drop(longest(faulty).pop())));
    assert!(notices(|faulty| longest(faulty).swap(0, 1)));
    assert!(notices(|faulty| longest(faulty)[0][40] ^= 1));
    assert!(notices(|faulty| faulty.states.values_mut().next().unwrap().digest ^= 1));
    assert!(notices(|faulty| *faulty.refused.values_mut().next().unwrap() += 1));
    let mut faulty = whole.clone();
    let line = faulty.logged.pop().unwrap();
    assert!(whole.log_difference(&faulty).is_some());
    faulty.logged.push(line.replacen('\t', "\t ", 1));
    assert!(whole.log_difference(&faulty).is_some());
}

fn longest(outcome: &mut Outcome) -> &mut Vec<Vec<u8>> {
    outcome.forwarded.values_mut().max_by_key(|packets| packets.len()).unwrap()
}
