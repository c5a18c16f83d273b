//! Steering: which instance a flow goes to.
//!
//! An explicit flow wins over the rules, the first rule that matches wins over the rest, and the
//! owner of the flow's bucket gets what is left. A table never changes: a move makes the next one.

mod flow_hash;
mod rule;
mod simplify;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use weir_state_transfer::filter::FilterError;
use weir_state_transfer::{
    BUCKETS, Bucket, BucketSet, Filter, FlowKey, InstanceId, Selection, SteeringHash,
};

pub use flow_hash::FlowHash;
pub use rule::{FILTERS_MAX, Rule};

/// Most rules in a table.
pub const RULES_MAX: usize = 32;

/// Most explicit flows in a table, unless configured otherwise.
pub const FLOWS_MAX_DEFAULT: usize = 65_536;

/// A steering table; a clone shares all of it.
#[derive(Clone, Debug)]
pub struct Steering {
    base: Arc<[InstanceId; BUCKETS]>,
    flows: Arc<HashMap<FlowKey, InstanceId, RandomState>>,
    rules: Arc<[Rule]>,
    /// Bit `i` of a bucket is set where rule `i` says something about it.
    rules_of_bucket: Arc<[u32; BUCKETS]>,
    /// Whether there is nothing but the base.
    plain: bool,
    generation: u64,
    flows_max: usize,
    hash: Arc<SteeringHash>,
}

impl Steering {
    /// The table of generation 0, in which one instance owns every flow; it takes up to
    /// `flows_max` explicit flows.
    pub fn new(hash: SteeringHash, owner: InstanceId, flows_max: usize) -> Self {
        Self {
            base: Arc::new([owner; BUCKETS]),
            flows: Arc::default(),
            rules: Arc::default(),
            rules_of_bucket: Arc::new([0; BUCKETS]),
            plain: true,
            generation: 0,
            flows_max,
            hash: Arc::new(hash),
        }
    }

    /// The owner of a flow; `hash` is its [`SteeringHash`].
    #[inline]
    pub fn owner(&self, key: &FlowKey, hash: u32) -> InstanceId {
        let bucket = Bucket::of(hash);
        if self.plain {
            return self.base[bucket.index()];
        }
        match self.flows.get(key) {
            Some(owner) => *owner,
            None => self.owner_by_rule(key, bucket),
        }
    }

    /// The owner of a flow whose hash is not at hand.
    pub fn owner_of(&self, key: &FlowKey) -> InstanceId {
        self.owner(key, self.hash.hash(key))
    }

    /// The next table, in which the flows that `from` owns and that are selected go to `to`, and
    /// all others stay where they are.
    ///
    /// # Errors
    /// When the filter contradicts itself or the table would exceed a bound.
    pub fn moved(
        &self,
        selection: &Selection,
        from: InstanceId,
        to: InstanceId,
    ) -> Result<Self, SteeringError> {
        match selection {
            Selection::Buckets(buckets) => self.buckets_moved(buckets, from, to),
            Selection::Filter(filter) => {
                filter.check()?;
                match filter.exact() {
                    _ if filter.is_any() => self.buckets_moved(&BucketSet::all(), from, to),
                    Some(key) if filter.symmetric => {
                        self.flows_moved(&[key, key.reversed()], from, to)
                    }
                    Some(key) => self.flows_moved(&[key], from, to),
                    None => self.filter_moved(filter, from, to),
                }
            }
        }
    }

    /// Number of moves that led to this table.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The hash that divides flows into buckets.
    pub fn hash(&self) -> &SteeringHash {
        &self.hash
    }

    /// The buckets that an instance owns, but for rules and explicit flows.
    pub fn owned_buckets(&self, instance: InstanceId) -> BucketSet {
        simplify::owned(&self.base, instance)
    }

    /// The rules, the first match of which wins; at most [`RULES_MAX`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The explicit flows with their owners, in no order.
    pub fn flows(&self) -> impl ExactSizeIterator<Item = (&FlowKey, InstanceId)> {
        self.flows.iter().map(|(key, owner)| (key, *owner))
    }

    /// Whether buckets alone decide.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether any flow could go to the instance.
    pub fn mentions(&self, instance: InstanceId) -> bool {
        self.base.contains(&instance)
            || self.rules.iter().any(|rule| rule.to() == instance)
            || self.flows.values().any(|owner| *owner == instance)
    }

    #[inline]
    fn owner_by_rule(&self, key: &FlowKey, bucket: Bucket) -> InstanceId {
        let mut candidates = self.rules_of_bucket[bucket.index()];
        while candidates != 0 {
            let rule = &self.rules[candidates.trailing_zeros() as usize];
            if rule.matches(key) {
                return rule.to();
            }
            candidates &= candidates - 1;
        }
        self.base[bucket.index()]
    }

    fn flows_moved(
        &self,
        keys: &[FlowKey],
        from: InstanceId,
        to: InstanceId,
    ) -> Result<Self, SteeringError> {
        let mut next = Self { generation: self.generation + 1, ..self.clone() };
        for key in keys.iter().filter(|key| from != to && self.owner_of(key) == from) {
            let flows = Arc::make_mut(&mut next.flows);
            if self.owner_by_rule(key, self.hash.bucket(key)) == to {
                flows.remove(key);
            } else {
                flows.insert(*key, to);
            }
        }
        next.checked()
    }

    fn buckets_moved(
        &self,
        buckets: &BucketSet,
        from: InstanceId,
        to: InstanceId,
    ) -> Result<Self, SteeringError> {
        let mut rules = Vec::new();
        for rule in self.rules.iter() {
            let moving = rule.buckets().intersection(buckets);
            if rule.to() == from && !moving.is_empty() {
                rules.push(rule.with(rule.buckets().minus(&moving), from));
                rules.push(rule.with(moving, to));
            } else {
                rules.push(rule.clone());
            }
        }
        let mut base = Arc::clone(&self.base);
        let moving = buckets.intersection(&self.owned_buckets(from));
        if !moving.is_empty() {
            let base = Arc::make_mut(&mut base);
            moving.iter().for_each(|bucket| base[bucket.index()] = to);
        }
        let moves = |key: &FlowKey| buckets.contains(self.hash.bucket(key));
        self.next(base, rules, |key, owner| if owner == from && moves(key) { to } else { owner })
    }

    fn filter_moved(
        &self,
        filter: &Filter,
        from: InstanceId,
        to: InstanceId,
    ) -> Result<Self, SteeringError> {
        let mut rules = Vec::new();
        for rule in self.rules.iter() {
            if rule.to() == from {
                rules.extend(rule.narrowed(*filter, to)?);
            }
            rules.push(rule.clone());
        }
        rules.push(Rule::new(*filter, self.owned_buckets(from), to));
        let base = Arc::clone(&self.base);
        self.next(
            base,
            rules,
            |key, owner| {
                if owner == from && filter.matches(key) { to } else { owner }
            },
        )
    }

    /// The table with these parts in their shortest form, and with new owners for the explicit
    /// flows.
    fn next(
        &self,
        base: Arc<[InstanceId; BUCKETS]>,
        mut rules: Vec<Rule>,
        owner: impl Fn(&FlowKey, InstanceId) -> InstanceId,
    ) -> Result<Self, SteeringError> {
        simplify::simplify(&mut rules, &base);
        let mut rules_of_bucket = [0; BUCKETS];
        if rules.len() <= RULES_MAX {
            for (index, rule) in rules.iter().enumerate() {
                let bit = 1 << index;
                rule.buckets().iter().for_each(|bucket| rules_of_bucket[bucket.index()] |= bit);
            }
        }
        let mut next = Self {
            base,
            rules: rules.into(),
            rules_of_bucket: Arc::new(rules_of_bucket),
            generation: self.generation + 1,
            ..self.clone()
        };
        if next.rules.len() <= RULES_MAX && !self.flows.is_empty() {
            let flows = self.flows.iter().map(|(key, old)| (*key, owner(key, *old)));
            let differs = |(key, owner): &(FlowKey, InstanceId)| {
                next.owner_by_rule(key, self.hash.bucket(key)) != *owner
            };
            next.flows = Arc::new(flows.filter(differs).collect());
        }
        next.checked()
    }

    fn checked(mut self) -> Result<Self, SteeringError> {
        if self.rules.len() > RULES_MAX {
            return Err(SteeringError::TooManyRules);
        }
        if self.flows.len() > self.flows_max {
            return Err(SteeringError::TooManyFlows { most: self.flows_max });
        }
        self.plain = self.rules.is_empty() && self.flows.is_empty();
        Ok(self)
    }
}

/// Why flows cannot be moved; the table stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SteeringError {
    /// No flow can match the filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The table has no room for the rules that it takes.
    #[error(
        "the move takes more than {RULES_MAX} steering rules: move whole buckets, or first move \
         back flows that were moved by filter"
    )]
    TooManyRules,
    /// Too many moves by filter stack up on the same flows.
    #[error(
        "the move combines more than {FILTERS_MAX} filters in a steering rule: move whole \
         buckets, or first move back flows that overlapping filters moved"
    )]
    TooManyFilters,
    /// The table has no room for one more explicit flow.
    #[error(
        "the steering table is full with {most} explicit flows: move them by a prefix or by \
         buckets, or raise the bound in the configuration"
    )]
    TooManyFlows {
        /// The bound.
        most: usize,
    },
}
