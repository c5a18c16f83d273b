//! What goes from worker to worker through the rings.

use std::net::IpAddr;

use weir_frame::Frame;
use weir_state_transfer::bucket::Bucket;
use weir_state_transfer::mark::UndoAnswer;
use weir_state_transfer::{FlowKey, InstanceId, MoveId, Nanos, PortId, ShareId};

use super::Stamps;
use crate::instance::{MovedFlows, Part};
use crate::neighbour::Resolution;
use crate::nf::MultiFlow;
use crate::packet::Meta;
use crate::share::Letter;

/// A parsed packet in its frame.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub(crate) frame: Frame,
    /// What parsing found out.
    pub(crate) meta: Meta,
    /// The port it came in by.
    pub(crate) port: PortId,
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        self.frame.data()
    }
}

/// A packet that waits at one end of a move.
#[derive(Debug)]
pub struct Held {
    pub(crate) packet: Packet,
    /// Since when.
    pub(crate) since: Nanos,
}

/// One slot of a ring between two workers.
#[derive(Debug)]
pub enum Item {
    /// A packet steered to an instance.
    Packet(InstanceId, Packet),
    /// The places of the next stamped packet of the sender. They go in front of it, and not with it, so
    /// that no packet that has none takes a larger slot for them.
    Places(Stamps),
    /// A packet steered to an instance, whose places in the order of strict shares have come before.
    Stamped(InstanceId, Packet),
    /// A packet for the router itself, to the worker that owns the port it came in by.
    Local(Packet),
    /// A frame to transmit, to the worker that owns the port's transmit queue.
    Transmit(PortId, Frame),
    /// A packet that has been processed and waits for its next hop, to the worker that its flow
    /// moves to.
    Parked(PortId, IpAddr, Packet),
    /// An ICMP error about a packet that came in by a port and was translated, to the worker itself.
    Error(PortId, Frame),
    /// A worker wants to know the link address of a next hop; to the port's owner.
    Resolve(PortId, IpAddr),
    /// What became of a resolution; from the port's owner to all.
    Resolved(Resolution),
    /// The sender steers the new way: every packet it steered the old way is in front of this.
    Marker {
        /// The move.
        id: MoveId,
        /// The steerer flips back: the move is being undone.
        back: bool,
    },
    /// The receive queues of the sender have been empty since it was asked: all that came by them before
    /// is in front of this.
    CaughtUp(u64),
    /// The sender leaves: every packet that it steered is in front of this.
    Fence,
    /// A message between the ends of a move.
    Move(MoveId, Message),
    /// A message between two instances of a share.
    Share(Box<Letter>),
    /// The sender stamps packets by a view of a share: all that it stamped before is in front of
    /// this.
    ShareMarker(ShareId, u64),
}

/// What the ends of a move tell each other, and those that transmit for the source.
#[derive(Debug)]
pub enum Message {
    /// A bucket with its flows; from the source.
    Bucket(Bucket, Box<Part>),
    /// Flows one by one; from the source.
    Flows(MovedFlows),
    /// The source has no state of a flow that the destination pulled.
    Unknown(FlowKey),
    /// State of several flows, in front of every flow; from the source.
    MultiFlow(MultiFlow),
    /// What of it there is no room for goes back; from the destination.
    Refused(MultiFlow),
    /// Everything has been exported.
    End,
    /// END has come, so nothing goes back any more; from the destination of a move with state of
    /// several flows.
    Ended,
    /// The destination holds packets of this flow: export it first.
    Pull(FlowKey),
    /// The destination asks to undo.
    Undo,
    /// The source's answer.
    UndoAnswer(UndoAnswer),
    /// A packet goes back to the source.
    Relay(Held),
    /// Everything has been sent back.
    RelayEnd,
    /// Say when what was handed to you for transmission has left; from the source.
    Drain,
    /// It has left.
    Drained,
}

impl Item {
    /// Packets that the item carries: 1 or 0.
    pub(crate) fn packets(&self) -> u64 {
        match self {
            Self::Packet(..)
            | Self::Stamped(..)
            | Self::Local(_)
            | Self::Transmit(..)
            | Self::Parked(..)
            | Self::Error(..)
            | Self::Move(_, Message::Relay(_)) => 1,
            Self::Places(_)
            | Self::Resolve(..)
            | Self::Resolved(_)
            | Self::Marker { .. }
            | Self::CaughtUp(_)
            | Self::Fence
            | Self::Share(_)
            | Self::ShareMarker(..)
            | Self::Move(..) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_next_hop_is_the_largest_item() {
        let (item, largest) = (size_of::<Item>(), size_of::<(PortId, IpAddr, Packet)>());
        assert!(item <= largest + 8, "{item} bytes, and that {largest}");
        assert!(item <= 128, "{item} bytes: two cache lines");
    }
}
