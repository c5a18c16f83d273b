//! A real server on a Unix socket, against the fake data plane.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::dataplane::v1::{Change, Guarantee, Route};
use weir_api::nf::v1::Scope;
use weir_api::v1::{
    AddRouteRequest, GetPortRequest, ListDecisionsRequest, ListOperationsRequest, OperationState,
    PlanScaleRequest, RemoveRouteRequest, RemoveWorkerRequest, SetAutoRequest, StartMoveRequest,
    StepKind, StepState, UndoScaleRequest, move_service_client::MoveServiceClient,
    port_service_client::PortServiceClient, route_service_client::RouteServiceClient,
    scale_service_client::ScaleServiceClient, start_move_request::Selection,
    worker_service_client::WorkerServiceClient,
};
use weir_control::store::{Database, KeptRoute};

use crate::support::node::{Node, Running, block_on, change};

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "weir");
    info.reason
}

#[test]
fn scaling_out_and_in_by_command() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        let out = running.scale(4, "out").await;
        assert_eq!(out.state(), OperationState::Done, "{out:?}");
        assert_eq!(out.steps.iter().filter(|step| step.kind() == StepKind::Move).count(), 3);
        assert!(out.steps.iter().all(|step| step.state() == StepState::Done));
        assert_eq!(out.flows_moved, 3072);
        assert_eq!(node.fake.model().active().len(), 4);
        assert_eq!(node.fake.model().spread(), (1024, 1024));
        let back = running.scale(1, "in").await;
        assert_eq!(back.state(), OperationState::Done);
        assert_eq!(node.fake.model().instances.len(), 1);
        node.fake.model().assert_sound();
        let status = running.status().await;
        assert_eq!((status.instances_desired, status.instances_active), (1, 1));
        assert_eq!(status.generation, 2);
    });
}

#[test]
fn a_move_by_hand_takes_its_guarantee_and_scopes_to_the_data_plane() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        running.scale(2, "out").await;
        let mut moves = MoveServiceClient::new(running.channel().await);
        let scopes = vec![Scope::PerFlow as i32, Scope::MultiFlow as i32];
        let ask = StartMoveRequest {
            change: Some(change("by hand")),
            from: "1".to_owned(),
            to: "2".to_owned(),
            selection: Some(Selection::Filter("proto=udp".to_owned())),
            guarantee: Guarantee::LossFree.into(),
            scopes: scopes.clone(),
        };
        let begun = moves.start_move(ask).await.unwrap().into_inner().r#move.unwrap();
        assert_eq!((begun.guarantee(), begun.scopes), (Guarantee::LossFree, scopes));
    });
}

#[test]
fn a_repeated_request_changes_nothing_and_a_reused_id_is_refused() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        let first = running.scale(2, "same").await;
        let again = running.scale(2, "same").await;
        assert_eq!(first, again);
        assert_eq!(node.fake.model().created, ["sw2"]);
        let refused = running.begin_scale(3, "same").await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
        let mut client = ScaleServiceClient::new(running.channel().await);
        let stale = Some(Change { request_id: "stale".to_owned(), generation: 99 });
        let refused = client.set_auto(SetAutoRequest { change: stale, enabled: true }).await;
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Aborted, "GENERATION_STALE")
        );
        let based = Some(Change { request_id: "based".to_owned(), generation: 1 });
        client.set_auto(SetAutoRequest { change: based, enabled: false }).await.unwrap();
    });
}

#[test]
fn every_refusal_says_what_and_changes_nothing() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        for (instances, id) in [(0, "zero"), (9, "more than the data plane has room for")] {
            let refused = running.begin_scale(instances, id).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert_eq!(reason(&refused), "INSTANCE_COUNT");
        }
        let refused = running.begin_scale(2, "").await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_MISSING");
        let refused = running.begin_scale(2, &"x".repeat(65)).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_LONG");
        let channel = running.channel().await;
        let mut ports = PortServiceClient::new(channel.clone());
        let refused = ports.get_port(GetPortRequest { name: "p9".to_owned() }).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "NOT_FOUND"));
        let mut workers = WorkerServiceClient::new(channel.clone());
        let ask = RemoveWorkerRequest { change: Some(change("w")), id: 0 };
        let refused = workers.remove_worker(ask).await.unwrap_err();
        assert_eq!(reason(&refused), "DATAPLANE_REFUSED");
        assert_eq!(refused.message(), "one of its instances owns flows");
        let mut routes = RouteServiceClient::new(channel.clone());
        for (place, prefix, via, says) in [
            (0, "10.0.0.0/33", "", "PREFIX"),
            (1, "10.0.0.0/8", "ten", "NEXT_HOP"),
            (2, "10.0.0.1/8", "", "PREFIX"),
        ] {
            let (prefix, via, port) = (prefix.to_owned(), via.to_owned(), "p0".to_owned());
            let route = Some(Route { prefix, via, port });
            let change = Some(change(&format!("r{place}")));
            let refused = routes.add_route(AddRouteRequest { change, route }).await.unwrap_err();
            assert_eq!(reason(&refused), says);
        }
        let ask =
            RemoveRouteRequest { change: Some(change("host bits")), prefix: "10.0.0.1/8".into() };
        let refused = routes.remove_route(ask).await.unwrap_err();
        let details = refused.get_error_details();
        let fix = details.error_info().and_then(|info| info.metadata.get("fix")).cloned();
        assert_eq!(fix.as_deref(), Some("did you mean 10.0.0.0/8?"));
        let mut moves = MoveServiceClient::new(channel);
        for (place, from, selection, says) in [
            (0, "sw1", None, "SELECTION_MISSING"),
            (1, "sw1", Some(Selection::Buckets("1-".to_owned())), "BUCKETS"),
            (2, "sw7", Some(Selection::Buckets("1".to_owned())), "NOT_FOUND"),
            (3, "sw1", Some(Selection::Filter("gibberish".to_owned())), "FILTER"),
        ] {
            let change = Some(change(&format!("m{place}")));
            let (from, to) = (from.to_owned(), "sw1".to_owned());
            let ask =
                StartMoveRequest { change, from, to, selection, ..StartMoveRequest::default() };
            assert_eq!(reason(&moves.start_move(ask).await.unwrap_err()), says);
        }
        assert_eq!(running.status().await.generation, 0);
        assert_eq!(node.fake.model().moves.len(), 0);
        assert_eq!(node.fake.model().routes.len(), 0);
    });
}

/// The steps of 1 to 4 and back, each with whether a move has begun before it.
fn steps_out() -> Vec<(&'static str, bool)> {
    vec![
        ("create:1", false),
        ("create:3", false),
        ("activate:1", false),
        ("activate:3", false),
        ("move:1", false),
        ("move:2", true),
        ("move:3", true),
    ]
}

async fn begin_and_pause(running: &Running, instances: u32, step: &str) -> u64 {
    let mut stream = running.begin_scale(instances, "killed").await.unwrap();
    let first = stream.message().await.unwrap().unwrap();
    let id = first.operation.unwrap().id;
    let before = |operation: &weir_api::v1::Operation| {
        let earlier = operation.steps.iter().take_while(|planned| planned.name != step);
        earlier.into_iter().all(|planned| planned.state() == StepState::Done)
    };
    running.watched(id, before).await;
    id
}

#[test]
fn a_sidecar_killed_at_a_step_of_a_scale_out_finishes_or_undoes_when_it_is_back() {
    for (step, moving) in steps_out() {
        let node = Node::new(1);
        let running = node.start_paused(step);
        let id = block_on(begin_and_pause(&running, 4, step));
        running.kill();
        node.fake.model().assert_sound();
        let running = node.start();
        block_on(async {
            let ended = running.ended(id).await;
            let (state, count) =
                if moving { (OperationState::Done, 4) } else { (OperationState::Undone, 1) };
            assert_eq!(ended.state(), state, "killed at {step}: {ended:?}");
            assert_eq!(ended.resumed, 1);
            assert_eq!(node.fake.model().instances.len(), count, "killed at {step}");
            assert_eq!(running.status().await.instances_desired, count as u32);
            node.fake.model().assert_sound();
        });
    }
}

#[test]
fn a_sidecar_killed_at_a_step_of_a_scale_in_finishes_it() {
    for step in ["move:2", "pause:1", "pause:3", "remove:1", "remove:2"] {
        let node = Node::new(4);
        let running = node.start_paused(step);
        let id = block_on(begin_and_pause(&running, 1, step));
        running.kill();
        node.fake.model().assert_sound();
        let running = node.start();
        block_on(async {
            assert_eq!(running.ended(id).await.state(), OperationState::Done, "killed at {step}");
            assert_eq!(node.fake.model().instances.len(), 1);
            node.fake.model().assert_sound();
        });
    }
}

#[test]
fn a_running_operation_is_undone_on_request_and_blocks_other_changes() {
    let node = Node::new(1);
    let running = node.start_paused("move:3");
    block_on(async {
        let id = begin_and_pause(&running, 4, "move:3").await;
        let refused = running.begin_scale(2, "other").await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATION_IN_PROGRESS");
        let mut client = ScaleServiceClient::new(running.channel().await);
        let ask = UndoScaleRequest { change: Some(change("undo")), id };
        client.undo_scale(ask).await.unwrap();
        let ended = running.ended(id).await;
        assert_eq!(ended.state(), OperationState::Undone);
        assert_eq!(ended.reason, "undone on request");
        assert_eq!(node.fake.model().owners, vec![1; 4096]);
        assert_eq!(node.fake.model().instances.len(), 1);
        let ask = UndoScaleRequest { change: Some(change("undo again")), id };
        let refused = client.undo_scale(ask).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_UNDOABLE");
    });
    running.kill();
    let running = node.start();
    block_on(async {
        let mut client = ScaleServiceClient::new(running.channel().await);
        let ask = |request: &str, id| UndoScaleRequest { change: Some(change(request)), id };
        let refused = client.undo_scale(ask("undo after a restart", 1)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_UNDOABLE");
        assert!(refused.message().contains("has ended"), "{}", refused.message());
        let refused = client.undo_scale(ask("undo none", 9)).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_FOUND");
    });
}

#[test]
fn the_load_alone_scales_out_and_in_and_each_decision_is_logged() {
    let mut node = Node::new(1);
    node.scaling.push_str("dwell = '50ms'\ncool_down = '50ms'\n");
    node.fake.model().work = 2.2;
    let running = node.start();
    block_on(async {
        let mut client = ScaleServiceClient::new(running.channel().await);
        running.until(|status| status.load_max > 1.0).await;
        assert_eq!(running.status().await.instances_active, 1, "it only looks while it is off");
        let plan = client.plan_scale(PlanScaleRequest { instances: 3 }).await.unwrap();
        assert_eq!(plan.into_inner().steps.len(), 2 + 2 + 2);
        let on = SetAutoRequest { change: Some(change("on")), enabled: true };
        client.set_auto(on).await.unwrap();
        let reached = |count: u32| {
            move |status: &weir_api::v1::GetStatusResponse| {
                status.instances_active == count && status.operation.is_none()
            }
        };
        running.until(reached(4)).await;
        node.fake.model().work = 0.1;
        running.until(reached(1)).await;
        let ask = ListDecisionsRequest { limit: 0 };
        let logged = client.list_decisions(ask).await.unwrap().into_inner().decisions;
        assert!(logged.len() >= 2);
        let (last, first) = (&logged[0], logged.last().unwrap());
        assert_eq!((first.from_instances, first.to_instances), (1, 4));
        assert!(first.load_max > 1.0 && first.beyond_ns >= 50_000_000, "{first:?}");
        assert!(last.to_instances == 1 && last.reason.contains("below"), "{last:?}");
        assert!(logged.iter().all(|decision| decision.operation > 0));
    });
    running.kill();
    let running = node.start();
    assert!(block_on(running.status()).auto, "the choice outlives the sidecar");
}

#[test]
fn a_data_plane_that_restarted_is_brought_back_to_what_was_asked_for() {
    let node = Node::new(1);
    let running = node.start();
    block_on(async {
        let mut routes = RouteServiceClient::new(running.channel().await);
        let (prefix, via, port) = ("10.9.0.0/16".into(), "10.0.0.2".into(), "p0".into());
        let route = Some(Route { prefix, via, port });
        let ask = AddRouteRequest { change: Some(change("route")), route };
        routes.add_route(ask).await.unwrap();
        assert_eq!(running.scale(3, "three").await.state(), OperationState::Done);
        node.fake.model().restart();
        running.until(|status| status.instances_active == 3 && status.operation.is_none()).await;
        assert_eq!(node.fake.model().spread(), (1365, 1366));
        assert!(node.fake.model().routes.contains_key("10.9.0.0/16"));
        let mut client = ScaleServiceClient::new(running.channel().await);
        let listed = client.list_operations(ListOperationsRequest { limit: 0 }).await.unwrap();
        assert_eq!(listed.into_inner().operations[0].origin, "converge");
    });
}

#[test]
fn a_removed_route_of_the_configuration_stays_removed_until_it_is_added_again() {
    let node = Node::new(1);
    let prefix = "192.0.2.0/24";
    let (via, port) = ("10.0.0.2".to_owned(), "p0".to_owned());
    let route = Route { prefix: prefix.into(), via, port };
    {
        let mut model = node.fake.model();
        model.configured.insert(prefix.into(), route.clone());
        model.routes.insert(prefix.into(), route.clone());
    }
    let remove = |id: &str| {
        let change = Some(change(id));
        RemoveRouteRequest { change, prefix: prefix.into() }
    };
    let running = node.start();
    block_on(async {
        let mut routes = RouteServiceClient::new(running.channel().await);
        routes.remove_route(remove("away")).await.unwrap();
        let refused = routes.remove_route(remove("again")).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    });
    running.kill();

    // That the data plane does not have it does not mean that its configuration has it no more.
    let running = node.start();
    block_on(async {
        // Something else to wait for: it comes behind the routes.
        assert_eq!(running.scale(2, "two").await.state(), OperationState::Done);
        let mut routes = RouteServiceClient::new(running.channel().await);
        node.fake.model().restart();
        assert!(node.fake.model().routes.contains_key(prefix));
        running.until(|_| node.fake.model().routes.is_empty()).await;

        let ask = AddRouteRequest { change: Some(change("back")), route: Some(route.clone()) };
        routes.add_route(ask).await.unwrap();
        node.fake.model().restart();
        let spread = || node.fake.model().spread() == (2048, 2048);
        running.until(|status| status.operation.is_none() && spread()).await;
        assert!(node.fake.model().routes.contains_key(prefix));

        // What the data plane refuses is not kept in the place of what is wanted.
        let other = Route { port: "p9".into(), ..route.clone() };
        let ask = AddRouteRequest { change: Some(change("other")), route: Some(other) };
        assert_eq!(routes.add_route(ask).await.unwrap_err().code(), Code::NotFound);

        {
            let mut model = node.fake.model();
            model.configured.clear();
            model.restart();
        }
        running.until(|_| node.fake.model().routes.get(prefix) == Some(&route)).await;

        // Its port has another name now: the data plane does not have it, and it can be removed.
        node.fake.model().routes.clear();
        routes.remove_route(remove("stored")).await.unwrap();
        node.fake.model().routes.insert(prefix.into(), route);
        routes.remove_route(remove("not configured")).await.unwrap();
    });
    running.kill();
    // Nothing brings it back, so nothing is kept of it.
    let store = Database::open(&node.store()).unwrap();
    assert_eq!(store.route(prefix).unwrap(), KeptRoute::default());
}

#[test]
fn the_methods_that_carry_a_change_are_those_that_a_viewer_may_not_call() {
    let pool = prost_reflect::DescriptorPool::decode(weir_api::FILE_DESCRIPTOR_SET).unwrap();
    let mut checked = 0;
    for service in pool.services().filter(|service| service.package_name() == "weir.v1") {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            // A notification subscribes at a network function and shows packets, but ends with its
            // stream: there is nothing to repeat. Transfers of other nodes have numbers of their own.
            let changes = method.input().get_field_by_name("change").is_some()
                || path == "/weir.v1.StateService/Notify"
                || service.name() == "TransferService";
            assert_eq!(weir_control::listen::writes(&path), changes, "{path}");
            checked += 1;
        }
    }
    assert!(checked > 20);
}

/// As one that was stopped: it takes connections and says nothing.
#[test]
fn a_data_plane_that_hangs_is_named_with_its_mend() {
    let mut node = Node::new(1);
    node.fake.socket = node.directory.0.join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&node.fake.socket).unwrap();
    let running = node.start();
    let told = running.weir(&["-o", "json", "instance", "list"]);
    assert_eq!(told.status.code(), Some(6), "{told:?}");
    let error: serde_json::Value = serde_json::from_slice(&told.stderr).unwrap();
    assert_eq!((&error["code"], &error["object"]), (&"DATAPLANE_LATE".into(), &"dataplane".into()));
    assert_eq!(error["message"], "the data plane does not answer within 5s");
    assert!(error["fix"].as_str().unwrap().contains("stopped it"), "{error}");
    let dataplane = block_on(running.status()).dataplane.unwrap();
    assert_eq!(dataplane.error, "no answer within 5s");
    assert!(dataplane.fix.contains("stopped it"), "{}", dataplane.fix);
}
