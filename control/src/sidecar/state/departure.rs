//! State that leaves for another node: the stream to its sidecar, and the verdict.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use weir_api::{
    causes::words,
    v1::{
        self, SettleTransferRequest, TransferEnded, TransferOpen, TransferRequest,
        TransferResponse, transfer_request::Part,
    },
};
use weir_nf_api::{
    Description,
    client::{CallError, Client, Query},
};
use weir_state_transfer::{
    Chunk,
    chunk::Scope,
    transfer::{Ended, Source, SourceCommand, Verdict},
};

use super::{
    CALL_LIMIT,
    carry::{Named, decode},
    transfer_message as say,
};
use crate::{
    sidecar::{
        Sidecar,
        peer::{PeerClient, wrong_identity},
    },
    southbound::{scope_message, scope_of},
    state_manager::{
        end::End,
        operation::{ChunkRefusal, Failure, FailureKind, MoveAsked},
    },
};

/// Messages that wait for the connection, whatever the other node grants: while there is no room,
/// none is made of what the source gives, and no more of that is asked for.
const WAITING_MAX: usize = 2;
/// The reason with which a network function ends a get that nobody reads.
const TOO_SLOW: &str = "PEER_TOO_SLOW";
/// Characters of the reason of a refusal at most.
const REASON_MAX: usize = 64;
/// Bytes of what another node says that are kept.
const TEXT_MAX: usize = 1 << 10;

/// A transfer to another node.
pub(super) struct Departure {
    sidecar: Arc<Sidecar>,
    to: End,
    client: PeerClient,
    id: u64,
    transfer: Source,
    /// Both ways of the stream, while it is there.
    stream: Option<(mpsc::Sender<TransferRequest>, Streaming<TransferResponse>)>,
    /// The receipt is there.
    confirmed: bool,
    /// A verdict to be told by a connection of its own.
    settle: Option<Verdict>,
    /// Why the other node does not take it.
    refusal: Option<Failure>,
}

impl Departure {
    /// Asks the other node to take what a source has.
    pub(super) async fn open(
        sidecar: &Arc<Sidecar>,
        asked: &MoveAsked,
        (operation, filter, limit): (u64, String, Duration),
        source: &Description,
    ) -> Result<Self, Failure> {
        let End::Peer { peer, end } = &asked.to else {
            return Err(Failure::new(FailureKind::Refused, "the destination is of this node"));
        };
        let to = asked.to.clone();
        let of_to = |failure: Failure| Failure { end: Some(to.clone()), ..failure };
        let client = sidecar.state().peers.client(peer);
        let unknown = || Failure::new(FailureKind::Unreachable, format!("{peer} is no node"));
        let mut client = client.ok_or_else(|| of_to(unknown()))?;
        let random = |error| Failure::new(FailureKind::Refused, format!("no randomness: {error}"));
        let id = getrandom::u64().map_err(random)?;
        let open = TransferOpen {
            id,
            from: asked.from.to_string(),
            to: end.clone(),
            filter,
            scopes: asked.scopes.iter().map(|scope| scope_message(*scope).into()).collect(),
            kinds: source.to_message().kinds,
            limit_ns: u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX),
            operation,
            process: sidecar.state().ends.life(&asked.from),
        };
        let (requests, sent) = mpsc::channel(WAITING_MAX);
        let opened = requests.try_send(TransferRequest { part: Some(Part::Open(open)) });
        debug_assert!(opened.is_ok(), "it is the first");
        let replies = client.transfer(ReceiverStream::new(sent)).await;
        let replies = replies.map_err(|status| failed(&status, &asked.to))?.into_inner();
        Ok(Self {
            sidecar: Arc::clone(sidecar),
            to: asked.to.clone(),
            client,
            id,
            transfer: Source::new(),
            stream: Some((requests, replies)),
            confirmed: false,
            settle: None,
            refusal: None,
        })
    }

    /// Gets a scope at the source and sends what `keep` says; how many flows the source passed over, as
    /// they are in use there.
    pub(super) async fn carry(
        &mut self,
        (source, reader): (&End, &Client),
        (scope, query): (Scope, &Query),
        mut keep: impl FnMut(&Chunk, usize) -> Result<bool, Failure>,
    ) -> Result<u64, Failure> {
        let to = self.to.clone();
        let failed = |error| blame(&error, source, &to);
        // A source waits for its reader for a while only.
        self.until(|transfer| transfer.wants() || !transfer.is_open()).await;
        let mut chunks = reader.get(scope, query).await.map_err(failed)?;
        let mut named = Named::default();
        loop {
            self.until(|transfer| transfer.wants() || !transfer.is_open()).await;
            if !self.transfer.is_open() {
                return Err(self.why());
            }
            // The other node may say meanwhile that it takes no more.
            let encoded = tokio::select! {
                encoded = chunks.next_encoded() => encoded.map_err(failed)?,
                () = self.until(|transfer| !transfer.is_open()) => return Err(self.why()),
            };
            let Some(encoded) = encoded else { return Ok(chunks.in_use()) };
            let mut kept = Vec::new();
            for bytes in encoded {
                let chunk = decode(&bytes, source)?;
                named.check((source, reader), (scope, query), &chunk).await?;
                if keep(&chunk, bytes.len())? {
                    kept.push(bytes);
                }
            }
            self.transfer.give(kept);
        }
    }

    /// Says the end, and waits for the receipt.
    pub(super) async fn confirm(&mut self) -> Result<(), Failure> {
        self.transfer.finish();
        self.until(|transfer| !transfer.is_undecided()).await;
        if self.confirmed { Ok(()) } else { Err(self.why()) }
    }

    /// Tells the other node that the source has deleted; nothing when it has given no receipt.
    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        if !self.confirmed {
            return Ok(());
        }
        self.transfer.deleted(self.sidecar.now());
        match self.conclude().await {
            Some(Ended::WordBroken) => {
                let reason = format!("{} says that it has undone what it had confirmed", self.to);
                Err(self.failure(FailureKind::Malformed, reason))
            }
            _ => Ok(()),
        }
    }

    /// Tells the other node to undo.
    pub(super) async fn recall(&mut self) -> Result<(), Failure> {
        self.transfer.give_up(self.sidecar.now());
        if self.conclude().await == Some(Ended::Undone) {
            return Ok(());
        }
        let reason = format!("{} does not say that it is as it was", self.to);
        Err(self.failure(FailureKind::Unreachable, reason))
    }

    /// Waits until the verdict is settled, or its time is over.
    async fn conclude(&mut self) -> Option<Ended> {
        loop {
            self.until(|transfer| transfer.ended().is_some()).await;
            let Some(verdict) = self.settle.take() else { return self.transfer.ended() };
            let ask =
                SettleTransferRequest { id: self.id, verdict: say::verdict_to(verdict).into() };
            let asked = tokio::time::timeout(CALL_LIMIT, self.client.settle_transfer(ask)).await;
            let now = self.sidecar.now();
            match asked {
                Ok(Ok(answer)) => match say::outcome_of(answer.into_inner().outcome()) {
                    Some(outcome) => self.transfer.settled(Some(outcome)),
                    None => self.transfer.not_settled(now),
                },
                Ok(Err(status)) if status.code() == Code::NotFound => self.transfer.settled(None),
                Ok(Err(_)) | Err(_) => self.transfer.not_settled(now),
            }
        }
    }

    /// Does what the logic says until it is as wanted, or a verdict is to be told elsewhere.
    async fn until(&mut self, wanted: impl Fn(&Source) -> bool) {
        loop {
            let waits = self.send();
            if wanted(&self.transfer) || self.settle.is_some() {
                return;
            }
            let now = self.sidecar.now();
            let deadline = self.transfer.poll_timeout();
            let wait = deadline.map(|deadline| tokio::time::sleep(deadline.since(now)));
            let room = self.stream.as_ref().map(|(requests, _)| requests.clone());
            tokio::select! {
                reply = next(&mut self.stream) => self.hear(reply),
                () = has_room(room), if waits => {}
                () = async { wait.expect("it is polled when it is there").await },
                    if deadline.is_some() => self.transfer.handle_timeout(self.sidecar.now()),
            }
        }
    }

    /// Takes over what the logic wants done; whether the stream takes no more of what is to be said.
    fn send(&mut self) -> bool {
        let (mut waits, mut broken) = (false, false);
        while let Some((requests, _)) = self.stream.as_ref().filter(|_| !broken && !waits) {
            match requests.try_reserve() {
                Ok(room) => match self.transfer.poll_message() {
                    Some(message) => room.send(say::request(message)),
                    None => break,
                },
                Err(TrySendError::Full(())) => waits = true,
                Err(TrySendError::Closed(())) => broken = true,
            }
        }
        if broken {
            self.break_off();
        }
        while let Some(next) = self.transfer.poll_command() {
            match next {
                SourceCommand::Delete => self.confirmed = true,
                SourceCommand::Settle(verdict) => self.settle = Some(verdict),
            }
        }
        waits
    }

    fn hear(&mut self, reply: Result<Option<TransferResponse>, Status>) {
        let now = self.sidecar.now();
        match reply.map(|reply| reply.map(say::reply)) {
            Ok(Some(Some((reply, ended)))) => {
                if let Some(ended) = ended.filter(|ended| !ended.reason.is_empty()) {
                    self.refusal = Some(self.refused(&ended));
                }
                self.transfer.reply(reply, now);
            }
            Ok(Some(None)) => {
                let reason = format!("{} says what is no message", self.to);
                self.refusal = Some(self.failure(FailureKind::Malformed, reason));
                self.break_off();
            }
            Ok(None) => self.break_off(),
            Err(status) => {
                self.refusal.get_or_insert_with(|| failed(&status, &self.to));
                self.break_off();
            }
        }
    }

    fn break_off(&mut self) {
        self.stream = None;
        self.transfer.broken_off(self.sidecar.now());
    }

    /// Why it was not taken.
    fn why(&self) -> Failure {
        self.refusal.clone().unwrap_or_else(|| {
            let reason = format!("{}: the stream broke off, or has no right receipt", self.to);
            self.failure(FailureKind::Unreachable, reason)
        })
    }

    fn refused(&self, ended: &TransferEnded) -> Failure {
        let kind = match ended.chunk.as_ref().and_then(chunk_refusal) {
            Some(chunk) => FailureKind::ChunkRefused(Box::new(chunk)),
            None => {
                FailureKind::PeerRefused { reason: constant(&ended.reason), object: String::new() }
            }
        };
        self.failure(kind, format!("{}: {}", self.to, bounded(&ended.message)))
    }

    fn failure(&self, kind: FailureKind, reason: String) -> Failure {
        Failure { end: Some(self.to.clone()), ..Failure::new(kind, reason) }
    }
}

/// Waits until the stream takes another message, or has ended.
async fn has_room(requests: Option<mpsc::Sender<TransferRequest>>) {
    match requests {
        Some(requests) => drop(requests.reserve().await),
        None => std::future::pending().await,
    }
}

/// The next reply; none ever when the stream is broken.
async fn next(
    stream: &mut Option<(mpsc::Sender<TransferRequest>, Streaming<TransferResponse>)>,
) -> Result<Option<TransferResponse>, Status> {
    match stream {
        Some((_, replies)) => replies.message().await,
        None => std::future::pending().await,
    }
}

/// What it comes to when a get fails: it is read when the other node gives credit, and a source waits
/// for its reader for a while only.
fn blame(error: &CallError, source: &End, to: &End) -> Failure {
    if error.reason() != Some(TOO_SLOW) {
        return Failure::of_call(error, source);
    }
    let reason = format!("{to} took in nothing for so long that {source} gave up");
    Failure { end: Some(to.clone()), ..Failure::new(FailureKind::Late, reason) }
}

/// What a call of another node comes to that has failed.
fn failed(status: &Status, to: &End) -> Failure {
    let refused = |reason, object| FailureKind::PeerRefused { reason, object };
    let (kind, why) = if let Some(wrong) = wrong_identity(status) {
        (refused("WRONG_IDENTITY".to_owned(), String::new()), wrong.to_string())
    } else if let Some(info) = status.get_details_error_info() {
        let object = info.metadata.get("object").map(|object| bounded(object));
        let kind = refused(constant(&info.reason), object.unwrap_or_default());
        (kind, format!("that node refuses: {}", bounded(status.message())))
    } else {
        (FailureKind::Unreachable, bounded(&words(status)))
    };
    Failure { end: Some(to.clone()), ..Failure::new(kind, format!("{to}: {why}")) }
}

/// The chunk that the other node refuses.
fn chunk_refusal(said: &v1::ChunkRefusal) -> Option<ChunkRefusal> {
    let scope = scope_of(said.scope)?;
    let (id, message) = (bounded(&said.id), bounded(&said.message));
    Some(ChunkRefusal { scope, id, reason: said.reason(), message })
}

/// The beginning of what another node says, which is remembered and shown: nothing in it controls a
/// terminal.
fn bounded(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text[..text.floor_char_boundary(TEXT_MAX)].chars().map(shown).collect()
}

/// The reason of a refusal, if it can be one.
fn constant(reason: &str) -> String {
    let sound = |c: char| c.is_ascii_uppercase() || c == '_';
    let is_one = !reason.is_empty() && reason.len() <= REASON_MAX && reason.chars().all(sound);
    if is_one { reason.to_owned() } else { "REFUSED".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn who_takes_nothing_in_is_blamed_for_the_get_that_nobody_read() {
        let (source, to) = (End::Nf("a".to_owned()), End::Nf("b".to_owned()));
        let refused = |reason: &str| CallError::Refused {
            code: Code::DeadlineExceeded,
            reason: reason.to_owned(),
            message: String::new(),
        };
        let slow = blame(&refused(TOO_SLOW), &source, &to);
        assert_eq!((slow.kind, slow.end), (FailureKind::Late, Some(to.clone())));
        assert_eq!(blame(&refused("BUSY"), &source, &to).end, Some(source));
    }

    #[test]
    fn what_another_node_says_is_cut_and_controls_no_terminal() {
        assert_eq!(bounded("red: \u{1b}[31m\r\u{9b}2J"), "red: \u{fffd}[31m\u{fffd}\u{fffd}2J");
        assert_eq!(bounded(&"é".repeat(TEXT_MAX)).chars().count(), TEXT_MAX / 2);
        assert_eq!(
            (constant("NOT_FOUND").as_str(), constant("\u{1b}[0m").as_str()),
            ("NOT_FOUND", "REFUSED")
        );
    }

    #[test]
    fn what_is_in_the_way_there_is_named() {
        let fault = Fault::precondition("OPERATION_IN_THE_WAY", "operation 7 is about the same");
        let to = End::Peer { peer: "two".to_owned(), end: "b".to_owned() };
        let failure = failed(&fault.object("operations/7").into(), &to);
        let (reason, object) = ("OPERATION_IN_THE_WAY".to_owned(), "operations/7".to_owned());
        assert_eq!(failure.kind, FailureKind::PeerRefused { reason, object });
        assert_eq!(failure.reason, "two/b: that node refuses: operation 7 is about the same");
    }
}
