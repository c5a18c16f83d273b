//! Peers that are slow, hang, die, or say what they must not.

use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use weir_nf_api::client::{CallError, Client, Deleted, Query};
use weir_nf_api::server;
use weir_state_transfer::southbound::{Action, SubscriptionId};
use weir_state_transfer::state_filter::StateFilter;
use weir_state_transfer::{FlowId, FlowKey, ServiceId};

use crate::counting::{Counting, Packet};
use crate::faulty::Fault;
use crate::running::{LONG, Place, Running, Traffic, ends};

/// How long a peer may take here.
const LIMIT: Duration = Duration::from_millis(200);
/// The same where it is to answer, however busy the machine is.
const ENOUGH: Duration = Duration::from_secs(2);

fn any() -> Query {
    Query::new(StateFilter::default())
}

/// A function with some flows.
fn flows(count: u32) -> Counting {
    let mut function = Counting::new(1);
    for number in 0..count {
        let [_, first, second, third] = number.to_be_bytes();
        let src = [10, first, second, third].into();
        let key = FlowKey::v4(src, [10, 255, 0, 1].into(), (7, 80), 6, ServiceId(0));
        function.packet(Packet { key, bytes: vec![0; 60] }, Default::default());
    }
    function
}

/// A listing that is not whole, and what was put or deleted in part, is no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_function_could_not_carry_out_is_told_as_failed() {
    let mut function = flows(3);
    function.fault = Fault::Fails;
    let running = Running::plain(function, Traffic::None);
    let client = running.client();
    let all = async { client.get_per_flow(&any()).await?.all(100).await.map(drop) };
    let put = client.put_per_flow(tokio_stream::iter(vec![vec![0; 100]]));
    let (all, put) = (all.await, put.await.map(drop));
    let del = client.del_per_flow(&[FlowId::default()]).await.map(drop);
    for answer in [all, put, del] {
        let error = answer.expect_err("it has failed");
        assert!(
            matches!(&error, CallError::Refused { code: Code::Internal, reason, message }
                if reason == "FAILED" && message.contains("is gone")),
            "{error:?}"
        );
    }
}

/// Each call to a peer, all of which have to end.
async fn errors_of(client: &Client) -> Vec<CallError> {
    let (id, filter) = (SubscriptionId(1), StateFilter::default());
    let chunks = || tokio_stream::iter(vec![vec![0; 100]; 3]);
    let endless = tokio_stream::iter(std::iter::repeat(vec![0; 1 << 20]));
    let flow = FlowId::default();
    let all = async {
        [
            client.describe().await.map(drop),
            client.get_per_flow(&any()).await.map(drop),
            client.get_multi_flow(&any()).await.map(drop),
            client.get_all_flows(0).await.map(drop),
            client.put_per_flow(chunks()).await.map(drop),
            client.put_multi_flow(endless).await.map(drop),
            client.put_all_flows(chunks()).await.map(drop),
            client.del_per_flow(std::slice::from_ref(&flow)).await.map(drop),
            client.del_multi_flow(std::slice::from_ref(&flow)).await.map(drop),
            client.enable_events(id, &filter, Action::Process, 0).await.map(drop),
            client.disable_events(id).await,
        ]
    };
    let ended = timeout(LONG, all).await.expect("each has its limit");
    ended.into_iter().map(|answer| answer.expect_err("nobody answers")).collect()
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_late() {
    let place = Place::new();
    let _silent = UnixListener::bind(place.socket()).expect("a socket");
    let client = Client::unix(&place.socket(), LIMIT);
    for error in errors_of(&client).await {
        assert!(matches!(error, CallError::Late { limit: LIMIT, .. }), "{error:?}");
    }
}

/// One that hangs keeps its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_has_the_socket_now_is_asked_and_not_who_hangs_and_had_it() {
    let place = Place::new();
    let _hangs = UnixListener::bind(place.socket()).expect("a socket");
    let client = Client::unix(&place.socket(), LIMIT);
    let patient = client.with_limit(LONG);
    let late = client.describe().await.expect_err("it hangs");
    assert!(matches!(late, CallError::Late { .. }), "{late:?}");
    // Nobody is in its place yet.
    std::fs::rename(place.socket(), place.socket().with_extension("old")).expect("it is moved");
    let late = client.describe().await.expect_err("it hangs");
    assert!(matches!(late, CallError::Late { .. }), "{late:?}");
    assert_eq!(client.connections(), 1);
    let next = Running::plain(flows(3), Traffic::None);
    std::fs::rename(next.place.socket(), place.socket()).expect("it is moved");
    let got = patient.get_per_flow(&any()).await.expect("it is served").all(9).await;
    assert_eq!(got.expect("it is served").len(), 3);
    assert!(patient.describe().await.is_ok());
    assert_eq!(client.connections(), 2, "of both");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_not_reached() {
    let place = Place::new();
    let client = Client::unix(&place.socket(), LIMIT);
    for error in errors_of(&client).await {
        assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thread_that_never_serves_makes_its_callers_late() {
    let (service, _desk, _wake) = ends();
    // Far from the limit of the client, so that it is clear which of both ends the wait.
    let service = service.with_limit(10 * LIMIT);
    let place = Place::new();
    let socket = weir_api::socket::Socket::bind(&place.socket()).expect("a socket");
    let served =
        tokio::spawn(async move { server::serve(service, &socket, std::future::pending()).await });
    let patient = Client::unix(&place.socket(), LONG);
    assert!(patient.describe().await.is_ok(), "that is known without it");
    let client = Client::unix(&place.socket(), LIMIT);
    let (id, filter) = (SubscriptionId(1), StateFilter::default());
    let enabled = client.enable_events(id, &filter, Action::Drop, 0).await;
    assert!(matches!(enabled, Err(CallError::Late { .. })), "{enabled:?}");
    assert_eq!(client.del_per_flow(&[]).await, Ok(Deleted::default()), "nothing to ask for");
    // Who waits longer is told by the server.
    let got = patient.get_per_flow(&any()).await.expect("it begins").all(9).await;
    assert_eq!(got.expect_err("nobody serves").reason(), Some("BUSY"));
    let disabled = patient.disable_events(id).await;
    assert_eq!(disabled.expect_err("nobody serves").reason(), Some("BUSY"));
    served.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thread_that_has_ended_is_told_apart() {
    let mut running = Running::plain(flows(1), Traffic::None);
    let client = running.client();
    running.stop_thread();
    let refused = client.disable_events(SubscriptionId(1)).await.expect_err("it has ended");
    assert_eq!(refused.reason(), Some("STOPPING"));
    let got = client.get_per_flow(&any()).await.expect("it begins").all(9).await;
    let refused = got.expect_err("nobody gives any");
    assert!(matches!(&refused, CallError::Refused { code: Code::Unavailable, .. }), "{refused}");
}

/// What a process does that dies in the middle of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_that_dies_ends_what_is_in_progress() {
    let mut running = Running::plain(flows(20_000), Traffic::None);
    let client = running.client();
    let mut got = client.get_per_flow(&any()).await.expect("it begins");
    got.next().await.expect("some").expect("some");
    let (id, filter) = (SubscriptionId(1), StateFilter::default());
    let mut notes =
        client.enable_events(id, &filter, Action::Process, 0).await.expect("it is in force");
    let (chunks, stream) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let put = client.put_per_flow(tokio_stream::wrappers::ReceiverStream::new(stream));
    let death = async {
        // The request is there when its first message has been taken, or has been refused already.
        chunks.send(vec![0]).await.expect("it is taken");
        let _taken_or_refused = chunks.reserve().await.map(drop);
        running.stop_serving();
    };
    let (put, ()) = tokio::join!(put, death);
    // A refusal of what was sent may have come first.
    assert!(matches!(put, Err(CallError::Unreachable { .. }) | Ok(_)), "{put:?}");
    let all = timeout(LONG, got.all(20_000)).await.expect("it ends").map(|all| all.len());
    assert!(matches!(all, Err(CallError::Unreachable { .. })), "{all:?}");
    let noted = timeout(LONG, notes.next()).await.expect("it ends");
    assert!(matches!(noted, Err(CallError::Unreachable { .. })), "{noted:?}");
}

/// A subscriber is told by its own calls that nobody answers any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_of_a_peer_that_hangs_is_told() {
    let (place, to) = (Place::new(), Place::new());
    let running = Running::plain(flows(1), Traffic::None);
    // Between both there is one that stops passing on.
    let listener = tokio::net::UnixListener::bind(place.socket()).expect("a socket");
    let (pass, hung) = tokio::sync::watch::channel(true);
    let target = running.place.socket();
    let between = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::UnixStream::connect(&target).await.expect("it is served");
            let mut hung = hung.clone();
            tokio::spawn(async move {
                let hangs = async { hung.wait_for(|passes| !passes).await.is_ok() };
                let hangs = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
                    hangs = hangs => hangs,
                };
                if hangs {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    drop(to);
    let client = Client::unix(&place.socket(), ENOUGH);
    let (id, filter) = (SubscriptionId(1), StateFilter::default());
    let mut notes =
        client.enable_events(id, &filter, Action::Process, 0).await.expect("it is in force");
    let quiet = timeout(2 * ENOUGH, notes.next()).await;
    assert!(quiet.is_err(), "as long as it answers, nothing is wrong: {quiet:?}");
    pass.send(false).expect("it is there");
    let noted = timeout(LONG, notes.next()).await.expect("it ends");
    assert_eq!(noted, Err(CallError::Late { call: "describe", limit: ENOUGH }));
    between.abort();
}

/// The thread goes on with its packets while nobody reads what it gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow_readers_hold_up_nobody_and_are_few() {
    let running = Running::plain(flows(20_000), Traffic::Always);
    let client = running.client();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut got = client.get_per_flow(&any()).await.expect("room");
        got.next().await.expect("some").expect("some");
        slow.push(got);
    }
    let other = running.client().with_limit(ENOUGH);
    let refused = other.get_per_flow(&any()).await.map(drop).expect_err("one too many");
    assert_eq!(refused.reason(), Some("BOUND_REACHED"));
    let before = running.turns.load(Ordering::Relaxed);
    let others = async {
        while running.turns.load(Ordering::Relaxed) < before + 50 {
            client.del_multi_flow(&[FlowId::default()]).await.expect("asked");
        }
    };
    timeout(LONG, others).await.expect("the thread goes round");
    // What they have not read is there when they do, and nothing is missing.
    let mut given = slow.remove(0);
    let mut count = 0;
    while let Some(chunks) = given.next().await.expect("in time") {
        count += chunks.len();
    }
    assert!(count > 19_000, "{count}");
    drop(given);
    let again = async {
        while let Err(error) = other.get_per_flow(&any()).await {
            assert_eq!(error.reason(), Some("BOUND_REACHED"));
        }
    };
    timeout(LONG, again).await.expect("the place is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_of_one_client_wait_for_their_turn() {
    let running = Running::plain(flows(20_000), Traffic::None);
    let (one, other) = (running.client(), running.client());
    let all = [one, other].into_iter().flat_map(|client| {
        std::iter::repeat_n(client, 8).map(|client| {
            tokio::spawn(async move { client.get_per_flow(&any()).await?.all(20_000).await })
        })
    });
    for got in all.collect::<Vec<_>>() {
        let got = timeout(LONG, got).await.expect("it ends").expect("no panic");
        assert_eq!(got.map(|all| all.len()), Ok(20_000));
    }
}

/// A get that is cut off does not look like one that is at its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_takes_nothing_is_cut_off_with_an_error() {
    let (calls, desk, wake) = ends();
    let calls = calls.with_limit(ENOUGH);
    let running = Running::start(flows(20_000), Traffic::None, (desk, wake), |socket| async move {
        server::serve(calls, &socket, std::future::pending()).await.expect("it is served");
    });
    let client = running.client();
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(client.get_per_flow(&any()).await.expect("room"));
    }
    let other = running.client().with_limit(ENOUGH);
    let again = async {
        while let Err(error) = other.get_per_flow(&any()).await {
            assert_eq!(error.reason(), Some("BOUND_REACHED"));
        }
    };
    timeout(LONG, again).await.expect("a place is free when one is cut off");
    let mut cut = 0;
    for mut got in slow {
        let end = loop {
            match got.next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        cut += usize::from(end.is_err());
        assert!(end.as_ref().err().is_none_or(|e| e.reason() == Some("PEER_TOO_SLOW")), "{end:?}");
    }
    assert!(cut > 0, "somebody made room");
}

/// Who begins to put and sends nothing more does not do so for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_writer_that_sends_nothing_is_cut_off() {
    let (calls, desk, wake) = ends();
    let calls = calls.with_limit(ENOUGH);
    let running = Running::start(flows(1), Traffic::None, (desk, wake), |socket| async move {
        server::serve(calls, &socket, std::future::pending()).await.expect("it is served");
    });
    let put = running.client().put_per_flow(tokio_stream::pending()).await;
    assert_eq!(put.expect_err("it is cut off").reason(), Some("PEER_TOO_SLOW"));
}
