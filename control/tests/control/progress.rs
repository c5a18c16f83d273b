//! The progress of operations on state, as their streams tell it.

use tonic::Streaming;
use weir_api::{
    dataplane::v1::MovePhase,
    v1::{CopyRequest, MoveResponse, StateOperation, StateOperationState as State},
};

use crate::{
    support::{
        nf::flow,
        node::{Node, block_on, limited},
        state::{Pair, copied, moved},
    },
    uncertain::between,
};

/// The next that a stream tells of a move; none at its end.
async fn next(stream: &mut Streaming<MoveResponse>) -> Option<StateOperation> {
    limited(stream.message()).await.unwrap().map(|seen| seen.operation.unwrap())
}

/// Reads until something is so; what was told until then.
async fn until(
    stream: &mut Streaming<MoveResponse>,
    is_so: impl Fn(&StateOperation) -> bool,
) -> Vec<StateOperation> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| !is_so(last)) {
        seen.push(next(stream).await.expect("it has not ended"));
    }
    seen
}

#[test]
fn a_move_between_instances_tells_its_phases_in_their_order() {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().stands = true;
    block_on(async {
        let mut stream = running.state().await.r#move(between("m")).await.unwrap().into_inner();
        let phase = |seen: &StateOperation| seen.r#move.as_ref().unwrap().phase();
        let mut seen = until(&mut stream, |seen| phase(seen) == MovePhase::Draining).await;
        node.fake.model().stands = false;
        while let Some(more) = next(&mut stream).await {
            seen.push(more);
        }
        let (last, way) = seen.split_last().unwrap();
        assert_eq!((last.state(), phase(last), last.flows), (State::Done, MovePhase::Done, 10));
        assert!(way.iter().all(|seen| seen.state() == State::Running), "{way:?}");
        let phases: Vec<MovePhase> = seen.iter().map(phase).collect();
        assert!(phases.is_sorted(), "{phases:?}");
        assert!(!phases.contains(&MovePhase::Undoing), "{phases:?}");
        assert!(seen.is_sorted_by_key(|seen| seen.elapsed_ns));
    });
}

#[test]
fn a_move_between_processes_tells_how_much_it_has_carried_so_far() {
    const FLOWS: u64 = 5_000;
    let pair = Pair::new();
    for port in 0..FLOWS / 100 {
        (1..=100).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000 + port as u16), 1));
    }
    // It takes in some, and then nothing for a while.
    pair.b.monitor().hangs_at = 2_000;
    let running = pair.start();
    block_on(async {
        let mut ask = moved("m", "a", "b", "any");
        ask.scopes.truncate(1);
        let mut stream = running.state().await.r#move(ask).await.unwrap().into_inner();
        let mut seen = until(&mut stream, |seen| seen.chunks > 0).await;
        let some = seen.last().unwrap();
        assert!(some.chunks < FLOWS && some.bytes > 0, "{some:?}");
        assert_eq!(some.state(), State::Running);
        pair.b.monitor().hangs_at = usize::MAX;
        while let Some(more) = next(&mut stream).await {
            seen.push(more);
        }
        let last = seen.last().unwrap();
        assert_eq!((last.state(), last.chunks), (State::Done, FLOWS), "{last:?}");
        let carried: Vec<_> = seen.iter().map(|seen| (seen.chunks, seen.bytes)).collect();
        assert!(carried.is_sorted(), "{carried:?}");
    });
}

#[test]
fn a_copy_that_repeats_tells_of_each_round() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    let running = pair.start();
    block_on(async {
        let ask =
            CopyRequest { interval_ns: 500_000_000, rounds: 3, ..copied("c", "a", "b", "any") };
        let mut stream = running.state().await.copy(ask).await.unwrap().into_inner();
        let mut rounds = Vec::new();
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            rounds.push(seen.operation.unwrap().rounds);
        }
        rounds.dedup();
        // Who reads late sees several at once.
        assert!(rounds.len() >= 2 && rounds.is_sorted(), "{rounds:?}");
        assert_eq!(rounds.last(), Some(&3));
    });
}

#[test]
fn the_command_names_what_a_move_leaves_behind_and_both_reasons_that_it_may_have() {
    let pair = Pair::new();
    (1..=2).for_each(|network| pair.a.monitor().packets(&flow(network, 1, 1_000), 1));
    let running = pair.start();
    let what = ["--filter", "src=10.0.1.0/24", "--scope", "per-flow,multi-flow"];
    let command = [&["move", "--from", "a", "--to", "b", "--guarantee", "none"], &what[..]];
    let moved = running.weir(&command.concat());
    let told = String::from_utf8_lossy(&moved.stderr);
    let says = "left behind, as it is named only in part, or has changed at the source since it was \
                moved: host=10.0.0.0/8";
    assert!(moved.status.success() && told.contains(says), "{moved:?}");
}
