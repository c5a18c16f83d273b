//! Why a network function in a process of its own has not done what it was asked.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use weir_api::causes::causes_of;
use weir_api::refusal::{DOMAIN, cut};

use super::connection::INSTANCE;
use crate::convert::SAID_MAX;
use crate::description::Malformed;

/// Why a call has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody serves the socket, or who did has died.
    #[error("the network function is not reached: {why}")]
    Unreachable {
        /// What the system says.
        why: String,
    },
    /// It took too long; whether it was done is not known.
    #[error("the network function did not answer {call} within {limit:?}")]
    Late {
        /// What it was asked.
        call: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// The network function refuses.
    #[error("the network function refuses: {message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// What programs match on, such as `NOT_FOUND`; empty when it says none.
        reason: String,
        /// What is wrong.
        message: String,
    },
    /// It answers what the API does not allow.
    #[error("the network function answers {call} with what it must not: {why}")]
    Malformed {
        /// What it was asked.
        call: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
}

impl CallError {
    /// What a status says, 1 KiB of each text at most.
    pub(crate) fn of(status: &Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let message = cut(status.message(), SAID_MAX);
        let code = status.code();
        // The library's own word for a connection that fails or breaks.
        let broken = [Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&code);
        match info {
            None if broken => {
                let why = cut(&causes_of(message, status), SAID_MAX);
                Self::Unreachable { why: format!("{code:?}: {why}") }
            }
            info => {
                let reason = info.map(|info| cut(&info.reason, SAID_MAX)).unwrap_or_default();
                Self::Refused { code, reason, message }
            }
        }
    }

    pub(crate) fn malformed(call: &'static str) -> impl FnOnce(Malformed) -> Self {
        move |Malformed(why)| Self::Malformed { call, why: cut(&why, SAID_MAX) }
    }

    /// Whether it is refused for what it says of an instance of a data plane, or does not say.
    pub fn is_about_instance(&self) -> bool {
        // The name of what is wrong, as of every field, begins what is said of it.
        let says = |message: &str| {
            message.strip_prefix(INSTANCE).is_some_and(|rest| rest.starts_with(':'))
        };
        matches!(self, Self::Refused { code: Code::InvalidArgument, message, .. } if says(message))
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::Unreachable { .. } | Self::Late { .. } | Self::Malformed { .. } => None,
        }
    }
}
