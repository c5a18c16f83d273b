//! What a firewall has done altogether: state of all flows.

use std::collections::BTreeMap;

use weir_state_transfer::chunk::{BodyError, Schema};
use weir_state_transfer::merge::{Counter, Join, Life, Lives, Replica};
use weir_state_transfer::southbound::StateKind;

use super::reason::{Reason, Verdict};
use super::rules::{Rule, Rules};
use crate::config::Name;
use crate::nf::figures::Figures;
use crate::nf::schema::FIREWALL_TOTALS;

/// Counts of packets and connections, of all instances that have told each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets accepted.
    pub accepted: Counter,
    /// Connections that began.
    pub begun: Counter,
    /// Connections that ended.
    pub ended: Counter,
    /// Packets dropped, by [`Reason::index`].
    pub dropped: [Counter; Reason::COUNT],
    /// First packets of connections that matched a rule, by its name.
    pub rules: BTreeMap<Name, Counter>,
}

impl Totals {
    pub(super) fn new(rules: &Rules) -> Self {
        let rules = rules.iter().map(|rule| (rule.name().clone(), Counter::default())).collect();
        Self { rules, ..Self::default() }
    }

    /// Packets dropped for a reason.
    pub fn dropped_for(&self, reason: Reason) -> u64 {
        self.dropped[reason.index()].value()
    }

    /// First packets of connections that matched a rule.
    pub fn matched(&self, rule: &Name) -> u64 {
        self.rules.get(rule).map_or(0, Counter::value)
    }

    /// Takes over what a life that has ended has counted; see [`Counter::take_over`].
    pub fn take_over(&mut self, ended: Life, heir: Replica) {
        for counter in self.counters_mut() {
            counter.take_over(ended, heir);
        }
    }

    /// Lives whose counts have been taken over.
    pub(super) fn retired(&self) -> &Lives {
        self.accepted.retired()
    }

    pub(super) fn count(&mut self, replica: Replica, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Accept => &mut self.accepted,
            Verdict::Drop(reason) => &mut self.dropped[reason.index()],
        };
        counter.add(replica, 1);
    }

    pub(super) fn count_match(&mut self, replica: Replica, rule: &Rule) {
        if let Some(counter) = self.rules.get_mut(rule.name()) {
            counter.add(replica, 1);
        }
    }

    fn counters_mut(&mut self) -> impl Iterator<Item = &mut Counter> {
        let Self { accepted, begun, ended, dropped, rules } = self;
        [accepted, begun, ended].into_iter().chain(dropped).chain(rules.values_mut())
    }
}

impl Figures for Totals {
    const KIND: StateKind = FIREWALL_TOTALS;

    fn read(schema: Schema, bytes: &[u8]) -> Result<Self, BodyError> {
        Self::decode(schema, bytes)
    }

    fn fits(&self) -> bool {
        let Self { accepted, begun, ended, dropped, rules } = self;
        let counters = [accepted, begun, ended].into_iter().chain(dropped).chain(rules.values());
        counters.into_iter().all(Counter::fits)
    }

    fn retires(&self, life: Life) -> bool {
        let Self { accepted, begun, ended, dropped, rules } = self;
        let counters = [accepted, begun, ended].into_iter().chain(dropped).chain(rules.values());
        counters.into_iter().any(|counter| counter.retires(life))
    }
}

impl Join for Totals {
    /// Counters of rules that are not known here are left out.
    fn join(&mut self, other: &Self) {
        self.accepted.join(&other.accepted);
        self.begun.join(&other.begun);
        self.ended.join(&other.ended);
        for (own, other) in self.dropped.iter_mut().zip(&other.dropped) {
            own.join(other);
        }
        for (name, counter) in &mut self.rules {
            if let Some(other) = other.rules.get(name) {
                counter.join(other);
            }
        }
    }
}
