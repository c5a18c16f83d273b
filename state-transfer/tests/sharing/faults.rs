//! Negative controls: whatever the node does wrong on purpose, the search finds a schedule that
//! shows it.

use std::collections::VecDeque;

use weir_state_transfer::share::{Message, SlotSet};

use crate::explore::explore;
use crate::model::Told;
use crate::scope::{Act, Fault, Kind, Scope, load};
use crate::seen::Violation;

/// Pushes a message into a ring; not as it is, if the node does something wrong.
pub(crate) fn push(
    ring: &mut VecDeque<Told>,
    mut message: Told,
    (fault, repeated): (Option<Fault>, bool),
) {
    match (fault, &mut message) {
        (Some(Fault::RetryExecuted), Message::Operation(operation)) => {
            let mut again = operation.clone();
            again.id.number += 1 << 20;
            ring.push_back(Message::Operation(again));
        }
        (Some(Fault::AnswersSwapped), Message::Answer(answer)) => {
            if let Some(Message::Answer(before)) = ring.back_mut() {
                std::mem::swap(&mut before.outcome, &mut answer.outcome);
            }
        }
        (Some(Fault::NothingOwed), Message::Fence { owed, .. }) => *owed = SlotSet::default(),
        (Some(Fault::FenceEarly), Message::Fence { .. }) => return ring.push_front(message),
        (Some(Fault::PieceDropped), Message::Piece(..)) => return,
        (Some(Fault::NoopUntold | Fault::NoWindow), Message::Passed(_)) => return,
        _ => {}
    }
    if let (true, Message::Operation(_)) = (repeated, &message) {
        ring.push_back(message.clone());
    }
    ring.push_back(message);
}

/// The violation that the search finds first.
fn found(fault: Fault, scope: Scope) -> Violation {
    let failure = explore(Scope { fault: Some(fault), ..scope })
        .map(|report| panic!("{fault:?} was not caught: {report}"))
        .unwrap_err();
    assert!(!failure.schedule.is_empty());
    println!("{fault:?}: {failure}");
    failure.violation
}

/// Two packets at each of two instances that wait, and slot 0 at instance 0.
fn four() -> Scope {
    let wait = |to| load(to, 0, Kind::Wait);
    Scope::small(&[&[wait(0), wait(1)], &[wait(1), wait(1)]]).homes(&[(&[0, 1], [0, 1])])
}

/// The same while instance 2 joins, and takes slot 0.
fn joined() -> Scope {
    let moves: &[(&[u8], [u8; 2])] = &[(&[0, 1], [0, 1]), (&[0, 1, 2], [2, 1])];
    Scope { acts: vec![Act::Change(vec![0, 1, 2])], ..four() }.homes(moves)
}

#[test]
fn a_home_that_executes_a_retry_twice() {
    assert!(matches!(found(Fault::RetryExecuted, four()), Violation::ExecutedTwice(_)));
}

#[test]
fn an_instance_that_uses_a_stale_replica() {
    assert!(matches!(found(Fault::StaleReplica, four()), Violation::NotLinearizable(_)));
}

#[test]
fn an_answer_that_overtakes_another() {
    assert!(matches!(found(Fault::AnswersSwapped, four()), Violation::NotLinearizable(_)));
}

#[test]
fn a_packet_that_overtakes_one_that_waits() {
    let scope = Scope::small(&[&[load(1, 0, Kind::Wait), load(1, 0, Kind::Plain)]]);
    let scope = scope.homes(&[(&[0, 1], [0, 1])]);
    assert!(matches!(found(Fault::Overtakes, scope), Violation::Overtaken(_)));
}

#[test]
fn a_strict_home_without_a_window() {
    // The home is an instance that no packet is steered to: all operations come to it by rings.
    let scope = Scope { members: vec![0, 1, 2], ..four() }.homes(&[(&[0, 1, 2], [2, 1])]);
    assert!(matches!(found(Fault::NoWindow, scope.strict()), Violation::OutOfOrder(_)));
}

#[test]
fn a_strict_home_that_is_not_told_of_packets_without_an_operation() {
    let scope = Scope::small(&[&[load(1, 0, Kind::Plain), load(1, 0, Kind::Wait)]]).strict();
    let scope = scope.homes(&[(&[0, 1], [0, 1])]);
    found(Fault::NoopUntold, scope);
}

#[test]
fn two_homes_of_one_group() {
    found(Fault::TwoHomes, joined());
}

#[test]
fn a_home_that_does_not_wait_for_the_state() {
    found(Fault::NothingOwed, joined());
}

#[test]
fn a_fence_before_the_operations_that_it_fences() {
    // What is asked again of the next home is executed once: at the end there is none.
    let ended = Scope { acts: vec![Act::End], ..four() };
    assert!(matches!(found(Fault::FenceEarly, ended), Violation::ExecutedTwice(_)));
}

#[test]
fn state_that_is_deleted_instead_of_handed_over() {
    found(Fault::PieceDropped, joined());
}
