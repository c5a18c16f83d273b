//! `[[control.nf.leg]]`: how the packets of a network function in a process of its own come to it.

use std::{net::IpAddr, ops::Range};

use serde::Deserialize;
use toml::de::DeTable;

use super::{
    NfProcess,
    check::{key_span, suggestion},
    report::Fault,
};

/// Legs of a function at most: two sides, of each family.
pub const LEGS_MAX: usize = 8;
/// Bytes of the name of a leg at most: it is part of that of a policy route.
const NAME_MAX: usize = 32;

/// A next hop by which packets come to a network function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Leg {
    /// Which side it is, 1 to 32 of a-z, 0-9 and `-`: packets are led from a leg of one function to that
    /// of the same name, port and family of another.
    pub name: String,
    /// The port of the data plane that its packets come in by.
    pub from: String,
    /// The address of the function there, which answers echo.
    pub via: IpAddr,
    /// The port of the data plane that leads there.
    pub port: String,
}

/// What of a packet a network function may change, so that its two sides differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Translates {
    /// Addresses and ports stay: a filter may name any.
    Nothing,
    /// Those of who begins: a filter may name where flows go.
    Source,
    /// All: a filter may name the protocol only.
    #[default]
    Anything,
}

/// Legs have names that the data plane can take up in its own, and each side is one.
pub(super) fn check(nf: &NfProcess, place: Range<usize>, faults: &mut Vec<Fault>) {
    let mut fault = |title: String, label: &str, fix: &str| {
        faults.push(Fault::new(place.clone(), title, label).fix(fix));
    };
    for (n, leg) in nf.leg.iter().enumerate() {
        let may_stand =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=NAME_MAX).contains(&leg.name.len())
            && leg.name.bytes().all(may_stand)
            && !leg.name.ends_with('-');
        if !is_name {
            let title = format!("{:?} can not be the name of a leg of {}", leg.name, nf.name);
            fault(title, "not a name", "use 1 to 32 of a-z, 0-9 and `-`, with no `-` at the end");
        }
        let family = |leg: &Leg| leg.via.is_ipv4();
        let same = nf.leg[..n].iter().find(|other| {
            other.name == leg.name || (other.from == leg.from && family(other) == family(leg))
        });
        if let Some(other) = same {
            let title =
                format!("legs {} and {} of {} are the same side", other.name, leg.name, nf.name);
            let fix =
                "give each side, and each family there, a leg with a name and a `from` of its own";
            fault(title, "two of them", fix);
        }
    }
    if nf.leg.len() > LEGS_MAX {
        let title = format!("{} has more than {LEGS_MAX} legs", nf.name);
        fault(title, "too many", "a leg is for each side and family");
    }
}

/// Legs are at ports that the data plane of the same file has, if the file has any.
pub(super) fn check_ports(
    nf: &NfProcess,
    tables: &[&DeTable<'_>],
    ports: &[&str],
    faults: &mut Vec<Fault>,
) {
    for (leg, table) in nf.leg.iter().zip(tables).filter(|_| !ports.is_empty()) {
        for (key, port) in [("from", &leg.from), ("port", &leg.port)] {
            if !ports.contains(&port.as_str()) {
                let title =
                    format!("leg {} of {} names a port that is not there", leg.name, nf.name);
                let fault = Fault::new(key_span(table, key), title, "no such port");
                faults.push(fault.fix(suggestion(port, ports)));
            }
        }
    }
}
