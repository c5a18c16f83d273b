//! Why a sidecar has not done what it was asked.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::{
    causes::words,
    v1::{StateFailure, StateOperation},
};

/// Why something was not done, by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sidecar refuses: nothing has begun. Ask otherwise, or when what stands in the way has
    /// ended.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// The sidecar can not say whether what was asked has begun, or can not keep that it has. Asking
    /// again with the same request id is answered with what has become of it.
    #[error("{0}")]
    Unsure(Box<Refused>),
    /// The operation has ended otherwise than done. Its `state` says what has become of the state,
    /// its `failure` why.
    #[error("the operation has ended {}: {}", .0.state().as_str_name(), .0.reason)]
    Ended(Box<StateOperation>),
    /// The sidecar is not reached, or does not answer. What was asked may be done all the same:
    /// asking again with the same request id is answered with the same operation.
    #[error("the sidecar is not reached: {why}")]
    Unreachable {
        /// What the system says.
        why: String,
    },
}

/// What the sidecar says of what it refuses, or is not sure of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// What programs match on, such as `OPERATION_IN_THE_WAY`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// What it is about, such as `operations/7`.
    pub object: String,
    /// What to do about it.
    pub fix: String,
}

impl Error {
    /// What a status says.
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    pub(crate) fn of(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == "weir");
        let Some(info) = info else {
            let why = format!("{:?}: {}", status.code(), words(&status));
            return Self::Unreachable { why };
        };
        let of = |key: &str| info.metadata.get(key).cloned().unwrap_or_default();
        let said = Box::new(Refused {
            code: status.code(),
            message: status.message().to_owned(),
            object: of("object"),
            fix: of("fix"),
            reason: info.reason,
        });
        match said.reason.as_str() {
            "NOT_KNOWN" | "NOT_KEPT" => Self::Unsure(said),
            _ => Self::Refused(said),
        }
    }

    pub(crate) fn broken(why: &str) -> Self {
        Self::Unreachable { why: why.to_owned() }
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(said) | Self::Unsure(said) => Some(&said.reason),
            Self::Ended(_) | Self::Unreachable { .. } => None,
        }
    }

    /// The operation that is in the way of what was asked.
    pub fn in_the_way(&self) -> Option<u64> {
        let Self::Refused(refused) = self else { return None };
        let number = refused.object.strip_prefix("operations/")?;
        (refused.reason == "OPERATION_IN_THE_WAY").then(|| number.parse().ok())?
    }

    /// Why the other node has not taken what was to move there, such as `UNKNOWN_PEER`.
    pub fn peer_refusal(&self) -> Option<&str> {
        match self {
            Self::Ended(ended) if ended.failure() == StateFailure::PeerRefused => {
                Some(&ended.peer_refusal)
            }
            Self::Ended(_) | Self::Refused(_) | Self::Unsure(_) | Self::Unreachable { .. } => None,
        }
    }

    /// What the other node names in the way of that, as in `operations/7`, by its own numbers; empty
    /// when it names nothing.
    pub fn peer_object(&self) -> Option<&str> {
        self.peer_refusal()?;
        match self {
            Self::Ended(ended) => Some(&ended.peer_object),
            Self::Refused(_) | Self::Unsure(_) | Self::Unreachable { .. } => None,
        }
    }

    /// Why the operation has ended otherwise than done.
    pub fn failure(&self) -> Option<StateFailure> {
        match self {
            Self::Ended(operation) => Some(operation.failure()),
            Self::Refused(_) | Self::Unsure(_) | Self::Unreachable { .. } => None,
        }
    }
}
