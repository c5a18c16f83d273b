//! Drives shares on a worker: the ends of shares that its instances take part in.

mod end;
mod flows;

use weir_state_transfer::share::Slot;
use weir_state_transfer::{FlowKey, InstanceId, ShareId, WorkerId};

use crate::nf::{Answer, Operation, Piece, Update};
use crate::worker::Packet;

pub use end::ShareEnd;
pub(crate) use end::{Asker, Stage};
use flows::WaitingFlows;

/// What two instances of a share tell each other.
pub(crate) type Message = weir_state_transfer::share::Message<Operation, Answer, Piece>;

/// A message of a share on its way through a ring.
#[derive(Debug)]
pub struct Letter {
    pub(crate) id: ShareId,
    pub(crate) from: InstanceId,
    pub(crate) to: InstanceId,
    pub(crate) message: Message,
}

/// What waits at an end of a share.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A packet, and who steered it.
    Packet(Packet, WorkerId),
    /// A change that keeps no packet.
    Update(Update),
}

/// The ends of shares of one instance.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    pub(crate) ends: Vec<ShareEnd>,
    /// Those that wait until the instance has left the same share.
    pub(crate) coming: Vec<ShareEnd>,
    flows: WaitingFlows,
}

impl Shares {
    /// Whether the instance takes part in none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A share that the instance takes part in, or is to.
    pub(crate) fn first(&self) -> Option<ShareId> {
        self.ends.iter().chain(&self.coming).map(ShareEnd::id).next()
    }

    /// The end of a share.
    pub(crate) fn place(&self, share: ShareId) -> Option<usize> {
        self.ends.iter().position(|end| end.id() == share)
    }

    /// The end of a share, if there is one.
    pub(crate) fn end(&self, share: ShareId) -> Option<&ShareEnd> {
        self.ends.iter().find(|end| end.id() == share)
    }

    /// Packets that wait at all ends.
    pub(crate) fn packets(&self) -> usize {
        self.ends.iter().map(|end| end.packets).sum()
    }

    /// Where packets of a flow wait: others of it go behind them.
    pub(crate) fn waits(&self, flow: &FlowKey) -> Option<(ShareId, Slot)> {
        self.flows.find(flow)
    }

    /// A packet of a flow waits at an end from here on.
    pub(crate) fn keep(&mut self, place: usize, flow: FlowKey, slot: Slot) {
        let end = &mut self.ends[place];
        end.packets += 1;
        self.flows.add(flow, end.id(), slot);
    }

    /// A packet of a flow waits no more.
    pub(crate) fn release(&mut self, place: usize, flow: &FlowKey) {
        self.ends[place].packets -= 1;
        self.flows.remove(flow);
    }

    /// Takes an end out that has not begun.
    pub(crate) fn take_coming(&mut self, share: ShareId) -> Option<ShareEnd> {
        let place = self.coming.iter().position(|end| end.id() == share)?;
        Some(self.coming.remove(place))
    }

    /// Takes an end out, with what is known of its packets.
    pub(crate) fn remove(&mut self, place: usize) -> ShareEnd {
        let end = self.ends.remove(place);
        self.flows.forget(end.id());
        end
    }
}
