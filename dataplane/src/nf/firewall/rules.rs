//! Rules: which connections may begin.

use std::fmt;
use std::str::FromStr;

use weir_state_transfer::StateFilter;
use weir_state_transfer::state_filter::{PacketFields, StateFilterError};

use crate::config::{Name, NameError};

/// Most rules of a firewall: they are tried one after the other.
pub const RULES_MAX: usize = 1024;

/// The rules of a firewall, in their order. Packets of connections that have begun need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// What becomes of connections whose first packet a filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    name: Name,
    action: Action,
    filter: StateFilter,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The connection begins.
    Accept,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped and its sender told.
    Reject,
}

/// Why a rule, or a set of them, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The text has no such parts.
    #[error("expected a rule such as `web: accept dst=10.0.0.0/8,proto=tcp,dport=80`")]
    Form,
    /// What stands before the colon is no name.
    #[error("the name of the rule: {0}")]
    Name(#[from] NameError),
    /// There is no such action.
    #[error("rule {rule}: expected accept, drop or reject, found {found:?}")]
    Action {
        /// The rule.
        rule: Name,
        /// What stands there.
        found: String,
    },
    /// What the rule is about is wrong.
    #[error("rule {rule}: {source}")]
    Filter {
        /// The rule.
        rule: Name,
        /// What is wrong.
        source: StateFilterError,
    },
    /// The filter has a field that is not one of packets, and would match any.
    #[error("rule {rule}: no packet has the field {field}")]
    Field {
        /// The rule.
        rule: Name,
        /// The field.
        field: String,
    },
    /// Two rules have one name, and would share a counter.
    #[error("there are two rules of the name {rule}")]
    Repeated {
        /// The name.
        rule: Name,
    },
    /// There are too many rules.
    #[error("there are {count} rules, and {RULES_MAX} are the most")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Rules {
    /// A firewall with these rules. What none of them is about does not begin.
    ///
    /// # Errors
    /// When there are too many, or two of one name.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            return Err(RuleError::TooMany { count: rules.len() });
        }
        let mut names: Vec<&Name> = rules.iter().map(Rule::name).collect();
        names.sort_unstable();
        if let Some([rule, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(RuleError::Repeated { rule: (*rule).clone() });
        }
        Ok(Self(rules))
    }

    /// The first rule that a packet matches.
    pub fn first_match(&self, packet: &PacketFields<'_>) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.filter.matches(packet))
    }

    /// The rules in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.0.iter()
    }
}

impl Rule {
    /// A rule about the first packets of connections. It has a direction: it matches packets from
    /// the source to the destination, whether the filter is symmetric or not.
    ///
    /// # Errors
    /// When the filter has a field that is not one of packets.
    pub fn new(name: Name, action: Action, mut filter: StateFilter) -> Result<Self, RuleError> {
        if let Some(extra) = filter.extras().first() {
            return Err(RuleError::Field { rule: name, field: extra.name().to_owned() });
        }
        filter.flows.symmetric = false;
        Ok(Self { name, action, filter })
    }

    /// Its name, which its counter has too.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it does.
    pub fn action(&self) -> Action {
        self.action
    }
}

impl Action {
    const ALL: [(Self, &str); 3] =
        [(Self::Accept, "accept"), (Self::Drop, "drop"), (Self::Reject, "reject")];

    fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    /// Parses `NAME: ACTION FILTER`, with a filter as [`StateFilter`] parses it.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (name, rest) = text.split_once(':').ok_or(RuleError::Form)?;
        let (word, filter) = rest.trim().split_once(' ').ok_or(RuleError::Form)?;
        let rule: Name = name.trim().parse()?;
        let Some((action, _)) = Action::ALL.into_iter().find(|(_, name)| *name == word) else {
            return Err(RuleError::Action { rule, found: word.to_owned() });
        };
        match filter.parse() {
            Ok(filter) => Self::new(rule, action, filter),
            Err(source) => Err(RuleError::Filter { rule, source }),
        }
    }
}

impl fmt::Display for Rule {
    /// What parses back to the same rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, self.action.name(), self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Rule, RuleError> {
        text.parse()
    }

    #[test]
    fn what_is_shown_parses_back() {
        for text in ["web: accept dst=10.0.0.0/8,proto=tcp,dport=80", "rest: reject any"] {
            let rule = parsed(text).expect(text);
            assert_eq!(parsed(&rule.to_string()), Ok(rule), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("accept any", "expected a rule such as"),
            ("web: accept", "expected a rule such as"),
            ("Web: accept any", "the name of the rule: a name is 1 to 63"),
            ("web: allow any", "rule web: expected accept, drop or reject, found \"allow\""),
            ("web: drop dport=x", "rule web: dport: expected"),
            ("web: drop http.host=a", "rule web: no packet has the field http.host"),
        ] {
            let error = parsed(text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
        let rule = parsed("a: drop any").expect("a rule");
        let twice = Rules::new(vec![rule.clone(), rule.clone()]);
        assert!(matches!(twice, Err(RuleError::Repeated { .. })));
        let many = (0..=RULES_MAX).map(|n| parsed(&format!("r{n}: drop any")).expect("a rule"));
        assert!(matches!(Rules::new(many.collect()), Err(RuleError::TooMany { .. })));
    }
}
