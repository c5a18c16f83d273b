//! The kinds of state that network functions have, in one table, so that no two have a number in
//! common.
//!
//! The high byte of a number is that of the function, and the low byte one of its kinds. Numbers
//! from [`OTHERS`] on are for functions of others.

use weir_state_transfer::chunk::{Schema, Scope};
use weir_state_transfer::merge::MergeRule;
use weir_state_transfer::southbound::StateKind;

/// The first number that no function here has: from here on they are for functions in processes of
/// their own, those of others, and from 0x9000 to 0x90ff `weir-nf-conntrack`.
pub const OTHERS: u16 = 0x8000;

/// Declares kinds: number, revision of the layout, scope, merge rules, and name for people.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $kind:ident = $number:literal, $revision:literal, $scope:ident, [$($rule:ident),+], $name:literal;
    )*) => {
        $($(#[$doc])*
        pub const $kind: StateKind = StateKind {
            scope: Scope::$scope,
            schema: Schema { kind: $number, revision: $revision },
            name: $name,
            merge_rules: &[$(MergeRule::$rule),+],
        };)*

        /// All of them.
        pub const ALL: &[StateKind] = &[$($kind),*];
    };
}

kinds! {
    /// A connection that is tracked: [`Connection`](super::connection::Connection).
    CONNECTION = 0x0101, 1, PerFlow, [Newer], "connection";
    /// What a source has begun: [`Source`](super::firewall::Source).
    FIREWALL_SOURCE = 0x0102, 2, MultiFlow, [Counter, Register], "firewall source";
    /// What a firewall has done altogether: [`Totals`](super::firewall::Totals).
    FIREWALL_TOTALS = 0x0103, 2, AllFlows, [Counter], "firewall totals";
    /// A connection that is looked into: [`Connection`](super::ids::Connection).
    IDS_CONNECTION = 0x0201, 2, PerFlow, [Newer], "intrusion detection connection";
    /// What a source has tried: [`Source`](super::ids::Source).
    IDS_SOURCE = 0x0202, 2, MultiFlow, [Register, Counter, Max], "intrusion detection source";
    /// The figures over all flows: [`Totals`](super::ids::Totals).
    IDS_TOTALS = 0x0203, 2, AllFlows, [Counter], "intrusion detection totals";
    /// What a flow is translated to: [`Translation`](super::nat::Translation).
    NAT_TRANSLATION = 0x0301, 1, PerFlow, [Newer], "translation";
    /// How much an external address is used: [`Usage`](super::nat::Usage).
    NAT_USAGE = 0x0302, 1, MultiFlow, [Counter], "usage of an external address";
    /// What a NAT has done altogether: [`Totals`](super::nat::Totals).
    NAT_TOTALS = 0x0303, 1, AllFlows, [Counter], "translation totals";
    /// A flow whose ends are looked at: [`Connection`](super::assets::Connection).
    ASSETS_CONNECTION = 0x0401, 1, PerFlow, [Newer], "asset detection connection";
    /// What is known of a host: [`Host`](super::assets::Host).
    ASSETS_HOST = 0x0402, 1, MultiFlow, [Union, Min, Max], "asset detection host";
    /// The figures over all flows: [`Totals`](super::assets::Totals).
    ASSETS_TOTALS = 0x0403, 1, AllFlows, [Counter], "asset detection totals";
}

/// The revision of [`IDS_CONNECTION`] before, which is taken in too: the same layout, in which nobody
/// noted that content is encoded.
pub const IDS_CONNECTION_1: StateKind =
    StateKind { schema: Schema { revision: 1, ..IDS_CONNECTION.schema }, ..IDS_CONNECTION };

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_has_a_number_and_a_name_of_its_own() {
        let numbers: HashSet<_> = ALL.iter().map(|kind| kind.schema.kind).collect();
        let names: HashSet<_> = ALL.iter().map(|kind| kind.name).collect();
        assert_eq!((numbers.len(), names.len()), (ALL.len(), ALL.len()));
        assert!(ALL.iter().all(|kind| MergeRule::may_merge(kind.scope, kind.merge_rules)));
        assert!(numbers.iter().all(|number| *number < OTHERS), "{numbers:x?}");
    }
}
