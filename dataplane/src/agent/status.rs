//! What a refused request looks like to its caller: a code, a sentence, and the details that a
//! program reads (google.rpc.Status with ErrorInfo).

use tonic::{Code, Status};
use weir_api::dataplane::v1::Change;
use weir_api::refusal::refusal;
use weir_state_transfer::mark::Refused;
use weir_state_transfer::share;

use crate::node::NodeError;
use crate::steering::SteeringError;

/// Longest request id, in characters.
const REQUEST_ID_MAX: usize = 64;

impl From<NodeError> for Status {
    /// The answer to a request that the node refuses.
    fn from(error: NodeError) -> Self {
        let message = error.to_string();
        let (code, reason, metadata) = match &error {
            NodeError::NotFound { kind, name } => (
                Code::NotFound,
                "NOT_FOUND",
                vec![
                    ("object", format!("{}/{name}", plural(kind))),
                    ("fix", format!("weir {kind} list shows what there is")),
                ],
            ),
            NodeError::Exists { kind, name } => {
                let fix = "choose another name".to_owned();
                let metadata = vec![("object", format!("{kind}s/{name}")), ("fix", fix)];
                (Code::AlreadyExists, "ALREADY_EXISTS", metadata)
            }
            NodeError::Invalid { field, reason } => return invalid(field, reason),
            NodeError::Precondition { object, .. } => {
                (Code::FailedPrecondition, "WRONG_STATE", vec![("object", object.clone())])
            }
            NodeError::Exhausted { what, bound, hint } => {
                let metadata = vec![
                    ("object", (*what).to_owned()),
                    ("fix", (*hint).to_owned()),
                    ("bound", bound.to_string()),
                ];
                (Code::ResourceExhausted, "BOUND_REACHED", metadata)
            }
            NodeError::Stale { expected, actual } => {
                let metadata = vec![
                    ("fix", "read it again, and then change it".to_owned()),
                    ("expected", expected.to_string()),
                    ("actual", actual.to_string()),
                ];
                (Code::Aborted, "STALE_GENERATION", metadata)
            }
            NodeError::Move(Refused::SameInstance) => return invalid("to", &message),
            NodeError::Move(Refused::AllFlows | Refused::BucketsMultiFlow) => {
                return invalid("scopes", &message);
            }
            NodeError::Move(Refused::Busy(id)) => {
                (Code::FailedPrecondition, "MOVE_OVERLAPS", vec![("move", id.to_string())])
            }
            NodeError::Move(Refused::TooMany(bound)) => {
                (Code::ResourceExhausted, "BOUND_REACHED", vec![("bound", bound.to_string())])
            }
            NodeError::Steering(SteeringError::Filter(error)) => {
                return invalid("filter", &error.to_string());
            }
            NodeError::Steering(
                SteeringError::TooManyRules
                | SteeringError::TooManyFilters
                | SteeringError::TooManyFlows { .. },
            ) => {
                let fix =
                    "move flows that were moved by filter back, with the same filter, or with any";
                (Code::ResourceExhausted, "STEERING_FULL", vec![("fix", fix.to_owned())])
            }
            NodeError::Share(refused) => return share_refused(*refused, &message),
            NodeError::Stopping => (Code::Unavailable, "STOPPING", Vec::new()),
        };
        refused(code, &message, reason, &metadata)
    }
}

fn plural(kind: &str) -> String {
    kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"))
}

/// The answer to a share that is refused.
fn share_refused(why: share::Refused, message: &str) -> Status {
    use share::Refused;

    let (code, reason, metadata) = match why {
        Refused::TooFew | Refused::TooManyMembers | Refused::Twice(_) => {
            return invalid("instances", message);
        }
        Refused::Scope => return invalid("scopes", message),
        Refused::Filter => return invalid("filter", message),
        Refused::TooMany(bound) => (
            Code::ResourceExhausted,
            "BOUND_REACHED",
            vec![
                ("bound", bound.to_string()),
                ("fix", "end one, or raise shares_max in [shares] and restart".to_owned()),
            ],
        ),
        Refused::Share(id) | Refused::Changing(id) => {
            (Code::FailedPrecondition, "SHARE_OVERLAPS", vec![("share", id.to_string())])
        }
        Refused::Move(id) => {
            (Code::FailedPrecondition, "MOVE_OVERLAPS", vec![("move", id.to_string())])
        }
        Refused::Removing(id) => {
            (Code::FailedPrecondition, "WRONG_STATE", vec![("object", format!("instances/{id}"))])
        }
        Refused::Unknown(share::Unknown(id)) => {
            (Code::NotFound, "NOT_FOUND", vec![("object", format!("shares/{id}"))])
        }
    };
    refused(code, message, reason, &metadata)
}

/// The answer to a request with a bad field.
pub(super) fn invalid(field: &str, reason: &str) -> Status {
    let (named, bad) = ([("object", field), ("field", field)], Some((field, reason)));
    let message = format!("{field}: {reason}");
    refusal(Code::InvalidArgument, &message, "INVALID_FIELD", &named, bad)
}

/// The change that a request names, or one that nothing is known of.
///
/// # Errors
///
/// INVALID_ARGUMENT when its id is too long.
pub(super) fn change(change: Option<Change>) -> Result<Change, Status> {
    let change = change.unwrap_or_default();
    if change.request_id.chars().count() <= REQUEST_ID_MAX {
        return Ok(change);
    }
    Err(invalid("change.request_id", "is longer than 64 characters"))
}

fn refused(code: Code, message: &str, reason: &str, metadata: &[(&str, String)]) -> Status {
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, &**value)).collect();
    refusal(code, message, reason, &metadata, None)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_what_it_is_about() {
        let refused = Status::from(NodeError::NotFound { kind: "instance", name: "r9".to_owned() });
        assert_eq!(refused.code(), Code::NotFound);
        assert!(refused.message().contains("r9"), "{}", refused.message());
        let info = refused.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_FOUND", "weir"));
        assert_eq!(info.metadata["object"], "instances/r9");
        assert_eq!(info.metadata["fix"], "weir instance list shows what there is");
    }

    #[test]
    fn a_bad_field_is_named() {
        let refused =
            Status::from(NodeError::Invalid { field: "name", reason: "is empty".to_owned() });
        assert_eq!(refused.code(), Code::InvalidArgument);
        let violations = refused.get_details_bad_request().expect("a BadRequest").field_violations;
        assert_eq!((&*violations[0].field, &*violations[0].description), ("name", "is empty"));
    }

    #[test]
    fn a_stale_change_says_what_it_should_have_been_based_on() {
        let refused = Status::from(NodeError::Stale { expected: 3, actual: 5 });
        assert_eq!(refused.code(), Code::Aborted);
        let info = refused.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((&*info.metadata["expected"], &*info.metadata["actual"]), ("3", "5"));
    }

    #[test]
    fn request_ids_are_bounded() {
        let named = |id: String| change(Some(Change { request_id: id, generation: 0 }));
        assert!(named("x".repeat(64)).is_ok());
        assert_eq!(named("x".repeat(65)).expect_err("too long").code(), Code::InvalidArgument);
        assert!(change(None).is_ok());
    }
}
