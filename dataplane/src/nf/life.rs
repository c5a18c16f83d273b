//! The numbers under which the functions of an instance count in its life.

use weir_state_transfer::merge::{Life, Replica};

/// Replicas that an instance may count as in one life: the first, and more for what was forgotten
/// and begins anew.
pub const REPLICAS_OF_A_LIFE: u64 = 1 << 32;

/// The life that begins as a replica.
pub(super) fn life(first: Replica) -> Life {
    let Replica { instance, incarnation } = first;
    let last = incarnation.saturating_add(REPLICAS_OF_A_LIFE - 1);
    Life::new(instance, incarnation, last).expect("the last is not before the first")
}
