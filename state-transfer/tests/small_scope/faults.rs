//! Negative controls: whatever the node does wrong on purpose, the search finds a schedule that
//! shows it.

use weir_state_transfer::mark::Guarantee;

use crate::explore::explore;
use crate::model::Violation;
use crate::scope::{Fault, Grouping, Room, Scope};

/// The violation that the search finds first.
fn found(fault: Fault, scope: Scope) -> Violation {
    let failure = explore(Scope { fault: Some(fault), ..scope })
        .map(|report| panic!("{fault:?} was not caught: {report}"))
        .unwrap_err();
    assert!(!failure.schedule.is_empty());
    println!("{fault:?}: {failure}");
    failure.violation
}

fn four() -> Scope {
    Scope::small(&[&[0, 1], &[0, 1]])
}

fn undone() -> Scope {
    Scope { undos: 1, ..four() }
}

#[test]
fn packets_that_are_not_held() {
    found(Fault::NoHold, four());
}

#[test]
fn a_marker_one_packet_early() {
    found(Fault::MarkerEarly, four());
}

#[test]
fn a_last_packet_that_is_told_by_its_bytes() {
    found(Fault::LastByBytes, Scope::small(&[&[0, 1, 0], &[0]]));
    // It is found by nothing but the repetition.
    let no_two_alike = Scope { fault: Some(Fault::LastByBytes), ..Scope::small(&[&[0, 1], &[0]]) };
    let report = explore(no_two_alike).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.done > 0 && (report.lossy, report.reordered) == (0, 0), "{report}");
}

#[test]
fn an_export_before_the_last_marker() {
    found(Fault::ExportEarly, four());
}

#[test]
fn an_export_before_the_frames_have_left() {
    let violation = found(Fault::DrainEarly, four());
    assert!(matches!(violation, Violation::LeftBefore(_)));
}

#[test]
fn a_hold_released_out_of_order() {
    let violation = found(Fault::ReleaseSwapped, Scope::small(&[&[0, 0], &[1]]));
    assert!(matches!(violation, Violation::Reordered(_)));
}

#[test]
fn state_that_is_deleted_instead_of_moved() {
    found(Fault::ChunkDropped, four());
    found(Fault::ChunkDropped, Scope { by: Grouping::Bucket(2), ..four() });
}

#[test]
fn a_packet_processed_twice() {
    let violation = found(Fault::Twice, four());
    assert!(matches!(violation, Violation::ProcessedTwice(_)));
}

#[test]
fn an_end_before_the_last_chunk() {
    found(Fault::EndEarly, four());
    found(Fault::EndEarly, Scope { by: Grouping::Bucket(1), ..four() });
}

#[test]
fn direct_packets_before_relayed_ones() {
    let violation = found(Fault::DirectFirst, undone());
    assert!(matches!(violation, Violation::Reordered(_) | Violation::Overtaken(_)));
}

#[test]
fn a_relay_that_ends_before_the_markers_are_back() {
    found(Fault::RelayEndEarly, undone());
}

#[test]
fn a_marker_to_oneself_that_lies_in_the_ring() {
    let one = Scope { undos: 1, ..Scope::small(&[&[0, 0]]) };
    let violation = found(Fault::OwnMarkerByRing, one.on(0, 1));
    assert!(matches!(violation, Violation::Reordered(_)));
}

#[test]
fn a_packet_that_is_lost_without_being_counted() {
    let violation = found(Fault::FullUncounted, Scope { hold: 1, ..four() });
    assert_eq!(violation, Violation::Lost);
}

#[test]
fn a_packet_of_a_flow_on_its_way_that_is_lost_without_being_counted() {
    let scope = Scope { guarantee: Guarantee::None, ..four() };
    assert_eq!(found(Fault::InTransitUncounted, scope), Violation::Lost);
}

#[test]
fn a_source_without_a_promise_that_goes_on_with_flows_that_have_left() {
    let scope = Scope { guarantee: Guarantee::None, ..four() };
    found(Fault::GoneProcessed, scope);
}

#[test]
fn a_loss_free_move_where_order_is_promised() {
    let reordered = explore(Scope { guarantee: Guarantee::LossFree, ..four() });
    assert!(reordered.is_ok_and(|report| report.reordered > 0), "the oracle sees it");
}

#[test]
fn state_of_several_flows_behind_that_of_single_ones() {
    for guarantee in [Guarantee::LossFree, Guarantee::Ordered] {
        let scope = Scope { guarantee, multi_flow: Some(Room::Ample), ..four() };
        let violation = found(Fault::MultiFlowLate, scope);
        assert!(matches!(violation, Violation::CrossFlow(_)));
    }
}

#[test]
fn state_of_several_flows_that_is_refused_and_forgotten() {
    let scope = Scope { multi_flow: Some(Room::Full), ..four() };
    assert_eq!(found(Fault::RefusedForgotten, scope), Violation::Lost);
}
