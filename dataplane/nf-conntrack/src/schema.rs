//! The kinds of state that this function has. It runs in a process of its own, so their numbers are
//! of those that `dataplane/src/nf/schema.rs` leaves to such functions.

use weir_state_transfer::chunk::{Schema, Scope};
use weir_state_transfer::merge::MergeRule;
use weir_state_transfer::southbound::StateKind;

/// An entry of the connection tracking: [`Entry`](crate::entry::Entry).
pub(crate) const ENTRY: StateKind = StateKind {
    scope: Scope::PerFlow,
    schema: Schema { kind: 0x9001, revision: 2 },
    name: "kernel connection tracking entry",
    merge_rules: &[MergeRule::Newer],
};
/// What it has counted: [`Statistics`](crate::statistics::Statistics).
pub(crate) const STATISTICS: StateKind = StateKind {
    scope: Scope::AllFlows,
    schema: Schema { kind: 0x9003, revision: 1 },
    name: "kernel connection tracking statistics",
    merge_rules: &[MergeRule::Counter],
};

/// All of them. Expectations, which helpers make, would be the multi-flow state: there is none, as
/// entries with helpers are refused.
pub const KINDS: [StateKind; 2] = [ENTRY, STATISTICS];
