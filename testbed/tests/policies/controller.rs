//! Who leads flows from one network function to another, and how careful it is.

use weir_api::dataplane::v1 as api;
use weir_testbed::memory_node::host;

use crate::world::IN;

/// How careful a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// It holds, waits until all that was sent is processed, and so what came of it, and releases.
    Full,
    /// It leads elsewhere at once.
    NoHold,
    /// It holds, and releases at once.
    NoWait,
    /// It holds, and releases when the function has answered, whatever has come of what it was sent.
    OnlyAnswers,
    /// It is careful, and what workers say of what they have taken overtakes that in the rings.
    EarlyMarkers,
}

impl Care {
    /// Whether what it lacks shows only where workers wait for each other.
    pub(crate) fn lacks_little(self) -> bool {
        matches!(self, Self::OnlyAnswers | Self::EarlyMarkers)
    }
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
    /// It holds, and not all workers may. The network function is asked by this name.
    Held(u64),
    /// All do; the network function has processed all that it was sent.
    Processed,
    /// It leads elsewhere, and not all that was held may have left.
    Released,
}

impl Lead {
    /// The policy route as it is asked for.
    pub(crate) fn route(&self, holds: bool) -> api::PolicyRoute {
        let (first, last) = (self.sports.start(), self.sports.end());
        let api::NextHop { via, port } = self.hop();
        api::PolicyRoute {
            name: self.name.clone(),
            filter: format!("proto=udp,sport={first}-{last}"),
            from: format!("sap{IN}"),
            via,
            port,
            holds,
            ..api::PolicyRoute::default()
        }
    }

    /// Where it leads to.
    pub(crate) fn hop(&self) -> api::NextHop {
        api::NextHop { via: host(self.to).to_string(), port: format!("sap{}", self.to) }
    }
}

/// Whether a question has been answered, so far as a controller cares.
pub(crate) fn is_answered(care: Care, unanswered: &[api::Unanswered]) -> bool {
    match care {
        Care::NoWait => true,
        Care::OnlyAnswers => unanswered.iter().all(|one| one.next_hop.is_none()),
        Care::Full | Care::NoHold | Care::EarlyMarkers => unanswered.is_empty(),
    }
}
