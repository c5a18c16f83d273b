//! The states of a TCP connection as somebody in the middle sees them, and what leads from one to
//! the next.
//!
//! The names are those of RFC 9293, section 3.3.2. Each stands for a pair of states of the two
//! ends, as far as the segments that passed allow to tell; segments may get lost behind the
//! observer, so a state is only left for one that the ends can not go back from.

use super::Direction::{self, Original, Reply};
use super::segment::Kind;

/// How far a TCP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// A SYN was seen.
    SynSent,
    /// A SYN of each end was seen, and no answer to either: a simultaneous open.
    BothSynSent,
    /// A SYN and its answer were seen.
    SynReceived,
    /// The answer was acknowledged.
    Established,
    /// A FIN was seen.
    FinWait,
    /// An acknowledgement was seen behind the FIN.
    CloseWait,
    /// A second FIN was seen.
    LastAck,
    /// An acknowledgement was seen behind that.
    TimeWait,
    /// A reset was seen.
    Closed,
}

/// Where a segment leads, if it is in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    To(State),
    /// Nowhere that is known: what is kept of the connection may be wrong. The segment passes, so
    /// that the ends can find out, and what they answer is watched.
    Watch,
    /// The sender can not have sent it.
    Invalid,
}

use State::{
    BothSynSent, CloseWait, Closed, Established, FinWait, LastAck, SynReceived, SynSent, TimeWait,
};
use Step::{Invalid, To, Watch};

impl State {
    pub(super) const ALL: [Self; 9] = [
        SynSent,
        BothSynSent,
        SynReceived,
        Established,
        FinWait,
        CloseWait,
        LastAck,
        TimeWait,
        Closed,
    ];

    /// Whether one end has said that it will send no more.
    pub(super) fn is_closing(self) -> bool {
        match self {
            FinWait | CloseWait | LastAck | TimeWait | Closed => true,
            SynSent | BothSynSent | SynReceived | Established => false,
        }
    }

    /// Whether both ends are done with it, as far as they have told.
    pub(super) fn is_closed(self) -> bool {
        match self {
            TimeWait | Closed => true,
            SynSent | BothSynSent | SynReceived | Established | FinWait | CloseWait | LastAck => {
                false
            }
        }
    }

    /// Where a segment leads from here.
    pub(super) fn step(self, kind: Kind, direction: Direction) -> Step {
        match kind {
            Kind::Syn => self.on_syn(direction),
            Kind::SynAck => self.on_syn_ack(direction),
            Kind::Fin => self.on_fin(),
            Kind::Ack => self.on_ack(direction),
            Kind::Rst => To(Closed),
        }
    }

    fn on_syn(self, direction: Direction) -> Step {
        match (direction, self) {
            (Original, SynSent | TimeWait | Closed) | (Reply, TimeWait) => To(SynSent),
            (_, BothSynSent) | (Reply, SynSent) => To(BothSynSent),
            // The sender may have forgotten the connection (RFC 9293, section 3.5.1).
            (Original, _) => Watch,
            (Reply, _) => Invalid,
        }
    }

    fn on_syn_ack(self, direction: Direction) -> Step {
        match (direction, self) {
            (_, BothSynSent) | (Reply, SynSent) | (Original, SynReceived) => To(SynReceived),
            // Repeated, or the answer to a SYN that was watched.
            (Reply, _) => Watch,
            (Original, _) => Invalid,
        }
    }

    fn on_fin(self) -> Step {
        match self {
            SynSent | BothSynSent => Invalid,
            SynReceived | Established => To(FinWait),
            // The second FIN, or the first again.
            FinWait | CloseWait | LastAck => To(LastAck),
            TimeWait | Closed => To(self),
        }
    }

    fn on_ack(self, direction: Direction) -> Step {
        match (direction, self) {
            (Original, SynSent | BothSynSent) => Invalid,
            // The other end holds half of an older connection (RFC 9293, section 3.5.1).
            (Reply, SynSent | BothSynSent) => Watch,
            (Original, SynReceived) | (_, Established) => To(Established),
            (Reply, SynReceived) => To(SynReceived),
            (_, FinWait | CloseWait) => To(CloseWait),
            (_, LastAck | TimeWait) => To(TimeWait),
            (_, Closed) => To(Closed),
        }
    }
}
