//! Events on their way to their subscriber, in order and bounded.

use std::collections::VecDeque;

use super::SubscriptionId;
use crate::flow_key::FlowKey;
use crate::time::Nanos;

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A packet matched.
    Event(Event),
    /// So many events found no room here.
    Gap(u64),
}

/// A packet that matched a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The flow of the packet.
    pub key: FlowKey,
    /// When the packet was dealt with.
    pub at: Nanos,
    /// What became of the packet.
    pub cause: Cause,
    /// The version that the state of its flow has then; 0 where it has none.
    pub version: u64,
    /// Bytes of the packet, as many as the subscription asks for.
    pub packet: Vec<u8>,
    /// Bytes that the packet has in all.
    pub length: usize,
}

/// Why an event was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The packet was processed.
    Processed,
    /// The packet was dropped: the event has all that is left of it.
    Dropped,
}

/// What an event says beside its packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raised {
    pub(super) subscription: SubscriptionId,
    pub(super) key: FlowKey,
    pub(super) at: Nanos,
    pub(super) cause: Cause,
    pub(super) version: u64,
}

/// The notes of one subscription. Memory for the bytes of packets is taken as events come, of so many
/// at most, kept until it ends, and then freed piece by piece: nothing takes much time at once.
#[derive(Debug)]
pub(super) struct Queue {
    notes: VecDeque<Note>,
    max: usize,
    /// Events that found no room since the last that did.
    lost: u64,
    /// Buffers for the bytes of packets, each with room for as many as are asked for.
    spare: Vec<Vec<u8>>,
    /// Buffers that are still to be made.
    unmade: usize,
    snap: usize,
}

impl Queue {
    pub(super) fn new(max: usize, snap: usize) -> Self {
        // Half of the places may be for gaps.
        let (notes, spare) = (VecDeque::with_capacity(2 * max), Vec::with_capacity(max));
        Self { notes, max, lost: 0, spare, unmade: max, snap }
    }

    /// Puts an event at the end, or counts it when there is no room.
    pub(super) fn push(&mut self, of: Raised, bytes: &[u8]) {
        let Some(mut packet) = self.spare.pop().or_else(|| self.make()) else {
            self.lost += 1;
            return;
        };
        if self.lost > 0 {
            self.notes.push_back(Note::Gap(std::mem::take(&mut self.lost)));
        }
        packet.clear();
        packet.extend(&bytes[..bytes.len().min(self.snap)]);
        let Raised { subscription, key, at, cause, version } = of;
        let length = bytes.len();
        let event = Event { subscription, key, at, cause, version, packet, length };
        self.notes.push_back(Note::Event(event));
    }

    fn make(&mut self) -> Option<Vec<u8>> {
        self.unmade = self.unmade.checked_sub(1)?;
        Some(Vec::with_capacity(self.snap))
    }

    /// Takes the oldest note. What was lost behind the last event is told when all else is taken.
    pub(super) fn pop(&mut self) -> Option<Note> {
        let note = self.notes.pop_front();
        if note.is_none() && self.lost > 0 {
            return Some(Note::Gap(std::mem::take(&mut self.lost)));
        }
        note
    }

    /// Frees so many buffers of a queue that has ended; whether no more are left.
    pub(super) fn free(&mut self, buffers: usize) -> bool {
        let freed = |_: &usize| self.spare.pop().is_some() || self.notes.pop_front().is_some();
        (0..buffers).take_while(freed).count() < buffers
    }

    /// Gives the buffer of an event back that has been dealt with: until then it counts.
    pub(super) fn give_back(&mut self, packet: Vec<u8>) {
        if self.spare.len() + self.unmade < self.max {
            self.spare.push(packet);
        }
    }
}
