//! Surviving a panic: what it loses is known at every moment, and faults that tests ask for.

use weir_state_transfer::{Bucket, FlowKey, InstanceId};

use super::{Forwarder, Item, Stamps, Worker};
use crate::instance::Instance;
use crate::nf::{Caught, During};
use crate::packet::{DropReason, Meta};

/// What a panic would lose: the packet that has left a queue, a ring or a park and has not come to
/// where it ends.
///
/// A packet is put down when it has been dealt with as a whole. That is exact because each counter
/// of an end is written when nothing is left to be done for the packet that could panic.
#[derive(Debug, Default)]
pub(super) struct InHand {
    packet: bool,
    /// Its flow, once an instance processes it.
    flow: Option<(InstanceId, FlowKey, Bucket)>,
}

/// A panic that a test asks for.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// On the way of a packet to this stage.
    pub stage: FaultStage,
    /// Which packet, the next being the first. 0: at once, with no packet in hand.
    pub packets: u64,
}

/// Where on its way a packet can be made to meet a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStage {
    /// Received from a port, not parsed.
    Received,
    /// Taken from the ring of a worker that has not processed it.
    Taken,
    /// Steered to an instance of this worker, not looked at by a move.
    Delivered,
    /// Given to its instance; its flow has an entry.
    Forwarding,
    /// Shown to the network functions of its instance, the last of which has done its work. Where
    /// there are none, no packet comes here.
    Function,
    /// Not on the way of a packet: calls for the state of an instance that are about to be carried
    /// out. Turns of them are counted instead of packets.
    Served,
    /// Not on the way of a packet: a flow that network functions know, and that a sweep has looked at.
    /// Flows are counted instead of packets.
    Sweep,
    /// Not on the way of a packet: an operation on what is shared, executed for another instance.
    /// Operations are counted instead of packets.
    Executed,
    /// Not on the way of a packet: state of several flows that a move takes out of an instance or into
    /// one. What functions are asked for it is counted instead of packets: each get, and each piece that
    /// is to be forgotten or joined.
    MultiFlow,
    /// Not on the way of a packet: a flow that the destination of a move has no room for, and whose
    /// state is ended. The functions that end something are counted instead of packets.
    Ended,
    /// For the router itself, not answered.
    Local,
    /// Let go because its next hop was resolved, or was not.
    Resolved,
    /// Taken from the ring of a worker that has processed it, to be transmitted or to wait for its
    /// next hop.
    Transmitted,
}

impl FaultStage {
    /// Every stage of a packet's way.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Taken,
        Self::Delivered,
        Self::Forwarding,
        Self::Function,
        Self::Local,
        Self::Resolved,
        Self::Transmitted,
    ];
}

impl InHand {
    /// Something was taken from where it waited: a packet, or what carries none.
    #[inline]
    pub(super) fn take_up(&mut self, packet: bool) {
        *self = Self { packet, flow: None };
    }

    /// An instance processes the packet.
    #[inline]
    pub(super) fn is_of(&mut self, instance: InstanceId, meta: &Meta) {
        self.flow = Some((instance, meta.key, Bucket::of(meta.hash)));
    }

    /// The packet has come to where it ends.
    #[inline]
    pub(super) fn put_down(&mut self) {
        *self = Self::default();
    }
}

impl Worker {
    /// Goes on after a panic in [`Worker::poll`]: counts the packet in hand, gives up its flow, and
    /// lets go what waited with it. Says which network function it was, and of which instance, if it
    /// was one.
    pub fn recover(&mut self) -> Option<(InstanceId, &'static str)> {
        self.forwarder.stamps = Stamps::default();
        self.recover_shares();
        let InHand { packet, flow } = std::mem::take(&mut self.forwarder.in_hand);
        if packet {
            self.forwarder.counters.drops.count(DropReason::WorkerPanic);
        }
        if let Some((instance, key, bucket)) = flow
            && let Some(instance) = self.instances.find(instance)
        {
            instance.flows.poison(key, bucket, self.forwarder.now);
        }
        if let Some(resolution) = self.forwarder.resolver.releasing.take() {
            self.forwarder.hand_out(self.id(), Item::Resolved(resolution));
        }
        // Who has called last is told that nobody serves; who calls next is served.
        if let Some((instance, desk)) = self.serving.take()
            && let Some(instance) = self.instances.find(instance)
        {
            instance.desk = Some(desk);
        }
        self.forwarder.counters.restarts.add(1);
        let panicked = |instance: &mut Instance| Some((instance.id, instance.chain.panicked()?));
        self.instances.iter_mut().find_map(panicked)
    }
}

impl Worker {
    /// Which network function has panicked, and of which instance, since this was asked last, if the
    /// round went on without what that was about.
    pub fn take_panicked(&mut self) -> Option<(InstanceId, &'static str)> {
        self.forwarder.panicked.take()
    }
}

impl Forwarder {
    /// Panics at once, or on the packet that the fault names.
    pub(super) fn ask_for_fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
        if fault.packets == 0 {
            self.strike(fault.stage);
        }
    }

    /// Passes a fault that functions are to have with a packet on to those of its instance.
    #[inline]
    pub(super) fn fault_of_functions(&mut self, instance: &mut Instance) {
        if self.fault.is_some() && !instance.chain.is_empty() {
            self.pass_fault_on(instance);
        }
    }

    #[cold]
    fn pass_fault_on(&mut self, instance: &mut Instance) {
        let Some(fault) = self.fault.as_mut() else { return };
        if fault.stage == FaultStage::Function {
            fault.packets = fault.packets.saturating_sub(1);
            if fault.packets == 0 {
                self.fault = None;
                instance.chain.ask_for_fault(During::Packet, 1);
            }
        }
    }

    /// Passes a fault of a sweep on to the functions of an instance that know flows.
    pub(super) fn fault_of_sweep(&mut self, instance: &mut Instance) {
        let of_sweep = self.fault.filter(|fault| fault.stage == FaultStage::Sweep);
        if let Some(fault) = of_sweep
            && instance.flows.known() > 0
        {
            self.fault = None;
            instance.chain.ask_for_fault(During::Sweep, fault.packets);
        }
    }

    /// Passes a fault of an execution on to the functions of an instance that was sent something.
    pub(super) fn fault_of_execution(&mut self, instance: &mut Instance) {
        if let Some(fault) = self.fault.take_if(|fault| fault.stage == FaultStage::Executed) {
            instance.chain.ask_for_fault(During::Execution, fault.packets);
        }
    }

    /// Passes a fault at what a move takes along on to the functions of an instance.
    pub(crate) fn fault_of_state(&mut self, instance: &mut Instance) {
        let Some(fault) = self.fault else { return };
        let during = match fault.stage {
            FaultStage::MultiFlow => During::MultiFlow,
            FaultStage::Ended => During::End,
            _ => return,
        };
        self.fault = None;
        instance.chain.ask_for_fault(during, fault.packets);
    }

    /// Takes note of panics of functions that have gone no further: the worker's thread names the last
    /// of them. How many there were.
    pub(crate) fn note_caught(&mut self, instance: &mut Instance) -> u64 {
        let Some(Caught { panics, function }) = instance.chain.take_caught() else { return 0 };
        self.panicked = Some((instance.id, function));
        panics
    }

    /// Panics if this was asked for.
    #[inline]
    pub(super) fn fault(&mut self, stage: FaultStage) {
        if self.fault.is_some() {
            self.strike(stage);
        }
    }

    #[cold]
    fn strike(&mut self, stage: FaultStage) {
        if let Some(fault) = self.fault.as_mut().filter(|fault| fault.stage == stage) {
            fault.packets = fault.packets.saturating_sub(1);
            if fault.packets == 0 {
                self.fault = None;
                panic!("a fault that was asked for");
            }
        }
    }
}
