//! By which rules two copies of a piece of state become one.

use crate::chunk::Scope;

/// How a part of a piece of state becomes one with another copy of it: what a kind of state
/// declares, so that who copies it knows what comes of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MergeRule {
    /// The whole is replaced, unless what is known is of a later version: state of one flow, which
    /// has one owner.
    Newer,
    /// Of each replica the greater count stays, and the value is their sum: [`super::Counter`], and
    /// [`super::Gauge`], which is two of them.
    Counter,
    /// What was set later stays: [`super::Register`], and parts that begin anew with each window or
    /// refill.
    Register,
    /// The elements of both, and of more than fit those that all choose alike: [`super::Set`].
    Union,
    /// The least stays: [`super::First`].
    Min,
    /// The greatest stays: [`super::Last`], and [`super::Distinct`] in each of its registers.
    Max,
}

impl MergeRule {
    /// Every rule.
    pub const ALL: [Self; 6] =
        [Self::Newer, Self::Counter, Self::Register, Self::Union, Self::Min, Self::Max];

    /// Whether state of a scope may be merged by these rules together: that of one flow is replaced
    /// as a whole, and nothing else is, as several change it at the same time.
    pub fn may_merge(scope: Scope, rules: &[Self]) -> bool {
        match scope {
            Scope::PerFlow => rules == [Self::Newer],
            Scope::MultiFlow | Scope::AllFlows => {
                !rules.is_empty() && !rules.contains(&Self::Newer)
            }
        }
    }
}
