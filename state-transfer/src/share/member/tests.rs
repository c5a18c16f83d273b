//! Ends of shares by hand: what must not grow, and what must not be lost.

use super::*;
use crate::id::WorkerId;
use crate::share::SlotSet;
use crate::share::done::Done;
use crate::share::message::{Lane, Ledger, Operation, OperationId};
use crate::share::order::Windows;
use crate::southbound::Cursor;

/// Knows nothing, and answers nothing.
struct Empty;

impl Store for Empty {
    type Op = ();
    type Answer = ();
    type Piece = ();

    fn execute(&mut self, _: Slot, (): &(), _: Nanos) {}

    fn occupied(&self) -> SlotSet {
        SlotSet::default()
    }

    fn copy(&self, _: Slot, _: &mut Cursor) -> Option<()> {
        None
    }

    fn join(&mut self, _: Slot, (): (), _: Option<InstanceId>, _: Nanos) {}

    fn remove(&mut self, _: Slot) {}
}

type End = Member<(), (), (), u64>;

const ONE: InstanceId = InstanceId(1);
const TWO: InstanceId = InstanceId(2);

fn end(me: InstanceId, mode: Mode) -> End {
    Member::new(me, mode, Limits { slots: 4, ..Limits::default() })
}

fn view(number: u64, members: &[InstanceId]) -> View {
    View::new(number, members, &[], (4, 7))
}

/// Passes on all that two ends have to say to each other.
fn exchange(one: &mut End, two: &mut End, now: Nanos) {
    loop {
        let mut quiet = true;
        while let Some((to, message)) = one.poll_output() {
            assert_eq!(to, TWO);
            two.message(ONE, message, &mut Empty, now);
            quiet = false;
        }
        while let Some((to, message)) = two.poll_output() {
            assert_eq!(to, ONE);
            one.message(TWO, message, &mut Empty, now);
            quiet = false;
        }
        if quiet {
            return;
        }
        one.step(100, &mut Empty, now);
        two.step(100, &mut Empty, now);
    }
}

#[test]
fn who_hears_of_no_view_while_many_instances_fail_settles_when_it_does() {
    let (mut one, mut two) = (end(ONE, Mode::Strong), end(TWO, Mode::Strong));
    let others: Vec<_> = (3..=40).map(InstanceId).collect();
    let views: Vec<_> = (0..=others.len())
        .map(|failed| {
            let members = [&[ONE, TWO], &others[failed..]].concat();
            view(1 + failed as u64, &members)
        })
        .collect();
    for view in views.clone() {
        two.adopt(view, &mut Empty, Nanos(1));
        while let Some((to, message)) = two.poll_output() {
            if to == ONE {
                one.message(TWO, message, &mut Empty, Nanos(1));
            }
        }
    }
    for view in views {
        one.adopt(view, &mut Empty, Nanos(1));
        while let Some((to, message)) = one.poll_output() {
            if to == TWO {
                two.message(ONE, message, &mut Empty, Nanos(1));
            }
        }
    }
    exchange(&mut one, &mut two, Nanos(1));
    assert_eq!((one.poll_settled(), two.poll_settled()), (Some(39), Some(39)));
}

#[test]
fn a_window_that_is_blocked_time_and_again_is_watched_once() {
    let (mut one, mut two) = (end(ONE, Mode::Strict), end(TWO, Mode::Strict));
    for end in [&mut one, &mut two] {
        end.adopt(view(1, &[ONE, TWO]), &mut Empty, Nanos(1));
    }
    exchange(&mut one, &mut two, Nanos(1));
    let home = (0..4).map(Slot).find(|slot| one.home(*slot) == ONE).unwrap();
    let asks = |end: &mut End, place: u64| {
        let arrival = Arrival::new(home, WorkerId(0), Some(place), place);
        assert_eq!(end.packet(Need::Answer(()), arrival, &mut Empty, Nanos(2)), Turn::Kept);
    };
    for place in 0..1_000 {
        // What came first is at the other instance, and comes to the home last.
        asks(&mut one, 2 * place + 1);
        asks(&mut two, 2 * place);
        exchange(&mut one, &mut two, Nanos(2));
        for end in [&mut one, &mut two] {
            assert!(matches!(end.next(&mut Empty, Nanos(2)), Some(Next::Answered(..))));
        }
    }
    assert_eq!(one.home.watched(), 1);
}

#[test]
fn what_is_asked_for_again_waits_for_a_slot_once_by_the_earlier_view() {
    let mut one = end(ONE, Mode::Strong);
    one.adopt(view(2, &[ONE, TWO]), &mut Empty, Nanos(1));
    let slot = (0..4).map(Slot).find(|slot| one.home(*slot) == ONE).unwrap();
    let asked = |number, view| {
        let (id, lane) = (OperationId { instance: TWO, number }, Lane { slot, steerer: None });
        Operation { id, floor: 1, view, lane, slot, stamp: None, follows: None, op: () }
    };
    for operation in [asked(1, 2), asked(1, 1), asked(2, 1), asked(1, 2)] {
        one.message(TWO, Message::Operation(operation), &mut Empty, Nanos(1));
    }
    let (done, windows) = (Done::default(), Windows::default());
    let ledger = Ledger { slot, done, windows, held: vec![asked(2, 1), asked(3, 1)] };
    one.message(TWO, Message::Ledger(Box::new(ledger)), &mut Empty, Nanos(1));
    let held: Vec<_> = one.home.rows[slot.index()].held.values().collect();
    assert_eq!(held, [&asked(1, 1), &asked(2, 1), &asked(3, 1)]);
}

/// Two strict members that share, and a slot whose home the first is.
fn strict() -> (End, End, Slot) {
    let (mut one, mut two) = (end(ONE, Mode::Strict), end(TWO, Mode::Strict));
    for end in [&mut one, &mut two] {
        end.adopt(view(1, &[ONE, TWO]), &mut Empty, Nanos(1));
    }
    exchange(&mut one, &mut two, Nanos(1));
    let home = (0..4).map(Slot).find(|slot| one.home(*slot) == ONE).unwrap();
    (one, two, home)
}

fn asks(end: &mut End, slot: Slot, place: u64, now: Nanos) {
    let arrival = Arrival::new(slot, WorkerId(0), Some(place), place);
    assert_eq!(end.packet(Need::Answer(()), arrival, &mut Empty, now), Turn::Kept);
}

fn updates(end: &mut End, slot: Slot, now: Nanos) {
    let arrival = Arrival::new(slot, WorkerId(0), None, 99);
    let turn = end.packet(Need::Update(()), arrival, &mut Empty, now);
    assert!(matches!(turn, Turn::Process(99) | Turn::Kept), "{turn:?}");
}

#[test]
fn what_has_no_place_takes_its_turn_though_others_always_wait() {
    let (mut one, mut two, slot) = strict();
    let now = Nanos(2);
    let mut on_their_way = Vec::new();
    for round in 0..100 {
        asks(&mut two, slot, 2 * round, now);
        if round == 50 {
            updates(&mut two, slot, now);
        }
        let later: Vec<_> = std::iter::from_fn(|| two.poll_output()).collect();
        // It waits until what is in front of it comes, in the next round.
        asks(&mut one, slot, 2 * round + 1, now);
        for (_, message) in std::mem::replace(&mut on_their_way, later) {
            one.message(TWO, message, &mut Empty, now);
        }
        assert_eq!(one.counters().executed, 2 * round + u64::from(round > 50), "round {round}");
        while one.next(&mut Empty, now).is_some() {}
    }
}

#[test]
fn an_update_is_executed_however_long_its_home_takes() {
    let (mut one, mut two, slot) = strict();
    updates(&mut two, slot, Nanos(2));
    let late: Vec<_> = std::iter::from_fn(|| two.poll_output()).collect();
    let later = Nanos(3) + Limits::default().patience;
    two.handle_timeout(&mut Empty, later);
    assert!(two.next(&mut Empty, later).is_none());
    assert_eq!((two.waiting(), two.counters().unanswered), (1, 0));
    // Of what is older than it says its asker waits for nothing, and nothing else is executed.
    asks(&mut two, slot, 0, later);
    let ahead: Vec<_> = std::iter::from_fn(|| two.poll_output()).collect();
    for (_, message) in ahead.into_iter().chain(late) {
        one.message(TWO, message, &mut Empty, later);
    }
    assert_eq!(one.counters().executed, 2);
    exchange(&mut one, &mut two, later);
    assert!(matches!(two.next(&mut Empty, later), Some(Next::Answered(0, ()))));
    assert_eq!(two.waiting(), 0);
}

#[test]
fn places_that_were_lost_one_behind_the_other_take_no_longer_than_one() {
    let (mut one, mut two, slot) = strict();
    for place in [1, 3, 5, 7] {
        asks(&mut two, slot, place, Nanos(2));
    }
    exchange(&mut one, &mut two, Nanos(2));
    assert_eq!(one.counters().executed, 0);
    let due = one.poll_timeout().unwrap();
    assert_eq!(due, Nanos(2) + Limits::default().patience / 2);
    one.handle_timeout(&mut Empty, due);
    assert_eq!((one.counters().executed, one.counters().given_up), (4, 4));
    assert_eq!(one.poll_timeout(), None);
}
