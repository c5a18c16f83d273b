//! Requests of which nobody knows at first what has become of them: links that break, stores that
//! keep nothing, sidecars and data planes that die in between.

use tonic::Code;
use weir_api::{
    dataplane::v1::{MovePhase, SharePhase},
    v1::{
        GetStatusResponse, MoveRequest, ShareRequest, StateFailure, StateOperation,
        StateOperationState as State, move_request::Selection,
    },
};

use weir_control::state_manager::table::RUNNING_MAX;

use crate::{
    share::{TWO, known, until},
    state::refusal,
    support::{
        nf::flow,
        node::{Node, Running, block_on, limited},
        state::{Pair, moved, shared},
    },
};

/// A move of buckets between the instances of a node.
pub(crate) fn between(id: &str) -> MoveRequest {
    MoveRequest {
        selection: Some(Selection::Buckets("0-9".to_owned())),
        guarantee: 0,
        scopes: Vec::new(),
        ..moved(id, "sw1", "sw2", "")
    }
}

/// Begins a move and does not wait for its end.
async fn begin(running: &Running, ask: MoveRequest) -> u64 {
    let mut stream = running.state().await.r#move(ask).await.unwrap().into_inner();
    limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id
}

/// Waits until something of the fake data plane is so.
async fn holds(node: &Node, mut is_so: impl FnMut(&Node) -> bool) {
    limited(async {
        while !is_so(node) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn ended(operation: &StateOperation) -> (u64, State, StateFailure) {
    (operation.id, operation.state(), operation.failure())
}

#[test]
fn a_move_is_told_to_go_back_until_the_data_plane_has_heard_it() {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().stands = true;
    node.fake.model().undo_trouble = 3;
    block_on(async {
        let id = begin(&running, between("m")).await;
        running.cancel(id).await.unwrap();
        let undone = running.state_ended(id).await;
        assert_eq!(ended(&undone), (id, State::Undone, StateFailure::Cancelled), "{undone:?}");
        assert_eq!(node.fake.model().moves_of("m")[0].phase(), MovePhase::Undone);
    });
}

#[test]
fn as_many_operations_as_there_may_be_keep_none_from_being_cancelled() {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().stands = true;
    block_on(async {
        let mut begun = Vec::new();
        for bucket in 0..RUNNING_MAX {
            let selection = Some(Selection::Buckets(bucket.to_string()));
            let ask = MoveRequest { selection, ..between(&bucket.to_string()) };
            begun.push(begin(&running, ask).await);
        }
        // All are followed.
        holds(&node, |node| node.fake.watched_moves() == RUNNING_MAX).await;
        let selection = Some(Selection::Buckets(RUNNING_MAX.to_string()));
        let more = MoveRequest { selection, ..between("more") };
        assert_eq!(refusal(&running.moves(more).await.unwrap_err()).0, "OPERATIONS_MAX");
        for id in begun {
            running.cancel(id).await.unwrap();
            let undone = running.state_ended(id).await;
            assert_eq!(ended(&undone), (id, State::Undone, StateFailure::Cancelled), "{undone:?}");
        }
        let connected = running.status().await.dataplane.is_some_and(|shown| shown.connected);
        assert!(connected);
    });
}

/// A move of which a sidecar has answered that it is to go back, and which it has not undone.
fn cancelled_in_vain(node: &Node) -> u64 {
    let running = node.start();
    block_on(running.until(|status| status.instances_desired == 2));
    node.fake.model().stands = true;
    node.fake.model().undo_trouble = u32::MAX;
    let id = block_on(async {
        let id = begin(&running, between("m")).await;
        running.cancel(id).await.unwrap();
        id
    });
    running.kill();
    node.fake.model().undo_trouble = 0;
    id
}

#[test]
fn the_cancel_of_a_move_between_instances_is_carried_out_by_the_next_sidecar_by_itself() {
    let node = Node::new(2);
    let id = cancelled_in_vain(&node);
    let running = node.start();
    block_on(async {
        known(&running, id).await;
        let undone = running.state_ended(id).await;
        assert_eq!(ended(&undone), (id, State::Undone, StateFailure::Cancelled), "{undone:?}");
        assert_eq!(node.fake.model().moves_of("m")[0].phase(), MovePhase::Undone);
        assert_eq!(running.moves(between("m")).await.unwrap(), undone);
    });
}

#[test]
fn a_move_that_was_cancelled_does_not_begin_anew_when_both_processes_were_started_again() {
    let node = Node::new(2);
    let id = cancelled_in_vain(&node);
    node.fake.model().restart();
    let running = node.start();
    block_on(async {
        // The instances are there again.
        let settled =
            |status: &GetStatusResponse| status.instances_active == 2 && status.operation.is_none();
        running.until(settled).await;
        let failed = running.moves(between("m")).await.unwrap();
        assert_eq!(ended(&failed), (id, State::Failed, StateFailure::Cancelled), "{failed:?}");
        assert!(failed.reason.contains("started again"), "{}", failed.reason);
        assert!(node.fake.model().moves_of("m").is_empty());
    });
}

#[test]
fn a_move_that_the_data_plane_has_begun_and_not_answered_is_the_same_when_it_is_asked_again() {
    let node = Node::new(2);
    let running = node.start();
    (node.fake.model().stands, node.fake.model().mute_moves) = (true, true);
    block_on(async {
        let unsure = running.moves(between("m")).await.unwrap_err();
        let (reason, _, fix) = refusal(&unsure);
        assert_eq!((unsure.code(), &*reason), (Code::Unavailable, "NOT_KNOWN"), "{unsure:?}");
        assert!(fix.contains("same request id"), "{fix}");
        let other = MoveRequest { to: "1".to_owned(), from: "2".to_owned(), ..between("m") };
        let refused = running.moves(other).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "REQUEST_ID_REUSED");
        (node.fake.model().stands, node.fake.model().mute_moves) = (false, false);
        let done = running.moves(between("m")).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert_eq!(node.fake.model().moves_of("m").len(), 1);
    });
}

/// The data plane has begun a share, and its sidecar does not learn of it.
fn share_begun_unheard(node: &Node, running: &Running) {
    // So that the sidecar does not reach it anew any more.
    block_on(running.until(|status| status.instances_desired == 2));
    node.fake.model().mute = true;
    let unsure = block_on(running.shares(shared("s", TWO, "any"))).map(drop).unwrap_err();
    let (reason, _, fix) = refusal(&unsure);
    assert_eq!((unsure.code(), &*reason), (Code::Unavailable, "NOT_KNOWN"), "{unsure:?}");
    assert!(fix.contains("same request id"), "{fix}");
    assert_eq!(node.fake.model().shares.len(), 1);
    node.fake.model().mute = false;
}

#[test]
fn a_share_whose_beginning_was_not_heard_is_ended_by_the_next_sidecar() {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().deaf = true;
    share_begun_unheard(&node, &running);
    running.kill();
    node.fake.model().deaf = false;
    let running = node.start();
    block_on(async {
        until(&node, 1, &[SharePhase::Ending, SharePhase::Ended]).await;
        assert_eq!(running.state_operations().await, []);
    });
}

#[test]
fn a_share_whose_beginning_was_not_heard_is_ended_without_a_new_connection() {
    let node = Node::new(2);
    let running = node.start();
    share_begun_unheard(&node, &running);
    block_on(until(&node, 1, &[SharePhase::Ending, SharePhase::Ended]));
}

#[test]
fn a_share_whose_beginning_was_not_heard_goes_on_for_who_asks_again() {
    let node = Node::new(2);
    let running = node.start();
    // It is not ended meanwhile.
    node.fake.model().deaf = true;
    share_begun_unheard(&node, &running);
    block_on(async {
        let (begun, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        node.fake.model().deaf = false;
        until(&node, 1, &[SharePhase::Steady]).await;
        let asked = node.fake.model().asked_to_end;
        let all = running.state_operations().await;
        assert_eq!((all.len(), all[0].id, all[0].state()), (1, begun.id, State::Running));
        let model = node.fake.model();
        assert_eq!((model.shares.len(), model.asked_to_end), (1, asked));
    });
}

/// A share that its sidecar has had ended, and died before it knew.
fn ended_unheard(ask: ShareRequest, cancels: bool) -> (Node, u64) {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().deaf = true;
    let id = block_on(async {
        let (begun, _stream) = running.shares(ask).await.unwrap();
        if cancels {
            running.cancel(begun.id).await.unwrap();
        }
        holds(&node, |node| node.fake.model().asked_to_end > 0).await;
        begun.id
    });
    running.kill();
    let mut model = node.fake.model();
    model.deaf = false;
    let share = model.share(1).unwrap();
    share.set_phase(SharePhase::Ended);
    "asked to".clone_into(&mut share.reason);
    drop(model);
    (node, id)
}

#[test]
fn a_share_that_was_ended_when_its_sidecar_died_is_told_as_it_ended() {
    let timed = ShareRequest { limit_ns: 30_000_000, ..shared("s", TWO, "any") };
    let cases = [
        (shared("s", TWO, "any"), true, (State::Cancelled, StateFailure::Cancelled)),
        (timed, false, (State::Done, StateFailure::Unspecified)),
    ];
    for (ask, cancels, (state, failure)) in cases {
        // It is a race for who would be wrong.
        for _ in 0..6 {
            let (node, id) = ended_unheard(ask.clone(), cancels);
            let running = node.start();
            block_on(async {
                known(&running, id).await;
                let told = running.state_ended(id).await;
                assert_eq!(ended(&told), (id, state, failure), "{told:?}");
                let again = running.shares(ask.clone()).await.unwrap().0;
                assert_eq!(ended(&again), (id, state, failure), "{again:?}");
            });
        }
    }
}

#[test]
fn a_share_that_died_before_its_time_was_over_is_not_told_to_be_done() {
    let node = Node::new(2);
    let running = node.start();
    let ask = ShareRequest { limit_ns: 2_000_000_000, ..shared("s", TWO, "any") };
    let begun = block_on(running.shares(ask)).unwrap().0;
    running.kill();
    node.fake.model().restart();
    let over = begun.started_unix_ns + 2_000_000_000;
    block_on(holds(&node, |_| weir_control::clock::Clock::start().unix_ns() > over));
    let running = node.start();
    block_on(async {
        known(&running, begun.id).await;
        let told = running.state_ended(begun.id).await;
        assert_eq!(ended(&told), (begun.id, State::Failed, StateFailure::Unreachable), "{told:?}");
    });
}

#[test]
fn what_could_not_be_kept_is_answered_as_it_is_to_who_asks_again() {
    let pair = Pair::new();
    (1..=5).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    pair.node.keeps_answers(false);
    let running = pair.start();
    let id = block_on(async {
        let unsure = running.moves(moved("m", "a", "b", "any")).await.unwrap_err();
        let (reason, _, fix) = refusal(&unsure);
        assert_eq!(reason, "NOT_KEPT", "{unsure:?}");
        assert!(fix.contains("same request id"), "{fix}");
        let id = running.state_operations().await[0].id;
        let done = running.state_ended(id).await;
        assert_eq!((done.state(), pair.b.monitor().of_flows()), (State::Done, 5));
        // What comes to the source later is not of that move.
        pair.a.monitor().packets(&flow(1, 6, 1_000), 1);
        let again = running.moves(moved("m", "a", "b", "any")).await.unwrap();
        assert_eq!(ended(&again), (id, State::Done, StateFailure::Unspecified), "{again:?}");
        assert_eq!(pair.a.monitor().of_flows(), 1);
        assert_eq!(running.state_operations().await.len(), 1);
        let other = running.moves(moved("m", "b", "a", "any")).await.unwrap_err();
        assert_eq!(refusal(&other).0, "REQUEST_ID_REUSED");
        id
    });
    // For the next sidecar it is the same operation, of which nobody knows how far it came.
    running.kill();
    pair.node.keeps_answers(true);
    pair.b.monitor().flows_max = 0;
    let running = pair.start();
    block_on(async {
        let again = running.moves(moved("m", "a", "b", "any")).await.unwrap();
        assert_eq!(ended(&again), (id, State::Failed, StateFailure::ChunkRefused), "{again:?}");
        assert!(again.reason.contains("before the sidecar was started again"), "{}", again.reason);
        assert_eq!(running.moves(moved("m", "a", "b", "any")).await.unwrap(), again);
        let other = running.moves(moved("o", "b", "a", "any")).await.unwrap();
        assert!(other.id > id, "numbers are never used again");
    });
}

#[test]
fn a_share_whose_answer_could_not_be_kept_goes_on_when_the_data_plane_is_looked_at() {
    let node = Node::new(2);
    node.keeps_answers(false);
    let running = node.start();
    block_on(async {
        let unsure = running.shares(shared("s", TWO, "any")).await.map(drop).unwrap_err();
        assert_eq!(refusal(&unsure).0, "NOT_KEPT", "{unsure:?}");
        until(&node, 1, &[SharePhase::Steady]).await;
        // Both look for shares that nobody follows.
        let (again, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        let reached = node.fake.model().incarnation + 2;
        node.fake.model().incarnation = reached;
        running
            .until(|status| {
                let node = status.dataplane.as_ref().and_then(|shown| shown.node.as_ref());
                node.is_some_and(|node| node.incarnation == reached)
            })
            .await;
        let (third, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        assert_eq!((third.id, third.state()), (again.id, State::Running));
        assert_eq!(node.fake.model().asked_to_end, 0);
        // It can be cancelled, too.
        let unsure = running.cancel(again.id).await.unwrap_err();
        assert_eq!(refusal(&unsure).0, "NOT_KEPT", "{unsure:?}");
        assert_eq!(running.state_ended(again.id).await.state(), State::Cancelled);
    });
}

#[test]
fn a_move_that_can_not_be_ended_now_keeps_no_share_from_being_ended() {
    let node = Node::new(4);
    node.keeps_answers(false);
    let running = node.start();
    block_on(running.until(|status| status.instances_desired == 4));
    node.fake.model().stands = true;
    node.fake.model().undo_trouble = u32::MAX;
    block_on(async {
        let unsure = running.shares(shared("s", &["sw3", "sw4"], "any")).await.map(drop);
        assert_eq!(refusal(&unsure.unwrap_err()).0, "NOT_KEPT");
        until(&node, 1, &[SharePhase::Steady]).await;
        let unsure = running.moves(between("m")).await.unwrap_err();
        assert_eq!(refusal(&unsure).0, "NOT_KEPT");
        let all = running.state_operations().await;
        let id = all.into_iter().find(|operation| operation.request_id == "m").unwrap().id;
        assert_eq!(refusal(&running.cancel(id).await.unwrap_err()).0, "NOT_KEPT");
    });
    running.kill();
    node.keeps_answers(true);
    assert_eq!(node.fake.model().asked_to_end, 0);
    let _running = node.start();
    block_on(holds(&node, |node| node.fake.model().asked_to_end > 0));
    assert_ne!(node.fake.model().moves_of("m")[0].phase(), MovePhase::Undone);
}
