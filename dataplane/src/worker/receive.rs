//! Receiving and steering: from a port's queue to the instance that owns the flow.

use weir_frame::Frame;
use weir_state_transfer::{PortId, ServiceId, WorkerId};

use super::{FaultStage, Item, Packet, Worker};
use crate::packet::partial::complete;
use crate::packet::{self, DropReason, Flags, Meta, Parsed};

impl Worker {
    /// Receives a burst from each queue and steers it; how many packets.
    pub(super) fn receive(&mut self) -> u64 {
        let mut received = self.steer_burst();
        let mut all_were_empty = true;
        for queue in 0..self.queues.len() {
            self.burst_queue = queue;
            self.queues[queue].receive(&mut self.forwarder.pool, &mut self.burst);
            all_were_empty &= !self.burst.is_full();
            self.burst.reverse();
            received += self.steer_burst();
        }
        self.has_received(all_were_empty);
        received
    }

    pub(super) fn steer_burst(&mut self) -> u64 {
        let packets = self.burst.len() as u64;
        while let Some(frame) = self.burst.pop() {
            self.forwarder.in_hand.take_up(true);
            self.forwarder.fault(FaultStage::Received);
            self.steer_frame(frame);
            self.forwarder.in_hand.put_down();
        }
        packets
    }

    fn steer_frame(&mut self, mut frame: Frame) {
        let queue = &self.queues[self.burst_queue];
        let (port, is_partial) = (queue.port, queue.partial_checksums);
        match packet::parse(frame.data(), ServiceId(0)) {
            Ok(Parsed::Arp) => {
                let packet = Packet { frame, meta: Meta::of_arp(), port };
                self.forwarder.local(packet);
            }
            Ok(Parsed::Ip(meta)) => {
                if is_partial {
                    complete(frame.data_mut(), &meta);
                }
                self.receive_packet(Packet { frame, meta, port });
            }
            Err(reason) => self.forwarder.drop_frame(frame, reason),
        }
    }

    fn receive_packet(&mut self, packet: Packet) {
        if self.forwarder.is_local(&packet) {
            self.forwarder.local(packet);
        } else if let Some(reason) = self.forwarder.refuses(&packet) {
            self.forwarder.drop_packet(packet, reason);
        } else {
            self.steer_packet(packet);
        }
    }

    fn steer_packet(&mut self, mut packet: Packet) {
        let hash = &self.forwarder.steering_hash;
        packet.meta.key = hash.key(packet.frame.data(), &packet.meta);
        packet.meta.hash = hash.hash(&packet.meta.key);
        let instance = self.steered.steering.owner(&packet.meta.key, packet.meta.hash);
        let worker = self.steered.workers[usize::from(instance.0)];
        let stamps = self.stampers.stamp(instance, &packet.meta.key);
        match (worker == self.forwarder.worker, stamps.is_empty()) {
            (true, true) => self.deliver(worker, instance, packet),
            (false, true) => self.hand_over(worker, Item::Packet(instance, packet)),
            (true, false) => self.deliver_stamped(worker, instance, packet, stamps),
            (false, false) => {
                self.forwarder.hand_out(worker, Item::Places(stamps));
                self.hand_over(worker, Item::Stamped(instance, packet));
            }
        }
    }

    /// An ICMP error of this worker about a packet that a NAT has translated goes to who has the flow:
    /// the NAT there makes it one about what the sender knows.
    pub(super) fn steer_error(&mut self, frame: Frame, port: PortId) {
        match packet::parse(frame.data(), ServiceId(0)) {
            Ok(Parsed::Ip(meta)) => {
                let meta = Meta { flags: meta.flags.with(Flags::OWN_ERROR, true), ..meta };
                self.steer_packet(Packet { frame, meta, port });
            }
            Ok(Parsed::Arp) => self.forwarder.drop_frame(frame, DropReason::BadArp),
            Err(reason) => self.forwarder.drop_frame(frame, reason),
        }
    }

    fn hand_over(&mut self, worker: WorkerId, item: Item) {
        self.forwarder.counters.handed_over.add(1);
        self.forwarder.hand_out(worker, item);
    }
}
