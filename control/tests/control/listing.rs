//! Which operations a sidecar tells of that was started again, and what can be done with them.

use std::{fs, os::unix::net::UnixListener, path::PathBuf};

use prost::Message as _;
use tonic::{Code, Status};
use weir_api::{
    dataplane::v1::SharePhase,
    v1::{
        ChangeShareRequest, ListStateOperationsRequest, MoveRequest, MoveResponse, ShareRequest,
        StateFailure, StateOperation, StateOperationKind as Kind, StateOperationState as State,
        WatchStateOperationRequest,
    },
};
use weir_control::state_manager::table::ENDED_MAX;

use crate::{
    share::{TWO, until},
    state::refusal,
    support::{
        nf::{Monitor, flow},
        node::{Node, Running, block_on, change, limited},
        state::{Pair, copied, moved, shared},
    },
    uncertain::between,
};

/// Begins a move and does not wait for its end.
async fn begin(running: &Running, ask: MoveRequest) -> u64 {
    let mut stream = running.state().await.r#move(ask).await.unwrap().into_inner();
    limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id
}

async fn in_progress(running: &Running) -> Vec<u64> {
    let ask = ListStateOperationsRequest { in_progress: true };
    let listed = running.state().await.list_operations(ask).await.unwrap().into_inner();
    listed.operations.iter().map(|operation| operation.id).collect()
}

/// Why an operation can not be watched.
async fn unwatched(running: &Running, id: u64) -> Status {
    let watched = running.state().await.watch_operation(WatchStateOperationRequest { id }).await;
    watched.map(drop).unwrap_err()
}

async fn change_share(running: &Running, id: u64, name: &str) -> Status {
    let instances = ["sw1", "sw2"].map(str::to_owned).to_vec();
    let ask = ChangeShareRequest { change: Some(change(name)), id, instances };
    running.state().await.change_share(ask).await.map(drop).unwrap_err()
}

fn states(all: &[StateOperation]) -> Vec<(Kind, State, StateFailure)> {
    all.iter().map(|one| (one.kind(), one.state(), one.failure())).collect()
}

#[test]
fn operations_that_have_ended_are_told_by_the_next_sidecar_as_by_their_own() {
    let pair = Pair::new();
    for host in 1..=9 {
        pair.a.monitor().packets(&flow(1, host, 1_000), 1);
        pair.a.monitor().packets(&flow(2, host, 1_000), 1);
    }
    let running = pair.start();
    let before = block_on(async {
        let done = running.moves(moved("done", "a", "b", "src=10.0.1.0/24")).await.unwrap();
        assert!(done.left_behind > 0, "{done:?}");
        running.copies(copied("copied", "b", "a", "any")).await.unwrap();
        running.copies(copied("failed", "a", "third", "any")).await.unwrap();
        pair.a.monitor().flows_max = 0;
        running.moves(moved("undone", "b", "a", "src=10.0.1.0/24")).await.unwrap();
        running.moves(between("instances")).await.unwrap();
        let (cancelled, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        running.cancel(cancelled.id).await.unwrap();
        running.state_ended(cancelled.id).await;
        let ask = ShareRequest { limit_ns: 1_000_000, ..shared("timed", TWO, "any") };
        let (timed, _stream) = running.shares(ask).await.unwrap();
        running.state_ended(timed.id).await;
        running.state_operations().await
    });
    let expected = [
        (Kind::Share, State::Done, StateFailure::Unspecified),
        (Kind::Share, State::Cancelled, StateFailure::Cancelled),
        (Kind::Move, State::Done, StateFailure::Unspecified),
        (Kind::Move, State::Undone, StateFailure::ChunkRefused),
        (Kind::Copy, State::Failed, StateFailure::Unreachable),
        (Kind::Copy, State::Done, StateFailure::Unspecified),
        (Kind::Move, State::Done, StateFailure::Unspecified),
    ];
    assert_eq!(states(&before), expected);
    running.kill();
    let running = pair.start();
    block_on(async {
        assert_eq!(running.state_operations().await, before);
        assert_eq!(in_progress(&running).await, [0; 0]);
        for told in &before {
            assert_eq!(running.state_ended(told.id).await, *told);
            let refused = running.cancel(told.id).await.unwrap_err();
            assert_eq!(refusal(&refused).0, "OPERATION_ENDED");
        }
        for (told, reason) in [(&before[0], "OPERATION_ENDED"), (&before[2], "NOT_A_SHARE")] {
            let refused = change_share(&running, told.id, reason).await;
            assert_eq!(refusal(&refused).0, reason);
        }
        assert_eq!(unwatched(&running, 99).await.code(), Code::NotFound);
        assert_eq!(running.cancel(99).await.unwrap_err().code(), Code::NotFound);
        // What it begins itself is in the same list.
        let more = running.moves(between("more")).await.unwrap();
        let all = running.state_operations().await;
        assert_eq!((&all[0], &all[1..]), (&more, &before[..]));
    });
}

#[test]
fn moves_whose_sidecar_died_are_left_until_they_are_asked_for_again() {
    let pair = Pair::new();
    (1..=5).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    let running = pair.start();
    block_on(running.until(|status| status.instances_desired == 2));
    pair.node.fake.model().stands = true;
    pair.a.hang(true);
    let asks = [moved("process", "a", "b", "any"), between("instance")];
    let ids = block_on(async {
        let first = begin(&running, asks[0].clone()).await;
        [first, begin(&running, asks[1].clone()).await]
    });
    assert_eq!(block_on(in_progress(&running)), [ids[1], ids[0]]);
    running.kill();
    let running = pair.start();
    block_on(async {
        let all = running.state_operations().await;
        let is = |one: &StateOperation| (one.id, one.state(), one.failure());
        let left = |id| (id, State::Left, StateFailure::Unspecified);
        assert_eq!(all.iter().map(is).collect::<Vec<_>>(), [left(ids[1]), left(ids[0])]);
        for (one, says) in all.iter().zip([
            "goes on there: see weir move list; asked for again with request id instance",
            "nor undoes what it has done; asked for again with request id process",
        ]) {
            assert!(one.reason.contains(says), "{}", one.reason);
            assert_eq!(running.state_ended(one.id).await, *one);
            let refused = running.cancel(one.id).await.unwrap_err();
            let (reason, object, _) = refusal(&refused);
            assert_eq!((&*reason, object), ("OPERATION_LEFT", format!("operations/{}", one.id)));
        }
        assert_eq!(in_progress(&running).await, [0; 0]);
    });
    let shown = running.weir(&["operation", "list"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.lines().filter(|line| line.contains(" left ")).count(), 2, "{shown}");
    assert_eq!(running.weir(&["operation", "watch", "1"]).status.code(), Some(1));
    pair.node.fake.model().stands = false;
    pair.a.hang(false);
    block_on(async {
        for (ask, id) in asks.into_iter().zip(ids) {
            let done = running.moves(ask).await.unwrap();
            assert_eq!((done.id, done.state()), (id, State::Done), "{done:?}");
        }
        let all = running.state_operations().await;
        assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
    });
}

/// A node whose sidecar was killed while a share went on and a move was to end, and whose data plane is
/// not where it was; the two operations, and where it is.
fn left_going_on() -> (Node, [u64; 2], PathBuf) {
    let node = Node::new(4);
    let running = node.start();
    block_on(running.until(|status| status.instances_desired == 4));
    node.fake.model().stands = true;
    node.fake.model().undo_trouble = u32::MAX;
    let ids = block_on(async {
        let (share, _stream) = running.shares(shared("s", &["sw3", "sw4"], "any")).await.unwrap();
        let id = begin(&running, between("m")).await;
        running.cancel(id).await.unwrap();
        [share.id, id]
    });
    running.kill();
    node.fake.model().undo_trouble = 0;
    let away = node.directory.0.join("away.sock");
    fs::rename(&node.fake.socket, &away).unwrap();
    (node, ids, away)
}

#[test]
fn what_goes_on_is_listed_before_the_data_plane_is_reached_and_taken_up_by_who_asks_for_it() {
    let (node, ids, away) = left_going_on();
    let running = node.start();
    block_on(async {
        let all = running.state_operations().await;
        for (one, id) in all.iter().rev().zip(ids) {
            assert_eq!((one.id, one.state()), (id, State::Running), "{one:?}");
            assert!(one.reason.contains("as soon as it reaches the data plane"), "{one:?}");
            assert!(one.elapsed_ns > 0);
            let refused = unwatched(&running, id).await;
            assert_eq!(refusal(&refused).0, "DATAPLANE_UNREACHABLE", "{refused:?}");
        }
        assert_eq!(in_progress(&running).await, [ids[1], ids[0]]);
        let refused = change_share(&running, ids[0], "early").await;
        assert_eq!(refusal(&refused).0, "NOT_TAKEN_UP", "{refused:?}");
    });
    fs::rename(&away, &node.fake.socket).unwrap();
    block_on(async {
        // Whether the sidecar has noticed it by itself or not.
        running.cancel(ids[0]).await.unwrap();
        let [share, moved] = [running.state_ended(ids[0]).await, running.state_ended(ids[1]).await];
        assert_eq!((share.state(), moved.state()), (State::Cancelled, State::Undone));
        assert_eq!(running.state_operations().await, [moved, share]);
    });
}

/// That it is to end is a thing of the store.
#[test]
fn what_nobody_follows_yet_is_cancelled_though_the_data_plane_hangs() {
    let (node, ids, away) = left_going_on();
    let silent = UnixListener::bind(&node.fake.socket).unwrap();
    let running = node.start();
    block_on(async {
        for id in ids {
            running.cancel(id).await.unwrap();
        }
        assert_eq!(in_progress(&running).await, [ids[1], ids[0]]);
    });
    assert_eq!(node.fake.model().asked_to_end, 0);
    drop(silent);
    fs::rename(&away, &node.fake.socket).unwrap();
    block_on(async {
        // The sidecar sees to it by itself.
        until(&node, 1, &[SharePhase::Ended]).await;
        let [share, moved] = [running.state_ended(ids[0]).await, running.state_ended(ids[1]).await];
        assert_eq!((share.state(), moved.state()), (State::Cancelled, State::Undone));
    });
}

/// Begins a move of so many flows that its destination stops to answer amidst them, and stops the
/// sidecar; `meanwhile` comes before the destination answers again.
fn stopped_amidst(pair: &Pair, ask: &MoveRequest, meanwhile: impl FnOnce(&mut Monitor)) -> u64 {
    let mut running = pair.start();
    pair.b.monitor().hangs_at = 40;
    let id = block_on(async {
        let mut stream = running.state().await.r#move(ask.clone()).await.unwrap().into_inner();
        let first = limited(stream.message()).await.unwrap().unwrap();
        let some_are_there = async {
            while pair.b.monitor().flows.len() < 40 {
                tokio::task::yield_now().await;
            }
        };
        limited(some_are_there).await;
        running.stop();
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            if seen.operation.unwrap().state() == State::Undoing {
                break;
            }
        }
        meanwhile(&mut pair.b.monitor());
        pair.b.monitor().hangs_at = usize::MAX;
        first.operation.unwrap().id
    });
    running.ended_by_itself();
    id
}

#[test]
fn what_a_sidecar_ends_as_it_stops_is_told_as_it_ended_and_can_be_taken_up_again() {
    for in_use in [0, 2] {
        let pair = Pair::new();
        (1..=200).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
        let ask = MoveRequest { scopes: Vec::new(), ..moved("m", "a", "b", "any") };
        let id = stopped_amidst(&pair, &ask, |b| {
            b.in_use = b.flows.keys().copied().take(in_use).collect();
        });
        assert_eq!((pair.a.monitor().flows.len(), pair.b.monitor().flows.len()), (200, in_use));
        let running = pair.start();
        let told = block_on(running.state_operations()).remove(0);
        let state = if in_use == 0 { State::Undone } else { State::Failed };
        assert_eq!((told.id, told.state()), (id, state), "{told:?}");
        assert_eq!(told.failure(), StateFailure::Stopping, "{told:?}");
        let says = "asked for again with request id m, it is taken up again";
        assert!(told.reason.starts_with("the sidecar stops; "), "{}", told.reason);
        assert!(told.reason.ends_with(says), "{}", told.reason);
        let stays = told.reason.contains("2 flows are in use at the destination, and stay there");
        assert_eq!(stays, in_use > 0, "{}", told.reason);
        block_on(async {
            assert_eq!(running.state_ended(id).await, told);
            assert_eq!(refusal(&running.cancel(id).await.unwrap_err()).0, "OPERATION_ENDED");
            pair.b.monitor().in_use.clear();
            // Something in the way of it changes nothing.
            pair.a.hang(true);
            let other = begin(&running, moved("o", "a", "b", "any")).await;
            let refused = running.moves(ask.clone()).await.unwrap_err();
            assert_eq!(refusal(&refused).0, "OPERATION_IN_THE_WAY");
            running.cancel(other).await.unwrap();
            running.state_ended(other).await;
            assert_eq!(running.state_operations().await[1], told);
            assert_eq!(begin(&running, ask.clone()).await, id);
        });
        // It goes on then, whatever was told of it before.
        running.kill();
        let running = pair.start();
        pair.a.hang(false);
        block_on(async {
            let left = running.state_operations().await.remove(1);
            assert_eq!((left.id, left.state()), (id, State::Left), "{left:?}");
            let done = running.moves(ask).await.unwrap();
            assert_eq!((done.id, done.state()), (id, State::Done), "{done:?}");
        });
        assert_eq!((pair.a.monitor().flows.len(), pair.b.monitor().flows.len()), (0, 200));
    }
}

#[test]
fn a_row_that_can_not_be_read_is_left_out_of_the_list_and_hides_no_other() {
    let pair = Pair::new();
    let running = pair.start();
    let [bad, good] = block_on(async {
        let bad = running.copies(copied("bad", "a", "b", "any")).await.unwrap();
        [bad.id, running.copies(copied("good", "a", "b", "any")).await.unwrap().id]
    });
    running.kill();
    // It waits until the store is let go.
    drop(weir_control::store::Database::open(&pair.node.store()).unwrap());
    let connection = rusqlite::Connection::open(pair.node.store()).unwrap();
    let sql = "UPDATE answer SET response = x'ff' WHERE request_id = 'bad'";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    connection.close().unwrap();
    let running = pair.start();
    block_on(async {
        let all = running.state_operations().await;
        assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [good]);
        for status in [unwatched(&running, bad).await, running.cancel(bad).await.unwrap_err()] {
            let (reason, object, fix) = refusal(&status);
            assert_eq!((&*reason, object), ("STORE_FAILED", format!("operations/{bad}")));
            assert!(fix.contains("move it away"), "{fix}");
            assert!(status.message().contains("the answer to request \"bad\""), "{status:?}");
        }
    });
}

#[test]
fn the_list_is_bounded_however_many_operations_the_store_has() {
    const KEPT: u64 = ENDED_MAX as u64 + 99;
    let node = Node::new(1);
    node.start().kill();
    drop(weir_control::store::Database::open(&node.store()).unwrap());
    let mut connection = rusqlite::Connection::open(node.store()).unwrap();
    let transaction = connection.transaction().unwrap();
    // Numbers need not come in the order of requests.
    for id in (1..=KEPT).rev() {
        let mut ended = StateOperation { id, ..StateOperation::default() };
        ended.set_state(State::Done);
        let response = MoveResponse { operation: Some(ended) }.encode_to_vec();
        let sql = "INSERT INTO answer (request_id, method, request, response, operation) \
                   VALUES (?1, 'm', x'', ?2, ?3)";
        transaction.execute(sql, (id.to_string(), response, id.cast_signed())).unwrap();
    }
    transaction.commit().unwrap();
    connection.close().unwrap();
    let running = node.start();
    block_on(async {
        let ids: Vec<u64> = running.state_operations().await.iter().map(|one| one.id).collect();
        let newest: Vec<u64> = (KEPT - ENDED_MAX as u64 + 1..=KEPT).rev().collect();
        assert_eq!(ids, newest);
        // Its number still finds one that is no more in the list.
        assert_eq!(running.state_ended(1).await.state(), State::Done);
    });
}
