//! Moves that lead packets while the data plane, the journal, the configuration or the sidecar fail.

use weir_api::{
    dataplane::v1::PolicyRoute,
    v1::{MoveRequest, StateOperation, StateOperationState as State},
};
use weir_control::{
    state_manager::lead::{LeadStep, Plan},
    store::{Database, LedMove, StoreError},
};

use crate::lead::{fill, journalled, leads_to, ordered, policy, start, start_of, until, vias};
use crate::state::refusal;
use crate::support::{
    gate::{Gate, gated},
    nf::{Monitor, Nf, flow},
    node::{Running, Thread, block_on, limited},
    state::Pair,
};

/// A node with what it moves.
pub(crate) fn filled() -> Pair {
    let pair = Pair::new();
    fill(&pair);
    pair
}

/// The same, whose destination takes in nothing until it is let.
pub(crate) fn filled_and_gated() -> (Pair, Gate, Thread) {
    let mut pair = filled();
    let socket = pair.socket("b");
    pair.b.die();
    let (nf, gate, served) = gated(&socket, Monitor::new(2), "PutPerFlow");
    pair.b = nf;
    (pair, gate, served)
}

/// From `b` to `a`.
fn back(id: &str) -> MoveRequest {
    MoveRequest { from: "b".to_owned(), to: "a".to_owned(), ..ordered(id) }
}

/// Lets the journal of sidecars that are started from here on not do something.
pub(crate) fn forbid(pair: &Pair, what: &str) {
    drop(Database::open(&pair.node.store()).unwrap());
    let sql =
        format!("CREATE TRIGGER no {what} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END");
    rusqlite::Connection::open(pair.node.store()).unwrap().execute_batch(&sql).unwrap();
}

fn allow(pair: &Pair) {
    let connection = rusqlite::Connection::open(pair.node.store()).unwrap();
    connection.execute_batch("DROP TRIGGER no").unwrap();
}

/// Lets sidecars that are started from here on desire policy routes, as a move that led has left them.
fn desire(pair: &Pair, led: Vec<PolicyRoute>) {
    let row = LedMove { step: LeadStep::Lead, ..journalled(Plan { led, ..Plan::default() }) };
    let mut database = Database::open(&pair.node.store()).unwrap();
    database.begin_lead(&row).unwrap();
    database.step_lead(&row).unwrap();
    database.end_lead(row.operation, None).unwrap();
}

/// What the store has which a sidecar is using; none when it was just written.
fn seen<T>(pair: &Pair, read: impl FnOnce(&Database) -> Result<T, StoreError>) -> Option<T> {
    let copy = pair.node.directory.0.join("seen.db");
    std::fs::copy(pair.node.store(), &copy).unwrap();
    let wal = |path: &std::path::Path| format!("{}-wal", path.display());
    std::fs::copy(wal(&pair.node.store()), wal(&copy)).unwrap();
    Database::open(&copy).and_then(|database| read(&database)).ok()
}

/// The policy routes that it has.
pub(crate) fn desired(pair: &Pair) -> Option<Vec<PolicyRoute>> {
    seen(pair, Database::policy_routes)
}

/// Whether it has that the packets of a move have been led.
fn has_led(pair: &Pair) -> bool {
    let moves = seen(pair, Database::led_moves).unwrap_or_default();
    moves.iter().any(|row| row.step == LeadStep::Led)
}

fn restart_dataplane(pair: &Pair) {
    let mut model = pair.node.fake.model();
    model.incarnation += 2;
    model.policies.start();
}

pub(crate) fn flows(pair: &Pair) -> (u64, u64) {
    (pair.a.monitor().of_flows(), pair.b.monitor().of_flows())
}

/// The source has all, and packets go to it by the policy routes that there were.
pub(crate) fn assert_is_as_before(pair: &Pair) {
    assert_eq!(flows(pair), (20, 0));
    assert!(leads_to(pair, 1) && vias(pair).len() == 2, "{:?}", vias(pair));
}

pub(crate) async fn begin(running: &Running, request: MoveRequest) -> StateOperation {
    let mut stream = running.state().await.r#move(request).await.unwrap().into_inner();
    limited(stream.message()).await.unwrap().unwrap().operation.unwrap()
}

async fn find(running: &Running, id: u64) -> StateOperation {
    let all = running.state_operations().await;
    all.into_iter().find(|operation| operation.id == id).unwrap()
}

#[test]
fn a_move_that_stays_in_the_journal_is_in_the_way_of_others_and_what_has_come_since_stays() {
    let pair = filled();
    forbid(&pair, "BEFORE DELETE ON led_move");
    let running = start(&pair, None);
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || !find(&running, begun.id).await.reason.is_empty()).await;
        let stays = find(&running, begun.id).await;
        assert_eq!(stays.state(), State::Running, "{stays:?}");
        assert!(stays.reason.contains("the journal can not be written"), "{stays:?}");
        for guarantee in [1, back("").guarantee] {
            let ask = MoveRequest { guarantee, ..back(&format!("back {guarantee}")) };
            let refused = refusal(&running.moves(ask).await.unwrap_err());
            assert_eq!(refused.0, "OPERATION_IN_THE_WAY");
            assert_eq!(refused.1, format!("operations/{}", begun.id));
        }
        begun.id
    });
    assert_eq!(flows(&pair), (0, 20));
    running.kill();
    // One of the same addresses and another begin at the source, past the data plane.
    pair.a.monitor().packets(&flow(1, 1, 1_000), 1);
    pair.a.monitor().packets(&flow(1, 99, 1_000), 1);
    allow(&pair);
    let running = start(&pair, None);
    block_on(async {
        let done = running.state_ended(id).await;
        // One of the two has moved, of another version.
        assert_eq!((done.state(), done.left_behind), (State::Done, 1), "{done:?}");
        let again = running.moves(ordered("m")).await.unwrap();
        assert_eq!((again.id, again.state()), (id, State::Done), "{again:?}");
    });
    assert_eq!(flows(&pair), (2, 20));
    running.kill();
    assert!(Database::open(&pair.node.store()).unwrap().led_moves().unwrap().is_empty());
}

#[test]
fn a_data_plane_that_was_started_again_while_it_held_has_the_move_undone() {
    let (pair, gate, _served) = filled_and_gated();
    let running = start(&pair, None);
    block_on(async {
        let begun = begin(&running, ordered("m")).await;
        gate.has_one().await;
        restart_dataplane(&pair);
        gate.open();
        let ended = running.state_ended(begun.id).await;
        assert_eq!(ended.state(), State::Undone, "{ended:?}");
        assert!(ended.reason.contains("the data plane was started again"), "{ended:?}");
    });
    assert_is_as_before(&pair);
}

#[test]
fn a_data_plane_that_was_started_again_with_another_file_keeps_what_that_says() {
    let pair = filled();
    let whole = |route| PolicyRoute { both_ways: true, ..route };
    let with = |vias: [&str; 2]| {
        let [inside, outside] = vias;
        vec![whole(policy("in", "any", "in", inside)), whole(policy("out", "any", "out", outside))]
    };
    let policies = |configured| {
        let policies = &mut pair.node.fake.model().policies;
        policies.configured = configured;
        policies.start();
    };
    policies(with(["10.0.1.2", "10.0.1.3"]));
    let running = start(&pair, Some("carry"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || {
            vias(&pair) == [("10.0.1.2".to_owned(), true), ("10.0.1.3".to_owned(), true)]
        })
        .await;
        begun.id
    });
    running.kill();
    // The port of the old one is gone.
    let edited = with(["10.0.3.2", "10.0.3.3"]);
    policies(edited.clone());
    {
        let mut model = pair.node.fake.model();
        model.incarnation += 2;
        model.policies.refused = Some("in".to_owned());
    }
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Undone, "{ended:?}");
    assert_eq!(pair.node.fake.model().policies.list, edited);
    assert_eq!(flows(&pair), (20, 0));
}

#[test]
fn a_data_plane_that_was_started_again_before_it_led_has_the_move_say_so() {
    let pair = filled();
    let running = start(&pair, Some("led"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || flows(&pair).1 == 20 && vias(&pair).iter().any(|(_, holds)| *holds)).await;
        begun.id
    });
    // It stands still behind what it writes down.
    block_on(until(async || desired(&pair).is_some_and(|routes| !routes.is_empty())));
    running.kill();
    restart_dataplane(&pair);
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    assert!(ended.reason.contains("the promise was not kept"), "{ended:?}");
    assert_eq!(flows(&pair), (0, 20));
    assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
}

/// Has a sidecar killed that has led packets, and the data plane started again; the operation.
pub(crate) fn killed_when_it_had_led(pair: &Pair) -> u64 {
    let running = start(pair, Some("delete"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || leads_to(pair, 2) && has_led(pair)).await;
        begun.id
    });
    running.kill();
    restart_dataplane(pair);
    assert!(leads_to(pair, 1), "{:?}", vias(pair));
    id
}

#[test]
fn a_data_plane_that_was_started_again_when_it_had_led_has_lost_nothing_that_was_held() {
    let pair = filled();
    let id = killed_when_it_had_led(&pair);
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!((ended.state(), &*ended.reason), (State::Done, ""), "{ended:?}");
    assert_eq!(flows(&pair), (0, 20));
    assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
}

#[test]
fn a_data_plane_that_was_started_again_and_does_not_lead_any_more_has_the_move_say_so() {
    let pair = filled();
    let id = killed_when_it_had_led(&pair);
    pair.node.fake.model().policies.refused = Some(format!("move-{id}-in"));
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let says = format!("does not lead all packets there; move-{id}-in: ");
    assert!(ended.reason.contains(&says), "{ended:?}");
    assert_eq!(flows(&pair), (20, 20));
}

#[test]
fn a_move_that_can_not_write_down_that_it_has_led_goes_on() {
    let pair = filled();
    forbid(&pair, "BEFORE UPDATE OF step ON led_move WHEN NEW.step = 'led'");
    let running = start(&pair, None);
    let ended = block_on(async { running.moves(ordered("m")).await.unwrap() });
    assert_eq!((ended.state(), &*ended.reason), (State::Done, ""), "{ended:?}");
    assert_eq!(flows(&pair), (0, 20));
    assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
}

#[test]
fn a_destination_that_died_before_the_source_has_deleted_has_the_source_keep_all() {
    for (stage, comes_back) in [("led", true), ("led", false), ("delete", true)] {
        let mut pair = filled();
        let running = start(&pair, Some(stage));
        let id = block_on(async {
            let begun = begin(&running, ordered("m")).await;
            until(async || flows(&pair).1 == 20).await;
            until(async || desired(&pair).is_some_and(|routes| !routes.is_empty())).await;
            until(async || stage == "led" || leads_to(&pair, 2)).await;
            begun.id
        });
        running.kill();
        pair.b.die();
        if comes_back {
            pair.b = Nf::start(&pair.socket("b"), Monitor::new(2));
        }
        let running = start(&pair, None);
        let ended = block_on(running.state_ended(id));
        assert_eq!(ended.state(), State::Failed, "{stage}: {ended:?}");
        assert!(ended.reason.contains("no more is deleted at the source"), "{ended:?}");
        assert!(!comes_back || ended.reason.contains("nf/b was started again"), "{ended:?}");
        assert_eq!(flows(&pair).0, 20, "{stage}: {ended:?}");
        assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
    }
}

#[test]
fn a_destination_that_died_while_packets_were_to_be_led_has_the_source_keep_all() {
    let mut pair = filled();
    let running = start(&pair, None);
    // The first is heard: packets are held.
    pair.node.fake.model().policies.trouble_leading = u32::MAX;
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        let waits = async || find(&running, begun.id).await.reason.contains("nobody hears it");
        until(waits).await;
        begun.id
    });
    pair.b.die();
    pair.b = Nf::start(&pair.socket("b"), Monitor::new(2));
    pair.node.fake.model().policies.trouble_leading = 0;
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    assert!(ended.reason.contains("no more is deleted at the source"), "{ended:?}");
    assert_eq!(flows(&pair), (20, 0), "{ended:?}");
}

#[test]
fn a_policy_route_that_is_refused_keeps_no_other_from_being_put_again() {
    let pair = filled();
    let running = start(&pair, None);
    let moved = block_on(async { running.moves(ordered("m")).await.unwrap() });
    assert_eq!(moved.state(), State::Done, "{moved:?}");
    running.kill();
    pair.node.fake.model().policies.refused = Some(format!("move-{}-in", moved.id));
    restart_dataplane(&pair);
    let _running = start(&pair, None);
    block_on(until(async || vias(&pair).iter().any(|(via, _)| via == "10.0.2.3")));
    assert_eq!(vias(&pair).len(), 3);
}

#[test]
fn a_policy_route_that_holds_is_left_to_who_has_it_hold() {
    let pair = filled();
    let led = |name: &str, last: u8| {
        let led = policy(&format!("led-{name}"), "any", name, &format!("10.0.2.{last}"));
        PolicyRoute { before: name.to_owned(), ..led }
    };
    desire(&pair, vec![led("in", 2), led("out", 3)]);
    let holds = PolicyRoute { holds: true, ..policy("led-in", "any", "in", "10.0.1.2") };
    pair.node.fake.model().policies.list.insert(0, holds);
    let _running = start(&pair, None);
    block_on(until(async || vias(&pair).iter().any(|(via, _)| via == "10.0.2.3")));
    assert_eq!(vias(&pair)[0], ("10.0.1.2".to_owned(), true));
}

#[test]
fn policy_routes_of_moves_that_decide_nothing_are_removed() {
    let pair = filled();
    let running = start(&pair, None);
    let moves = |request: MoveRequest, filter: &str| {
        use weir_api::v1::move_request::Selection;
        let selection = Some(Selection::Filter(filter.to_owned()));
        let ended =
            block_on(async { running.moves(MoveRequest { selection, ..request }).await.unwrap() });
        assert_eq!(ended.state(), State::Done, "{ended:?}");
    };
    let are = |count: usize| block_on(until(async || vias(&pair).len() == count));
    moves(ordered("some"), "proto=tcp,dport=80");
    are(4);
    // One that takes these along with others; and all go back to where the configuration leads them.
    moves(ordered("more"), "proto=tcp");
    are(4);
    assert!(leads_to(&pair, 2));
    for number in 0..3 {
        moves(back(&format!("back {number}")), "proto=tcp");
        are(2);
        assert!(leads_to(&pair, 1));
        moves(ordered(&format!("to {number}")), "proto=tcp");
        are(4);
    }
    moves(back("last"), "proto=tcp");
    are(2);
    running.kill();
    // One that was killed before it had forgotten them, too.
    let idle = policy("left", "proto=tcp", "in", "10.0.1.2");
    desire(&pair, vec![PolicyRoute { before: "in".to_owned(), ..idle }]);
    let _running = start(&pair, None);
    block_on(until(async || desired(&pair) == Some(Vec::new())));
    assert_eq!(vias(&pair).len(), 2);
    assert!(leads_to(&pair, 1));
}

#[test]
fn policy_routes_that_could_not_be_removed_when_a_move_had_ended_are_later() {
    let pair = filled();
    let running = start(&pair, None);
    block_on(async {
        assert_eq!(running.moves(ordered("to")).await.unwrap().state(), State::Done);
        pair.node.fake.model().policies.trouble_removing = 2;
        assert_eq!(running.moves(back("back")).await.unwrap().state(), State::Done);
        until(async || vias(&pair).len() == 2).await;
    });
    assert!(leads_to(&pair, 1), "{:?}", vias(&pair));
}

#[test]
fn what_the_data_plane_does_not_do_at_once_is_asked_for_again_until_it_is_done() {
    for is_cancelled in [false, true] {
        let (pair, gate, _served) = filled_and_gated();
        let running = start(&pair, None);
        block_on(async {
            let begun = begin(&running, ordered("m")).await;
            gate.has_one().await;
            pair.node.fake.model().policies.trouble = 4;
            if is_cancelled {
                running.cancel(begun.id).await.unwrap();
            }
            gate.open();
            let ended = running.state_ended(begun.id).await;
            let expected = if is_cancelled { State::Undone } else { State::Done };
            assert_eq!(ended.state(), expected, "{ended:?}");
        });
        assert_eq!(pair.node.fake.model().policies.trouble, 0);
        assert_eq!(flows(&pair), if is_cancelled { (20, 0) } else { (0, 20) });
        assert!(leads_to(&pair, if is_cancelled { 1 } else { 2 }), "{:?}", vias(&pair));
    }
}

#[test]
fn a_journal_that_can_not_be_written_at_any_step_has_the_packets_go_back() {
    for what in [
        "BEFORE INSERT ON led_move",
        "BEFORE UPDATE OF step ON led_move WHEN NEW.step = 'carry'",
        "BEFORE UPDATE OF step ON led_move WHEN NEW.step = 'lead'",
        "BEFORE INSERT ON policy_route",
    ] {
        let pair = filled();
        forbid(&pair, what);
        let running = start(&pair, None);
        let ended = block_on(async { running.moves(ordered("m")).await.unwrap() });
        assert_eq!(ended.state(), State::Undone, "{what}: {ended:?}");
        assert!(ended.reason.contains("the journal can not be written"), "{what}: {ended:?}");
        assert_eq!((flows(&pair), vias(&pair).len()), ((20, 0), 2), "{what}");
        assert!(leads_to(&pair, 1), "{what}: {:?}", vias(&pair));
        running.kill();
        allow(&pair);
        let mut database = Database::open(&pair.node.store()).unwrap();
        assert!(database.led_moves().unwrap().is_empty(), "{what}");
        assert!(database.policy_routes().unwrap().is_empty(), "{what}");
        database.set_auto(false).unwrap();
    }
}

#[test]
fn packets_go_back_though_a_function_has_left_the_configuration() {
    for (left, is_there) in [("b", "a"), ("a", "b")] {
        let pair = filled();
        let running = start(&pair, Some("lead"));
        let id = block_on(async {
            let begun = begin(&running, ordered("m")).await;
            until(async || flows(&pair).1 == 20).await;
            begun.id
        });
        running.kill();
        assert!(vias(&pair).iter().any(|(_, holds)| *holds));
        let running = start_of(&pair, &[is_there], None);
        let ended = block_on(running.state_ended(id));
        assert_eq!(ended.state(), State::Failed, "{ended:?}");
        let says = format!("nf/{left} is no [[control.nf]] of the configuration any more");
        assert!(ended.reason.contains(&says), "{ended:?}");
        assert_eq!(vias(&pair).len(), 2);
        assert!(leads_to(&pair, 1), "{:?}", vias(&pair));
        assert_eq!(flows(&pair).0, 20);
    }
}

#[test]
fn a_request_that_was_not_answered_is_answered_with_the_move_that_the_journal_has() {
    let pair = filled();
    pair.node.keeps_answers(false);
    let running = start(&pair, Some("carry"));
    let id = block_on(async {
        let refused = running.moves(ordered("m")).await.unwrap_err();
        assert_eq!(refusal(&refused).0, "NOT_KEPT");
        until(async || vias(&pair).iter().any(|(_, holds)| *holds)).await;
        running.state_operations().await[0].id
    });
    running.kill();
    pair.node.keeps_answers(true);
    let running = start(&pair, None);
    block_on(async {
        let ended = running.moves(ordered("m")).await.unwrap();
        assert_eq!((ended.id, ended.state()), (id, State::Undone), "{ended:?}");
        assert_eq!(running.state_operations().await.len(), 1);
    });
    assert_eq!((flows(&pair), vias(&pair).len()), ((20, 0), 2));
}
