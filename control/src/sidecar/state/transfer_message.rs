//! Between what the ends of a transfer say and the messages of `TransferService`.

use weir_api::v1::{
    self, TransferChunks, TransferCredit, TransferEnded, TransferOutcome, TransferRequest,
    TransferResponse, TransferSummary, TransferVerdict, transfer_request, transfer_response,
};
use weir_state_transfer::transfer::{
    Amount, Digest, Message, Outcome, Refusal, Reply, Summary, Verdict,
};

use crate::{
    fault::Fault,
    service::refusal_message,
    state_manager::operation::{Failure, FailureKind},
};

/// What the source says.
pub(super) fn request(message: Message) -> TransferRequest {
    use transfer_request::Part;
    let part = match message {
        Message::Chunks { first, chunks } => Part::Chunks(TransferChunks { first, chunks }),
        Message::End(sent) => Part::End(summary(sent)),
        Message::Verdict(verdict) => Part::Verdict(verdict_to(verdict).into()),
    };
    TransferRequest { part: Some(part) }
}

/// What the source says, unless it is nothing that can be said once a transfer is opened.
pub(super) fn message(request: TransferRequest) -> Option<Message> {
    use transfer_request::Part;
    match request.part? {
        Part::Open(_) => None,
        Part::Chunks(TransferChunks { first, chunks }) => Some(Message::Chunks { first, chunks }),
        Part::End(sent) => summary_of(&sent).map(Message::End),
        Part::Verdict(number) => {
            verdict_of(TransferVerdict::try_from(number).ok()?).map(Message::Verdict)
        }
    }
}

/// What the destination says; of the last, why, unless the source asked for it.
pub(super) fn response(reply: Reply, why: Option<&Why>) -> TransferResponse {
    use transfer_response::Part;
    let part = match reply {
        Reply::Credit(Amount { chunks, bytes }) => Part::Credit(TransferCredit { chunks, bytes }),
        Reply::Receipt(came) => Part::Receipt(summary(came)),
        Reply::Ended(outcome) => Part::Ended(TransferEnded {
            outcome: outcome_to(outcome).into(),
            reason: why.map(|why| why.reason.to_owned()).unwrap_or_default(),
            message: why.map(|why| why.message.clone()).unwrap_or_default(),
            chunk: why.and_then(|why| why.chunk.clone()),
        }),
    };
    TransferResponse { part: Some(part) }
}

/// What the destination says, unless it is nothing that can be said; of the last, why.
pub(super) fn reply(response: TransferResponse) -> Option<(Reply, Option<TransferEnded>)> {
    use transfer_response::Part;
    Some(match response.part? {
        Part::Credit(TransferCredit { chunks, bytes }) => {
            (Reply::Credit(Amount { chunks, bytes }), None)
        }
        Part::Receipt(came) => (Reply::Receipt(summary_of(&came)?), None),
        Part::Ended(ended) => (Reply::Ended(outcome_of(ended.outcome())?), Some(ended)),
    })
}

/// Why a destination did not take a transfer.
#[derive(Debug, Clone)]
pub(super) struct Why {
    reason: &'static str,
    message: String,
    chunk: Option<v1::ChunkRefusal>,
}

impl Why {
    /// A refusal of what came.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        Self { reason: reason(refusal), message: refusal.to_string(), chunk: None }
    }

    /// A failure of the destination.
    pub(super) fn failed(failure: &Failure) -> Self {
        let chunk = match &failure.kind {
            FailureKind::ChunkRefused(refusal) => Some(refusal_message(refusal)),
            _ => None,
        };
        Self { reason: reason_of_failure(&failure.kind), message: failure.reason.clone(), chunk }
    }
}

/// What programs match on.
fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownSchema { .. } => "UNKNOWN_SCHEMA",
        Refusal::NotAChunk { .. } => "NOT_A_CHUNK",
        Refusal::NotNamed { .. } => "NOT_NAMED",
        Refusal::Repeated { .. } => "REPEATED",
        Refusal::Missing { .. } => "MISSING",
        Refusal::BeyondCredit => "BEYOND_CREDIT",
        Refusal::MessageTooLarge => "MESSAGE_TOO_LARGE",
        Refusal::TooMuch => "TOO_MUCH",
        Refusal::Truncated { .. } => "TRUNCATED",
        Refusal::WrongDigest => "WRONG_DIGEST",
        Refusal::OutOfTurn(_) => "OUT_OF_TURN",
        Refusal::Malformed => "MALFORMED",
        Refusal::BrokenOff => "BROKEN_OFF",
        Refusal::Quiet => "QUIET",
        Refusal::Destination => "REFUSED",
    }
}

fn reason_of_failure(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::Cancelled => "CANCELLED",
        FailureKind::Late => "LATE",
        FailureKind::Unreachable => "UNREACHABLE",
        FailureKind::Refused | FailureKind::Dataplane | FailureKind::PeerRefused { .. } => {
            "REFUSED"
        }
        FailureKind::ChunkRefused(_) => "CHUNK_REFUSED",
        FailureKind::Malformed => "MALFORMED",
        FailureKind::TooMuch => "TOO_MUCH",
        FailureKind::Internal => "INTERNAL",
        FailureKind::Stopping => "STOPPING",
    }
}

/// The fault of a transfer that is refused before it begins.
pub(super) fn fault(refusal: &Refusal) -> Fault {
    Fault::precondition(reason(refusal), refusal.to_string()).object("kinds")
}

pub(super) fn verdict_to(verdict: Verdict) -> TransferVerdict {
    match verdict {
        Verdict::Keep => TransferVerdict::Keep,
        Verdict::Undo => TransferVerdict::Undo,
    }
}

fn verdict_of(verdict: TransferVerdict) -> Option<Verdict> {
    match verdict {
        TransferVerdict::Unspecified => None,
        TransferVerdict::Keep => Some(Verdict::Keep),
        TransferVerdict::Undo => Some(Verdict::Undo),
    }
}

pub(crate) fn outcome_to(outcome: Outcome) -> TransferOutcome {
    match outcome {
        Outcome::Kept => TransferOutcome::Kept,
        Outcome::Undone => TransferOutcome::Undone,
        Outcome::Stuck => TransferOutcome::Stuck,
    }
}

pub(super) fn outcome_of(outcome: TransferOutcome) -> Option<Outcome> {
    match outcome {
        TransferOutcome::Unspecified => None,
        TransferOutcome::Kept => Some(Outcome::Kept),
        TransferOutcome::Undone => Some(Outcome::Undone),
        TransferOutcome::Stuck => Some(Outcome::Stuck),
    }
}

fn summary(of: Summary) -> TransferSummary {
    let Amount { chunks, bytes } = of.amount;
    TransferSummary { chunks, bytes, digest: of.digest.0.to_vec() }
}

fn summary_of(said: &TransferSummary) -> Option<Summary> {
    let digest = Digest(said.digest.as_slice().try_into().ok()?);
    Some(Summary { amount: Amount { chunks: said.chunks, bytes: said.bytes }, digest })
}
