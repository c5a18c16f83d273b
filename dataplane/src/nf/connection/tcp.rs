//! TCP connections (RFC 9293) as somebody in the middle sees them.

use std::time::Duration;

use super::segment::{Kind, Offer, Segment};
use super::state::{State, Step};
use super::timeout::TcpTimeouts;
use super::window::{End, Ends, Fit};
use super::{Direction, Invalid, Settings, Tracked};

/// Repetitions after which a connection is kept for a shorter time.
const REPETITIONS: u8 = 3;
/// A reset or FIN that does not fit shortens what is left of a connection, if it is more.
const DOUBTFUL: Duration = Duration::from_secs(120);

/// The state of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    pub(super) state: State,
    pub(super) ends: Ends,
    pub(super) last: Last,
    /// Whether the end that was asked has answered.
    pub(super) replied: bool,
    /// Whether both ends are known to be connected.
    pub(super) assured: bool,
    /// Whether both ends have sent a SYN on their own.
    pub(super) simultaneous: bool,
    /// How often the last acknowledgement was repeated.
    pub(super) repetitions: u8,
}

/// The last segment that tells something about the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) kind: Option<Kind>,
    pub(super) direction: Direction,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) end: u32,
    pub(super) window: u16,
    /// What it offered, if it is a SYN that was watched.
    pub(super) offer: Offer,
    /// Whether it is one that the other end may answer by an acknowledgement that is none of its
    /// FIN (RFC 5961, section 4).
    pub(super) challenges: bool,
}

/// What is to be done with a segment.
enum Course {
    /// It leads to a state if it fits in the window.
    Check(State),
    /// It leads to a state, wherever it lies.
    Enter(State),
    /// It passes and changes nothing.
    Pass,
    /// It begins another connection.
    Begin,
    Refuse(Invalid),
}

impl Tcp {
    /// The connection that a segment begins.
    pub(super) fn open(segment: &Segment<'_>, settings: &Settings) -> Result<Self, Invalid> {
        let (state, ends) = match segment.kind() {
            Kind::Syn => {
                let sender = End::of_syn(segment.end, segment.window, segment.offer());
                (State::SynSent, Ends([sender, End::default()]))
            }
            Kind::Ack if settings.pick_up => (State::Established, End::picked_up(segment)),
            Kind::Ack | Kind::SynAck | Kind::Fin | Kind::Rst => return Err(Invalid::NoConnection),
        };
        let mut tcp = Self {
            state,
            ends,
            last: Last::default(),
            replied: false,
            assured: false,
            simultaneous: false,
            repetitions: 0,
        };
        match tcp.ends.fit(segment, Direction::Original, state) {
            Fit::Outside(reason) => return Err(reason),
            Fit::Inside => tcp.note_numbers(segment, Direction::Original),
            Fit::Passes | Fit::Unknown => {}
        }
        tcp.last.kind = Some(segment.kind());
        Ok(tcp)
    }

    /// Follows a segment of the connection, of whose time so much is left. Says what is left then.
    pub(super) fn follow(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        left: Duration,
        timeouts: &TcpTimeouts,
    ) -> (Tracked, Duration) {
        let state = match self.course(segment, direction) {
            Course::Enter(state) => state,
            Course::Check(state) => match self.ends.fit(segment, direction, self.state) {
                Fit::Inside => {
                    self.note_numbers(segment, direction);
                    state
                }
                Fit::Unknown => state,
                Fit::Passes => return (self.seen(direction), left),
                Fit::Outside(reason) => {
                    let left = self.doubt(segment, direction, left, timeouts);
                    return (Tracked::Invalid(reason), left);
                }
            },
            Course::Pass => return (self.seen(direction), left),
            Course::Begin => return (Tracked::Begins, left),
            Course::Refuse(reason) => return (Tracked::Invalid(reason), left),
        };
        let left = self.enter(state, segment, direction, left, timeouts);
        (self.seen(direction), left)
    }

    /// How long the connection stays without a segment.
    pub(super) fn timeout(&self, timeouts: &TcpTimeouts) -> Duration {
        let of_state = timeouts.of(self.state);
        let [one, other] = &self.ends.0;
        let timeout = if self.repetitions >= REPETITIONS && of_state > timeouts.retransmitting {
            timeouts.retransmitting
        } else if self.last.kind == Some(Kind::Rst) {
            timeouts.closed
        } else if one.unacknowledged || other.unacknowledged {
            of_state.min(timeouts.unacknowledged)
        } else if self.last.window == 0 {
            of_state.min(timeouts.retransmitting)
        } else {
            of_state
        };
        // Taken up in the middle, and nobody has answered yet.
        let of_one_end = self.state == State::Established && !self.replied;
        if of_one_end { timeout.min(timeouts.unacknowledged) } else { timeout }
    }

    fn course(&mut self, segment: &Segment<'_>, direction: Direction) -> Course {
        let kind = segment.kind();
        let state = match self.state.step(kind, direction) {
            Step::Invalid => return Course::Refuse(Invalid::UnexpectedSegment),
            Step::Watch => return self.watch(segment, direction),
            Step::To(state) => state,
        };
        match (self.state, state) {
            (State::TimeWait | State::Closed, State::SynSent) => {
                if self.may_reopen(direction) {
                    Course::Begin
                } else {
                    self.watch(segment, direction)
                }
            }
            (State::LastAck, State::TimeWait)
                if self.last.challenges
                    && self.last.kind == Some(Kind::Syn)
                    && self.last.direction != direction =>
            {
                self.last.challenges = false;
                Course::Pass
            }
            (_, State::BothSynSent) => {
                self.simultaneous = true;
                Course::Check(state)
            }
            (_, State::SynReceived)
                if self.simultaneous && kind == Kind::Ack && direction == Direction::Reply =>
            {
                Course::Check(State::Established)
            }
            _ if kind == Kind::Rst => self.on_reset(segment, direction),
            _ => Course::Check(state),
        }
    }

    /// Whether a SYN begins another connection: this one was closed by both its ends, or the
    /// sender has just reset it (RFC 9293, section 3.6.1).
    fn may_reopen(&self, direction: Direction) -> bool {
        let [one, other] = &self.ends.0;
        let reset = self.last.kind == Some(Kind::Rst) && self.last.direction == direction;
        one.closed_first || other.closed_first || reset
    }

    /// Lets a segment pass that may show that what is known of the connection is wrong.
    fn watch(&mut self, segment: &Segment<'_>, direction: Direction) -> Course {
        let (kind, last) = (segment.kind(), self.last);
        let answers =
            last.kind == Some(Kind::Syn) && last.direction != direction && last.end == segment.ack;
        if kind == Kind::SynAck && answers {
            // Both ends know of a connection that was not known here.
            *self.ends.of_mut(last.direction) = End::of_syn(last.end, last.window, last.offer);
            let sender = self.ends.of_mut(direction);
            *sender = End { liberal: sender.liberal, ..End::default() };
            return Course::Check(State::SynReceived);
        }
        self.last = Last {
            kind: Some(kind),
            direction,
            seq: segment.seq,
            end: segment.end,
            window: segment.window,
            ..last
        };
        if kind == Kind::Syn && direction == Direction::Original {
            self.last.offer = segment.offer();
            self.last.challenges = self.state == State::LastAck;
            self.simultaneous = false;
        }
        if kind == Kind::Ack && self.state == State::SynSent {
            self.last.ack = segment.ack;
        }
        Course::Pass
    }

    /// A reset counts if its number is exactly what the receiver waits for (RFC 5961, section 3);
    /// one that is elsewhere in the window leaves an established connection as it is, since the
    /// receiver will ask the sender whether it means it. Of a connection that is closing any counts, as
    /// for Linux: its ends may have begun another with the same addresses and ports by then.
    fn on_reset(&self, segment: &Segment<'_>, direction: Direction) -> Course {
        if self.state.is_closing() {
            return Course::Enter(State::Closed);
        }
        let last = &self.last;
        let connected = self.state == State::Established && self.assured;
        let mut state = State::Closed;
        if let Some(acked) = self.ends.of(direction.opposite()).acked
            && last.kind != Some(Kind::Syn)
        {
            if segment.seq == 0 && !connected {
                return Course::Check(State::Closed);
            }
            if super::segment::is_after(acked, segment.seq) {
                return Course::Refuse(Invalid::BadReset);
            }
            let follows = last.kind == Some(Kind::Ack)
                && last.direction == direction
                && last.end == segment.seq;
            if !connected || segment.seq == acked || follows {
                return Course::Check(State::Closed);
            }
            state = self.state;
        }
        // In answer to what was watched: its numbers are those of what is not known here.
        let of_watched = match last.kind {
            Some(Kind::Syn) => self.replied && last.direction != direction,
            Some(Kind::Ack) => !self.assured,
            Some(Kind::SynAck | Kind::Fin | Kind::Rst) | None => false,
        };
        let of_half_open = self.state == State::SynSent
            && last.kind == Some(Kind::Ack)
            && last.direction == Direction::Reply
            && last.ack == segment.seq;
        if (of_watched && segment.ack == last.end) || of_half_open {
            return Course::Enter(state);
        }
        Course::Check(state)
    }

    fn enter(
        &mut self,
        state: State,
        segment: &Segment<'_>,
        direction: Direction,
        left: Duration,
        timeouts: &TcpTimeouts,
    ) -> Duration {
        let before = self.state;
        (self.last.kind, self.last.direction) = (Some(segment.kind()), direction);
        self.state = state;
        if state != before && state == State::FinWait {
            self.ends.of_mut(direction).closed_first = true;
        }
        let was_open = matches!(before, State::SynReceived | State::Established);
        if self.replied {
            self.assured |= was_open && state == State::Established;
        } else if segment.is_rst() {
            // Nobody is connected: nothing is left to be known.
            return Duration::ZERO;
        } else if segment.kind() == Kind::Syn && before == State::SynSent {
            // A SYN that nobody answers does not keep itself alive.
            return left;
        }
        self.timeout(timeouts)
    }

    /// A reset or FIN of an end that has lost its place: the connection is likely to be dead.
    fn doubt(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        left: Duration,
        timeouts: &TcpTimeouts,
    ) -> Duration {
        let ends = |kind| matches!(kind, Kind::Rst | Kind::Fin);
        if !self.assured || !ends(segment.kind()) {
            return left;
        }
        if self.last.direction != direction && self.last.kind.is_some_and(ends) {
            return if left < DOUBTFUL { left } else { left.min(timeouts.unacknowledged) };
        }
        (self.last.kind, self.last.direction) = (Some(segment.kind()), direction);
        left
    }

    /// Notes the numbers of an acknowledgement, and whether they are those of the last segment.
    fn note_numbers(&mut self, segment: &Segment<'_>, direction: Direction) {
        if segment.kind() == Kind::Ack {
            let Segment { seq, ack, end, window, .. } = *segment;
            let last = Last { direction, seq, ack, end, window, ..self.last };
            let is_same = last == self.last;
            self.repetitions = if is_same { self.repetitions.saturating_add(1) } else { 0 };
            self.last = last;
        }
    }

    /// What a segment is that passes in a direction.
    fn seen(&mut self, direction: Direction) -> Tracked {
        self.replied |= direction == Direction::Reply;
        if self.replied { Tracked::Established } else { Tracked::New }
    }
}
