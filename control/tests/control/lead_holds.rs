//! Moves that lead packets, where what is held has no more room, or is held or led no more.

use weir_api::v1::{MoveRequest, StateOperationState as State};

use crate::lead::{leads_to, ordered, start, until, vias};
use crate::lead_failures::{
    assert_is_as_before, begin, desired, filled, filled_and_gated, flows, killed_when_it_had_led,
};
use crate::support::{nf::flow, node::block_on, state::Pair};

#[test]
fn a_hold_that_is_full_while_state_is_carried_has_the_move_undone_at_once_and_counted() {
    let (pair, gate, _served) = filled_and_gated();
    let running = start(&pair, None);
    block_on(async {
        let begun = begin(&running, ordered("m")).await;
        gate.has_one().await;
        // Of each of the two policies. The destination takes nothing in, and the move has no limit.
        pair.node.fake.model().policies.overflow = 3;
        let ended = running.state_ended(begun.id).await;
        assert_eq!(ended.state(), State::Undone, "{ended:?}");
        assert!(ended.reason.contains("has no more room: raise hold"), "{ended:?}");
        assert!(ended.reason.contains("6 packets found no room to be held"), "{ended:?}");
    });
    assert_is_as_before(&pair);
    gate.open();
}

/// Has the data plane let go what it holds, as when its time is over.
fn let_go(pair: &Pair) {
    let policies = &mut pair.node.fake.model().policies;
    let held = policies.list.iter().filter(|route| route.holds);
    // A minute, and half of one to go back.
    assert_eq!(held.map(|route| route.hold_ns).collect::<Vec<_>>(), [90_000_000_000; 2]);
    policies.lapse();
}

#[test]
fn a_move_whose_hold_is_over_before_it_leads_is_undone() {
    let (pair, gate, _served) = filled_and_gated();
    let running = start(&pair, None);
    block_on(async {
        let limit_ns = 60_000_000_000;
        let begun = begin(&running, MoveRequest { limit_ns, ..ordered("m") }).await;
        gate.has_one().await;
        let_go(&pair);
        gate.open();
        let ended = running.state_ended(begun.id).await;
        assert_eq!(ended.state(), State::Undone, "{ended:?}");
        assert!(ended.reason.contains("for as long as it was to"), "{ended:?}");
    });
    assert_is_as_before(&pair);
}

/// Has a sidecar killed that was about to lead, and has written that down; the operation.
fn killed_before_it_leads(pair: &Pair) -> u64 {
    let running = start(pair, Some("led"));
    let id = block_on(async {
        let limit_ns = 60_000_000_000;
        let begun = begin(&running, MoveRequest { limit_ns, ..ordered("m") }).await;
        until(async || flows(pair).1 == 20).await;
        begun.id
    });
    block_on(until(async || desired(pair).is_some_and(|routes| !routes.is_empty())));
    running.kill();
    id
}

#[test]
fn a_hold_that_was_over_before_another_sidecar_leads_has_the_move_go_back() {
    let pair = filled();
    let id = killed_before_it_leads(&pair);
    let_go(&pair);
    // What comes is the source's, which has what nobody else has.
    pair.a.monitor().packets(&flow(1, 1, 1_000), 1);
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Undone, "{ended:?}");
    assert!(ended.reason.contains("has held packets for as long as it was to"), "{ended:?}");
    assert_eq!(flows(&pair), (21, 0));
    assert!(leads_to(&pair, 1) && vias(&pair).len() == 2, "{:?}", vias(&pair));
    block_on(until(async || desired(&pair).is_some_and(|routes| routes.is_empty())));
}

#[test]
fn a_hold_that_is_over_as_packets_are_led_is_told_and_what_has_changed_stays() {
    let pair = filled();
    let id = killed_before_it_leads(&pair);
    pair.node.fake.model().policies.lapses_as_it_leads = true;
    pair.a.monitor().packets(&flow(1, 1, 1_000), 1);
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let why = "the promise was not kept: the data plane has held packets for as long as it was to";
    assert!(ended.reason.contains(why), "{ended:?}");
    assert_eq!((flows(&pair), ended.left_behind), ((2, 20), 1));
    assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
}

#[test]
fn a_move_that_goes_back_for_another_sidecar_says_what_was_lost() {
    let pair = filled();
    let running = start(&pair, Some("lead"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || flows(&pair).1 == 20).await;
        begun.id
    });
    running.kill();
    pair.node.fake.model().policies.overflow = 2;
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Undone, "{ended:?}");
    assert!(ended.reason.contains("4 packets found no room to be held"), "{ended:?}");
    assert_eq!(flows(&pair), (20, 0));
}

#[test]
fn what_was_lost_is_told_though_what_counts_it_is_gone() {
    let (pair, gate, _served) = filled_and_gated();
    let running = start(&pair, Some("end"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        gate.has_one().await;
        pair.node.fake.model().policies.overflow = 2;
        until(async || vias(&pair).len() == 2).await;
        begun.id
    });
    running.kill();
    gate.open();
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Undone, "{ended:?}");
    assert!(ended.reason.contains("4 packets found no room to be held"), "{ended:?}");
}

/// While the source is looked at: what was seen before need not be so any more.
#[test]
fn a_data_plane_that_is_started_again_before_the_deletion_leads_again_or_nothing_is_deleted() {
    for leads_again in [true, false] {
        let pair = filled();
        let id = killed_when_it_had_led(&pair);
        // What a sidecar that takes it up asks for leads; then the source has taken what it was sent.
        pair.node.fake.model().policies.restarts_as_asked = true;
        pair.node.fake.model().policies.refused_later =
            (!leads_again).then(|| format!("move-{id}-in"));
        // Until it leads again a packet comes to the source, which was looked at already.
        pair.a.monitor().changes_later.insert(flow(1, 1, 1_000).both_ways());
        let running = start(&pair, None);
        let ended = block_on(running.state_ended(id));
        assert!(!pair.node.fake.model().policies.restarts_as_asked);
        if leads_again {
            let left_behind = (ended.left_behind, flows(&pair));
            assert_eq!((ended.state(), left_behind), (State::Done, (1, (2, 20))), "{ended:?}");
            assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
        } else {
            assert_eq!((ended.state(), flows(&pair)), (State::Failed, (21, 20)), "{ended:?}");
            let says = format!("does not lead all packets there; move-{id}-in: ");
            assert!(ended.reason.contains(&says), "{ended:?}");
        }
    }
}
