//! One direction of a TCP connection as a stream of bytes, within bounds.

use std::collections::BTreeMap;

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::codec::{COUNT_MAX, take_count};
use super::note::{Note, Notes};

/// Bytes out of order that are kept at most.
pub(super) const BUFFERED_MAX: usize = 64 << 10;
/// Segments out of order that are kept at most.
pub(super) const SEGMENTS_MAX: usize = 64;
/// Bytes that a segment out of order takes besides its own.
const SEGMENT: usize = 64;
/// How far ahead of what is expected a sequence number is believed to be, in bytes.
const WINDOW_MAX: u64 = 16 << 20;

/// What comes out of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// The next bytes.
    Data(&'a [u8]),
    /// So many bytes were missed.
    Gap(u64),
    /// The sender has ended the stream.
    End,
}

/// Puts segments in order.
///
/// Of bytes that come twice the first stay, as it is for those that have been delivered. When
/// more is out of order than is kept, the bytes that are waited for are given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reassembly {
    /// The offset of the next byte to be delivered.
    next: u64,
    /// The offset behind the last byte that is known to have been sent.
    seen: u64,
    /// What came out of order: by offset, behind `next`, and none overlaps another.
    segments: BTreeMap<u64, Vec<u8>>,
    /// Bytes in `segments`.
    buffered: usize,
    missed: u64,
    fin: Option<u64>,
    ended: bool,
}

/// What a segment told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Bytes of it had come before.
    pub(super) repeated: bool,
    /// Bytes were given up.
    pub(super) gap: bool,
}

impl Reassembly {
    /// The offset of the next byte to be delivered.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Bytes that the sender has sent, those that were missed included.
    pub(super) fn sent(&self) -> u64 {
        self.seen
    }

    /// Bytes that were missed.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    /// Bytes that are kept of what came out of order.
    pub(super) fn kept(&self) -> usize {
        self.buffered + self.segments.len() * SEGMENT
    }

    /// Whether no byte has come yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.seen == 0 && self.fin.is_none()
    }

    /// Whether a segment up to that offset is believed.
    fn is_plausible(&self, end: u64) -> bool {
        end <= self.next.saturating_add(WINDOW_MAX) && end <= COUNT_MAX
    }

    /// Takes a segment in. Where there is no memory, as the notes say, nothing is kept.
    pub(super) fn push(
        &mut self,
        offset: u64,
        data: &[u8],
        notes: &mut Notes,
        deliver: &mut dyn FnMut(Piece<'_>),
    ) -> Told {
        let mut told = Told::default();
        if data.is_empty() {
            return told;
        }
        let end = offset.saturating_add(data.len() as u64);
        if !self.is_plausible(end) {
            notes.add(Note::OutOfWindow);
            return told;
        }
        self.seen = self.seen.max(end);
        told.repeated = offset < self.next;
        let old = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(data) = data.get(old..).filter(|data| !data.is_empty()) else { return told };
        let offset = offset.max(self.next);
        if offset == self.next && self.segments.is_empty() {
            self.next = end;
            deliver(Piece::Data(data));
        } else {
            told.repeated |= self.keep(offset, data, notes);
            self.drain(deliver);
            if notes.has(Note::MemoryLimit) {
                told.gap |= self.give_up(deliver);
            }
            while self.buffered > BUFFERED_MAX || self.segments.len() > SEGMENTS_MAX {
                notes.add(Note::ReassemblyLimit);
                told.gap = true;
                self.skip_to(u64::MAX, deliver);
            }
        }
        self.deliver_end(deliver);
        told
    }

    /// The receiver has all bytes before that offset. Those that have not been seen were missed.
    pub(super) fn acknowledged(
        &mut self,
        offset: u64,
        notes: &mut Notes,
        deliver: &mut dyn FnMut(Piece<'_>),
    ) -> Told {
        // A FIN is acknowledged like a byte.
        let offset = offset.min(self.fin.unwrap_or(u64::MAX));
        if !self.is_plausible(offset) {
            notes.add(Note::OutOfWindow);
            return Told::default();
        }
        let gap = self.next < offset;
        while self.next < offset {
            self.skip_to(offset, deliver);
        }
        self.deliver_end(deliver);
        Told { repeated: false, gap }
    }

    /// The sender has ended the stream at that offset.
    pub(super) fn finish(&mut self, offset: u64, deliver: &mut dyn FnMut(Piece<'_>)) {
        if self.fin.is_none() && self.is_plausible(offset) {
            self.fin = Some(offset);
            self.seen = self.seen.max(offset);
            self.deliver_end(deliver);
        }
    }

    /// Gives up what is missing before all that came out of order; whether something is.
    pub(super) fn give_up(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) -> bool {
        let missing = !self.segments.is_empty();
        while !self.segments.is_empty() {
            self.skip_to(u64::MAX, deliver);
        }
        missing
    }

    /// Nothing will come any more: delivers what there is.
    pub(super) fn close(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) {
        self.give_up(deliver);
        self.deliver_end(deliver);
    }

    /// Keeps what is new of a segment. Whether something was not.
    fn keep(&mut self, offset: u64, data: &[u8], notes: &mut Notes) -> bool {
        let (mut at, mut rest, mut repeated) = (offset, data, false);
        while !rest.is_empty() {
            let before = self.segments.range(..=at).next_back();
            let known = before.and_then(|(start, bytes)| {
                let from = usize::try_from(at - start).ok()?;
                bytes.get(from..).filter(|known| !known.is_empty())
            });
            let length = if let Some(known) = known {
                let length = known.len().min(rest.len());
                if known[..length] != rest[..length] {
                    notes.add(Note::OverlapConflict);
                }
                repeated = true;
                length
            } else {
                let free = self.segments.range(at..).next().map_or(u64::MAX, |(next, _)| next - at);
                let length = rest.len().min(usize::try_from(free).unwrap_or(usize::MAX));
                self.segments.insert(at, rest[..length].to_vec());
                self.buffered += length;
                length
            };
            at += length as u64;
            rest = &rest[length..];
        }
        repeated
    }

    /// Delivers what is next.
    fn drain(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) {
        while let Some(entry) = self.segments.first_entry() {
            if *entry.key() != self.next {
                return;
            }
            let bytes = entry.remove();
            self.buffered -= bytes.len();
            self.next += bytes.len() as u64;
            deliver(Piece::Data(&bytes));
        }
    }

    /// Gives up what is missing before the first segment that came out of order, or before
    /// `offset` if that is earlier.
    fn skip_to(&mut self, offset: u64, deliver: &mut dyn FnMut(Piece<'_>)) {
        let first = self.segments.keys().next().copied().unwrap_or(u64::MAX);
        let to = first.min(offset);
        let gap = to.saturating_sub(self.next);
        if gap > 0 {
            self.missed = self.missed.saturating_add(gap);
            self.next = to;
            self.seen = self.seen.max(to);
            deliver(Piece::Gap(gap));
        }
        self.drain(deliver);
    }

    fn deliver_end(&mut self, deliver: &mut dyn FnMut(Piece<'_>)) {
        if !self.ended && self.fin.is_some_and(|fin| self.next >= fin) {
            self.ended = true;
            deliver(Piece::End);
        }
    }

    pub(super) fn put(&self, out: &mut Writer) {
        let Self { next, seen, segments, buffered: _, missed, fin, ended } = self;
        [*next, *seen, *missed].into_iter().for_each(|count| out.u64(count));
        out.option(*fin, Writer::u64);
        out.bool(*ended);
        out.list(segments.iter(), |out, (offset, bytes)| {
            out.u64(*offset);
            out.bytes(bytes);
        });
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let next = take_count(reader, "offset")?;
        let seen = take_count(reader, "offset")?;
        let missed = take_count(reader, "number of missed bytes")?;
        let fin = reader.option("end of the stream", |reader| take_count(reader, "offset"))?;
        let ended = reader.bool("end of the stream")?;
        let mut stream = Self { next, seen, missed, fin, ended, ..Self::default() };
        let mut free = next;
        for _ in 0..reader.number("segments", SEGMENTS_MAX)? {
            let offset = take_count(reader, "offset")?;
            let room = BUFFERED_MAX - stream.buffered;
            let bytes = reader.bytes("bytes out of order", room)?;
            // The first is not next, or it would have been delivered.
            if offset < free || offset == next || bytes.is_empty() {
                return Err(WireError::BadField { what: "segment" });
            }
            free = offset + bytes.len() as u64;
            stream.buffered += bytes.len();
            stream.segments.insert(offset, bytes.to_vec());
        }
        if seen < free.max(next) || seen > COUNT_MAX {
            return Err(WireError::BadField { what: "offset" });
        }
        Ok(stream)
    }
}
