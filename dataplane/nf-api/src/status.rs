//! What a refused request looks like: a status with an `ErrorInfo`, as in the other APIs.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use weir_state_transfer::southbound::EventsError;

/// The domain of all reasons.
const DOMAIN: &str = "weir";

/// The answer to a request with a bad field.
pub(crate) fn invalid(field: &str, reason: &str) -> Status {
    let named = [("object", field), ("field", field)];
    let mut details = details("INVALID_FIELD", &named);
    details.set_bad_request(vec![FieldViolation::new(field, reason)]);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {reason}"), details)
}

/// The answer to one request too many.
pub(crate) fn exhausted(what: &str, bound: usize) -> Status {
    let message = format!("{bound} {what} are the most: try again when one has ended");
    let details = details("BOUND_REACHED", &[("object", what), ("bound", &bound.to_string())]);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// The answer to who holds up a stream.
pub(crate) fn too_slow(what: &str) -> Status {
    let details = details("PEER_TOO_SLOW", &[]);
    Status::with_error_details(Code::DeadlineExceeded, what.to_owned(), details)
}

/// The answer when the thread of the network function does not serve.
pub(crate) fn busy(limit: Duration) -> Status {
    let message = format!("the network function did not serve the call within {limit:?}");
    Status::with_error_details(Code::DeadlineExceeded, message, details("BUSY", &[]))
}

/// The answer when the thread of the network function takes no calls any more.
pub(crate) fn stopping() -> Status {
    let message = "the network function is stopping";
    Status::with_error_details(Code::Unavailable, message, details("STOPPING", &[]))
}

/// The answer when what the network function relies on fails.
pub(crate) fn failed(why: &str) -> Status {
    Status::with_error_details(Code::Internal, why.to_owned(), details("FAILED", &[]))
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
            let details = details("NOT_OFFERED", &[("object", &action.to_string())]);
            return Status::with_error_details(Code::Unimplemented, error.to_string(), details);
        }
    };
    let details = details(reason, &[("object", &format!("subscriptions/{object}"))]);
    Status::with_error_details(code, error.to_string(), details)
}

/// The answer to a subscription that an operation is in the way of.
fn busy_with(error: &EventsError, operation: &str) -> Status {
    let details = details("BUSY", &[("object", operation)]);
    Status::with_error_details(Code::FailedPrecondition, error.to_string(), details)
}

fn details(reason: &str, metadata: &[(&str, &str)]) -> ErrorDetails {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let metadata: HashMap<String, String> = metadata.iter().map(owned).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}
