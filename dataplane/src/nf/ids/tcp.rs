//! A TCP connection: the state of its ends, their streams, and what is read in these.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::history::History;
use super::http::{Http, Transaction};
use super::note::{Note, Notes};
use super::packet::Segment;
use super::reassembly::{Piece, Reassembly};
use crate::nf::Timestamp;
use crate::nf::side::{Both, Side};

/// What an end has done, in the terms of Zeek's connection states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    #[default]
    Inactive,
    /// It has sent a SYN.
    SynSent,
    /// It has sent something, and nobody has seen a SYN.
    Partial,
    /// It has taken part in a handshake.
    Established,
    /// It has sent a FIN.
    Closed,
    /// It has sent a RST.
    Reset,
    /// It has sent a RST behind its FIN.
    ResetAfterFin,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Inactive,
        Self::SynSent,
        Self::Partial,
        Self::Established,
        Self::Closed,
        Self::Reset,
        Self::ResetAfterFin,
    ];

    fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::ResetAfterFin)
    }

    fn is_over(self) -> bool {
        self == Self::Closed || self.is_reset()
    }

    fn took_no_part(self) -> bool {
        matches!(self, Self::Inactive | Self::Partial)
    }
}

/// Both ends, and the application between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tcp {
    ends: Both<End>,
    pub(super) http: Http,
}

#[derive(Clone, Debug, Default)]
struct End {
    state: State,
    /// The sequence number of the first byte, if any is known.
    base: Option<u32>,
    stream: Reassembly,
}

/// Where what a connection finds out goes to.
pub(super) struct Findings<'a> {
    pub(super) now: Timestamp,
    pub(super) history: &'a mut History,
    pub(super) notes: &'a mut Notes,
    /// HTTP transactions that are complete.
    pub(super) done: &'a mut Vec<Transaction>,
}

impl Tcp {
    /// Processes a segment.
    pub(super) fn segment(&mut self, from: Side, segment: &Segment<'_>, to: &mut Findings<'_>) {
        let (base, peer) = (self.ends[from].base, self.ends[from.other()].state);
        // Who does not answer a SYN, but ends what there is not yet, is not heard (RFC 9293,
        // section 3.10.7.3): it would be an easy way to put others out of step.
        let ends = segment.fin() || segment.rst();
        let heard = !(base.is_none() && peer == State::SynSent && ends && !segment.syn());
        if heard && !segment.rst() {
            self.ends[from].begin(segment);
        }
        to.history.segment(from, segment);
        if segment.window == 0 && !segment.rst() && peer != State::Closed {
            to.history.zero_window(from);
        }
        self.advance(from, segment);
        if segment.has_ack() && !segment.rst() {
            self.acknowledge(from.other(), segment, to);
        }
        if heard && !segment.rst() {
            self.payload(from, segment, to);
        }
    }

    /// Nothing will come any more.
    pub(super) fn close(&mut self, to: &mut Findings<'_>) {
        for side in Side::BOTH {
            let Self { ends, http } = self;
            ends[side].stream.close(&mut |piece| http.read(side, piece, to.now, to.done));
        }
        self.http.close(to.done);
    }

    /// Bytes that are kept of both streams, and of what is read in them.
    pub(super) fn kept(&self) -> usize {
        Side::BOTH.iter().fold(self.http.kept(), |sum, side| sum + self.ends[*side].stream.kept())
    }

    /// Keeps nothing of the streams any more.
    pub(super) fn give_up(&mut self, to: &mut Findings<'_>) {
        let Self { ends, http } = self;
        to.notes.add(Note::MemoryLimit);
        http.give_up(to.done);
        for side in Side::BOTH {
            // Nobody reads it.
            if ends[side].stream.give_up(&mut |_| {}) {
                to.history.gap(side);
            }
        }
    }

    /// Bytes that an end has sent, by its sequence numbers.
    pub(super) fn sent(&self, side: Side) -> u64 {
        self.ends[side].stream.sent()
    }

    /// Bytes of both directions that were missed.
    pub(super) fn missed(&self) -> u64 {
        Side::BOTH.iter().fold(0, |sum, side| sum + self.ends[*side].stream.missed())
    }

    /// Whether both ends have ended the connection.
    pub(super) fn is_over(&self) -> bool {
        Side::BOTH.iter().all(|side| self.ends[*side].state.is_over())
    }

    /// Whether an end has aborted it.
    pub(super) fn is_reset(&self) -> bool {
        Side::BOTH.iter().any(|side| self.ends[*side].state.is_reset())
    }

    /// Whether nobody has answered.
    pub(super) fn is_attempt(&self) -> bool {
        self.ends.orig.state == State::SynSent && self.ends.resp.state == State::Inactive
    }

    /// Whether a SYN begins another connection between the same ports: that before is over, and
    /// it is no SYN that comes again.
    pub(super) fn is_reused_by(&self, from: Side, segment: &Segment<'_>) -> bool {
        let begins = segment.syn() && !segment.has_ack() && !segment.rst() && !segment.fin();
        let over = self.is_over() || self.is_reset();
        begins && over && self.ends[from].base != Some(segment.data_seq())
    }

    /// The state as conn.log names it.
    pub(super) fn conn_state(&self, history: &History) -> &'static str {
        let (orig, resp) = (self.ends.orig.state, self.ends.resp.state);
        let empty = self.sent(Side::Orig) == 0 && self.sent(Side::Resp) == 0;
        match (orig, resp) {
            (State::SynSent, resp) if resp.is_reset() => "REJ",
            (orig, resp) if orig.is_reset() && resp.is_reset() && empty => "REJ",
            (orig, resp) if resp.is_reset() && orig.took_no_part() => "RSTRH",
            (_, resp) if resp.is_reset() => "RSTR",
            (orig, resp) if orig.is_reset() && !resp.took_no_part() => "RSTO",
            (orig, _) if orig.is_reset() && history.is_attempt_reset() => "RSTOS0",
            (orig, _) if orig.is_reset() => "OTH",
            (State::Closed, State::Closed) => "SF",
            (State::Closed, resp) if resp.took_no_part() => "SH",
            (State::Closed, _) => "S2",
            (orig, State::Closed) if orig.took_no_part() => "SHR",
            (_, State::Closed) => "S3",
            (State::SynSent, State::Inactive) => "S0",
            (State::Established, State::Established) => "S1",
            _ => "OTH",
        }
    }

    /// What a segment makes of the state of its sender, and of the other end.
    fn advance(&mut self, from: Side, segment: &Segment<'_>) {
        let (own, peer) = (self.ends[from].state, self.ends[from.other()].state);
        let own = match own {
            State::Inactive if segment.syn() => match (from, peer) {
                (Side::Orig, State::Inactive | State::Partial) => State::SynSent,
                _ => State::Established,
            },
            // Some acknowledge a SYN before they answer it.
            State::Inactive
                if from == Side::Resp && peer == State::SynSent && !has_more(segment) =>
            {
                State::Inactive
            }
            // Only the first SYN was missed.
            State::Inactive if segment.has_ack() && peer == State::Established => {
                State::Established
            }
            State::Inactive => State::Partial,
            State::Partial if segment.syn() && !segment.has_ack() && peer == State::Inactive => {
                State::SynSent
            }
            known => known,
        };
        let answers = own == State::Established && segment.syn();
        let peer = if answers && peer == State::SynSent { State::Established } else { peer };
        let (own, peer) = match (own, peer) {
            (own, peer) if segment.rst() => match own {
                State::Closed if peer == State::Closed => (own, peer),
                State::Closed | State::ResetAfterFin => (State::ResetAfterFin, peer),
                _ => (State::Reset, peer),
            },
            (own, peer) if segment.fin() && !own.is_reset() => {
                // A RST behind a FIN that was answered by a FIN ended nothing.
                let peer = if peer == State::ResetAfterFin { State::Closed } else { peer };
                (State::Closed, peer)
            }
            unchanged => unchanged,
        };
        self.ends[from].state = own;
        self.ends[from.other()].state = peer;
    }

    /// What the sender of a segment has received of the other end.
    fn acknowledge(&mut self, of: Side, segment: &Segment<'_>, to: &mut Findings<'_>) {
        let Self { ends, http } = self;
        let end = &mut ends[of];
        if end.base.is_none() {
            end.base = Some(segment.ack);
        }
        let Some(offset) = end.offset(segment.ack).and_then(|offset| u64::try_from(offset).ok())
        else {
            return;
        };
        let deliver = &mut |piece: Piece<'_>| http.read(of, piece, to.now, to.done);
        let told = end.stream.acknowledged(offset, to.notes, deliver);
        // What is acknowledged at the very end, it may be without reason, is no gap worth telling.
        if told.gap && !segment.fin() {
            to.history.gap(of);
        }
    }

    fn payload(&mut self, from: Side, segment: &Segment<'_>, to: &mut Findings<'_>) {
        let Self { ends, http } = self;
        let end = &mut ends[from];
        let Some(offset) = end.offset(segment.data_seq()) else { return };
        let deliver = &mut |piece: Piece<'_>| http.read(from, piece, to.now, to.done);
        // What was sent before the first byte that is known can not be put in order.
        let before = usize::try_from(offset.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let from_base = offset.max(0).unsigned_abs();
        let payload = segment.payload.get(before..).unwrap_or_default();
        let told = end.stream.push(from_base, payload, to.notes, deliver);
        if told.repeated || (before > 0 && !segment.payload.is_empty()) {
            to.history.repeated(from);
        }
        if told.gap {
            to.history.gap(from);
        }
        if segment.fin() {
            let fin = offset.saturating_add_unsigned(segment.payload.len() as u64).max(0);
            end.stream.finish(fin.unsigned_abs(), deliver);
        }
    }

    pub(super) fn put(&self, out: &mut Writer) {
        for side in Side::BOTH {
            let End { state, base, stream } = &self.ends[side];
            let state = State::ALL.iter().position(|known| known == state);
            out.u8(state.unwrap_or_default() as u8);
            out.option(*base, Writer::u32);
            stream.put(out);
        }
        self.http.put(out);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut tcp = Self::default();
        for side in Side::BOTH {
            let state = State::ALL.get(usize::from(reader.u8()?));
            tcp.ends[side] = End {
                state: *state.ok_or(WireError::BadField { what: "state of an end" })?,
                base: reader.option("sequence number", Reader::u32)?,
                stream: Reassembly::take(reader)?,
            };
        }
        tcp.http = Http::take(reader)?;
        Ok(tcp)
    }
}

impl End {
    /// Takes the first sequence number for that of the first byte. A SYN knows better, as long as
    /// nothing has come.
    fn begin(&mut self, segment: &Segment<'_>) {
        if self.base.is_none() || (segment.syn() && self.stream.is_untouched()) {
            self.base = Some(segment.data_seq());
        }
    }

    /// How far behind the first byte a sequence number is: that which is nearest to what is
    /// expected, as they wrap around.
    fn offset(&self, seq: u32) -> Option<i64> {
        let next = self.stream.next();
        let expected = self.base?.wrapping_add(next as u32);
        // The casts are meant: sequence numbers are compared in 32 bits, and `next` is below 2^62.
        Some(next as i64 + i64::from(seq.wrapping_sub(expected) as i32))
    }
}

/// Whether a segment is more than an acknowledgement.
fn has_more(segment: &Segment<'_>) -> bool {
    !segment.payload.is_empty() || segment.fin() || segment.rst()
}
