//! What is too long, too much or not asked for, and who does not answer: nobody else notices.

use std::{os::unix::net::UnixListener, time::Duration};

use tonic::{Code, Status};
use weir_api::{
    dataplane::v1::Route,
    v1::{
        AddRouteRequest, GetInstanceRequest, GetPortRequest, ListFlowsRequest, MoveRequest,
        StartMoveRequest, StateFailure, StateOperationState as State,
        flow_service_client::FlowServiceClient, instance_service_client::InstanceServiceClient,
        move_request::Selection, move_service_client::MoveServiceClient,
        port_service_client::PortServiceClient, route_service_client::RouteServiceClient,
        start_move_request::Selection as Flows,
    },
};

use crate::state::refusal;
use crate::support::{
    nf::{Monitor, Nf, flow},
    node::{Node, Running, block_on, change, limited},
    stalls::Stalls,
    state::{Pair, copied, moved},
};

/// Asks for everything that takes a text, with this one.
async fn refusals(running: &Running, text: &str) -> Vec<(&'static str, Code, Status)> {
    let (channel, text) = (running.channel().await, || text.to_owned());
    let id = || Some(change(&format!("{}", weir_seed::any())));
    let mut moves = MoveServiceClient::new(channel.clone());
    let start = StartMoveRequest {
        change: id(),
        from: "sw1".to_owned(),
        to: "sw2".to_owned(),
        selection: Some(Flows::Filter(text())),
        ..StartMoveRequest::default()
    };
    let buckets =
        StartMoveRequest { change: id(), selection: Some(Flows::Buckets(text())), ..start.clone() };
    let any = Some(Flows::Filter("any".to_owned()));
    let of_unknown =
        StartMoveRequest { change: id(), from: text(), selection: any, ..start.clone() };
    let mut flows = FlowServiceClient::new(channel.clone());
    let listed = ListFlowsRequest { filter: text(), ..ListFlowsRequest::default() };
    let mut routes = RouteServiceClient::new(channel.clone());
    let route = Route { prefix: text(), port: "p0".to_owned(), ..Route::default() };
    let added = AddRouteRequest { change: id(), route: Some(route) };
    let mut instances = InstanceServiceClient::new(channel.clone());
    let mut ports = PortServiceClient::new(channel);
    let state = |spoil: fn(&mut MoveRequest, String)| {
        let mut ask = MoveRequest { change: id(), ..moved("", "a", "b", "any") };
        spoil(&mut ask, text());
        running.moves(ask)
    };
    let invalid = Code::InvalidArgument;
    let none = Code::NotFound;
    let answers = [
        ("StartMove filter", invalid, moves.start_move(start).await.map(drop)),
        ("StartMove buckets", invalid, moves.start_move(buckets).await.map(drop)),
        ("StartMove from", none, moves.start_move(of_unknown).await.map(drop)),
        ("ListFlows filter", invalid, flows.list_flows(listed).await.map(drop)),
        ("AddRoute prefix", invalid, routes.add_route(added).await.map(drop)),
        ("GetInstance", none, {
            instances.get_instance(GetInstanceRequest { name: text() }).await.map(drop)
        }),
        ("GetPort", none, ports.get_port(GetPortRequest { name: text() }).await.map(drop)),
        ("Move filter", invalid, {
            state(|ask, text| ask.selection = Some(Selection::Filter(text))).await.map(drop)
        }),
        ("Move from", none, state(|ask, text| ask.from = text).await.map(drop)),
        ("Move to", none, state(|ask, text| ask.to = format!("{text}/x")).await.map(drop)),
        ("Move from elsewhere", Code::FailedPrecondition, {
            state(|ask, text| ask.from = format!("p/{text}")).await.map(drop)
        }),
    ];
    let refused = |answer: Result<(), Status>| answer.expect_err("it is refused");
    answers.into_iter().map(|(what, code, answer)| (what, code, refused(answer))).collect()
}

#[test]
fn what_is_too_long_is_refused_in_few_words_as_what_is_wrong_is() {
    let pair = Pair::new();
    let running = pair.start();
    block_on(async {
        for text in ["z".repeat(8_000), "\u{1}\"".repeat(4_000), "\u{e9}".repeat(30_000)] {
            for (what, code, refused) in refusals(&running, &text).await {
                assert_eq!(refused.code(), code, "{what}: {refused:?}");
                let said = refused.message();
                assert!(said.len() < 500 && refused.details().len() < 2_000, "{what}: {said}");
            }
        }
    });
}

#[test]
fn what_the_data_plane_is_asked_for_is_a_filter() {
    let node = Node::new(2);
    let running = node.start();
    block_on(async {
        let mut flows = FlowServiceClient::new(running.channel().await);
        for (filter, is_one) in [("", true), ("any", true), ("dport=80", true), ("port=80", false)]
        {
            let ask = ListFlowsRequest { filter: filter.to_owned(), ..Default::default() };
            assert_eq!(flows.list_flows(ask).await.is_ok(), is_one, "{filter}");
        }
    });
}

/// State that does not move with its packets, or of which nobody knows why it comes.
#[test]
fn state_that_the_filter_does_not_name_is_not_taken_and_undoes_a_move() {
    let mut pair = Pair::new();
    (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    pair.a.monitor().ignores_filters = true;
    let running = pair.start();
    let before = pair.a.monitor().flows.clone();
    let filter = "src=172.16.0.0/12";
    block_on(async {
        let undone = running.moves(moved("m", "a", "b", filter)).await.unwrap();
        assert_eq!((undone.state(), undone.failure()), (State::Undone, StateFailure::Malformed));
        assert_eq!((undone.failed_end.as_str(), undone.left_behind), ("nf/a", 0), "{undone:?}");
        assert!(undone.reason.contains("of which the filter names nothing"), "{}", undone.reason);
        let failed = running.copies(copied("c", "a", "b", filter)).await.unwrap();
        assert_eq!((failed.state(), failed.failure()), (State::Failed, StateFailure::Malformed));
        assert_eq!((&pair.a.monitor().flows, pair.b.monitor().of_flows()), (&before, 0));
    });
    // One that says that its state has other names is believed.
    let mut monitor = Monitor::new(3);
    (monitor.other_names, monitor.ignores_filters) = (true, true);
    pair.a.die();
    pair.a = Nf::start(&pair.socket("a"), monitor);
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    block_on(async {
        running.reaches("a").await;
        let done = running.moves(moved("n", "a", "b", filter)).await.unwrap();
        assert_eq!(done.state(), State::Done, "{done:?}");
        assert!(done.left_behind > 0 && done.chunks == 0, "{done:?}");
    });
}

#[test]
fn copies_out_of_one_function_wait_for_their_turn() {
    const COPIES: usize = 12;
    let pair = Pair::new();
    (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    let running = pair.start();
    block_on(async {
        pair.a.hang(true);
        let mut streams = Vec::new();
        for number in 0..COPIES {
            let filter = format!("src=10.0.1.{number}");
            let copy = copied(&format!("c{number}"), "a", "b", &filter);
            streams.push(running.state().await.copy(copy).await.unwrap().into_inner());
        }
        while !pair.a.waits() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.a.hang(false);
        for mut stream in streams {
            let mut last = None;
            while let Some(seen) = limited(stream.message()).await.unwrap() {
                last = seen.operation;
            }
            let copy = last.unwrap();
            assert_eq!(copy.state(), State::Done, "{copy:?}");
        }
    });
}

/// Times that this is tried: again only where the machine stood still for long meanwhile, so that the
/// changes may have waited their time.
const TRIES: u32 = 4;
const LONG: Duration = Duration::from_millis(250);

/// Changes that ask the data plane wait for each other, until nobody would read the answer.
#[test]
fn a_data_plane_that_hangs_holds_up_nothing_that_does_not_need_it() {
    let mut pair = Pair::new();
    pair.a.monitor().packets(&flow(1, 1, 1_000), 5);
    let silent = pair.socket("silent");
    let _silent = UnixListener::bind(&silent).unwrap();
    pair.node.fake.socket = silent;
    let running = pair.start();
    for tried in 1..=TRIES {
        let stalls = Stalls::watch();
        let waiting = block_on(waiting_beside_others(&running, tried));
        if waiting > 4 {
            return;
        }
        let longest = stalls.longest();
        assert!(longest > LONG && tried < TRIES, "{waiting} changes wait for the data plane");
        println!("{waiting} changes wait, and nothing has run for {longest:?}");
    }
}

/// How many of nine changes wait for a data plane that hangs when an operation that does not need it
/// has been cancelled, and another one is done.
async fn waiting_beside_others(running: &Running, tried: u32) -> usize {
    let mut ask = copied(&format!("c{tried}"), "a", "b", "any");
    ask.interval_ns = 3_600_000_000_000;
    let mut follows = running.state().await.copy(ask).await.unwrap().into_inner();
    let copy = limited(follows.message()).await.unwrap().unwrap().operation.unwrap().id;
    let channel = running.channel().await;
    let mut adds = (0..10).map(|number| {
        let mut routes = RouteServiceClient::new(channel.clone());
        let (prefix, port) = ("10.0.0.0/8".to_owned(), "p0".to_owned());
        let route = Some(Route { prefix, port, ..Route::default() });
        let change = Some(change(&format!("r{tried}.{number}")));
        let add = AddRouteRequest { change, route };
        tokio::spawn(async move { routes.add_route(add).await })
    });
    let mut adds: Vec<_> = adds.by_ref().collect();
    // Once the first is answered the others wait, the next for the data plane.
    let first = limited(adds.remove(0)).await.unwrap().unwrap_err();
    assert!(!first.message().contains("has not begun"), "{first:?}");
    limited(running.cancel(copy)).await.unwrap();
    assert_eq!(running.state_ended(copy).await.state(), State::Cancelled);
    let done = limited(running.moves(moved(&format!("m{tried}"), "a", "b", "any"))).await.unwrap();
    assert_eq!(done.state(), State::Done, "{done:?}");
    let waiting = adds.iter().filter(|add| !add.is_finished()).count();
    let last = limited(adds.pop().unwrap()).await.unwrap().unwrap_err();
    let (reason, _, fix) = refusal(&last);
    assert_eq!((last.code(), reason.as_str()), (Code::Unavailable, "NOT_BEGUN"), "{last:?}");
    assert_eq!(fix, "ask again");
    for add in adds {
        limited(add).await.unwrap().unwrap_err();
    }
    waiting
}

/// As what an id has not is not compared, it would pick everything.
#[test]
fn a_field_that_the_source_does_not_know_picks_nothing() {
    let pair = Pair::new();
    (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 5));
    let running = pair.start();
    block_on(async {
        let moved = running.moves(moved("m", "a", "b", "http.host=x")).await.unwrap();
        assert_eq!((moved.state(), moved.failure()), (State::Undone, StateFailure::Refused));
        assert!(moved.reason.contains("knows no field http.host"), "{moved:?}");
        let copied = running.copies(copied("c", "a", "b", "http.host=x")).await.unwrap();
        assert_eq!((copied.state(), copied.failure()), (State::Failed, StateFailure::Refused));
        assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (45, 0));
    });
}
