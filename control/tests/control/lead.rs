//! Moves whose packets the data plane leads: what is planned, what is kept, and what comes of it when a
//! sidecar is killed.

use std::{net::IpAddr, time::Duration};

use weir_api::{
    dataplane::v1::{Guarantee, PolicyRoute},
    nf::v1::Scope,
    v1::{MoveRequest, StateOperation, StateOperationState as State},
};
use weir_control::{
    config::{Config, Leg, NfProcess, Translates},
    state_manager::{
        lead::{LeadError, LeadStep, Plan, plan},
        steps::Piece,
    },
    store::{Answer, Database, LedMove},
};
use weir_state_transfer::{FlowId, chunk};

use crate::state::refusal;
use crate::support::{
    nf::flow,
    node::{Directory, Running, block_on},
    state::{Pair, moved},
};

pub(crate) fn policy(name: &str, filter: &str, from: &str, via: &str) -> PolicyRoute {
    let port = if via.starts_with("10.0.1") { "pa" } else { "pb" };
    PolicyRoute {
        name: name.to_owned(),
        filter: filter.to_owned(),
        from: from.to_owned(),
        via: via.to_owned(),
        port: port.to_owned(),
        ..PolicyRoute::default()
    }
}

fn nf(name: &str, translates: Translates) -> NfProcess {
    let net = if name == "a" { 1 } else { 2 };
    let leg = |leg: &str, last: u8| Leg {
        name: leg.to_owned(),
        from: leg.to_owned(),
        via: IpAddr::from([10, 0, net, last]),
        port: format!("p{name}"),
    };
    let leg = vec![leg("in", 2), leg("out", 3)];
    NfProcess { name: name.to_owned(), socket: "/x".into(), leg, translates }
}

fn planned(list: &[PolicyRoute], filter: &str) -> Result<Plan, LeadError> {
    let ends = ["a", "b"].map(|name| nf(name, Translates::Nothing));
    plan(list, (&ends[0], &ends[1]), &filter.parse().unwrap(), 7)
}

/// All that comes in by either port goes to `a`.
fn base() -> Vec<PolicyRoute> {
    vec![policy("in", "any", "in", "10.0.1.2"), policy("out", "any", "out", "10.0.1.3")]
}

#[test]
fn a_policy_of_its_own_holds_and_leads_in_front_of_the_one_that_leads_to_the_source() {
    let planned = planned(&base(), "proto=tcp").unwrap();
    let names: Vec<_> = planned.held.iter().map(|route| (&*route.name, &*route.before)).collect();
    assert_eq!(names, [("move-7-in", "in"), ("move-7-out", "out")]);
    assert_eq!(planned.added, ["move-7-in", "move-7-out"]);
    let shown = |routes: &[PolicyRoute]| -> Vec<_> {
        routes.iter().map(|route| (route.via.clone(), route.port.clone(), route.holds)).collect()
    };
    let to = |via: &str, port: &str, holds| (via.to_owned(), port.to_owned(), holds);
    assert_eq!(shown(&planned.held), [to("10.0.1.2", "pa", true), to("10.0.1.3", "pa", true)]);
    assert_eq!(shown(&planned.led), [to("10.0.2.2", "pb", false), to("10.0.2.3", "pb", false)]);
    assert_eq!(shown(&planned.back), [to("10.0.1.2", "pa", false), to("10.0.1.3", "pa", false)]);
    assert!(planned.held.iter().all(|route| route.both_ways && route.filter == "proto=tcp"));
}

#[test]
fn one_of_the_same_match_is_changed_and_what_is_led_elsewhere_before_stays_there() {
    let mut list = base();
    let both = |route| PolicyRoute { both_ways: true, ..route };
    list.insert(0, both(policy("tcp", "proto=tcp", "in", "10.0.1.2")));
    list.insert(1, both(policy("out-tcp", "proto=tcp", "out", "10.0.1.3")));
    list.insert(0, policy("udp", "proto=udp", "in", "10.0.2.9"));
    let same = planned(&list, "proto=tcp").unwrap();
    let names: Vec<_> = same.held.iter().map(|route| (&*route.name, &*route.before)).collect();
    assert_eq!((names, same.added.len()), (vec![("tcp", ""), ("out-tcp", "")], 0));
    let all = planned(&list, "any").unwrap();
    let before: Vec<_> = all.held.iter().map(|route| &*route.before).collect();
    assert_eq!(before, ["tcp", "out-tcp"], "behind those of udp");
}

/// Two of the 64 are those of the configuration. One of the same match takes no room.
#[test]
fn policy_routes_that_the_data_plane_has_no_room_for_are_refused_before_anything_is_held() {
    let mut list = base();
    for host in 0..61_u8 {
        let filter = format!("src=10.9.0.{host}");
        list.insert(0, policy(&format!("move-1-{host}"), &filter, "in", "10.0.1.2"));
    }
    let no_room = LeadError::NoRoom { there: 63, more: 2 };
    assert_eq!(planned(&list, "proto=tcp"), Err(no_room.clone()));
    assert!(no_room.to_string().contains("63 of at most 64"), "{no_room}");
    list.remove(0);
    assert_eq!(planned(&list, "proto=tcp").unwrap().added.len(), 2);
    let same = [("in", "10.0.1.2"), ("out", "10.0.1.3")].map(|(from, via)| {
        let route = policy(&format!("tcp-{from}"), "proto=tcp", from, via);
        PolicyRoute { both_ways: true, ..route }
    });
    list.splice(0..0, same);
    assert_eq!((list.len(), planned(&list, "proto=tcp").unwrap().added.len()), (64, 0));
}

#[test]
fn what_can_not_be_led_is_refused() {
    assert!(matches!(planned(&[], "any"), Err(LeadError::NotLed { .. })));
    let some = [policy("in", "proto=tcp", "in", "10.0.1.2"), base().remove(1)];
    assert!(matches!(planned(&some, "any"), Err(LeadError::NotLed { .. })));
    let mut between = base();
    between.insert(0, policy("first", "proto=tcp,dport=80", "in", "10.0.1.2"));
    between.insert(1, policy("else", "proto=tcp", "in", "10.0.2.9"));
    let refused = planned(&between, "proto=tcp");
    assert!(matches!(&refused, Err(LeadError::LedElsewhere { policy, .. }) if policy == "else"));
    assert!(matches!(planned(&base(), "proto=tcp,symmetric=false"), Err(LeadError::OneDirection)));
    assert!(matches!(planned(&base(), "tcp_flags=syn"), Err(LeadError::NotOfPackets(_))));

    let [a, b] = ["a", "b"].map(|name| nf(name, Translates::Nothing));
    let with = |a: &NfProcess, b: &NfProcess, filter: &str| {
        plan(&base(), (a, b), &filter.parse().unwrap(), 7)
    };
    let none = NfProcess { leg: Vec::new(), ..a.clone() };
    assert!(matches!(with(&none, &b, "any"), Err(LeadError::NoLegs(name)) if name == "a"));
    let one = NfProcess { leg: b.leg[..1].to_vec(), ..b.clone() };
    assert!(matches!(with(&a, &one, "any"), Err(LeadError::NoSuchLeg { leg, .. }) if leg == "out"));
    for (translates, filter, field) in [
        (Translates::Source, "dst=10.0.0.1,dport=80", None),
        (Translates::Source, "src=10.0.0.1", Some("src")),
        (Translates::Anything, "proto=tcp", None),
        (Translates::Anything, "dport=80", Some("dport")),
    ] {
        let found = match with(&NfProcess { translates, ..a.clone() }, &b, filter) {
            Ok(_) => None,
            Err(LeadError::Translated { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, field, "{filter}");
    }
}

/// A move that the journal has from its beginning on.
pub(crate) fn journalled(plan: Plan) -> LedMove {
    LedMove {
        operation: 7,
        request_id: "r".to_owned(),
        ends: ("a".to_owned(), "b".to_owned()),
        filter: "proto=tcp".parse().unwrap(),
        scopes: [chunk::Scope::PerFlow, chunk::Scope::MultiFlow].into(),
        guarantee: Guarantee::Ordered,
        incarnation: u64::MAX,
        destination_life: "1:2:3.000000004".to_owned(),
        overflow: 3,
        lost: 0,
        step: LeadStep::Hold,
        plan,
        moved: Vec::new(),
        finishing: Vec::new(),
    }
}

#[test]
fn the_journal_has_each_step_and_what_leads_is_desired_from_then_on() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    let row = journalled(planned(&base(), "proto=tcp").unwrap());
    let mut database = Database::open(&path).unwrap();
    database.begin_lead(&row).unwrap();
    assert_eq!(database.led_moves().unwrap(), std::slice::from_ref(&row));
    let at = |row: &LedMove, step| LedMove { step, ..row.clone() };
    database.step_lead(&at(&row, LeadStep::Carry)).unwrap();
    assert!(database.policy_routes().unwrap().is_empty());
    let id = FlowId::flow(&flow(1, 2, 3));
    let moved = vec![Piece { scope: chunk::Scope::PerFlow, id, version: u64::MAX }];
    let led = LedMove { moved, ..at(&row, LeadStep::Lead) };
    database.step_lead(&led).unwrap();
    drop(database);
    let mut database = Database::open(&path).unwrap();
    assert_eq!(database.led_moves().unwrap(), std::slice::from_ref(&led));
    assert_eq!(database.policy_routes().unwrap(), row.plan.led);
    // What has moved stays, whoever notes that it has led.
    database.step_lead(&at(&row, LeadStep::Led)).unwrap();
    assert_eq!(database.led_moves().unwrap(), [at(&led, LeadStep::Led)]);
    // Of that which finishes at the source nothing is deleted, whoever goes on.
    let struck = LedMove { moved: Vec::new(), finishing: led.moved.clone(), ..led.clone() };
    database.note_moved(&struck).unwrap();
    assert_eq!(database.led_moves().unwrap(), [at(&struck, LeadStep::Led)]);
    database.note_moved(&led).unwrap();
    assert_eq!(database.led_moves().unwrap(), [at(&led, LeadStep::Led)]);
    // One that goes back after all leaves nothing that is desired, and what it has lost is known.
    database.unlead(&led).unwrap();
    database.note_lost(7, 5).unwrap();
    let back = LedMove { lost: 5, ..at(&row, LeadStep::Carry) };
    assert_eq!(database.led_moves().unwrap(), [back]);
    assert!(database.policy_routes().unwrap().is_empty());
    database.step_lead(&led).unwrap();
    // One that leads elsewhere later keeps its place.
    let mut later = row.clone();
    later.operation = 8;
    for route in &mut later.plan.led {
        route.before.clear();
        "10.0.1.2".clone_into(&mut route.via);
    }
    let before = database.policy_routes().unwrap();
    database.begin_lead(&later).unwrap();
    for _ in 0..2 {
        database.step_lead(&at(&later, LeadStep::Lead)).unwrap();
        assert_ne!(database.policy_routes().unwrap(), before);
        database.unlead(&later).unwrap();
        assert_eq!(database.policy_routes().unwrap(), before);
    }
    database.step_lead(&at(&later, LeadStep::Lead)).unwrap();
    let kept = database.policy_routes().unwrap();
    assert_eq!((kept.len(), &*kept[0].via, &*kept[0].before), (2, "10.0.1.2", "in"));
    database.end_lead(7, None).unwrap();
    database.end_lead(8, None).unwrap();
    assert!(database.led_moves().unwrap().is_empty());
    // What was put in front of one that is forgotten stands in front of what was behind that.
    let idle = [("move-7-in", "move-7-out"), ("move-7-out", "out")];
    let idle = idle.map(|(name, next)| (name.to_owned(), next.to_owned()));
    let mut front = later.clone();
    front.plan.led.truncate(1);
    front.operation = 9;
    "first".clone_into(&mut front.plan.led[0].name);
    "move-7-in".clone_into(&mut front.plan.led[0].before);
    database.begin_lead(&front).unwrap();
    database.step_lead(&at(&front, LeadStep::Lead)).unwrap();
    database.forget_policies(&idle).unwrap();
    let kept = database.policy_routes().unwrap();
    assert_eq!((kept.len(), &*kept[0].name, &*kept[0].before), (1, "first", "out"));
}

#[test]
fn how_a_move_has_ended_and_that_the_journal_has_it_no_more_are_kept_as_one() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    let mut database = Database::open(&path).unwrap();
    let answer = |request_id: &str| Answer {
        request_id: request_id.to_owned(),
        method: "m".to_owned(),
        request: vec![1],
        response: vec![2],
        goes_on: true,
        operation: 0,
        answered: true,
    };
    let row = LedMove { step: LeadStep::Lead, ..journalled(Plan::default()) };
    database.accept(&answer("r")).unwrap();
    database.begin_lead(&row).unwrap();
    drop(database);
    let full = "CREATE TRIGGER full BEFORE UPDATE OF response ON answer \
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    rusqlite::Connection::open(&path).unwrap().execute_batch(full).unwrap();
    let mut database = Database::open(&path).unwrap();
    database.end_lead(7, Some(("r", &[3]))).unwrap_err();
    assert_eq!(database.led_moves().unwrap(), [row]);
    drop(database);
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TRIGGER full").unwrap();
    let mut database = Database::open(&path).unwrap();
    database.end_lead(7, Some(("r", &[3]))).unwrap();
    assert!(database.led_moves().unwrap().is_empty());
    let kept = database.answer("r").unwrap().unwrap();
    assert_eq!((kept.response, kept.goes_on), (vec![3], false));
}

/// A node whose policies lead all to `a`, and both functions with a leg.
pub(crate) fn start(pair: &Pair, pause_at: Option<&str>) -> Running {
    start_of(pair, &["a", "b"], pause_at)
}

/// The same, with some of the functions in its configuration.
pub(crate) fn start_of(pair: &Pair, names: &[&str], pause_at: Option<&str>) -> Running {
    let text = names.iter().map(|name| {
        let (socket, nf) = (pair.socket(name), nf(name, Translates::Nothing));
        let legs = nf.leg.iter().map(|leg| {
            format!(
                "[[control.nf.leg]]\nname = '{}'\nfrom = '{}'\nvia = '{}'\nport = '{}'\n",
                leg.name, leg.from, leg.via, leg.port
            )
        });
        let socket = socket.display();
        let head = format!(
            "[[control.nf]]\nname = '{name}'\nsocket = '{socket}'\ntranslates = 'nothing'\n"
        );
        head + &legs.collect::<String>()
    });
    pair.node.start_with(&text.collect::<String>(), pause_at)
}

pub(crate) fn ordered(id: &str) -> MoveRequest {
    let scopes = vec![Scope::PerFlow.into()];
    MoveRequest { guarantee: Guarantee::Ordered.into(), scopes, ..moved(id, "a", "b", "any") }
}

pub(crate) fn fill(pair: &Pair) {
    for host in 1..=20 {
        pair.a.monitor().packets(&flow(1, host, 1_000), 1);
    }
    let policies = &mut pair.node.fake.model().policies;
    policies.configured = base();
    policies.start();
}

/// Where packets go, in the order of the policies.
pub(crate) fn vias(pair: &Pair) -> Vec<(String, bool)> {
    let list = pair.node.fake.model().policies.list.clone();
    list.into_iter().map(|route| (route.via, route.holds)).collect()
}

pub(crate) fn leads_to(pair: &Pair, net: u8) -> bool {
    let list = vias(pair);
    let is_led = |last: u8| {
        let first = list.iter().find(|(via, _)| via.ends_with(&format!(".{last}"))).unwrap();
        first == &(format!("10.0.{net}.{last}"), false)
    };
    is_led(2) && is_led(3)
}

#[test]
fn a_move_leads_packets_to_where_the_state_is() {
    let pair = Pair::new();
    fill(&pair);
    let running = start(&pair, None);
    block_on(async {
        let done = running.moves(ordered("m")).await.unwrap();
        assert_eq!((done.state(), done.chunks), (State::Done, 20), "{done:?}");
    });
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (0, 20));
    assert!(leads_to(&pair, 2), "{:?}", vias(&pair));
}

#[test]
fn a_source_that_does_not_take_what_it_was_sent_keeps_all_and_a_hold_that_is_full_too() {
    let pair = Pair::new();
    fill(&pair);
    let running = start(&pair, None);
    let mut number = 0;
    let mut fails = |words: &str| {
        number += 1;
        let ended: StateOperation =
            block_on(async { running.moves(ordered(&number.to_string())).await.unwrap() });
        assert_eq!(ended.state(), State::Undone, "{ended:?}");
        assert!(ended.reason.contains(words), "{ended:?}");
        assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (20, 0));
        assert_eq!(vias(&pair).len(), 2);
        assert!(leads_to(&pair, 1), "{:?}", vias(&pair));
    };
    pair.node.fake.model().policies.silent = Some("10.0.1.3".to_owned());
    fails("nf/a does not answer echo at 10.0.1.3");
    pair.node.fake.model().policies.silent = Some("10.0.2.2".to_owned());
    fails("nf/b does not answer echo at 10.0.2.2");
    pair.node.fake.model().policies.silent = None;
    // Of each of the two policies.
    pair.node.fake.model().policies.overflow = 3;
    fails("6 packets found no room to be held");
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    let waits = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waits).await.expect("it becomes so");
}

#[test]
fn a_sidecar_that_is_killed_at_a_stage_has_another_end_the_move() {
    type Reached = fn(&Pair) -> bool;
    let holds: Reached = |pair| vias(pair).iter().any(|(_, holds)| *holds);
    let all_came: Reached = |pair| pair.b.monitor().of_flows() == 20;
    let all_left: Reached = |pair| leads_to(pair, 2) && pair.a.monitor().of_flows() == 0;
    for (stage, reached, is_led) in [
        ("probe", holds, false),
        ("carry", holds, false),
        ("lead", all_came, false),
        ("end", all_left, true),
    ] {
        let pair = Pair::new();
        fill(&pair);
        let running = start(&pair, Some(stage));
        let id = block_on(async {
            let mut stream = running.state().await.r#move(ordered("m")).await.unwrap().into_inner();
            let begun = stream.message().await.unwrap().unwrap().operation.unwrap();
            until(async || reached(&pair)).await;
            begun.id
        });
        running.kill();
        let running = start(&pair, None);
        let expected = if is_led { State::Done } else { State::Undone };
        block_on(until(async || {
            let all = running.state_operations().await;
            all.iter().any(|seen| seen.id == id && seen.state() == expected)
        }));
        let flows = (pair.a.monitor().of_flows(), pair.b.monitor().of_flows());
        assert_eq!(flows, if is_led { (0, 20) } else { (20, 0) }, "{stage}");
        assert!(leads_to(&pair, if is_led { 2 } else { 1 }), "{stage}: {:?}", vias(&pair));
    }
}

#[test]
fn what_can_not_be_led_is_told_with_what_to_do() {
    let pair = Pair::new();
    let running = start(&pair, None);
    let refused = block_on(async { running.moves(ordered("m")).await.unwrap_err() });
    let (reason, object, fix) = refusal(&refused);
    assert_eq!((&*reason, &*object), ("NOT_LOSS_FREE", "nf/a"));
    assert!(fix.contains("[[policy_route]]"), "{fix}");
}

#[test]
fn legs_are_read_and_each_side_is_one() {
    let nf = "[[control.nf]]\nname = 'a'\nsocket = '/x'\n";
    let leg = |name: &str, from: &str, via: &str| {
        format!("[[control.nf.leg]]\nname = '{name}'\nfrom = '{from}'\nvia = '{via}'\nport = 'p'\n")
    };
    let read = |text: String| Config::parse(&text, "weir.toml");
    let two = format!(
        "{nf}translates = 'source'\n{}{}",
        leg("in4", "l", "10.0.0.2"),
        leg("in6", "l", "fd00::2")
    );
    let found = read(two).unwrap().control.nf.remove(0);
    assert_eq!((found.leg.len(), found.translates), (2, Translates::Source));
    assert_eq!(read(nf.to_owned()).unwrap().control.nf[0].translates, Translates::Anything);
    for (text, says) in [
        (leg("in", "l", "10.0.0.2") + &leg("in", "r", "10.0.0.3"), "are the same side"),
        (leg("in", "l", "10.0.0.2") + &leg("out", "l", "10.0.0.3"), "are the same side"),
        (leg("In", "l", "10.0.0.2"), "can not be the name of a leg"),
        (leg("in", "l", "10.0.0"), "bad value of via in [[control.nf.leg]]"),
        (leg("in", "l", "10.0.0.2").replace("port", "prot"), "prot in [[control.nf.leg]]"),
        (
            (0..9).map(|n| leg(&format!("l{n}"), &format!("p{n}"), "10.0.0.2")).collect(),
            "more than 8",
        ),
    ] {
        let refused = read(format!("{nf}{text}")).unwrap_err().to_string();
        assert!(refused.contains(says), "{says}: {refused}");
    }
}
