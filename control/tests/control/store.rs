//! The store across restarts, and its bounds.

use weir_control::{
    scaling::{
        decide::{Decision, Verdict},
        operation::{Operation, OperationState, Origin, StepState},
        plan::{Lifecycle, Running, RunningInstance, plan},
    },
    store::{
        ANSWERS_MAX, Answer, DECISIONS_MAX, Database, DesiredRoute, Ending, GOING_ON_MAX,
        KeptRoute, LoggedDecision, Numbered, StoreError,
    },
};
use weir_state_transfer::BUCKETS;

use crate::support::node::{Directory, Node};

fn operation() -> Operation {
    let sw1 = RunningInstance { id: 1, name: "sw1".to_owned(), state: Lifecycle::Active };
    let running =
        Running { instances: vec![sw1], owners: vec![1; BUCKETS], steers_beyond_buckets: true };
    let plan = plan(&running, 3).unwrap();
    Operation::new(&plan, "s-1".to_owned(), Origin::Auto, u64::MAX)
}

#[test]
fn everything_written_is_there_when_the_file_is_opened_again() {
    let directory = Directory::new();
    let path = directory.0.join("deep/control.db");
    let mut written = operation();
    let (prefix, via, port) = ("10.0.0.0/8".into(), String::new(), "p0".into());
    let route = DesiredRoute { prefix, via, port };
    {
        let mut database = Database::open(&path).unwrap();
        database.begin_operation(&mut written).unwrap();
        written.steps[0].state = StepState::Done;
        written.steps[1].attempts = 2;
        written.state = OperationState::Undoing;
        written.reason = "a test".to_owned();
        database.save_operation(&written, Some(7)).unwrap();
        database.set_auto(true).unwrap();
        database.add_route(&route).unwrap();
        let id = "a".to_owned();
        let (method, request, response) = ("m".to_owned(), vec![0, 1], vec![2]);
        let (goes_on, operation, answered) = (false, 0, true);
        let answer =
            Answer { request_id: id, method, request, response, goes_on, operation, answered };
        database.accept(&answer).unwrap();
    }
    let database = Database::open(&path).unwrap();
    assert_eq!(database.operations(9).unwrap(), [written.clone()]);
    assert_eq!(database.operation(written.id).unwrap(), Some(written));
    let desired = database.desired().unwrap();
    assert_eq!((desired.instances, desired.auto, desired.generation), (Some(7), Some(true), 1));
    assert_eq!(database.routes().unwrap(), [route]);
    assert_eq!(database.answer("a").unwrap().unwrap().request, [0, 1]);
    assert_eq!(database.answer("b").unwrap(), None);
}

#[test]
fn logs_are_bounded_and_keep_the_newest() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    for number in 0..u64::from(DECISIONS_MAX) + 10 {
        let decision = Decision {
            verdict: Verdict::ScaleIn,
            from: 2,
            to: 1,
            reason: "a test".to_owned(),
            load_mean: 0.5,
            load_max: 0.5,
            load_total: 1.0,
            beyond_ns: 1,
            cool_down_left_ns: 0,
        };
        let logged = LoggedDecision { at_unix_ns: number, decision, operation: number };
        database.log_decision(&logged).unwrap();
    }
    let kept = database.decisions(u32::MAX).unwrap();
    assert_eq!(kept.len(), DECISIONS_MAX as usize);
    assert_eq!(kept[0].at_unix_ns, u64::from(DECISIONS_MAX) + 9);
    const { assert!(ANSWERS_MAX >= 1_024) };
}

#[test]
fn a_file_of_an_earlier_version_is_taken_over() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    Database::open(&path).unwrap().set_auto(true).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE removed_route; DROP TABLE answer; DROP TABLE led_move; \
             DROP TABLE policy_route; \
             CREATE TABLE answer (id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, \
             method TEXT NOT NULL, request BLOB NOT NULL, response BLOB NOT NULL) STRICT; \
             INSERT INTO answer (request_id, method, request, response) VALUES \
             ('s', 'weir.v1.ShareRequest', x'01', x'02'), ('m', 'weir.v1.MoveRequest', x'', x''); \
             PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let mut database = Database::open(&path).unwrap();
    assert_eq!(database.desired().unwrap().auto, Some(true));
    // It may go on.
    let begun = database.begun("weir.v1.ShareRequest").unwrap();
    assert_eq!(begun, [answer("s", "weir.v1.ShareRequest", true)]);
    assert!(!database.answer("m").unwrap().unwrap().goes_on);
    database.remove_route("10.0.0.0/8").unwrap();
    assert_eq!(database.removed_routes().unwrap(), ["10.0.0.0/8"]);
    assert!(
        database.led_moves().unwrap().is_empty() && database.policy_routes().unwrap().is_empty()
    );
}

#[test]
fn a_file_of_another_schema_than_its_version_says_is_refused_and_stays_as_it_is() {
    for (sql, says) in [
        ("ALTER TABLE led_move DROP COLUMN moved", "there is no led_move.moved BLOB"),
        ("ALTER TABLE answer ADD COLUMN more TEXT", "there is answer.more TEXT"),
        ("DROP TABLE step", "there is no step."),
        // One that was never released called this version 4.
        ("DROP TABLE led_move; PRAGMA user_version = 4", "no such table: led_move"),
        ("PRAGMA user_version = 3", "no such column"),
    ] {
        let directory = Directory::new();
        let path = directory.0.join("control.db");
        Database::open(&path).unwrap().set_auto(true).unwrap();
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(sql).unwrap();
        let version = |connection: &rusqlite::Connection| -> i64 {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
        };
        let before = version(&connection);
        drop(connection);
        let refused = Database::open(&path).unwrap_err();
        let StoreError::Schema { found, what } = &refused else { panic!("{refused}") };
        assert!(*found == before && what.contains(says), "{sql}: {refused}");
        assert!(refused.to_string().contains("move the file away"), "{refused}");
        assert_eq!(version(&rusqlite::Connection::open(&path).unwrap()), before);
    }
}

#[test]
fn what_callers_say_of_a_route_is_kept_and_can_be_put_back() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    let prefix = "10.0.0.0/8";
    let (via, port) = ("10.0.0.2".to_owned(), "p0".to_owned());
    let route = DesiredRoute { prefix: prefix.into(), via, port };
    let nothing = database.route(prefix).unwrap();
    assert_eq!(nothing, KeptRoute::default());
    database.add_route(&route).unwrap();
    let added = database.route(prefix).unwrap();
    assert_eq!(added, KeptRoute { added: Some(route), removed: false });
    database.remove_route(prefix).unwrap();
    let removed = database.route(prefix).unwrap();
    assert_eq!(removed, KeptRoute { added: None, removed: true });
    for kept in [&added, &removed, &nothing] {
        database.put_back(prefix, kept).unwrap();
        assert_eq!(database.route(prefix).unwrap(), *kept);
    }
    database.remove_route(prefix).unwrap();
    database.forget_removed(prefix).unwrap();
    assert_eq!(database.route(prefix).unwrap(), nothing);
}

#[test]
fn what_is_begun_is_known_before_it_is_answered_and_forgotten_when_it_is_refused() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    for id in ["a", "refused"] {
        database.reserve(id, "m", &[1]).unwrap();
        let begun = database.answer(id).unwrap().unwrap();
        let expected = Answer { response: Vec::new(), answered: false, ..answer(id, "m", false) };
        assert_eq!(begun, expected);
    }
    let answer = answer("a", "m", false);
    database.accept(&answer).unwrap();
    ["a", "refused"].iter().for_each(|id| database.forget(id).unwrap());
    assert_eq!(database.answer("a").unwrap(), Some(answer));
    assert_eq!(database.answer("refused").unwrap(), None);
}

#[test]
fn an_operation_keeps_its_number_until_its_request_is_answered() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    let mut database = Database::open(&path).unwrap();
    let number = |database: &mut Database, id: &str| {
        database.reserve(id, "m", &[1]).unwrap();
        database.number_operation(id).unwrap()
    };
    let first = number(&mut database, "a");
    assert_eq!((first.again, first.ending), (false, None));
    assert_ne!(number(&mut database, "b").id, first.id);
    database.to_end("a", Ending::Cancelled).unwrap();
    drop(database);
    let mut database = Database::open(&path).unwrap();
    let again = Numbered { again: true, ending: Some(Ending::Cancelled), ..first };
    assert_eq!(number(&mut database, "a"), again);
    assert_eq!(database.answer("a").unwrap().unwrap().operation, first.id);
    // A notification has no request id.
    let [one, other] = [(); 2].map(|()| database.number_operation("").unwrap().id);
    assert_ne!(one, other);
}

fn answer(id: &str, method: &str, goes_on: bool) -> Answer {
    let (request_id, method) = (id.to_owned(), method.to_owned());
    let (request, response) = (vec![1], vec![2]);
    Answer { request_id, method, request, response, goes_on, operation: 0, answered: true }
}

/// Answers of a store, by their request ids.
fn kept(database: &Database, ids: &[&str]) -> Vec<bool> {
    ids.iter().map(|id| database.answer(id).unwrap().is_some()).collect()
}

#[test]
fn what_goes_on_is_not_forgotten_until_it_has_ended_and_is_bounded() {
    let node = Node::new(1);
    node.start().kill();
    let open = || Database::open(&node.store()).unwrap();
    let mut database = open();
    for (id, goes_on) in [("on", true), ("ends", true), ("left", true), ("over", false)] {
        database.accept(&answer(id, "share", goes_on)).unwrap();
    }
    database.amend("ends", &[3], false).unwrap();
    database.amend("left", &[3], true).unwrap();
    assert!(database.begun("other").unwrap().is_empty());
    let begun = database.begun("share").unwrap();
    assert_eq!(begun.iter().map(|found| &*found.request_id).collect::<Vec<_>>(), ["on", "left"]);
    drop(database);
    node.many_later_changes(ANSWERS_MAX + 1, false);
    let ids = ["on", "ends", "left", "over"];
    assert_eq!(kept(&open(), &ids), [true, false, true, false]);
    open().close("left").unwrap();
    node.many_later_changes(1, false);
    assert_eq!(kept(&open(), &ids), [true, false, false, false]);
    // Operations that are never told to have ended do not fill the disk.
    node.many_later_changes(ANSWERS_MAX + 2 * GOING_ON_MAX, true);
    let begun = open().begun("later").unwrap().len();
    assert!(begun <= (ANSWERS_MAX + GOING_ON_MAX) as usize, "{begun} are kept");
    assert_eq!(kept(&open(), &ids), [false; 4]);
}

#[test]
fn an_operation_that_ends_before_it_is_answered_is_answered_as_it_ended() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    database.reserve("a", "m", &[1]).unwrap();
    database.amend("a", &[9], false).unwrap();
    // It holds for the next sidecar, should this one die here.
    let ended = database.answer("a").unwrap().unwrap();
    assert_eq!((ended.answered, ended.response), (true, vec![9]));
    database.accept(&answer("a", "m", true)).unwrap();
    let found = database.answer("a").unwrap().unwrap();
    assert_eq!((found.response, found.goes_on), (vec![9], false));
}

#[test]
fn a_cancel_is_known_to_who_takes_an_operation_up_again() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    for id in ["told", "untold", "ended"] {
        database.accept(&answer(id, "m", true)).unwrap();
    }
    database.amend("ended", &[3], false).unwrap();
    let cancelled = Some(Ending::Cancelled);
    for (id, why) in [("told", Ending::Cancelled), ("told", Ending::Over), ("ended", Ending::Over)]
    {
        database.to_end(id, why).unwrap();
    }
    database.to_end("unknown", Ending::Cancelled).unwrap();
    database.close_all_but("share", "m").unwrap();
    let to_end: Vec<_> = database.ending("m").unwrap();
    assert_eq!(to_end.iter().map(|found| &*found.request_id).collect::<Vec<_>>(), ["told"]);
    assert_eq!(database.begun("m").unwrap(), to_end);
    let found = ["told", "untold", "ended", "unknown"].map(|id| database.take_up(id).unwrap());
    assert_eq!(found, [cancelled, None, None, None]);
    assert_eq!(database.begun("m").unwrap().len(), 3);
}

#[test]
fn operations_that_were_answered_are_read_first_those_that_go_on_and_then_the_latest() {
    let directory = Directory::new();
    let mut database = Database::open(&directory.0.join("control.db")).unwrap();
    for id in ["first", "lasts", "second", "unanswered", "no operation", "third"] {
        database.reserve(id, "m", &[1]).unwrap();
        if id != "no operation" {
            database.number_operation(id).unwrap();
        }
        if id != "unanswered" {
            database.accept(&answer(id, "m", id == "lasts")).unwrap();
        }
    }
    database.to_end("lasts", Ending::Over).unwrap();
    let read = |limit| -> Vec<_> {
        let kept = database.kept_operations(limit).unwrap();
        kept.into_iter().map(|kept| (kept.request_id, kept.goes_on, kept.ending)).collect()
    };
    let is = |id: &str, goes_on: bool| (id.to_owned(), goes_on, goes_on.then_some(Ending::Over));
    let all = [is("lasts", true), is("third", false), is("second", false), is("first", false)];
    assert_eq!(read(9), all);
    assert_eq!(read(2), all[..2]);
    let number = database.answer("second").unwrap().unwrap().operation;
    let second = database.kept_operation(number).unwrap().unwrap();
    assert_eq!((&*second.request_id, second.response), ("second", vec![2]));
    let unanswered = database.answer("unanswered").unwrap().unwrap().operation;
    assert_eq!([unanswered, 99].map(|id| database.kept_operation(id).unwrap()), [None, None]);
}

#[test]
fn two_sidecars_never_share_a_store_and_newer_files_are_refused() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    let mut first = Database::open(&path).unwrap();
    first.set_auto(false).unwrap();
    assert!(matches!(Database::open(&path), Err(StoreError::InUse)));
    drop(first);
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = Database::open(&path);
    assert!(matches!(refused, Err(StoreError::Version { found: 99, known: 7 })), "{refused:?}");
}

/// On a disk that was full the log must not keep the room that the next write needs.
#[test]
fn the_log_of_the_store_stays_short() {
    let directory = Directory::new();
    let path = directory.0.join("control.db");
    let log = directory.0.join("control.db-wal");
    let length = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let mut database = Database::open(&path).unwrap();
    for _ in 0..500 {
        database.set_auto(true).unwrap();
        database.set_auto(false).unwrap();
        assert!(length() < 512 << 10, "{} bytes", length());
    }
    drop(database);
    let _database = Database::open(&path).unwrap();
    assert_eq!(length(), 0);
}
