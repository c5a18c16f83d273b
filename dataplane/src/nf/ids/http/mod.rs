//! HTTP/1 between two ends: requests, and the responses that belong to them (RFC 9112).

mod chunked;
mod head;
mod parser;
mod transaction;

use std::collections::VecDeque;

use weir_state_transfer::wire::{Reader, WireError, Writer};

use super::codec::take_count;
use super::note::{Note, Notes};
use super::reassembly::Piece;
use crate::nf::Timestamp;
use crate::nf::side::{Both, Side};
use chunked::{Chunked, Step};
use head::Framing;
use parser::{Expect, Head, Parser};

pub(super) use transaction::Transaction;

/// Transactions of a connection that are not complete, at most.
const PENDING_MAX: usize = 32;

/// Both directions of a connection that may be HTTP.
///
/// Whether it is shows in its first bytes; where it is not, and from where on a direction can not
/// be understood, nothing more is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Http {
    parsers: Both<Parser>,
    /// In the order of the requests.
    pending: VecDeque<Transaction>,
    /// Bytes that they take.
    kept: usize,
    /// How many transactions there have been.
    depth: u64,
    notes: Notes,
}

impl Http {
    /// Whether the connection is HTTP.
    pub(super) fn is_spoken(&self) -> bool {
        self.parsers.orig.begun || self.parsers.resp.begun
    }

    /// What is remarkable about the connection.
    pub(super) fn notes(&self) -> Notes {
        self.notes
    }

    /// Bytes that are kept of heads, and of transactions that are not complete.
    pub(super) fn kept(&self) -> usize {
        Side::BOTH.iter().fold(self.kept, |sum, side| sum + self.parsers[*side].kept())
    }

    /// There is no memory for it: looks at nothing that follows.
    pub(super) fn give_up(&mut self, done: &mut Vec<Transaction>) {
        for side in Side::BOTH {
            if self.parsers[side].expect != Expect::Off {
                self.fail(side, Note::MemoryLimit);
            }
        }
        self.emit(done);
    }

    /// Reads what an end has sent next. Transactions that are complete with it go to `done`.
    pub(super) fn read(
        &mut self,
        side: Side,
        piece: Piece<'_>,
        now: Timestamp,
        done: &mut Vec<Transaction>,
    ) {
        match piece {
            Piece::Data(bytes) => self.data(side, bytes, now, done),
            Piece::Gap(length) => self.gap(side, length),
            Piece::End => self.end(side),
        }
        self.emit(done);
    }

    /// Nothing will come any more.
    pub(super) fn close(&mut self, done: &mut Vec<Transaction>) {
        for side in Side::BOTH {
            if self.parsers[side].is_inside() {
                self.fail(side, Note::Incomplete);
            }
            self.parsers[side].turn_off();
        }
        self.emit(done);
    }

    fn data(&mut self, side: Side, mut bytes: &[u8], now: Timestamp, done: &mut Vec<Transaction>) {
        while !bytes.is_empty() {
            let used = match &mut self.parsers[side].expect {
                Expect::Off | Expect::Verdict => return,
                Expect::Head => {
                    // Where many requests come at once, those that are complete make room.
                    self.emit(done);
                    self.head(side, bytes, now)
                }
                Expect::Close => {
                    self.body(side, bytes);
                    bytes.len()
                }
                Expect::Length(left) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= used as u64;
                    let complete = *left == 0;
                    self.body(side, &bytes[..used]);
                    if complete {
                        self.complete(side);
                    }
                    used
                }
                Expect::Chunked(chunked) => match chunked.step(bytes) {
                    Step::Framing(used) => used,
                    Step::Body(used) => {
                        self.body(side, &bytes[..used]);
                        used
                    }
                    Step::Complete(used) => {
                        self.complete(side);
                        used
                    }
                    Step::Bad => {
                        self.fail(side, Note::BadChunk);
                        return;
                    }
                },
            };
            bytes = &bytes[used..];
        }
    }

    /// Takes bytes where a head is expected; how many.
    fn head(&mut self, side: Side, bytes: &[u8], now: Timestamp) -> usize {
        let begun = self.parsers[side].begun;
        let (used, understood) = match self.parsers[side].head(side, bytes) {
            Head::More(used) => return used,
            Head::Whole(used, head) => match side {
                Side::Orig => (used, self.request(&head, now)),
                Side::Resp => (used, self.response(&head, now)),
            },
            Head::TooLong => {
                self.fail(side, Note::HeadTooLong);
                return bytes.len();
            }
            Head::NotHttp => (bytes.len(), None),
        };
        match understood {
            Some(()) => self.parsers[side].begun = true,
            None if begun => self.fail(side, Note::BadHead),
            None => self.parsers[side].turn_off(),
        }
        used
    }

    fn request(&mut self, head: &[u8], now: Timestamp) -> Option<()> {
        let (request, framing, mut tags) = head::request(head)?;
        if self.pending.len() >= PENDING_MAX {
            // The responses to those that are forgotten would be taken for others.
            tags.add(Note::PipeliningLimit);
            self.fail(Side::Resp, Note::PipeliningLimit);
        }
        let is_connect = request.method == b"CONNECT";
        self.begin(Transaction { ts: now, request: Some(request), tags, ..Transaction::default() });
        self.expect_body(Side::Orig, framing);
        if is_connect && self.parsers.orig.expect == Expect::Head {
            self.parsers.orig.expect = Expect::Verdict;
        }
        Some(())
    }

    fn response(&mut self, head: &[u8], now: Timestamp) -> Option<()> {
        let (response, framing, tags) = head::response(head)?;
        if self.current(Side::Resp).is_none() {
            let done = Both { orig: true, resp: false };
            let tags = Notes::from_iter([Note::NoRequest]);
            self.begin(Transaction { ts: now, done, tags, ..Transaction::default() });
        }
        let Self { pending, kept, .. } = self;
        let transaction = pending.iter_mut().find(|one| !one.done.resp)?;
        transaction.tags.add_all(tags);
        *kept -= transaction.kept();
        let code = response.code;
        if (100..200).contains(&code) && code != 101 {
            transaction.info = Some(response);
            *kept += transaction.kept();
            return Some(());
        }
        let is_connect = transaction.is_method(b"CONNECT");
        let bodiless = transaction.is_method(b"HEAD") || code == 204 || code == 304;
        transaction.response = Some(response);
        *kept += transaction.kept();
        if code == 101 || (is_connect && (200..300).contains(&code)) {
            transaction.tags.add(Note::Upgraded);
            self.complete(Side::Resp);
            Side::BOTH.into_iter().for_each(|side| self.parsers[side].turn_off());
            return Some(());
        }
        if is_connect && self.parsers.orig.expect == Expect::Verdict {
            self.parsers.orig.expect = Expect::Head;
        }
        self.expect_body(Side::Resp, if bodiless { Framing::None } else { framing });
        Some(())
    }

    fn begin(&mut self, transaction: Transaction) {
        self.depth += 1;
        self.kept += transaction.kept();
        self.pending.push_back(Transaction { depth: self.depth, ..transaction });
    }

    fn expect_body(&mut self, side: Side, framing: Framing) {
        match framing {
            Framing::None | Framing::Length(0) => self.complete(side),
            Framing::Length(length) => self.parsers[side].expect = Expect::Length(length),
            Framing::Chunked => self.parsers[side].expect = Expect::Chunked(Chunked::new()),
            Framing::Close => self.parsers[side].expect = Expect::Close,
            // Why is among the tags.
            Framing::Unknown => self.parsers[side].turn_off(),
        }
    }

    /// The transaction whose message of that side is expected or has begun.
    fn current(&mut self, side: Side) -> Option<&mut Transaction> {
        match side {
            Side::Orig => self.pending.back_mut().filter(|last| !last.done.orig),
            Side::Resp => self.pending.iter_mut().find(|one| !one.done.resp),
        }
    }

    fn body(&mut self, side: Side, bytes: &[u8]) {
        if let Some(transaction) = self.current(side) {
            transaction.bodies[side].data(bytes);
        }
    }

    /// A message is complete.
    fn complete(&mut self, side: Side) {
        if let Some(transaction) = self.current(side) {
            transaction.end(side);
        }
        self.parsers[side].expect = Expect::Head;
    }

    /// A direction can not be understood any more.
    fn fail(&mut self, side: Side, note: Note) {
        if let Some(transaction) = self.current(side) {
            transaction.tags.add(note);
        }
        self.notes.add(note);
        self.parsers[side].turn_off();
    }

    /// So many bytes of a direction are missing. Where they are of a body, its end is known still.
    fn gap(&mut self, side: Side, length: u64) {
        let parser = &mut self.parsers[side];
        let missing = match &mut parser.expect {
            Expect::Off | Expect::Verdict => return,
            Expect::Head if !parser.begun => {
                parser.turn_off();
                return;
            }
            Expect::Head => None,
            Expect::Close => Some(false),
            Expect::Length(left) => {
                let rest = left.checked_sub(length);
                *left = rest.unwrap_or_default();
                rest.map(|rest| rest == 0)
            }
            Expect::Chunked(chunked) => chunked.gap(length).then_some(false),
        };
        let Some(complete) = missing else {
            self.fail(side, Note::Gap);
            return;
        };
        self.notes.add(Note::Gap);
        if let Some(transaction) = self.current(side) {
            transaction.tags.add(Note::Gap);
            transaction.bodies[side].gap(length);
        }
        if complete {
            self.complete(side);
        }
    }

    /// A direction has ended.
    fn end(&mut self, side: Side) {
        if self.parsers[side].expect == Expect::Close {
            self.complete(side);
        } else if self.parsers[side].is_inside() {
            self.fail(side, Note::Incomplete);
        }
        self.parsers[side].turn_off();
    }

    /// Gives away transactions to which nothing will be added, in the order of the requests.
    fn emit(&mut self, done: &mut Vec<Transaction>) {
        let is_off = |side: Side| self.parsers[side].expect == Expect::Off;
        let off = Both { orig: is_off(Side::Orig), resp: is_off(Side::Resp) };
        let complete =
            |one: &mut Transaction| Side::BOTH.into_iter().all(|side| one.done[side] || off[side]);
        while let Some(transaction) = self.pending.pop_front_if(complete) {
            self.kept -= transaction.kept();
            done.push(transaction);
        }
    }

    pub(super) fn put(&self, out: &mut Writer) {
        Side::BOTH.into_iter().for_each(|side| self.parsers[side].put(out));
        out.u64(self.depth);
        self.notes.put(out);
        out.list(self.pending.iter(), |out, transaction| transaction.put(out));
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let parsers = Both { orig: Parser::take(reader)?, resp: Parser::take(reader)? };
        let depth = take_count(reader, "number of a transaction")?;
        let notes = Notes::take(reader)?;
        let pending: VecDeque<Transaction> =
            reader.list("transactions", PENDING_MAX + 1, Transaction::take)?.into();
        let kept = pending.iter().map(Transaction::kept).sum();
        Ok(Self { parsers, pending, kept, depth, notes })
    }
}
