//! Errors of the API: what, which object, what to do.

use std::{collections::HashMap, error::Error as _, io, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::{causes::root_cause, refusal::refusal};
use weir_state_transfer::quote::shortened;

use crate::{
    scaling::{plan::PlanError, policy::INSTANCES_MAX},
    southbound::{REQUEST_LIMIT, timed_out, transient, why},
    store::StoreError,
};

/// The reason of a fault after which nobody knows whether what was asked was begun.
const NOT_KNOWN: &str = "NOT_KNOWN";
/// The reason of a fault after which what was asked was done, and that it was is not kept.
const NOT_KEPT: &str = "NOT_KEPT";
/// Names that an error has of what there is, at most.
const NAMED_MAX: usize = 16;
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

    /// Names what there is, in the place of what does not exist; of much the first.
    pub fn one_of<T: AsRef<str>>(self, names: impl IntoIterator<Item = T>) -> Self {
        let mut names = names.into_iter();
        let first: Vec<T> = names.by_ref().take(NAMED_MAX).collect();
        if first.is_empty() {
            return self;
        }
        let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
        let more = match names.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let fix = format!("name one of {}{more}: {}", first.join(", "), self.fix);
        self.fix(fix)
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
        let why = why(status);
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
        let why = why(status);
        let (reason, message) = match status.code() {
            _ if timed_out(status) => {
                let message = format!("the data plane does not answer within {REQUEST_LIMIT:?}");
                ("DATAPLANE_LATE", message)
            }
            Code::DeadlineExceeded => {
                ("DATAPLANE_LATE", format!("the data plane does not answer: {why}"))
            }
            Code::Unavailable => {
                ("DATAPLANE_UNREACHABLE", format!("the data plane does not answer: {why}"))
            }
            code => return Self::new(code, "DATAPLANE_REFUSED", why).object("dataplane"),
        };
        Self::new(Code::Unavailable, reason, message).object("dataplane").fix(dataplane_fix(status))
    }
}

/// What mends a data plane that takes connections and answers nothing.
const SILENT_FIX: &str = "its process is there and does not answer: see its log, and that nothing \
                          has stopped it, then ask again; start it again if it stays so";

/// What mends a data plane that has not answered, by what the system says of its socket.
pub(crate) fn dataplane_fix(status: &Status) -> &'static str {
    let of_system = || root_cause(status.source()?).downcast_ref::<io::Error>();
    if timed_out(status) || status.code() == Code::DeadlineExceeded {
        SILENT_FIX
    } else if of_system().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
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
        let fix = match error {
            StoreError::Unreadable { .. } => {
                "run the version that has written the store, or move it away: then an empty one is begun"
            }
            _ => "see that the disk of the store has room and is writable; nothing was changed",
        };
        Self::new(code, "STORE_FAILED", error.to_string()).object("store").fix(fix)
    }
}

impl From<PlanError> for Fault {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Count(_) => {
                let fault = Self::invalid("INSTANCE_COUNT", error.to_string());
                fault.object("instances").fix(format!("ask for 1 to {INSTANCES_MAX}"))
            }
            PlanError::Buckets(_) => Self::precondition("STEERING_TABLE", error.to_string())
                .object("steering")
                .fix("run weir-control and weir-dataplane of the same version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_there_is_is_named_and_of_much_the_first() {
        let of = |count: u32| {
            let names = (1..=count).map(|number| format!("sw{number}"));
            Fault::not_found("instances", "sw0").one_of(names).fix
        };
        assert_eq!(of(0), "weir instance list");
        assert_eq!(of(2), "name one of sw1, sw2: weir instance list");
        let fix = of(250);
        assert!(fix.contains("sw1, sw2, ") && fix.contains("sw16 and 234 more: "), "{fix}");
    }

    #[test]
    fn a_data_plane_is_started_only_where_that_helps() {
        let of = |error| {
            let mut status = Status::unavailable("transport error");
            status.set_source(Arc::new(io::Error::from_raw_os_error(error)));
            Fault::from_dataplane(&status).fix
        };
        assert!(of(2).contains("start weir-dataplane"));
        let denied = of(13);
        assert!(denied.contains("run weir-control as") && !denied.contains("start weir-dataplane"));
        // As the library has it when the time is over.
        let expired = || Status::from_error(Box::new(tonic::TimeoutExpired(())));
        let late = Fault::from_dataplane(&expired());
        assert_eq!((late.code, &*late.reason), (Code::Unavailable, "DATAPLANE_LATE"));
        assert_eq!(late.message, "the data plane does not answer within 5s");
        assert!(late.object == "dataplane" && late.fix.contains("stopped it"), "{late:?}");
        let unsure = Fault::unsure("move", &expired());
        assert!(unsure.message.ends_with("not known: no answer within 5s"), "{unsure:?}");
    }
}
