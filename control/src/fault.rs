//! Errors of the API: what, which object, what to do.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::{causes::root_cause, refusal::refusal};
use weir_state_transfer::quote::shortened;

use crate::{scaling::plan::PlanError, southbound::transient, store::StoreError};

/// The reason of a fault after which nobody knows whether what was asked was begun.
const NOT_KNOWN: &str = "NOT_KNOWN";
/// The reason of a fault after which what was asked was done, and that it was is not kept.
const NOT_KEPT: &str = "NOT_KEPT";
/// What to do about both.
const ASK_AGAIN: &str =
    "ask again with the same request id: what has become of it is answered, or it goes on";

/// An error on its way to a caller.
///
/// It becomes a `google.rpc.Status` with an `ErrorInfo`, cut to what any client takes; object and fix
/// are in its metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The gRPC code.
    pub code: Code,
    /// Upper-case constant that programs match on.
    pub reason: String,
    /// What went wrong.
    pub message: String,
    /// Which object it is about, as in `instances/sw3`.
    pub object: String,
    /// What to do about it.
    pub fix: String,
}

impl Fault {
    /// A fault without object and fix.
    pub fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            object: String::new(),
            fix: String::new(),
        }
    }

    /// A request that is wrong in itself.
    pub fn invalid(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, reason, message)
    }

    /// A request that does not fit what there is.
    pub fn precondition(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message)
    }

    /// An object that does not exist; `kind` is its plural noun.
    pub fn not_found(kind: &str, name: &str) -> Self {
        let (noun, name) = (kind.trim_end_matches('s'), shortened(name));
        Self::new(Code::NotFound, "NOT_FOUND", format!("there is no {noun} {name}"))
            .object(format!("{kind}/{name}"))
            .fix(format!("weir {noun} list"))
    }

    /// A caller that is no node that this one takes state from.
    pub fn unknown_peer(why: &str) -> Self {
        let message = format!("the caller may not bring state: {why}");
        Self::new(Code::PermissionDenied, "UNKNOWN_PEER", message)
            .object("control.peer")
            .fix("add its node as [[control.peer]], with the identity that its certificate has")
    }

    /// A fault from the data plane that was asked to begin `what`. Without its words, it may go on
    /// there.
    pub fn unsure(what: &str, status: &Status) -> Self {
        if !transient(status) || status.get_details_error_info().is_some() {
            return Self::from_dataplane(status);
        }
        let why = words(status);
        let message = format!("whether the data plane has begun the {what} is not known: {why}");
        Self::new(Code::Unavailable, NOT_KNOWN, message).object("dataplane").fix(ASK_AGAIN)
    }

    /// A change that was not begun within its limit, as when the data plane hangs, for all that is
    /// known.
    pub fn late(limit: Duration) -> Self {
        let message = format!("whether the change has begun is not known: not within {limit:?}");
        Self::new(Code::Unavailable, NOT_KNOWN, message).fix(ASK_AGAIN)
    }

    /// A change whose turn did not come within its limit, as when the data plane hangs.
    pub fn not_begun(limit: Duration) -> Self {
        let message = format!("the change has not begun: it waited {limit:?} for others before it");
        Self::new(Code::Unavailable, "NOT_BEGUN", message).fix("ask again")
    }

    /// A change that was made, and that the store does not keep.
    pub fn not_kept(error: StoreError) -> Self {
        let message = format!("the change was made, and that it was cannot be kept: {error}");
        let fix = format!("see that the disk of the store has room, then {ASK_AGAIN}");
        Self { message, reason: NOT_KEPT.to_owned(), ..error.into() }.fix(fix)
    }

    /// Whether what was asked may have been begun.
    pub fn is_unsure(&self) -> bool {
        [NOT_KNOWN, NOT_KEPT].contains(&self.reason.as_str())
    }

    /// Names the object.
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// Says what to do.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// Reads a fault from what a server answered. Without `ErrorInfo`, the reason is the code.
    pub fn from_status(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, metadata) = info.map_or_else(
            || (format!("{:?}", status.code()), HashMap::new()),
            |info| (info.reason, info.metadata),
        );
        let of = |key: &str| metadata.get(key).cloned().unwrap_or_default();
        Self {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            object: of("object"),
            fix: of("fix"),
        }
    }

    /// A fault from the data plane, passed on with its words.
    pub fn from_dataplane(status: &Status) -> Self {
        if status.get_details_error_info().is_some() {
            return Self::from_status(status);
        }
        let why = words(status);
        match status.code() {
            Code::Unavailable => Self::new(
                Code::Unavailable,
                "DATAPLANE_UNREACHABLE",
                format!("the data plane does not answer: {why}"),
            )
            .object("dataplane")
            .fix(dataplane_fix(&why)),
            code => Self::new(code, "DATAPLANE_REFUSED", why).object("dataplane"),
        }
    }
}

/// What a status says: of a connection that was not made or that broke, the last cause, as tonic's own
/// words are "transport error".
fn words(status: &Status) -> String {
    let source = std::error::Error::source(status);
    source.map_or_else(|| status.message().to_owned(), |error| root_cause(error).to_string())
}

/// What mends a data plane that is not reached, by what the system says of its socket.
pub fn dataplane_fix(why: &str) -> &'static str {
    if why.contains("Permission denied") {
        "its socket lets in root and the user that runs weir-dataplane: run weir-control as that \
         user or as root"
    } else {
        "start weir-dataplane --config FILE"
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let Fault { code, reason, message, object, fix } = &fault;
        let said = [("object", &**object), ("fix", &**fix)];
        let said: Vec<_> = said.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let is_bad = *code == Code::InvalidArgument && !object.is_empty();
        refusal(*code, message, reason, &said, is_bad.then_some((&**object, &**message)))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Full { .. } => Code::ResourceExhausted,
            _ => Code::Internal,
        };
        Self::new(code, "STORE_FAILED", error.to_string())
            .object("store")
            .fix("see that the disk of the store has room and is writable; nothing was changed")
    }
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Count(_) => {
                Self::invalid("INSTANCE_COUNT", error.to_string()).object("instances")
            }
            PlanError::Buckets(_) => Self::precondition("STEERING_TABLE", error.to_string())
                .object("steering")
                .fix("run weir-control and weir-dataplane of the same version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_plane_is_started_only_where_that_helps() {
        let of = |why| Fault::from_dataplane(&Status::unavailable(why)).fix;
        assert!(of("No such file or directory (os error 2)").contains("start weir-dataplane"));
        let denied = of("Permission denied (os error 13)");
        assert!(denied.contains("run weir-control as") && !denied.contains("start weir-dataplane"));
    }
}
