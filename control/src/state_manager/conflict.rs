//! Which operations contradict each other.
//!
//! Two operations are about the same state when they share an end, a scope, and some flow. Of
//! multi-flow state any two filters may pick the same piece: what says nothing of addresses, say, is
//! picked by all. So there the filters do not count.

use weir_api::dataplane::v1::Guarantee;
use weir_state_transfer::{chunk::Scope, filter};

use super::operation::{Asked, CopyAsked, MoveAsked, Operation, ShareAsked};

/// The first of some operations that one may not be begun beside.
pub fn in_the_way<'a>(
    asked: &Asked,
    mut others: impl Iterator<Item = &'a Operation>,
) -> Option<&'a Operation> {
    others.find(|other| contradict(asked, &other.asked))
}

fn contradict(one: &Asked, other: &Asked) -> bool {
    match (one, other) {
        // Whoever is told of packets changes nothing.
        (Asked::Notify { .. }, _) | (_, Asked::Notify { .. }) => false,
        (Asked::Move(one), Asked::Move(other)) => moves(one, other),
        (Asked::Move(moved), Asked::Copy(copied)) | (Asked::Copy(copied), Asked::Move(moved)) => {
            brings_into(copied, moved)
        }
        (Asked::Copy(one), Asked::Copy(other)) => copies(one, other),
        (Asked::Share(shared), Asked::Move(moved)) | (Asked::Move(moved), Asked::Share(shared)) => {
            moves_shared(moved, shared)
        }
        (Asked::Share(one), Asked::Share(other)) => shares(one, other),
        // What is copied to an instance that shares is merged where its state has its home.
        (Asked::Share(_), Asked::Copy(_)) | (Asked::Copy(_), Asked::Share(_)) => false,
    }
}

/// A move of flows at an instance that shares what is known of their hosts.
fn moves_shared(moved: &MoveAsked, shared: &ShareAsked) -> bool {
    [&moved.from, &moved.to].iter().any(|end| shared.instances.contains(end))
        && moved.selection.flows().meets_hosts_of(&shared.filter.flows)
}

/// Two shares at one instance of hosts between which there may be a flow.
fn shares(one: &ShareAsked, other: &ShareAsked) -> bool {
    let mut flows = other.filter.flows.of_hosts().into_iter().map(filter::Selection::Filter);
    one.instances.iter().any(|end| other.instances.contains(end))
        && flows.any(|flows| flows.meets_hosts_of(&one.filter.flows))
}

/// Moves over the same state: it would have two destinations, or go on before it has come, or the
/// undoing of one would delete what the other has brought. Two that lead the same packets would each
/// release what the other counts on to be held, whatever state they are about.
fn moves(one: &MoveAsked, other: &MoveAsked) -> bool {
    let share = [&other.from, &other.to].iter().any(|end| [&one.from, &one.to].contains(end));
    let (mine, theirs) = (one.selection.flows(), other.selection.flows());
    let both_lead = leads_packets(one) && leads_packets(other);
    share
        && (common(one.scopes.intersection(&other.scopes), &mine, &theirs)
            || (both_lead && mine.overlaps(&theirs)))
}

/// Whether packets to processes are held meanwhile, and led to where their state is.
fn leads_packets(asked: &MoveAsked) -> bool {
    asked.guarantee != Guarantee::None && !asked.from.is_instance() && !asked.to.is_instance()
}

/// A copy into an end of a move: into its source, after the state has left, or into its destination,
/// over what the move has brought. A copy out of either does no harm.
fn brings_into(copied: &CopyAsked, moved: &MoveAsked) -> bool {
    let flows = filter::Selection::Filter(copied.filter.flows);
    let ends = [&moved.from, &moved.to];
    ends.contains(&&copied.to)
        && common(copied.scopes.intersection(&moved.scopes), &flows, &moved.selection.flows())
}

/// What is merged can be copied at the same time, and per-flow state, which replaces what is there,
/// only by one copy. Two copies of the same would each take the other's place in the versions.
fn copies(one: &CopyAsked, other: &CopyAsked) -> bool {
    let same = one.from == other.from && one.to == other.to && one.filter == other.filter;
    let into = one.to == other.to || one.to == other.from || one.from == other.to;
    let per_flow = [one, other].iter().all(|copy| copy.scopes.contains(&Scope::PerFlow));
    same || (into && per_flow && one.filter.flows.overlaps(&other.filter.flows))
}

fn common<'a>(
    mut scopes: impl Iterator<Item = &'a Scope>,
    one: &filter::Selection,
    other: &filter::Selection,
) -> bool {
    scopes.any(|scope| match scope {
        Scope::PerFlow => one.overlaps(other),
        Scope::MultiFlow | Scope::AllFlows => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_api::dataplane::v1::ShareMode;

    use crate::state_manager::{end::End, operation::Selection};

    fn scopes(words: &str) -> std::collections::BTreeSet<Scope> {
        Scope::ALL.into_iter().filter(|scope| words.contains(scope.name())).collect()
    }

    fn moved(from: &str, to: &str, filter: &str, words: &str) -> Asked {
        Asked::Move(MoveAsked {
            from: End::Nf(from.to_owned()),
            to: End::Nf(to.to_owned()),
            selection: match filter.strip_prefix("buckets ") {
                Some(buckets) => Selection::Buckets(buckets.parse().unwrap()),
                None => Selection::Filter(filter.parse().unwrap()),
            },
            scopes: scopes(words),
            guarantee: Guarantee::None,
        })
    }

    fn led(from: &str, to: &str, filter: &str, words: &str) -> Asked {
        let Asked::Move(asked) = moved(from, to, filter, words) else { unreachable!() };
        Asked::Move(MoveAsked { guarantee: Guarantee::Ordered, ..asked })
    }

    fn copied(from: &str, to: &str, filter: &str, words: &str) -> Asked {
        Asked::Copy(CopyAsked {
            from: End::Nf(from.to_owned()),
            to: End::Nf(to.to_owned()),
            filter: filter.parse().unwrap(),
            scopes: scopes(words),
        })
    }

    fn shared(instances: &str, filter: &str) -> Asked {
        let instance = |letter: char| End::Nf(letter.to_string());
        Asked::Share(ShareAsked {
            instances: instances.chars().map(instance).collect(),
            filter: filter.parse().unwrap(),
            scopes: [Scope::MultiFlow].into(),
            mode: ShareMode::Strong,
        })
    }

    const TEN: &str = "src=10.0.0.0/8";
    const ELEVEN: &str = "src=11.0.0.0/8";

    #[test]
    fn operations_over_the_same_state_contradict_each_other() {
        for (one, other) in [
            // Filters hold both ways: a flow between the two networks matches both.
            (moved("a", "b", TEN, "per-flow"), moved("a", "b", ELEVEN, "per-flow")),
            // Two destinations, a way on before it has come, and one destination.
            (moved("a", "b", TEN, "per-flow"), moved("a", "c", "dport=80", "per-flow")),
            (moved("a", "b", TEN, "per-flow"), moved("b", "c", TEN, "per-flow")),
            (moved("a", "b", TEN, "per-flow"), moved("c", "b", "any", "per-flow")),
            (moved("a", "b", "buckets 0-9", "per-flow"), moved("b", "a", TEN, "per-flow")),
            (moved("a", "b", TEN, "multi-flow"), moved("a", "b", ELEVEN, "multi-flow")),
            (copied("c", "a", TEN, "per-flow"), moved("a", "b", TEN, "per-flow")),
            (copied("c", "b", TEN, "multi-flow"), moved("a", "b", ELEVEN, "multi-flow")),
            (copied("a", "b", TEN, "per-flow"), copied("b", "a", TEN, "per-flow")),
            (copied("a", "b", TEN, "per-flow"), copied("c", "b", TEN, "per-flow")),
            (copied("a", "b", TEN, "multi-flow"), copied("a", "b", TEN, "all-flows")),
            (shared("ab", TEN), shared("bc", "any")),
            (shared("ab", TEN), moved("b", "c", TEN, "per-flow")),
            (shared("ab", TEN), moved("c", "a", "dport=80", "multi-flow")),
            (shared("ab", TEN), moved("b", "a", "buckets 0-9", "per-flow")),
            // What is known of a host has no protocol.
            (shared("ab", "proto=tcp"), shared("bc", "proto=udp")),
            (shared("ab", "proto=tcp"), moved("a", "c", "proto=udp", "per-flow")),
        ] {
            assert!(contradict(&one, &other), "{one:?}\n{other:?}");
            assert!(contradict(&other, &one), "{other:?}\n{one:?}");
        }
    }

    #[test]
    fn others_go_on_side_by_side() {
        let end = End::Nf("a".to_owned());
        let notify = Asked::Notify { end, filter: TEN.parse().unwrap(), snap: 0 };
        for (one, other) in [
            (moved("a", "b", "proto=tcp", "per-flow"), moved("a", "b", "proto=udp", "per-flow")),
            (moved("a", "b", TEN, "per-flow"), moved("c", "d", TEN, "per-flow")),
            (moved("a", "b", TEN, "per-flow"), moved("a", "c", TEN, "multi-flow")),
            (moved("a", "b", "buckets 0-9", "per-flow"), moved("a", "b", "buckets 10", "per-flow")),
            // Copies out of what moves, and the application that copies the counters of hosts both
            // ways while it moves their flows.
            (copied("a", "c", TEN, "per-flow"), moved("a", "b", TEN, "per-flow")),
            (copied("a", "b", TEN, "multi-flow"), moved("a", "b", TEN, "per-flow")),
            (copied("a", "b", TEN, "multi-flow"), copied("b", "a", TEN, "multi-flow")),
            (copied("a", "b", TEN, "multi-flow"), copied("a", "b", ELEVEN, "multi-flow")),
            (copied("a", "b", TEN, "per-flow"), copied("a", "c", TEN, "per-flow")),
            (shared("ab", TEN), shared("cd", TEN)),
            (shared("ab", TEN), shared("bc", "src=fd00::/8")),
            (shared("ab", TEN), moved("c", "d", TEN, "per-flow")),
            (shared("ab", TEN), moved("a", "c", "dst=fd00::/8", "per-flow")),
            (shared("ab", TEN), copied("a", "b", TEN, "multi-flow")),
            (notify.clone(), shared("ab", TEN)),
            (notify.clone(), moved("a", "b", TEN, "per-flow")),
            (notify.clone(), notify),
        ] {
            assert!(!contradict(&one, &other), "{one:?}\n{other:?}");
            assert!(!contradict(&other, &one), "{other:?}\n{one:?}");
        }
    }

    #[test]
    fn moves_that_lead_the_same_packets_contradict_each_other_whatever_their_scopes() {
        let first = led("a", "b", "proto=tcp", "per-flow");
        for (other, contradicts) in [
            (led("a", "c", TEN, "multi-flow"), true),
            (led("c", "b", "proto=tcp", "multi-flow"), true),
            (led("a", "c", "proto=udp", "multi-flow"), false),
            (led("c", "d", "proto=tcp", "multi-flow"), false),
            // Nothing is held for it.
            (moved("a", "c", TEN, "multi-flow"), false),
        ] {
            assert_eq!(contradict(&first, &other), contradicts, "{other:?}");
            assert_eq!(contradict(&other, &first), contradicts, "{other:?}");
        }
    }
}
