//! Flows that finish where they are, as they are in use there: a move or a copy says how many.

use std::sync::atomic::Ordering::Relaxed;

use weir_api::{
    nf::v1::Scope,
    v1::{CopyRequest, MoveRequest, StateOperationState as State},
};

use crate::lead::{ordered, start, until};
use crate::lead_failures::{begin, filled, flows as both, forbid, killed_when_it_had_led};
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
        assert_eq!(flows, (5, 36), "what goes on at the source is at the destination no more");
        assert_eq!(running.moves(ask).await.unwrap(), done, "asked again, it says the same");
        pair.a.monitor().in_use.clear();
        let rest = running.moves(moved("n", "a", "b", "src=10.0.2.0/24")).await.unwrap();
        assert_eq!((rest.state(), rest.in_use), (State::Done, 0), "{rest:?}");
    });
}

/// They have not moved, so the destination has of them what it had before.
#[test]
fn what_a_move_replaced_of_flows_that_finish_at_the_source_is_put_back() {
    for newer_comes in [false, true] {
        let pair = Pair::new();
        fill(&mut pair.a.monitor());
        let both_have = flow(1, 4, 1_000);
        pair.b.monitor().packets(&both_have, 7);
        let own = pair.b.monitor().flows[&both_have.both_ways()];
        // A packet of what it deletes may come before it has its own state again.
        (pair.b.monitor().busy, pair.b.monitor().keeps_newer) = (newer_comes, newer_comes);
        let running = pair.start();
        let scopes = vec![Scope::PerFlow.into()];
        let ask = MoveRequest { scopes, ..moved("m", "a", "b", "src=10.0.1.0/24") };
        let ended = block_on(async { running.moves(ask).await.unwrap() });
        assert_eq!((ended.chunks, ended.in_use), (37, 4), "{ended:?}");
        let flows = (pair.a.monitor().flows.len(), pair.b.monitor().flows.len());
        assert_eq!(flows, (5, 37), "{ended:?}");
        if newer_comes {
            assert_eq!((ended.state(), ended.failed_end.as_str()), (State::Failed, "nf/b"));
            let says = "1 flows of nf/b itself are not as they were before";
            assert!(ended.reason.starts_with(says), "{ended:?}");
        } else {
            assert_eq!(ended.state(), State::Done, "{ended:?}");
            assert_eq!(pair.b.monitor().flows[&both_have.both_ways()], own);
        }
    }
}

/// What it has of them later has not moved.
#[test]
fn what_the_source_has_answered_for_is_not_asked_for_again_when_the_deletion_is() {
    let pair = Pair::new();
    let hosts = 1..=250;
    hosts.clone().for_each(|host| {
        [1_000, 2_000].iter().for_each(|port| pair.a.monitor().packets(&flow(1, host, *port), 2));
    });
    // Packets of what it deletes come, and one flow is in use.
    pair.a.monitor().busy = true;
    pair.a.monitor().used_later.insert(flow(1, 1, 1_000).both_ways());
    pair.a.lies.deletions_to_lost.store(2, Relaxed);
    let running = pair.start();
    let ask = MoveRequest { scopes: vec![Scope::PerFlow.into()], ..moved("m", "a", "b", "any") };
    let ended = block_on(async { running.moves(ask).await.unwrap() });
    assert_eq!((ended.state(), ended.chunks, ended.in_use), (State::Done, 500, 1), "{ended:?}");
    let source = pair.a.monitor();
    assert_eq!((source.deleted, source.flows.len()), (499, 500));
    assert_eq!(pair.b.monitor().flows.len(), 499);
}

/// Both have it then, and that is told.
#[test]
fn a_flow_that_both_ends_have_in_use_is_told() {
    let pair = filled();
    let used = flow(1, 4, 1_000).both_ways();
    pair.a.monitor().used_later.insert(used);
    pair.b.monitor().in_use.insert(used);
    let running = start(&pair, None);
    let ended = block_on(async { running.moves(ordered("m")).await.unwrap() });
    assert_eq!(
        (ended.state(), ended.in_use, both(&pair)),
        (State::Failed, 1, (1, 20)),
        "{ended:?}"
    );
    assert!(ended.reason.contains("1 flows were in use at the source"), "{ended:?}");
}

/// What it has in use is known to the journal before the destination is touched.
#[test]
fn what_is_in_use_as_a_move_that_leads_packets_deletes_stays_at_the_source_alone() {
    let written = "BEFORE UPDATE OF finishing ON led_move";
    let replaced = format!("{written} WHEN NEW.finishing = x''");
    let cases = [
        (None, State::Done),
        (Some(written), State::Failed),
        // That it was replaced is of no use to a later sidecar once the move has ended.
        (Some(&*replaced), State::Done),
    ];
    for (forbidden, state) in cases {
        let pair = filled();
        pair.a.monitor().used_later.insert(flow(1, 4, 1_000).both_ways());
        // Once it has deleted what was put, a packet makes its own of it.
        pair.b.monitor().busy = true;
        if let Some(what) = forbidden {
            forbid(&pair, what);
        }
        let running = start(&pair, None);
        let ended = block_on(async { running.moves(ordered("m")).await.unwrap() });
        assert_eq!((ended.in_use, ended.state(), both(&pair)), (1, state, (1, 20)), "{ended:?}");
        assert_eq!(pair.b.monitor().deleted, usize::from(state == State::Done), "{ended:?}");
    }
}

/// It may be the destination's own again by then, so it is not touched.
#[test]
fn what_an_earlier_sidecar_left_in_use_at_the_source_is_told_and_stays() {
    let pair = filled();
    let running = start(&pair, Some("end"));
    let id = block_on(async {
        let begun = begin(&running, ordered("m")).await;
        until(async || both(&pair) == (0, 20)).await;
        begun.id
    });
    running.kill();
    let journal = rusqlite::Connection::open(pair.node.store()).unwrap();
    journal.execute_batch("UPDATE led_move SET finishing = moved, moved = x''").unwrap();
    drop(journal);
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let says =
        "20 flows were in use at the source as it was to delete them, and the destination may have";
    assert!(ended.reason.starts_with(says), "{ended:?}");
    assert_eq!((both(&pair), ended.left_behind), ((0, 20), 20));
}

/// Those of the one before are in the journal until it has ended.
#[test]
fn what_two_sidecars_have_left_in_use_is_told_by_the_third() {
    let pair = filled();
    let id = killed_when_it_had_led(&pair);
    let journal = rusqlite::Connection::open(pair.node.store()).unwrap();
    journal.execute_batch("UPDATE led_move SET finishing = moved").unwrap();
    drop(journal);
    pair.a.monitor().used_later.insert(flow(1, 4, 1_000).both_ways());
    let running = start(&pair, Some("end"));
    block_on(until(async || both(&pair) == (1, 19)));
    running.kill();
    let running = start(&pair, None);
    let ended = block_on(running.state_ended(id));
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    assert!(ended.reason.starts_with("20 flows were in use at the source"), "{ended:?}");
}

/// It is merged with what the destination has, which nobody could tell apart again.
#[test]
fn state_of_several_flows_that_stays_in_use_at_the_source_stays_at_the_destination_too() {
    let pair = Pair::new();
    (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 2));
    (5..=9).for_each(|host| pair.b.monitor().packets(&flow(1, host, 2_000), 3));
    pair.a.lies.hosts_in_use.store(true, Relaxed);
    let running = pair.start();
    let done = block_on(async { running.moves(moved("m", "a", "b", "any")).await.unwrap() });
    assert_eq!(done.state(), State::Done, "{done:?}");
    for host in 1..=9 {
        let address = [10, 0, 1, host].into();
        let merged = 2 + u64::from(host >= 5) * 3;
        assert_eq!(
            (pair.a.monitor().of_host(address), pair.b.monitor().of_host(address)),
            (2, merged)
        );
    }
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

/// Nothing holds a network function to the truth.
#[test]
fn more_flows_in_use_than_there_can_be_are_no_more_than_that() {
    let pair = Pair::new();
    fill(&mut pair.a.monitor());
    let running = pair.start();
    pair.a.lies.passes_over.store(true, Relaxed);
    block_on(async {
        let scopes = vec![Scope::PerFlow.into(), Scope::MultiFlow.into()];
        let ask = |id: &str| CopyRequest { scopes: scopes.clone(), ..copied(id, "a", "b", "any") };
        let done = running.copies(ask("c")).await.unwrap();
        assert_eq!((done.state(), done.in_use), (State::Done, u64::MAX), "{done:?}");
        let done = running.moves(moved("m", "a", "b", "any")).await.unwrap();
        assert_eq!((done.state(), done.in_use), (State::Done, u64::MAX), "{done:?}");
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

#[test]
fn what_an_end_did_not_do_is_not_said_to_be_done() {
    let filled = || {
        let pair = Pair::new();
        (1..=9).for_each(|host| pair.a.monitor().packets(&flow(1, host, 1_000), 1));
        pair
    };
    let moves = |pair: &Pair| {
        let scopes = vec![Scope::PerFlow.into()];
        let ask = MoveRequest { scopes, ..moved("m", "a", "b", "any") };
        block_on(async { pair.start().moves(ask).await.unwrap() })
    };
    // The destination says that it took in less: all that was sent is removed.
    let pair = filled();
    pair.b.lies.took_less.store(true, Relaxed);
    let ended = moves(&pair);
    assert_eq!(ended.state(), State::Undone, "{ended:?}");
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (9, 0), "{ended:?}");
    // And has two of them in use, when they are to be removed.
    let pair = filled();
    pair.b.lies.took_less.store(true, Relaxed);
    let used = (1..=2).map(|host| flow(1, host, 1_000).both_ways());
    pair.b.monitor().in_use.extend(used);
    let ended = moves(&pair);
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    assert!(ended.reason.contains("2 flows are in use at the destination"), "{ended:?}");
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (9, 2), "{ended:?}");
    // The source deletes nothing, and does not say why.
    let pair = filled();
    pair.a.lies.keeps.store(true, Relaxed);
    let ended = moves(&pair);
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let says = "nf/a deleted none of 9 pieces, and still has 9 of them";
    assert!(ended.reason.contains(says), "{ended:?}");
    // It has deleted more than there is, or has more in use.
    for boast in [(u64::MAX, 0), (0, u64::MAX), (5, 5)] {
        let pair = filled();
        *pair.a.lies.boasts.lock().unwrap() = Some(boast);
        let ended = moves(&pair);
        assert_eq!((ended.state(), pair.a.monitor().of_flows()), (State::Failed, 9), "{ended:?}");
        let (deleted, in_use) = boast;
        let says = format!("says that it has deleted {deleted}, and has {in_use} in use");
        assert!(ended.reason.contains(&says), "{ended:?}");
    }
    // Not even that one of them has ended meanwhile explains it.
    let pair = filled();
    pair.a.lies.keeps.store(true, Relaxed);
    pair.a.monitor().ends_later.insert(flow(1, 1, 1_000).both_ways());
    let ended = moves(&pair);
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let says = "nf/a deleted none of 9 pieces, and still has 8 of them";
    assert!(ended.reason.contains(says), "{ended:?}");
    // But that all have does.
    let pair = filled();
    pair.a.monitor().ends_later.extend((1..=9).map(|host| flow(1, host, 1_000).both_ways()));
    let ended = moves(&pair);
    assert_eq!(ended.state(), State::Done, "{ended:?}");
    assert_eq!((pair.a.monitor().of_flows(), pair.b.monitor().of_flows()), (0, 9), "{ended:?}");
}
