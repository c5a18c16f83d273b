//! Time limits of operations on state: what each comes to when its time is over.

use std::time::Duration;

use weir_api::{
    dataplane::v1::MovePhase,
    v1::{
        CopyRequest, MoveRequest, NotifyRequest, StateFailure, StateOperationState as State,
        notify_response::Note,
    },
};

use crate::{
    state::refusal,
    support::{
        nf::{Monitor, Nf, flow},
        node::{Node, block_on, limited},
        state::{Pair, copied},
    },
    uncertain::between,
};

/// Long enough for all that is to happen before.
const LIMIT: Duration = Duration::from_secs(2);

fn nanos(limit: Duration) -> u64 {
    limit.as_nanos() as u64
}

#[test]
fn a_move_between_instances_that_hangs_is_undone_and_its_next_sidecar_says_so_too() {
    let node = Node::new(2);
    let running = node.start();
    block_on(running.until(|status| status.instances_desired == 2));
    node.fake.model().stands = true;
    let ask = MoveRequest { limit_ns: nanos(Duration::from_millis(200)), ..between("m") };
    let undone = block_on(running.moves(ask.clone())).unwrap();
    assert_eq!((undone.state(), undone.failure()), (State::Undone, StateFailure::Late));
    assert!(undone.reason.contains("did not end within 200ms"), "{undone:?}");
    assert!(undone.elapsed_ns >= 200_000_000, "{undone:?}");
    assert_eq!(undone.r#move.as_ref().unwrap().phase(), MovePhase::Undone);
    running.kill();
    let running = node.start();
    assert_eq!(block_on(running.moves(ask)).unwrap(), undone);
    let model = node.fake.model();
    assert_eq!(model.moves_of("m").len(), 1, "nothing is moved again");
    assert_eq!(model.moves_of("m")[0].phase(), MovePhase::Undone);
}

#[test]
fn a_notification_whose_time_is_over_is_done_and_leaves_no_subscription() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let ask = NotifyRequest {
            end: "a".to_owned(),
            filter: "any".to_owned(),
            limit_ns: nanos(LIMIT),
            ..NotifyRequest::default()
        };
        let (operation, mut stream) = running.notified_as(ask).await.unwrap();
        assert_eq!(pair.a.monitor().subscriptions, 1);
        pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
        let (mut events, mut ended) = (0, None);
        while let Some(told) = limited(stream.message()).await.unwrap() {
            match told.note.unwrap() {
                Note::Event(_) => events += 1,
                Note::Operation(last) => ended = Some(*last),
                Note::Gap(gap) => panic!("{gap:?}"),
            }
        }
        let ended = ended.expect("it says how it has ended");
        assert!(ended.elapsed_ns >= nanos(LIMIT), "{ended:?}");
        assert_eq!((ended.id, ended.state(), events), (operation.id, State::Done, 5));
        assert_eq!((ended.failure(), ended.events), (StateFailure::Unspecified, 5), "{ended:?}");
        limited(async {
            while pair.a.monitor().subscriptions != 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
    let command = ["-o", "json", "notify", "b", "--filter", "any", "--time-limit", "100ms"];
    let told = running.weir(&command);
    assert!(told.status.success(), "{told:?}");
    let last = String::from_utf8_lossy(&told.stdout).lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["operation"]["state"], "STATE_OPERATION_STATE_DONE");
}

#[test]
fn a_notification_that_has_told_as_many_events_as_were_asked_for_is_done() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        let (end, filter) = ("a".to_owned(), "any".to_owned());
        let ask = NotifyRequest { end, filter, count: 3, ..NotifyRequest::default() };
        let (operation, mut stream) = running.notified_as(ask).await.unwrap();
        pair.a.monitor().packets(&flow(1, 1, 1_000), 9);
        for sequence in 0..3 {
            let told = limited(stream.message()).await.unwrap().unwrap().note.unwrap();
            assert!(matches!(&told, Note::Event(event) if event.sequence == sequence), "{told:?}");
        }
        let told = limited(stream.message()).await.unwrap().unwrap().note.unwrap();
        let Note::Operation(ended) = told else { panic!("{told:?}") };
        assert_eq!((ended.id, ended.state(), ended.events), (operation.id, State::Done, 3));
        assert_eq!(limited(stream.message()).await.unwrap(), None);
        limited(async {
            while pair.a.monitor().subscriptions != 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
    let notify = ["notify", "b", "--filter", "any", "--count", "2", "--time-limit", "1h"];
    let told = running.weir_while(&notify, || pair.b.monitor().packets(&flow(1, 2, 1_000), 1));
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && said.ends_with("operation 2: 2 events were told\n"), "{said}");
    assert_eq!(String::from_utf8_lossy(&told.stdout).lines().count(), 2, "{told:?}");
}

#[test]
fn a_copy_that_repeats_is_done_when_its_time_is_over() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    let running = pair.start();
    let every = Duration::from_millis(10);
    block_on(async {
        let ask = CopyRequest {
            interval_ns: nanos(every),
            time_limit_ns: nanos(Duration::from_millis(300)),
            ..copied("c", "a", "b", "any")
        };
        let done = running.copies(ask).await.unwrap();
        assert_eq!((done.state(), done.failure()), (State::Done, StateFailure::Unspecified));
        assert!(done.rounds >= 1, "{done:?}");
        // The last round began in time, and would have been the last but for that.
        assert!(done.rounds <= 300 / 10 + 1, "{done:?}");
        assert_eq!(pair.b.monitor().of_host([10, 0, 1, 1].into()), 5);
    });
    let copy = ["copy", "--from", "a", "--to", "b", "--filter", "any", "--time-limit", "100ms"];
    let repeated = running.weir(&[&copy[..], &["--every", "10ms"]].concat());
    assert!(repeated.status.success(), "{repeated:?}");
    assert_eq!(running.weir(&copy).status.code(), Some(2), "once has no time but its own limit");
}

#[test]
fn the_limit_of_a_command_undoes_a_move_whose_end_hangs() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    let running = pair.start();
    pair.a.hang(true);
    let promise = ["--guarantee", "none", "--time-limit", "200ms"];
    let command = [&["move", "--from", "a", "--to", "b", "--filter", "any"], &promise[..]].concat();
    let moved = running.weir(&command);
    assert_eq!(moved.status.code(), Some(1), "{moved:?}");
    let said = String::from_utf8_lossy(&moved.stdout);
    assert!(said.contains(" undone ") && said.contains("did not end within 200ms"), "{said}");
    pair.a.hang(false);
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (5, 0));
}

/// One that hangs keeps its connections; who has its socket now is asked at the next copy.
#[test]
fn a_copy_tells_who_hangs_and_asks_who_was_started_in_its_place() {
    let pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    let socket = pair.socket("third");
    let _hangs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let running = pair.start();
    block_on(async {
        let ask = |id: &str, to: &str, limit| CopyRequest {
            limit_ns: nanos(limit),
            ..copied(id, "a", to, "any")
        };
        let late = running.copies(ask("1", "third", Duration::from_secs(30))).await.unwrap();
        assert_eq!((late.state(), late.failure()), (State::Failed, StateFailure::Late));
        assert_eq!(late.failed_end, "nf/third");
        assert!(late.reason.contains("did not answer describe within 5s"), "{late:?}");
        pair.b.hang(true);
        let late = running.copies(ask("2", "b", Duration::from_millis(200))).await.unwrap();
        let waits = "within 200ms: it waited for multi-flow state of nf/a to be taken in by nf/b";
        assert!(late.reason.ends_with(waits), "{late:?}");

        std::fs::remove_file(&socket).unwrap();
        let third = Nf::start(&socket, Monitor::new(3));
        let done = running.copies(ask("3", "third", Duration::from_secs(30))).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert_eq!(third.monitor().of_host([10, 0, 1, 1].into()), 5);
    });
}

/// They would be left out of account.
#[test]
fn rounds_and_a_time_for_all_of_them_are_refused_of_a_copy_that_does_not_repeat() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        for (rounds, time_limit_ns) in [(3, 0), (0, 1_000_000_000)] {
            let ask = copied("c", "a", "b", "any");
            let ask = CopyRequest { rounds, time_limit_ns, ..ask };
            let refused = running.copies(ask).await.unwrap_err();
            let (reason, object, fix) = refusal(&refused);
            assert_eq!((&*reason, &*object), ("INTERVAL", "interval_ns"), "{refused:?}");
            assert!(fix.contains("the next begins"), "{fix}");
        }
    });
}
