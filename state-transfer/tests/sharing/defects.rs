//! What OpenNF's own `share` gets wrong, and what each mode promises, one case at a time.

use std::time::Duration;

use weir_state_transfer::share::{
    Arrival, Limits, Member, Message, Mode, Need, Next, Slot, Turn, View,
};
use weir_state_transfer::{InstanceId, Nanos, WorkerId};

use crate::explore::explore;
use crate::linear::{Record, linearizable};
use crate::scope::{Kind, Scope, instances, load};
use crate::store::{Visit, Visitors, Visits, own, visit};

const HERE: InstanceId = InstanceId(0);
const HOME: InstanceId = InstanceId(1);
const NOW: Nanos = Nanos(1);

/// An instance that shares two slots whose home another is, and its store.
fn member(limits: Limits) -> (Member<Visit, Visitors, Visitors, &'static str>, Visits) {
    let (mut member, mut store) =
        (Member::new(HERE, Mode::Strong, limits), Visits::new(HERE, 2, true));
    member.adopt(view_of_home(), &mut store, NOW);
    while member.poll_output().is_some() {}
    (member, store)
}

/// The view in which the home of both slots is another.
fn view_of_home() -> View {
    let has_homes = |view: &View| (0..2).all(|slot| view.home(Slot(slot), HERE) == HOME);
    let mut views = (0..).map(|key| View::new(1, &instances(&[0, 1]), &[], (2, key)));
    views.find(has_homes).unwrap()
}

fn limits() -> Limits {
    Limits { slots: 2, ..Limits::default() }
}

fn arrival(slot: u16, packet: &'static str) -> Arrival<&'static str> {
    Arrival::new(Slot(slot), WorkerId(0), None, packet)
}

#[test]
fn two_identical_packets_are_two() {
    // OpenNF's code keeps waiting packets by their text: the second took the place of the first.
    let (mut member, mut store) = member(limits());
    for _ in 0..2 {
        let need = Need::Answer(Visit(7));
        let turn = member.packet(need, arrival(0, "the same"), &mut store, NOW);
        assert_eq!(turn, Turn::Kept);
    }
    let operations: Vec<_> = std::iter::from_fn(|| member.poll_output()).collect();
    assert_eq!(operations.len(), 2);
    let Message::Operation(first) = &operations[0].1 else { panic!("{operations:?}") };
    let Message::Operation(second) = &operations[1].1 else { panic!("{operations:?}") };
    assert_eq!((first.op, first.slot), (second.op, second.slot));
    assert!(first.id < second.id, "they are the same but for their numbers");
}

#[test]
fn groups_do_not_wait_for_each_other() {
    // OpenNF's code has one queue for all.
    let (mut member, mut store) = member(limits());
    let need = Need::Answer(Visit(1));
    assert_eq!(member.packet(need, arrival(0, "first"), &mut store, NOW), Turn::Kept);
    let need = || Need::Nothing;
    assert_eq!(member.packet(need(), arrival(0, "behind"), &mut store, NOW), Turn::Kept);
    let other = member.packet(need(), arrival(1, "other"), &mut store, NOW);
    assert_eq!(other, Turn::Process("other"));
    assert_eq!(member.next(&mut store, NOW), None);
}

#[test]
fn the_home_of_one_slot_does_not_wait_for_another() {
    // Slot 0 has a gap in the order of the steerer; slot 1 has none.
    let gap = [load(1, 0, Kind::Dropped), load(0, 0, Kind::Wait), load(0, 1, Kind::Wait)];
    let scope = Scope::small(&[&gap]).strict().homes(&[(&[0, 1], [0, 0])]);
    let report = explore(scope).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.answers.iter().all(|answers| answers[1].is_some() && answers[2].is_some()));
}

#[test]
fn a_packet_over_the_bound_is_refused_and_counted() {
    let (mut member, mut store) = member(Limits { waiting: 1, ..limits() });
    let mut wait = |packet| {
        let need = Need::Answer(Visit(1));
        member.packet(need, arrival(0, packet), &mut store, NOW)
    };
    assert_eq!((wait("first"), wait("second")), (Turn::Kept, Turn::Full("second")));
    assert_eq!((member.counters().full, member.waiting()), (1, 1));
}

#[test]
fn a_packet_waits_no_longer_than_it_may() {
    let (mut member, mut store) = member(limits());
    let need = Need::Answer(Visit(1));
    assert_eq!(member.packet(need, arrival(0, "first"), &mut store, NOW), Turn::Kept);
    let behind = member.packet(Need::Nothing, arrival(0, "behind"), &mut store, NOW);
    assert_eq!(behind, Turn::Kept);
    let due = member.poll_timeout().unwrap();
    assert_eq!(due, NOW + limits().patience);
    member.handle_timeout(&mut store, due);
    assert_eq!(member.next(&mut store, due), Some(Next::Unanswered("first")));
    assert_eq!(member.next(&mut store, due), Some(Next::Process("behind")));
    assert_eq!((member.next(&mut store, due), member.counters().unanswered), (None, 1));
}

#[test]
fn what_waits_behind_a_place_that_is_lost_has_its_answer_before_its_packet_is_given_up() {
    let strict = |me| Member::new(me, Mode::Strict, limits());
    let (mut asker, mut home) = (strict(HERE), strict(HOME));
    let [mut here, mut there] = [HERE, HOME].map(|me| Visits::new(me, 2, true));
    let view = view_of_home();
    asker.adopt(view.clone(), &mut here, NOW);
    home.adopt(view, &mut there, NOW);
    // What comes from one comes to the other after a time.
    let mut take_turns =
        |asker: &mut Member<_, _, _, _>, here: &mut Visits, now: Nanos, way: Duration| {
            asker.step(1, here, now);
            while let Some((_, message)) = asker.poll_output() {
                home.message(HERE, message, &mut there, now + way);
            }
            home.handle_timeout(&mut there, now + way);
            while let Some((_, message)) = home.poll_output() {
                asker.message(HOME, message, here, now + 2 * way);
            }
            asker.handle_timeout(here, now + 2 * way);
            home.counters().given_up
        };
    for _ in 0..10 {
        take_turns(&mut asker, &mut here, NOW, Duration::ZERO);
    }
    // Of the first packet of the steerer nobody hears any more.
    let second: Arrival<&str> = Arrival::new(Slot(0), WorkerId(0), Some(1), "second");
    let need = Need::Answer(Visit(1));
    assert_eq!(asker.packet(need, second, &mut here, NOW), Turn::Kept);
    let (mut now, way) = (NOW, limits().patience / 8);
    let (answered, given_up) = loop {
        let given_up = take_turns(&mut asker, &mut here, now, way);
        now = now + 2 * way;
        if let Some(next) = asker.next(&mut here, now) {
            break (next, given_up);
        }
    };
    assert!(matches!(answered, Next::Answered("second", _)), "{answered:?}");
    assert_eq!(given_up, 1);
}

#[test]
fn a_strict_share_answers_as_the_steerer_received() {
    // Three packets of one steerer to two instances: one outcome, that of their order.
    let script = [load(0, 0, Kind::Wait), load(1, 0, Kind::Wait), load(0, 0, Kind::Wait)];
    let scope = Scope::small(&[&script]).homes(&[(&[0, 1], [0, 1])]);
    let strict = explore(scope.clone().strict()).unwrap_or_else(|failure| panic!("{failure}"));
    let mut visitors = own(InstanceId(0)) | own(InstanceId(1));
    let sequential: Vec<_> = (0..3).map(|id| Some(visit(&mut visitors, &Visit(id)))).collect();
    assert!(strict.answers.len() == 1 && strict.answers.contains(&sequential));
    let strong = explore(scope).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(strong.answers.len() > 1 && strong.answers.contains(&sequential));
}

#[test]
fn an_update_may_take_effect_after_its_packet_has_gone_on() {
    // Why a packet that does not wait has no return: as if it had, this history is what an
    // instance sees that asks after the packet has left and before the update has come.
    let (mut member, mut store) = member(limits());
    let gone = member.packet(Need::Update(Visit(0)), arrival(0, "gone"), &mut store, NOW);
    assert_eq!(gone, Turn::Process("gone"));
    let (to, message) = member.poll_output().unwrap();
    assert!(to == HOME && matches!(message, Message::Operation(_)), "it is on its way");
    let history = |answer| {
        let update = Record { op: Visit(0), answer, before: 0 };
        [update, Record { op: Visit(1), answer: Some(0), before: u64::from(answer.is_some()) }]
    };
    assert!(linearizable(&history(None), 0, visit));
    assert!(!linearizable(&history(Some(0)), 0, visit));
}
