//! What a network function says of itself.

use std::collections::BTreeSet;

use weir_api::nf::v1 as api;
use weir_state_transfer::StateFilter;
use weir_state_transfer::chunk::{Schema, Scope};
use weir_state_transfer::flow_id::Extra;
use weir_state_transfer::merge::MergeRule;
use weir_state_transfer::quote::quoted;
use weir_state_transfer::southbound::{Action, StateKind};

use crate::convert;

/// Kinds of state at most.
const KINDS_MAX: usize = 64;
/// Filter fields of its own at most.
const FIELDS_MAX: usize = 16;
/// Actions that are refused at most.
const ACTIONS_MAX: usize = 3;
/// Merge rules of one kind at most.
const RULES_MAX: usize = 16;
/// Bytes of a name or version at most.
const TEXT_MAX: usize = 64;

/// What a network function is and which state it has. It does not change while it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What it calls itself, 1 to 64 bytes.
    pub name: String,
    /// The version of the program, 64 bytes at most.
    pub version: String,
    /// The kinds of its state, 64 at most.
    pub kinds: Vec<Kind>,
    /// The filter fields that only some network functions know and this one compares; 16 at most.
    pub fields: Vec<String>,
    /// Whether all its state shares one count of updates.
    pub common_versions: bool,
    /// What it can not do with packets: subscriptions with these actions are refused.
    pub refused_actions: Vec<Action>,
    /// Whether filters are compared with other names of a flow than the id of its state too.
    pub other_names: bool,
}

/// A kind of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// How many flows a piece of it applies to.
    pub scope: Scope,
    /// What its chunks are marked with.
    pub schema: Schema,
    /// Its name, for people, 1 to 64 bytes.
    pub name: String,
    /// By which rules its parts are merged; none where it does not say.
    pub merge_rules: Vec<MergeRule>,
}

/// An answer that is not what the API says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Description {
    /// Of a network function with these kinds of state, and without fields of its own.
    pub fn new(name: &str, version: &str, kinds: &[StateKind]) -> Self {
        let kind = |kind: &StateKind| Kind {
            scope: kind.scope,
            schema: kind.schema,
            name: kind.name.to_owned(),
            merge_rules: kind.merge_rules.to_vec(),
        };
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            kinds: kinds.iter().map(kind).collect(),
            ..Self::default()
        }
    }

    /// Whether there is state of that kind.
    pub fn has(&self, scope: Scope, schema: Schema) -> bool {
        self.kinds.iter().any(|kind| (kind.scope, kind.schema) == (scope, schema))
    }

    /// The first field of a filter that only some network functions know and this one does not: no
    /// state of it is compared with that.
    pub fn unknown_field<'a>(&self, filter: &'a StateFilter) -> Option<&'a str> {
        let mut named = filter.extras().iter().map(Extra::name);
        named.find(|name| !self.fields.iter().any(|field| field == name))
    }

    /// The same as the API says it.
    pub fn to_message(&self) -> api::DescribeResponse {
        let rule = |rule: &MergeRule| convert::merge_rule_to(*rule).into();
        let kind = |kind: &Kind| api::StateKind {
            scope: convert::scope_message(kind.scope).into(),
            schema: kind.schema.kind.into(),
            revision: kind.schema.revision.into(),
            name: kind.name.clone(),
            merge_rules: kind.merge_rules.iter().map(rule).collect(),
        };
        api::DescribeResponse {
            name: self.name.clone(),
            version: self.version.clone(),
            kinds: self.kinds.iter().map(kind).collect(),
            fields: self.fields.clone(),
            common_versions: self.common_versions,
            refused_actions: self
                .refused_actions
                .iter()
                .map(|action| convert::action_to(*action).into())
                .collect(),
            other_names: self.other_names,
        }
    }

    /// The description of an answer, if it is within its bounds and says nothing twice.
    pub(crate) fn of_message(message: api::DescribeResponse) -> Result<Self, Malformed> {
        let bad = |what: String| Err(Malformed(what));
        let refused: Vec<_> = message.refused_actions().map(convert::action_of).collect();
        let api::DescribeResponse { name, version, kinds, fields, common_versions, .. } = message;
        if name.is_empty() || name.len() > TEXT_MAX || version.len() > TEXT_MAX {
            return bad("its name must have 1 to 64 bytes, its version 64 at most".to_owned());
        }
        if kinds.len() > KINDS_MAX || fields.len() > FIELDS_MAX {
            return bad("64 kinds of state and 16 filter fields are the most".to_owned());
        }
        if let Some(field) = fields.iter().find(|field| Extra::new(field, "").is_err()) {
            return bad(format!("{} can not be the name of a filter field", quoted(field)));
        }
        let mut known: Vec<Kind> = Vec::new();
        for kind in kinds {
            let kind = Kind::of_message(kind)?;
            // A kind may have several layouts, and is of one scope in all of them.
            let clash = known.iter().find(|other| {
                other.schema == kind.schema
                    || (other.schema.kind == kind.schema.kind && other.scope != kind.scope)
            });
            if let Some(other) = clash {
                return bad(format!("{} and {} have the same schema", other.name, kind.name));
            }
            known.push(kind);
        }
        let refused_actions = refused.into_iter().collect::<Option<Vec<_>>>();
        let Some(refused_actions) = refused_actions.filter(|all| all.len() <= ACTIONS_MAX) else {
            return bad("an action that it refuses is none, or there are too many".to_owned());
        };
        let other_names = message.other_names;
        Ok(Self {
            name,
            version,
            kinds: known,
            fields,
            common_versions,
            refused_actions,
            other_names,
        })
    }
}

impl Kind {
    fn of_message(message: api::StateKind) -> Result<Self, Malformed> {
        let number = |number: u32| {
            u16::try_from(number).map_err(|_| Malformed(format!("{number} is not of 16 bits")))
        };
        let scope = convert::scope_of(message.scope).ok_or_else(|| {
            Malformed(format!("the state {} has no scope", quoted(&message.name)))
        })?;
        let schema = Schema { kind: number(message.schema)?, revision: number(message.revision)? };
        if message.name.is_empty() || message.name.len() > TEXT_MAX {
            return Err(Malformed(format!("the name of {schema} must have 1 to 64 bytes")));
        }
        if message.merge_rules.len() > RULES_MAX {
            let what = format!("the state {} has too many merge rules", quoted(&message.name));
            return Err(Malformed(what));
        }
        // Nobody merges by them here, so those of later versions of this API are left out.
        let known = message.merge_rules.iter();
        let merge_rules: Vec<_> =
            known.filter_map(|number| convert::merge_rule_of(*number)).collect();
        let each: BTreeSet<_> = merge_rules.iter().collect();
        let may_merge = merge_rules.is_empty() || MergeRule::may_merge(scope, &merge_rules);
        if each.len() != merge_rules.len() || !may_merge {
            let what = "merge rules are the same twice, or none of its scope";
            return Err(Malformed(format!("the {what}: {}", quoted(&message.name))));
        }
        Ok(Self { scope, schema, name: message.name, merge_rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(scope: Scope, number: u16) -> Kind {
        let schema = Schema { kind: number, revision: 1 };
        let merge = if scope == Scope::PerFlow { MergeRule::Newer } else { MergeRule::Union };
        Kind { scope, schema, name: format!("state {number}"), merge_rules: vec![merge] }
    }

    fn sample() -> Description {
        Description {
            name: "counter".to_owned(),
            version: "1.2".to_owned(),
            kinds: vec![kind(Scope::PerFlow, 7), kind(Scope::MultiFlow, 8)],
            fields: vec!["http.host".to_owned()],
            common_versions: true,
            refused_actions: vec![Action::Drop],
            other_names: true,
        }
    }

    #[test]
    fn what_is_told_is_understood() {
        assert_eq!(Description::of_message(sample().to_message()), Ok(sample()));
    }

    #[test]
    fn a_merge_rule_of_a_later_version_is_left_out() {
        let mut told = sample().to_message();
        told.kinds[0].merge_rules.push(9);
        assert_eq!(Description::of_message(told), Ok(sample()));
    }

    #[test]
    fn a_field_that_it_does_not_know_is_found_in_a_filter() {
        let unknown = |filter: &str| {
            let filter: StateFilter = filter.parse().expect("a filter");
            sample().unknown_field(&filter).map(str::to_owned)
        };
        assert_eq!(unknown("src=10.0.0.1,http.host=a"), None);
        assert_eq!(unknown("http.host=a,http.url=b").as_deref(), Some("http.url"));
    }

    #[test]
    fn a_description_that_can_not_be_is_refused() {
        type Spoil = fn(&mut api::DescribeResponse);
        let cases: [(Spoil, &str); 14] = [
            (|answer| answer.name.clear(), "its name must"),
            (|answer| answer.version = "x".repeat(65), "its version 64"),
            (|answer| answer.kinds[0].scope = 0, "\"state 7\" has no scope"),
            (|answer| answer.kinds[0].schema = 1 << 16, "65536 is not of 16 bits"),
            (|answer| answer.kinds[1].schema = 7, "state 7 and state 7 have"),
            (|answer| answer.kinds[1].name.clear(), "the name of 0x0008.1"),
            (|answer| answer.kinds[0].merge_rules = vec![9; 17], "\"state 7\" has too many"),
            (|answer| answer.kinds[0].merge_rules = vec![1, 1], "merge rules"),
            (|answer| answer.kinds[0].merge_rules = vec![2], "none of its scope"),
            (|answer| answer.kinds[1].merge_rules.push(1), "none of its scope"),
            (|answer| answer.fields[0] = "host".to_owned(), "\"host\" can not be"),
            (|answer| answer.fields = vec!["a.b".to_owned(); 17], "16 filter fields"),
            (|answer| answer.refused_actions[0] = 0, "an action that it refuses is none"),
            (|answer| answer.refused_actions = vec![1; 4], "there are too many"),
        ];
        for (spoil, why) in cases {
            let mut answer = sample().to_message();
            answer.kinds[1].name = "state 7".to_owned();
            spoil(&mut answer);
            let refused = Description::of_message(answer).expect_err(why);
            assert!(refused.0.contains(why), "{refused} is not {why}");
        }
    }
}
