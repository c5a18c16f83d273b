//! The source's end of a transfer.

use std::{collections::VecDeque, time::Duration};

use super::{
    AGAIN, Amount, Hasher, MESSAGE_BYTES_MAX, MESSAGE_CHUNKS_MAX, Message, Outcome, Reply,
    SETTLE_LIMIT, Summary, Verdict,
};
use crate::Nanos;

/// A transfer as its source sees it. It begins when the destination was asked for it.
#[derive(Debug)]
pub struct Source {
    phase: Phase,
    /// Whether the stream is there.
    connected: bool,
    /// How much may be sent in all; none before the destination is ready.
    granted: Option<Amount>,
    sent: Amount,
    hasher: Hasher,
    /// What was given and is not sent.
    queue: VecDeque<Vec<u8>>,
    /// Nothing more is given.
    finished: bool,
    /// The verdict that the stream is to carry.
    verdict: Option<Verdict>,
    out: VecDeque<SourceCommand>,
}

/// What the driver of a [`Source`] is to do, besides saying what [`Source::poll_message`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceCommand {
    /// Delete at the source what was sent, then call [`Source::deleted`].
    Delete,
    /// Tell the destination by a connection of its own, then call [`Source::settled`] or
    /// [`Source::not_settled`].
    Settle(Verdict),
}

/// How a transfer has ended at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The destination has all, and the source was told to delete.
    Moved,
    /// Both are as they were.
    Undone,
    /// The source has all its state, and the destination may have some of it.
    Unknown,
    /// The destination says to have undone what it had given its receipt for.
    WordBroken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Sending,
    /// The end was said: its receipt is due.
    Closing(Summary),
    /// The receipt is there.
    Deleting,
    Settling(Settling),
    Ended(Ended),
}

/// A verdict that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settling {
    verdict: Verdict,
    until: Nanos,
    /// When it is told again; none while it is being told.
    again: Option<Nanos>,
    /// How long to wait then.
    pause: Duration,
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    /// A transfer that was opened.
    pub fn new() -> Self {
        Self {
            phase: Phase::Sending,
            connected: true,
            granted: None,
            sent: Amount::default(),
            hasher: Hasher::default(),
            queue: VecDeque::new(),
            finished: false,
            verdict: None,
            out: VecDeque::new(),
        }
    }

    /// Whether it wants more chunks: the destination is ready, and the stream has taken all that was
    /// given.
    pub fn wants(&self) -> bool {
        let sending = self.phase == Phase::Sending && self.granted.is_some();
        sending && !self.finished && self.queue.is_empty()
    }

    /// More chunks to send. Who gives waits until it [wants](Self::wants) some, so that what is
    /// kept is what one piece of a get gives.
    pub fn give(&mut self, chunks: impl IntoIterator<Item = Vec<u8>>) {
        if self.phase == Phase::Sending && !self.finished {
            self.queue.extend(chunks);
        }
    }

    /// That was all.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What is to be said next. It is asked for when the stream takes more, so that what waits here
    /// is one piece of a get at most, whatever the other end grants.
    pub fn poll_message(&mut self) -> Option<Message> {
        if let Some(verdict) = self.verdict.take() {
            return Some(Message::Verdict(verdict));
        }
        let granted = self.granted.filter(|_| self.phase == Phase::Sending)?;
        if !self.queue.is_empty() {
            return self.next_chunks(granted);
        }
        let summary = Summary { amount: self.sent, digest: self.hasher.digest() };
        self.finished.then(|| {
            self.phase = Phase::Closing(summary);
            Message::End(summary)
        })
    }

    /// Whether chunks can still be given: it has not been refused, given up or broken off.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Sending
    }

    /// Whether no receipt is there, nothing is given up, and the stream has not broken off.
    pub fn is_undecided(&self) -> bool {
        matches!(self.phase, Phase::Sending | Phase::Closing(_))
    }

    /// The destination says something.
    pub fn reply(&mut self, reply: Reply, now: Nanos) {
        match (reply, self.phase) {
            (_, Phase::Ended(_)) => {}
            (Reply::Credit(credit), _) => {
                let before = self.granted.unwrap_or_default();
                self.granted = Some(Amount {
                    chunks: before.chunks.max(credit.chunks),
                    bytes: before.bytes.max(credit.bytes),
                });
            }
            (Reply::Receipt(receipt), Phase::Closing(sent)) if receipt == sent => {
                self.phase = Phase::Deleting;
                self.out.push_back(SourceCommand::Delete);
            }
            // One that is of something else, or of nothing: nothing is deleted upon it.
            (Reply::Receipt(_), Phase::Sending | Phase::Closing(_)) => self.give_up(now),
            (Reply::Receipt(_), Phase::Deleting | Phase::Settling(_)) => {}
            (Reply::Ended(outcome), _) => {
                let verdict = match self.phase {
                    Phase::Settling(settling) => settling.verdict,
                    // It holds no longer; the deletion goes on, as its word is given.
                    Phase::Deleting if outcome == Outcome::Kept => return,
                    Phase::Deleting => Verdict::Keep,
                    _ => Verdict::Undo,
                };
                self.end(verdict, outcome);
            }
        }
    }

    /// The stream broke, or has ended.
    pub fn broken_off(&mut self, now: Nanos) {
        if !std::mem::take(&mut self.connected) {
            return;
        }
        match self.phase {
            Phase::Sending | Phase::Closing(_) => self.give_up(now),
            Phase::Settling(settling) => self.tell(settling),
            Phase::Deleting | Phase::Ended(_) => {}
        }
    }

    /// The source gives up: nothing happens when it has the receipt already. When it has ended by
    /// that, the stream is to be dropped.
    pub fn give_up(&mut self, now: Nanos) {
        match self.phase {
            // The destination was not ready, so nothing was sent.
            Phase::Sending if self.granted.is_none() => self.phase = Phase::Ended(Ended::Undone),
            Phase::Sending | Phase::Closing(_) => self.settle(Verdict::Undo, now),
            Phase::Deleting | Phase::Settling(_) | Phase::Ended(_) => {}
        }
    }

    /// The source has deleted what it could.
    pub fn deleted(&mut self, now: Nanos) {
        if self.phase == Phase::Deleting {
            self.settle(Verdict::Keep, now);
        }
    }

    /// The destination has answered a verdict; with none when it knows nothing of the transfer.
    pub fn settled(&mut self, outcome: Option<Outcome>) {
        let Phase::Settling(Settling { verdict, .. }) = self.phase else { return };
        match (outcome, verdict) {
            (Some(outcome), _) => self.end(verdict, outcome),
            // Its sidecar was started again since: what was put is there.
            (None, Verdict::Keep) => self.phase = Phase::Ended(Ended::Moved),
            (None, Verdict::Undo) => self.phase = Phase::Ended(Ended::Unknown),
        }
    }

    /// The destination was not reached with a verdict: it is told again, for a while.
    pub fn not_settled(&mut self, now: Nanos) {
        let Phase::Settling(settling) = self.phase else { return };
        let pause = (settling.pause * 2).min(AGAIN.1);
        let again = Some(now + settling.pause);
        self.phase = Phase::Settling(Settling { again, pause, ..settling });
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let Phase::Settling(settling) = self.phase else { return None };
        Some(settling.again.unwrap_or(settling.until).min(settling.until))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Nanos) {
        let Phase::Settling(settling) = self.phase else { return };
        if now >= settling.until {
            // What it was not told to keep, it keeps when its own time is over.
            self.phase = Phase::Ended(match settling.verdict {
                Verdict::Keep => Ended::Moved,
                Verdict::Undo => Ended::Unknown,
            });
        } else if settling.again.is_some_and(|again| now >= again) {
            self.tell(settling);
        }
    }

    /// What is to be done next.
    pub fn poll_command(&mut self) -> Option<SourceCommand> {
        self.out.pop_front()
    }

    /// How it has ended.
    pub fn ended(&self) -> Option<Ended> {
        if let Phase::Ended(ended) = self.phase { Some(ended) } else { None }
    }

    /// What was sent.
    pub fn sent(&self) -> Amount {
        self.sent
    }

    fn settle(&mut self, verdict: Verdict, now: Nanos) {
        self.queue.clear();
        self.out.clear();
        let until = now + SETTLE_LIMIT;
        self.tell(Settling { verdict, until, again: None, pause: AGAIN.0 });
    }

    fn tell(&mut self, settling: Settling) {
        self.phase = Phase::Settling(Settling { again: None, ..settling });
        self.verdict = Some(settling.verdict).filter(|_| self.connected);
        if !self.connected {
            self.out.push_back(SourceCommand::Settle(settling.verdict));
        }
    }

    fn end(&mut self, verdict: Verdict, outcome: Outcome) {
        self.phase = Phase::Ended(match (verdict, outcome) {
            (Verdict::Keep, Outcome::Kept) => Ended::Moved,
            (Verdict::Keep, Outcome::Undone | Outcome::Stuck) => Ended::WordBroken,
            (Verdict::Undo, Outcome::Undone) => Ended::Undone,
            (Verdict::Undo, Outcome::Kept | Outcome::Stuck) => Ended::Unknown,
        });
    }

    /// What there is credit for, of what was given.
    fn next_chunks(&mut self, granted: Amount) -> Option<Message> {
        let (first, mut chunks, mut bytes) = (self.sent.chunks, Vec::new(), 0);
        while let Some(chunk) = self.queue.front() {
            let mut sent = self.sent;
            sent.add(chunk);
            bytes += chunk.len();
            let fits = chunks.is_empty()
                || (chunks.len() < MESSAGE_CHUNKS_MAX && bytes <= MESSAGE_BYTES_MAX);
            if !fits || !sent.within(granted) {
                break;
            }
            self.hasher.add(chunk);
            self.sent = sent;
            chunks.extend(self.queue.pop_front());
        }
        (!chunks.is_empty()).then_some(Message::Chunks { first, chunks })
    }
}
