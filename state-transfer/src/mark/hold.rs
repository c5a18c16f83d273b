//! The hold: packets that wait for their flow, first in first out per group, within a quota.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

/// A bounded store of waiting packets, in one queue a group.
///
/// A group is what arrives as a whole: a bucket, or a flow. Slots are allocated once, though none is
/// written before a packet needs it; holding a packet allocates nothing.
#[derive(Clone)]
pub struct Hold<G, P> {
    slots: Vec<Slot<P>>,
    /// The first of the slots that have had packets and have none.
    free: u32,
    quota: u32,
    groups: HashMap<G, Queue>,
    len: usize,
    peak: usize,
}

#[derive(Clone)]
struct Slot<P> {
    packet: Option<P>,
    next: u32,
}

#[derive(Clone, Copy)]
struct Queue {
    head: u32,
    tail: u32,
    marked: bool,
}

const NONE: u32 = u32::MAX;

impl<G, P> Hold<G, P> {
    /// The packets of a queue, oldest first.
    fn waiting(&self, queue: Queue) -> impl Iterator<Item = &P> {
        let slot = |index: u32| self.slots.get(index as usize);
        std::iter::successors(slot(queue.head), move |before| slot(before.next))
            .filter_map(|slot| slot.packet.as_ref())
    }
}

impl<G: fmt::Debug, P: fmt::Debug> fmt::Debug for Hold<G, P> {
    /// What waits, by group, whatever the slots that it waits in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues = self.groups.iter().map(|(group, queue)| {
            let waiting: Vec<_> = self.waiting(*queue).collect();
            let mark = if queue.marked { "marked " } else { "" };
            format!("{group:?} {mark}{waiting:?}")
        });
        let mut queues: Vec<_> = queues.collect();
        queues.sort_unstable();
        write!(f, "Hold({})", queues.join(", "))
    }
}

impl<G: Copy + Eq + Hash, P> Hold<G, P> {
    /// A hold of at most `quota` packets.
    pub fn new(quota: usize) -> Self {
        let quota = u32::try_from(quota).unwrap_or(NONE);
        let slots = Vec::with_capacity(quota as usize);
        let groups = HashMap::with_capacity(quota as usize);
        Self { slots, free: NONE, quota, groups, len: 0, peak: 0 }
    }

    /// Puts a packet behind the others of its group; `Ok(true)` when it is the first.
    ///
    /// # Errors
    ///
    /// Gives the packet back when the hold is at its quota.
    pub fn push(&mut self, group: G, packet: P) -> Result<bool, P> {
        let mut index = self.free;
        if let Some(free) = self.slots.get_mut(index as usize) {
            self.free = free.next;
            *free = Slot { packet: Some(packet), next: NONE };
        } else if self.slots.len() < self.quota() {
            index = self.slots.len() as u32;
            self.slots.push(Slot { packet: Some(packet), next: NONE });
        } else {
            return Err(packet);
        }
        self.len += 1;
        self.peak = self.peak.max(self.len);
        match self.groups.get_mut(&group) {
            Some(queue) => {
                let tail = std::mem::replace(&mut queue.tail, index);
                self.slots[tail as usize].next = index;
                Ok(false)
            }
            None => {
                self.groups.insert(group, Queue { head: index, tail: index, marked: false });
                Ok(true)
            }
        }
    }

    /// Takes the oldest packet of a group.
    pub fn pop(&mut self, group: G) -> Option<P> {
        let queue = self.groups.get_mut(&group)?;
        let index = queue.head;
        let slot = &mut self.slots[index as usize];
        let packet = slot.packet.take();
        let next = std::mem::replace(&mut slot.next, self.free);
        self.free = index;
        if next == NONE {
            self.groups.remove(&group);
        } else {
            queue.head = next;
        }
        self.len -= 1;
        packet
    }

    /// Whether a packet of the group waits.
    pub fn contains(&self, group: G) -> bool {
        !self.groups.is_empty() && self.groups.contains_key(&group)
    }

    /// Marks a group until its last packet is taken; whether packets of it wait and it was not
    /// marked.
    pub fn mark(&mut self, group: G) -> bool {
        self.groups.get_mut(&group).is_some_and(|queue| !std::mem::replace(&mut queue.marked, true))
    }

    /// The groups of which packets wait and that are not marked, in no particular order.
    pub fn unmarked(&self) -> impl Iterator<Item = G> + '_ {
        self.groups.iter().filter(|(_, queue)| !queue.marked).map(|(group, _)| *group)
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most packets that have waited at one time.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Whether more than half of those that may wait do.
    pub fn is_half_full(&self) -> bool {
        self.len * 2 > self.quota()
    }

    /// The most packets that may wait.
    pub fn quota(&self) -> usize {
        self.quota as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_within_a_group_and_refuses_at_its_quota() {
        let mut hold = Hold::new(3);
        assert_eq!(hold.push('a', 1), Ok(true));
        assert_eq!(hold.push('b', 2), Ok(true));
        assert_eq!(hold.push('a', 3), Ok(false));
        assert_eq!(hold.push('b', 4), Err(4));
        assert_eq!(hold.pop('a'), Some(1));
        assert_eq!(hold.push('a', 5), Ok(false));
        assert_eq!((hold.pop('a'), hold.pop('a'), hold.pop('a')), (Some(3), Some(5), None));
        assert_eq!((hold.len(), hold.peak()), (1, 3));
        assert!(hold.contains('b') && !hold.contains('a'));
    }

    #[test]
    fn a_hold_without_quota_holds_nothing() {
        assert_eq!(Hold::new(0).push(0, "x"), Err("x"));
    }

    #[test]
    fn behaves_as_a_queue_per_group_under_random_use() {
        let seed = 0x5EED;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut hold = Hold::new(16);
        let mut model = vec![std::collections::VecDeque::new(); 4];
        for n in 0..100_000 {
            let group = rng.usize(..4);
            if rng.bool() {
                let room = model.iter().map(|queue| queue.len()).sum::<usize>() < 16;
                assert_eq!(hold.push(group, n).is_ok(), room, "seed {seed:#x}");
                if room {
                    model[group].push_back(n);
                }
            } else {
                assert_eq!(hold.pop(group), model[group].pop_front(), "seed {seed:#x}");
            }
        }
    }
}
