//! What the source answers of what it was to delete, and which flows that are in use are told.

use super::{
    tests::{failure, flow},
    *,
};

#[test]
fn what_the_source_has_answered_for_is_not_asked_for_again_and_is_replaced_until_that_is_done() {
    let scopes = [Scope::PerFlow].into();
    let mut steps = Steps::new(StateFilter::default(), &scopes);
    steps.there(Scope::PerFlow, &flow(2), vec![7]).unwrap();
    steps.done();
    for number in 1..=3 {
        assert_eq!(steps.carry(Scope::PerFlow, &flow(number), 1), Ok(Carry::Put));
    }
    steps.done();
    // Flow 4 it was not asked for.
    steps.deleted(Scope::PerFlow, &[flow(1), flow(2)], (1, &[flow(2), flow(4)]));
    // It is tried again. By then the source may have flow 2 idle, and another in the place of flow 1.
    steps.failed(failure("the destination does not answer"));
    assert_eq!(steps.task(), Some(Task::Delete(Scope::PerFlow)));
    assert_eq!(steps.carried(Scope::PerFlow), [flow(3)]);
    assert_eq!((steps.finishing(), steps.to_replace()), (&[flow(2)][..], vec![vec![7]]));
    assert!(!steps.is_cleared());
    steps.cleared(0);
    assert!(steps.is_cleared() && steps.failure().is_none());
    steps.replaced();
    assert!(steps.finishing().is_empty() && steps.to_replace().is_empty());
    steps.done();
    assert_eq!(steps.ended(), (State::Done, None));
}

#[test]
fn a_deletion_that_fails_for_good_says_what_may_be_where() {
    let scopes = [Scope::PerFlow].into();
    let ended = |answered: &[FlowId], in_use: &[FlowId]| {
        let mut steps = Steps::new(StateFilter::default(), &scopes);
        steps.done();
        for number in 1..=2 {
            steps.carry(Scope::PerFlow, &flow(number), 1).unwrap();
        }
        steps.done();
        steps.deleted(Scope::PerFlow, answered, (in_use.len() as u64, in_use));
        (0..TRIES).for_each(|_| steps.failed(failure("nobody answers")));
        let (state, why) = steps.ended();
        assert_eq!(state, State::Failed);
        let said = why.unwrap().reason;
        ["did not delete it", "1 flows were in use"].map(|what| said.contains(what))
    };
    let both = [flow(1), flow(2)];
    assert_eq!(ended(&[], &[]), [true, false]);
    assert_eq!(ended(&both[..1], &both[..1]), [true, true]);
    assert_eq!(ended(&both, &both[..1]), [false, true]);
}

#[test]
fn flows_that_the_destination_has_in_use_too_are_told_once() {
    let scopes = [Scope::PerFlow].into();
    let mut steps = Steps::new(StateFilter::default(), &scopes);
    steps.done();
    steps.carry(Scope::PerFlow, &flow(1), 1).unwrap();
    steps.done();
    steps.deleted(Scope::PerFlow, &[flow(1)], (1, &[flow(1)]));
    // It is not held to what it was asked for.
    steps.cleared(u64::MAX);
    steps.cleared(1);
    steps.replaced();
    steps.done();
    let (state, why) = steps.ended();
    let said = why.unwrap().reason;
    assert_eq!((state, said.matches("1 flows were in use").count()), (State::Failed, 1), "{said}");
}

#[test]
fn flows_in_use_that_the_source_does_not_name_are_told() {
    let scopes = [Scope::PerFlow].into();
    for (counted, told) in [(1, None), (2, Some("1 flows")), (u64::MAX, Some("2 flows"))] {
        let mut steps = Steps::new(StateFilter::default(), &scopes);
        let asked = [flow(1), flow(2), flow(3)];
        steps.deleted(Scope::PerFlow, &asked, (counted, &asked[..1]));
        let said = steps.failure().map(|why| why.reason.clone());
        assert_eq!(said.is_some(), told.is_some(), "{said:?}");
        assert!(told.is_none_or(|told| said.as_ref().unwrap().starts_with(told)), "{said:?}");
    }
}

#[test]
fn a_number_of_flows_within_another_is_told_too() {
    let scopes = [Scope::PerFlow].into();
    let mut steps = Steps::new(StateFilter::default(), &scopes);
    let asked = |numbers: std::ops::Range<u8>| numbers.map(flow).collect::<Vec<_>>();
    steps.deleted(Scope::PerFlow, &asked(0..20), (11, &[]));
    steps.deleted(Scope::PerFlow, &asked(20..40), (1, &[]));
    let said = &steps.failure().unwrap().reason;
    let told = |what: &str| said.split("; ").filter(|said| said.starts_with(what)).count();
    assert_eq!((told("11 flows were"), told("1 flows were")), (1, 1), "{said}");
}
