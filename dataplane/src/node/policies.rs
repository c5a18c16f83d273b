//! The policy routes of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_api::dataplane::v1 as api;
use weir_state_transfer::Nanos;
use weir_state_transfer::filter::Filter;
use weir_state_transfer::quote::{quoted, shortened};

use super::{Node, NodeError};
use crate::config::Name;
use crate::policy::{POLICIES_MAX, Policies, Policy, PolicyCounters, PolicyId, PolicyMatch};
use crate::route_table::NextHop;
use crate::worker::{Command, PolicyHold, Steered};

/// What the node knows of its policy routes, beside the list that workers have.
#[derive(Debug, Default)]
pub(super) struct PolicyBook {
    next: u64,
    /// Those of the configuration.
    configured: BTreeSet<PolicyId>,
    /// Those that hold for a time: when that is over.
    ends: BTreeMap<PolicyId, Nanos>,
    /// Those whose time was over.
    lapsed: BTreeSet<PolicyId>,
    /// Those that have held: the steering generation from which on they do not.
    released: BTreeMap<PolicyId, u64>,
}

/// A policy route as it is asked for.
struct Draft {
    name: Arc<str>,
    matches: PolicyMatch,
    hop: NextHop,
    holds: bool,
    /// How long; none for no end.
    hold: Option<Duration>,
    before: String,
}

impl PolicyBook {
    /// When the first of those that hold for a time does not any more.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.ends.values().min().copied()
    }
}

impl Node {
    /// Adds policy routes, and changes those that are there.
    ///
    /// # Errors
    ///
    /// When one makes no sense or names what is not there, at the bound, for another match of one that
    /// holds packets, and, if one is to hold, while moves are in progress or a worker leaves. Nothing has
    /// changed then.
    pub fn put_policies(
        &mut self,
        change: &api::Change,
        routes: &[api::PolicyRoute],
        now: Nanos,
    ) -> Result<(), NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(());
        }
        self.check_change(change.generation)?;
        let drafts = routes.iter().map(|route| self.draft(route)).collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = repeated(&drafts) {
            return Err(NodeError::invalid("name", format!("{name} is there twice")));
        }
        let holds = |draft: &Draft| (draft.name.clone(), draft.holds, draft.hold);
        let holds: Vec<_> = drafts.iter().map(holds).collect();
        let list = self.list_with(drafts)?;
        for (name, holds, hold) in holds {
            let Some(policy) = list.iter().find(|policy| policy.name == name) else { continue };
            if holds {
                self.policies.lapsed.remove(&policy.id);
            }
            match hold {
                Some(hold) => _ = self.policies.ends.insert(policy.id, now + hold),
                None => _ = self.policies.ends.remove(&policy.id),
            }
        }
        self.publish_policies(list);
        self.generation += 1;
        self.requests.remember(&change.request_id, 1);
        Ok(())
    }

    /// Has those hold no more whose time is over: who was to end it may be gone.
    pub(super) fn release_late(&mut self, now: Nanos) {
        if self.policies.poll_timeout().is_none_or(|end| now < end) {
            return;
        }
        let mut list = self.steered.policies.list().to_vec();
        let PolicyBook { ends, lapsed, .. } = &mut self.policies;
        let is_late = |policy: &&mut Policy| ends.get(&policy.id).is_some_and(|end| *end <= now);
        for policy in list.iter_mut().filter(is_late) {
            policy.holds = false;
            lapsed.insert(policy.id);
        }
        self.publish_policies(list);
        self.generation += 1;
    }

    /// Adds the policy routes of the configuration, which are there at every start.
    ///
    /// # Errors
    ///
    /// As those of [`Node::put_policies`].
    pub fn add_configured_policies(
        &mut self,
        policies: Vec<(Name, PolicyMatch, NextHop)>,
    ) -> Result<(), NodeError> {
        let drafts = policies.into_iter().map(|(name, matches, hop)| {
            let (name, before) = (Arc::<str>::from(name.as_str()), String::new());
            Draft { name, matches, hop, holds: false, hold: None, before }
        });
        let drafts: Vec<_> = drafts.collect();
        let names: BTreeSet<_> = drafts.iter().map(|draft| draft.name.clone()).collect();
        let list = self.list_with(drafts)?;
        let configured = list.iter().filter(|policy| names.contains(&policy.name));
        self.policies.configured.extend(configured.map(|policy| policy.id));
        self.publish_policies(list);
        Ok(())
    }

    /// Removes policy routes.
    ///
    /// # Errors
    ///
    /// When one is not there, or holds packets. Nothing has changed then.
    pub fn remove_policies(
        &mut self,
        change: &api::Change,
        names: &[String],
    ) -> Result<(), NodeError> {
        if self.requests.answer(&change.request_id).is_some() {
            return Ok(());
        }
        self.check_change(change.generation)?;
        for name in names {
            let mut policies = self.steered.policies.list().iter();
            let found = policies.find(|policy| *policy.name == **name);
            let policy = found.ok_or_else(|| NodeError::no("policy", shortened(name)))?;
            if self.may_hold(policy.id) {
                return Err(holds(policy));
            }
        }
        let stays = |policy: &&Policy| !names.iter().any(|name| **name == *policy.name);
        let list = self.steered.policies.list().iter().filter(stays).cloned().collect();
        self.publish_policies(list);
        self.generation += 1;
        self.requests.remember(&change.request_id, 1);
        Ok(())
    }

    /// The policy routes, as the API shows them.
    pub fn list_policies(&self) -> api::ListPolicyRoutesResponse {
        let routes = self.steered.policies.list().iter().map(|policy| {
            let PolicyMatch { filter, from } = policy.matches;
            let port = |id| self.ports.get(&id).map(|port| port.name.clone()).unwrap_or_default();
            let route = api::PolicyRoute {
                name: policy.name.to_string(),
                filter: Filter { symmetric: true, ..filter }.to_string(),
                both_ways: filter.symmetric,
                from: from.map(port).unwrap_or_default(),
                via: policy.hop.via.map(|via| via.to_string()).unwrap_or_default(),
                port: port(policy.hop.port),
                holds: policy.holds,
                before: String::new(),
                hold_ns: 0,
            };
            let totals = policy.counters.totals();
            api::PolicyRouteState {
                route: Some(route),
                packets: totals.packets,
                bytes: totals.bytes,
                holding: totals.holding,
                overflow: totals.overflow,
                configured: self.policies.configured.contains(&policy.id),
                undelivered: totals.undelivered,
                lapsed: self.policies.lapsed.contains(&policy.id),
            }
        });
        let adopted = self.reached() >= self.steered.generation;
        api::ListPolicyRoutesResponse { routes: routes.collect(), adopted }
    }

    /// What a policy route holds must not change hands, and new workers have nothing to hold it in.
    pub(super) fn check_nothing_held(&self) -> Result<(), NodeError> {
        let holder = self.steered.policies.list().iter().find(|policy| self.may_hold(policy.id));
        holder.map_or(Ok(()), |policy| Err(holds(policy)))
    }

    /// Whether packets wait for a policy, or may before all workers have heard that it does not hold.
    /// What workers were told counts, not what they are about to be told.
    fn may_hold(&self, id: PolicyId) -> bool {
        let mut told = self.steered.policies.list().iter();
        let Some(policy) = told.find(|policy| policy.id == id) else { return false };
        let released = self.policies.released.get(&id);
        policy.holds
            || policy.counters.totals().holding > 0
            || released.is_some_and(|generation| self.reached() < *generation)
    }

    /// The steering generation that all workers have reached.
    fn reached(&self) -> u64 {
        self.workers.values().map(|handle| handle.steers).min().unwrap_or(0)
    }

    /// The list with these in it.
    fn list_with(&mut self, drafts: Vec<Draft>) -> Result<Vec<Policy>, NodeError> {
        let mut list = self.steered.policies.list().to_vec();
        let mut begins_to_hold = false;
        // Those that match other packets than before.
        let mut others = BTreeSet::new();
        for draft in drafts {
            let Draft { name, matches, hop, holds: to_hold, hold: _, before } = draft;
            if let Some(policy) = list.iter_mut().find(|policy| policy.name == name) {
                let is_v4 = |hop: NextHop| hop.via.map(|via| via.is_ipv4());
                if policy.matches != matches || is_v4(policy.hop) != is_v4(hop) {
                    if self.may_hold(policy.id) {
                        return Err(holds(policy));
                    }
                    others.insert(policy.id);
                }
                begins_to_hold |= to_hold && !policy.holds;
                (policy.matches, policy.hop, policy.holds) = (matches, hop, to_hold);
                continue;
            }
            if list.len() == POLICIES_MAX {
                let (what, hint) = ("the number of policy routes", "remove one");
                return Err(NodeError::Exhausted { what, bound: POLICIES_MAX, hint });
            }
            let place = match before.as_str() {
                "" => list.len(),
                before => list
                    .iter()
                    .position(|policy| *policy.name == *before)
                    .ok_or_else(|| NodeError::no("policy", shortened(before)))?,
            };
            begins_to_hold |= to_hold;
            let id = PolicyId(self.policies.next);
            self.policies.next += 1;
            others.insert(id);
            let counters = Arc::new(PolicyCounters::new(self.limits.workers_max));
            list.insert(place, Policy { id, name, matches, hop, holds: to_hold, counters });
        }
        self.check_nothing_overtaken(&list, &others)?;
        if begins_to_hold {
            // Flows that move from worker to worker would not find what is held of them.
            self.check_no_moves()?;
            self.check_nobody_leaves()?;
        }
        Ok(list)
    }

    /// What a policy behind one of `others` holds must not be overtaken by what that matches from now on.
    fn check_nothing_overtaken(
        &self,
        list: &[Policy],
        others: &BTreeSet<PolicyId>,
    ) -> Result<(), NodeError> {
        for (place, policy) in list.iter().enumerate() {
            let behind = &list[place + 1..];
            if others.contains(&policy.id)
                && let Some(overtaken) =
                    behind.iter().find(|behind| policy.overlaps(behind) && self.may_hold(behind.id))
            {
                return Err(holds(overtaken));
            }
        }
        Ok(())
    }

    /// Has all workers go by a list.
    fn publish_policies(&mut self, list: Vec<Policy>) {
        let next = self.steered.generation + 1;
        let before = self.steered.policies.clone();
        for policy in before.list().iter().filter(|policy| policy.holds) {
            let after = list.iter().find(|after| after.id == policy.id);
            if after.is_some_and(|after| !after.holds) {
                self.policies.released.insert(policy.id, next);
            }
        }
        let is_there = |id: &PolicyId| list.iter().any(|policy| policy.id == *id);
        self.policies.released.retain(|id, _| is_there(id));
        self.policies.configured.retain(is_there);
        self.policies.lapsed.retain(is_there);
        self.policies
            .ends
            .retain(|id, _| list.iter().any(|policy| policy.id == *id && policy.holds));
        if list.iter().any(|policy| policy.holds) {
            let hold = self.limits.hold;
            for worker in self.workers.values_mut().filter(|worker| !worker.has_hold) {
                worker.has_hold = true;
                worker.command(Command::HoldIn(PolicyHold::new(hold)));
            }
        }
        let policies: Policies = before.next(list);
        let Steered { steering, workers, .. } = &*self.steered;
        let (steering, workers) = (steering.clone(), *workers);
        let steered = Steered { steering, workers, policies: Arc::new(policies), generation: next };
        self.steer_by(steered, &[]);
    }

    fn draft(&self, route: &api::PolicyRoute) -> Result<Draft, NodeError> {
        let name: Name = route.name.parse().map_err(|why| NodeError::invalid("name", why))?;
        let filter = parse_filter(&route.filter, route.both_ways)?;
        let port = |field, name: &str| {
            let found = self.port_id(name);
            let none = || NodeError::invalid(field, format!("there is no port {}", quoted(name)));
            found.ok_or_else(none)
        };
        let from = match route.from.as_str() {
            "" => None,
            from => Some(port("from", from)?),
        };
        let out = port("port", &route.port)?;
        let prefix = filter.src.prefix.or(filter.dst.prefix);
        let family_of: Option<IpAddr> = prefix.map(|prefix| prefix.address());
        let via = match route.via.as_str() {
            "" if route.holds => {
                let reason = "is missing: only what goes to one next hop can be held";
                return Err(NodeError::invalid("via", reason));
            }
            "" => None,
            via => Some(self.parse_next_hop(via, family_of, &route.port)?),
        };
        Ok(Draft {
            name: name.as_str().into(),
            matches: PolicyMatch { filter, from },
            hop: NextHop { port: out, via },
            holds: route.holds,
            hold: Some(route.hold_ns)
                .filter(|hold| route.holds && *hold > 0)
                .map(Duration::from_nanos),
            before: route.before.clone(),
        })
    }
}

fn parse_filter(text: &str, both_ways: bool) -> Result<Filter, NodeError> {
    let filter: Result<Filter, _> = if text.is_empty() { "any" } else { text }.parse();
    let filter = filter.map_err(|why| NodeError::invalid("filter", why))?;
    Ok(Filter { symmetric: both_ways, ..filter })
}

/// A name that two have.
fn repeated(drafts: &[Draft]) -> Option<&str> {
    let mut names = BTreeSet::new();
    drafts.iter().map(|draft| &*draft.name).find(|name| !names.insert(*name))
}

fn holds(policy: &Policy) -> NodeError {
    let reason = "holds packets: let it lead somewhere and wait until they have left";
    NodeError::precondition(format!("policy {}", policy.name), reason)
}
