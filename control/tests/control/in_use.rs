//! Flows that finish where they are, as they are in use there: a move or a copy says how many.

use weir_api::{
    nf::v1::Scope,
    v1::{CopyRequest, StateOperationState as State},
};

use crate::support::{
    nf::{Monitor, flow},
    node::block_on,
    peers::Nodes,
    state::{Pair, copied, moved},
};

/// Has flows of 40 hosts, of which those of the first three are in use, and that of the fourth is
/// once it has been given.
fn fill(monitor: &mut Monitor) {
    (1..=40).for_each(|host| monitor.packets(&flow(1, host, 1_000), 2));
    monitor.packets(&flow(2, 1, 1_000), 1);
    monitor.in_use.extend((1..=3).map(|host| flow(1, host, 1_000).both_ways()));
    // The filters of the moves do not pick this one.
    monitor.in_use.insert(flow(2, 1, 1_000).both_ways());
    monitor.used_later.insert(flow(1, 4, 1_000).both_ways());
}

#[test]
fn a_move_says_how_many_flows_finish_where_they_are() {
    let pair = Pair::new();
    fill(&mut pair.a.monitor());
    let running = pair.start();
    block_on(async {
        let mut ask = moved("m", "a", "b", "src=10.0.1.0/24");
        ask.scopes = vec![Scope::PerFlow.into()];
        let done = running.moves(ask.clone()).await.unwrap();
        assert_eq!((done.state(), done.chunks), (State::Done, 37), "{done:?}");
        // Three were passed over, and one was in use again when it was to be deleted.
        assert_eq!((done.in_use, done.left_behind), (4, 0), "{done:?}");
        let flows = (pair.a.monitor().flows.len(), pair.b.monitor().flows.len());
        assert_eq!(flows, (5, 37));
        assert_eq!(running.moves(ask).await.unwrap(), done, "asked again, it says the same");
        pair.a.monitor().in_use.clear();
        let rest = running.moves(moved("n", "a", "b", "src=10.0.2.0/24")).await.unwrap();
        assert_eq!((rest.state(), rest.in_use), (State::Done, 0), "{rest:?}");
    });
}

#[test]
fn a_copy_says_how_many_flows_its_last_round_has_passed_over() {
    let pair = Pair::new();
    fill(&mut pair.a.monitor());
    let running = pair.start();
    block_on(async {
        let scopes = vec![Scope::PerFlow.into(), Scope::MultiFlow.into()];
        let ask = |id: &str| CopyRequest { scopes: scopes.clone(), ..copied(id, "a", "b", "any") };
        let done = running.copies(ask("c")).await.unwrap();
        assert_eq!((done.state(), done.in_use), (State::Done, 4), "{done:?}");
        let rounds = CopyRequest { interval_ns: 10_000_000, rounds: 3, ..ask("d") };
        let done = running.copies(rounds).await.unwrap();
        // That of the fourth host is in use by now.
        assert_eq!((done.state(), done.rounds, done.in_use), (State::Done, 3, 5), "{done:?}");
    });
}

#[test]
fn a_move_to_another_node_says_it_at_its_source() {
    let nodes = Nodes::new();
    fill(&mut nodes.a.monitor());
    let (one, two) = nodes.start();
    block_on(async {
        let done = one.moves(moved("m", "a", "two/nf/b", "src=10.0.1.0/24")).await.unwrap();
        assert_eq!((done.state(), done.in_use), (State::Done, 4), "{done:?}");
        let there = two.state_operations().await.remove(0);
        assert_eq!((there.state(), there.in_use), (State::Done, 0), "{there:?}");
    });
}

#[test]
fn the_command_says_it_in_words_and_as_json() {
    let pair = Pair::new();
    fill(&mut pair.a.monitor());
    let running = pair.start();
    let promise = ["--guarantee", "none"];
    let command =
        [&["move", "--from", "a", "--to", "b", "--filter", "src=10.0.1.0/24"], &promise[..]];
    let table = running.weir(&command.concat());
    let said = String::from_utf8_lossy(&table.stdout);
    assert!(table.status.success() && said.contains("37 chunks, "), "{table:?}");
    assert!(said.contains(" bytes, 4 in use at the source "), "{said}");
    let json = running.weir(&[&["-o", "json"], &command.concat()[..]].concat());
    let last = String::from_utf8_lossy(&json.stdout).lines().last().unwrap().to_owned();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["operation"]["chunks"], &last["operation"]["inUse"]),
        (&"0".into(), &"4".into())
    );
}
