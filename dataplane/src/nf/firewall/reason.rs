//! Verdicts of the firewall, and why it drops.

use crate::nf::connection::Invalid;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It does not. Its sender is told so if [`Reason::is_answered`].
    Drop(Reason),
}

/// Why the firewall drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It belongs to no connection, or does not fit in the one that it names.
    Invalid(Invalid),
    /// It would begin a connection that no rule is about.
    NoRule,
    /// It would begin a connection that a rule drops.
    RuleDrop,
    /// It would begin a connection that a rule rejects.
    RuleReject,
    /// Its source has as many open connections as it may have.
    SourceConnections,
    /// Its source begins connections too fast.
    SourceRate,
    /// There are as many sources as are kept count of.
    SourcesFull,
}

impl Reason {
    /// How many there are: the length of an array of counters.
    pub const COUNT: usize = Invalid::COUNT + OWN.len();

    /// Every reason, each at the place of its number.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..Self::COUNT).map(|place| match Invalid::ALL.get(place) {
            Some(invalid) => Self::Invalid(*invalid),
            None => OWN[place - Invalid::COUNT],
        })
    }

    /// Its name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid(invalid) => invalid.name(),
            Self::NoRule => "no_rule",
            Self::RuleDrop => "rule_drop",
            Self::RuleReject => "rule_reject",
            Self::SourceConnections => "source_connections",
            Self::SourceRate => "source_rate",
            Self::SourcesFull => "sources_full",
        }
    }

    /// The place of its counter, under [`Reason::COUNT`].
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Invalid(invalid) => invalid as usize,
            Self::NoRule => Invalid::COUNT,
            Self::RuleDrop => Invalid::COUNT + 1,
            Self::RuleReject => Invalid::COUNT + 2,
            Self::SourceConnections => Invalid::COUNT + 3,
            Self::SourceRate => Invalid::COUNT + 4,
            Self::SourcesFull => Invalid::COUNT + 5,
        }
    }

    /// Whether the sender is told, whatever the protocol, by an ICMP error "administratively
    /// prohibited" (RFC 1812, section 5.2.7.1; RFC 4443, section 3.1).
    pub fn is_answered(self) -> bool {
        self == Self::RuleReject
    }
}

impl From<Invalid> for Reason {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// The reasons that are not about connections, in the order of their numbers.
const OWN: [Reason; 6] = [
    Reason::NoRule,
    Reason::RuleDrop,
    Reason::RuleReject,
    Reason::SourceConnections,
    Reason::SourceRate,
    Reason::SourcesFull,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_stands_at_its_number_and_has_a_name_of_its_own() {
        let mut names = HashSet::new();
        for (place, reason) in Reason::all().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
            assert!(names.insert(reason.name()), "{reason:?}");
        }
        assert_eq!(names.len(), Reason::COUNT);
    }
}
