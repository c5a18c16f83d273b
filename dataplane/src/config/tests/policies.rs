//! Policy routes in the configuration.

use super::*;

fn with(policy: &str) -> String {
    format!("{PORT}addresses = ['10.0.1.1/24']\n[[policy_route]]\n{policy}\n")
}

#[test]
fn policy_routes_are_kept_in_their_order_and_are_for_one_direction_unless_they_say_otherwise() {
    let first = "name = 'web'\nfilter = 'proto=tcp,dport=80'\nvia = '10.0.1.9'\nport = 'a'\n";
    let second = "[[policy_route]]\nname = 'all'\nfrom = 'a'\nboth_ways = 'on'\nport = 'a'";
    let config = accept(&with(&format!("{first}{second}")));
    let [web, all] = config.policy_routes() else { panic!("{config:?}") };
    assert_eq!((web.name.as_str(), all.name.as_str()), ("web", "all"));
    assert_eq!(web.filter, "proto=tcp,dport=80,symmetric=false".parse().unwrap());
    assert_eq!((web.from, web.via, web.port), (None, Some([10, 0, 1, 9].into()), 0));
    assert_eq!(all.filter, "any".parse().unwrap());
    assert_eq!((all.from, all.via), (Some(0), None));
}

#[test]
fn a_policy_route_that_makes_no_sense_is_refused_where_it_stands() {
    for (policy, line, words) in [
        ("name = 'p'", 6, "missing key port"),
        ("port = 'a'", 6, "missing key name"),
        ("name = 'p'\nport = 'b'", 8, "no port is called b"),
        ("name = 'p'\nport = 'a'\nfrom = 'b'", 9, "no port is called b"),
        ("name = 'p'\nport = 'a'\nfilter = 'dport=x'", 9, "expected a filter"),
        ("name = 'p'\nport = 'a'\nfilter = 7", 9, "expected a filter"),
        ("name = 'p'\nport = 'a'\nvia = '10.0.2.9'", 9, "networks of port a: 10.0.1.0/24"),
        ("name = 'p'\nport = 'a'\nvia = '10.0.1.1'", 9, "this router itself"),
        ("name = 'p'\nport = 'a'\nboth_ways = 'yes'", 9, "\"off\" or \"on\""),
        ("name = 'p'\nport = 'a'\nholds = true", 9, "unknown key holds"),
        ("name = 'p'\nport = 'a'\n[[policy_route]]\nname = 'p'\nport = 'a'", 10, "there twice"),
    ] {
        refuse_one(&with(policy), line, &[words]);
    }
    let six = "name = 'p'\nport = 'a'\nfilter = 'dst=fd00::/8'\nvia = '10.0.1.9'";
    refuse_one(&with(six), 10, &["another family"]);
    let many: String =
        (0..65).map(|n| format!("[[policy_route]]\nname = 'p{n}'\nport = 'a'\n")).collect();
    assert!(refuse(&format!("{PORT}{many}")).contains("more than 64 [[policy_route]]"));
}

#[test]
fn what_policy_routes_hold_takes_no_frames_beside_those_of_moves_unless_these_are_fewer() {
    let frames = |text: &str| accept(text).memory().frames;
    assert_eq!(frames("[moves]\nmoves_max = 4\n"), frames("[moves]\nmoves_max = 4\n"));
    let (one, two) = (frames("[moves]\nmoves_max = 1\n"), frames("[moves]\nmoves_max = 4\n"));
    assert_eq!(one, two, "8 workers hold as much as 4 moves");
    assert!(frames("[moves]\nmoves_max = 5\n") > two);
}
