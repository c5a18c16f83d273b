//! Moves and copies between network functions in processes of their own, and what they come to when
//! an end refuses, hangs or dies.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::{
    dataplane::v1::Guarantee,
    nf::v1::{RefusalReason, Scope},
    v1::{
        MoveRequest, OperationState, StateFailure, StateOperationState as State,
        move_request::Selection,
    },
};

use crate::support::{
    gate::gated,
    nf::{Monitor, Nf, flow},
    node::{block_on, limited},
    state::{Pair, copied, moved},
};

/// The reason, the object and the fix of a refusal.
pub(crate) fn refusal(status: &Status) -> (String, String, String) {
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    let of = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
    (info.reason.clone(), of("object"), of("fix"))
}

#[test]
fn a_move_takes_state_along_and_tells_what_it_leaves_behind() {
    let pair = Pair::new();
    for host in 1..=40 {
        pair.a.monitor().packets(&flow(1, host, 1_000), u64::from(host));
        pair.a.monitor().packets(&flow(2, host, 1_000), 1);
    }
    let running = pair.start();
    block_on(async {
        let done = running.moves(moved("m", "a", "nf/b", "src=10.0.1.0/24")).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        // 40 flows and 40 hosts, and the server is of other flows too, as is the network.
        assert_eq!((done.chunks, done.left_behind), (80, 1), "{done:?}");
        assert_eq!(done.left_behind_ids, ["host=10.0.0.0/8,service=0"]);
        assert_eq!((done.from.as_str(), done.to.as_str()), ("nf/a", "nf/b"));
        assert!(done.bytes > 0 && done.started_unix_ns > 0);
        assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (40, 820));
        let host = [10, 0, 1, 7].into();
        assert_eq!((pair.a.monitor().of_host(host), pair.b.monitor().of_host(host)), (0, 7));
        assert_eq!(running.state_operations().await, [done]);
    });
}

#[test]
fn what_can_not_be_is_refused_with_what_to_do() {
    let pair = Pair::new();
    let running = pair.start();
    let fine = || moved("m", "a", "b", "any");
    type Spoil = fn(&mut MoveRequest);
    let cases: [(Spoil, Code, &str, &str); 9] = [
        (
            |ask| ask.guarantee = Guarantee::LossFree.into(),
            Code::FailedPrecondition,
            "NOT_LOSS_FREE",
            "--guarantee none",
        ),
        (
            |ask| (ask.from, ask.guarantee) = ("sw1".to_owned(), 0),
            Code::FailedPrecondition,
            "NOT_LOSS_FREE",
            "--guarantee none",
        ),
        (
            |ask| ask.selection = Some(Selection::Buckets("0-9".to_owned())),
            Code::FailedPrecondition,
            "BUCKETS_OF_A_PROCESS",
            "name a filter",
        ),
        (|ask| ask.to = "nf/a".to_owned(), Code::InvalidArgument, "SAME_END", "two ends"),
        (|ask| ask.to = "nf/c".to_owned(), Code::NotFound, "NOT_FOUND", "[[control.nf]]"),
        (|ask| ask.to = "sw9".to_owned(), Code::NotFound, "NOT_FOUND", "weir instance list"),
        (
            |ask| ask.scopes.push(Scope::AllFlows.into()),
            Code::InvalidArgument,
            "SCOPES",
            "weir copy --scope all-flows",
        ),
        (
            |ask| ask.selection = Some(Selection::Filter("sorce=1".to_owned())),
            Code::InvalidArgument,
            "FILTER",
            "",
        ),
        (|ask| ask.limit_ns = u64::MAX, Code::InvalidArgument, "LIMIT", ""),
    ];
    block_on(async {
        for (number, (spoil, code, reason, fix)) in cases.into_iter().enumerate() {
            let mut ask = MoveRequest {
                change: Some(crate::support::node::change(&format!("{number}"))),
                ..fine()
            };
            spoil(&mut ask);
            let refused = running.moves(ask).await.unwrap_err();
            let (found, _, mend) = refusal(&refused);
            assert_eq!((refused.code(), found.as_str()), (code, reason), "{refused:?}");
            assert!(mend.contains(fix), "{mend} is not {fix}");
        }
        assert_eq!(running.state_operations().await, []);
    });
}

#[test]
fn a_destination_that_is_full_is_as_it_was_and_says_which_chunk_it_refuses() {
    let pair = Pair::new();
    (1..=60).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    // A flow that both have, one that only the destination has, and room for 30.
    pair.b.monitor().packets(&flow(1, 1, 1_000), 2);
    pair.b.monitor().packets(&flow(9, 9, 1_000), 3);
    pair.b.monitor().flows_max = 30;
    let before = (pair.b.monitor().flows.clone(), pair.a.monitor().flows.clone());
    let running = pair.start();
    block_on(async {
        let undone = running.moves(moved("m", "a", "b", "src=10.0.1.0/24")).await.unwrap();
        assert_eq!((undone.state(), undone.failure()), (State::Undone, StateFailure::ChunkRefused));
        let refused = undone.refusal.unwrap();
        assert_eq!((refused.reason(), refused.scope()), (RefusalReason::Full, Scope::PerFlow));
        assert!(refused.id.starts_with("src=10.0.1.") && refused.message.contains("30"));
        assert_eq!(undone.failed_end, "nf/b");
        let after = (pair.b.monitor().flows.clone(), pair.a.monitor().flows.clone());
        assert_eq!(before, after);
        let host = [10, 0, 1, 1].into();
        assert_eq!((pair.a.monitor().of_host(host), pair.b.monitor().of_host(host)), (5, 2));
    });
}

/// What the destination does not take in may not be deleted at the source. A copy of it only changes
/// nothing.
#[test]
fn a_move_to_who_knows_newer_state_is_undone_and_a_copy_leaves_that_as_it_is() {
    let pair = Pair::new();
    (1..=60).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    // It has counted more updates, of one of these flows.
    pair.b.monitor().packets(&flow(9, 9, 1_000), 400);
    pair.b.monitor().packets(&flow(1, 33, 1_000), 2);
    pair.b.monitor().keeps_newer = true;
    let before = (pair.a.monitor().flows.clone(), pair.b.monitor().flows.clone());
    let running = pair.start();
    block_on(async {
        let mut ask = moved("m", "a", "b", "src=10.0.1.0/24");
        ask.scopes = vec![Scope::PerFlow.into()];
        let undone = running.moves(ask).await.unwrap();
        assert_eq!((undone.state(), undone.failure()), (State::Undone, StateFailure::ChunkRefused));
        let refused = undone.refusal.unwrap();
        assert_eq!((refused.reason(), refused.scope()), (RefusalReason::Older, Scope::PerFlow));
        assert!(refused.id.starts_with("src=10.0.1.33"), "{}", refused.id);
        assert_eq!(undone.failed_end, "nf/b");
        let after = (pair.a.monitor().flows.clone(), pair.b.monitor().flows.clone());
        assert_eq!(before, after);

        let mut ask = copied("c", "a", "b", "src=10.0.1.0/24");
        ask.scopes = vec![Scope::PerFlow.into()];
        let done = running.copies(ask).await.unwrap();
        assert_eq!((done.state(), done.chunks), (State::Done, 60), "{done:?}");
        assert_eq!(pair.b.monitor().of_flows(), 400 + 2 + 59 * 5);
    });
}

/// Packets that come while a move goes back make newer state, in the place of what is put back.
#[test]
fn an_undone_move_tells_of_how_many_flows_the_destination_did_not_take_its_own_state_back() {
    let pair = Pair::new();
    (1..=60).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    // Of three of these flows the destination has state of its own, and room for 30.
    (1..=3).for_each(|host| pair.b.monitor().packets(&flow(1, host, 1_000), 1));
    {
        let mut b = pair.b.monitor();
        (b.flows_max, b.keeps_newer, b.busy) = (30, true, true);
    }
    let before = pair.a.monitor().flows.clone();
    let running = pair.start();
    block_on(async {
        let mut ask = moved("m", "a", "b", "src=10.0.1.0/24");
        ask.scopes = vec![Scope::PerFlow.into()];
        let failed = running.moves(ask).await.unwrap();
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::ChunkRefused));
        let refused = failed.refusal.unwrap();
        assert_eq!(refused.reason(), RefusalReason::Older, "{}", failed.reason);
        assert!(failed.reason.contains("3 flows of nf/b itself"), "{}", failed.reason);
        assert_eq!(failed.failed_end, "nf/b");
        assert_eq!(pair.a.monitor().flows, before);
    });
}

/// State that comes may be of lower versions than what was copied on while it came.
#[test]
fn a_copy_of_the_destination_of_a_move_has_what_came_after_it() {
    let pair = Pair::new();
    (1..=40).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    pair.b.monitor().packets(&flow(9, 9, 1_000), 400);
    let third = Nf::start(&pair.socket("third"), Monitor::new(3));
    let running = pair.start();
    block_on(async {
        let copy = async |name: &str| {
            let mut ask = copied(name, "b", "third", "any");
            ask.scopes = vec![Scope::PerFlow.into()];
            let done = running.copies(ask).await.unwrap();
            assert_eq!((done.state(), done.rounds), (State::Done, 1), "{done:?}");
        };
        pair.a.hang(true);
        let mut ask = moved("m", "a", "b", "any");
        ask.scopes = vec![Scope::PerFlow.into()];
        let moving = running.state().await.r#move(ask.clone()).await.unwrap();
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(1));
        limited(async {
            while !pair.a.waits() {
                looks.tick().await;
            }
        })
        .await;
        for name in ["1", "2"] {
            copy(name).await;
        }
        assert_eq!(third.monitor().of_flows(), 400);
        pair.a.hang(false);
        let done = running.moves(ask).await.unwrap();
        drop(moving);
        assert_eq!((done.state(), done.chunks), (State::Done, 40), "{done:?}");
        copy("3").await;
        assert_eq!(third.monitor().flows, pair.b.monitor().flows);
        assert_eq!(third.monitor().of_flows(), 440);
    });
}

#[test]
fn a_copy_sends_only_what_has_changed_and_all_to_another_process() {
    let mut pair = Pair::new();
    (1..=50).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    let running = pair.start();
    block_on(async {
        let copy = async |name: &str| {
            let done = running.copies(copied(name, "a", "b", "src=10.0.0.0/8")).await.unwrap();
            assert_eq!((done.state(), done.rounds), (State::Done, 1), "{done:?}");
            done.chunks
        };
        // 50 hosts, and the network, of which the filter names all.
        assert_eq!(copy("1").await, 51);
        copy("2").await;
        assert_eq!(copy("3").await, 0, "nothing has changed");
        pair.a.monitor().packets(&flow(1, 7, 1_000), 3);
        assert_eq!(copy("4").await, 2, "a host and the network");
        assert_eq!(pair.b.monitor().of_host([10, 0, 1, 7].into()), 4);
        assert_eq!(pair.a.monitor().of_host([10, 0, 1, 7].into()), 4, "a copy leaves it there");
        // The destination dies and comes back without what it knew.
        let socket = pair.socket("b");
        drop(std::mem::replace(&mut pair.b, Nf::unserved(Monitor::new(2)).1));
        let failed = running.copies(copied("5", "a", "b", "any")).await.unwrap();
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Unreachable));
        assert_eq!(failed.failed_end, "nf/b");
        pair.b = Nf::start(&socket, Monitor::new(2));
        assert_eq!(copy("6").await, 51);
        assert_eq!(pair.b.monitor().of_host([10, 0, 1, 7].into()), 4);
    });
}

#[test]
fn copies_both_ways_converge_whatever_is_copied() {
    let pair = Pair::new();
    (1..=20).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 2));
    (10..=30).for_each(|host| pair.b.monitor().packets(&flow(1, host, 2_000), 3));
    let running = pair.start();
    block_on(async {
        for round in 0..4 {
            for (from, to) in [("a", "b"), ("b", "a")] {
                let mut ask = copied(&format!("{from}{round}"), from, to, "any");
                ask.scopes = vec![Scope::MultiFlow.into(), Scope::AllFlows.into()];
                let done = running.copies(ask).await.unwrap();
                assert_eq!(done.state(), State::Done, "{done:?}");
                if round == 3 {
                    assert_eq!(done.chunks, 0, "{done:?}");
                }
            }
        }
        for host in 1..=30 {
            let own = u64::from(host <= 20) * 2 + u64::from(host >= 10) * 3;
            let host = [10, 0, 1, host].into();
            assert_eq!(pair.a.monitor().of_host(host), own);
            assert_eq!(pair.b.monitor().of_host(host), own);
        }
    });
}

#[test]
fn contradictory_operations_are_refused_with_the_one_in_the_way() {
    let pair = Pair::new();
    let running = pair.start();
    pair.a.hang(true);
    block_on(async {
        let first = running.state().await.r#move(moved("1", "a", "b", "proto=tcp")).await.unwrap();
        let mut first = first.into_inner();
        let id = limited(first.message()).await.unwrap().unwrap().operation.unwrap().id;
        let refused = running.moves(moved("2", "b", "a", "dport=80")).await.unwrap_err();
        let object = format!("operations/{id}");
        let (reason, found, fix) = refusal(&refused);
        assert_eq!((reason.as_str(), &found), ("OPERATION_IN_THE_WAY", &object));
        assert!(fix.contains(&format!("weir operation cancel {id}")), "{fix}");
        let refused = running.copies(copied("3", "b", "a", "any")).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "OPERATION_IN_THE_WAY");
        // What hangs is cancelled, and then nothing is in the way.
        running.cancel(id).await.unwrap();
        let undone = running.state_ended(id).await;
        assert_eq!((undone.state(), undone.failure()), (State::Undone, StateFailure::Cancelled));
        pair.a.hang(false);
        let done = running.copies(copied("4", "b", "a", "any")).await.unwrap();
        assert_eq!(done.state(), State::Done);
        let refused = running.cancel(id).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "OPERATION_ENDED");
    });
}

#[test]
fn an_end_that_hangs_or_dies_holds_nobody_up_for_longer_than_the_limit() {
    let mut pair = Pair::new();
    (1..=5).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    let running = pair.start();
    block_on(async {
        pair.b.hang(true);
        let mut ask = moved("1", "a", "b", "any");
        ask.limit_ns = 200_000_000;
        let late = running.moves(ask).await.unwrap();
        assert_eq!((late.state(), late.failure()), (State::Undone, StateFailure::Late));
        let mut ask = copied("2", "a", "b", "any");
        ask.limit_ns = 200_000_000;
        let late = running.copies(ask).await.unwrap();
        assert_eq!((late.state(), late.failure()), (State::Failed, StateFailure::Late));
        drop(std::mem::replace(&mut pair.b, Nf::unserved(Monitor::new(2)).1));
        let dead = running.moves(moved("3", "a", "b", "any")).await.unwrap();
        assert_eq!((dead.state(), dead.failure()), (State::Undone, StateFailure::Unreachable));
        assert!(dead.reason.starts_with("nf/b: "), "{}", dead.reason);
        assert_eq!(pair.a.monitor().of_flows(), 5);
        let status = running.notified("b", "any", 0).await.unwrap_err();
        assert_eq!(refusal(&status).0, "END_UNREACHABLE");
    });
}

#[test]
fn a_repeated_request_is_the_same_operation_also_for_a_sidecar_that_was_started_again() {
    let pair = Pair::new();
    (1..=5).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    let running = pair.start();
    let done = block_on(running.moves(moved("m", "a", "b", "any"))).unwrap();
    let again = block_on(running.moves(moved("m", "a", "b", "any"))).unwrap();
    assert_eq!(done, again);
    // What comes to the source later is not of that move.
    pair.a.monitor().packets(&flow(1, 6, 1_000), 1);
    pair.a.hang(true);
    let begun = block_on(async {
        let mut stream =
            running.state().await.r#move(moved("n", "a", "b", "any")).await.unwrap().into_inner();
        limited(stream.message()).await.unwrap().unwrap().operation.unwrap()
    });
    running.kill();
    pair.a.hang(false);
    let running = pair.start();
    block_on(async {
        let ended = running.moves(moved("m", "a", "b", "any")).await.unwrap();
        assert_eq!((ended.id, ended.state(), ended.chunks), (done.id, State::Done, done.chunks));
        assert_eq!(pair.a.monitor().of_flows(), 1);
        // One that was begun and has not ended is taken up again.
        let taken = running.moves(moved("n", "a", "b", "any")).await.unwrap();
        assert_eq!((taken.id, taken.state()), (begun.id, State::Done), "{taken:?}");
        assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (0, 6));
        let next = running.moves(moved("o", "b", "a", "any")).await.unwrap();
        assert!(next.id > begun.id, "numbers are never used again");
    });
}

#[test]
fn a_move_that_was_cancelled_is_not_begun_again_by_the_next_sidecar() {
    let pair = Pair::new();
    (1..=5).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
    pair.a.monitor().hangs_deleted = 1;
    let running = pair.start();
    let id = block_on(async {
        let ask = moved("m", "a", "b", "any");
        let mut stream = running.state().await.r#move(ask).await.unwrap().into_inner();
        let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
        limited(async {
            while pair.a.monitor().deleted == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        running.cancel(id).await.unwrap();
        id
    });
    running.kill();
    pair.a.monitor().hangs_deleted = usize::MAX;
    pair.a.monitor().packets(&flow(1, 6, 1_000), 1);
    let running = pair.start();
    block_on(async {
        let ended = running.moves(moved("m", "a", "b", "any")).await.unwrap();
        assert_eq!((ended.id, ended.state()), (id, State::Failed), "{ended:?}");
        assert_eq!(ended.failure(), StateFailure::Cancelled);
        assert!(ended.reason.contains("before the sidecar was started again"), "{}", ended.reason);
        assert!(pair.a.monitor().flows.contains_key(&flow(1, 6, 1_000).both_ways()));
    });
}

#[test]
fn a_copy_that_repeats_ends_with_its_stream_or_its_rounds() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let mut ask = copied("1", "a", "b", "any");
        (ask.interval_ns, ask.rounds) = (10_000_000, 3);
        let done = running.copies(ask).await.unwrap();
        assert_eq!((done.state(), done.rounds), (State::Done, 3));
        let mut ask = copied("2", "a", "b", "any");
        ask.interval_ns = 10_000_000;
        let mut stream = running.state().await.copy(ask).await.unwrap().into_inner();
        let mut id = 0;
        while let Some(seen) = limited(stream.message()).await.unwrap() {
            let seen = seen.operation.unwrap();
            id = seen.id;
            if seen.rounds == 2 {
                break;
            }
        }
        pair.a.monitor().packets(&flow(1, 1, 1_000), 4);
        while pair.b.monitor().of_host([10, 0, 1, 1].into()) != 4 {
            limited(stream.message()).await.unwrap().unwrap();
        }
        drop(stream);
        let ended = running.state_abandoned(id).await;
        assert_eq!((ended.state(), ended.failure()), (State::Cancelled, StateFailure::Cancelled));
    });
}

#[test]
fn no_instance_is_removed_while_state_is_on_its_way_to_it() {
    let mut pair = Pair::new();
    pair.a.die();
    let (a, gate, _thread) = gated(&pair.socket("a"), Monitor::new(1), "Describe");
    pair.a = a;
    let running = pair.start();
    block_on(async {
        let asked = moved("m", "a", "sw2", "any");
        let mut stream = running.state().await.r#move(asked).await.unwrap().into_inner();
        let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
        gate.has_one().await;
        let refused = refusal(&running.begin_scale(1, "in").await.unwrap_err());
        assert_eq!(refused.0, "OPERATION_IN_THE_WAY");
        assert_eq!((refused.1, refused.2.contains("cancel")), (format!("operations/{id}"), true));
        // None that goes is an end of it.
        assert_eq!(running.scale(3, "out").await.state(), OperationState::Done);
        gate.open();
        running.state_ended(id).await;
        assert_eq!(running.scale(1, "in again").await.state(), OperationState::Done);
    });
}
