//! What a refused request looks like: a status with an `ErrorInfo`, as in the other APIs.

use std::time::Duration;

use tonic::{Code, Status};
use weir_api::refusal::refusal;
use weir_state_transfer::southbound::EventsError;

/// The answer to a request with a bad field.
pub(crate) fn invalid(field: &str, reason: &str) -> Status {
    let (named, bad) = ([("object", field), ("field", field)], Some((field, reason)));
    let message = format!("{field}: {reason}");
    refusal(Code::InvalidArgument, &message, "INVALID_FIELD", &named, bad)
}

/// The answer to one request too many.
pub(crate) fn exhausted(what: &str, bound: usize) -> Status {
    let message = format!("{bound} {what} are the most: try again when one has ended");
    let metadata = [("object", what), ("bound", &*bound.to_string())];
    refusal(Code::ResourceExhausted, &message, "BOUND_REACHED", &metadata, None)
}

/// The answer to who holds up a stream.
pub(crate) fn too_slow(what: &str) -> Status {
    refusal(Code::DeadlineExceeded, what, "PEER_TOO_SLOW", &[], None)
}

/// The answer when the thread of the network function does not serve.
pub(crate) fn busy(limit: Duration) -> Status {
    let message = format!("the network function did not serve the call within {limit:?}");
    refusal(Code::DeadlineExceeded, &message, "BUSY", &[], None)
}

/// The answer when the thread of the network function takes no calls any more.
pub(crate) fn stopping() -> Status {
    let message = "the network function is stopping";
    refusal(Code::Unavailable, message, "STOPPING", &[], None)
}

/// The answer when what the network function relies on fails.
pub(crate) fn failed(why: &str) -> Status {
    refusal(Code::Internal, why, "FAILED", &[], None)
}

/// The answer to a subscription that is refused.
pub(crate) fn events(error: &EventsError) -> Status {
    let (code, reason, object) = match error {
        EventsError::Exists(id) => (Code::AlreadyExists, "ALREADY_EXISTS", format!("{id}")),
        EventsError::Unknown(id) => (Code::NotFound, "NOT_FOUND", format!("{id}")),
        EventsError::Moving(id) => return busy_with(error, &format!("moves/{id}")),
        EventsError::Sharing(id) => return busy_with(error, &format!("shares/{id}")),
        EventsError::TooMany(most) => return exhausted("subscriptions", *most),
        EventsError::NotOffered(action) => {
            let object = [("object", &*action.to_string())];
            return refusal(Code::Unimplemented, &error.to_string(), "NOT_OFFERED", &object, None);
        }
    };
    let object = [("object", &*format!("subscriptions/{object}"))];
    refusal(code, &error.to_string(), reason, &object, None)
}

/// The answer to a subscription that an operation is in the way of.
fn busy_with(error: &EventsError, operation: &str) -> Status {
    let object = [("object", operation)];
    refusal(Code::FailedPrecondition, &error.to_string(), "BUSY", &object, None)
}
