//! The kinds of state of the proxy, in one table. Their numbers are among those that
//! `dataplane/src/nf/schema.rs` leaves to functions in processes of their own.

use weir_state_transfer::chunk::{Schema, Scope};
use weir_state_transfer::merge::MergeRule::{self, Counter, Max, Newer, Register, Union};
use weir_state_transfer::southbound::StateKind;

/// A client connection that waits for its next request.
pub const CONNECTION: StateKind = kind(0x8101, Scope::PerFlow, "idle client connection", &[Newer]);
/// A cached response, of one of the clients that have fetched it.
pub const OBJECT: StateKind = kind(0x8102, Scope::MultiFlow, "cached object", &[Register, Union]);
/// What the proxy has done altogether.
pub const STATISTICS: StateKind =
    kind(0x8103, Scope::AllFlows, "proxy statistics", &[Counter, Max]);

/// All of them.
pub(crate) const ALL: [StateKind; 3] = [CONNECTION, OBJECT, STATISTICS];
/// Those of a process that may not take over connections.
pub(crate) const WITHOUT_CONNECTIONS: [StateKind; 2] = [OBJECT, STATISTICS];
/// The filter fields that only some network functions know and this one has in the ids of objects.
pub(crate) const FIELDS: [&str; 3] = ["http.host", "http.url", "cache.variant"];

const fn kind(
    number: u16,
    scope: Scope,
    name: &'static str,
    merge_rules: &'static [MergeRule],
) -> StateKind {
    StateKind { scope, schema: Schema { kind: number, revision: 1 }, name, merge_rules }
}
