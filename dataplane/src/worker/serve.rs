//! Serving what is asked for of the state of instances, and those who have subscribed to their
//! packets, between two bursts.

use weir_state_transfer::Nanos;
use weir_state_transfer::southbound::Arrival;

use super::{Event, FaultStage, Forwarder, Packet, Worker};
use crate::instance::{AsFunction, Instance};
use crate::packet::DropReason;

/// Packets of one instance that are released in one poll round, at most.
const RELEASED: usize = 64;

impl Worker {
    /// Carries out a bounded number of calls of each instance that somebody asks, tells subscribers,
    /// and releases what they keep no more. An instance that leaves is gone when nothing is kept.
    /// Whether there is more to do at once.
    pub(super) fn serve(&mut self, now: Nanos) -> bool {
        let Self { instances, forwarder, moves, region, serving, steered, .. } = self;
        let packet_max = region.frame_size().bytes();
        let (mut busy, mut left) = (false, Vec::new());
        for instance in instances.iter_mut() {
            if let Some(desk) = instance.desk.take() {
                let (_, desk) = serving.insert((instance.id, desk));
                if !desk.is_empty() {
                    forwarder.fault(FaultStage::Served);
                }
                let moving = moves.of(instance.id);
                let (hash, steering) = (&*forwarder.steering_hash, &steered.steering);
                let mut function = AsFunction { instance, hash, steering, now, moving, packet_max };
                busy |= desk.serve(&mut function) > 0;
                instance.desk = serving.take().map(|(_, desk)| desk);
            }
            if !instance.subscriptions.is_idle() {
                busy |= forwarder.release_some(instance);
            }
            busy |= instance.subscriptions.tidy();
            instance.publish_keeping();
            if instance.is_leaving && instance.subscriptions.is_idle() {
                left.push(instance.id);
            }
        }
        for id in left {
            if let Some(mut instance) = instances.remove(id) {
                instance.settle();
                forwarder.tell(Event::Removed(Box::new(instance)));
            }
        }
        busy
    }
}

impl Forwarder {
    /// What those who have subscribed to an instance make of a packet: it comes back if it is to be
    /// processed.
    pub(super) fn subscribed(&mut self, instance: &mut Instance, packet: Packet) -> Option<Packet> {
        match instance.arrive(packet, self.now) {
            Arrival::Process(packet) => Some(packet),
            Arrival::Kept => None,
            Arrival::Drop(packet) => {
                self.drop_packet(packet, DropReason::SubscriberDrop);
                None
            }
            Arrival::Full(packet) => {
                self.drop_packet(packet, DropReason::KeepFull);
                None
            }
        }
    }

    /// Processes packets that no subscription keeps any more; whether there are more.
    fn release_some(&mut self, instance: &mut Instance) -> bool {
        for _ in 0..RELEASED {
            let Some(packet) = instance.subscriptions.release() else { break };
            self.in_hand.take_up(true);
            self.process(instance, packet);
            self.in_hand.put_down();
        }
        instance.subscriptions.may_release()
    }
}
