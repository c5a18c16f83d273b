//! A view: who takes part in a share, and which of them is the home of each slot.

use std::sync::Arc;

use super::slot::Slot;
use crate::id::InstanceId;

/// Who takes part in a share from one change to the next.
///
/// Every slot has one home among the members, by rendezvous hashing: a change of members moves
/// the slots of those that leave, and to those that join an equal part of all others'.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Grows with every change, and is never reused by the same share.
    pub number: u64,
    /// Those that share, in their order. None when the share ends: then every instance is its own
    /// home.
    pub members: Vec<InstanceId>,
    /// Those that shared before and hand over what they have, in their order.
    pub leaving: Vec<InstanceId>,
    /// The home of each slot; empty when the share ends.
    homes: Arc<[InstanceId]>,
}

impl View {
    /// The view in which `members` share `slots` slots and `leaving` leave. `key` is the secret of
    /// the share.
    pub fn new(
        number: u64,
        members: &[InstanceId],
        leaving: &[InstanceId],
        (slots, key): (usize, u64),
    ) -> Self {
        let home = |slot: usize| {
            members.iter().copied().max_by_key(|member| weight(key, slot as u64, *member))
        };
        let homes = (0..slots).filter_map(home).collect();
        let sorted = |instances: &[InstanceId]| {
            let mut instances = instances.to_vec();
            instances.sort_unstable();
            instances
        };
        Self { number, members: sorted(members), leaving: sorted(leaving), homes }
    }

    /// The view in which nobody shares: that of an instance before a share.
    pub(super) fn alone() -> Self {
        Self { number: 0, members: Vec::new(), leaving: Vec::new(), homes: Arc::new([]) }
    }

    /// Whether nobody shares in it: every instance is its own home.
    pub fn is_alone(&self) -> bool {
        self.members.is_empty()
    }

    /// The home of a slot as `asker` sees it.
    pub fn home(&self, slot: Slot, asker: InstanceId) -> InstanceId {
        self.homes.get(slot.index()).copied().unwrap_or(asker)
    }

    /// Whether an instance shares.
    pub fn has_member(&self, instance: InstanceId) -> bool {
        self.members.contains(&instance)
    }

    /// Members, and those that leave.
    pub fn participants(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.members.iter().chain(&self.leaving).copied()
    }

    /// Whether an instance is a member or leaves.
    pub fn has_participant(&self, instance: InstanceId) -> bool {
        self.participants().any(|participant| participant == instance)
    }
}

/// The member with the greatest weight has the slot (Thaler and Ravishankar, 1998, HRW).
fn weight(key: u64, slot: u64, member: InstanceId) -> u64 {
    // The finalizer of splitmix64, over all three.
    let mut mixed = key ^ (slot << 8 | u64::from(member.0)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(members: &[u8]) -> View {
        let members: Vec<_> = members.iter().copied().map(InstanceId).collect();
        View::new(1, &members, &[], (4096, 0x5EED))
    }

    fn homes(view: &View) -> Vec<InstanceId> {
        (0..4096).map(|slot| view.home(Slot(slot), InstanceId(99))).collect()
    }

    #[test]
    fn slots_are_spread_and_only_those_of_who_leaves_or_joins_move() {
        let (three, two) = (homes(&view(&[1, 2, 3])), homes(&view(&[3, 1])));
        for member in [1, 2, 3].map(InstanceId) {
            let count = three.iter().filter(|home| **home == member).count();
            assert!((1200..1530).contains(&count), "{member}: {count}");
        }
        for (before, after) in three.iter().zip(&two) {
            assert!(before == after || *before == InstanceId(2), "{before} to {after}");
        }
    }

    #[test]
    fn where_nobody_shares_everybody_is_his_own_home() {
        assert_eq!(View::alone().home(Slot(7), InstanceId(3)), InstanceId(3));
        let ended = View::new(9, &[], &[InstanceId(2), InstanceId(1)], (16, 0));
        assert_eq!(ended.home(Slot(7), InstanceId(1)), InstanceId(1));
        assert!(ended.is_alone() && ended.has_participant(InstanceId(2)));
    }
}
