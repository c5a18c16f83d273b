//! Packets that wait for a next hop to be resolved.

use std::collections::HashMap;
use std::net::IpAddr;

use weir_state_transfer::PortId;

use crate::packet::DropReason;

/// Quotas of a worker's parked packets.
#[derive(Clone, Copy, Debug)]
pub struct ParkedLimits {
    /// Most packets in all.
    pub packets_max: u32,
    /// Most packets for one neighbour, of those that are parked here first.
    pub each_max: u32,
}

/// A worker's packets that wait for neighbours: a queue for each neighbour, in order, bounded but
/// for what comes out of the park of another worker.
///
/// All memory is taken at the start. While a neighbour has packets here, newer ones for it must
/// be parked behind them, which [`Parked::waits_for`] tells.
#[derive(Debug)]
pub struct Parked<T> {
    limits: ParkedLimits,
    slots: Vec<Slot<T>>,
    /// The first free slot, or `END`.
    free: u32,
    queues: HashMap<(PortId, IpAddr), Queue>,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    item: Option<T>,
    /// The slot behind, in its queue or in the free list, or `END`.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
    len: u32,
}

impl Queue {
    /// Puts a slot at the end.
    fn append<T>(&mut self, slots: &mut [Slot<T>], place: u32) {
        match slots.get_mut(self.last as usize) {
            Some(last) => last.next = place,
            None => self.first = place,
        }
        slots[place as usize].next = END;
        (self.last, self.len) = (place, self.len + 1);
    }
}

const END: u32 = u32::MAX;

/// A packet that could not be parked, with the reason to drop it.
#[derive(Debug)]
pub struct Refused<T>(pub T, pub DropReason);

impl<T> Parked<T> {
    /// An empty park with its quotas.
    pub fn new(limits: ParkedLimits) -> Self {
        let count = limits.packets_max;
        let next = |slot| if slot + 1 == count { END } else { slot + 1 };
        Self {
            limits,
            slots: (0..count).map(|slot| Slot { item: None, next: next(slot) }).collect(),
            free: if count == 0 { END } else { 0 },
            queues: HashMap::with_capacity(count as usize),
            len: 0,
        }
    }

    /// Parks a packet behind those that wait for the same neighbour; says whether it is the first,
    /// so that the neighbour has to be asked for.
    ///
    /// # Errors
    /// Gives the packet back with [`DropReason::ParkFull`] at either quota.
    pub fn park(&mut self, port: PortId, next_hop: IpAddr, item: T) -> Result<bool, Refused<T>> {
        let waiting = self.queues.get(&(port, next_hop)).map_or(0, |queue| queue.len);
        if waiting >= self.limits.each_max {
            return Err(Refused(item, DropReason::ParkFull));
        }
        self.take_in(port, next_hop, item)
    }

    /// Parks a packet that comes out of a park, where it had its place: the quota of one neighbour
    /// does not bound it, that of all does.
    ///
    /// # Errors
    /// Gives the packet back with [`DropReason::ParkFull`] when no slot is free.
    pub fn take_in(&mut self, port: PortId, next_hop: IpAddr, item: T) -> Result<bool, Refused<T>> {
        if self.free == END {
            return Err(Refused(item, DropReason::ParkFull));
        }
        let place = self.free;
        let slot = &mut self.slots[place as usize];
        self.free = slot.next;
        *slot = Slot { item: Some(item), next: END };
        self.len += 1;
        let none = Queue { first: END, last: END, len: 0 };
        let queue = self.queues.entry((port, next_hop)).or_insert(none);
        queue.append(&mut self.slots, place);
        Ok(queue.len == 1)
    }

    /// Takes the oldest packet that waits for a neighbour.
    pub fn pop(&mut self, port: PortId, next_hop: IpAddr) -> Option<T> {
        let queue = self.queues.get_mut(&(port, next_hop))?;
        let place = queue.first;
        let slot = &mut self.slots[place as usize];
        (queue.first, queue.len) = (slot.next, queue.len - 1);
        if queue.first == END {
            self.queues.remove(&(port, next_hop));
        }
        slot.next = self.free;
        self.free = place;
        self.len -= 1;
        slot.item.take()
    }

    /// Takes every packet, for no neighbour in particular: when the worker gives up.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| {
            let (port, next_hop) = *self.queues.keys().next()?;
            self.pop(port, next_hop)
        })
    }

    /// Whether packets wait for the neighbour.
    #[inline]
    pub fn waits_for(&self, port: PortId, next_hop: IpAddr) -> bool {
        self.len > 0 && self.queues.contains_key(&(port, next_hop))
    }

    /// Takes out the packets that `selected` picks, those for one neighbour in order. Nothing is
    /// allocated.
    pub fn extract(
        &mut self,
        mut selected: impl FnMut(&T) -> bool,
        mut taken: impl FnMut((PortId, IpAddr), T),
    ) {
        let Self { slots, free, queues, len, .. } = self;
        queues.retain(|neighbour, queue| {
            let mut place = queue.first;
            (queue.first, queue.last, queue.len) = (END, END, 0);
            while place != END {
                let next = slots[place as usize].next;
                match slots[place as usize].item.take_if(|item| selected(item)) {
                    Some(item) => {
                        slots[place as usize].next = *free;
                        *free = place;
                        *len -= 1;
                        taken(*neighbour, item);
                    }
                    None => queue.append(slots, place),
                }
                place = next;
            }
            queue.len > 0
        });
    }

    /// How many packets wait that `selected` picks.
    pub fn count(&self, mut selected: impl FnMut(&T) -> bool) -> usize {
        if self.len == 0 {
            return 0;
        }
        let items = self.slots.iter().filter_map(|slot| slot.item.as_ref());
        items.filter(|item| selected(item)).count()
    }

    /// How many packets wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no packet waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const LIMITS: ParkedLimits = ParkedLimits { packets_max: 10, each_max: 4 };
    const PORT: PortId = PortId(1);

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn packets_leave_in_the_order_they_came_and_the_first_says_so() {
        let mut parked = Parked::new(LIMITS);
        assert!(parked.park(PORT, ip(1), 1).unwrap());
        assert!(!parked.park(PORT, ip(1), 2).unwrap());
        assert!(parked.park(PortId(2), ip(1), 3).unwrap(), "another port, another neighbour");
        assert!(parked.waits_for(PORT, ip(1)));
        assert_eq!((parked.pop(PORT, ip(1)), parked.pop(PORT, ip(1))), (Some(1), Some(2)));
        assert_eq!(parked.pop(PORT, ip(1)), None);
        assert!(!parked.waits_for(PORT, ip(1)) && parked.waits_for(PortId(2), ip(1)));
    }

    #[test]
    fn both_quotas_refuse_and_give_the_packet_back() {
        let mut parked = Parked::new(LIMITS);
        for packet in 0..4 {
            parked.park(PORT, ip(1), packet).unwrap();
        }
        let Refused(packet, reason) = parked.park(PORT, ip(1), 99).unwrap_err();
        assert_eq!((packet, reason), (99, DropReason::ParkFull));
        for packet in 0..6 {
            parked.park(PORT, ip(2 + packet), u32::from(packet)).unwrap();
        }
        assert!(parked.park(PORT, ip(100), 0).is_err());
        assert_eq!(parked.len(), 10);
        let nothing = ParkedLimits { packets_max: 0, each_max: 4 };
        assert!(Parked::new(nothing).park(PORT, ip(1), 1).is_err());
    }

    #[test]
    fn a_selection_is_counted_and_taken_out_and_the_rest_keeps_its_order() {
        let mut parked = Parked::new(LIMITS);
        for packet in 1..=4 {
            parked.park(PORT, ip(1), packet).unwrap();
        }
        parked.park(PORT, ip(2), 8).unwrap();
        let even = |packet: &u32| packet.is_multiple_of(2);
        assert_eq!(parked.count(even), 3);
        let mut taken = Vec::new();
        parked.extract(even, |neighbour, packet| taken.push((neighbour, packet)));
        taken.sort_by_key(|(neighbour, _)| *neighbour);
        assert_eq!(taken, [((PORT, ip(1)), 2), ((PORT, ip(1)), 4), ((PORT, ip(2)), 8)]);
        assert_eq!((parked.count(even), parked.len()), (0, 2));
        assert!(!parked.waits_for(PORT, ip(2)));
        assert_eq!((parked.pop(PORT, ip(1)), parked.pop(PORT, ip(1))), (Some(1), Some(3)));
        assert!(parked.is_empty());
    }

    #[test]
    fn what_comes_out_of_a_park_is_bounded_by_all_places_only() {
        let mut parked = Parked::new(LIMITS);
        for packet in 0..10 {
            assert_eq!(parked.take_in(PORT, ip(1), packet).unwrap(), packet == 0);
        }
        assert!(parked.take_in(PORT, ip(1), 10).is_err());
        assert!(parked.park(PORT, ip(2), 10).is_err());
        assert_eq!(parked.drain().collect::<Vec<_>>(), Vec::from_iter(0..10));
    }

    #[test]
    fn random_use_agrees_with_plain_queues() {
        let mut rng = weir_seed::rng();
        let mut parked = Parked::new(LIMITS);
        let mut model: [VecDeque<u32>; 5] = Default::default();
        for packet in 0..20_000 {
            let which = rng.u8(..5);
            if rng.u8(..50) == 0 {
                let odd = |packet: &u32| !packet.is_multiple_of(2);
                let mut taken: [VecDeque<u32>; 5] = Default::default();
                parked.extract(odd, |(_, next_hop), packet| {
                    let IpAddr::V4(v4) = next_hop else { panic!("{next_hop}") };
                    taken[usize::from(v4.octets()[3])].push_back(packet);
                });
                for (queue, taken) in model.iter_mut().zip(taken) {
                    let (gone, left) = queue.iter().partition(|packet| odd(packet));
                    *queue = left;
                    assert_eq!(taken, gone);
                }
            }
            let queue = &mut model[usize::from(which)];
            if rng.bool() {
                match parked.park(PORT, ip(which), packet) {
                    Ok(first) => {
                        assert_eq!(first, queue.is_empty());
                        queue.push_back(packet);
                    }
                    Err(_) => assert!(queue.len() == 4 || parked.len() == 10),
                }
            } else {
                assert_eq!(parked.pop(PORT, ip(which)), queue.pop_front());
            }
            let waiting: usize = model.iter().map(VecDeque::len).sum();
            assert_eq!(parked.len(), waiting);
        }
    }
}
