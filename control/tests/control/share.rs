//! Shares: how long they last, what they come to when an end or the sidecar dies, and what they
//! exclude.

use tonic::Code;
use weir_api::{
    dataplane::v1::{ShareMode, SharePhase},
    nf::v1::Scope,
    v1::{
        ChangeShareRequest, MoveRequest, ShareRequest, StateFailure, StateOperationState as State,
        move_request::Selection,
    },
};

use weir_control::store::{ANSWERS_MAX, Database};

use crate::{
    state::refusal,
    support::{
        node::{Node, Running, block_on, change, limited},
        state::{moved, shared},
    },
};

pub(crate) const TWO: &[&str] = &["sw1", "2"];

/// Waits until a share of the data plane is in a phase.
pub(crate) async fn until(node: &Node, id: u64, wanted: &[SharePhase]) {
    limited(async {
        while !wanted.contains(&node.fake.model().share(id).unwrap().phase()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until a sidecar knows an operation.
pub(crate) async fn known(running: &Running, id: u64) {
    limited(async {
        while running.state_operations().await.iter().all(|operation| operation.id != id) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[test]
fn a_share_lasts_until_it_is_cancelled_whoever_follows_it() {
    let node = Node::new(3);
    let running = node.start();
    block_on(async {
        let ask =
            ShareRequest { mode: ShareMode::Strict.into(), ..shared("s", TWO, "src=10.0.0.0/8") };
        let (begun, stream) = running.shares(ask).await.unwrap();
        assert_eq!(
            (begun.state(), &begun.scopes),
            (State::Running, &vec![Scope::MultiFlow as i32])
        );
        assert_eq!(begun.instances, ["instance/sw1", "instance/sw2"]);
        let share = begun.share.unwrap();
        assert_eq!((share.instances, share.mode), (vec![1, 2], ShareMode::Strict as i32));
        drop(stream);
        assert_eq!(running.state_operations().await[0].state(), State::Running);
        running.cancel(begun.id).await.unwrap();
        let ended = running.state_ended(begun.id).await;
        assert_eq!((ended.state(), ended.failure()), (State::Cancelled, StateFailure::Cancelled));
        assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Ended);
    });
}

#[test]
fn a_share_ends_when_its_time_is_over() {
    let node = Node::new(2);
    let running = node.start();
    block_on(async {
        let ask = ShareRequest { limit_ns: 50_000_000, ..shared("s", TWO, "any") };
        let (begun, mut stream) = running.shares(ask).await.unwrap();
        let mut last = begun;
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            last = seen.operation.unwrap();
        }
        assert_eq!((last.state(), &*last.reason), (State::Done, ""));
        assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Ended);
    });
}

#[test]
fn what_can_not_be_shared_is_refused_with_why() {
    let node = Node::new(2);
    let running = node.start();
    let fine = || shared("s", TWO, "any");
    let named = |instances: &[&str]| shared("s", instances, "any").instances;
    let cases = [
        (ShareRequest { instances: named(&["sw1"]), ..fine() }, Code::InvalidArgument, "INSTANCES"),
        (
            ShareRequest { instances: named(&["sw1", "1"]), ..fine() },
            Code::InvalidArgument,
            "INSTANCES",
        ),
        (
            ShareRequest { instances: named(&["sw1", "nf/a"]), ..fine() },
            Code::InvalidArgument,
            "INSTANCES",
        ),
        (ShareRequest { instances: named(&["sw1", "sw9"]), ..fine() }, Code::NotFound, "NOT_FOUND"),
        (ShareRequest { filter: "sorce=1".to_owned(), ..fine() }, Code::InvalidArgument, "FILTER"),
        (ShareRequest { scopes: vec![77], ..fine() }, Code::InvalidArgument, "SCOPES"),
        (ShareRequest { mode: 77, ..fine() }, Code::InvalidArgument, "MODE"),
        // What only the data plane knows.
        (
            ShareRequest { filter: "tcp_flags=syn".to_owned(), ..fine() },
            Code::InvalidArgument,
            "DATAPLANE_REFUSED",
        ),
    ];
    block_on(async {
        for (number, (ask, code, reason)) in cases.into_iter().enumerate() {
            let ask = ShareRequest { change: Some(change(&format!("{number}"))), ..ask };
            let refused = running.shares(ask).await.map(drop).unwrap_err();
            assert_eq!((refused.code(), &*refusal(&refused).0), (code, reason), "{refused:?}");
        }
        assert_eq!(running.state_operations().await, []);
        assert!(node.fake.model().shares.is_empty());
    });
}

#[test]
fn what_contradicts_a_share_is_refused_with_its_number() {
    let node = Node::new(3);
    let running = node.start();
    block_on(async {
        let (first, _stream) = running.shares(shared("1", TWO, "src=10.0.0.0/8")).await.unwrap();
        let object = format!("operations/{}", first.id);
        let in_the_way = |status| {
            let (reason, found, fix) = refusal(&status);
            assert_eq!((&*reason, &found), ("OPERATION_IN_THE_WAY", &object), "{status:?}");
            assert!(fix.contains(&format!("weir operation cancel {}", first.id)), "{fix}");
        };
        let second = running.shares(shared("2", &["sw2", "sw3"], "proto=tcp")).await;
        in_the_way(second.map(drop).unwrap_err());
        let ask = MoveRequest {
            selection: Some(Selection::Buckets("0-9".to_owned())),
            guarantee: 0,
            scopes: Vec::new(),
            ..moved("3", "sw3", "sw1", "")
        };
        in_the_way(running.moves(ask.clone()).await.unwrap_err());
        in_the_way(running.begin_scale(2, "4").await.map(drop).unwrap_err());
        running.cancel(first.id).await.unwrap();
        running.state_ended(first.id).await;
        let ask = MoveRequest { change: Some(change("6")), ..ask };
        assert_eq!(running.moves(ask).await.unwrap().state(), State::Done);
        assert_eq!(running.scale(2, "7").await.to_instances, 2);
    });
}

#[test]
fn a_share_that_is_begun_while_the_node_scales_is_refused() {
    let node = Node::new(2);
    let running = node.start_paused("move:1");
    block_on(async {
        let _scaling = running.begin_scale(3, "scale").await.unwrap();
        let refused = running.shares(shared("s", TWO, "any")).await.map(drop).unwrap_err();
        assert_eq!(refusal(&refused).0, "OPERATION_IN_PROGRESS");
    });
}

#[test]
fn instances_join_and_leave() {
    let node = Node::new(3);
    let running = node.start();
    block_on(async {
        let (begun, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        let ask = |name: &str, id, instances: &[&str]| ChangeShareRequest {
            change: Some(change(name)),
            id,
            instances: shared("", instances, "").instances,
        };
        let mut api = running.state().await;
        let three = api.change_share(ask("three", begun.id, &["sw1", "sw2", "sw3"])).await.unwrap();
        let shown = three.into_inner().operation.unwrap();
        assert_eq!(shown.instances, ["instance/sw1", "instance/sw2", "instance/sw3"]);
        assert_eq!(node.fake.model().share(1).unwrap().instances, [1, 2, 3]);
        until(&node, 1, &[SharePhase::Steady]).await;
        api.change_share(ask("two", begun.id, &["sw3", "sw1"])).await.unwrap();
        assert_eq!(node.fake.model().share(1).unwrap().instances, [3, 1]);
        // One fails: who is left is shown.
        until(&node, 1, &[SharePhase::Steady]).await;
        node.fake.model().share(1).unwrap().instances = vec![1];
        limited(async {
            while running.state_operations().await[0].instances != ["instance/sw1"] {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for (name, id, instances, reason) in [
            ("none", 99, TWO, "NOT_FOUND"),
            ("few", begun.id, &["sw1"][..], "INSTANCES"),
            ("gone", begun.id, &["sw1", "sw9"][..], "NOT_FOUND"),
        ] {
            let refused = api.change_share(ask(name, id, instances)).await.unwrap_err();
            assert_eq!(refusal(&refused).0, reason);
        }
        running.cancel(begun.id).await.unwrap();
        running.state_ended(begun.id).await;
        let refused = api.change_share(ask("late", begun.id, TWO)).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "OPERATION_ENDED");
    });
}

#[test]
fn a_sidecar_that_is_started_again_takes_a_share_up_by_itself() {
    let node = Node::new(2);
    let running = node.start();
    let ask = ShareRequest { limit_ns: 3_600_000_000_000, ..shared("s", TWO, "any") };
    let begun = block_on(running.shares(ask.clone())).unwrap().0;
    running.kill();
    assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Steady);
    let running = node.start();
    block_on(async {
        known(&running, begun.id).await;
        // Asked again it is the same.
        let (again, _stream) = running.shares(ask).await.unwrap();
        assert_eq!((again.id, again.instances), (begun.id, begun.instances));
        let refused = running.shares(shared("t", TWO, "any")).await.map(drop).unwrap_err();
        assert_eq!(refusal(&refused).0, "OPERATION_IN_THE_WAY");
        running.cancel(begun.id).await.unwrap();
        assert_eq!(running.state_ended(begun.id).await.state(), State::Cancelled);
        let model = node.fake.model();
        assert_eq!((model.shares.len(), model.shares[0].phase()), (1, SharePhase::Ended));
    });
}

#[test]
fn a_share_that_is_taken_up_ends_when_the_time_is_over_that_it_was_given_first() {
    let node = Node::new(2);
    let running = node.start();
    let ask = ShareRequest { limit_ns: 300_000_000, ..shared("s", TWO, "any") };
    let begun = block_on(running.shares(ask)).unwrap().0;
    running.kill();
    let running = node.start();
    block_on(async {
        known(&running, begun.id).await;
        assert_eq!(running.state_ended(begun.id).await.state(), State::Done);
        assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Ended);
    });
}

#[test]
fn a_share_is_taken_up_however_many_changes_came_after_it() {
    let node = Node::new(4);
    let running = node.start();
    let (timed, lasting) = block_on(async {
        let ask = ShareRequest { limit_ns: 3_000_000_000, ..shared("timed", TWO, "any") };
        let (timed, _stream) = running.shares(ask).await.unwrap();
        let (lasting, _stream) =
            running.shares(shared("lasting", &["sw3", "sw4"], "any")).await.unwrap();
        (timed.id, lasting.id)
    });
    running.kill();
    node.many_later_changes(2 * ANSWERS_MAX, false);
    let running = node.start();
    block_on(async {
        known(&running, timed).await;
        assert_eq!(running.state_ended(timed).await.state(), State::Done);
        known(&running, lasting).await;
        running.cancel(lasting).await.unwrap();
        assert_eq!(running.state_ended(lasting).await.state(), State::Cancelled);
        let mut model = node.fake.model();
        assert_eq!([1, 2].map(|id| model.share(id).unwrap().phase()), [SharePhase::Ended; 2]);
    });
    // What has ended is forgotten in its turn.
    running.kill();
    node.many_later_changes(1, false);
    let store = Database::open(&node.store()).unwrap();
    assert_eq!(["timed", "lasting"].map(|id| store.answer(id).unwrap()), [None, None]);
}

/// A share of which a sidecar has answered that it is to end, and which it has not ended.
fn cancelled_in_vain(node: &Node) -> u64 {
    let running = node.start();
    node.fake.model().deaf = true;
    let id = block_on(async {
        let (begun, _stream) = running.shares(shared("s", TWO, "any")).await.unwrap();
        running.cancel(begun.id).await.unwrap();
        begun.id
    });
    running.kill();
    assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Steady);
    node.fake.model().deaf = false;
    id
}

#[test]
fn a_cancel_that_was_answered_is_carried_out_by_the_next_sidecar() {
    let node = Node::new(2);
    let id = cancelled_in_vain(&node);
    let running = node.start();
    block_on(async {
        known(&running, id).await;
        let ended = running.state_ended(id).await;
        assert_eq!((ended.state(), ended.failure()), (State::Cancelled, StateFailure::Cancelled));
        assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Ended);
        let again = running.shares(shared("s", TWO, "any")).await.unwrap().0;
        assert_eq!((again.id, again.state()), (id, State::Cancelled));
        assert_eq!(node.fake.model().shares.len(), 1);
    });
}

#[test]
fn another_share_of_the_same_number_is_not_ended() {
    let node = Node::new(2);
    let id = cancelled_in_vain(&node);
    let mut other = node.fake.model().share(1).unwrap().clone();
    "other".clone_into(&mut other.request_id);
    node.fake.model().restart();
    node.fake.model().shares.push(other);
    let running = node.start();
    block_on(async {
        known(&running, id).await;
        assert_eq!(running.state_ended(id).await.state(), State::Cancelled);
    });
    assert_eq!(node.fake.model().share(1).unwrap().phase(), SharePhase::Steady);
}

#[test]
fn a_share_that_died_with_its_data_plane_has_failed_for_the_next_sidecar_too() {
    let node = Node::new(2);
    let running = node.start();
    let begun = block_on(running.shares(shared("s", TWO, "any"))).unwrap().0;
    running.kill();
    node.fake.model().restart();
    let running = node.start();
    block_on(async {
        known(&running, begun.id).await;
        let failed = running.state_ended(begun.id).await;
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Unreachable));
        let again = running.shares(shared("s", TWO, "any")).await.unwrap().0;
        assert_eq!((again.id, again.state()), (begun.id, State::Failed));
        assert!(node.fake.model().shares.is_empty());
    });
}

#[test]
fn a_share_of_which_nobody_was_told_is_ended_by_the_next_sidecar_and_others_are_not() {
    let node = Node::new(2);
    let running = node.start();
    node.fake.model().mute = true;
    block_on(async {
        let ask = running.shares(shared("s", TWO, "any"));
        tokio::select! {
            answered = ask => panic!("{answered:?}"),
            () = until_begun(&node) => {}
        }
    });
    running.kill();
    node.fake.model().mute = false;
    // Somebody has asked the data plane itself for another.
    let mut other = node.fake.model().share(1).unwrap().clone();
    (other.id, other.request_id) = (2, "other".to_owned());
    other.set_phase(SharePhase::Steady);
    node.fake.model().shares.push(other);
    let running = node.start();
    block_on(async {
        until(&node, 1, &[SharePhase::Ending, SharePhase::Ended]).await;
        assert_eq!(running.state_operations().await, []);
    });
    let phase = node.fake.model().share(2).unwrap().phase();
    assert!(!matches!(phase, SharePhase::Ending | SharePhase::Ended), "{phase:?}");
}

#[test]
fn a_caller_that_goes_away_while_a_share_begins_leaves_nothing_behind() {
    let node = Node::new(2);
    let running = node.start();
    block_on(async {
        // So that the sidecar does not look for shares by itself any more.
        running.until(|status| status.instances_desired == 2).await;
        node.fake.model().mute = true;
        tokio::select! {
            answered = running.shares(shared("s", TWO, "any")) => panic!("{answered:?}"),
            () = until_begun(&node) => {}
        }
        until(&node, 1, &[SharePhase::Ending, SharePhase::Ended]).await;
        assert_eq!(running.state_operations().await, []);
    });
}

async fn until_begun(node: &Node) {
    while node.fake.model().shares.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_data_plane_that_dies_or_ends_it_takes_the_share_with_it() {
    let node = Node::new(2);
    let running = node.start();
    block_on(async {
        let (first, _stream) = running.shares(shared("1", TWO, "any")).await.unwrap();
        {
            let mut model = node.fake.model();
            let share = model.share(1).unwrap();
            share.set_phase(SharePhase::Ended);
            "all its instances have failed".clone_into(&mut share.reason);
        }
        let failed = running.state_ended(first.id).await;
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Dataplane));
        assert!(failed.reason.contains("all its instances have failed"), "{}", failed.reason);
        let (second, _stream) = running.shares(shared("2", TWO, "any")).await.unwrap();
        node.fake.model().restart();
        let failed = running.state_ended(second.id).await;
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Unreachable));
        assert!(failed.reason.contains("started again"), "{}", failed.reason);
        assert!(node.fake.model().shares.is_empty());
    });
}

#[test]
fn weir_shares_changes_and_ends() {
    let node = Node::new(3);
    let running = node.start();
    let weir = |arguments: &[&str]| {
        let output = running.weir(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, way) =
        weir(&["share", "--instances", "sw1,sw2", "--filter", "src=10.0.0.0/8", "--no-wait"]);
    assert_eq!(code, Some(0), "{way}");
    assert!(
        out.contains("instance/sw1,instance/sw2") && way.contains("steady, 2 instances"),
        "{out}{way}"
    );
    let (code, out, way) = weir(&["share", "change", "1", "--instances", "sw1,sw2,sw3"]);
    assert_eq!(code, Some(0), "{way}");
    assert!(out.contains("3 instances"), "{out}");
    let strict = ["share", "--instances", "sw1,sw2", "--filter", "any", "--mode", "strict"];
    let (code, _, way) = weir(&strict);
    assert_eq!(code, Some(4), "{way}");
    assert!(way.contains("operation 1"), "{way}");
    assert_eq!(weir(&["operation", "cancel", "1"]).0, Some(0));
    block_on(running.state_ended(1));
    let (code, out, way) = weir(&[&strict[..], &["--time-limit", "50ms"]].concat());
    assert_eq!(code, Some(0), "{way}");
    assert!(out.contains("done"), "{out}");
}
