//! The policy routes that moves leave behind: in which order they are put, and which of them decide
//! nothing any more.

use std::{collections::BTreeSet, net::IpAddr};

use weir_api::dataplane::v1::PolicyRoute;

use super::lead::filter_of;

/// Policy routes that are to be put beside those that there are, in an order in which each finds the
/// one that it is put in front of. One whose place is gone comes in front of all.
pub fn placed(list: &[PolicyRoute], mut wanted: Vec<PolicyRoute>) -> Vec<PolicyRoute> {
    let first = list.first().map_or_else(String::new, |route| route.name.clone());
    let mut known: BTreeSet<String> = list.iter().map(|route| route.name.clone()).collect();
    let mut placed = Vec::new();
    while !wanted.is_empty() {
        let finds = |route: &PolicyRoute| {
            let PolicyRoute { name, before, .. } = route;
            before.is_empty() || known.contains(before) || known.contains(name)
        };
        let mut next = wanted.remove(wanted.iter().position(finds).unwrap_or(0));
        if !finds(&next) {
            next.before.clone_from(&first);
        }
        known.insert(next.name.clone());
        placed.push(next);
    }
    placed
}

/// Those of the desired policy routes that decide nothing, as what they lead is led by others behind
/// them to the same next hop; each with the first of these that is kept. What is neither desired nor
/// configured is gone when the data plane is started again, and takes the place of none.
pub fn idle(
    list: &[PolicyRoute],
    desired: &BTreeSet<String>,
    configured: &BTreeSet<String>,
) -> Vec<(String, String)> {
    let is_kept =
        |policy: &PolicyRoute| desired.contains(&policy.name) || configured.contains(&policy.name);
    let goes = |policy: &PolicyRoute, behind: &[&PolicyRoute]| {
        let is_removable = desired.contains(&policy.name) && !configured.contains(&policy.name);
        is_removable && is_idle(policy, behind, is_kept)
    };
    let mut left: Vec<&PolicyRoute> = list.iter().collect();
    let mut idle = Vec::new();
    let mut place = 0;
    while let Some((policy, behind)) = left[place..].split_first() {
        let next = behind.iter().find(|other| is_kept(other));
        match next.filter(|_| goes(policy, behind)) {
            Some(next) => {
                idle.push((policy.name.clone(), next.name.clone()));
                left.remove(place);
            }
            None => place += 1,
        }
    }
    idle
}

fn is_idle(
    policy: &PolicyRoute,
    behind: &[&PolicyRoute],
    is_kept: impl Fn(&PolicyRoute) -> bool,
) -> bool {
    let family = |policy: &PolicyRoute| policy.via.parse().ok().map(|via: IpAddr| via.is_ipv4());
    let Ok(filter) = filter_of(policy) else { return false };
    if policy.holds || policy.via.is_empty() {
        return false;
    }
    for other in behind {
        let Ok(others) = filter_of(other) else { return false };
        let has_port = other.from.is_empty() || other.from == policy.from;
        let has_family = family(other).is_none_or(|is_v4| Some(is_v4) == family(policy));
        let meets = (has_port || policy.from.is_empty()) && has_family && others.overlaps(&filter);
        if !meets {
            continue;
        }
        let leads_alike = !other.holds && (&other.via, &other.port) == (&policy.via, &policy.port);
        if !leads_alike {
            return false;
        }
        if has_port && is_kept(other) && others.covers(&filter) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, filter: &str, from: &str, via: &str) -> PolicyRoute {
        PolicyRoute {
            name: name.to_owned(),
            filter: filter.to_owned(),
            both_ways: true,
            from: from.to_owned(),
            via: via.to_owned(),
            port: "p".to_owned(),
            ..PolicyRoute::default()
        }
    }

    fn names(text: &str) -> BTreeSet<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    const A: &str = "10.0.0.1";
    const B: &str = "10.0.0.2";

    #[test]
    fn what_is_led_by_others_to_the_same_place_is_idle_and_nothing_else_is() {
        let base = policy("base", "any", "in", A);
        let all = |front: &[PolicyRoute]| {
            let list = [front, std::slice::from_ref(&base)].concat();
            idle(&list, &names("m n base"), &names("base"))
        };
        let found = |front: &[PolicyRoute]| -> Vec<String> {
            all(front).into_iter().map(|(name, _)| name).collect()
        };
        let tcp = policy("m", "proto=tcp", "in", A);
        assert_eq!(found(std::slice::from_ref(&tcp)), ["m"]);
        let held = PolicyRoute { holds: true, ..tcp.clone() };
        for other in [
            policy("m", "proto=tcp", "in", B),
            policy("m", "proto=tcp", "", A),
            policy("m", "proto=tcp", "out", A),
            policy("other", "proto=tcp", "in", A),
            policy("m", "proto=tcp", "in", ""),
            held,
        ] {
            assert_eq!(found(std::slice::from_ref(&other)), [""; 0], "{other:?}");
        }
        // One that leads elsewhere stands between, for some of it.
        let web = policy("x", "proto=tcp,dport=80", "in", B);
        assert_eq!(found(&[tcp.clone(), web.clone()]), [""; 0]);
        assert_eq!(found(&[web, tcp.clone()]), ["m"]);
        // A larger one that was put later took it in; and when that is idle, so are both.
        let small = policy("n", "proto=tcp,dport=80", "in", B);
        assert_eq!(found(&[small.clone(), policy("m", "proto=tcp", "in", B)]), ["n"]);
        assert_eq!(found(&[policy("n", "dport=80", "in", A), tcp]), ["n", "m"]);
        // One that is not kept leads them while it is there, and is no place to stand in front of.
        assert_eq!(found(&[small.clone(), policy("hand", "proto=tcp", "in", B)]), [""; 0]);
        let some = policy("m", "proto=tcp,dport=80", "in", A);
        let first = all(&[some, policy("hand", "proto=tcp", "in", A)]);
        assert_eq!(first, [("m".to_owned(), "base".to_owned())]);
        // Those of the other family are about other packets.
        let six = policy("six", "any", "in", "fd00::1");
        assert_eq!(found(&[small, six]), [""; 0]);
    }

    #[test]
    fn each_is_put_in_front_of_one_that_is_there() {
        let before = |name: &str, before: &str| PolicyRoute {
            before: before.to_owned(),
            ..policy(name, "any", "", A)
        };
        let list = [policy("base", "any", "", A), policy("last", "any", "", A)];
        let put = placed(
            &list,
            vec![before("c", "b"), before("b", "base"), before("d", "gone"), before("e", "")],
        );
        let found: Vec<_> = put.iter().map(|put| (&*put.name, &*put.before)).collect();
        assert_eq!(found, [("b", "base"), ("c", "b"), ("e", ""), ("d", "base")]);
        assert_eq!(placed(&[], vec![before("a", "gone")])[0].before, "");
    }
}
