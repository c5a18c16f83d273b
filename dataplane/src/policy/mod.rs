//! Policy routes: packets that a filter picks leave by a next hop of their own, whatever the routes say.
//!
//! The table is a list, and the first policy that a packet matches decides. It is asked when the next
//! hop of a flow is decided, in front of the route table, and what it says is remembered with the flow
//! until the list changes. A policy may *hold*: what it matches waits at its worker, in order, until it
//! leads somewhere again.

mod counters;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use weir_state_transfer::filter::Filter;
use weir_state_transfer::{FlowKey, PortId};

pub use counters::{PolicyCounters, PolicyTotals};

use crate::route_table::NextHop;

/// Policy routes of a node at most.
pub const POLICIES_MAX: usize = weir_api::POLICY_ROUTES_MAX;

/// The number of a policy route; never used again while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u64);

/// Which packets a policy route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyMatch {
    /// What their flows have to look like. One that is symmetric matches both directions.
    pub filter: Filter,
    /// The port that they have come in by; any when it is left out.
    pub from: Option<PortId>,
}

/// A policy route.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its number.
    pub id: PolicyId,
    /// What people call it.
    pub name: Arc<str>,
    /// Which packets.
    pub matches: PolicyMatch,
    /// Where they go. One with an address is about packets of the family of that.
    pub hop: NextHop,
    /// Whether they wait instead.
    pub holds: bool,
    /// What it has counted; that stays when the policy is changed.
    pub counters: Arc<PolicyCounters>,
}

impl Policy {
    /// Whether some packet may match both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let ports = self.matches.from.zip(other.matches.from);
        let hops = self.hop.via.zip(other.hop.via);
        ports.is_none_or(|(one, two)| one == two)
            && hops.is_none_or(|(one, two)| one.is_ipv4() == two.is_ipv4())
            && self.matches.filter.overlaps(&other.matches.filter)
    }

    /// Whether a packet of a flow that came in by a port matches.
    #[inline]
    fn is_about(&self, key: &FlowKey, came_by: PortId) -> bool {
        self.matches.from.is_none_or(|from| from == came_by)
            && self.hop.via.is_none_or(|via| via.is_ipv4() == key.is_v4())
            && self.matches.filter.matches(key)
    }
}

/// The policy routes of a node, in their order. Workers only read it: a change makes another.
#[derive(Debug, Default)]
pub struct Policies {
    list: Vec<Policy>,
    generation: u32,
    by_port: bool,
}

impl Policies {
    /// The list that comes after this one.
    ///
    /// # Panics
    /// With more than [`POLICIES_MAX`].
    #[must_use]
    pub fn next(&self, list: Vec<Policy>) -> Self {
        assert!(list.len() <= POLICIES_MAX, "whoever makes the list bounds it");
        let by_port = list.iter().any(|policy| policy.matches.from.is_some());
        Self { list, generation: self.generation.wrapping_add(1), by_port }
    }

    /// The policies, the first to be asked in front.
    pub fn list(&self) -> &[Policy] {
        &self.list
    }

    /// The policy that decides for a packet, and its place.
    #[inline]
    pub fn find(&self, key: &FlowKey, came_by: PortId) -> Option<(u8, &Policy)> {
        let place = self.list.iter().position(|policy| policy.is_about(key, came_by))?;
        // The list is short.
        Some((place as u8, &self.list[place]))
    }

    /// The policy at a place.
    #[inline]
    pub fn at(&self, place: u8) -> Option<&Policy> {
        self.list.get(usize::from(place))
    }

    /// What a decision on a packet that came in by a port depends on: it holds as long as this is the
    /// same.
    #[inline]
    pub fn basis(&self, came_by: PortId) -> PolicyBasis {
        PolicyBasis {
            generation: self.generation,
            came_by: if self.by_port { came_by } else { PortId(0) },
        }
    }
}

/// On what a decision was based, of the policy routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyBasis {
    pub(crate) generation: u32,
    pub(crate) came_by: PortId,
}
