//! State that comes from another node: the stream from its sidecar, and its verdict.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use weir_api::{
    dataplane::v1::Guarantee,
    nf::v1::StateKind,
    v1::{TransferOpen, TransferRequest, TransferResponse},
};
use weir_nf_api::{Description, client::Client};
use weir_state_transfer::{
    chunk::{Schema, Scope},
    transfer::{
        Amount, Message, Opened, Outcome, Piece, Receiver, Receiving, Refusal, Reply, Verdict,
    },
};

use super::{
    arrivals::Admitted,
    begin,
    carry::{Count, not_taken},
    ends::END_MAX,
    processes::{Move, Way},
    transfer_message::{self as say, Why},
};
use crate::{
    fault::Fault,
    sidecar::Sidecar,
    southbound::scope_message,
    state_manager::{
        end::{Called, End},
        operation::{Asked, Failure, FailureKind, MoveAsked, Selection, State},
        transfer::{Carry, Transfer},
    },
};

/// Kinds of state that a source may have.
const KINDS_MAX: usize = 64;

/// Where the replies to a source go. Of a source that reads them it never has more than there was
/// credit for messages.
pub(crate) type Replies = mpsc::Sender<Result<TransferResponse, Status>>;

/// A transfer from another node.
pub(super) struct Arrival {
    sidecar: Arc<Sidecar>,
    from: End,
    receiver: Receiver,
    admitted: Admitted,
    /// Both ways of the stream, while it is there.
    stream: Option<(Streaming<TransferRequest>, Replies)>,
    /// Chunks that the end has taken in.
    taken: u64,
}

impl Sidecar {
    /// Begins a transfer that a node opens.
    pub(crate) async fn begin_arrival(
        self: &Arc<Self>,
        peer: &str,
        open: &TransferOpen,
        stream: (Streaming<TransferRequest>, Replies),
    ) -> Result<(), Fault> {
        let admitted = self.state.arrivals.admit(peer, open.id)?;
        let (filter, limit) = (begin::filter(&open.filter)?, begin::limit(open.limit_ns)?);
        let scopes = scopes(open)?;
        let from = source(peer, &open.from)?;
        let to = self.find_end("to", &open.to).await?;
        let own = self.state.ends.client(&to).describe().await.map_err(|error| {
            let message = format!("{to}: {error}");
            Fault::new(Code::Unavailable, "END_UNREACHABLE", message).object(to.to_string())
        })?;
        let opened = Opened {
            filter: filter.clone(),
            scopes: scopes.iter().copied().collect(),
            kinds: kinds(&open.kinds)?,
        };
        let receiver = Receiver::new(opened, &kinds_of(&own));
        let receiver = receiver.map_err(|refusal| say::fault(&refusal))?;
        let asked = MoveAsked {
            from: from.clone(),
            to,
            selection: Selection::Filter(filter.clone()),
            scopes,
            guarantee: Guarantee::None,
        };
        let _guard = self.changes.lock().await;
        let (_, reins, _) = self.begin_operation(Asked::Move(asked.clone()), "", None).await?;
        let sidecar = Arc::clone(self);
        let stream = Some(stream);
        let arrival =
            Arrival { sidecar: Arc::clone(self), from, receiver, admitted, stream, taken: 0 };
        let way = Way::Arriving(Box::new(arrival));
        tokio::spawn(Move { sidecar, reins, asked, filter, limit, way }.run());
        Ok(())
    }
}

impl Arrival {
    /// Puts what comes into an end until all is there; the receipt is given then.
    pub(super) async fn receive(
        &mut self,
        to: (&End, &Client),
        transfer: &mut Transfer,
        count: &mut Count<'_>,
    ) -> Result<(), Failure> {
        self.receiver.ready(self.sidecar.now());
        loop {
            while let Some(next) = self.receiver.poll() {
                match next {
                    Receiving::Reply(reply) => self.say(reply, None),
                    Receiving::Put(pieces) => self.put(to, pieces, transfer, count).await?,
                    Receiving::Undo => return Err(self.why()),
                }
            }
            // Nothing is waited for behind the receipt: whoever ends the wait would undo.
            if self.receiver.holds() {
                return Ok(());
            }
            self.hear().await;
        }
    }

    /// Waits for the verdict.
    pub(super) async fn hold(&mut self, transfer: &mut Transfer) -> Result<(), Failure> {
        let sidecar = Arc::clone(&self.sidecar);
        loop {
            while let Some(next) = self.receiver.poll() {
                match next {
                    Receiving::Undo => return Err(self.why()),
                    // What is put is put, and the last reply is said when all is told here.
                    Receiving::Reply(_) | Receiving::Put(_) => {}
                }
            }
            if self.receiver.ended().is_some() {
                if self.receiver.kept_unasked() {
                    let reason = "all state is at the destination, and the source did not say \
                                  whether it has deleted it";
                    transfer.unsettled(self.failure(FailureKind::Late, reason));
                }
                return Ok(());
            }
            tokio::select! {
                () = self.hear() => {}
                () = sidecar.stopped() => self.receiver.keep_unasked(),
            }
        }
    }

    /// The operation has ended: tells the source.
    pub(super) fn end(&mut self, state: State, failure: Option<&Failure>) {
        self.receiver.failed();
        self.receiver.undone(state == State::Undone);
        let outcome = self.receiver.ended().unwrap_or(Outcome::Stuck);
        let why = match (self.receiver.refusal(), failure) {
            (Some(Refusal::Destination), Some(failure)) => Some(Why::failed(failure)),
            (Some(refusal), _) => Some(Why::refused(refusal)),
            (None, _) => None,
        };
        self.say(Reply::Ended(outcome), why.as_ref());
        self.admitted.end(outcome);
    }

    /// Chunks that the end has taken in.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    async fn put(
        &mut self,
        (to, writer): (&End, &Client),
        pieces: Vec<Piece>,
        transfer: &mut Transfer,
        count: &mut Count<'_>,
    ) -> Result<(), Failure> {
        let Some(Piece { scope, .. }) = pieces.first() else { return Ok(()) };
        let (scope, mut amount) = (*scope, Amount::default());
        let (mut ids, mut chunks) = (Vec::new(), Vec::new());
        for Piece { id, bytes, .. } in pieces {
            if transfer.carry(scope, &id)? == Carry::Leave {
                let reason = "it sends what was not asked for";
                return Err(self.failure(FailureKind::Malformed, reason));
            }
            amount.chunks += 1;
            amount.bytes += bytes.len() as u64;
            count.add(bytes.len());
            ids.push(id);
            chunks.push(bytes);
        }
        let put = writer.put(scope, tokio_stream::iter(chunks)).await;
        let put = put.map_err(|error| Failure::of_call(&error, to))?;
        self.taken += put.taken.min(amount.chunks);
        transfer.taken(self.taken);
        let place = usize::try_from(put.taken).unwrap_or(usize::MAX);
        let id = || ids.get(place).cloned().unwrap_or_default();
        if let Some(failure) = not_taken(to, scope, (&put, amount.chunks), id) {
            return Err(failure);
        }
        self.receiver.taken(amount, self.sidecar.now());
        Ok(())
    }

    /// Waits for what the source says, by the stream or by a connection of its own, or for the time
    /// at which it should have.
    async fn hear(&mut self) {
        let now = self.sidecar.now();
        let deadline = self.receiver.deadline().map(|deadline| deadline.since(now));
        let late = tokio::time::sleep(deadline.unwrap_or_default());
        let told = async {
            let told = self.admitted.verdict.wait_for(Option::is_some).await;
            told.ok().and_then(|verdict| *verdict).map_or(Heard::Nothing, Heard::Verdict)
        };
        let heard = tokio::select! {
            said = next(&mut self.stream) => said,
            told = told => told,
            () = late, if deadline.is_some() => Heard::Nothing,
        };
        let now = self.sidecar.now();
        match heard {
            Heard::Message(message) => self.receiver.message(message, now),
            Heard::Malformed => self.receiver.malformed(),
            Heard::Verdict(verdict) => self.receiver.verdict(verdict),
            Heard::End => self.break_off(),
            Heard::Nothing => self.receiver.tick(now),
        }
    }

    /// Says something to the source, if the stream is there.
    fn say(&mut self, reply: Reply, why: Option<&Why>) {
        let said = self
            .stream
            .as_ref()
            .map(|(_, replies)| replies.try_send(Ok(say::response(reply, why))).is_ok());
        if said == Some(false) {
            self.break_off();
        }
    }

    fn break_off(&mut self) {
        self.stream = None;
        self.receiver.broken_off();
    }

    /// Why it is undone.
    fn why(&self) -> Failure {
        let (kind, reason) = match self.receiver.refusal() {
            None => (FailureKind::Cancelled, "the source wants it undone".to_owned()),
            Some(refusal) => {
                let kind = match refusal {
                    Refusal::BrokenOff => FailureKind::Unreachable,
                    Refusal::Quiet => FailureKind::Late,
                    Refusal::TooMuch => FailureKind::TooMuch,
                    _ => FailureKind::Malformed,
                };
                (kind, refusal.to_string())
            }
        };
        self.failure(kind, &reason)
    }

    fn failure(&self, kind: FailureKind, reason: &str) -> Failure {
        let reason = format!("{}: {reason}", self.from);
        Failure { end: Some(self.from.clone()), ..Failure::new(kind, reason) }
    }
}

/// What is heard of a source.
enum Heard {
    Message(Message),
    Malformed,
    /// By a connection of its own.
    Verdict(Verdict),
    /// The stream broke, or has ended.
    End,
    /// Its time is over.
    Nothing,
}

/// What the source says next on the stream; nothing ever when that is broken.
async fn next(stream: &mut Option<(Streaming<TransferRequest>, Replies)>) -> Heard {
    let Some((requests, replies)) = stream else { return std::future::pending().await };
    let request = tokio::select! {
        request = requests.message() => request,
        () = replies.closed() => return Heard::End,
    };
    match request {
        Ok(Some(request)) => say::message(request).map_or(Heard::Malformed, Heard::Message),
        Ok(None) | Err(_) => Heard::End,
    }
}

/// The end of another node that a transfer comes from.
fn source(peer: &str, called: &str) -> Result<End, Fault> {
    match Called::of(called) {
        Called::Nf(name) | Called::Instance(name)
            if !name.is_empty() && called.len() <= END_MAX =>
        {
            Ok(End::Peer { peer: peer.to_owned(), end: called.to_owned() })
        }
        _ => {
            let message = "the source of a transfer is nf/NAME or instance/NAME";
            Err(Fault::invalid("END_MISSING", message).object("from"))
        }
    }
}

fn scopes(open: &TransferOpen) -> Result<BTreeSet<Scope>, Fault> {
    let scopes = begin::scopes(&open.scopes, Scope::PerFlow)?;
    if scopes.contains(&Scope::AllFlows) {
        let message = "state of all flows stays where it is: it applies everywhere";
        return Err(Fault::invalid("SCOPES", message).object("scopes"));
    }
    Ok(scopes)
}

/// The kinds of state of a source.
fn kinds(said: &[StateKind]) -> Result<Vec<(Scope, Schema)>, Fault> {
    let kind = |kind: &StateKind| {
        let scope = Scope::ALL.into_iter().find(|scope| scope_message(*scope) == kind.scope())?;
        let (number, revision) = (kind.schema.try_into().ok()?, kind.revision.try_into().ok()?);
        Some((scope, Schema { kind: number, revision }))
    };
    let kinds: Option<Vec<_>> = said.iter().take(KINDS_MAX + 1).map(kind).collect();
    kinds.filter(|kinds| kinds.len() <= KINDS_MAX).ok_or_else(|| {
        let message = format!("{KINDS_MAX} kinds of state at most, each with scope and schema");
        Fault::invalid("KINDS", message).object("kinds")
    })
}

fn kinds_of(own: &Description) -> Vec<(Scope, Schema)> {
    own.kinds.iter().map(|kind| (kind.scope, kind.schema)).collect()
}
