//! `[[policy_route]]`: packets that leave by a next hop of their own, whatever the routes say.

use std::collections::HashMap;
use std::net::IpAddr;

use toml::Spanned;
use toml::de::DeValue;
use weir_state_transfer::filter::Filter;

use super::Name;
use super::port::PortDraft;
use super::report::{Finding, Findings};
use super::route::{find_port, via_problem};
use super::section::Section;
use super::value::{self, Label};

/// One `[[policy_route]]`; the first of the file that a packet matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRoute {
    /// Its name.
    pub name: Name,
    /// What flows have to look like; default all. From source to destination, or both ways.
    pub filter: Filter,
    /// The index of the port in [`super::Config::ports`] that packets must have come in by, if any.
    pub from: Option<usize>,
    /// The next hop, on a connected network of the port; `None` when hosts are reached directly.
    pub via: Option<IpAddr>,
    /// The index of the port to leave by.
    pub port: usize,
}

pub(super) struct PolicyRouteDraft {
    name: Spanned<Name>,
    filter: Filter,
    from: Option<Spanned<Name>>,
    via: Option<Spanned<IpAddr>>,
    port: Spanned<Name>,
}

const SWITCH: &[(&str, bool)] = &[("off", false), ("on", true)];

/// Reads one policy route; `None` when it is too wrong to check against others.
pub(super) fn read(mut section: Section<'_>) -> Option<PolicyRouteDraft> {
    let name = section.required("name", value::name);
    let filter = section.or("filter", Filter::default(), filter);
    let both_ways = section.or("both_ways", false, value::word(SWITCH));
    let from = section.optional("from", value::name);
    let via = section.optional("via", value::next_hop);
    let port = section.required("port", value::name);
    section.close();
    let filter = Filter { symmetric: both_ways, ..filter };
    Some(PolicyRouteDraft { name: name?, filter, from, via, port: port? })
}

/// Finds the ports of each policy route and checks its next hop against the networks of its port.
pub(super) fn resolve(
    drafts: Vec<PolicyRouteDraft>,
    ports: &[PortDraft],
    findings: &Findings,
) -> Vec<PolicyRoute> {
    let mut routes = Vec::with_capacity(drafts.len());
    let mut seen: HashMap<Name, std::ops::Range<usize>> = HashMap::new();
    for draft in drafts {
        let (name, span) = (draft.name.get_ref().clone(), draft.name.span());
        if let Some(first) = seen.insert(name.clone(), span.clone()) {
            let title = format!("policy route {name} is there twice");
            let finding = Finding::error(span, title, "again here").over_the_whole();
            findings.push(finding.context(first, "first here"));
        }
        let from = draft.from.as_ref().map(|from| find_port(from, ports, findings));
        let port = find_port(&draft.port, ports, findings);
        let (Some(port), None | Some(Some(_))) = (port, from) else { continue };
        let Filter { src, dst, .. } = draft.filter;
        let family_of = src.prefix.or(dst.prefix).map(|prefix| prefix.address());
        let via = draft.via.as_ref();
        if let Some(finding) = via.and_then(|via| via_problem(family_of, via, &ports[port])) {
            findings.push(finding.over_the_whole());
        }
        let via = draft.via.map(Spanned::into_inner);
        routes.push(PolicyRoute { name, filter: draft.filter, from: from.flatten(), via, port });
    }
    routes
}

fn filter(value: &DeValue<'_>) -> Result<Filter, Label> {
    let wanted = || "expected a filter, as in \"src=10.0.1.0/24,proto=tcp,dport=80\"".to_owned();
    let text = value.as_str().ok_or_else(wanted)?;
    text.parse().map_err(|why| format!("{}: {why}", wanted()))
}
