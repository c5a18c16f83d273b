//! Ends of shares by hand: what must not grow, and what must not be lost.

use super::*;
use crate::id::WorkerId;
use crate::share::SlotSet;
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
