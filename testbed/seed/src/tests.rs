//! What is printed is given back: tests run themselves again, in processes with other variables.

use std::collections::HashSet;
use std::process::{Command, Output};

use super::*;

/// Says to a process that it is one of a test that is run again.
const AGAIN: &str = "WEIR_AGAIN";

fn is_again() -> bool {
    env::var_os(AGAIN).is_some()
}

/// Runs the test of this name again, with these variables and no others of ours.
fn again(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &format!("tests::{test}")]).env(AGAIN, "");
    command.env_remove(SEED).env_remove(SCHEDULES).envs(variables.iter().copied());
    command.output().unwrap()
}

/// What a process has printed in lines that begin with this, which there must be.
fn lines(output: &Output, begin: &str) -> Vec<String> {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(begin));
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty(), "no line begins with {begin}: {text}");
    lines
}

/// Prints some random numbers, from what two ask for.
fn draw() {
    let (mut one, mut other) = (rng(), rng());
    eprintln!("drawn {} {} {}", one.u64(..), one.u64(..), other.u64(..));
}

/// Runs schedules, of which each tenth fails.
fn run_schedules() {
    each(schedules(100), |seed| {
        eprintln!("runs {seed}");
        assert_ne!(seed % 10, 7);
    });
}

#[test]
fn the_seed_that_is_printed_gives_the_same_run() {
    if is_again() {
        return draw();
    }
    let run = |variables: &[_]| again("the_seed_that_is_printed_gives_the_same_run", variables);
    let first = run(&[]);
    let printed = lines(&first, "WEIR_SEED=");
    assert!(printed.len() == 2 && printed[0] == printed[1], "{printed:?}");
    assert!(printed[0].parse::<u64>().unwrap() < DRAWN_END);
    let repeated = run(&[(SEED, &printed[0])]);
    assert_eq!(lines(&repeated, "WEIR_SEED="), printed);
    assert_eq!(lines(&repeated, "drawn "), lines(&first, "drawn "));
}

#[test]
fn each_process_draws_another() {
    if is_again() {
        return draw();
    }
    let drawn = (0..4).map(|_| lines(&again("each_process_draws_another", &[]), "drawn ").concat());
    assert_eq!(drawn.collect::<HashSet<_>>().len(), 4);
}

#[test]
fn a_test_draws_the_same_however_often_it_asks() {
    let [one, other] = [rng(), rng()].map(|mut rng| [rng.u64(..), rng.u64(..)]);
    assert_eq!(one, other);
    assert_ne!(one[0], one[1]);
    assert_ne!(any(), any());
}

#[test]
fn the_schedule_that_fails_is_told_and_repeated_alone() {
    if is_again() {
        return run_schedules();
    }
    let run =
        |variables: &[_]| again("the_schedule_that_fails_is_told_and_repeated_alone", variables);
    let failed = run(&[]);
    assert!(!failed.status.success());
    let told = lines(&failed, "repeat it with WEIR_SEED=");
    assert_eq!(lines(&failed, "runs ").last(), told.first());
    let repeated = run(&[(SEED, &told[0]), (SCHEDULES, "30")]);
    assert!(!repeated.status.success());
    assert_eq!(lines(&repeated, "runs "), told);
}

#[test]
fn as_many_schedules_run_as_are_asked_for() {
    if is_again() {
        return each(schedules(100), |seed| eprintln!("runs {seed}"));
    }
    let run = |variables: &[_]| again("as_many_schedules_run_as_are_asked_for", variables);
    let ran = |variables: &[_]| lines(&run(variables), "runs ").into_iter().collect::<HashSet<_>>();
    assert_eq!(ran(&[]).len(), 100);
    assert_eq!(ran(&[(SCHEDULES, "7")]).len(), 7);
    assert_eq!(ran(&[(SCHEDULES, "7"), (SEED, "3")]), HashSet::from(["3".to_owned()]));
}

#[test]
fn what_is_no_number_is_refused_with_what_it_is() {
    if is_again() {
        return run_schedules();
    }
    for (variable, value) in [(SEED, "seven"), (SEED, ""), (SEED, "-1"), (SCHEDULES, "1e3")] {
        let run = again("what_is_no_number_is_refused_with_what_it_is", &[(variable, value)]);
        assert!(!run.status.success(), "{variable}={value}");
        let text = String::from_utf8_lossy(&run.stderr);
        assert!(text.contains(&format!("{variable}={value} is not a number")), "{text}");
    }
}
