//! Events on their way from an end to a reader who may be slow: bounded, with explicit gaps.

use std::collections::VecDeque;

use weir_state_transfer::southbound::{Event, Note};

/// Events that wait for a reader.
pub const EVENTS_MAX: usize = 1_024;
/// Bytes of packets that wait for a reader.
pub const BYTES_MAX: usize = 1 << 20;

/// What a reader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A packet matched.
    Event {
        /// Its number among all events of the notification.
        sequence: u64,
        /// The event.
        event: Event,
    },
    /// So many events are missing here.
    Gap(u64),
}

/// The events of one notification.
#[derive(Debug)]
pub struct Relay {
    waiting: VecDeque<Told>,
    events: usize,
    bytes: usize,
    /// Events that were lost behind the last that waits.
    lost: u64,
    /// The number of the next event.
    next: u64,
    /// Events that are still wanted.
    wanted: u64,
}

impl Relay {
    /// Of a notification of which so many events are told; 0 for no end.
    pub fn new(count: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            events: 0,
            bytes: 0,
            lost: 0,
            next: 0,
            wanted: if count == 0 { u64::MAX } else { count },
        }
    }

    /// Takes in what an end tells. What finds no room is lost, and counted.
    pub fn push(&mut self, note: Note) {
        match note {
            Note::Gap(lost) => {
                // An end may say of more than there can be.
                self.lost = self.lost.saturating_add(lost);
                self.next = self.next.saturating_add(lost);
            }
            Note::Event(event) => {
                let sequence = self.next;
                self.next = self.next.saturating_add(1);
                let size = event.packet.len();
                if self.events >= EVENTS_MAX || self.bytes + size > BYTES_MAX {
                    self.lost = self.lost.saturating_add(1);
                    return;
                }
                self.flush_gap();
                self.events += 1;
                self.bytes += size;
                self.waiting.push_back(Told::Event { sequence, event });
            }
        }
    }

    /// The next that the reader is to be told.
    pub fn pop(&mut self) -> Option<Told> {
        if self.is_over() {
            return None;
        }
        if self.waiting.is_empty() {
            self.flush_gap();
        }
        let told = self.waiting.pop_front()?;
        if let Told::Event { event, .. } = &told {
            self.events -= 1;
            self.bytes -= event.packet.len();
            self.wanted -= 1;
        }
        Some(told)
    }

    /// Whether there is nothing to be told.
    pub fn is_empty(&self) -> bool {
        self.is_over() || (self.waiting.is_empty() && self.lost == 0)
    }

    /// Whether as many events were told as are wanted.
    pub fn is_over(&self) -> bool {
        self.wanted == 0
    }

    fn flush_gap(&mut self) {
        if self.lost > 0 {
            self.waiting.push_back(Told::Gap(std::mem::take(&mut self.lost)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_state_transfer::{
        FlowKey, Nanos, ServiceId,
        southbound::{Cause, SubscriptionId},
    };

    fn event(bytes: usize) -> Note {
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        Note::Event(Event {
            subscription: SubscriptionId(1),
            key: FlowKey::v4(one, two, (1, 2), 6, ServiceId(0)),
            at: Nanos(0),
            cause: Cause::Processed,
            version: 1,
            packet: vec![0; bytes],
            length: bytes,
        })
    }

    /// The numbers of events, and what is lost, in the order in which they are told.
    fn told(relay: &mut Relay) -> Vec<Result<u64, u64>> {
        std::iter::from_fn(|| relay.pop())
            .map(|told| match told {
                Told::Event { sequence, .. } => Ok(sequence),
                Told::Gap(lost) => Err(lost),
            })
            .collect()
    }

    #[test]
    fn a_reader_that_keeps_up_is_told_of_all() {
        let mut relay = Relay::new(0);
        for number in 0..5_000 {
            relay.push(event(100));
            assert_eq!(told(&mut relay), [Ok(number)]);
        }
        assert!(relay.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_told_as_a_gap_where_it_is_missing() {
        let mut relay = Relay::new(0);
        (0..EVENTS_MAX + 7).for_each(|_| relay.push(event(0)));
        relay.push(Note::Gap(3));
        for number in 0..10 {
            assert!(
                matches!(relay.pop(), Some(Told::Event { sequence, .. }) if sequence == number)
            );
        }
        relay.push(event(0));
        let rest = told(&mut relay);
        let last = EVENTS_MAX as u64;
        assert_eq!(rest[rest.len() - 3..], [Ok(last - 1), Err(10), Ok(last + 10)]);
        assert!(relay.is_empty());
        relay.push(Note::Gap(2));
        assert_eq!((relay.is_empty(), told(&mut relay)), (false, vec![Err(2)]));
    }

    #[test]
    fn what_comes_after_the_last_that_is_wanted_is_not_told_and_what_is_lost_does_not_count() {
        let mut relay = Relay::new(3);
        [event(1), Note::Gap(5), event(1)].into_iter().for_each(|note| relay.push(note));
        assert_eq!((told(&mut relay), relay.is_over()), (vec![Ok(0), Err(5), Ok(6)], false));
        [event(1), event(1), Note::Gap(1)].into_iter().for_each(|note| relay.push(note));
        assert!(!relay.is_empty());
        assert_eq!(told(&mut relay), [Ok(7)]);
        relay.push(event(1));
        assert!(relay.is_over() && relay.is_empty() && relay.pop().is_none());
    }

    #[test]
    fn more_than_there_can_be_is_lost_as_often_as_an_end_says_so() {
        let mut relay = Relay::new(0);
        let all = u64::MAX;
        [Note::Gap(all), Note::Gap(all), event(1), event(1)]
            .into_iter()
            .for_each(|note| relay.push(note));
        assert_eq!(told(&mut relay), [Err(all), Ok(all), Ok(all)]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut relay = Relay::new(0);
        (0..40).for_each(|_| relay.push(event(60_000)));
        assert_eq!(relay.events, BYTES_MAX / 60_000);
        assert_eq!(told(&mut relay).last(), Some(&Err(40 - (BYTES_MAX / 60_000) as u64)));
        assert_eq!((relay.events, relay.bytes), (0, 0));
    }
}
