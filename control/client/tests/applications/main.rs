//! The examples as control applications of a sidecar with two network functions in processes of
//! their own, and what the client says when something is not done.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../examples/elastic_scaling.rs"]
mod elastic_scaling;
#[path = "../../examples/move_prefix.rs"]
mod move_prefix;
#[expect(dead_code, reason = "tests of the sidecar use more of it")]
#[path = "../../../tests/control/support/nf.rs"]
mod nf;
#[path = "../../examples/rapid_upgrade.rs"]
mod rapid_upgrade;
mod relay;
#[path = "../../examples/selective_invocation.rs"]
mod selective_invocation;
#[path = "../../../tests/control/support/spoiling.rs"]
mod spoiling;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use weir_client::{
    Client, Copy, Error, Guarantee, Move, Notify, Scope, StateFailure, StateOperationState, Told,
};
use weir_control::{config::Config, service, sidecar::Sidecar, store::Database};

use nf::{Monitor, Nf, flow};
use rapid_upgrade::Upgraded;
use relay::Relay;

/// How long an event is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A sidecar with two network functions, and a client of it.
struct Setup {
    client: Client,
    one: Nf,
    two: Nf,
    directory: PathBuf,
}

impl Setup {
    async fn new(name: &str) -> Self {
        Self::with_store(name, "").await
    }

    /// The same with a store in which something is so.
    async fn with_store(name: &str, sql: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let store = directory.join("control.db");
        drop(Database::open(&store).unwrap());
        rusqlite::Connection::open(&store).unwrap().execute_batch(sql).unwrap();
        let path = |name: &str| directory.join(format!("{name}.sock"));
        let (one, two) = (path("one"), path("two"));
        let nfs = [("one", &one), ("two", &two)].map(|(name, socket)| {
            format!("[[control.nf]]\nname = '{name}'\nsocket = '{}'\n", socket.display())
        });
        let text = format!(
            "[control]\nsocket = '{}'\ndataplane_socket = '{}'\nstore = '{}'\n{}",
            path("control").display(),
            path("absent").display(),
            store.display(),
            nfs.concat(),
        );
        let (one, two) = (Nf::start(&one, Monitor::new(1)), Nf::start(&two, Monitor::new(2)));
        let config = Config::parse(&text, "weir.toml").unwrap();
        let sidecar: Arc<Sidecar> = Sidecar::start(config, None).await.unwrap();
        // It serves as long as the test runs.
        service::serve(&sidecar).await.unwrap();
        let client = Client::unix(&path("control")).await.unwrap();
        Self { client, one, two, directory }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        // A test that fails for another reason should say that one.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let seen = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

#[tokio::test]
async fn a_scan_that_is_spread_over_two_monitors_is_seen_by_both_while_a_prefix_moves() {
    let setup = Setup::new("prefix").await;
    let scanner: IpAddr = [10, 0, 1, 7].into();
    // The scanner has begun to scan by way of the old monitor.
    (1..=30).for_each(|port| setup.one.monitor().packets(&flow(1, 7, port), 1));
    (1..=9).for_each(|host| setup.one.monitor().packets(&flow(2, host, 1_000), 1));
    let ends = ("one", "two");
    let (client, none) = (&setup.client, Guarantee::None);
    let moved = move_prefix::move_prefix(client, "10.0.1.0/24", ends, none).await.unwrap();
    assert_eq!((moved.chunks, moved.left_behind), (30, 0));
    assert_eq!((setup.one.monitor().of_flows(), setup.two.monitor().of_flows()), (9, 30));
    let seen = || (setup.one.monitor().of_host(scanner), setup.two.monitor().of_host(scanner));
    assert_eq!(seen(), (30, 30), "the counters of hosts stay, and are copied");
    // It goes on by way of both, and each sees all of it.
    (31..=40).for_each(|port| setup.one.monitor().packets(&flow(1, 7, port), 1));
    (41..=60).for_each(|port| setup.two.monitor().packets(&flow(1, 7, port), 1));
    let every = Duration::from_millis(10);
    tokio::select! {
        ended = move_prefix::keep_in_step(client, ends, every) => panic!("{ended:?}"),
        () = until("the same count", || seen() == (60, 60)) => {}
    }
}

#[tokio::test]
async fn suspicious_flows_are_moved_to_where_they_are_looked_at_more_closely() {
    let setup = Setup::new("selective").await;
    let (light, heavy) = (&setup.one, &setup.two);
    let mut events = setup.client.notify(&Notify::new("one", "src=10.0.1.0/24")).await.unwrap();
    for host in 1..=5 {
        light.monitor().packets(&flow(1, host, 1_000), 3);
        light.monitor().packets(&flow(2, host, 1_000), 3);
    }
    let mut left = 5;
    let goes_on = |_: &str| {
        left -= 1;
        left > 0
    };
    let none = Guarantee::None;
    let ends = ("one", "two");
    let invoked =
        selective_invocation::invoke(&setup.client, &mut events, ends, none, goes_on).await;
    invoked.unwrap();
    assert_eq!((light.monitor().flows.len(), heavy.monitor().flows.len()), (5, 5));
    assert!(heavy.monitor().flows.keys().all(|key| {
        let host = |last| flow(1, last, 1_000).both_ways();
        (1..=5).any(|last| *key == host(last))
    }));
    // Each of them once, however many of its packets were told of.
    let moves = setup.client.operations().await.unwrap();
    assert_eq!(moves.iter().filter(|operation| !operation.to.is_empty()).count(), 5);
}

#[test]
fn instances_are_added_by_the_most_loaded_and_removed_when_the_rest_has_room() {
    let every = Duration::from_secs(1);
    let policy = elastic_scaling::Policy { high: 0.8, low: 0.4, most: 3, every };
    let looks: [(&[f64], u32); 8] = [
        (&[0.8], 1),
        (&[0.81], 2),
        (&[0.1, 0.9], 3),
        (&[0.9, 0.9, 0.9], 3),
        (&[0.4, 0.3, 0.2], 3),
        (&[0.3, 0.2, 0.2], 2),
        (&[0.2, 0.21], 2),
        (&[0.0], 1),
    ];
    for (loads, instances) in looks {
        assert_eq!(policy.instances(loads), instances, "{loads:?}");
    }
}

#[tokio::test]
async fn an_upgrade_whose_sidecar_is_not_reached_any_more_goes_on_with_who_has_the_state() {
    let setup = Setup::new("upgrade").await;
    (1..=5).for_each(|host| setup.one.monitor().packets(&flow(1, host, 1_000), 3));
    let control = setup.directory.join("control.sock");
    let relay = Relay::start(&setup.directory.join("relay.sock"), &control);
    let client = Client::unix(&setup.directory.join("relay.sock")).await.unwrap();
    let asked = Move {
        guarantee: Guarantee::None,
        scopes: vec![Scope::PerFlow, Scope::MultiFlow],
        ..Move::new("one", "two", "any")
    };
    // It is undone, or done, while nobody can be told.
    for is_undone in [true, false] {
        setup.one.hang(true);
        let cut = async {
            until("a call that waits", || setup.one.waits()).await;
            relay.cut(true);
            let begun = setup.client.operations().await.unwrap()[0].id;
            if is_undone {
                setup.client.cancel(begun).await.unwrap();
            }
            setup.one.hang(false);
            let goes_on = async || {
                let all = setup.client.operations().await.unwrap();
                let state = all[0].state();
                matches!(state, StateOperationState::Running | StateOperationState::Undoing)
            };
            while goes_on().await {
                tokio::task::yield_now().await;
            }
            relay.cut(false);
        };
        let handed = rapid_upgrade::hand_over(&client, asked.clone());
        let handed = tokio::time::timeout(LIMIT, async { tokio::join!(handed, cut).0 }).await;
        let upgraded = handed.expect("it is known").unwrap();
        assert_eq!(matches!(upgraded, Upgraded::Undone(_)), is_undone, "{upgraded:?}");
        let flows = (setup.one.monitor().flows.len(), setup.two.monitor().flows.len());
        assert_eq!(flows, if is_undone { (5, 0) } else { (0, 5) });
    }
    let moves = setup.client.operations().await.unwrap();
    assert_eq!(moves.len(), 2, "each is one move: {moves:?}");
}

/// That a move was begun can not be kept: it goes on all the same.
#[tokio::test]
async fn an_upgrade_of_which_the_sidecar_is_not_sure_goes_on_with_who_has_the_state() {
    let full = "CREATE TRIGGER full BEFORE UPDATE OF response ON answer \
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let setup = Setup::with_store("unsure", full).await;
    (1..=5).for_each(|host| setup.one.monitor().packets(&flow(1, host, 1_000), 3));
    let asked = Move {
        guarantee: Guarantee::None,
        scopes: vec![Scope::PerFlow, Scope::MultiFlow],
        ..Move::new("one", "two", "any")
    };
    let upgraded = rapid_upgrade::hand_over(&setup.client, asked).await.unwrap();
    assert!(matches!(upgraded, Upgraded::Done(_)), "{upgraded:?}");
    assert_eq!((setup.one.monitor().flows.len(), setup.two.monitor().flows.len()), (0, 5));
    assert_eq!(setup.client.operations().await.unwrap().len(), 1);
    let back = Move { guarantee: Guarantee::None, ..Move::new("two", "one", "any") };
    let unsure = setup.client.move_state(&back).await.unwrap_err();
    assert!(matches!(&unsure, Error::Unsure(_)), "{unsure:?}");
    assert_eq!(unsure.reason(), Some("NOT_KEPT"));
}

#[tokio::test]
async fn what_is_not_done_has_a_type() {
    let setup = Setup::new("types").await;
    let client = &setup.client;
    let mut asked = Move::new("one", "two", "any");
    let refused = client.move_state(&asked).await.unwrap_err();
    assert_eq!(refused.reason(), Some("NOT_LOSS_FREE"));
    let away = Move { guarantee: Guarantee::None, ..Move::new("one", "nowhere/two", "any") };
    let refused = client.move_state(&away).await.unwrap_err();
    assert_eq!((refused.reason(), refused.peer_refusal()), (Some("NOT_FOUND"), None));
    asked.guarantee = Guarantee::None;
    asked.scopes.push(Scope::MultiFlow);
    setup.one.hang(true);
    let mut begun = client.begin_move(&asked).await.unwrap();
    let id = begun.next().await.unwrap().unwrap().id;
    until("a call that waits", || setup.one.waits()).await;
    let refused = client.copy(&Copy::new("two", "one", "any")).await.unwrap_err();
    assert_eq!(refused.in_the_way(), Some(id), "{refused}");
    client.cancel(id).await.unwrap();
    let ended = begun.outcome().await.unwrap_err();
    assert_eq!(ended.failure(), Some(StateFailure::Cancelled), "{ended}");
    asked.limit = Duration::from_millis(100);
    let late = client.move_state(&asked).await.unwrap_err();
    assert!(matches!(late, Error::Ended(_)) && late.failure() == Some(StateFailure::Late));
    setup.one.hang(false);
    let nobody = Client::unix(&setup.directory.join("nobody.sock")).await.unwrap_err();
    assert!(nobody.to_string().contains("nobody.sock"), "{nobody}");
}

#[tokio::test]
async fn what_repeats_and_what_is_told_end_with_their_time() {
    let setup = Setup::new("time").await;
    let (client, limit) = (&setup.client, Some(Duration::from_secs(2)));
    let mut events = client.notify(&Notify { limit, ..Notify::new("one", "any") }).await.unwrap();
    setup.one.monitor().packets(&flow(1, 1, 1_000), 1);
    let told = async { (events.next().await.unwrap(), events.next().await.unwrap()) };
    let (first, last) = tokio::time::timeout(LIMIT, told).await.unwrap();
    assert!(matches!(first, Some(Told::Event(_))) && last.is_none(), "{first:?}, {last:?}");
    let known = client.operations().await.unwrap().remove(0);
    assert_eq!((known.state(), known.events), (StateOperationState::Done, 1));
    let two = Notify { count: Some(2), ..Notify::new("one", "any") };
    let mut events = client.notify(&two).await.unwrap();
    setup.one.monitor().packets(&flow(1, 1, 1_000), 5);
    let told = async { while events.next().await.unwrap().is_some() {} };
    tokio::time::timeout(LIMIT, told).await.unwrap();
    let known = client.operations().await.unwrap().remove(0);
    assert_eq!((known.state(), known.events), (StateOperationState::Done, 2));
    let every = Some(Duration::from_millis(10));
    let time_limit = Some(Duration::from_millis(100));
    let asked = Copy { every, time_limit, ..Copy::new("one", "two", "any") };
    let copied = tokio::time::timeout(LIMIT, client.copy(&asked)).await.unwrap().unwrap();
    assert!(copied.rounds > 0, "{copied:?}");
}
