//! What a watcher of the node is told.

use std::pin::pin;

use tokio_stream::StreamExt as _;
use tonic::{Code, Streaming};
use weir_api::dataplane::v1 as api;

use super::{LONG, served::Served};

type Told = Streaming<api::WatchNodeResponse>;

async fn watch(served: &Served, prefix: &str) -> Told {
    let request = api::WatchNodeRequest { move_request_prefix: prefix.to_owned() };
    served.node().await.watch_node(request).await.unwrap().into_inner()
}

async fn next(told: &mut Told) -> api::WatchNodeResponse {
    tokio::time::timeout(LONG, told.next()).await.expect("it is told").unwrap().unwrap()
}

/// Reads until it is told what is waited for; how many messages that took.
async fn until(told: &mut Told, wanted: impl Fn(&api::WatchNodeResponse) -> bool) -> usize {
    let mut messages = 1;
    while !wanted(&next(told).await) {
        messages += 1;
    }
    messages
}

fn states(shown: &api::WatchNodeResponse) -> Vec<api::InstanceState> {
    shown.instances.iter().map(api::Instance::state).collect()
}

#[tokio::test]
async fn it_is_told_what_there_is_and_of_the_moves_that_it_asked_for() {
    let served = Served::start("");
    let mut told = watch(&served, "mine/").await;
    let first = next(&mut told).await;
    assert_ne!(first.incarnation, 0);
    assert_eq!((states(&first), first.moves.len()), (vec![api::InstanceState::Active], 0));
    let id = served.create("r2", "create").await;
    until(&mut told, |shown| states(shown) == [api::InstanceState::Active; 2]).await;
    let other = served.start_move(1, id, "0-1023", "theirs/1").await.unwrap();
    assert_eq!(served.watch(other.id).await.last(), Some(&api::MovePhase::Done));
    served.start_move(1, id, "1024-2047", "mine/1").await.unwrap();
    until(&mut told, |shown| {
        assert!(shown.moves.iter().all(|shown| shown.request_id == "mine/1"));
        shown.moves.iter().any(|shown| shown.phase() == api::MovePhase::Done)
    })
    .await;
    served.stop().await;
}

/// The owner of the node takes events of workers in the round of some call as well as in one of
/// their own; a watcher must hear of them either way.
#[tokio::test]
async fn it_is_told_of_every_change_while_others_ask() {
    let served = Served::start("");
    let mut told = watch(&served, "").await;
    let ask = async {
        let mut node = served.node().await;
        loop {
            node.get_node(api::GetNodeRequest {}).await.unwrap();
        }
    };
    let change = async {
        let mut instances = served.instances().await;
        for round in 0..200 {
            let change = super::change(&format!("create-{round}"));
            let request =
                api::CreateInstanceRequest { change, name: "r2".to_owned(), capacity_ns: 0 };
            let made = instances.create_instance(request).await.unwrap().into_inner();
            until(&mut told, |shown| states(shown).contains(&api::InstanceState::Ready)).await;
            let (id, change) =
                (made.instance.unwrap().id, super::change(&format!("remove-{round}")));
            instances.remove_instance(api::RemoveInstanceRequest { change, id }).await.unwrap();
            until(&mut told, |shown| shown.instances.len() == 1).await;
        }
    };
    tokio::select! {
        () = change => {}
        () = pin!(ask) => {}
    }
    served.stop().await;
}

#[tokio::test]
async fn who_reads_late_is_told_what_there_is_then() {
    let served = Served::start("");
    let mut told = watch(&served, "move").await;
    let id = served.create("r2", "create").await;
    let rounds = 2_000;
    for round in 0..rounds {
        let (from, to) = if round % 2 == 0 { (1, id) } else { (id, 1) };
        let moved = served.start_move(from, to, "0-7", &format!("move-{round}")).await.unwrap();
        assert_eq!(served.watch(moved.id).await.last(), Some(&api::MovePhase::Done));
    }
    let last = format!("move-{}", rounds - 1);
    let messages = until(&mut told, |shown| {
        let found = shown.moves.iter().find(|shown| shown.request_id == last);
        found.is_some_and(|found| found.phase() == api::MovePhase::Done)
    })
    .await;
    assert!(messages < rounds, "{messages} messages waited for a reader that did not read");
    served.stop().await;
}

#[tokio::test]
async fn the_stream_ends_with_the_node() {
    let served = Served::start("");
    let mut told = watch(&served, "").await;
    next(&mut told).await;
    served.stop().await;
    match tokio::time::timeout(LONG, told.next()).await.expect("it ends") {
        None => {}
        Some(ended) => assert_eq!(ended.unwrap_err().code(), Code::Unavailable),
    }
}
