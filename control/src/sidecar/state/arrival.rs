//! State that comes from another node: the stream from its sidecar, and its verdict.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use weir_api::{
    dataplane::v1::Guarantee,
    v1::{TransferOpen, TransferRequest, TransferResponse},
};
use weir_nf_api::{Description, client::Client};
use weir_state_transfer::{
    chunk::{Schema, Scope},
    transfer::{
        Amount, Destination, DestinationCommand, HELD_LIMIT, Message, Opened, Outcome, Piece,
        Refusal, Reply, SETTLE_LIMIT,
    },
};

use super::{
    CALL_LIMIT, Reins, STOP_LIMIT,
    arrivals::{Admitted, Told},
    carry::{Count, not_taken, repeated},
    opening::Opening,
    processes::{Move, Way},
    times::FINISH_LIMIT,
    transfer_message::{self as say, Why},
};
use crate::{
    fault::Fault,
    sidecar::{Sidecar, peer::LOST_LIMIT},
    state_manager::{
        end::End,
        operation::{Asked, Failure, FailureKind, MoveAsked, Selection, State},
        steps::Steps,
    },
};

/// Where the replies to a source go. Of a source that reads them it never has more than there was
/// credit for messages.
pub(crate) type Replies = mpsc::Sender<Result<TransferResponse, Status>>;

/// How long the verdict of a source is waited for when the sidecar stops.
const STOP_HELD_LIMIT: Duration = Duration::from_secs(5);

// What both ends settle takes a put that has begun, the undoing, and a call that tells of it.
const _: () = assert!(
    SETTLE_LIMIT.as_secs()
        >= 2 * CALL_LIMIT.as_secs() + FINISH_LIMIT.as_secs() + CALL_LIMIT.as_secs()
);
// A source notices that the stream broke, deletes, and settles.
const _: () = assert!(
    HELD_LIMIT.as_secs()
        > LOST_LIMIT.as_secs()
            + FINISH_LIMIT.as_secs()
            + SETTLE_LIMIT.as_secs()
            + CALL_LIMIT.as_secs()
);
// It ends before the sidecar cuts operations off.
const _: () = assert!(STOP_HELD_LIMIT.as_secs() < STOP_LIMIT.as_secs());

/// A transfer from another node.
pub(super) struct Arrival {
    sidecar: Arc<Sidecar>,
    from: End,
    transfer: Destination,
    admitted: Admitted,
    /// Both ways of the stream, while it is there.
    stream: Option<(Streaming<TransferRequest>, Replies)>,
    /// By what the end is recognised that the state is put into.
    recognised: u64,
    /// Chunks that the end has taken in.
    taken: u64,
    /// What it was told otherwise than by the stream.
    told: Option<Told>,
}

impl Sidecar {
    /// Begins a transfer that a node opens.
    pub(crate) async fn begin_arrival(
        self: &Arc<Self>,
        peer: &str,
        open: TransferOpen,
        stream: (Streaming<TransferRequest>, Replies),
    ) -> Result<(), Fault> {
        let Opening { id, operation, from, to, filter, scopes, kinds, limit, process } =
            Opening::of(peer, open)?;
        self.state.arrivals.abandon(peer, operation, CALL_LIMIT).await;
        let admitted = self.state.arrivals.admit(peer, id, operation)?;
        let to = self.find_end("to", &to).await?;
        if !process.is_empty() && process == self.state.ends.life(&to) {
            let message = format!("{from} and {to} are one process: state would be deleted");
            let fault = Fault::precondition("SAME_END", message).object("to");
            return Err(
                fault.fix("give each [[control.nf]] of both nodes the socket of its own process")
            );
        }
        let unreachable = |message| {
            let fault = Fault::new(Code::Unavailable, "END_UNREACHABLE", message);
            fault.object(to.to_string())
        };
        let own = self.state.ends.client(&to).describe().await;
        let own = own.map_err(|error| unreachable(format!("{to}: {error}")))?;
        let recognised =
            self.recognise(&to).await.map_err(|failure| unreachable(failure.reason))?;
        let wanted = scopes.iter().copied().collect();
        let opened = Opened { filter: filter.clone(), scopes: wanted, kinds };
        let transfer = Destination::new(opened, &kinds_of(&own));
        let transfer = transfer.map_err(|refusal| say::fault(&refusal))?;
        let asked = MoveAsked {
            from: from.clone(),
            to,
            selection: Selection::Filter(filter.clone()),
            scopes,
            guarantee: Guarantee::None,
        };
        let _guard = self.changes.lock().await;
        if asked.to.is_instance() {
            self.refuse_during_operation("take in state")?;
        }
        let (_, reins, _) = self.begin_operation(Asked::Move(asked.clone()), "", None).await?;
        let sidecar = Arc::clone(self);
        let arrival = Arrival {
            sidecar: Arc::clone(self),
            from,
            transfer,
            admitted,
            stream: Some(stream),
            recognised,
            taken: 0,
            told: None,
        };
        let way = Way::Arriving(Box::new(arrival));
        tokio::spawn(Move { sidecar, reins, asked, filter, limit, way, again: false }.run());
        Ok(())
    }
}

impl Arrival {
    /// Puts what comes into an end until all is there; the receipt is given then.
    pub(super) async fn receive(
        &mut self,
        to: (&End, &Client),
        steps: &mut Steps,
        count: &mut Count<'_>,
    ) -> Result<(), Failure> {
        steps.recognised(self.recognised)?;
        self.transfer.ready(self.sidecar.now());
        loop {
            match self.transfer.poll_command() {
                Some(DestinationCommand::Reply(reply)) => self.say(reply, None),
                Some(DestinationCommand::Put(pieces)) => self.put(to, pieces, steps, count).await?,
                Some(DestinationCommand::Undo) => return Err(self.why()),
                // Nothing is waited for behind the receipt: whoever ends the wait would undo.
                None if self.transfer.holds() => return Ok(()),
                None => {
                    let heard = self.listen().await;
                    if let Heard::Message(Message::End(_)) = heard {
                        // It may have been long since it was last asked something.
                        let asked = to.1.describe().await;
                        asked.map_err(|error| Failure::of_call(&error, to.0))?;
                        self.sidecar.recognise_in(steps, to.0).await?;
                    }
                    self.take(heard);
                }
            }
        }
    }

    /// Waits for the verdict, or until the operation is told to end: all that came is kept then.
    pub(super) async fn hold(&mut self, steps: &mut Steps, reins: &Reins) -> Result<(), Failure> {
        let told_to_end = async {
            let failure = reins.cancelled().await;
            if failure.kind == FailureKind::Stopping {
                // The verdict of a source that is there is on its way.
                tokio::time::sleep(STOP_HELD_LIMIT).await;
            }
            failure
        };
        let mut told_to_end = std::pin::pin!(told_to_end);
        let mut unasked = None;
        loop {
            while let Some(next) = self.transfer.poll_command() {
                match next {
                    DestinationCommand::Undo => return Err(self.why()),
                    // What is put is put, and the last reply is said when all is told here.
                    DestinationCommand::Reply(_) | DestinationCommand::Put(_) => {}
                }
            }
            if self.transfer.ended().is_some() {
                if self.transfer.kept_unasked() {
                    steps.unsettled(self.kept(unasked));
                }
                return Ok(());
            }
            tokio::select! {
                heard = self.listen() => self.take(heard),
                failure = &mut told_to_end => {
                    unasked = Some(failure);
                    self.transfer.keep_unasked();
                }
            }
        }
    }

    /// Why it is kept without a verdict, unless nothing was heard for too long.
    fn kept(&self, told: Option<Failure>) -> Failure {
        let (kind, why) = match told {
            Some(Failure { kind, reason, .. }) => (kind, reason),
            None if self.told == Some(Told::Abandoned) => {
                (FailureKind::Unreachable, "it has begun its operation anew".to_owned())
            }
            None => (FailureKind::Late, format!("nothing was heard of it for {HELD_LIMIT:?}")),
        };
        let reason = format!(
            "{why}: all state is at the destination, and the source did not say whether it has \
             deleted it"
        );
        self.failure(kind, &reason)
    }

    /// The operation has ended: tells the source. Whichever of the two logics has decided, the other
    /// follows: one that is not refused yet is by the failure of the operation, one that holds or has
    /// ended stays as it is, and one that is to undo has done what the operation says.
    pub(super) fn end(&mut self, state: State, failure: Option<&Failure>) {
        self.transfer.failed();
        self.transfer.undone(state == State::Undone);
        let outcome = self.transfer.ended().unwrap_or(Outcome::Stuck);
        let why = match (self.transfer.refusal(), failure) {
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

    /// Puts pieces into the end, and hears what the source says meanwhile: of that no more waits
    /// than there is credit for.
    async fn put(
        &mut self,
        (to, writer): (&End, &Client),
        pieces: Vec<Piece>,
        steps: &mut Steps,
        count: &mut Count<'_>,
    ) -> Result<(), Failure> {
        let Some(Piece { scope, .. }) = pieces.first() else { return Ok(()) };
        let (scope, mut amount) = (*scope, Amount::default());
        let (mut ids, mut chunks) = (Vec::new(), Vec::new());
        for Piece { id, schema, edition, bytes, .. } in pieces {
            if !steps.is_new(scope, &id, schema, edition)? {
                return Err(repeated(&self.from, &id));
            }
            steps.take(scope, &id, 0)?;
            amount.chunks += 1;
            amount.bytes += bytes.len() as u64;
            count.add(bytes.len());
            ids.push(id);
            chunks.push(bytes);
        }
        let mut put = std::pin::pin!(writer.put(scope, tokio_stream::iter(chunks)));
        let put = loop {
            tokio::select! {
                put = &mut put => break put,
                heard = self.listen() => self.take(heard),
            }
        };
        let put = put.map_err(|error| Failure::of_call(&error, to))?;
        self.taken += put.taken.min(amount.chunks);
        steps.taken(self.taken);
        let place = usize::try_from(put.taken).unwrap_or(usize::MAX);
        let id = || ids.get(place).cloned().unwrap_or_default();
        if let Some(failure) = not_taken(to, scope, (&put, amount.chunks), id) {
            return Err(failure);
        }
        // What an end took in that was started again since is nowhere.
        self.sidecar.recognise_in(steps, to).await?;
        self.transfer.taken(amount, self.sidecar.now());
        Ok(())
    }

    /// Waits for what the source says, by the stream or otherwise, or for the time at which it
    /// should have.
    async fn listen(&mut self) -> Heard {
        let now = self.sidecar.now();
        let deadline = self.transfer.poll_timeout().map(|deadline| deadline.since(now));
        let late = tokio::time::sleep(deadline.unwrap_or_default());
        // It is heard once.
        let is_news = self.told.is_none();
        let told = async {
            let told = self.admitted.told.wait_for(Option::is_some).await;
            told.ok().and_then(|told| *told).map_or(Heard::Nothing, Heard::Told)
        };
        tokio::select! {
            said = next(&mut self.stream) => said,
            told = told, if is_news => told,
            () = late, if deadline.is_some() => Heard::Nothing,
        }
    }

    fn take(&mut self, heard: Heard) {
        let now = self.sidecar.now();
        match heard {
            Heard::Message(message) => self.transfer.message(message, now),
            Heard::Malformed => self.transfer.malformed(),
            Heard::Told(told) => {
                self.told = Some(told);
                match told {
                    Told::Verdict(verdict) => self.transfer.verdict(verdict),
                    Told::Abandoned => {
                        self.break_off();
                        self.transfer.keep_unasked();
                    }
                }
            }
            Heard::End => self.break_off(),
            Heard::Nothing => self.transfer.handle_timeout(now),
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
        self.transfer.broken_off();
    }

    /// Why it is undone.
    fn why(&self) -> Failure {
        let (kind, reason) = match self.transfer.refusal() {
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
    /// Otherwise than by the stream.
    Told(Told),
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

fn kinds_of(own: &Description) -> Vec<(Scope, Schema)> {
    own.kinds.iter().map(|kind| (kind.scope, kind.schema)).collect()
}
