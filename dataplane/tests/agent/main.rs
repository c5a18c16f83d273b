//! The agent as its clients meet it: a real node with two worker threads behind its Unix socket.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod moves;
mod policies;
mod served;
mod shares;
mod watch;

use std::time::Duration;

use served::Served;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;
use weir_api::dataplane::v1 as api;
use weir_api::nf::v1::Scope;

/// Generous: the machine may be busy with other things.
const LONG: Duration = Duration::from_secs(60);

fn change(request_id: &str) -> Option<api::Change> {
    Some(api::Change { request_id: request_id.to_owned(), generation: 0 })
}

#[tokio::test]
async fn shows_the_node_its_first_instance_and_that_it_is_healthy() {
    let served = Served::start("");
    let node = served.node().await.get_node(api::GetNodeRequest {}).await.unwrap().into_inner();
    assert_eq!((node.workers_max, node.instances_max, &*node.poll), (3, 64, "adaptive"));
    assert_eq!(node.pid, std::process::id());
    let listed = served.instances().await.list_instances(api::ListInstancesRequest {}).await;
    let instances = listed.unwrap().into_inner().instances;
    assert_eq!(instances.len(), 1);
    assert_eq!((&*instances[0].name, instances[0].buckets), ("r1", 4096));
    assert_eq!(instances[0].state(), api::InstanceState::Active);
    let mut health = served.health().await;
    for service in ["", "weir.dataplane.v1.NodeService", "weir.dataplane.v1.MoveService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), tonic_health::ServingStatus::Serving.into(), "{service}");
    }
    served.stop().await;
}

#[tokio::test]
async fn an_instance_becomes_ready_by_itself_and_gets_the_buckets_that_are_moved_to_it() {
    let served = Served::start("");
    let id = served.create("r2", "create").await;
    let moved = served.start_move(1, id, "0-2047", "move").await.unwrap();
    let phases = served.watch(moved.id).await;
    assert_eq!(phases.last(), Some(&api::MovePhase::Done), "{phases:?}");
    assert!(phases.is_sorted_by(|a, b| a < b), "each phase once: {phases:?}");
    let steering = served.steering().await.get_steering(api::GetSteeringRequest {}).await;
    let steering = steering.unwrap().into_inner();
    let owners = |range: std::ops::Range<usize>| steering.owners[range].to_vec();
    assert!(owners(0..2048).iter().all(|owner| u32::from(*owner) == id));
    assert!(owners(2048..4096).iter().all(|owner| *owner == 1));
    served.stop().await;
}

#[tokio::test]
async fn what_functions_have_counted_comes_instance_by_instance() {
    let rules: Vec<_> = (0..1024).map(|n| format!("'{n:032}: accept dport={n}'")).collect();
    let rules = rules.join(", ");
    let served = Served::start(&format!(
        "[[nf]]\nkind = 'firewall'\nrules = [{rules}]\n[[nf]]\nkind = 'ids'\nmemory_max = '1MiB'\n"
    ));
    let mut expected = vec![1];
    for n in 0..5 {
        expected.push(served.create(&format!("i{n}"), &format!("create {n}")).await);
    }
    expected.sort_unstable();
    let mut stream =
        served.nfs().await.list_nfs(api::ListNfsRequest {}).await.unwrap().into_inner();
    let mut listed = Vec::new();
    while let Some(message) = stream.next().await {
        let nfs = message.unwrap().nfs;
        let kinds: Vec<_> = nfs.iter().map(|nf| (nf.instance, nf.kind.as_str())).collect();
        assert_eq!(kinds, [(nfs[0].instance, "firewall"), (nfs[0].instance, "ids")]);
        let rules = nfs[0].counters.iter().filter(|counter| counter.name.starts_with("rule."));
        assert_eq!(rules.count(), 1024);
        for name in ["kept_bytes", "without_memory", "unwritten_records", "panics"] {
            assert!(nfs[1].counters.iter().any(|counter| counter.name == name), "{name}");
        }
        listed.push(nfs[0].instance);
    }
    assert_eq!(listed, expected);
    served.stop().await;
}

/// The number of an instance that is gone is given to the next.
#[tokio::test]
async fn an_instance_is_asked_for_its_state_in_the_life_that_is_named() {
    let served = Served::start("[[nf]]\nkind = 'ids'\nmemory_max = '1MiB'\n");
    let id = served.create("r2", "create").await;
    let first = served.life(id).await.unwrap();
    let (is, was) = ((first + 1).to_string(), first.to_string());
    assert_eq!(served.describe(id, None).await.unwrap(), "r2");
    assert_eq!(served.describe(id, Some(&was)).await.unwrap(), "r2");
    assert_eq!(served.describe(id, Some(&is)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(served.describe(id, Some("x")).await.unwrap_err().code(), Code::InvalidArgument);
    let mut instances = served.instances().await;
    let mut pause = api::SetInstanceStateRequest { change: None, id, state: 0 };
    pause.set_state(api::InstanceState::Paused);
    instances.set_instance_state(pause).await.unwrap();
    let remove = api::RemoveInstanceRequest { change: change("remove"), id };
    instances.remove_instance(remove).await.unwrap();
    while served.life(id).await.is_some() {}
    assert_eq!(served.create("r2", "again").await, id);
    assert_eq!(served.life(id).await, Some(first + 1));
    let refused = served.describe(id, Some(&was)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert_eq!(served.describe(id, Some(&is)).await.unwrap(), "r2");
    served.stop().await;
}

#[tokio::test]
async fn a_move_says_what_it_promises_and_which_state_it_takes() {
    use api::start_move_request::Selection;

    let served = Served::start("");
    let to = served.create("r2", "create").await;
    let any = || Some(Selection::Filter("any".to_owned()));
    let buckets = || Some(Selection::Buckets("0-7".to_owned()));
    let (per_flow, multi_flow) = (Scope::PerFlow as i32, Scope::MultiFlow as i32);
    let none = api::Guarantee::None as i32;
    for (place, selection, guarantee, scopes, field) in [
        (0, buckets(), 0, vec![per_flow, multi_flow], "scopes"),
        (1, any(), 0, vec![Scope::AllFlows as i32], "scopes"),
        (2, any(), 0, vec![77], "scopes"),
        (3, any(), 77, vec![], "guarantee"),
    ] {
        let change = change(&format!("refused-{place}"));
        let ask = api::StartMoveRequest {
            change,
            from: 1,
            to,
            selection,
            no_queue: true,
            guarantee,
            scopes,
            wait: true,
        };
        let refused = served.moves().await.start_move(ask).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let details = refused.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations[0].field, field);
    }
    let both = vec![per_flow, multi_flow];
    for (place, guarantee, scopes, shown) in [
        (0, 0, vec![], (api::Guarantee::Ordered, vec![per_flow])),
        (1, none, both.clone(), (api::Guarantee::None, both)),
    ] {
        let ask = api::StartMoveRequest {
            change: change(&format!("move-{place}")),
            from: if place == 0 { 1 } else { to },
            to: if place == 0 { to } else { 1 },
            selection: any(),
            no_queue: true,
            guarantee,
            scopes,
            wait: false,
        };
        let begun = served.moves().await.start_move(ask).await.unwrap().into_inner();
        let begun = begun.r#move.unwrap();
        assert_eq!((begun.guarantee(), begun.scopes), shown);
        assert_eq!(served.watch(begun.id).await.last(), Some(&api::MovePhase::Done));
    }
    served.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_move_is_answered_when_it_has_ended_and_so_is_who_asks_again() {
    let served = Served::start("");
    let to = served.create("r2", "create").await;
    let ask = api::StartMoveRequest {
        change: change("move"),
        from: 1,
        to,
        selection: Some(api::start_move_request::Selection::Filter("any".to_owned())),
        wait: true,
        ..api::StartMoveRequest::default()
    };
    for again in [false, true] {
        let ended = served.moves().await.start_move(ask.clone()).await.unwrap().into_inner();
        let ended = ended.r#move.unwrap();
        assert_eq!((ended.id, ended.phase()), (1, api::MovePhase::Done), "again: {again}");
        assert!(ended.ended_ns >= ended.started_ns);
    }
    served.stop().await;
}

#[tokio::test]
async fn repeating_a_request_is_answered_as_before_and_changes_nothing() {
    let served = Served::start("");
    let first = served.create("r2", "same").await;
    let request = api::CreateInstanceRequest {
        change: change("same"),
        name: "r2".to_owned(),
        capacity_ns: 0,
    };
    let again = served.instances().await.create_instance(request).await.unwrap().into_inner();
    assert_eq!(again.instance.unwrap().id, first);
    let listed = served.instances().await.list_instances(api::ListInstancesRequest {}).await;
    assert_eq!(listed.unwrap().into_inner().instances.len(), 2);
    served.stop().await;
}

#[tokio::test]
async fn refusals_have_a_code_a_reason_and_what_they_are_about() {
    let served = Served::start("");
    let refused = served.start_move(1, 9, "0-7", "a").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((&*info.domain, &*info.reason), ("weir", "NOT_FOUND"));
    assert_eq!(&*info.metadata["object"], "instances/9");

    let refused = served.start_move(1, 1, "0-7", "b").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = served.start_move(1, 1, "7-0", "c").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "buckets");

    let stale = api::CreateInstanceRequest {
        change: Some(api::Change { request_id: "d".to_owned(), generation: 1_000_000 }),
        name: "r2".to_owned(),
        capacity_ns: 0,
    };
    let refused = served.instances().await.create_instance(stale).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert_eq!(refused.get_details_error_info().unwrap().reason, "STALE_GENERATION");

    let taken =
        api::CreateInstanceRequest { change: change("e"), name: "r1".to_owned(), capacity_ns: 0 };
    let refused = served.instances().await.create_instance(taken).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);

    let worker = api::AddWorkerRequest { change: change("f"), core: 1023 };
    let refused = served.workers().await.add_worker(worker).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    served.stop().await;
}

#[tokio::test]
async fn workers_come_and_go_while_it_runs() {
    let served = Served::start("");
    let mut workers = served.workers().await;
    let request = api::AddWorkerRequest { change: change("add"), core: -1 };
    let added = workers.add_worker(request).await.unwrap().into_inner().worker.unwrap();
    assert_eq!((added.id, added.core), (2, -1));
    let request = api::AddWorkerRequest { change: change("more"), core: -1 };
    assert_eq!(workers.add_worker(request).await.unwrap_err().code(), Code::ResourceExhausted);
    let request = api::RemoveWorkerRequest { change: change("remove"), id: 2 };
    workers.remove_worker(request).await.unwrap();
    let gone = async {
        loop {
            let listed = workers.list_workers(api::ListWorkersRequest {}).await.unwrap();
            if listed.into_inner().workers.len() == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("worker 2 leaves");
    let request = api::AddWorkerRequest { change: change("again"), core: -1 };
    let added = workers.add_worker(request).await.unwrap().into_inner().worker.unwrap();
    assert_eq!(added.id, 2);
    served.stop().await;
}

#[tokio::test]
async fn flows_routes_and_neighbours_of_an_empty_node_are_lists_that_end() {
    let served = Served::start("");
    let mut routes = served.routes().await;
    let mut listed = routes.list_routes(api::ListRoutesRequest {}).await.unwrap().into_inner();
    assert!(listed.next().await.is_none());
    let route = api::Route {
        prefix: "10.0.0.0/8".to_owned(),
        via: String::new(),
        port: "nowhere".to_owned(),
    };
    let request = api::AddRouteRequest { change: change("route"), route: Some(route) };
    assert_eq!(routes.add_route(request).await.unwrap_err().code(), Code::NotFound);
    let mut flows = served.flows().await;
    let request = api::ListFlowsRequest::default();
    let mut listed = flows.list_flows(request).await.unwrap().into_inner();
    assert!(listed.next().await.is_none());
    let request = api::ListFlowsRequest { filter: "port=".to_owned(), ..Default::default() };
    assert_eq!(flows.list_flows(request).await.unwrap_err().code(), Code::InvalidArgument);
    let mut neighbours = served.neighbours().await;
    let listed = neighbours.list_neighbours(api::ListNeighboursRequest {}).await.unwrap();
    assert!(listed.into_inner().neighbours.is_empty());
    served.stop().await;
}

#[tokio::test]
async fn a_route_has_no_host_bits_and_leaves_the_networks_of_the_ports_alone() {
    let served = Served::start(
        "[[port]]\nname = 'sap1'\nbackend = 'pcap'\ntx = '/dev/null'\n\
         addresses = ['10.0.1.1/24']\n\
         [[port]]\nname = 'sap2'\nbackend = 'pcap'\ntx = '/dev/zero'\n\
         addresses = ['10.0.2.1/24']\n",
    );
    let mut routes = served.routes().await;
    let listed = async || {
        let mut routes = served.routes().await;
        let parts = routes.list_routes(api::ListRoutesRequest {}).await.unwrap().into_inner();
        let parts: Vec<_> = parts.collect().await;
        parts.into_iter().flat_map(|part| part.unwrap().routes).collect::<Vec<_>>()
    };
    let before = listed().await;
    for (prefix, via, port, code, says) in [
        ("10.9.0.1/24", "10.0.1.2", "sap1", Code::InvalidArgument, "did you mean 10.9.0.0/24?"),
        ("224.0.0.0/4", "10.0.1.2", "sap1", Code::InvalidArgument, "is of groups"),
        ("10.0.2.0/24", "10.0.1.2", "sap1", Code::FailedPrecondition, "an address of port sap2"),
        ("10.0.2.0/24", "", "sap1", Code::FailedPrecondition, "an address of port sap2"),
        ("10.0.2.0/24", "10.0.2.2", "sap2", Code::FailedPrecondition, "an address of port sap2"),
    ] {
        let route =
            api::Route { prefix: prefix.to_owned(), via: via.to_owned(), port: port.to_owned() };
        let request = api::AddRouteRequest { change: change("refused"), route: Some(route) };
        let refused = routes.add_route(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    let prefix = "10.0.2.1/24".to_owned();
    let request = api::RemoveRouteRequest { change: change("remove"), prefix };
    let refused = routes.remove_route(request).await.unwrap_err();
    assert!(refused.message().contains("did you mean 10.0.2.0/24?"), "{}", refused.message());
    let same = before.iter().find(|route| route.prefix == "10.0.2.0/24").cloned();
    let generation = async || {
        let node = served.node().await.get_node(api::GetNodeRequest {}).await.unwrap();
        node.into_inner().generation
    };
    let at = generation().await;
    let request = api::AddRouteRequest { change: change("same"), route: same };
    routes.add_route(request).await.unwrap();
    assert_eq!((listed().await, generation().await), (before, at));
    served.stop().await;
}

#[tokio::test]
async fn who_removes_a_route_is_told_whether_a_start_brings_it_back() {
    let served = Served::start(
        "[[port]]\nname = 'sap1'\nbackend = 'pcap'\ntx = '/dev/null'\n\
         addresses = ['10.0.1.1/24']\n\
         [[route]]\nprefix = '10.8.0.0/16'\nvia = '10.0.1.2'\nport = 'sap1'\n",
    );
    let mut routes = served.routes().await;
    let (prefix, via) = ("10.9.0.0/16".to_owned(), "10.0.1.2".to_owned());
    let route = Some(api::Route { prefix, via, port: "sap1".to_owned() });
    routes.add_route(api::AddRouteRequest { change: None, route }).await.unwrap();
    let mut remove = async |prefix: &str, id| {
        let request = api::RemoveRouteRequest { change: change(id), prefix: prefix.to_owned() };
        routes.remove_route(request).await.unwrap().into_inner().configured
    };
    assert!(!remove("10.9.0.0/16", "added").await);
    assert!(remove("10.8.0.0/16", "of the file").await);
    // A repeated request is answered as before.
    assert!(remove("10.8.0.0/16", "of the file").await);
    served.stop().await;
}

#[tokio::test]
async fn faults_are_served_only_when_asked_for() {
    let served = Served::start("");
    let panic = api::PanicWorkerRequest { worker: 0, after_packets: 0, stage: 0 };
    let refused = served.faults().await.panic_worker(panic).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    served.stop().await;

    let served = Served::start_with_faults();
    let panic = api::PanicWorkerRequest { worker: 7, after_packets: 0, stage: 0 };
    let refused = served.faults().await.panic_worker(panic).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let panic = api::PanicWorkerRequest { worker: 0, after_packets: 0, stage: 99 };
    let refused = served.faults().await.panic_worker(panic).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test]
async fn a_worker_that_panics_is_started_again_and_goes_on() {
    let served = Served::start_with_faults();
    let panic = api::PanicWorkerRequest { worker: 1, after_packets: 0, stage: 0 };
    served.faults().await.panic_worker(panic).await.unwrap();
    let mut workers = served.workers().await;
    let restarted = async {
        loop {
            let listed = workers.list_workers(api::ListWorkersRequest {}).await.unwrap();
            if listed.into_inner().workers[1].restarts == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, restarted).await.expect("worker 1 panics and is recovered");
    let id = served.create("r2", "create").await;
    let moved = served.start_move(1, id, "0-2047", "move").await.unwrap();
    assert_eq!(served.watch(moved.id).await.last(), Some(&api::MovePhase::Done));
    served.stop().await;
}

#[tokio::test]
async fn workers_without_work_sleep() {
    let served = Served::start("");
    let mut workers = served.workers().await;
    let asleep = async {
        loop {
            let listed = workers.list_workers(api::ListWorkersRequest {}).await.unwrap();
            if listed.into_inner().workers.iter().all(|worker| worker.state == "sleeping") {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, asleep).await.expect("all workers sleep");
    served.stop().await;
}
