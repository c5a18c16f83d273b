//! Packets for the router itself, before steering, and what it says of packets it refuses.

use weir_frame::Frame;
use weir_state_transfer::{PortId, protocol};

use super::{FaultStage, Forwarder, Item, Packet};
use crate::icmp_error::{self, Kind};
use crate::instance::Instance;
use crate::local::{self, Consumed, Verdict};
use crate::nf::{Passing, Refused};
use crate::packet::scope;
use crate::packet::{DropReason, Flags, Meta};

impl Forwarder {
    /// Whether the packet is for the router itself.
    #[inline]
    pub(super) fn is_local(&self, packet: &Packet) -> bool {
        self.addresses.is_local(&packet.meta)
            && !self.steering_hash.is_for_nat(packet.frame.data(), &packet.meta)
    }

    /// Why a packet that is not for the router may not be forwarded either, if so.
    #[inline]
    pub(super) fn refuses(&self, packet: &Packet) -> Option<DropReason> {
        if !self.port_addresses[usize::from(packet.port.0)].is_addressed(packet.frame.data()) {
            return Some(DropReason::NotForUs);
        }
        let quotes = packet.meta.flags.has(Flags::KEY_OF_QUOTED);
        if !quotes && self.addresses.is_from_us(&packet.meta.key) {
            return Some(DropReason::OwnSource);
        }
        let (src, dst) = packet.meta.addresses(packet.frame.data())?;
        scope::forwardable(src, dst).err()
    }

    /// Handles a packet for the router: here, or at the owner of the port when it says something
    /// about a neighbour.
    pub(super) fn local(&mut self, packet: Packet) {
        match self.resolver.owner_of(packet.port) {
            Some(owner) if owner != self.worker && is_about_neighbours(&packet.meta) => {
                self.hand_out(owner, Item::Local(packet));
            }
            Some(_) | None => self.answer_locally(packet),
        }
    }

    pub(super) fn answer_locally(&mut self, packet: Packet) {
        self.fault(FaultStage::Local);
        let Packet { mut frame, meta, port } = packet;
        let (ports, addresses) = (self.port_addresses.clone(), self.addresses.clone());
        let (verdict, heard) =
            local::answer(&mut frame, &meta, &ports[usize::from(port.0)], &addresses);
        let now = self.now;
        if let (Some(heard), Some(owner)) = (heard, self.resolver.owner_mut(port)) {
            owner.hear(heard, now);
            self.carry_out_outputs(port);
        }
        match verdict {
            Verdict::Reply => {
                self.send(port, frame);
                self.counters.consumed.add(1);
                self.counters.generated.add(1);
            }
            Verdict::PortUnreachable => {
                self.send_error(&frame, &meta, port, Kind::PortUnreachable);
                self.pool.free(frame);
                self.counters.consumed.add(1);
            }
            Verdict::Consumed(how) => {
                if how == Consumed::Icmp {
                    self.hear_probe(frame.data(), &meta);
                }
                self.pool.free(frame);
                self.counters.consumed.add(1);
            }
            Verdict::Dropped(reason) => self.drop_frame(frame, reason),
        }
    }

    /// Drops a packet that can not be forwarded, and tells its sender where that is right.
    pub(super) fn refuse(&mut self, frame: Frame, meta: &Meta, port: PortId, reason: DropReason) {
        let kind = match reason {
            DropReason::TxTooLong => Some(Kind::TooBig(self.mtu_towards(meta, port))),
            reason => Kind::of(reason),
        };
        self.answer_and_drop(frame, meta, port, (reason, kind));
    }

    /// Drops a packet for a reason, and tells its sender what is to be told.
    pub(super) fn answer_and_drop(
        &mut self,
        frame: Frame,
        meta: &Meta,
        port: PortId,
        (reason, answer): (DropReason, Option<Kind>),
    ) {
        if let Some(kind) = answer {
            self.send_error(&frame, meta, port, kind);
        }
        self.drop_frame(frame, reason);
    }

    /// Sends an ICMP error about a packet, unless it must not or the limit is reached.
    fn send_error(&mut self, about: &Frame, meta: &Meta, port: PortId, kind: Kind) {
        let ports = self.port_addresses.clone();
        let port_addresses = &ports[usize::from(port.0)];
        if !icmp_error::may_be_sent(about.data(), meta) || !self.icmp_errors.take(self.now) {
            return;
        }
        let Some(mut frame) = self.pool.alloc() else { return };
        if icmp_error::write(&mut frame, about.data(), meta, port_addresses, kind) {
            self.counters.generated.add(1);
            if meta.flags.has(Flags::TRANSLATED) {
                self.hand_out(self.worker, Item::Error(port, frame));
            } else {
                self.send(port, frame);
            }
        } else {
            self.pool.free(frame);
        }
    }
}

impl Forwarder {
    /// Sends an ICMP error of the router itself, which an instance makes one about what the sender of
    /// its packet knows. It is no packet of the instance: it leaves by the port that it is addressed
    /// for, whatever the routes say.
    #[cold]
    pub(super) fn send_own(&mut self, instance: &mut Instance, packet: Packet) {
        let Packet { mut frame, mut meta, port } = packet;
        self.in_hand.is_of(instance.id, &meta);
        let passing = Passing { frame: frame.data_mut(), meta: &mut meta, port, now: self.now };
        match instance.translate_own(passing) {
            Ok(()) => self.send(port, frame),
            Err(Refused { reason, .. }) => self.drop_frame(frame, reason),
        }
    }
}

/// Whether a packet for the router may say something about a neighbour.
fn is_about_neighbours(meta: &Meta) -> bool {
    meta.flags.has(Flags::ARP) || meta.protocol == protocol::ICMPV6
}
