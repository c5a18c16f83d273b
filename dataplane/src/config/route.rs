//! `[[route]]`: networks that are reached through a port.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::Name;
use super::port::PortDraft;
use super::report::{Finding, Findings};
use super::section::{Section, suggest};
use super::value;

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network, without host bits.
    pub prefix: IpNet,
    /// The next hop, on a connected network of the port; `None` when hosts are reached directly.
    pub via: Option<IpAddr>,
    /// The index of the port in [`super::Config::ports`].
    pub port: usize,
}

pub(super) struct RouteDraft {
    prefix: Spanned<IpNet>,
    via: Option<Spanned<IpAddr>>,
    port: Spanned<Name>,
}

/// Reads one route; `None` when it is too wrong to check against others.
pub(super) fn read_route(mut section: Section<'_>) -> Option<RouteDraft> {
    let prefix = section.required("prefix", value::prefix);
    let via = section.optional("via", value::next_hop);
    let port = section.required("port", value::name);
    section.close();
    Some(RouteDraft { prefix: prefix?, via, port: port? })
}

/// Finds each route's port and checks its next hop against the port's networks. A route is placed
/// where its prefix stands.
pub(super) fn resolve(
    drafts: Vec<RouteDraft>,
    ports: &[PortDraft],
    findings: &Findings,
) -> Vec<Spanned<Route>> {
    let mut routes = Vec::with_capacity(drafts.len());
    let mut seen: std::collections::HashMap<IpNet, std::ops::Range<usize>> = connected(ports);
    for draft in drafts {
        let prefix = *draft.prefix.get_ref();
        if let Some(first) = seen.insert(prefix, draft.prefix.span()) {
            let title = format!("{prefix} is there twice");
            let finding = Finding::error(draft.prefix.span(), title, "again here").over_the_whole();
            findings.push(finding.context(first, "first here"));
        }
        let Some(port) = find_port(&draft.port, ports, findings) else { continue };
        let via = draft.via.as_ref();
        let family_of = Some(prefix.addr());
        if let Some(finding) = via.and_then(|via| via_problem(family_of, via, &ports[port])) {
            findings.push(finding.over_the_whole());
        }
        let route = Route { prefix, via: draft.via.map(Spanned::into_inner), port };
        routes.push(Spanned::new(draft.prefix.span(), route));
    }
    routes
}

fn connected(ports: &[PortDraft]) -> std::collections::HashMap<IpNet, std::ops::Range<usize>> {
    let addresses =
        ports.iter().flat_map(|draft| draft.port.addresses.iter().zip(&draft.address_spans));
    addresses.map(|(address, span)| (address.trunc(), span.clone())).collect()
}

pub(super) fn find_port(
    name: &Spanned<Name>,
    ports: &[PortDraft],
    findings: &Findings,
) -> Option<usize> {
    let found = ports.iter().position(|draft| draft.port.name == *name.get_ref());
    if found.is_none() {
        let title = format!("no port is called {}", name.get_ref());
        let finding = Finding::error(name.span(), title, "not among the ports").over_the_whole();
        let names: Vec<&str> = ports.iter().map(|draft| draft.port.name.as_str()).collect();
        findings.push(suggest(finding, name.get_ref().as_str(), &names));
    }
    found
}

/// Why a next hop cannot be reached through the port, if so, or not have packets of the family of an
/// address. IPv6 link-local addresses are on every
/// link (RFC 4291 section 2.5.6).
pub(super) fn via_problem(
    family_of: Option<IpAddr>,
    via: &Spanned<IpAddr>,
    draft: &PortDraft,
) -> Option<Finding> {
    let (address, name) = (*via.get_ref(), &draft.port.name);
    if family_of.is_some_and(|other| other.is_ipv4() != address.is_ipv4()) {
        let title = "the next hop is of another family than what is sent there";
        return Some(Finding::error(via.span(), title, "IPv4 or IPv6, as that"));
    }
    if draft.port.addresses.iter().any(|own| own.addr() == address) {
        let title = format!("the next hop {address} is this router itself");
        return Some(Finding::error(via.span(), title, "an address of the port"));
    }
    if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        return None;
    }
    let Some(net) = draft.port.addresses.iter().find(|net| net.contains(&address)) else {
        let title = format!("the next hop {address} is on no network of port {name}");
        let finding = Finding::error(via.span(), title, "not reachable there");
        let nets: Vec<String> =
            draft.port.addresses.iter().map(|net| net.trunc().to_string()).collect();
        return Some(finding.help(match nets.is_empty() {
            true => format!("give port {name} an address on the next hop's network"),
            false => format!("networks of port {name}: {}", nets.join(", ")),
        }));
    };
    value::host_problem(address, net)
        .map(|problem| Finding::error(via.span(), "bad next hop", problem))
}
