//! The history of a connection as a string of letters, as Zeek writes it in conn.log.

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::packet::Segment;
use crate::nf::side::{Both, Side};

/// Letters at most; what happens later is not in the history.
const LETTERS_MAX: usize = 64;

/// What has happened, in letters: capital ones for the originator.
///
/// `s` SYN, `h` SYN+ACK, `a` pure ACK, `d` payload, `f` FIN, `r` RST, `g` gap, `t` payload sent
/// again, `w` zero window, `i` FIN+RST, `q` SYN with FIN or RST, `^` the ends were swapped, as the
/// first packet was an answer. Checksums are not looked at, so there is no `c`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    letters: Vec<u8>,
    ends: Both<End>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct End {
    /// Which of [`ONCE`] have been written.
    once: u8,
    /// How often each of [`COUNTED`] has happened.
    counts: [u64; COUNTED.len()],
    /// The sequence number with which each of [`NUMBERED`] has come last.
    last: [Option<u32>; NUMBERED.len()],
}

/// Written once for each end.
const ONCE: [u8; 4] = *b"adiq";
/// Written when it has happened once, 10 times, 100 times and so on.
const COUNTED: [u8; 3] = *b"gtw";
/// Written again when it comes with another sequence number.
const NUMBERED: [u8; 4] = *b"shfr";

impl History {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.letters
    }

    /// The ends were swapped.
    pub(super) fn swapped(&mut self) {
        self.letters.push(b'^');
    }

    /// A packet with payload, of a protocol that has no flags.
    pub(super) fn payload(&mut self, from: Side) {
        self.once(from, b'd');
    }

    /// A gap in what an end has sent.
    pub(super) fn gap(&mut self, from: Side) {
        self.counted(from, b'g');
    }

    /// An end has sent payload again.
    pub(super) fn repeated(&mut self, from: Side) {
        self.counted(from, b't');
    }

    /// An end takes no more.
    pub(super) fn zero_window(&mut self, from: Side) {
        self.counted(from, b'w');
    }

    /// A segment as its flags say.
    pub(super) fn segment(&mut self, from: Side, segment: &Segment<'_>) {
        match (segment.syn(), segment.fin(), segment.rst()) {
            (false, false, false) if !segment.payload.is_empty() => self.once(from, b'd'),
            (false, false, false) if segment.has_ack() => self.once(from, b'a'),
            (false, false, false) => {}
            (true, false, false) => {
                let letter = if segment.has_ack() { b'h' } else { b's' };
                self.numbered(from, letter, segment.seq);
            }
            (false, true, false) => {
                let end = segment.seq.wrapping_add(segment.payload.len() as u32);
                self.numbered(from, b'f', end);
            }
            (false, false, true) => self.numbered(from, b'r', segment.seq),
            (_, true, true) => self.once(from, b'i'),
            (true, _, _) => self.once(from, b'q'),
        }
    }

    /// Whether the originator gave up by itself: its SYN was followed by its RST, with no answer.
    pub(super) fn is_attempt_reset(&self) -> bool {
        let letters = self.letters.strip_prefix(b"^").unwrap_or(&self.letters);
        let Some(rest) = letters.strip_prefix(b"S") else { return false };
        let until = rest.iter().position(|letter| b"HAFGIQ".contains(letter));
        rest[..until.unwrap_or(rest.len())].contains(&b'R')
    }

    fn once(&mut self, from: Side, letter: u8) {
        let Some(index) = ONCE.iter().position(|known| *known == letter) else { return };
        if self.ends[from].once & (1 << index) == 0 {
            self.ends[from].once |= 1 << index;
            self.push(from, letter);
        }
    }

    fn counted(&mut self, from: Side, letter: u8) {
        let Some(index) = COUNTED.iter().position(|known| *known == letter) else { return };
        let count = &mut self.ends[from].counts[index];
        *count = count.saturating_add(1);
        if 10u64.checked_pow(count.ilog10()) == Some(*count) {
            self.push(from, letter);
        }
    }

    fn numbered(&mut self, from: Side, letter: u8, number: u32) {
        let Some(index) = NUMBERED.iter().position(|known| *known == letter) else { return };
        if self.ends[from].last[index].replace(number) != Some(number) {
            self.push(from, letter);
        }
    }

    fn push(&mut self, from: Side, letter: u8) {
        if self.letters.len() < LETTERS_MAX {
            self.letters.push(match from {
                Side::Orig => letter.to_ascii_uppercase(),
                Side::Resp => letter,
            });
        }
    }

    pub(super) fn put(&self, out: &mut Writer) {
        out.bytes(&self.letters);
        for side in Side::BOTH {
            let End { once, counts, last } = &self.ends[side];
            out.u8(*once);
            counts.iter().for_each(|count| out.u64(*count));
            last.iter().for_each(|number| out.option(*number, Writer::u32));
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let letters = reader.bytes("letters of history", LETTERS_MAX)?;
        let known = |letter: &u8| {
            let letter = letter.to_ascii_lowercase();
            letter == b'^' || [&ONCE[..], &COUNTED, &NUMBERED].concat().contains(&letter)
        };
        if !letters.iter().all(known) {
            return Err(WireError::BadField { what: "history" });
        }
        let mut history = Self { letters: letters.to_vec(), ends: Both::default() };
        for side in Side::BOTH {
            let end = &mut history.ends[side];
            end.once = reader.u8()?;
            for count in &mut end.counts {
                *count = reader.u64()?;
            }
            for number in &mut end.last {
                *number = reader.option("sequence number", Reader::u32)?;
            }
        }
        Ok(history)
    }
}
