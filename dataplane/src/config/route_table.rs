//! `[route_table]`: bounds of the longest-prefix match, and whether the routes of the file fit.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

use ipnet::IpNet;
use toml::Spanned;

use super::port::PortDraft;
use super::report::{Finding, Findings};
use super::route::Route;
use super::section::Section;
use super::value;
use crate::route_table::{NEXT_HOPS_MAX, RouteLimits, V4_ROOT_BYTES, V6_ROOT_BYTES};

const ROUTES_MOST: u32 = 1 << 22;
const GROUPS_MOST: u32 = 1 << 20;

/// The bounds with the places where the file sets them.
pub(super) struct RouteTableDraft {
    routes: Bound,
    next_hops: Bound,
    groups: Bound,
}

struct Bound {
    key: &'static str,
    /// What is bounded, in the plural.
    what: &'static str,
    value: u32,
    most: u32,
    place: Option<Range<usize>>,
}

pub(super) fn read_route_table(mut section: Section<'_>) -> RouteTableDraft {
    let default = RouteLimits::default();
    let mut bound = |key, what, default, least, most| {
        let read = section.optional(key, value::count(least..=most));
        let place = read.as_ref().map(Spanned::span);
        Bound { key, what, value: read.map_or(default, Spanned::into_inner), most, place }
    };
    let draft = RouteTableDraft {
        routes: bound("routes_max", "routes", default.routes_max, 16, ROUTES_MOST),
        next_hops: bound("next_hops_max", "next hops", default.next_hops_max, 1, NEXT_HOPS_MAX),
        groups: bound("groups_max", "groups", default.groups_max, 16, GROUPS_MOST),
    };
    section.close();
    draft
}

impl RouteTableDraft {
    pub(super) fn limits(&self) -> RouteLimits {
        RouteLimits {
            routes_max: self.routes.value,
            next_hops_max: self.next_hops.value,
            groups_max: self.groups.value,
        }
    }

    /// Refuses bounds that the connected networks and the routes of the file go beyond.
    pub(super) fn check(
        &self,
        ports: &[PortDraft],
        routes: &[Spanned<Route>],
        findings: &Findings,
    ) {
        let connected = ports.iter().enumerate().flat_map(|(port, draft)| {
            let addresses = draft.port.addresses.iter().zip(&draft.address_spans);
            addresses.map(move |(address, span)| (address.trunc(), (port, None), span.clone()))
        });
        let told = routes.iter().map(|route| {
            let Route { prefix, via, port } = *route.get_ref();
            (prefix, (port, via), route.span())
        });
        let all: Vec<_> = connected.chain(told).collect();
        let prefixes = all.iter().map(|(prefix, _, span)| (*prefix, span));
        let hops = all.iter().map(|(_, hop, span)| (*hop, span));
        let groups = all
            .iter()
            .flat_map(|(prefix, _, span)| groups_of(*prefix).map(move |group| (group, span)));
        self.routes.hold(prefixes, findings);
        self.next_hops.hold(hops, findings);
        self.groups.hold(groups, findings);
    }
}

impl Bound {
    fn hold<'s, T: Eq + Hash>(
        &self,
        items: impl Iterator<Item = (T, &'s Range<usize>)>,
        findings: &Findings,
    ) {
        let mut seen = HashSet::new();
        let mut beyond = None;
        for (item, span) in items {
            seen.insert(item);
            if seen.len() > self.value as usize {
                beyond.get_or_insert(span);
            }
        }
        let Some(beyond) = beyond else { return };
        let Self { key, what, value, most, place } = self;
        let needed = seen.len();
        let title = format!("{value} {what} are fewer than the {needed} of this file");
        let finding = match place {
            Some(place) => Finding::error(place.clone(), title, "too few")
                .context(beyond.clone(), "the first that does not fit"),
            None => Finding::error(beyond.clone(), title, "the first that does not fit"),
        };
        findings.push(finding.over_the_whole().help(if needed > *most as usize {
            format!("{key} in [route_table] is at most {most}: leave some of the routes out")
        } else {
            format!("set {key} = {needed} in [route_table], or more if routes are to be added")
        }));
    }
}

/// The groups that a prefix needs: one for each whole byte that it has beyond the root of its trie.
fn groups_of(prefix: IpNet) -> impl Iterator<Item = IpNet> {
    let root = 8 * if prefix.addr().is_ipv4() { V4_ROOT_BYTES } else { V6_ROOT_BYTES };
    let depths = (root..usize::from(prefix.prefix_len())).step_by(8);
    depths.filter_map(move |depth| Some(IpNet::new(prefix.addr(), depth as u8).ok()?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route_table::{NextHop, RouteTable};
    use weir_state_transfer::PortId;

    /// The count is that of the table itself: with one group less it refuses.
    #[test]
    fn groups_are_counted_as_the_table_counts_them() {
        let prefixes = ["10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/32", "fd00::/16", "fd00::/17"];
        let prefixes = prefixes.into_iter().chain(["fd00:1::/64", "fd00:1:0:1::/64"]);
        let prefixes: Vec<IpNet> = prefixes.map(|text| text.parse().unwrap()).collect();
        let groups: HashSet<IpNet> = prefixes.iter().copied().flat_map(groups_of).collect();
        let all_fit = |groups_max| {
            let (_, mut writer) = RouteTable::new(RouteLimits { groups_max, ..Default::default() });
            let hop = NextHop { port: PortId(0), via: None };
            prefixes.iter().all(|prefix| writer.add(*prefix, hop).is_ok())
        };
        let needed = groups.len() as u32;
        assert!(all_fit(needed) && !all_fit(needed - 1), "{groups:?}");
    }
}
