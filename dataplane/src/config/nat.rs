//! What is said of a NAT in its `[[nf]]`: whose addresses it translates, and where services are.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeArray, DeValue};
use weir_state_transfer::{Prefix, protocol};

use super::report::{Finding, Findings};
use super::section::Section;
use super::value::{self, Label};
use crate::nf::connection::TIMEOUT_MAX;
use crate::nf::nat::{
    BACKENDS_MAX, Config, POOL_MAX, Rules, SERVICES_MAX, SOURCES_MAX, Service, SourceRule,
};

/// Reads the rules and time-outs of a NAT.
pub(super) fn read(section: &mut Section<'_>, findings: &Findings) -> Config {
    let sources = section.tables("source", "[[nf.source]]", SOURCES_MAX).into_iter().filter_map(
        |mut table| {
            let from = table.required("from", prefix);
            let to = table.optional("to", prefix).map(Spanned::into_inner);
            let pool = table.required("pool", |value| addresses(value, POOL_MAX));
            let ports = table.or("ports", 1..=u16::MAX, port_range);
            table.close();
            let (from, pool) = (from?.into_inner(), pool?.into_inner());
            Some(SourceRule { from, to, pool, ports })
        },
    );
    let services = section
        .tables("service", "[[nf.service]]", SERVICES_MAX)
        .into_iter()
        .filter_map(|mut table| {
            let address = table.required("address", host);
            let protocol = table.required("proto", value::word(PROTOCOLS));
            let ports = table.required("ports", port_range);
            let backends = table.required("backends", backends);
            table.close();
            Some(Service {
                address: address?.into_inner(),
                protocol: protocol?.into_inner(),
                ports: ports?.into_inner(),
                backends: backends?.into_inner(),
            })
        });
    let place = section.header();
    let rules = Rules::new(sources.collect(), services.collect()).unwrap_or_else(|error| {
        let finding = Finding::error(place, "bad rules in [[nf]]", &error.to_string());
        findings.push(finding.over_the_whole());
        Rules::default()
    });
    let mut config = Config { rules, ..Config::default() };
    let timeouts = &mut config.tracking.timeouts;
    let bounds = value::duration(Duration::from_secs(1)..=TIMEOUT_MAX);
    let udp = section.or("udp_timeout", timeouts.udp_replied, &bounds);
    (timeouts.udp_unreplied, timeouts.udp_replied) = (udp, udp);
    timeouts.icmp = section.or("icmp_timeout", timeouts.icmp, &bounds);
    let established = section.or("established_timeout", timeouts.tcp.established, &bounds);
    timeouts.tcp.established = established;
    let transitory = section.or("transitory_timeout", timeouts.tcp.syn_sent, &bounds);
    config.set_transitory(transitory);
    config.tracking.pick_up =
        section.or("pick_up", false, value::word(&[("on", true), ("off", false)]));
    config
}

const PROTOCOLS: &[(&str, u8)] = &[("tcp", protocol::TCP), ("udp", protocol::UDP)];

fn prefix(value: &DeValue<'_>) -> Result<Prefix, Label> {
    let net: IpNet = value::prefix(value)?;
    Prefix::new(net.addr(), net.prefix_len()).map_err(|error| error.to_string())
}

/// The address of a host, as an external one is.
fn host(value: &DeValue<'_>) -> Result<IpAddr, Label> {
    let address: IpAddr = value::parsed("an address, as in \"192.0.2.1\"")(value)?;
    let problem = value::host_problem(address, &IpNet::from(address));
    problem.map_or(Ok(address), |problem| Err(problem.to_owned()))
}

/// Addresses one by one or in ranges, as in `["192.0.2.1", "192.0.2.8-192.0.2.11"]`.
fn addresses(value: &DeValue<'_>, most: usize) -> Result<Vec<IpAddr>, Label> {
    let wanted = || {
        "expected a list of addresses and ranges, as in [\"192.0.2.1\", \"192.0.2.8-192.0.2.11\"]"
            .to_owned()
    };
    let mut all = Vec::new();
    for element in value.as_array().ok_or_else(wanted)? {
        let text = element.get_ref().as_str().ok_or_else(wanted)?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse(), last.trim().parse());
        let (first, last): (IpAddr, IpAddr) =
            (first.map_err(|_| wanted())?, last.map_err(|_| wanted())?);
        let range = range(first, last, most).ok_or_else(|| {
            format!("{text} is no range of at most {most} addresses, the first of them first")
        })?;
        for address in range {
            if let Some(problem) = value::host_problem(address, &IpNet::from(address)) {
                return Err(format!("{address}: {problem}"));
            }
            if all.contains(&address) {
                return Err(format!("{address} is there twice"));
            }
            all.push(address);
        }
        if all.len() > most {
            return Err(format!("{most} addresses are the most"));
        }
    }
    Ok(all)
}

fn range(first: IpAddr, last: IpAddr, most: usize) -> Option<Vec<IpAddr>> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    if first.is_ipv4() != last.is_ipv4() {
        return None;
    }
    let further = bits(last).checked_sub(bits(first))?;
    let count = usize::try_from(further).ok().filter(|further| *further < most)? + 1;
    let next = |n: usize| match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + n as u32).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + n as u128).into()),
    };
    Some((0..count).map(next).collect())
}

/// A port, or a range of them, as in 80 or "8000-8099".
fn port_range(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Label> {
    if value.as_integer().is_some() {
        return value::count(1..=u16::MAX)(value).map(|port| port..=port);
    }
    let read = || {
        let (first, last) = value.as_str()?.split_once('-')?;
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last).then_some(first..=last)
    };
    read().ok_or_else(|| "expected a port or a range, as in 80 or \"8000-8099\"".to_owned())
}

fn backends(value: &DeValue<'_>) -> Result<Vec<SocketAddr>, Label> {
    let array = value.as_array().filter(|array| array.len() <= BACKENDS_MAX);
    let read = |array: &DeArray<'_>| {
        let backend = |element: &Spanned<DeValue<'_>>| element.get_ref().as_str()?.parse().ok();
        array.iter().map(backend).collect::<Option<Vec<_>>>()
    };
    array.and_then(read).ok_or_else(|| {
        format!(
            "expected a list of at most {BACKENDS_MAX} addresses with ports, as in \
             [\"10.0.1.2:8080\", \"[fd00::2]:8080\"]"
        )
    })
}
