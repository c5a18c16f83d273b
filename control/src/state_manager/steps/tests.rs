//! A move by get, put and del between two ends in memory that fail at random.

use std::collections::BTreeMap;

use weir_state_transfer::{
    Chunk, FlowKey, Prefix, ServiceId,
    flow_id::{Ends, Extra},
};

use super::*;

/// The state of an end: per-flow state is a value that is replaced, multi-flow state the parts of
/// each instance, which are merged by their maximum.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    flows: BTreeMap<FlowId, u8>,
    hosts: BTreeMap<FlowId, BTreeMap<u8, u8>>,
}

impl Place {
    fn ids(&self, scope: Scope) -> Vec<FlowId> {
        match scope {
            Scope::PerFlow => self.flows.keys().cloned().collect(),
            _ => self.hosts.keys().cloned().collect(),
        }
    }

    fn put(&mut self, scope: Scope, id: &FlowId, from: &Self) {
        match scope {
            Scope::PerFlow => self.flows.extend([(id.one_way(), from.flows[id])]),
            _ => {
                let own = self.hosts.entry(id.clone()).or_default();
                for (instance, value) in &from.hosts[id] {
                    let part = own.entry(*instance).or_default();
                    *part = (*part).max(*value);
                }
            }
        }
    }

    fn delete(&mut self, scope: Scope, id: &FlowId) {
        match scope {
            Scope::PerFlow => self.flows.retain(|known, _| *known != id.one_way()),
            _ => self.hosts.retain(|known, _| known != id),
        }
    }
}

pub(super) fn flow(number: u8) -> FlowId {
    let (src, dst) = ([10, 0, 0, number].into(), [192, 168, 0, 1].into());
    FlowId::flow(&FlowKey::v4(src, dst, (1_000, 80), 6, ServiceId(0)))
}

fn network(text: &str) -> FlowId {
    let prefix: Prefix = text.parse().unwrap();
    FlowId::new(Ends::Host(prefix), None, None)
}

pub(super) fn failure(reason: &str) -> Failure {
    Failure::new(FailureKind::Unreachable, reason)
}

/// Runs a move to its end; `fails` says whether a task fails, and how many pieces come before.
fn run(
    source: &mut Place,
    destination: &mut Place,
    filter: &str,
    mut fails: impl FnMut(Task) -> Option<usize>,
) -> (State, Steps) {
    let scopes = [Scope::PerFlow, Scope::MultiFlow].into();
    let mut steps = Steps::new(filter.parse().unwrap(), &scopes);
    let filter: StateFilter = filter.parse().unwrap();
    let picked = |place: &Place, scope| {
        let ids = place.ids(scope).into_iter();
        ids.filter(|id| filter.picks(id, Extent::Overlaps)).collect::<Vec<_>>()
    };
    while let Some(task) = steps.task() {
        let room = fails(task);
        let mut left = room.unwrap_or(usize::MAX);
        let mut step = |job: &mut dyn FnMut()| {
            let goes_on = left > 0;
            left = left.saturating_sub(1);
            if goes_on {
                job();
            }
        };
        match task {
            Task::Survey(scope) => {
                for id in picked(destination, scope) {
                    let value = destination.flows.get(&id).copied().unwrap_or(0);
                    steps.there(scope, &id, vec![id_number(&id), value]).unwrap();
                }
            }
            Task::Carry(scope) => {
                for id in picked(source, scope) {
                    if steps.carry(scope, &id, 0).unwrap() == Carry::Put {
                        step(&mut || destination.put(scope, &id, source));
                    }
                }
            }
            Task::Delete(scope) => {
                let ids = steps.carried(scope);
                ids.iter().for_each(|id| step(&mut || source.delete(scope, id)));
            }
            Task::Remove(scope) => {
                let ids = steps.to_remove(scope);
                ids.iter().for_each(|id| step(&mut || destination.delete(scope, id)));
            }
            Task::Confirm | Task::Release | Task::Recall | Task::Receive | Task::Hold => {
                panic!("{task:?} is of a move to another node")
            }
            Task::Note(_)
            | Task::Stop
            | Task::Drain
            | Task::Assure
            | Task::Lead
            | Task::Recognise
            | Task::Unlead
            | Task::Settle
            | Task::GoBack
            | Task::List(_)
            | Task::Close => {
                panic!("{task:?} is of a move that leads packets")
            }
            Task::PutBack => {
                for chunk in steps.to_put_back() {
                    step(&mut || destination.flows.extend([(flow(chunk[0]), chunk[1])]));
                }
            }
        }
        match room {
            None => steps.done(),
            Some(_) => steps.failed(failure("it broke")),
        }
    }
    (steps.ended().0, steps)
}

/// The last byte of the address of a flow.
pub(super) fn id_number(id: &FlowId) -> u8 {
    id.key().map_or(0, |key| match key.src() {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    })
}

fn places(rng: &mut fastrand::Rng) -> (Place, Place) {
    let mut all = [Place::default(), Place::default()];
    for (instance, place) in (0..).zip(&mut all) {
        for number in 1..6 {
            if rng.bool() {
                place.flows.insert(flow(number), rng.u8(1..));
            }
            if rng.bool() {
                let host = FlowId::host([10, 0, 0, number].into(), ServiceId(0));
                place.hosts.entry(host).or_default().insert(instance, rng.u8(1..));
            }
        }
    }
    let [source, destination] = all;
    (source, destination)
}

/// The parts of both, merged: what must never become less.
fn merged(one: &Place, two: &Place) -> BTreeMap<FlowId, BTreeMap<u8, u8>> {
    let mut all = one.clone();
    two.hosts.keys().for_each(|id| all.put(Scope::MultiFlow, id, two));
    all.hosts
}

#[test]
fn whatever_fails_nothing_is_lost_and_it_ends() {
    let mut rng = weir_seed::rng();
    let mut ends = BTreeMap::<String, u32>::new();
    for _ in 0..20_000 {
        let (source, destination) = places(&mut rng);
        let (mut from, mut to) = (source.clone(), destination.clone());
        let chance = [0.0, 0.1, 0.4, 0.8][rng.usize(..4)];
        let (state, _) =
            run(&mut from, &mut to, "any", |_| (rng.f64() < chance).then(|| rng.usize(..4)));
        *ends.entry(format!("{state:?}")).or_default() += 1;
        let has = |place: &Place, id: &FlowId| place.flows.get(id) == Some(&source.flows[id]);
        match state {
            State::Done => {
                assert!(source.flows.keys().all(|id| has(&to, id)));
                assert_eq!((from.flows.len(), from.hosts.len()), (0, 0));
                assert_eq!(to.hosts, merged(&source, &destination));
            }
            State::Undone => {
                assert_eq!((&from, &to.flows), (&source, &destination.flows));
                for (id, parts) in &destination.hosts {
                    assert!(parts.iter().all(|part| to.hosts[id].get(part.0) == Some(part.1)));
                }
                assert!(to.hosts.keys().all(|id| destination.hosts.contains_key(id)));
            }
            State::Failed => {
                assert!(source.flows.keys().all(|id| has(&from, id) || has(&to, id)));
                assert_eq!(merged(&from, &to), merged(&source, &destination));
            }
            State::Running | State::Undoing | State::Cancelled => panic!("{state:?} is no end"),
        }
    }
    eprintln!("{ends:?}");
    assert!(["Done", "Undone", "Failed"].iter().all(|end| ends[*end] > 100), "{ends:?}");
}

#[test]
fn what_is_about_more_than_the_filter_names_stays_and_is_told() {
    let mut source = Place::default();
    let ids = ["10.0.0.0/8", "10.0.4.0/24", "11.0.0.1"].map(network);
    source.hosts.extend(ids.iter().map(|id| (id.clone(), [(0, 5)].into())));
    source.flows.extend([(flow(1), 1), (flow(2), 2)]);
    let mut to = Place::default();
    let (state, steps) = run(&mut source, &mut to, "src=10.0.0.0/16", |_| None);
    assert_eq!(state, State::Done);
    assert_eq!(steps.left_behind(), &LeftBehind { count: 1, listed: vec![ids[0].clone()] });
    assert_eq!(to.hosts.keys().collect::<Vec<_>>(), [&ids[1]]);
    assert_eq!((to.flows.len(), source.hosts.len(), source.flows.len()), (2, 2, 0));
}

#[test]
fn a_refused_chunk_undoes_what_was_taken_and_nothing_else() {
    let mut steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow, Scope::MultiFlow].into());
    steps.done();
    let host = FlowId::host([10, 0, 0, 1].into(), ServiceId(0));
    steps.there(Scope::MultiFlow, &host, vec![1]).unwrap();
    steps.done();
    for number in 1..4 {
        assert_eq!(steps.carry(Scope::PerFlow, &flow(number), 0), Ok(Carry::Put));
    }
    steps.taken(3);
    steps.done();
    assert_eq!(steps.task(), Some(Task::Carry(Scope::MultiFlow)));
    let hosts = [1, 2, 3].map(|last| FlowId::host([10, 0, 0, last].into(), ServiceId(0)));
    for id in &hosts {
        assert_eq!(steps.carry(Scope::MultiFlow, id, 0), Ok(Carry::Put));
    }
    steps.taken(2);
    steps.failed(failure("full"));
    assert_eq!(steps.task(), Some(Task::Remove(Scope::PerFlow)));
    assert_eq!(steps.to_remove(Scope::PerFlow), [1, 2, 3].map(flow));
    steps.done();
    // One host was there before, and one was not taken in.
    assert_eq!(steps.to_remove(Scope::MultiFlow), [hosts[1].clone()]);
    steps.done();
    assert_eq!(steps.task(), Some(Task::PutBack));
    steps.done();
    assert_eq!(steps.ended(), (State::Undone, Some(failure("full"))));
}

/// What an earlier attempt has brought looks like the destination's own.
#[test]
fn a_move_that_was_cut_off_and_fails_then_does_not_say_that_it_is_undone() {
    for (is_again, has_some, ended) in
        [(false, true, State::Undone), (true, false, State::Failed), (true, true, State::Failed)]
    {
        let steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow].into());
        let mut steps = if is_again { steps.again() } else { steps };
        if has_some {
            steps.there(Scope::PerFlow, &flow(1), vec![1]).unwrap();
        }
        steps.done();
        assert_eq!(steps.carry(Scope::PerFlow, &flow(1), 0).unwrap(), Carry::Put);
        steps.failed(failure("gone"));
        while steps.task().is_some() {
            steps.done();
        }
        let (state, failure) = steps.ended();
        assert_eq!(state, ended, "{is_again} {has_some}");
        let tells = failure.unwrap().reason.contains("may have moved some of it");
        assert_eq!(tells, ended == State::Failed);
    }
}

#[test]
fn a_flow_is_the_same_in_both_directions() {
    let mut steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow].into());
    let back = FlowId::flow(&flow(1).key().unwrap().reversed());
    steps.there(Scope::PerFlow, &back, vec![7]).unwrap();
    steps.done();
    steps.carry(Scope::PerFlow, &flow(1), 0).unwrap();
    assert_eq!(steps.to_put_back(), [vec![7]]);
}

#[test]
fn state_that_comes_again_is_not_new_unless_it_has_changed() {
    let mut steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow].into());
    let [one, other] = [1, 2].map(|kind| Schema { kind, revision: 1 });
    let edition = |version, body: &[u8]| {
        let id = FlowId::default();
        let (scope, age, time_left) = (Scope::PerFlow, Duration::ZERO, None);
        Chunk { id, scope, schema: one, version, age, time_left, body: body.to_vec() }.edition()
    };
    let (id, back) = (flow(1), FlowId::flow(&flow(1).key().unwrap().reversed()));
    assert_eq!(steps.is_new(Scope::PerFlow, &id, one, edition(3, b"a")), Ok(true));
    // Of another function, scope and flow.
    assert_eq!(steps.is_new(Scope::PerFlow, &id, other, edition(3, b"a")), Ok(true));
    assert_eq!(steps.is_new(Scope::MultiFlow, &id, one, edition(3, b"a")), Ok(true));
    assert_eq!(steps.is_new(Scope::PerFlow, &flow(2), one, edition(3, b"a")), Ok(true));
    for id in [&id, &back] {
        // What packets have changed meanwhile, what nobody counts, and what has begun anew.
        for changed in [edition(4, b"a"), edition(4, b"b"), edition(1, b"b")] {
            assert_eq!(steps.is_new(Scope::PerFlow, id, one, changed), Ok(true));
            assert_eq!(steps.is_new(Scope::PerFlow, id, one, changed), Ok(false));
        }
    }
    let mut most = (4..).map(|kind| {
        steps.is_new(
            Scope::AllFlows,
            &id,
            Schema { kind: kind as u16, revision: (kind >> 16) as u16 },
            edition(0, b""),
        )
    });
    let room = most.by_ref().take_while(Result::is_ok).count();
    assert_eq!(room, PIECES_MAX - 4);
}

/// A kernel has a connection for each identifier of echoes, and one key for all of two hosts.
#[test]
fn flows_that_differ_only_in_fields_of_their_function_are_not_the_same() {
    let mut steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow].into());
    let hosts = [1, 2].map(|host| [10, 0, 0, host].into());
    let echo = |from: usize, number: &str| {
        let key = FlowKey::new(hosts[from], hosts[1 - from], (0, 0), 1, ServiceId(0)).unwrap();
        FlowId::flow(&key).with(Extra::new("icmp.id", number).unwrap()).unwrap()
    };
    let (schema, scope) = (Schema { kind: 1, revision: 1 }, Scope::PerFlow);
    let body = vec![7];
    let (age, time_left) = (Duration::ZERO, None);
    let edition = Chunk { id: echo(0, "1"), scope, schema, version: 3, age, time_left, body };
    let edition = edition.edition();
    for (id, is_new) in [
        (echo(0, "1"), true),
        (echo(0, "257"), true),
        (echo(1, "1"), false),
        (echo(0, "257"), false),
    ] {
        assert_eq!(steps.is_new(scope, &id, schema, edition), Ok(is_new), "{id}");
    }
    steps.there(scope, &echo(0, "1"), vec![1]).unwrap();
    steps.there(scope, &echo(0, "257"), vec![2]).unwrap();
    steps.done();
    steps.carry(scope, &echo(0, "257"), 3).unwrap();
    assert_eq!(steps.to_put_back(), [vec![2]], "the other was not touched");
}

#[test]
fn more_than_it_carries_is_refused() {
    let mut steps = Steps::new("any".parse().unwrap(), &[Scope::PerFlow].into());
    let kept = steps.there(Scope::PerFlow, &flow(1), vec![0; KEPT_MAX + 1]).unwrap_err();
    assert_eq!(kept.kind, FailureKind::TooMuch);
    steps.done();
    for number in 0..PIECES_MAX {
        steps.carry(Scope::PerFlow, &flow(number as u8), 0).unwrap();
    }
    let most = steps.carry(Scope::PerFlow, &flow(1), 0).unwrap_err();
    assert!(most.reason.contains("name less in the filter"), "{most:?}");
}

/// The tasks of a half of a move between nodes, the one that fails among them.
fn tasks(mut steps: Steps, mut fails: impl FnMut(Task) -> bool) -> (Vec<Task>, State) {
    let mut seen = Vec::new();
    while let Some(task) = steps.task() {
        seen.push(task);
        if matches!(task, Task::Carry(_) | Task::Receive) {
            steps.carry(Scope::PerFlow, &flow(1), 0).unwrap();
        }
        match fails(task) {
            true => steps.failed(failure("it broke")),
            false => steps.done(),
        }
    }
    (seen, steps.ended().0)
}

#[test]
fn the_source_of_another_nodes_state_deletes_only_upon_the_receipt() {
    use Task::{Carry, Confirm, Delete, Recall, Release};
    let scope = Scope::PerFlow;
    let half = || Steps::leaving("any".parse().unwrap(), &[scope].into());
    let whole = vec![Carry(scope), Confirm, Delete(scope), Release];
    assert_eq!(tasks(half(), |_| false), (whole, State::Done));
    for (place, task) in [Carry(scope), Confirm].into_iter().enumerate() {
        let (seen, state) = tasks(half(), |now| now == task);
        assert_eq!((seen.len(), seen.last()), (place + 2, Some(&Recall)));
        assert_eq!(state, State::Undone);
    }
    let (seen, state) = tasks(half(), |now| matches!(now, Confirm | Recall));
    assert!(!seen.contains(&Delete(scope)));
    assert_eq!(state, State::Failed);
    let (seen, state) = tasks(half(), |now| now == Delete(scope));
    assert_eq!((seen.len(), state), (2 + 3, State::Failed), "it is tried three times: {seen:?}");
}

#[test]
fn the_destination_of_another_nodes_state_undoes_what_came_and_holds_what_it_has_confirmed() {
    use Task::{Hold, PutBack, Receive, Remove, Survey};
    let scope = Scope::PerFlow;
    let half = || Steps::arriving("any".parse().unwrap(), &[scope].into());
    let whole = vec![Survey(scope), Receive, Hold];
    assert_eq!(tasks(half(), |_| false), (whole.clone(), State::Done));
    let back = [Remove(scope), PutBack];
    for task in [Receive, Hold] {
        let (seen, state) = tasks(half(), |now| now == task);
        assert_eq!((&seen[seen.len() - 2..], state), (&back[..], State::Undone));
    }
    let mut unsettled = half();
    unsettled.done();
    unsettled.carry(scope, &flow(1), 0).unwrap();
    unsettled.done();
    assert!(unsettled.task() == Some(Hold) && !unsettled.undoable());
    unsettled.unsettled(failure("nobody says"));
    assert_eq!((unsettled.task(), unsettled.ended().0), (None, State::Failed));
}
