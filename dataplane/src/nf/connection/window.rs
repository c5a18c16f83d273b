//! The windows of a TCP connection: which sequence numbers and acknowledgements can be real.
//!
//! After G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (SANE 2000), with the
//! bounds that Linux has found to be needed: a segment has to touch the window, not to lie in it.
//! What lies below it passes without being noted, since the receiver answers it with what the
//! sender has missed (RFC 9293, section 3.10.7.4). All arithmetic is modulo 2^32.

use super::Direction;
use super::invalid::Invalid;
use super::segment::{Offer, Segment, is_after};
use super::state::State;

/// How far an acknowledgement may lag behind, if no window was larger.
const LAG_MIN: u32 = 66_000;

/// What is known of one end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// The sequence number behind all that it has sent.
    pub(super) sent: u32,
    /// The sequence number behind all that the other end lets it send.
    pub(super) allowed: u32,
    /// The largest window that it has offered, in bytes; 0 until something of it was seen.
    pub(super) window_max: u32,
    /// The highest acknowledgement that it has sent.
    pub(super) acked: Option<u32>,
    /// The shift of its windows, [`super::segment::SCALE_MAX`] at most.
    pub(super) scale: u8,
    /// Whether its SYN named a shift.
    pub(super) scales: bool,
    /// Whether it takes selective acknowledgements.
    pub(super) sack: bool,
    /// Whether what it sent last is not acknowledged yet.
    pub(super) unacknowledged: bool,
    /// Whether it was the first to send a FIN.
    pub(super) closed_first: bool,
    /// Whether its windows are not to be relied upon, as its first SYN was not seen.
    pub(super) liberal: bool,
}

/// Both ends, as the direction says that they send in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends(pub(super) [End; 2]);

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It touches the window.
    Inside,
    /// It repeats what is old, or goes a little too far: it passes and is not noted.
    Passes,
    /// Nobody knows, as the windows of its sender are not known.
    Unknown,
    /// It can not be real.
    Outside(Invalid),
}

impl End {
    /// The end that has sent a SYN.
    pub(super) fn of_syn(end: u32, window: u16, offer: Offer) -> Self {
        Self {
            sent: end,
            allowed: end,
            window_max: u32::from(window).max(1),
            scale: offer.scale.unwrap_or(0),
            scales: offer.scale.is_some(),
            sack: offer.sack,
            ..Self::default()
        }
    }

    /// The ends of a connection of which the first segment that was seen is no SYN.
    pub(super) fn picked_up(segment: &Segment<'_>) -> Ends {
        let window_max = u32::from(segment.window).max(1);
        let unknown = Self { sack: true, liberal: true, ..Self::default() };
        let sender = Self {
            sent: segment.end,
            allowed: segment.end.wrapping_add(window_max),
            window_max,
            ..unknown
        };
        Ends([sender, unknown])
    }

    /// Notes the first segment of an end whose SYN was not seen.
    fn join_in(&mut self, segment: &Segment<'_>, sack: u32, receiver: &mut Self) {
        self.sent = segment.end;
        self.window_max = (u32::from(segment.window) << self.scale).max(1);
        self.allowed = segment.end.wrapping_add(self.window_max);
        if receiver.window_max == 0 {
            (receiver.sent, receiver.allowed) = (sack, sack);
        } else if sack == receiver.sent.wrapping_add(1) {
            // The answer to a keep-alive, which lies one byte below what was sent.
            receiver.sent = sack;
        }
    }
}

impl Ends {
    pub(super) fn of(&self, direction: Direction) -> &End {
        &self.0[direction as usize]
    }

    pub(super) fn of_mut(&mut self, direction: Direction) -> &mut End {
        &mut self.0[direction as usize]
    }

    /// Finds out where a segment lies, and notes one that is inside.
    pub(super) fn fit(&mut self, segment: &Segment<'_>, direction: Direction, state: State) -> Fit {
        let [original, reply] = self.0.each_mut();
        let (sender, receiver) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        let sack = if receiver.sack { segment.highest_ack() } else { segment.ack };
        let opening = matches!(state, State::SynSent | State::SynReceived);
        if segment.is_syn()
            && (sender.window_max == 0 || (opening && is_after(segment.end, sender.sent)))
        {
            take_syn(sender, receiver, segment, direction);
            if !segment.has_ack() && direction == Direction::Reply {
                return Fit::Inside;
            }
        } else if sender.window_max == 0 {
            sender.join_in(segment, sack, receiver);
        }
        let range = Range::of(segment, sack, state, sender, receiver);
        match range.check(sender, receiver) {
            Fit::Inside => {
                range.note(segment, sender, receiver);
                Fit::Inside
            }
            _ if sender.liberal => Fit::Unknown,
            other => other,
        }
    }
}

/// The sequence numbers of a segment, as they count here.
struct Range {
    seq: u32,
    end: u32,
    ack: u32,
    sack: u32,
}

impl Range {
    fn of(segment: &Segment<'_>, sack: u32, state: State, sender: &End, receiver: &End) -> Self {
        let Segment { seq, end, ack, .. } = *segment;
        // A segment without acknowledgement says nothing about the other direction, nor does a
        // reset of a host that sets the flag and leaves the number 0.
        let acknowledges = segment.has_ack() && !(segment.is_rst() && ack == 0);
        let (ack, sack) = if acknowledges { (ack, sack) } else { (receiver.sent, receiver.sent) };
        // A reset in answer to a SYN has no number of its own (RFC 9293, section 3.5.2).
        let answers_syn = segment.is_rst() && seq == 0 && state == State::SynSent;
        let (seq, end) = if answers_syn { (sender.sent, sender.sent) } else { (seq, end) };
        Self { seq, end, ack, sack }
    }

    fn check(&self, sender: &mut End, receiver: &End) -> Fit {
        let lag = sender.window_max.max(LAG_MIN);
        let ack_is_sent = !is_after(self.sack, receiver.sent);
        let ack_is_recent = !is_after(receiver.sent.wrapping_sub(lag), self.sack);
        let lowest = sender.sent.wrapping_sub(receiver.window_max);
        let is_new = !is_after(lowest, self.end);
        if is_after(self.seq, sender.allowed) {
            let excess = self.end.wrapping_sub(sender.allowed).wrapping_add(1);
            let within = receiver.window_max != 0 && is_new && excess <= receiver.window_max;
            if !(within && ack_is_recent && ack_is_sent) {
                return Fit::Outside(Invalid::BeyondWindow);
            }
            // Some senders go beyond their window. Where the receiver takes that nevertheless,
            // it will acknowledge it.
            sender.sent = self.end;
            sender.unacknowledged = true;
            Fit::Passes
        } else if !ack_is_sent {
            Fit::Outside(Invalid::AckOfUnsent)
        } else if (receiver.window_max != 0 && !is_new) || !ack_is_recent {
            Fit::Passes
        } else {
            Fit::Inside
        }
    }

    fn note(&self, segment: &Segment<'_>, sender: &mut End, receiver: &mut End) {
        // The window of a SYN is never scaled (RFC 7323, section 2.2).
        let scale = if segment.is_syn() { 0 } else { sender.scale };
        let window = u32::from(segment.window) << scale;
        let beyond = self.sack.wrapping_sub(self.ack);
        sender.window_max = sender.window_max.max(window.wrapping_add(beyond));
        if is_after(self.end, sender.sent) {
            sender.sent = self.end;
            sender.unacknowledged = true;
        }
        if segment.has_ack() && sender.acked.is_none_or(|acked| is_after(self.ack, acked)) {
            sender.acked = Some(self.ack);
        }
        if receiver.window_max != 0 && is_after(self.end, sender.allowed) {
            let excess = self.end.wrapping_sub(sender.allowed);
            receiver.window_max = receiver.window_max.wrapping_add(excess).max(1);
        }
        let allowed = self.sack.wrapping_add(window);
        if !is_after(receiver.allowed, allowed) {
            // A closed window takes one byte, to be probed with (RFC 9293, section 3.8.6.1).
            receiver.allowed = if window == 0 { allowed.wrapping_add(1) } else { allowed };
        }
        if self.ack == receiver.sent {
            receiver.unacknowledged = false;
        }
    }
}

/// Notes the SYN of an end.
fn take_syn(sender: &mut End, receiver: &mut End, segment: &Segment<'_>, direction: Direction) {
    let end = End::of_syn(segment.end, segment.window, segment.offer());
    *sender = End { liberal: sender.liberal, ..end };
    // Windows are scaled only if both ends say so (RFC 7323, section 1.3).
    if direction == Direction::Reply && !(sender.scales && receiver.scales) {
        (sender.scale, receiver.scale) = (0, 0);
    }
}
