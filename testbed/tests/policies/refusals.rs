//! What a node refuses, and what it says then. Nothing has changed.

use weir_api::dataplane::v1 as api;
use weir_dataplane::node::{FIRST, instance_id};
use weir_dataplane::policy::PolicyMatch;
use weir_dataplane::route_table::NextHop;
use weir_state_transfer::mark::Request;
use weir_state_transfer::{BucketSet, PortId, Selection};
use weir_testbed::memory_node::{MemoryNode, Plan, host};

use crate::by_hand::{inject, left, node, plan, put, to};
use crate::world::spread;

fn refuses(node: &mut MemoryNode, route: api::PolicyRoute) -> String {
    let before = node.node.list_policies();
    let refused = node.node.put_policies(&api::Change::default(), &[route], node.now).unwrap_err();
    assert_eq!(node.node.list_policies(), before);
    refused.to_string()
}

fn holding(name: &str, filter: &str, port: u8) -> api::PolicyRoute {
    api::PolicyRoute { holds: true, ..to(name, filter, port) }
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_with_the_field() {
    let mut node = node(&plan());
    let of = |change: fn(&mut api::PolicyRoute)| {
        let mut route = to("p", "any", 2);
        change(&mut route);
        route
    };
    for (route, words) in [
        (of(|p| p.name = "P 1".to_owned()), "name: a name is 1 to 63"),
        (of(|p| p.filter = "dport=http".to_owned()), "filter: "),
        (of(|p| p.from = "sap9".to_owned()), "from: there is no port \"sap9\""),
        (of(|p| p.port = String::new()), "port: there is no port \"\""),
        (of(|p| p.via = "10.0.9.9".to_owned()), "is on no network of port sap2"),
        (of(|p| p.via = "10.0.2.1".to_owned()), "is this router itself"),
        (of(|p| p.filter = "src=fd00::/8".to_owned()), "different families"),
        (of(|p| p.before = "q".to_owned()), "there is no policy q"),
        (of(|p| (p.via, p.holds) = (String::new(), true)), "via: is missing"),
    ] {
        let said = refuses(&mut node, route);
        assert!(said.contains(words), "{said}");
    }
    let twice = [to("p", "any", 2), to("p", "any", 3)];
    let said = node.node.put_policies(&api::Change::default(), &twice, node.now).unwrap_err();
    assert!(said.to_string().contains("p is there twice"), "{said}");
    let none = node.node.remove_policies(&api::Change::default(), &["p".to_owned()]);
    assert_eq!(none.unwrap_err().to_string(), "there is no policy p");
}

#[test]
fn there_are_64_policies_at_most_and_a_change_is_no_more() {
    let mut node = node(&plan());
    let all: Vec<_> = (0..64).map(|n| to(&format!("p{n}"), &format!("sport={n}"), 2)).collect();
    put(&mut node, &all);
    let said = refuses(&mut node, to("p64", "any", 2));
    assert!(said.contains("at its bound of 64"), "{said}");
    put(&mut node, &[to("p63", "sport=63", 3)]);
    inject(&mut node, (0, 1), 63, 1);
    assert_eq!(left(&mut node, 3), [1]);
}

#[test]
fn a_request_that_is_repeated_changes_nothing() {
    let mut node = node(&plan());
    let change = |id: &str| api::Change { request_id: id.to_owned(), generation: 0 };
    node.node.put_policies(&change("one"), &[to("p", "any", 2)], node.now).unwrap();
    node.node.put_policies(&change("two"), &[to("p", "any", 3)], node.now).unwrap();
    node.node.put_policies(&change("one"), &[to("p", "any", 2)], node.now).unwrap();
    let shown = node.node.list_policies().routes[0].route.clone().unwrap();
    assert_eq!(shown.via, host(3).to_string());
    node.node.remove_policies(&change("three"), &["p".to_owned()]).unwrap();
    node.node.remove_policies(&change("three"), &["p".to_owned()]).unwrap();
    assert!(node.node.list_policies().routes.is_empty());
}

#[test]
fn one_that_holds_is_neither_removed_nor_given_another_match_before_all_has_left() {
    let mut node = node(&plan());
    put(&mut node, &[holding("p", "any", 2)]);
    inject(&mut node, (0, 1), 1_000, 1);
    let remove = |node: &mut MemoryNode| {
        node.node.remove_policies(&api::Change::default(), &["p".to_owned()])
    };
    let words = "policy p holds packets";
    assert!(remove(&mut node).unwrap_err().to_string().contains(words));
    assert!(refuses(&mut node, holding("p", "sport=9", 2)).contains(words));
    node.node.put_policies(&api::Change::default(), &[to("p", "any", 2)], node.now).unwrap();
    assert!(!node.node.list_policies().adopted);
    assert!(remove(&mut node).unwrap_err().to_string().contains(words), "no worker has heard");
    node.settle();
    assert!(node.node.list_policies().adopted);
    remove(&mut node).unwrap();
    assert_eq!(left(&mut node, 2), [1]);
    // Nothing waits, and a worker that has not heard may yet hold.
    put(&mut node, &[holding("p", "any", 2)]);
    node.node.put_policies(&api::Change::default(), &[to("p", "any", 2)], node.now).unwrap();
    assert!(remove(&mut node).unwrap_err().to_string().contains(words));
    node.settle();
    remove(&mut node).unwrap();
}

#[test]
fn nothing_is_put_in_front_of_one_that_holds_what_it_would_match() {
    let mut node = node(&plan());
    put(&mut node, &[holding("p", "sport=1000-1009", 2)]);
    let before_p = |route| api::PolicyRoute { before: "p".to_owned(), ..route };
    let said = refuses(&mut node, before_p(to("q", "sport=1009-2000", 3)));
    assert!(said.contains("policy p holds packets"), "{said}");
    put(&mut node, &[before_p(to("q", "sport=1010-2000", 3)), to("behind", "any", 3)]);
    let said = refuses(&mut node, to("q", "sport=1009-2000", 3));
    assert!(said.contains("policy p holds packets"), "{said}");
    inject(&mut node, (0, 1), 1_009, 1);
    put(&mut node, &[to("p", "sport=1000-1009", 2)]);
    put(&mut node, &[to("q", "sport=1009-2000", 3)]);
    inject(&mut node, (0, 1), 1_009, 2);
    assert_eq!((left(&mut node, 2), left(&mut node, 3)), (vec![1], vec![2]));
}

#[test]
fn nothing_is_put_in_front_of_one_that_holds_by_what_releases_it() {
    let mut node = node(&plan());
    put(&mut node, &[holding("p", "sport=1000-1009", 2)]);
    let free = to("p", "sport=1000-1009", 2);
    let before_p = |route| api::PolicyRoute { before: "p".to_owned(), ..route };
    let in_front = before_p(to("q", "sport=1009-2000", 3));
    // No packet waits, and no worker has been told yet that none may.
    let before = node.node.list_policies();
    for both in [[free.clone(), in_front.clone()], [in_front.clone(), free.clone()]] {
        let refused = node.node.put_policies(&api::Change::default(), &both, node.now);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("policy p holds packets"), "{said}");
        assert_eq!(node.node.list_policies(), before);
    }
    let beside = before_p(to("q", "sport=1010-2000", 3));
    put(&mut node, &[free, beside]);
    put(&mut node, &[before_p(to("r", "sport=1009", 3))]);
}

#[test]
fn one_that_is_put_anew_is_not_that_of_the_configuration() {
    let mut node = node(&plan());
    let matches = PolicyMatch { filter: "sport=1".parse().unwrap(), from: None };
    let hop = NextHop { port: PortId(2), via: Some(host(2).into()) };
    node.node.add_configured_policies(vec![("web".parse().unwrap(), matches, hop)]).unwrap();
    node.settle();
    let is_configured = |node: &MemoryNode| node.node.list_policies().routes[0].configured;
    assert!(is_configured(&node));
    put(&mut node, &[to("web", "sport=2", 3)]);
    assert!(is_configured(&node), "it was changed");
    node.node.remove_policies(&api::Change::default(), &["web".to_owned()]).unwrap();
    node.settle();
    put(&mut node, &[to("web", "sport=1", 2)]);
    assert!(!is_configured(&node));
}

#[test]
fn flows_do_not_move_and_workers_do_not_change_while_packets_are_held_nor_the_other_way_round() {
    let plan = Plan { workers: 2, queues: 2, port_ring: 64, ..plan() };
    let mut node = node(&plan);
    spread(&mut node, 2);
    let to_instance = instance_id("to", 2).unwrap();
    let start = |node: &mut MemoryNode| {
        let selection = Selection::Buckets("0-9".parse::<BucketSet>().unwrap());
        let request = Request::new(FIRST, to_instance, selection);
        node.node.start_move(&api::Change::default(), request, true, node.now)
    };
    put(&mut node, &[holding("p", "any", 2)]);
    let words = "policy p holds packets";
    assert!(start(&mut node).unwrap_err().to_string().contains(words));
    let added = node.node.add_worker(&api::Change::default(), None);
    assert!(added.unwrap_err().to_string().contains(words));
    put(&mut node, &[to("p", "any", 2)]);
    start(&mut node).unwrap();
    let said = refuses(&mut node, holding("p", "any", 2));
    assert!(said.contains("is in progress"), "{said}");
    node.settle();
    put(&mut node, &[holding("p", "any", 2)]);
    put(&mut node, &[to("p", "any", 2)]);
    node.node.add_worker(&api::Change::default(), None).unwrap();
    node.settle();
    put(&mut node, &[holding("p", "any", 2)]);
    assert!(node.node.list_policies().adopted);
}
