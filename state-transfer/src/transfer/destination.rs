//! The destination's end of a transfer.

use std::{collections::VecDeque, mem};

use super::{
    Amount, CHUNKS_MAX, HELD_LIMIT, Hasher, MESSAGE_BYTES_MAX, MESSAGE_CHUNKS_MAX, Message,
    Outcome, QUIET_LIMIT, Refusal, Reply, Summary, Verdict, WINDOW,
};
use crate::{
    Nanos, StateFilter,
    chunk::{CHUNK_MAX, Chunk, ChunkError, Edition, Schema, Scope},
    flow_id::{Extent, FlowId},
};

/// A transfer as its destination sees it.
#[derive(Debug)]
pub struct Destination {
    opened: Opened,
    /// The kinds of state that may come.
    kinds: Vec<(Scope, Schema)>,
    phase: Phase,
    came: Amount,
    taken: Amount,
    /// The scope of the last chunk that came: they come scope by scope.
    scope: Option<Scope>,
    hasher: Hasher,
    /// When the source was last heard, or given credit.
    heard: Nanos,
    refusal: Option<Refusal>,
    unasked: bool,
    out: VecDeque<DestinationCommand>,
}

/// What a source opens a transfer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The state that it is about, as a whole.
    pub filter: StateFilter,
    /// Of which scopes.
    pub scopes: Vec<Scope>,
    /// The kinds of it that the source has.
    pub kinds: Vec<(Scope, Schema)>,
}

/// A chunk that came, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its scope.
    pub scope: Scope,
    /// The flows that it is about.
    pub id: FlowId,
    /// What its body is.
    pub schema: Schema,
    /// Which edition of it.
    pub edition: Edition,
    /// The chunk, encoded.
    pub bytes: Vec<u8>,
}

/// What the driver of a [`Destination`] is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationCommand {
    /// Say it on the stream, if that is there.
    Reply(Reply),
    /// Put these, all of one scope, then call [`Destination::taken`] or [`Destination::failed`].
    Put(Vec<Piece>),
    /// Make the end as it was before, then call [`Destination::undone`].
    Undo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What the end has is looked at; nothing may come yet.
    Preparing,
    Taking,
    /// All came; some of it is not put yet.
    Closing(Summary),
    /// The receipt is given, and the verdict due.
    Held(Nanos),
    Undoing,
    Ended(Outcome),
}

impl Destination {
    /// A transfer that a source opens, to an end that has some kinds of state.
    ///
    /// # Errors
    /// [`Refusal::UnknownSchema`] when the end lacks a kind that the source has.
    pub fn new(opened: Opened, own: &[(Scope, Schema)]) -> Result<Self, Refusal> {
        let wanted = |kind: &&(Scope, Schema)| opened.scopes.contains(&kind.0);
        let kinds: Vec<_> = opened.kinds.iter().filter(wanted).copied().collect();
        if let Some((scope, schema)) = kinds.iter().find(|kind| !own.contains(kind)) {
            return Err(Refusal::UnknownSchema { scope: *scope, schema: *schema });
        }
        Ok(Self {
            opened,
            kinds,
            phase: Phase::Preparing,
            came: Amount::default(),
            taken: Amount::default(),
            scope: None,
            hasher: Hasher::default(),
            heard: Nanos(0),
            refusal: None,
            unasked: false,
            out: VecDeque::new(),
        })
    }

    /// What the end has is known: chunks may come.
    pub fn ready(&mut self, now: Nanos) {
        if self.phase == Phase::Preparing {
            self.phase = Phase::Taking;
            self.heard = now;
            self.credit();
        }
    }

    /// The source says something.
    pub fn message(&mut self, message: Message, now: Nanos) {
        self.heard = now;
        let outcome = match (message, self.phase) {
            // What was on its way when it was refused.
            (_, Phase::Undoing | Phase::Ended(_)) => Ok(()),
            (Message::Verdict(verdict), _) => {
                self.verdict(verdict);
                Ok(())
            }
            // The source may delete by now, so only its verdict counts.
            (_, Phase::Held(_)) => Ok(()),
            (Message::Chunks { first, chunks }, Phase::Taking) => self.chunks(first, chunks),
            (Message::End(sent), Phase::Taking) => self.end(sent, now),
            (Message::Chunks { .. }, _) => Err(Refusal::OutOfTurn("a chunk")),
            (Message::End(_), _) => Err(Refusal::OutOfTurn("the end")),
        };
        if let Err(refusal) = outcome {
            self.refuse(refusal);
        }
    }

    /// The source says what is no message.
    pub fn malformed(&mut self) {
        if !self.holds() {
            self.refuse(Refusal::Malformed);
        }
    }

    /// The verdict of the source, by the stream or by a connection of its own.
    pub fn verdict(&mut self, verdict: Verdict) {
        match (verdict, self.phase) {
            (_, Phase::Undoing | Phase::Ended(_)) => {}
            (Verdict::Keep, Phase::Held(_)) => self.finish(Outcome::Kept),
            (Verdict::Keep, _) => self.refuse(Refusal::OutOfTurn("the verdict")),
            (Verdict::Undo, _) => self.undo(),
        }
    }

    /// The end has taken in what is to be put first, so many chunks of so many bytes.
    pub fn taken(&mut self, amount: Amount, now: Nanos) {
        self.taken = self.taken.plus(amount);
        self.heard = now;
        match self.phase {
            Phase::Taking => self.credit(),
            Phase::Closing(summary) => self.close(summary, now),
            _ => {}
        }
    }

    /// The end does not take it, or the transfer is told to end; not when the receipt is given.
    pub fn failed(&mut self) {
        if !self.holds() {
            self.refuse(Refusal::Destination);
        }
    }

    /// The stream broke, or has ended.
    pub fn broken_off(&mut self) {
        if !self.holds() {
            self.refuse(Refusal::BrokenOff);
        }
    }

    /// The end is as it was before, or could not be made so.
    pub fn undone(&mut self, whole: bool) {
        if self.phase == Phase::Undoing {
            self.finish(if whole { Outcome::Undone } else { Outcome::Stuck });
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        match self.phase {
            Phase::Taking if self.came == self.taken => Some(self.heard + QUIET_LIMIT),
            Phase::Held(since) => Some(since + HELD_LIMIT),
            _ => None,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Nanos) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.holds() {
            self.keep_unasked();
        } else {
            self.refuse(Refusal::Quiet);
        }
    }

    /// No verdict is waited for any more: what was received is kept, as it may have been deleted at
    /// the source. Nothing happens before the receipt.
    pub fn keep_unasked(&mut self) {
        if self.holds() {
            self.unasked = true;
            self.finish(Outcome::Kept);
        }
    }

    /// What is to be done next.
    pub fn poll_command(&mut self) -> Option<DestinationCommand> {
        self.out.pop_front()
    }

    /// Whether the receipt is given and the verdict due.
    pub fn holds(&self) -> bool {
        matches!(self.phase, Phase::Held(_))
    }

    /// How it has ended.
    pub fn ended(&self) -> Option<Outcome> {
        if let Phase::Ended(outcome) = self.phase { Some(outcome) } else { None }
    }

    /// Whether it was kept without a verdict.
    pub fn kept_unasked(&self) -> bool {
        self.unasked
    }

    /// Why it is undone, unless the source asked for that.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    fn chunks(&mut self, first: u64, chunks: Vec<Vec<u8>>) -> Result<(), Refusal> {
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        let several = chunks.len() > 1 && bytes > MESSAGE_BYTES_MAX;
        if chunks.is_empty() || chunks.len() > MESSAGE_CHUNKS_MAX || several {
            return Err(Refusal::MessageTooLarge);
        }
        let expected = self.came.chunks;
        if first != expected {
            let place = first;
            return Err(if first < expected {
                Refusal::Repeated { place, expected }
            } else {
                Refusal::Missing { place, expected }
            });
        }
        let mut pieces = Vec::with_capacity(chunks.len());
        for bytes in chunks {
            let piece = self.piece(bytes)?;
            self.came.add(&piece.bytes);
            self.hasher.add(&piece.bytes);
            pieces.push(piece);
        }
        if !self.came.within(self.granted()) {
            return Err(Refusal::BeyondCredit);
        }
        if self.came.chunks > CHUNKS_MAX {
            return Err(Refusal::TooMuch);
        }
        while let Some(Piece { scope, .. }) = pieces.first() {
            let scope = *scope;
            let same = pieces.iter().take_while(|piece| piece.scope == scope).count();
            let rest = pieces.split_off(same);
            self.out.push_back(DestinationCommand::Put(mem::replace(&mut pieces, rest)));
        }
        Ok(())
    }

    /// The chunk that bytes are, if it is one that may come.
    fn piece(&mut self, bytes: Vec<u8>) -> Result<Piece, Refusal> {
        let place = self.came.chunks;
        let refused = |why| Refusal::NotAChunk { place, why };
        if bytes.len() > CHUNK_MAX {
            let (what, length) = ("bytes", bytes.len());
            return Err(refused(ChunkError::TooLarge { what, length, most: CHUNK_MAX }));
        }
        let chunk = Chunk::decode(&bytes).map_err(refused)?;
        let edition = chunk.edition();
        let Chunk { id, scope, schema, .. } = chunk;
        let in_turn = self.scope.is_none_or(|last| last <= scope);
        let named = self.opened.filter.picks(&id, Extent::Contains);
        if !in_turn || !named || !self.opened.scopes.contains(&scope) {
            return Err(Refusal::NotNamed { place });
        }
        if !self.kinds.contains(&(scope, schema)) {
            return Err(Refusal::UnknownSchema { scope, schema });
        }
        self.scope = Some(scope);
        Ok(Piece { scope, id, schema, edition, bytes })
    }

    fn end(&mut self, sent: Summary, now: Nanos) -> Result<(), Refusal> {
        if sent.amount != self.came {
            return Err(Refusal::Truncated { came: self.came, sent: sent.amount });
        }
        if sent.digest != self.hasher.digest() {
            return Err(Refusal::WrongDigest);
        }
        self.phase = Phase::Closing(sent);
        self.close(sent, now);
        Ok(())
    }

    /// Gives the receipt when all is put.
    fn close(&mut self, summary: Summary, now: Nanos) {
        if self.taken == self.came {
            self.phase = Phase::Held(now);
            self.out.push_back(DestinationCommand::Reply(Reply::Receipt(summary)));
        }
    }

    fn granted(&self) -> Amount {
        self.taken.plus(WINDOW)
    }

    fn credit(&mut self) {
        self.out.push_back(DestinationCommand::Reply(Reply::Credit(self.granted())));
    }

    fn refuse(&mut self, refusal: Refusal) {
        if !matches!(self.phase, Phase::Undoing | Phase::Ended(_)) {
            self.refusal = Some(refusal);
            self.undo();
        }
    }

    fn undo(&mut self) {
        self.phase = Phase::Undoing;
        // What is not put, or not said, needs not be any more.
        self.out.clear();
        self.out.push_back(DestinationCommand::Undo);
    }

    fn finish(&mut self, outcome: Outcome) {
        self.phase = Phase::Ended(outcome);
        self.out.push_back(DestinationCommand::Reply(Reply::Ended(outcome)));
    }
}
