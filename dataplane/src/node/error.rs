//! Why the node refuses a request.

use std::fmt::Display;

use weir_state_transfer::mark::Refused;
use weir_state_transfer::share;

use crate::steering::SteeringError;

/// A refused request; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The object does not exist.
    #[error("there is no {kind} {name}")]
    NotFound {
        /// What kind of object.
        kind: &'static str,
        /// Its name or number as it was asked for.
        name: String,
    },
    /// The object exists already.
    #[error("{kind} {name} exists already")]
    Exists {
        /// What kind of object.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The request makes no sense as it is.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The object is in a state in which this can not be done.
    #[error("{object} {reason}")]
    Precondition {
        /// The object.
        object: String,
        /// What it is, and what to do.
        reason: String,
    },
    /// A bound is reached.
    #[error("{what} is at its bound of {bound}")]
    Exhausted {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        bound: usize,
        /// What to do.
        hint: &'static str,
    },
    /// The configuration has changed since the caller read it.
    #[error("the configuration is at generation {actual}, not {expected}")]
    Stale {
        /// What the caller based the change on.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The move can not be begun.
    #[error("the move was not begun: {0}")]
    Move(#[from] Refused),
    /// Steering can not express the move.
    #[error("the move was not begun: {0}")]
    Steering(#[from] SteeringError),
    /// The share can not be begun, or changed.
    #[error("the share was not begun or changed: {0}")]
    Share(#[from] share::Refused),
    /// The node is stopping.
    #[error("the data plane is stopping")]
    Stopping,
}

impl NodeError {
    pub(crate) fn no(kind: &'static str, name: impl Display) -> Self {
        Self::NotFound { kind, name: name.to_string() }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Display) -> Self {
        Self::Invalid { field, reason: reason.to_string() }
    }

    pub(crate) fn precondition(object: impl Display, reason: impl Display) -> Self {
        Self::Precondition { object: object.to_string(), reason: reason.to_string() }
    }
}
