//! Moves to another node of which an end dies, is started again or stops: before the receipt, and
//! behind it.

use weir_api::{
    nf::v1::Scope,
    v1::{
        MoveRequest, StateFailure, StateOperation, StateOperationState as State, TransferOpen,
        TransferOutcome, TransferVerdict, transfer_request::Part, transfer_response::Part as Reply,
    },
};

use crate::support::{
    nf::flow,
    node::{Running, block_on, limited},
    peers::{Cutter, Nodes},
    source::{self, FLOW, begin, chunk, chunks, ended, next, open, settle, summary, tell},
    state::moved,
};

/// Chunks of 16 flows.
fn flows() -> Vec<Vec<u8>> {
    (5..=20).map(|host| chunk(&flow(1, host, 1_000), FLOW)).collect()
}

/// A move of all flows.
fn ask(id: &str) -> MoveRequest {
    MoveRequest { scopes: vec![Scope::PerFlow.into()], ..moved(id, "a", "two/b", "any") }
}

/// Two nodes, of which one has 600 flows and hangs when it has deleted some of them.
fn deleting() -> Nodes {
    let nodes = Nodes::new();
    for port in 0..6 {
        (1..=100).for_each(|host| nodes.a.monitor().packets(&flow(1, host, 1_000 + port), 5));
    }
    nodes.b.monitor().packets(&flow(1, 1, 1_000), 2);
    nodes.a.monitor().hangs_deleted = 1;
    nodes
}

/// Begins a move, and waits until the source has deleted some of it; its number.
async fn partly_deleted(nodes: &Nodes, one: &Running) -> u64 {
    let mut stream = one.state().await.r#move(ask("m")).await.unwrap().into_inner();
    let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
    limited(async {
        while nodes.a.monitor().deleted == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(nodes.a.monitor().of_flows() > 0, "not all is deleted");
    id
}

fn packets(nodes: &Nodes) -> (u64, u64) {
    (nodes.a.monitor().of_flows(), nodes.b.monitor().of_flows())
}

/// How the operations of a node stand, the newest first.
async fn operations(running: &Running) -> Vec<StateOperation> {
    let mut all = Vec::new();
    for operation in running.state_operations().await {
        all.push(running.state_ended(operation.id).await);
    }
    all
}

#[test]
fn an_end_that_is_started_again_is_not_taken_for_the_one_that_took_in_what_came_before() {
    let mut nodes = Nodes::new();
    let two = nodes.start_two();
    let all = flows();
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        // Between two messages, and between the last and the end.
        for (id, first) in [(1, 8), (2, all.len())] {
            let mut stream = begin(&mut client, open(id), vec![chunks(0, &all[..first])]).await;
            // There is credit again when it is put.
            limited(stream.1.message()).await.unwrap().unwrap();
            assert_eq!(nodes.b.monitor().flows.len(), first);
            nodes.restart_b();
            two.reaches("b").await;
            let rest = (first < all.len()).then(|| chunks(first as u64, &all[first..]));
            tell(&stream, rest.into_iter().chain([Part::End(summary(&all))]).collect()).await;
            let ended = ended(&mut stream).await;
            let undone = (TransferOutcome::Undone, "UNREACHABLE");
            assert_eq!((ended.outcome(), ended.reason.as_str()), undone, "{ended:?}");
            assert!(ended.message.contains("was started again"), "{ended:?}");
            assert_eq!(nodes.b.monitor().flows.len(), 0);
        }
        for operation in operations(&two).await {
            assert_eq!((operation.state(), operation.failed_end.as_str()), (State::Undone, "nf/b"));
        }
    });
}

#[test]
fn a_source_that_dies_behind_the_receipt_goes_on_when_it_is_asked_again() {
    let nodes = deleting();
    let two = nodes.start_two();
    let one = nodes.start_one(two.listening.unwrap());
    let id = block_on(partly_deleted(&nodes, &one));
    one.kill();
    nodes.a.monitor().hangs_deleted = usize::MAX;
    let one = nodes.start_one(two.listening.unwrap());
    block_on(async {
        let done = one.moves(ask("m")).await.unwrap();
        assert_eq!((done.state(), done.id), (State::Done, id), "{done:?}");
        assert_eq!(packets(&nodes), (0, 3_000));
        let there = operations(&two).await;
        assert_eq!([there[0].state(), there[1].state()], [State::Done, State::Failed]);
        assert_eq!(there[1].failure(), StateFailure::Unreachable);
        assert!(there[1].reason.contains("has begun its operation anew"), "{}", there[1].reason);
    });
}

#[test]
fn a_move_that_is_taken_up_again_is_never_told_to_be_as_it_was() {
    let nodes = deleting();
    let two = nodes.start_two();
    let way = Cutter::new(two.listening.unwrap());
    let one = nodes.start_one(way.address);
    block_on(partly_deleted(&nodes, &one));
    one.kill();
    two.kill();
    nodes.a.monitor().hangs_deleted = usize::MAX;
    let one = nodes.start_one(way.address);
    block_on(async {
        let failed = one.moves(ask("m")).await.unwrap();
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Unreachable));
        assert!(failed.reason.contains("may have moved some of it"), "{}", failed.reason);
        // The same for ever, and another request goes on.
        assert_eq!(one.moves(ask("m")).await.unwrap().state(), State::Failed);
        let two = nodes.start_two();
        way.lead(two.listening.unwrap());
        assert_eq!(one.moves(ask("n")).await.unwrap().state(), State::Done);
        assert_eq!(packets(&nodes), (0, 3_000));
    });
}

#[test]
fn a_connection_that_breaks_behind_the_receipt_leaves_a_move_done() {
    let nodes = deleting();
    let two = nodes.start_two();
    let way = Cutter::new(two.listening.unwrap());
    let one = nodes.start_one(way.address);
    block_on(async {
        let id = partly_deleted(&nodes, &one).await;
        way.cut();
        nodes.a.monitor().hangs_deleted = usize::MAX;
        let (here, there) = (one.state_ended(id).await, operations(&two).await);
        assert_eq!((here.state(), there[0].state()), (State::Done, State::Done), "{here:?}");
        assert_eq!(packets(&nodes), (0, 3_000));
    });
}

#[test]
fn a_source_whose_function_dies_behind_the_receipt_says_that_some_is_still_there() {
    let mut nodes = deleting();
    let (one, two) = nodes.start();
    block_on(async {
        let id = partly_deleted(&nodes, &one).await;
        nodes.a.die();
        let (here, there) = (one.state_ended(id).await, operations(&two).await);
        assert_eq!((here.state(), here.failed_end.as_str()), (State::Failed, "nf/a"), "{here:?}");
        assert!(here.reason.contains("some may still be at the source"), "{}", here.reason);
        assert_eq!((there[0].state(), nodes.b.monitor().of_flows()), (State::Done, 3_000));
    });
}

#[test]
fn a_destination_whose_function_dies_can_not_undo_and_costs_the_source_nothing() {
    let mut nodes = Nodes::new();
    (1..=100).for_each(|host| nodes.a.monitor().packets(&flow(1, host, 1_000), 5));
    nodes.b.monitor().hangs_at = 40;
    let (one, two) = nodes.start();
    block_on(async {
        let mut stream = one.state().await.r#move(ask("m")).await.unwrap().into_inner();
        let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
        limited(async {
            while nodes.b.monitor().flows.len() < 40 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        nodes.b.die();
        let (here, there) = (one.state_ended(id).await, operations(&two).await);
        assert_eq!((here.state(), there[0].state()), (State::Failed, State::Failed), "{here:?}");
        assert_eq!((there[0].failed_end.as_str(), nodes.a.monitor().of_flows()), ("nf/b", 500));
    });
}

#[test]
fn a_sidecar_that_stops_waits_for_the_verdict_and_takes_it_by_a_new_connection_too() {
    for by_stream in [true, false] {
        let nodes = Nodes::new();
        let mut two = nodes.start_two();
        let all = flows();
        block_on(async {
            let address = two.listening.unwrap();
            let mut client = nodes.authority.client("one", address).await;
            let parts = vec![chunks(0, &all), Part::End(summary(&all))];
            let mut stream = begin(&mut client, open(1), parts).await;
            assert_eq!(next(&mut stream).await, Reply::Receipt(summary(&all)));
            let mut another = nodes.authority.client("one", address).await;
            two.stop();
            let stops = async {
                for id in 2.. {
                    // Of other state; one that begins is undone as it is dropped.
                    let other = vec![Scope::MultiFlow.into()];
                    let open = vec![Part::Open(TransferOpen { scopes: other, ..open(id) })];
                    let begun = source::say(&mut another, open).await;
                    if begun.is_err_and(|refused| source::reason(&refused).1 == "STOPPING") {
                        return;
                    }
                }
            };
            limited(stops).await;
            if by_stream {
                tell(&stream, vec![Part::Verdict(TransferVerdict::Undo.into())]).await;
                assert_eq!(ended(&mut stream).await.outcome(), TransferOutcome::Undone);
            } else {
                drop(stream);
                let mut new = nodes.authority.client("one", address).await;
                let undone = settle(&mut new, 1, TransferVerdict::Undo).await;
                assert_eq!(undone, TransferOutcome::Undone);
            }
            assert_eq!(nodes.b.monitor().flows.len(), 0);
        });
    }
}

#[test]
fn a_move_that_holds_is_kept_when_it_is_cancelled() {
    let nodes = Nodes::new();
    let two = nodes.start_two();
    let all = flows();
    block_on(async {
        let mut client = nodes.authority.client("one", two.listening.unwrap()).await;
        let parts = vec![chunks(0, &all), Part::End(summary(&all))];
        let mut stream = begin(&mut client, open(1), parts).await;
        assert_eq!(next(&mut stream).await, Reply::Receipt(summary(&all)));
        two.cancel(two.state_operations().await[0].id).await.unwrap();
        assert_eq!(ended(&mut stream).await.outcome(), TransferOutcome::Kept);
        let there = &operations(&two).await[0];
        assert_eq!((there.state(), there.failure()), (State::Failed, StateFailure::Cancelled));
        assert!(there.reason.contains("all state is at the destination"), "{}", there.reason);
        assert_eq!(nodes.b.monitor().flows.len(), all.len());
        assert_eq!(settle(&mut client, 1, TransferVerdict::Undo).await, TransferOutcome::Kept);
    });
}

#[test]
fn a_node_that_grants_everything_and_reads_nothing_gets_a_bounded_part() {
    let nodes = Nodes::new();
    for port in 0..100 {
        (1..=200).for_each(|host| nodes.a.monitor().packets(&flow(1, host, 1_000 + port), 1));
    }
    let greedy = nodes.greedy();
    let one = nodes.start_one(greedy.address);
    block_on(async {
        let ask = MoveRequest { limit_ns: 5_000_000_000, ..ask("m") };
        let mut stream = one.state().await.r#move(ask).await.unwrap().into_inner();
        let id = limited(stream.message()).await.unwrap().unwrap().operation.unwrap().id;
        let undoing = one.state_is(id, State::Undoing).await;
        assert_eq!(undoing.failure(), StateFailure::Late);
        assert!(undoing.chunks < 8_192, "{} of 20,000 chunks wait for it", undoing.chunks);
        greedy.break_off();
        assert_eq!(one.state_ended(id).await.state(), State::Undone);
        assert_eq!(nodes.a.monitor().flows.len(), 20_000);
    });
}
