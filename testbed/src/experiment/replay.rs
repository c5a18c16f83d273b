//! Which packet goes next, and what became of those that went. No I/O, no clock.
//!
//! A packet waits until all that the other end of its conversation has said before has arrived,
//! as it did when the capture was made. So the router sees the packets of a conversation in the
//! order of the capture though each end has a port of its own, and others go on meanwhile.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use weir_dataplane::packet::forward::decrement_ttl;
use weir_state_transfer::FlowKey;

use super::conversations::{End, Packet, segment};

/// Packets of an end in flight at most: less than half of the ring of a veth end, so that at no
/// stall of the machine one is lost before the router.
pub(super) const CREDIT: usize = 120;
/// Packets at most that wait for the other end while later ones of other conversations go; with so
/// many, the later ones wait too.
const WAITING_MAX: usize = 1_024;

/// Ethernet header.
const ETHERNET: usize = 14;

/// A replay in progress.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    packets: &'a [Packet],
    /// The next packet that has not been looked at.
    next: usize,
    flows: Vec<Flow>,
    numbers: HashMap<FlowKey, (usize, End)>,
    /// Conversations whose waiting packets may go on.
    ready: VecDeque<usize>,
    waiting: usize,
    in_flight: [usize; 2],
    tally: Tally,
}

/// A conversation.
#[derive(Debug, Default)]
struct Flow {
    /// Packets that each end has sent and that have not arrived, by their places.
    in_flight: [VecDeque<usize>; 2],
    /// Packets that wait for those of the other end, by their places.
    waiting: VecDeque<usize>,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Packets sent.
    pub sent: u64,
    /// Packets received, as they were to be forwarded, in order or not.
    pub received: u64,
    /// Packets received in front of an earlier one of their flow. Of two that are alike byte by byte,
    /// as when one is sent again, nobody can tell which came first.
    pub reordered: u64,
    /// Frames received that are none that was expected: changed, repeated, or at the wrong end.
    pub unexpected: u64,
}

impl Tally {
    /// Packets sent that were not received.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

impl<'a> Replay<'a> {
    /// A replay of packets of so many conversations.
    pub(super) fn new(packets: &'a [Packet], conversations: usize) -> Self {
        let numbers = packets.iter().map(|packet| (packet.key, (packet.flow, packet.from)));
        Self {
            packets,
            next: 0,
            flows: (0..conversations).map(|_| Flow::default()).collect(),
            numbers: numbers.collect(),
            ready: VecDeque::new(),
            waiting: 0,
            in_flight: [0; 2],
            tally: Tally::default(),
        }
    }

    /// The next packet to be sent, which counts as sent; nothing while there is none that may go.
    pub(super) fn next(&mut self) -> Option<&'a Packet> {
        while let Some(flow) = self.ready.pop_front() {
            let Some(at) = self.flows[flow].waiting.front().copied() else { continue };
            if !self.may_go(at) {
                continue;
            }
            if !self.has_credit(at) {
                self.ready.push_front(flow);
                return None;
            }
            self.flows[flow].waiting.pop_front();
            self.waiting -= 1;
            self.ready.push_back(flow);
            return Some(self.send(at));
        }
        while let Some(packet) = self.packets.get(self.next) {
            let flow = &mut self.flows[packet.flow];
            if flow.waiting.is_empty() && flow.in_flight[packet.from.other() as usize].is_empty() {
                if !self.has_credit(self.next) {
                    return None;
                }
                self.next += 1;
                return Some(self.send(self.next - 1));
            }
            if self.waiting == WAITING_MAX {
                return None;
            }
            flow.waiting.push_back(self.next);
            self.waiting += 1;
            self.next += 1;
        }
        None
    }

    /// Takes what has arrived at an end.
    pub(super) fn arrived(&mut self, at: End, frame: &[u8]) {
        let meta = segment(frame);
        let known = meta.and_then(|meta| self.numbers.get(&meta.key).copied());
        let Some((number, from)) = known.filter(|(_, from)| from.other() == at) else {
            self.tally.unexpected += 1;
            return;
        };
        let flow = &mut self.flows[number];
        let sent = &mut flow.in_flight[from as usize];
        let is_this = |place: &usize| is_forwarded(&self.packets[*place].frame, frame);
        let Some(place) = sent.iter().position(is_this) else {
            self.tally.unexpected += 1;
            return;
        };
        sent.remove(place);
        self.tally.received += 1;
        self.tally.reordered += u64::from(place > 0);
        self.in_flight[from as usize] -= 1;
        if sent.is_empty() && !flow.waiting.is_empty() {
            self.ready.push_back(number);
        }
    }

    /// Packets that have been sent.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether all packets have been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.tally.sent == self.packets.len() as u64
    }

    /// Whether nothing that was sent has still to arrive.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight == [0; 2]
    }

    fn may_go(&self, at: usize) -> bool {
        let packet = &self.packets[at];
        self.flows[packet.flow].in_flight[packet.from.other() as usize].is_empty()
    }

    fn has_credit(&self, at: usize) -> bool {
        self.in_flight[self.packets[at].from as usize] < CREDIT
    }

    fn send(&mut self, at: usize) -> &'a Packet {
        let packet = &self.packets[at];
        self.flows[packet.flow].in_flight[packet.from as usize].push_back(at);
        self.in_flight[packet.from as usize] += 1;
        self.tally.sent += 1;
        packet
    }
}

/// Whether `received` is what a router makes of `sent`: one hop less to live, all else as it was.
fn is_forwarded(sent: &[u8], received: &[u8]) -> bool {
    let Some(meta) = segment(sent) else { return false };
    let end = ETHERNET + usize::from(meta.ip_len());
    if received.get(34..end) != sent.get(34..end) {
        return false;
    }
    let mut expected = sent.to_vec();
    decrement_ttl(&mut expected, &meta).is_ok()
        && received.get(12..end).is_some_and(|packet| packet == &expected[12..end])
}

#[cfg(test)]
mod tests {
    use super::super::conversations::Conversations;
    use super::super::generated;
    use super::*;

    fn forwarded(packet: &Packet) -> Vec<u8> {
        let mut frame = packet.frame.clone();
        let meta = segment(&frame).unwrap();
        decrement_ttl(&mut frame, &meta).unwrap();
        frame
    }

    fn conversations() -> Conversations {
        Conversations::new(&generated::frames(30, 7)).unwrap()
    }

    #[test]
    fn a_router_with_a_queue_for_each_end_sees_each_conversation_in_its_order() {
        let mut random = weir_seed::rng();
        let all = conversations();
        let mut replay = Replay::new(&all.packets, all.clients.len());
        let mut queues = [const { VecDeque::new() }; 2];
        let mut seen = vec![Vec::new(); all.clients.len()];
        while !(replay.is_sent() && replay.is_quiet()) {
            for _ in 0..random.usize(..50) {
                let Some(packet) = replay.next() else { break };
                queues[packet.from as usize].push_back(packet);
            }
            assert!(queues.iter().all(|queue| queue.len() <= CREDIT));
            for _ in 0..random.usize(..50) {
                let Some(packet) = queues[random.usize(..2)].pop_front() else { continue };
                seen[packet.flow].push(&packet.frame);
                replay.arrived(packet.from.other(), &forwarded(packet));
            }
        }
        let Tally { sent, received, reordered, unexpected } = replay.tally();
        assert_eq!((sent, received), (all.packets.len() as u64, sent));
        assert_eq!((reordered, unexpected), (0, 0));
        for (flow, seen) in seen.into_iter().enumerate() {
            let own = all.packets.iter().filter(|packet| packet.flow == flow);
            assert!(own.map(|packet| &packet.frame).eq(seen), "conversation {flow}");
        }
    }

    /// Two segments that one end sends behind each other, once all else in front has arrived.
    fn two_in_flight<'a>(all: &'a Conversations, replay: &mut Replay<'a>) -> [&'a Packet; 2] {
        let mut last: Option<&Packet> = None;
        loop {
            let packet = replay.next().unwrap();
            match last.replace(packet) {
                Some(last) if (last.flow, last.from) == (packet.flow, packet.from) => {
                    return [last, packet];
                }
                Some(last) => replay.arrived(last.from.other(), &forwarded(last)),
                None => assert_eq!(all.packets[0].frame, packet.frame),
            }
        }
    }

    #[test]
    fn each_fault_of_a_router_is_counted() {
        let all = conversations();
        let judge = |arrive: fn(&mut Replay<'_>, [&Packet; 2])| {
            let mut replay = Replay::new(&all.packets, all.clients.len());
            let two = two_in_flight(&all, &mut replay);
            arrive(&mut replay, two);
            let tally = replay.tally();
            (tally.lost(), tally.reordered, tally.unexpected)
        };
        fn take(replay: &mut Replay<'_>, packet: &Packet) {
            replay.arrived(packet.from.other(), &forwarded(packet));
        }
        let in_order = judge(|replay, two| two.iter().for_each(|packet| take(replay, packet)));
        assert_eq!(in_order, (0, 0, 0));
        let swapped = judge(|replay, two| two.iter().rev().for_each(|packet| take(replay, packet)));
        assert_eq!(swapped, (0, 1, 0));
        assert_eq!(judge(|replay, [one, _]| take(replay, one)), (1, 0, 0));
        let repeated = judge(|replay, [one, other]| {
            [one, other, one].iter().for_each(|packet| take(replay, packet));
        });
        assert_eq!(repeated, (0, 0, 1));
        let unchanged = |replay: &mut Replay<'_>, [one, other]: [&Packet; 2]| {
            replay.arrived(one.from.other(), &one.frame);
            take(replay, other);
        };
        assert_eq!(judge(unchanged), (1, 1, 1));
        let at_the_wrong_end = |replay: &mut Replay<'_>, [one, other]: [&Packet; 2]| {
            take(replay, one);
            replay.arrived(other.from, &forwarded(other));
        };
        assert_eq!(judge(at_the_wrong_end), (1, 0, 1));
    }

    #[test]
    fn a_changed_byte_of_the_payload_is_noticed() {
        let all = conversations();
        let packet = all.packets.iter().find(|packet| packet.frame.len() > 100).unwrap();
        let mut frame = forwarded(packet);
        assert!(is_forwarded(&packet.frame, &frame));
        // Ethernet pads short frames behind the packet.
        frame.push(0);
        assert!(is_forwarded(&packet.frame, &frame));
        for at in [12, 15, 90] {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            assert!(!is_forwarded(&packet.frame, &changed), "byte {at}");
        }
    }
}
