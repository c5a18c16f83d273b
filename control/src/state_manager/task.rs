//! What is to be done next in a move, and how.

use weir_state_transfer::chunk::Scope;

use super::lead::LeadStep;

/// A task of a move; each has one effect. Those of `Steps` that are named say what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// See what the destination has: each piece to `Steps::there`.
    Survey(Scope),
    /// Get at the source, and put what `Steps::carry` says; or send it to the other node.
    Carry(Scope),
    /// Wait for the receipt of the other node.
    Confirm,
    /// Delete `Steps::carried` at the source.
    Delete(Scope),
    /// Tell the other node that it was deleted.
    Release,
    /// Tell the other node that it is to undo.
    Recall,
    /// Put what comes from the other node, as `Steps::carry` says.
    Receive,
    /// Wait for what the other node says: it fails when that wants it undone.
    Hold,
    /// Delete `Steps::to_remove` at the destination.
    Remove(Scope),
    /// Put `Steps::to_put_back` at the destination.
    PutBack,
    /// Write down how far it may have come from here on.
    Note(LeadStep),
    /// Have the packets of the source held.
    Stop,
    /// Wait until the source has taken what it was sent.
    Drain,
    /// See that all packets that came since are held.
    Assure,
    /// Lead packets to the destination, those first that were held.
    Lead,
    /// See that the destination is still the process that took in what was carried: nothing is deleted
    /// at the source before.
    Recognise,
    /// Write down that packets are not led after all, where it was that they are.
    Unlead,
    /// Lead packets to the source again, those first that were held.
    GoBack,
    /// Wait until the source has taken what it was sent, though that was to be held.
    Settle,
    /// See what the source has: each piece to `Steps::carry`.
    List(Scope),
    /// Forget what was written down, and note `Steps::ended`, as one.
    Close,
}

/// How a task is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is cut off when the move is cancelled or its time is over: then the move goes back.
    CutOff,
    /// It runs to its end, which does not take long or has limits of its own: nobody would know what
    /// becomes of one that is cut off.
    Whole,
    /// It has a limited time, together with all others of this kind.
    Finishing,
    /// It is tried again until it is done, with a wait between: packets are held until then, or what
    /// is written down would be done once more.
    Insisting,
}

impl Task {
    /// How it is carried out.
    pub fn manner(self) -> Manner {
        match self {
            Self::Survey(_) | Self::Carry(_) | Self::Confirm | Self::Receive => Manner::CutOff,
            Self::Drain | Self::Assure => Manner::CutOff,
            Self::Hold | Self::Release | Self::Recall | Self::Note(_) | Self::Stop => Manner::Whole,
            Self::Delete(_) | Self::Remove(_) | Self::PutBack | Self::List(_) => Manner::Finishing,
            Self::Recognise | Self::Settle => Manner::Finishing,
            Self::Lead | Self::Unlead | Self::GoBack | Self::Close => Manner::Insisting,
        }
    }

    /// Whether the move goes back when it fails.
    pub(super) fn goes_back(self) -> bool {
        match self {
            // All state has moved by then.
            Self::Note(step) => step != LeadStep::Led,
            Self::Stop | Self::Hold => true,
            _ => self.manner() == Manner::CutOff,
        }
    }
}
