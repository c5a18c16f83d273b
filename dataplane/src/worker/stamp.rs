//! The steerer's part of strict shares: gives packets their places in the order of their slots.

use std::sync::Arc;

use weir_state_transfer::share::{Cause, Slot, Stamper};
use weir_state_transfer::{FlowKey, InstanceId, ShareId, WorkerId};

use super::{Item, Packet, Worker};
use crate::nf::Sharing;

/// Places of a packet at most.
const PLACES: usize = 2;

/// The places of a packet in the order of who has steered it: in the slot of its source, and in that
/// of its destination, as either may be the source of its connection.
///
/// By columns, so that they are no longer than a packet in a ring.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    shares: [ShareId; PLACES],
    sequences: [u64; PLACES],
    slots: [Slot; PLACES],
    len: u8,
}

/// One place of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) share: ShareId,
    pub(crate) slot: Slot,
    pub(crate) sequence: u64,
}

/// Whose packets a worker is to stamp from here on. Answered with [`super::Event::Stamped`] of every
/// worker, when what was stamped before has come there.
#[derive(Debug)]
pub struct StampCommand {
    pub(crate) sharing: Arc<Sharing>,
    /// The number of the view.
    pub(crate) view: u64,
    /// None when the share ends.
    pub(crate) members: Vec<InstanceId>,
    /// For a worker that does not stamp for the share yet.
    pub(crate) stamper: Box<Stamper>,
}

/// What a worker stamps.
#[derive(Debug, Default)]
pub(super) struct Stampers(Vec<Stamping>);

#[derive(Debug)]
struct Stamping {
    sharing: Arc<Sharing>,
    members: Vec<InstanceId>,
    stamper: Box<Stamper>,
}

impl Default for Stamps {
    fn default() -> Self {
        Self {
            shares: [ShareId(0); PLACES],
            sequences: [0; PLACES],
            slots: [Slot(0); PLACES],
            len: 0,
        }
    }
}

impl Stamps {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn is_full(&self) -> bool {
        usize::from(self.len) == PLACES
    }

    /// Adds a place, of which there must not be too many.
    fn push(&mut self, Stamped { share, slot, sequence }: Stamped) {
        let at = usize::from(self.len);
        (self.shares[at], self.slots[at], self.sequences[at]) = (share, slot, sequence);
        self.len += 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Stamped> + '_ {
        (0..usize::from(self.len)).map(|at| Stamped {
            share: self.shares[at],
            slot: self.slots[at],
            sequence: self.sequences[at],
        })
    }
}

/// The places of the next stamped packet of each worker.
#[derive(Debug, Default)]
pub(super) struct Announced(Vec<Stamps>);

impl Announced {
    /// Memory is taken at the first of a worker with a greater number.
    pub(super) fn put(&mut self, sender: WorkerId, stamps: Stamps) {
        let sender = usize::from(sender.0);
        if self.0.len() <= sender {
            self.0.resize(sender + 1, Stamps::default());
        }
        self.0[sender] = stamps;
    }

    /// None, if a panic came between.
    pub(super) fn take(&mut self, sender: WorkerId) -> Stamps {
        self.0.get_mut(usize::from(sender.0)).map(std::mem::take).unwrap_or_default()
    }
}

impl Stampers {
    /// The places of a packet to an instance: none where no share is strict.
    #[inline]
    pub(super) fn stamp(&mut self, instance: InstanceId, key: &FlowKey) -> Stamps {
        let mut stamps = Stamps::default();
        for Stamping { sharing, members, stamper } in &mut self.0 {
            if !members.contains(&instance) {
                continue;
            }
            for slot in sharing.slots_of_ends(key) {
                let share = sharing.id;
                let has_one = stamps.iter().any(|other| (other.share, other.slot) == (share, slot));
                // No end is in two shares of an instance, so there is room; who finds none takes
                // no place, and leaves no gap.
                if !has_one && !stamps.is_full() {
                    let sequence = stamper.stamp(slot).sequence;
                    stamps.push(Stamped { share, slot, sequence });
                }
            }
        }
        stamps
    }

    fn adopt(&mut self, command: StampCommand) {
        let StampCommand { sharing, members, stamper, .. } = command;
        if members.is_empty() {
            self.0.retain(|stamping| stamping.sharing.id != sharing.id);
            return;
        }
        match self.0.iter_mut().find(|stamping| stamping.sharing.id == sharing.id) {
            Some(stamping) => stamping.members = members,
            None => self.0.push(Stamping { sharing, members, stamper }),
        }
    }
}

impl Worker {
    /// Gives a packet with its places to an instance of this worker.
    pub(super) fn deliver_stamped(
        &mut self,
        steerer: WorkerId,
        instance: InstanceId,
        packet: Packet,
        stamps: Stamps,
    ) {
        self.forwarder.stamps = stamps;
        self.deliver(steerer, instance, packet);
        // Left over of a packet that did not come as far as the share, as when a subscriber has it
        // dropped: others wait for its places.
        let stamps = std::mem::take(&mut self.forwarder.stamps);
        if !stamps.is_empty()
            && let Some(instance) = self.instances.find(instance)
        {
            instance.pass(steerer, &stamps, (Cause::Skipped, None));
        }
    }

    /// Stamps by a view from here on, and says so to everybody behind what was stamped before.
    pub(super) fn stamp(&mut self, command: StampCommand) {
        let (id, view) = (command.sharing.id, command.view);
        self.stampers.adopt(command);
        for peer in self.forwarder.rings.peers() {
            self.forwarder.hand_out(peer, Item::ShareMarker(id, view));
        }
    }
}
