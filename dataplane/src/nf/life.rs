//! The numbers under which the functions of an instance count in its life.

use weir_state_transfer::merge::{Life, Replica};

/// Replicas that an instance may count as in one life: the first, and more for what was forgotten
/// and begins anew.
pub const REPLICAS_OF_A_LIFE: u64 = 1 << 32;

/// What is left of the life of an instance that counts something as a replica: what it counted before
/// it may have given away.
pub(super) fn rest_of_life(now: Replica, last: u64) -> Life {
    Life::new(now.instance, now.incarnation, last).unwrap_or(Life::of_one(now))
}

/// The life that begins as a replica.
pub(super) fn life(first: Replica) -> Life {
    let Replica { instance, incarnation } = first;
    let last = incarnation.saturating_add(REPLICAS_OF_A_LIFE - 1);
    Life::new(instance, incarnation, last).expect("the last is not before the first")
}
