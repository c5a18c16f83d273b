//! Shares as clients of the agent meet them.

use tokio_stream::StreamExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::dataplane::v1 as api;
use weir_api::nf::v1::Scope;

use super::{LONG, change, served::Served};

/// A firewall that has something to share.
const LIMITED: &str = "
[shares]
shares_max = 1
slots = 64
[[nf]]
kind = 'firewall'
rules = ['all: accept any']
connections_max = 3
";

async fn start(served: &Served, request: api::StartShareRequest) -> Result<api::Share, Status> {
    let started = served.shares().await.start_share(request).await?;
    Ok(started.into_inner().share.unwrap())
}

fn ask(id: &str, instances: &[u32]) -> api::StartShareRequest {
    let (instances, filter) = (instances.to_vec(), "any".to_owned());
    api::StartShareRequest { change: change(id), instances, filter, ..Default::default() }
}

/// Waits until a share is in a phase; the phases before it.
async fn wait_for(served: &Served, id: u64, phase: api::SharePhase) -> Vec<api::Share> {
    let request = api::WatchShareRequest { id };
    let mut stream = served.shares().await.watch_share(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    loop {
        let next = tokio::time::timeout(LONG, stream.next()).await.expect("it goes on");
        let share = next.expect("it has not ended").unwrap().share.unwrap();
        let found = share.phase() == phase;
        seen.push(share);
        if found {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_share_is_started_changed_and_ended() {
    let served = Served::start(LIMITED);
    let (two, three) = (served.create("r2", "two").await, served.create("r3", "three").await);
    let started = start(&served, ask("share", &[1, two])).await.unwrap();
    assert_eq!(start(&served, ask("share", &[1, two])).await.unwrap().id, started.id, "once");
    let seen = wait_for(&served, started.id, api::SharePhase::Steady).await;
    let share = seen.last().unwrap();
    assert_eq!(
        (&share.instances, share.view, share.mode()),
        (&vec![1, two], 1, api::ShareMode::Strong)
    );
    assert_eq!((&*share.filter, &share.scopes), ("any", &vec![Scope::MultiFlow as i32]));

    let instances = vec![two, three];
    let id = started.id;
    let request = api::ChangeShareRequest { change: change("change"), id, instances };
    served.shares().await.change_share(request).await.unwrap();
    let seen = wait_for(&served, id, api::SharePhase::Steady).await;
    assert_eq!(
        (&seen.last().unwrap().instances, seen.last().unwrap().view),
        (&vec![two, three], 2)
    );

    let request = api::EndShareRequest { change: change("end"), id };
    served.shares().await.end_share(request).await.unwrap();
    let seen = wait_for(&served, id, api::SharePhase::Ended).await;
    assert_eq!(seen.last().unwrap().reason, "asked to");
    let listed = served.shares().await.list_shares(api::ListSharesRequest {}).await.unwrap();
    let listed = listed.into_inner().shares;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].ended_ns > listed[0].started_ns);
    served.stop().await;
}

#[tokio::test]
async fn a_share_that_can_not_be_is_refused_and_says_why() {
    let served = Served::start(LIMITED);
    let two = served.create("r2", "two").await;
    let all_flows = vec![Scope::MultiFlow as i32, Scope::AllFlows as i32];
    for (request, field) in [
        (ask("few", &[1]), "instances"),
        (ask("twice", &[1, 1]), "instances"),
        (ask("number", &[1, 300]), "instances"),
        (api::StartShareRequest { filter: "sport".to_owned(), ..ask("text", &[1, two]) }, "filter"),
        (api::StartShareRequest { scopes: all_flows, ..ask("all", &[1, two]) }, "scopes"),
        (api::StartShareRequest { scopes: vec![77], ..ask("none", &[1, two]) }, "scopes"),
        (api::StartShareRequest { mode: 77, ..ask("mode", &[1, two]) }, "mode"),
    ] {
        let refused = start(&served, request).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let info = refused.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.metadata["field"], field, "{refused}");
    }
    let refused = start(&served, ask("gone", &[1, 99])).await.expect_err("there is no such");
    assert_eq!(refused.code(), Code::NotFound);

    let share = start(&served, ask("share", &[1, two])).await.unwrap();
    let refused = start(&served, ask("second", &[1, two])).await.expect_err("the bound");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let refused = served.start_move(1, two, "0-7", "move").await.expect_err("it has its flows");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&format!("share {}", share.id)), "{refused}");
    // A node that stops ends its shares.
    served.stop().await;
}

#[tokio::test]
async fn nothing_is_shared_where_there_is_nothing_to_share() {
    let served = Served::start("");
    let two = served.create("r2", "two").await;
    let refused = start(&served, ask("share", &[1, two])).await.expect_err("no functions");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("have nothing to share"), "{refused}");
    served.stop().await;
}
