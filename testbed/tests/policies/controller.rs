//! Who leads flows from one network function to another, and how careful it is.

use weir_api::dataplane::v1 as api;
use weir_testbed::memory_node::host;

/// How careful a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// It holds, waits until all that was sent is processed, and releases.
    Full,
    /// It leads elsewhere at once.
    NoHold,
    /// It holds, and releases at once.
    NoWait,
}

/// A policy route, and how far it is on its way to somewhere else.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) name: String,
    /// Source ports of its flows.
    pub(crate) sports: std::ops::RangeInclusive<u16>,
    /// The port of the network function that it leads to.
    pub(crate) to: u8,
    pub(crate) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It leads to where it does.
    Steady,
    /// It holds, and not all workers may.
    Held,
    /// All do; the network function has processed all that it was sent.
    Processed,
    /// It leads elsewhere, and not all that was held may have left.
    Released,
}

impl Lead {
    /// The policy route as it is asked for.
    pub(crate) fn route(&self, holds: bool) -> api::PolicyRoute {
        let (first, last) = (self.sports.start(), self.sports.end());
        api::PolicyRoute {
            name: self.name.clone(),
            filter: format!("proto=udp,sport={first}-{last}"),
            via: host(self.to).to_string(),
            port: format!("sap{}", self.to),
            holds,
            ..api::PolicyRoute::default()
        }
    }
}
