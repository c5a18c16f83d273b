//! How packets are led from one network function to another: which policy routes of the data plane hold
//! them, lead them there, and lead them back.

use weir_api::dataplane::v1::{NextHop, PolicyRoute};
use weir_state_transfer::{Filter, StateFilter, filter::Endpoint};

use crate::config::{Leg, NfProcess, Translates};

/// Policy routes of a data plane at most.
const ROUTES_MAX: usize = weir_api::POLICY_ROUTES_MAX;

/// What is asked of the data plane in a move whose packets it leads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To the source, and held.
    pub held: Vec<PolicyRoute>,
    /// To the destination.
    pub led: Vec<PolicyRoute>,
    /// To the source again.
    pub back: Vec<PolicyRoute>,
    /// Names of those that are there for this move only, until it has led.
    pub added: Vec<String>,
}

/// How far such a move may have come, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadStep {
    /// Packets may be held, and no state has been put.
    Hold,
    /// State may have been put at the destination, and none was deleted.
    Carry,
    /// The destination has all state, and packets may be led there.
    Lead,
    /// All that were held have been led there, and none was lost.
    Led,
}

impl LeadStep {
    const ALL: [(Self, &str); 4] =
        [(Self::Hold, "hold"), (Self::Carry, "carry"), (Self::Lead, "lead"), (Self::Led, "led")];

    /// What it is called where it is written down.
    pub fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(step, _)| *step == self);
        found.expect("the table has a word for each step").1
    }

    /// The one that is called so.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(step, _)| *step)
    }
}

/// Where such a move stands still, for tests: before it ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// writes down that it holds.
    Hold,
    /// holds, which is written down.
    Held,
    /// asks the source whether it has taken all.
    Probe,
    /// carries state.
    Carry,
    /// writes down that it leads.
    Lead,
    /// leads, which is written down.
    Led,
    /// deletes at the source.
    Delete,
    /// forgets what is written down.
    End,
}

impl Stage {
    /// All of them, with the words that they are named by.
    pub const ALL: [(Self, &str); 8] = [
        (Self::Hold, "hold"),
        (Self::Held, "held"),
        (Self::Probe, "probe"),
        (Self::Carry, "carry"),
        (Self::Lead, "lead"),
        (Self::Led, "led"),
        (Self::Delete, "delete"),
        (Self::End, "end"),
    ];
}

/// Why packets can not be led.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeadError {
    /// The configuration does not say how packets come to a network function.
    #[error(
        "the configuration has no leg of {0}, so nothing is known of how its packets come to it"
    )]
    NoLegs(String),
    /// A leg has no other end.
    #[error("{to} has no leg {leg} for packets that come in by {from}, as the source has")]
    NoSuchLeg {
        /// The destination.
        to: String,
        /// The leg of the source.
        leg: String,
        /// The port that its packets come in by.
        from: String,
    },
    /// The two directions of a flow would part.
    #[error(
        "the filter is for one direction, and a function knows both: leave symmetric=false out"
    )]
    OneDirection,
    /// A field that no packet of the data plane can be compared by.
    #[error("the filter names what the data plane does not see of a packet: {0}")]
    NotOfPackets(&'static str),
    /// Packets have other addresses at the other side of the function.
    #[error("{nf} translates, and {field} may be another at each of its sides")]
    Translated {
        /// The function.
        nf: String,
        /// The field of the filter.
        field: &'static str,
    },
    /// Not all packets that the filter picks go to the source.
    #[error(
        "no policy route leads all that the filter picks, both ways, in by {from}, to leg {leg} of the source"
    )]
    NotLed {
        /// The leg.
        leg: String,
        /// The port.
        from: String,
    },
    /// Some are led elsewhere by a policy that would be overtaken.
    #[error(
        "policy route {policy}, behind one to the source, leads some of what the filter picks elsewhere, in by \
         {from}"
    )]
    LedElsewhere {
        /// The policy.
        policy: String,
        /// The port.
        from: String,
    },
    /// The data plane takes no more policies.
    #[error(
        "the data plane has {there} of at most {ROUTES_MAX} policy routes, and this needs {more} more"
    )]
    NoRoom {
        /// How many it has.
        there: usize,
        /// How many come with the move.
        more: usize,
    },
    /// A policy of the data plane that is not understood.
    #[error("policy route {0} of the data plane is not understood")]
    Unreadable(String),
}

/// Plans to lead what a filter picks from one function to another, beside the policy routes that there
/// are. New ones are named after the operation.
///
/// A new policy stands directly in front of the first that leads some of these packets to the source, so
/// that what is led elsewhere before that stays there. From there on all of them must be led to the
/// source. One that has the same match as that is changed instead.
///
/// # Errors
/// [`LeadError`].
pub fn plan(
    list: &[PolicyRoute],
    (source, destination): (&NfProcess, &NfProcess),
    filter: &StateFilter,
    operation: u64,
) -> Result<Plan, LeadError> {
    let flows = expressible(filter, [source, destination])?;
    let mut plan = Plan::default();
    for legs in legs(source, destination)? {
        plan.add(list, legs, &flows, operation)?;
    }
    let (there, more) = (list.len(), plan.added.len());
    if more > 0 && there + more > ROUTES_MAX {
        return Err(LeadError::NoRoom { there, more });
    }
    Ok(plan)
}

/// The legs of the source, each with that of the destination that packets go to instead.
///
/// # Errors
/// When the configuration does not have them.
pub fn legs<'a>(
    source: &'a NfProcess,
    destination: &'a NfProcess,
) -> Result<Vec<(&'a Leg, &'a Leg)>, LeadError> {
    if source.leg.is_empty() {
        return Err(LeadError::NoLegs(source.name.clone()));
    }
    let both = |leg: &'a Leg| {
        let same = |other: &&Leg| {
            (&other.name, &other.from, other.via.is_ipv4())
                == (&leg.name, &leg.from, leg.via.is_ipv4())
        };
        let to = destination.leg.iter().find(same).ok_or_else(|| LeadError::NoSuchLeg {
            to: destination.name.clone(),
            leg: leg.name.clone(),
            from: leg.from.clone(),
        })?;
        Ok((leg, to))
    };
    source.leg.iter().map(both).collect()
}

/// The next hops of a function's legs.
pub fn next_hops(nf: &NfProcess) -> Vec<NextHop> {
    let hop = |leg: &Leg| NextHop { via: leg.via.to_string(), port: leg.port.clone() };
    nf.leg.iter().map(hop).collect()
}

impl Plan {
    /// The names of those that hold.
    pub fn held_names(&self) -> Vec<String> {
        self.held.iter().map(|route| route.name.clone()).collect()
    }

    fn add(
        &mut self,
        list: &[PolicyRoute],
        (leg, to): (&Leg, &Leg),
        flows: &Filter,
        operation: u64,
    ) -> Result<(), LeadError> {
        // Legs of the other family have no packets of these flows.
        let family = flows.src.prefix.or(flows.dst.prefix).map(|prefix| prefix.is_v4());
        if family.is_some_and(|is_v4| is_v4 != leg.via.is_ipv4()) {
            return Ok(());
        }
        let place = place(list, leg, flows)?;
        let first = &list[place];
        let has_same_match = first.from == leg.from && filter_of(first)? == *flows;
        let (name, before) = if has_same_match {
            (first.name.clone(), String::new())
        } else {
            (format!("move-{operation}-{}", leg.name), first.name.clone())
        };
        let route = |leg: &Leg, holds| PolicyRoute {
            name: name.clone(),
            filter: flows.to_string(),
            both_ways: true,
            from: leg.from.clone(),
            via: leg.via.to_string(),
            port: leg.port.clone(),
            holds,
            before: before.clone(),
            hold_ns: 0,
        };
        self.held.push(route(leg, true));
        self.led.push(route(to, false));
        self.back.push(route(leg, false));
        self.added.extend((!has_same_match).then(|| name.clone()));
        Ok(())
    }
}

/// The flows of a filter that both sides of these functions can be led by.
fn expressible(filter: &StateFilter, nfs: [&NfProcess; 2]) -> Result<Filter, LeadError> {
    let StateFilter { flows, tcp_flags, in_port, .. } = filter;
    if tcp_flags.is_some() {
        return Err(LeadError::NotOfPackets("tcp_flags"));
    }
    if in_port.is_some() {
        return Err(LeadError::NotOfPackets("in_port"));
    }
    if !filter.extras().is_empty() {
        return Err(LeadError::NotOfPackets("what only a network function knows"));
    }
    if !flows.symmetric {
        return Err(LeadError::OneDirection);
    }
    let named = |end: &Endpoint, prefix, ports| match (end.prefix, end.ports) {
        (Some(_), _) => Some(prefix),
        (None, Some(_)) => Some(ports),
        (None, None) => None,
    };
    let (src, dst) = (named(&flows.src, "src", "sport"), named(&flows.dst, "dst", "dport"));
    for nf in nfs {
        let field = match nf.translates {
            Translates::Nothing => None,
            Translates::Source => src,
            Translates::Anything => src.or(dst),
        };
        if let Some(field) = field {
            return Err(LeadError::Translated { nf: nf.name.clone(), field });
        }
    }
    Ok(*flows)
}

/// The place of the first policy that leads some of the flows to a leg.
fn place(list: &[PolicyRoute], leg: &Leg, flows: &Filter) -> Result<usize, LeadError> {
    let is_to_leg =
        |policy: &PolicyRoute| policy.port == leg.port && policy.via.parse() == Ok(leg.via);
    let mut first = None;
    for (place, policy) in list.iter().enumerate() {
        let filter = filter_of(policy)?;
        let family = policy.via.parse::<std::net::IpAddr>().ok().map(|via| via.is_ipv4());
        let is_about = (policy.from.is_empty() || policy.from == leg.from)
            && family.is_none_or(|is_v4| is_v4 == leg.via.is_ipv4())
            && filter.overlaps(flows);
        if !is_about {
            continue;
        }
        if is_to_leg(policy) {
            first.get_or_insert(place);
            if filter.covers(flows) {
                break;
            }
        } else if first.is_some() {
            let (policy, from) = (policy.name.clone(), leg.from.clone());
            return Err(LeadError::LedElsewhere { policy, from });
        } else if filter.covers(flows) {
            break;
        }
    }
    let covered = first.is_some_and(|first| {
        let behind = list[first..].iter().filter(|policy| is_to_leg(policy));
        let mut covers = behind.filter(|policy| policy.from.is_empty() || policy.from == leg.from);
        covers.any(|policy| filter_of(policy).is_ok_and(|filter| filter.covers(flows)))
    });
    first
        .filter(|_| covered)
        .ok_or_else(|| LeadError::NotLed { leg: leg.name.clone(), from: leg.from.clone() })
}

/// Which packets a policy route matches, but for the port that they come in by.
pub(super) fn filter_of(policy: &PolicyRoute) -> Result<Filter, LeadError> {
    let filter: Result<Filter, _> = policy.filter.parse();
    let filter = filter.map_err(|_| LeadError::Unreadable(policy.name.clone()))?;
    Ok(Filter { symmetric: policy.both_ways, ..filter })
}
