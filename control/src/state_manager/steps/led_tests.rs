//! Moves that lead packets, in a world of numbered packets: tasks fail before and after their effect,
//! sidecars are killed at every task, data planes are started again, and holds are over.

mod world;

use std::collections::BTreeMap;

use super::tests::{failure, flow};
use super::*;
use world::{Flaw, World, filter, scopes};

/// Runs until something is wrong; what, and how all have ended.
fn runs(count: u32, flaw: Flaw) -> (Option<String>, BTreeMap<String, u32>) {
    let mut rng = weir_seed::rng();
    let mut ends = BTreeMap::<String, u32>::new();
    for number in 0..count {
        let mut world = World::new(&mut rng, flaw);
        world.run();
        if let Some(wrong) = world.judge() {
            return (Some(format!("run {number}: {wrong}")), ends);
        }
        let state = world.answer.as_ref().map(|(state, _)| *state);
        *ends.entry(format!("{state:?}")).or_default() += 1;
    }
    (None, ends)
}

#[test]
fn whatever_fails_or_dies_a_move_that_leads_packets_keeps_what_it_promises_or_says_that_it_did_not()
{
    let (wrong, ends) = runs(40_000, Flaw::None);
    assert_eq!(wrong, None);
    eprintln!("{ends:?}");
    let all = ["Some(Done)", "Some(Undone)", "Some(Failed)", "None"];
    assert!(all.iter().all(|end| ends[*end] > 100), "{ends:?}");
}

#[test]
fn the_judge_of_moves_that_lead_packets_sees_what_is_done_wrong() {
    use Flaw::{Amnesic, Blind, Boastful, Careless, Deaf, Early, Forgetful, Hasty, Trusting};
    for flaw in [Blind, Careless, Hasty, Early, Forgetful, Trusting, Amnesic, Boastful, Deaf] {
        let (wrong, _) = runs(40_000, flaw);
        eprintln!("{flaw:?}: {wrong:?}");
        assert!(wrong.is_some(), "{flaw:?}");
    }
}

#[test]
fn what_has_to_be_done_is_tried_again_after_waits_that_have_a_bound() {
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Hold, Vec::new());
    let mut waits = Vec::new();
    for _ in 0..100 {
        assert_eq!(steps.task(), Some(Task::GoBack));
        steps.failed(failure("nobody answers"));
        waits.push(steps.wait().unwrap());
    }
    assert!(waits.is_sorted() && waits[0] == WAIT_FIRST && waits[99] == WAIT_MAX, "{waits:?}");
    steps.done();
    steps.failed(failure("the disk is full"));
    assert_eq!((steps.task(), steps.wait()), (Some(Task::Close), Some(WAIT_FIRST)));
    steps.done();
    assert_eq!(steps.ended().0, State::Undone);
}

#[test]
fn a_data_plane_that_is_waited_for_costs_no_try() {
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Led, Vec::new());
    for task in [Task::Lead, Task::Note(LeadStep::Led)] {
        assert_eq!(steps.task(), Some(task));
        steps.done();
    }
    for _ in 0..10 {
        assert_eq!(steps.task(), Some(Task::Recognise));
        steps.failed(Failure::new(FailureKind::Dataplane, "it is not there"));
    }
    assert_eq!(steps.wait(), Some(WAIT_MAX));
    for _ in 1..TRIES {
        steps.failed(failure("it is late"));
        assert_eq!(steps.task(), Some(Task::Recognise));
    }
    steps.failed(failure("it is late"));
    assert_eq!((steps.task(), steps.ended().0), (Some(Task::Close), State::Failed));
}

#[test]
fn an_id_of_which_any_piece_has_come_since_is_not_deleted() {
    let pieces = [(1, 5), (1, 6), (2, 7), (2, 8)];
    let piece = |(number, version)| Piece { scope: Scope::PerFlow, id: flow(number), version };
    let moved = pieces.map(piece).to_vec();
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Lead, moved);
    for (number, version) in [(1, 6), (1, 5), (2, 7), (2, 9), (2, 8), (3, 1)] {
        steps.carry(Scope::PerFlow, &flow(number), version).unwrap();
    }
    assert_eq!(steps.carried(Scope::PerFlow), [flow(1)]);
    assert_eq!(steps.left_behind().listed, [flow(2)]);
}

/// A move whose packets are led, taken up at the deletion: done up to the task that sees once more that
/// the destination is the same.
fn seen() -> Steps {
    let moved = (1..=3).map(|number| Piece { scope: Scope::PerFlow, id: flow(number), version: 1 });
    let mut steps = Steps::taken_up(filter(), &scopes(), LeadStep::Led, moved.collect::<Vec<_>>());
    use Task::{Lead, List, Note, Recognise, Settle};
    for task in [Lead, Note(LeadStep::Led), Recognise, Settle, List(Scope::PerFlow)] {
        assert_eq!(steps.task(), Some(task));
        if task == Recognise {
            // All of it is to be seen yet.
            steps.compares();
        }
        if task == List(Scope::PerFlow) {
            steps.lists(Scope::PerFlow);
            steps.carry(Scope::PerFlow, &flow(1), 1).unwrap();
        }
        steps.done();
    }
    assert_eq!(steps.task(), Some(Recognise));
    steps
}

#[test]
fn what_was_seen_before_packets_were_led_again_is_seen_once_more() {
    let mut steps = seen();
    steps.compares();
    steps.done();
    let scope = Scope::PerFlow;
    for task in [Task::Settle, Task::List(scope), Task::Recognise, Task::Delete(scope), Task::Close]
    {
        assert_eq!(steps.task(), Some(task));
        steps.done();
    }
    assert_eq!(steps.ended().0, State::Done);
}

#[test]
fn flows_that_are_in_use_as_the_source_is_looked_at_are_told_if_they_have_moved() {
    for (passed_over, both) in [(0, None), (1, Some("1 flows")), (u64::MAX, Some("2 flows"))] {
        let mut steps = seen();
        steps.passed_over(Scope::PerFlow, passed_over);
        let said = steps.failure().map(|why| why.reason.clone());
        let is_told = said.as_ref().map(|why| both.is_some_and(|both| why.starts_with(both)));
        assert_eq!(is_told, both.map(|_| true), "{said:?}");
        assert_eq!(steps.carried(Scope::PerFlow), [flow(1)]);
    }
}
