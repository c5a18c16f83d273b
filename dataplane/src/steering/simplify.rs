//! Makes a list of rules shorter without changing what it says.

use weir_state_transfer::{BUCKETS, BucketSet, InstanceId};

use super::rule::Rule;

/// Removes from the rules, of which the first match wins and which stand before `base`, what
/// makes no difference.
pub(super) fn simplify(rules: &mut Vec<Rule>, base: &[InstanceId; BUCKETS]) {
    // Every step that changes anything makes the size smaller, so that the loop ends.
    let size = |rules: &[Rule]| -> (usize, usize) {
        (rules.len(), rules.iter().map(|rule| rule.buckets().len()).sum())
    };
    let mut before = None;
    while before != Some(size(rules)) {
        before = Some(size(rules));
        drop_shadowed(rules);
        drop_redundant(rules, base);
        merge(rules);
    }
}

/// The buckets that `base` gives to an instance.
pub(super) fn owned(base: &[InstanceId; BUCKETS], instance: InstanceId) -> BucketSet {
    BucketSet::of(|bucket| base[bucket.index()] == instance)
}

/// Takes from each rule the buckets for which an earlier one takes all of its flows.
fn drop_shadowed(rules: &mut Vec<Rule>) {
    for later in 1..rules.len() {
        let (earlier, rest) = rules.split_at_mut(later);
        let rule = &mut rest[0];
        for earlier in earlier.iter().filter(|earlier| earlier.covers(rule)).collect::<Vec<_>>() {
            *rule.buckets_mut() = rule.buckets().minus(earlier.buckets());
        }
    }
    rules.retain(|rule| !rule.buckets().is_empty());
}

/// Takes from each rule the buckets for which the rest of the list says the same.
fn drop_redundant(rules: &mut Vec<Rule>, base: &[InstanceId; BUCKETS]) {
    // From the back, since what is left of a rule decides about those before it.
    for index in (0..rules.len()).rev() {
        let (rule, later) = rules[index..].split_first().expect("index < len");
        // Buckets whose flows the rules looked at so far may leave to the next.
        let mut open = rule.buckets().clone();
        let mut same = BucketSet::empty();
        for next in later.iter().filter(|next| !next.is_apart_from(rule)) {
            if next.to() != rule.to() {
                open = open.minus(next.buckets());
            } else if next.covers(rule) {
                same = same.union(&open.intersection(next.buckets()));
                open = open.minus(next.buckets());
            }
        }
        same = same.union(&open.intersection(&owned(base, rule.to())));
        let buckets = rules[index].buckets_mut();
        *buckets = buckets.minus(&same);
    }
    rules.retain(|rule| !rule.buckets().is_empty());
}

/// Joins rules that differ in buckets only, where no rule between them objects.
fn merge(rules: &mut Vec<Rule>) {
    let mut index = 0;
    while index < rules.len() {
        let rule = &rules[index];
        let twin = (index + 1..rules.len()).find(|&other| {
            let (twin, between) = (&rules[other], &rules[index + 1..other]);
            twin.to() == rule.to()
                && twin.covers(rule)
                && rule.covers(twin)
                && (may_pass(twin, between) || may_pass(rule, between))
        });
        let Some(twin) = twin else {
            index += 1;
            continue;
        };
        let between = &rules[index + 1..twin];
        // The joined rule stands where one of the two stands and the other may go.
        let (keep, drop) =
            if may_pass(&rules[twin], between) { (index, twin) } else { (twin, index) };
        *rules[keep].buckets_mut() = rules[keep].buckets().union(rules[drop].buckets());
        rules.remove(drop);
    }
}

/// Whether the rule may stand on either side of the others.
fn may_pass(rule: &Rule, others: &[Rule]) -> bool {
    others.iter().all(|other| {
        other.to() == rule.to()
            || !other.buckets().intersects(rule.buckets())
            || other.is_apart_from(rule)
    })
}
