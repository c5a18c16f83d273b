//! Verdicts of a NAT, and why it drops.

use crate::nf::connection::Invalid;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It goes on, rewritten.
    Translate,
    /// It does not go on, and what its bytes are now is not said.
    Drop(Reason),
}

/// Why a NAT drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It belongs to no connection, or does not fit in the one that it names.
    Invalid(Invalid),
    /// It is to an external address, or from one, and of no flow that is translated.
    Unsolicited,
    /// It is between the ends of a translated flow, but not by the names that they have for each
    /// other.
    Bypass,
    /// Whatever it could be translated to is taken.
    Exhausted,
    /// Its protocol is none that can be translated.
    Protocol,
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
            Self::Unsolicited => "unsolicited",
            Self::Bypass => "bypass",
            Self::Exhausted => "exhausted",
            Self::Protocol => "protocol",
        }
    }

    /// The place of its counter, under [`Reason::COUNT`].
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Invalid(invalid) => invalid as usize,
            Self::Unsolicited => Invalid::COUNT,
            Self::Bypass => Invalid::COUNT + 1,
            Self::Exhausted => Invalid::COUNT + 2,
            Self::Protocol => Invalid::COUNT + 3,
        }
    }
}

impl From<Invalid> for Reason {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// The reasons that are not about connections, in the order of their numbers.
const OWN: [Reason; 4] = [Reason::Unsolicited, Reason::Bypass, Reason::Exhausted, Reason::Protocol];

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
